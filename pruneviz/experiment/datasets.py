"""Data sets as uint8 tensors on one device, and what training and measuring take from them: augmented batches, balanced samples.

All images of a set are read once and kept on the device, so that neither training nor measuring waits for a disk or a worker.
Nothing here draws from, or seeds, a global random generator.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from pruneviz.experiment.images import ImageData

ROOT_VARIABLE = "PRUNEVIZ_IMAGES"
DIGITS_TEST_IMAGES, DIGITS_SPLIT_SEED = 360, 0
TINY_IMAGENET_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


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


def _read_digits(root: Path, download: bool, image_size: int | None) -> ImageData:
    # imported here, as scikit-learn takes a second to load and only this set needs it
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    # grey levels of 0..16 times 255/16, and bilinear weights at 32x32, are exact in float32: the same pixels on every machine
    grey = torch.from_numpy(digits.images)[:, None].to(torch.float32) * (255 / 16)
    images, labels = (
        _resized(grey.expand(-1, 3, -1, -1), image_size or 32),
        torch.from_numpy(digits.target).to(torch.int64),
    )
    positions = np.arange(len(labels))
    split = train_test_split(
        positions,
        test_size=DIGITS_TEST_IMAGES,
        random_state=DIGITS_SPLIT_SEED,
        stratify=digits.target,
    )
    train, test = (torch.from_numpy(np.sort(part)) for part in split)
    return ImageData(
        "digits", images[train], labels[train], images[test], labels[test], 10, tuple("0123456789")
    )


def _resized(images: Tensor, size: int) -> Tensor:
    """Images of any real dtype, values 0..255, as uint8 [N, C, size, size]; in parts, as the work is done in float32."""
    if images.shape[2:] == (size, size) and images.dtype == torch.uint8:
        return images
    shrinks = size < max(images.shape[2:])
    parts = [
        F.interpolate(part.float(), (size, size), mode="bilinear", antialias=shrinks)
        for part in images.split(1000)
    ]
    return torch.cat([part.round_().clamp_(0, 255).to(torch.uint8) for part in parts])


def _read_cifar10(root: Path, download: bool, image_size: int | None) -> ImageData:
    return _read_cifar("cifar10", CIFAR10, root, download, image_size)


def _read_cifar100(root: Path, download: bool, image_size: int | None) -> ImageData:
    return _read_cifar("cifar100", CIFAR100, root, download, image_size)


def _read_cifar(
    name: str, official: type[CIFAR10], root: Path, download: bool, image_size: int | None
) -> ImageData:
    try:
        parts = [official(root, train=train, download=download) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        raise DataError(_cifar_trouble(name, official, root, download, error)) from error
    images = [
        _resized(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), image_size or 32)
        for part in parts
    ]
    labels = [torch.tensor(part.targets, dtype=torch.int64) for part in parts]
    classes = tuple(parts[0].classes)
    return ImageData(name, images[0], labels[0], images[1], labels[1], len(classes), classes)


def _cifar_trouble(
    name: str, official: type[CIFAR10], root: Path, download: bool, error: Exception
) -> str:
    folder = root / official.base_folder
    checksums = dict(
        [
            *official.train_list,
            *official.test_list,
            (official.meta["filename"], official.meta["md5"]),
        ]
    )
    missing = [file for file in checksums if not (folder / file).is_file()]
    damaged = [
        file
        for file, md5 in checksums.items()
        if file not in missing and not check_integrity(str(folder / file), md5)
    ]
    facts = [f"missing: {', '.join(missing)}"] * bool(missing) + [
        f"damaged (wrong checksum): {', '.join(damaged)}"
    ] * bool(damaged)
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
        raise DataError(
            f"tiny-imagenet is not in {folder}; {layout}; --download does not fetch it: unpack {TINY_IMAGENET_URL} in {root}"
        )
    size, train = image_size or 64, _class_folders(folder / "train")
    files, labels = _tiny_test_files(folder / annotations, list(train))
    return ImageData(
        "tiny-imagenet",
        *_read_classes(train, size),
        _read_images(files, size),
        labels,
        len(train),
        tuple(train),
    )


def _tiny_test_files(annotations: Path, classes: list[str]) -> tuple[list[Path], Tensor]:
    files, labels = [], []
    for line in annotations.read_text().splitlines():
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in classes:
            raise DataError(
                f"{annotations} gives {file!r} the class {wnid!r}, which has no folder in train/; unpack the data set again"
            )
        files.append(annotations.parent / "images" / file)
        labels.append(classes.index(wnid))
    return files, torch.tensor(labels, dtype=torch.int64)


def _read_folder(root: Path, download: bool, image_size: int | None) -> ImageData:
    held_out = next((root / part for part in ("val", "test") if (root / part).is_dir()), None)
    if held_out is None or not (root / "train").is_dir():
        found = (
            ", ".join(sorted(path.name for path in root.iterdir())[:10])
            if root.is_dir()
            else "no such folder"
        )
        raise DataError(
            f"{root} holds no train/ with val/ or test/ beside it (found: {found or 'nothing'}); give the folder of both as root"
        )
    train, test = _class_folders(root / "train"), _class_folders(held_out)
    alone = sorted(set(train) ^ set(test))
    if alone:
        raise DataError(
            f"the classes of {root / 'train'} and {held_out} differ in {', '.join(alone[:10])}; both need the same sub-folders"
        )
    size = image_size or 32
    return ImageData(
        "folder", *_read_classes(train, size), *_read_classes(test, size), len(train), tuple(train)
    )


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its image files, both sorted; hidden ones, and files that are no images by their name, are passed over."""
    names = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    classes = {
        name: sorted(
            path for path in (folder / name).rglob("[!.]*") if path.suffix.lower() in IMG_EXTENSIONS
        )
        for name in names
    }
    if not classes:
        raise DataError(
            f"{folder} has no sub-folders; put the images of each class in a sub-folder of the class's name"
        )
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
            if (
                image.mode[0] in "IF"
            ):  # converting these to RGB would clip nearly every pixel to white
                raise ValueError(f"its pixels are of mode {image.mode}, expected 8 bits")
            opaque = image.convert("RGBA") if "transparency" in image.info else image
            pixels = opaque.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # every decoder has errors of its own
        raise DataError(
            f"{file} cannot be read as an image: {error}; repair, replace or remove it"
        ) from error
    return np.asarray(pixels).transpose(2, 0, 1)


DATASETS: Mapping[str, Callable[[Path, bool, int | None], ImageData]] = {
    "digits": _read_digits,
    "cifar10": _read_cifar10,
    "cifar100": _read_cifar100,
    "tiny-imagenet": _read_tiny_imagenet,
    "folder": _read_folder,
}
