"""Images in memory: normalising, augmenting, balanced samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pruneviz.errors import DataError

CROP_PADDING = 4


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
        _check_part(
            f"the training part of {self.name}",
            self.train_images,
            self.train_labels,
            self.num_classes,
        )
        _check_part(
            f"the test part of {self.name}", self.test_images, self.test_labels, self.num_classes
        )
        if self.train_images.device != self.test_images.device:
            raise DataError(
                f"{self.name} lies on {self.train_images.device} and {self.test_images.device}; move all of it to one device"
            )
        if self.class_names and len(self.class_names) != self.num_classes:
            raise DataError(
                f"{self.name} has {self.num_classes} classes, but {len(self.class_names)} class names; name all or none"
            )

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
        raise DataError(
            f"{part} has {images.dtype} images of shape {tuple(images.shape)}; give uint8 [N, 3, H, W]"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{part} has {labels.dtype} labels of shape {tuple(labels.shape)}; give int64 [{len(images)}], one per image"
        )
    if labels.device != images.device:
        raise DataError(
            f"{part} has images on {images.device} and labels on {labels.device}; move both to one device"
        )
    if not len(images):
        raise DataError(f"{part} is empty; give at least one image")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise DataError(
            f"{part} has labels from {low} to {high}, expected 0 to {num_classes - 1}; number the classes from 0"
        )


def normalise(images: Tensor) -> Tensor:
    """Pixels of mean 0.5 and deviation 0.5 brought to 0 and 1: uint8 0..255 to float32 -1..1, same shape and device.

    Errors: `DataError` for images that are not uint8, which were normalised already. Source: E. S. Lubana, R. P. Dick, ICLR 2021.
    """
    if images.dtype != torch.uint8:
        raise DataError(
            f"the images are {images.dtype}, expected uint8 from 0 to 255; they may be normalised already"
        )
    return images.to(torch.float32).div_(255).sub_(0.5).div_(0.5)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every image shifted by up to 4 pixels each way over black and, with probability one half, mirrored: uint8, same shape.

    The whole batch is moved at once, on its device, without waiting for it. `generator` lives on that device and fixes the
    result. Errors: `DataError` for images that are not uint8 (zero is not black once normalised) and for a generator elsewhere.
    Source: random crop with padding 4 and horizontal flip of E. S. Lubana, R. P. Dick, ICLR 2021.
    """
    if images.dtype != torch.uint8:
        raise DataError(
            f"the images are {images.dtype}, expected uint8; augment first and normalise afterwards"
        )
    if generator.device.type != images.device.type:
        raise DataError(
            f"the generator lives on {generator.device}, the images on {images.device}; make it there: torch.Generator(device)"
        )
    shape, device = images.shape, images.device
    shift = torch.randint(
        2 * CROP_PADDING + 1, (2, len(images), 1), generator=generator, device=device
    )
    mirror = torch.randint(2, (len(images), 1), generator=generator, device=device)
    along = torch.arange(shape[3], device=device)
    rows = shift[0] + torch.arange(shape[2], device=device)
    columns = shift[1] + torch.where(mirror == 1, along.flip(0), along)
    padded = F.pad(images, (CROP_PADDING,) * 4)
    cropped = padded.gather(2, rows[:, None, :, None].expand(*shape[:3], padded.shape[3]))
    return cropped.gather(3, columns[:, None, None, :].expand(shape))


def subset(
    data: ImageData, train_per_class: int | None, test_per_class: int | None, seed: int
) -> ImageData:
    """A class-balanced part of a data set, drawn at random with `seed`, its images in the order of the whole; None keeps a part whole.

    Errors: `DataError` naming a class that has too few images, how many it has and what to do.
    """
    train, test = (
        _positions(data, "training", train_per_class, seed),
        _positions(data, "test", test_per_class, seed),
    )
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
    return (
        slice(None)
        if per_class is None
        else _draw_per_class(data, part, per_class, seed).flatten().sort().values.to(data.device)
    )


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
    remedy = (
        f"ask for {count} or fewer per class, or add images to this class"
        if count
        else "add images to this class, or leave it out"
    )
    return f"class {label}{named} of {data.name} has {count} {part} images, but {per_class} were asked for; {remedy}"
