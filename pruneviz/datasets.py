"""Data sets as uint8 tensors on one device, and what training and measuring take from them: augmented batches, balanced samples.

All images of a set are read once and kept on the device, so that neither training nor measuring waits for a disk or a worker.
Nothing here draws from, or seeds, a global random generator.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.datasets.utils import check_integrity

from pruneviz.errors import DataError, PresetError

ROOT_VARIABLE = "PRUNEVIZ_IMAGES"
CROP_PADDING = 4
DIGITS_TEST_IMAGES, DIGITS_SPLIT_SEED = 360, 0
TINY_IMAGENET_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled data set on one device; checked on construction.

    Images are uint8 [N, 3, H, W], labels int64 [N] from 0 to `num_classes` - 1. `class_names`, where known, are in the order of the
    labels. Errors: `DataError` naming the part that is of another dtype, shape, device or label range.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_part(f"the training part of {self.name}", self.train_images, self.train_labels, self.num_classes)
        _check_part(f"the test part of {self.name}", self.test_images, self.test_labels, self.num_classes)
        if self.train_images.device != self.test_images.device:
            raise DataError(f"{self.name} lies on {self.train_images.device} and {self.test_images.device}; move all of it to one device")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise DataError(f"{self.name} has {self.num_classes} classes, but {len(self.class_names)} class names; name all or none")

    @property
    def device(self) -> torch.device:
        """The device on which all images and labels lie."""
        return self.train_images.device

    def to(self, device: torch.device | str) -> ImageData:
        """The same data set on another device."""
        parts = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{part: getattr(self, part).to(device) for part in parts})


def _check_part(part: str, images: Tensor, labels: Tensor, num_classes: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise DataError(f"{part} has {images.dtype} images of shape {tuple(images.shape)}; give uint8 [N, 3, H, W]")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise DataError(f"{part} has {labels.dtype} labels of shape {tuple(labels.shape)}; give int64 [{len(images)}], one per image")
    if labels.device != images.device:
        raise DataError(f"{part} has images on {images.device} and labels on {labels.device}; move both to one device")
    if not len(images):
        raise DataError(f"{part} is empty; give at least one image")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise DataError(f"{part} has labels from {low} to {high}, expected 0 to {num_classes - 1}; number the classes from 0")


def load_dataset(
    name: str,
    *,
    root: str | Path | None = None,
    device: torch.device | str = "cpu",
    download: bool = False,
    image_size: int | None = None,
) -> ImageData:
    """Read the data set called `name` onto `device`; images of another size than `image_size` are resized bilinearly.

    `root` is the folder of the files: by default the environment variable PRUNEVIZ_IMAGES, else `images` in the working
    directory. `digits` needs no files; `download` fetches `cifar10` and `cifar100` where they are missing, nothing else ever does.
    `folder` reads root/train and root/val (or root/test), one sub-folder of images per class. `image_size` is by default 32, for
    `tiny-imagenet` 64. Errors: `PresetError` for an unknown name; `DataError` naming the folder or file that is missing or damaged.
    """
    if name not in DATASETS:
        raise PresetError(f"there is no data set {name!r}; choose one of {', '.join(DATASETS)}")
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size is {image_size}, expected a whole number of pixels from 1")
    folder = Path(root if root is not None else os.environ.get(ROOT_VARIABLE) or "images")
    return DATASETS[name](folder.expanduser(), download, image_size).to(device)


def normalise(images: Tensor) -> Tensor:
    """Pixels of mean 0.5 and deviation 0.5 brought to 0 and 1: uint8 0..255 to float32 -1..1, same shape and device.

    Errors: `DataError` for images that are not uint8, which were normalised already. Source: E. S. Lubana, R. P. Dick, ICLR 2021.
    """
    if images.dtype != torch.uint8:
        raise DataError(f"the images are {images.dtype}, expected uint8 from 0 to 255; they may be normalised already")
    return images.to(torch.float32).div_(255).sub_(0.5).div_(0.5)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every image shifted by up to 4 pixels each way over black and, with probability one half, mirrored: uint8, same shape.

    The whole batch is moved at once, on its device, without waiting for it. `generator` lives on that device and fixes the
    result. Errors: `DataError` for images that are not uint8 (zero is not black once normalised) and for a generator elsewhere.
    Source: random crop with padding 4 and horizontal flip of E. S. Lubana, R. P. Dick, ICLR 2021.
    """
    if images.dtype != torch.uint8:
        raise DataError(f"the images are {images.dtype}, expected uint8; augment first and normalise afterwards")
    if generator.device.type != images.device.type:
        raise DataError(f"the generator lives on {generator.device}, the images on {images.device}; make it there: torch.Generator(device)")
    shape, device = images.shape, images.device
    shift = torch.randint(2 * CROP_PADDING + 1, (2, len(images), 1), generator=generator, device=device)
    mirror = torch.randint(2, (len(images), 1), generator=generator, device=device)
    along = torch.arange(shape[3], device=device)
    rows = shift[0] + torch.arange(shape[2], device=device)
    columns = shift[1] + torch.where(mirror == 1, along.flip(0), along)
    padded = F.pad(images, (CROP_PADDING,) * 4)
    cropped = padded.gather(2, rows[:, None, :, None].expand(*shape[:3], padded.shape[3]))
    return cropped.gather(3, columns[:, None, None, :].expand(shape))


def subset(data: ImageData, train_per_class: int | None, test_per_class: int | None, seed: int) -> ImageData:
    """A class-balanced part of a data set, drawn at random with `seed`, its images in the order of the whole; None keeps a part whole.

    Errors: `DataError` naming a class that has too few images, how many it has and what to do.
    """
    train, test = _positions(data, "training", train_per_class, seed), _positions(data, "test", test_per_class, seed)
    return replace(
        data,
        train_images=data.train_images[train],
        train_labels=data.train_labels[train],
        test_images=data.test_images[test],
        test_labels=data.test_labels[test],
    )


def balanced_sample(data: ImageData, per_class: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The measurement sample: `per_class` training images of every class, drawn with `seed`, normalised and never augmented.

    Returns float32 images [per_class * num_classes, 3, H, W] and their labels, on the device of the data. The classes take turns, so that
    every `num_classes` consecutive images hold each class once. Errors: `DataError` naming a class that has too few
    images, how many it has and what to do. Source: E. S. Lubana, R. P. Dick, ICLR 2021: 25 a class for CIFAR-100.
    """
    chosen = _draw_per_class(data, "training", per_class, seed).T.flatten().to(data.device)
    return normalise(data.train_images[chosen]), data.train_labels[chosen]


def _positions(data: ImageData, part: str, per_class: int | None, seed: int) -> Tensor | slice:
    return slice(None) if per_class is None else _draw_per_class(data, part, per_class, seed).flatten().sort().values.to(data.device)


def _draw_per_class(data: ImageData, part: str, per_class: int, seed: int) -> Tensor:
    """Positions of `per_class` images of every class, int64 [num_classes, per_class]; drawn on the CPU, so alike for every device."""
    if per_class < 1:
        raise DataError(f"{per_class} {part} images per class were asked for; ask for at least 1")
    labels = (data.train_labels if part == "training" else data.test_labels).cpu()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.empty(data.num_classes, per_class, dtype=torch.int64)
    for label in range(data.num_classes):
        own = (labels == label).nonzero().flatten()
        if len(own) < per_class:
            raise DataError(_too_few(data, part, label, len(own), per_class))
        drawn[label] = own[torch.randperm(len(own), generator=generator)[:per_class]]
    return drawn


def _too_few(data: ImageData, part: str, label: int, count: int, per_class: int) -> str:
    named = f" ({data.class_names[label]})" if data.class_names else ""
    remedy = f"ask for {count} or fewer per class, or add images to this class" if count else "add images to this class, or leave it out"
    return f"class {label}{named} of {data.name} has {count} {part} images, but {per_class} were asked for; {remedy}"


def _read_digits(root: Path, download: bool, image_size: int | None) -> ImageData:
    # imported here, as scikit-learn takes a second to load and only this set needs it
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    # grey levels of 0..16 times 255/16, and bilinear weights at 32x32, are exact in float32: the same pixels on every machine
    grey = torch.from_numpy(digits.images)[:, None].to(torch.float32) * (255 / 16)
    images, labels = _resized(grey.expand(-1, 3, -1, -1), image_size or 32), torch.from_numpy(digits.target).to(torch.int64)
    positions = np.arange(len(labels))
    split = train_test_split(positions, test_size=DIGITS_TEST_IMAGES, random_state=DIGITS_SPLIT_SEED, stratify=digits.target)
    train, test = (torch.from_numpy(np.sort(part)) for part in split)
    return ImageData("digits", images[train], labels[train], images[test], labels[test], 10, tuple("0123456789"))


def _resized(images: Tensor, size: int) -> Tensor:
    """Images of any real dtype, values 0..255, as uint8 [N, C, size, size]; in parts, as the work is done in float32."""
    if images.shape[2:] == (size, size) and images.dtype == torch.uint8:
        return images
    shrinks = size < max(images.shape[2:])
    parts = [F.interpolate(part.float(), (size, size), mode="bilinear", antialias=shrinks) for part in images.split(1000)]
    return torch.cat([part.round_().clamp_(0, 255).to(torch.uint8) for part in parts])


def _read_cifar10(root: Path, download: bool, image_size: int | None) -> ImageData:
    return _read_cifar("cifar10", CIFAR10, root, download, image_size)


def _read_cifar100(root: Path, download: bool, image_size: int | None) -> ImageData:
    return _read_cifar("cifar100", CIFAR100, root, download, image_size)


def _read_cifar(name: str, official: type[CIFAR10], root: Path, download: bool, image_size: int | None) -> ImageData:
    try:
        parts = [official(root, train=train, download=download) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        raise DataError(_cifar_trouble(name, official, root, download, error)) from error
    images = [_resized(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), image_size or 32) for part in parts]
    labels = [torch.tensor(part.targets, dtype=torch.int64) for part in parts]
    classes = tuple(parts[0].classes)
    return ImageData(name, images[0], labels[0], images[1], labels[1], len(classes), classes)


def _cifar_trouble(name: str, official: type[CIFAR10], root: Path, download: bool, error: Exception) -> str:
    folder = root / official.base_folder
    checksums = dict([*official.train_list, *official.test_list, (official.meta["filename"], official.meta["md5"])])
    missing = [file for file in checksums if not (folder / file).is_file()]
    damaged = [file for file, md5 in checksums.items() if file not in missing and not check_integrity(str(folder / file), md5)]
    facts = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"damaged (wrong checksum): {', '.join(damaged)}"] * bool(damaged)
    trouble = f"{name} cannot be read from {folder} ({'; '.join(facts) or error})"
    if download:
        return f"{trouble}; the download did not mend it ({error}); check the connection and the disk, delete the folder and try again"
    elsewhere = f"the folder that holds {official.base_folder} as root or in {ROOT_VARIABLE}"
    return f"{trouble}; fetch it with --download (in Python download=True), or give {elsewhere}"


def _read_tiny_imagenet(root: Path, download: bool, image_size: int | None) -> ImageData:
    annotations = Path("val", "val_annotations.txt")
    folder = root if (root / annotations).is_file() else root / "tiny-imagenet-200"
    if not ((folder / annotations).is_file() and (folder / "train").is_dir()):
        layout = f"expected train/<class>/images/*.JPEG, val/images and {annotations.as_posix()}"
        raise DataError(f"tiny-imagenet is not in {folder}; {layout}; --download does not fetch it: unpack {TINY_IMAGENET_URL} in {root}")
    size, train = image_size or 64, _class_folders(folder / "train")
    files, labels = _tiny_test_files(folder / annotations, list(train))
    return ImageData("tiny-imagenet", *_read_classes(train, size), _read_images(files, size), labels, len(train), tuple(train))


def _tiny_test_files(annotations: Path, classes: list[str]) -> tuple[list[Path], Tensor]:
    files, labels = [], []
    for line in annotations.read_text().splitlines():
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in classes:
            raise DataError(f"{annotations} gives {file!r} the class {wnid!r}, which has no folder in train/; unpack the data set again")
        files.append(annotations.parent / "images" / file)
        labels.append(classes.index(wnid))
    return files, torch.tensor(labels, dtype=torch.int64)


def _read_folder(root: Path, download: bool, image_size: int | None) -> ImageData:
    held_out = next((root / part for part in ("val", "test") if (root / part).is_dir()), None)
    if held_out is None or not (root / "train").is_dir():
        found = ", ".join(sorted(path.name for path in root.iterdir())[:10]) if root.is_dir() else "no such folder"
        raise DataError(
            f"{root} holds no train/ with val/ or test/ beside it (found: {found or 'nothing'}); give the folder of both as root"
        )
    train, test = _class_folders(root / "train"), _class_folders(held_out)
    alone = sorted(set(train) ^ set(test))
    if alone:
        raise DataError(f"the classes of {root / 'train'} and {held_out} differ in {', '.join(alone[:10])}; both need the same sub-folders")
    size = image_size or 32
    return ImageData("folder", *_read_classes(train, size), *_read_classes(test, size), len(train), tuple(train))


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its image files, both sorted; hidden ones, and files that are no images by their name, are passed over."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    classes = {name: sorted(path for path in (folder / name).rglob("[!.]*") if path.suffix.lower() in IMG_EXTENSIONS) for name in names}
    if not classes:
        raise DataError(f"{folder} has no sub-folders; put the images of each class in a sub-folder of the class's name")
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise DataError(
            f"{folder} has no images for the classes {', '.join(empty[:10])}; add {', '.join(IMG_EXTENSIONS)} files or remove the folders"
        )
    return classes


def _read_classes(classes: Mapping[str, Sequence[Path]], size: int) -> tuple[Tensor, Tensor]:
    counts = torch.tensor([len(files) for files in classes.values()])
    images = _read_images([file for files in classes.values() for file in files], size)
    return images, torch.arange(len(counts)).repeat_interleave(counts)


def _read_images(files: Sequence[Path], size: int) -> Tensor:
    images = np.empty((len(files), 3, size, size), dtype=np.uint8)

    def read_into(position: int) -> None:
        images[position] = _read_image(files[position], size)

    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
        for _ in pool.map(read_into, range(len(files))):
            pass
    return torch.from_numpy(images)


def _read_image(file: Path, size: int) -> np.ndarray:
    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":  # converting these to RGB would clip nearly every pixel to white
                raise ValueError(f"its pixels are of mode {image.mode}, expected 8 bits")
            opaque = image.convert("RGBA") if "transparency" in image.info else image
            pixels = opaque.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # every decoder has errors of its own
        raise DataError(f"{file} cannot be read as an image: {error}; repair, replace or remove it") from error
    return np.asarray(pixels).transpose(2, 0, 1)


DATASETS: Mapping[str, Callable[[Path, bool, int | None], ImageData]] = {
    "digits": _read_digits,
    "cifar10": _read_cifar10,
    "cifar100": _read_cifar100,
    "tiny-imagenet": _read_tiny_imagenet,
    "folder": _read_folder,
}
