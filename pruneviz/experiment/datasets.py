"""Read data sets by name into uint8 tensors on one device.

All images are read once and kept on the device, so that neither training nor measuring waits for a
disk. Global random generators are neither used nor seeded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pruneviz.errors import DataError, PresetError, names_extra, unknown_name
from pruneviz.experiment.image_files import (
    Classes,
    class_folders,
    is_image_name,
    read_classes,
    read_images,
    too_large,
)
from pruneviz.experiment.images import ImageData
from pruneviz.log.arguments import is_whole

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

# torchvision is imported where it is used: it takes a second to load, and digits need none of it.

ROOT_VARIABLE = "PRUNEVIZ_IMAGES"
DIGITS_TEST_IMAGES, DIGITS_SPLIT_SEED = 360, 0
LARGEST_SIDE = 2**15
TINY_IMAGENET_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


@dataclass(frozen=True)
class DataSet:
    """How one data set is read, in two steps.

    Args:
        find: Checks that a folder has the files, or downloads them if allowed; returns the input of
            `read`.
        read: Reads the files at an image size.
        image_size: Height and width in pixels where no other size is asked for.
    """

    find: Callable[[Path, bool], Any]
    read: Callable[[Any, int], ImageData]
    image_size: int = 32


def load_dataset(
    name: str,
    *,
    root: str | Path | None = None,
    device: torch.device | str = "cpu",
    download: bool = False,
    image_size: int | None = None,
) -> ImageData:
    """Read a data set.

    Args:
        name: "digits" (scikit-learn's, no files), "cifar10", "cifar100", "tiny-imagenet", or
            "folder": `root`/train and `root`/val (or `root`/test) with one sub-folder of images per
            class, at any depth. Links are followed, wherever they lead. Hidden files and folders,
            such as `.ipynb_checkpoints`, and `__MACOSX` are left out; it is logged how many images
            they hold.
        root: Folder with the files. Default: $PRUNEVIZ_IMAGES, else `images` in the working
            directory.
        device: Device for the tensors.
        download: Whether torchvision may download a missing "cifar10" or "cifar100". Nothing else
            is ever downloaded.
        image_size: Height and width in pixels; images of another size are resized bilinearly.
            Default: 32, and 64 for "tiny-imagenet".

    Returns:
        Training and test images (uint8 [N, 3, image_size, image_size]) and labels (int64 [N]).

    Raises:
        PresetError: If the name is unknown.
        DataError: If files are missing or damaged; names them. Images of more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS` and of more than 8 bits are refused.
    """
    data_set = _named(name)
    if image_size is not None and not (is_whole(image_size) and 1 <= image_size <= LARGEST_SIDE):
        raise DataError(
            f"image_size is {image_size!r}, expected a whole number of pixels from 1 to "
            f"{LARGEST_SIDE:,}"
        )
    found = _found(name, root, download)
    return data_set.read(found, image_size or data_set.image_size).to(device)


def find_dataset(name: str, *, root: str | Path | None = None, download: bool = False) -> None:
    """Check that the files of a data set are there, without decoding images.

    Args:
        name: As for `load_dataset`.
        root: As for `load_dataset`.
        download: As for `load_dataset`.

    Raises:
        PresetError: If the name is unknown.
        DataError: If files are missing or damaged; names them.
    """
    _found(name, root, download)


def _found(name: str, root: str | Path | None, download: bool) -> Any:
    folder = _folder(root)
    try:
        return _named(name).find(folder, download)
    except OSError as error:
        raise DataError(
            f"{name} cannot be read from {folder}: {error}; give a folder that you may read"
        ) from error


def _named(name: str) -> DataSet:
    if name not in DATASETS:
        raise PresetError(unknown_name("data set", name, tuple(DATASETS)))
    return DATASETS[name]


def _folder(root: str | Path | None) -> Path:
    given = os.environ.get(ROOT_VARIABLE) or "images" if root is None else root
    return Path(given).expanduser()


# Digits


def _find_digits(root: Path, download: bool) -> None:
    """Check that scikit-learn is there, which brings the images."""
    with names_extra("the data set digits"):
        import sklearn  # noqa: F401


def _read_digits(found: None, image_size: int) -> ImageData:
    # imported here, as scikit-learn takes a second to load and only this set needs it
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    # Grey levels 0..16 times 255/16, and bilinear weights at 32x32, are exact in float32: the
    # pixels are the same on every machine.
    grey = torch.from_numpy(digits.images)[:, None].to(torch.float32) * (255 / 16)
    images = _resized(grey.expand(-1, 3, -1, -1), image_size)
    labels = torch.from_numpy(digits.target).to(torch.int64)
    split = train_test_split(
        np.arange(len(labels)),
        test_size=DIGITS_TEST_IMAGES,
        random_state=DIGITS_SPLIT_SEED,
        stratify=digits.target,
    )
    train, test = (torch.from_numpy(np.sort(part)) for part in split)
    return ImageData(
        name="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        num_classes=10,
        class_names=tuple("0123456789"),
    )


# CIFAR-10 and CIFAR-100


def _cifar(name: str, official_name: str) -> DataSet:
    def find(root: Path, download: bool) -> list[CIFAR10]:
        import torchvision

        official = getattr(torchvision.datasets, official_name)
        try:
            return [official(root, train=train, download=download) for train in (True, False)]
        except (RuntimeError, OSError) as error:
            raise DataError(_cifar_trouble(name, official, root, download, error)) from error

    def read(parts: list[CIFAR10], image_size: int) -> ImageData:
        images = [_cifar_images(part, image_size) for part in parts]
        labels = [torch.tensor(part.targets, dtype=torch.int64) for part in parts]
        classes = tuple(parts[0].classes)
        return ImageData(name, images[0], labels[0], images[1], labels[1], len(classes), classes)

    return DataSet(find, read)


def _cifar_images(part: CIFAR10, size: int) -> Tensor:
    return _resized(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), size)


def _cifar_trouble(
    name: str, official: type[CIFAR10], root: Path, download: bool, error: Exception
) -> str:
    """Why CIFAR could not be read, and what to do."""
    from torchvision.datasets.utils import check_integrity

    folder = root / official.base_folder
    checksums = dict([*official.train_list, *official.test_list])
    checksums[official.meta["filename"]] = official.meta["md5"]
    missing = [file for file in checksums if not (folder / file).is_file()]
    damaged = [
        file
        for file, md5 in checksums.items()
        if file not in missing and not check_integrity(str(folder / file), md5)
    ]
    facts = []
    if missing:
        facts.append(f"missing: {', '.join(missing)}")
    if damaged:
        facts.append(f"damaged (wrong checksum): {', '.join(damaged)}")
    trouble = f"{name} cannot be read from {folder} ({'; '.join(facts) or error})"
    if download:
        return (
            f"{trouble}; the download failed ({error}); check the connection and the disk, "
            "delete the folder and try again"
        )
    return (
        f"{trouble}; download it with --download (in Python download=True), or give the folder "
        f"that holds {official.base_folder} with --images (in Python root) or {ROOT_VARIABLE}"
    )


# Tiny-ImageNet


@dataclass(frozen=True, repr=False)
class _TinyImageNet:
    """Files of Tiny-ImageNet."""

    train: Classes
    test_files: list[Path]
    test_labels: Tensor


def _find_tiny_imagenet(root: Path, download: bool) -> _TinyImageNet:
    annotations = Path("val", "val_annotations.txt")
    folder = root if (root / annotations).is_file() else root / "tiny-imagenet-200"
    if not ((folder / annotations).is_file() and (folder / "train").is_dir()):
        raise DataError(
            f"tiny-imagenet is not in {folder}; expected train/<class>/images/*.JPEG, val/images "
            f"and {annotations.as_posix()}; --download does not fetch it: "
            f"unpack {TINY_IMAGENET_URL} in {root}"
        )
    train = class_folders(folder / "train")
    return _TinyImageNet(train, *_tiny_test_files(folder / annotations, list(train)))


def _tiny_test_files(annotations: Path, classes: list[str]) -> tuple[list[Path], Tensor]:
    folder = annotations.parent / "images"
    labels: dict[str, int] = {}
    for number, line in enumerate(_lines(annotations), start=1):
        file, tab, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if not tab:
            raise DataError(
                f"line {number} of {annotations} is {line[:100]!r}, expected a file, a tab and its "
                "class; unpack the data set again"
            )
        if wnid not in classes:
            raise DataError(
                f"{annotations} gives {file!r} the class {wnid!r}, which has no folder in train/; "
                "unpack the data set again"
            )
        if not _is_file_name(file) or file in labels:
            wrong = "twice" if file in labels else "which is not the name of a file"
            raise DataError(
                f"{annotations} names {file!r}, {wrong}; every line names "
                f"another file in {folder}: unpack the data set again"
            )
        labels[file] = classes.index(wnid)
    _check_all_named(folder, annotations, labels)
    files = [folder / file for file in labels]
    return files, torch.tensor(list(labels.values()), dtype=torch.int64)


def _lines(annotations: Path) -> list[str]:
    try:
        return annotations.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(
            f"{annotations} cannot be read as UTF-8 text: {error}; unpack the data set again"
        ) from error


def _is_file_name(text: str) -> bool:
    """Whether a text names a file in a folder, on every system: no path that leads elsewhere."""
    plain = text == PurePosixPath(text).name == PureWindowsPath(text).name
    return plain and text not in ("", "..") and text.isprintable()


def _check_all_named(folder: Path, annotations: Path, named: Mapping[str, int]) -> None:
    images = {each.name for each in folder.iterdir() if is_image_name(each.name)}
    unnamed = sorted(images - set(named))
    if unnamed:
        raise DataError(
            f"{annotations} gives no class to {len(unnamed):,} of the images in {folder}, such as "
            f"{unnamed[0]}; unpack the data set again, or remove these images"
        )


def _read_tiny_imagenet(found: _TinyImageNet, image_size: int) -> ImageData:
    size, classes = image_size, tuple(found.train)
    train_images, train_labels = read_classes(found.train, size)
    return ImageData(
        name="tiny-imagenet",
        train_images=train_images,
        train_labels=train_labels,
        test_images=read_images(found.test_files, size),
        test_labels=found.test_labels,
        num_classes=len(classes),
        class_names=classes,
    )


# Folders of images


def _find_folder(root: Path, download: bool) -> tuple[Classes, Classes]:
    held_out = next((root / part for part in ("val", "test") if (root / part).is_dir()), None)
    if held_out is None or not (root / "train").is_dir():
        raise DataError(
            f"{root} has no train/ with val/ or test/ next to it (found: {_content(root)}); "
            "give the folder that holds both with --images (in Python root)"
        )
    train, test = class_folders(root / "train"), class_folders(held_out)
    differing = sorted(set(train) ^ set(test))
    if differing:
        raise DataError(
            f"the classes of {root / 'train'} and {held_out} differ in "
            f"{', '.join(differing[:10])}; both need the same sub-folders"
        )
    return train, test


def _content(root: Path) -> str:
    if not root.is_dir():
        return "no such folder"
    return ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"


def _read_folder(found: tuple[Classes, Classes], image_size: int) -> ImageData:
    train, test = found
    train_images, train_labels = read_classes(train, image_size)
    test_images, test_labels = read_classes(test, image_size)
    return ImageData(
        name="folder",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=len(train),
        class_names=tuple(train),
    )


def _resized(images: Tensor, size: int) -> Tensor:
    """Resize images of any real dtype, values 0..255, to uint8 [N, C, size, size].

    The work is done in float32, so in parts, to save memory.
    """
    if images.shape[2:] == (size, size) and images.dtype == torch.uint8:
        return images
    shrinks = size < max(images.shape[2:])
    parts = []
    try:
        for part in images.split(1000):
            resized = F.interpolate(part.float(), (size, size), mode="bilinear", antialias=shrinks)
            parts.append(resized.round_().clamp_(0, 255).to(torch.uint8))
        return torch.cat(parts)
    except RuntimeError as error:  # as torch says that memory is short
        raise DataError(too_large(len(images), size)) from error


DATASETS: Mapping[str, DataSet] = {
    "digits": DataSet(_find_digits, _read_digits),
    "cifar10": _cifar("cifar10", "CIFAR10"),
    "cifar100": _cifar("cifar100", "CIFAR100"),
    "tiny-imagenet": DataSet(_find_tiny_imagenet, _read_tiny_imagenet, image_size=64),
    "folder": DataSet(_find_folder, _read_folder),
}
