"""Images in memory: normalisation, augmentation, balanced samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pruneviz.errors import DataError
from pruneviz.log.arguments import is_whole

CROP_PADDING = 4


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled data set on one device; checked on construction.

    Args:
        name: Data set name.
        train_images: uint8 [N, 3, H, W].
        train_labels: int64 [N], from 0 to num_classes - 1.
        test_images: uint8 [M, 3, H, W].
        test_labels: int64 [M], from 0 to num_classes - 1.
        num_classes: Number of classes.
        class_names: Names in the order of the labels, if known.

    Raises:
        DataError: If a part has another dtype, shape, device or label range; names the part.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = {
            "training": (self.train_images, self.train_labels),
            "test": (self.test_images, self.test_labels),
        }
        for part, (images, labels) in parts.items():
            _check_part(f"the {part} part of {self.name}", images, labels, self.num_classes)
        if self.train_images.device != self.test_images.device:
            raise DataError(
                f"{self.name} is on {self.train_images.device} and {self.test_images.device}; "
                "move all of it to one device"
            )
        if self.class_names and len(self.class_names) != self.num_classes:
            raise DataError(
                f"{self.name} has {self.num_classes} classes, but {len(self.class_names)} "
                "class names; name all or none"
            )

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.train_images.shape[1:]))
        return (
            f"<{self.name}: {len(self.train_images)} training and {len(self.test_images)} test "
            f"images of {size}, {self.num_classes} classes, on {self.device}>"
        )

    @property
    def device(self) -> torch.device:
        """Device of all images and labels."""
        return self.train_images.device

    def to(self, device: torch.device | str) -> ImageData:
        """The same data set on another device."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )


def _check_part(part: str, images: Tensor, labels: Tensor, num_classes: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise DataError(
            f"{part} has {images.dtype} images of shape {tuple(images.shape)}; "
            "give uint8 [N, 3, H, W]"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{part} has {labels.dtype} labels of shape {tuple(labels.shape)}; "
            f"give int64 [{len(images)}], one per image"
        )
    if labels.device != images.device:
        raise DataError(
            f"{part} has images on {images.device} and labels on {labels.device}; "
            "move both to one device"
        )
    if not len(images):
        raise DataError(f"{part} is empty; give at least one image")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise DataError(
            f"{part} has labels from {low} to {high}, expected 0 to {num_classes - 1}; "
            "number the classes from 0"
        )


def normalise(images: Tensor) -> Tensor:
    """Scale pixels from 0..255 to -1..1, by mean 0.5 and standard deviation 0.5.

    Args:
        images: uint8, any shape.

    Returns:
        float32, same shape and device.

    Raises:
        DataError: If the images are not uint8; they may be normalised already.

    References:
        Lubana and Dick, ICLR 2021.
    """
    if images.dtype != torch.uint8:
        raise DataError(
            f"the images are {images.dtype}, expected uint8 from 0 to 255; "
            "they may be normalised already"
        )
    return images.to(torch.float32).div_(255).sub_(0.5).div_(0.5)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift images by up to 4 pixels each way over black, and mirror half of them at random.

    The whole batch is processed at once on its device, without waiting on the host.

    Args:
        images: uint8 [N, C, H, W].
        generator: Random generator on the device of the images.

    Returns:
        uint8 [N, C, H, W].

    Raises:
        DataError: If the images are not uint8 (0 is not black in normalised images), or the
            generator is on another device.

    References:
        Lubana and Dick, ICLR 2021: random crop with padding 4 and horizontal flip.
    """
    if images.dtype != torch.uint8:
        raise DataError(
            f"the images are {images.dtype}, expected uint8; augment first, normalise afterwards"
        )
    if generator.device.type != images.device.type:
        raise DataError(
            f"the generator is on {generator.device}, the images on {images.device}; "
            "create it there with torch.Generator(device)"
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
    """A random, class-balanced subset of a data set, in the original order.

    Args:
        data: The data set.
        train_per_class: Training images per class; None keeps all.
        test_per_class: Test images per class; None keeps all.
        seed: Random seed.

    Raises:
        DataError: If a class has too few images; names it.
    """
    train = _positions(data, "training", train_per_class, seed)
    test = _positions(data, "test", test_per_class, seed)
    return replace(
        data,
        train_images=data.train_images[train],
        train_labels=data.train_labels[train],
        test_images=data.test_images[test],
        test_labels=data.test_labels[test],
    )


def balanced_sample(data: ImageData, per_class: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw a measurement sample: training images without augmentation, equally many per class.

    Args:
        data: The data set.
        per_class: Images per class.
        seed: Random seed.

    Returns:
        Normalised images (float32 [per_class * num_classes, 3, H, W]) and labels (int64), on the
        device of the data. Classes alternate: each block of `num_classes` images has one image per
        class.

    Raises:
        DataError: If a class has too few images; names it.

    References:
        Lubana and Dick, ICLR 2021: 25 images per class of CIFAR-100.
    """
    chosen = _draw_per_class(data, "training", per_class, seed).T.flatten().to(data.device)
    # On the CPU, as a GPU rounds the quotients otherwise: the sample is the same on every device.
    images = normalise(data.train_images[chosen].cpu()).to(data.device)
    return images, data.train_labels[chosen]


def _positions(data: ImageData, part: str, per_class: int | None, seed: int) -> Tensor | slice:
    if per_class is None:
        return slice(None)
    drawn = _draw_per_class(data, part, per_class, seed)
    return drawn.flatten().sort().values.to(data.device)


def _draw_per_class(data: ImageData, part: str, per_class: int, seed: int) -> Tensor:
    """Random image indices for each class, int64 [num_classes, per_class].

    They are drawn on the CPU, so that they are the same for every device.
    """
    if not (is_whole(per_class) and per_class >= 1):
        raise DataError(f"{per_class!r} {part} images per class were asked for; ask for at least 1")
    if not (is_whole(seed) and -(2**63) <= seed < 2**64):
        raise DataError(f"seed={seed!r}; give a whole number from 0 to 2**64 - 1")
    labels = (data.train_labels if part == "training" else data.test_labels).cpu()
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for label in range(data.num_classes):
        own = (labels == label).nonzero().flatten()
        if len(own) < per_class:
            raise DataError(_too_few(data, part, label, len(own), per_class))
        drawn.append(own[torch.randperm(len(own), generator=generator)[:per_class]])
    return torch.stack(drawn)


def _too_few(data: ImageData, part: str, label: int, count: int, per_class: int) -> str:
    named = f" ({data.class_names[label]})" if data.class_names else ""
    remedy = "add images to this class, or leave it out"
    if count:
        remedy = f"ask for {count} or fewer per class, or add images to this class"
    return (
        f"class {label}{named} of {data.name} has {count} {part} images, "
        f"but {per_class} were asked for; {remedy}"
    )
