"""Image files: which of a folder belong to a class, and their pixels.

Links are followed wherever they lead: whoever makes a folder chooses what is in it, and data sets
are often made of links. Names in a text file are no such choice (see `datasets`).
"""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pruneviz.errors import DataError

_logger = logging.getLogger("pruneviz")

Classes = Mapping[str, Sequence[Path]]  # class name: image files

_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Told by content, as many a file has a wrong ending. No others: Pillow hands EPS to Ghostscript,
# which runs it as a program.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
_SIXTEEN_BITS = re.compile(r";16[BLNS]")  # in how Pillow names the samples of a file
_AT_ONCE = 2**26  # pixels that are decoded at the same time, 8 bytes each
_COPIES = "__MACOSX"  # folder that macOS adds to archives, with an entry for every file
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
_Above = frozenset[tuple[int, int]]  # device and number of every folder above; links have the same


def is_image_name(name: str) -> bool:
    """Whether a file of this name is an image of a data set: by its ending, and not hidden."""
    return name.lower().endswith(_ENDINGS) and not _is_hidden(name)


def class_folders(folder: Path) -> Classes:
    """Find the image files of every class, classes and files sorted by name.

    Hidden folders and files, at any depth, are left out: those with a dot in front, such as
    `.ipynb_checkpoints`, and `__MACOSX`. It is logged how many images they hold.

    Args:
        folder: Folder with one sub-folder per class.

    Raises:
        DataError: If there is no class, or no image of a class; if a folder cannot be listed; if a
            link leads nowhere, to a folder above it or to one that its class has already; if what
            is named as an image is no file.
    """
    classes: dict[str, list[Path]] = {}
    left_out: list[Path] = []
    above = _with(frozenset(), folder)
    for entry in _entries(folder):
        if _is_hidden(entry.name):
            left_out += _hidden_images(entry)
        elif entry.is_dir():
            classes[entry.name], hidden = _images_below(folder / entry.name, above)
            left_out += hidden
    if not classes:
        raise DataError(
            f"{folder} has no sub-folders; put the images of each class in a sub-folder "
            "with the name of the class"
        )
    empty = [name for name in sorted(classes) if not classes[name]]
    if empty:
        raise DataError(
            f"{folder} has no images for the classes {', '.join(empty[:10])}; "
            f"add {', '.join(_ENDINGS)} files or remove the folders"
        )
    if left_out:
        _logger.warning(_told(folder, left_out))
    return {name: sorted(classes[name]) for name in sorted(classes)}


def read_classes(classes: Classes, size: int) -> tuple[Tensor, Tensor]:
    """Read images and labels of all classes, class by class.

    Args:
        classes: Image files by class name.
        size: Height and width in pixels.

    Raises:
        DataError: As for `read_images`.
    """
    files = [file for own in classes.values() for file in own]
    counts = torch.tensor([len(own) for own in classes.values()])
    return read_images(files, size), torch.arange(len(counts)).repeat_interleave(counts)


def read_images(files: Sequence[Path], size: int) -> Tensor:
    """Read image files as uint8 [N, 3, size, size], resized bilinearly.

    Raises:
        DataError: If one is no file, damaged, larger than Pillow takes for safe
            (`PIL.Image.MAX_IMAGE_PIXELS`) or not of 8 bits; if all of them need more memory than
            there is.
    """
    try:
        images = np.empty((len(files), 3, size, size), dtype=np.uint8)
    except (MemoryError, ValueError) as error:
        raise DataError(too_large(len(files), size)) from error

    share = _Share(_AT_ONCE)

    def read_into(position: int) -> None:
        images[position] = _read_image(files[position], size, share)

    # decoding releases the interpreter's lock
    with _without_warnings(), ThreadPoolExecutor() as pool:
        for _ in pool.map(read_into, range(len(files))):
            pass
    return torch.from_numpy(images)


def too_large(count: int, size: int) -> str:
    """Message that images do not fit into memory."""
    return (
        f"{count:,} images of {size:,} x {size:,} pixels take {count * 3 * size**2 / 1e9:,.1f} GB, "
        "more memory than there is; choose a smaller image_size, or fewer images"
    )


class _Share:
    """What threads hold together; one that needs more than all of it waits until it is alone."""

    def __init__(self, most: int) -> None:
        self._most, self._held, self._changed = most, 0, threading.Condition()

    @contextmanager
    def of(self, amount: int) -> Iterator[None]:
        """Hold an amount, as soon as there is room for it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + amount <= self._most)
            self._held += amount
        try:
            yield
        finally:
            with self._changed:
                self._held -= amount
                self._changed.notify_all()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Without Pillow's warnings, which name no file and are about nothing that changes a pixel.

    They tell of damaged notes beside the pixels, and of sizes that are refused here.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _read_image(file: Path, size: int, share: _Share) -> np.ndarray:
    _check_file(file)
    try:
        with Image.open(file, formats=_FORMATS) as image:
            _check_pixels(image)
            with share.of(image.width * image.height):
                pixels = _decoded(image, size)
    except Exception as error:  # every decoder has its own errors
        raise DataError(
            f"{file} cannot be read as an image: {error}; repair, replace or remove it"
        ) from error
    return np.asarray(pixels).transpose(2, 0, 1)


def _decoded(image: Image.Image, size: int) -> Image.Image:
    opaque = image.convert("RGBA") if "transparency" in image.info else image
    return opaque.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)


def _check_pixels(image: Image.Image) -> None:
    """Raise `ValueError` before pixels are decoded that would clip, or fill the memory."""
    most = Image.MAX_IMAGE_PIXELS  # at twice as many Pillow refuses; up to there it only warns
    if most is not None and image.width * image.height > most:
        raise ValueError(
            f"it has {image.width:,} x {image.height:,} pixels, expected at most {most:,} in all"
        )
    # converting these to RGB would clip nearly every pixel to white
    if image.mode[0] in "IF":
        raise ValueError(f"its pixels have mode {image.mode}, expected 8 bits")
    if any(map(_is_deep, getattr(image, "tile", ()))):  # Pillow would drop half of each
        raise ValueError("its samples have 16 bits, expected 8 bits")


def _is_deep(tile: tuple[Any, ...]) -> bool:
    """Whether a part of a file has more than 8 bits in a sample, as Pillow is told to decode it."""
    codec, _, _, told = tile
    told = told if isinstance(told, tuple) else (told,)
    if codec.startswith("ppm"):
        return told[-1] > 255  # the highest value
    return any(isinstance(one, str) and _SIXTEEN_BITS.search(one) for one in told)


def _check_file(file: Path) -> None:
    """Raise `DataError` unless this is a file: opening a pipe would wait for ever."""
    try:
        kind = stat.S_IFMT(file.stat().st_mode)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(
            f"{file} cannot be read as an image: {why}; repair, replace or remove it"
        ) from error
    if kind != stat.S_IFREG:
        raise DataError(
            f"{file} is {_KINDS.get(kind, 'something else')}, expected an image file; remove it"
        )


def _images_below(folder: Path, above: _Above) -> tuple[list[Path], list[Path]]:
    """Images at any depth below a folder, and those that are left out as hidden."""
    images: list[Path] = []
    left_out: list[Path] = []
    waiting = [(folder, above)]
    # links from folder to folder can give a folder more ways than could ever be walked
    ways: dict[tuple[int, int], Path] = {}
    while waiting:
        here, above = waiting.pop()
        own, above = _number(here), _with(above, here)
        if own in ways:
            raise DataError(
                f"{here} is the same folder as {ways[own]}, so its images would count twice; "
                "remove one of the two links"
            )
        ways[own] = here
        for entry in _entries(here):
            if _is_hidden(entry.name):
                left_out += _hidden_images(entry)
            elif entry.is_dir():
                waiting.append((here / entry.name, above))
            elif is_image_name(entry.name):
                if not entry.is_file():
                    _check_file(here / entry.name)
                images.append(here / entry.name)
    return images, left_out


def _hidden_images(entry: os.DirEntry[str]) -> list[Path]:
    """Images in a hidden folder, or a hidden one, as far as they can be listed."""
    files = os.walk(entry.path) if entry.is_dir(follow_symlinks=False) else [("", [], [entry.path])]
    return [
        Path(folder, name)
        for folder, _, names in files
        for name in names
        if name.lower().endswith(_ENDINGS)
    ]


def _told(folder: Path, left_out: Sequence[Path]) -> str:
    count = f"{len(left_out):,} image{'s' * (len(left_out) > 1)}"
    return (
        f"{count} of {folder} left out as hidden, such as {min(left_out).relative_to(folder)}; "
        "remove hidden folders and files, or rename them to use these images"
    )


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == _COPIES


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with _listed(folder), os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_symlink() and not _is_hidden(entry.name):
            _check_link(folder / entry.name)  # lost without a word otherwise: it may be a folder
    return found


def _check_link(link: Path) -> None:
    try:
        link.stat()
    except OSError as error:
        raise DataError(
            f"{link} is a link that leads nowhere: {error.strerror}; repair or remove it"
        ) from error


def _with(above: _Above, folder: Path) -> _Above:
    """The folders above what is in a folder; raises `DataError` if it is among those above it."""
    own = _number(folder)
    if own in above:
        raise DataError(f"{folder} leads back to a folder above it; remove this link")
    return above | {own}


def _number(folder: Path) -> tuple[int, int]:
    with _listed(folder):
        about = folder.stat()
    return about.st_dev, about.st_ino


@contextmanager
def _listed(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder} cannot be listed: {error.strerror or error}; repair or remove it"
        ) from error
