"""What the benchmarks of measuring measure: a network at full width, or narrow, and real images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from pruneviz.errors import DataError
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, balanced_sample
from pruneviz.experiment.networks.registry import build_network

PER_CLASS = 25  # images in a mini-batch of the published code: 2,560 over the 100 classes of CIFAR-100, rounded down
Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with the statistics of its batch norms taken from the sample, and the sample: equally many images of every class."""

    network: str
    data: ImageData
    model: nn.Module
    images: Tensor
    labels: Tensor

    @property
    def told(self) -> str:
        """The sample in words."""
        return f"{len(self.images):,} images of {self.data.name}"

    def batches(self, size: int) -> Batches:
        """The sample in mini-batches."""
        return list(zip(self.images.split(size), self.labels.split(size), strict=True))

    def class_batches(self) -> Batches:
        """The sample in one mini-batch per class."""
        return [
            (self.images[self.labels == label], self.labels[self.labels == label])
            for label in self.labels.unique()
        ]


def subject(network: str, width: float, images: int, device: torch.device) -> Subject:
    """The network, freshly initialised, and at most that many images.

    They are of as many classes as give mini-batches of 25 of a class, so that a smaller sample has fewer mini-batches of the published
    code and not smaller ones.
    """
    data = images_at_hand()
    classes = max(1, min(data.num_classes, images // PER_CLASS))
    pixels, labels = balanced_sample(data, images // classes)
    few = labels < classes
    pixels, labels = pixels[few].to(device), labels[few].to(device)
    torch.manual_seed(0)
    model = build_network(network, num_classes=data.num_classes, width=width).to(device)
    # untouched statistics let the activations of a deep network vanish, and numbers next to nothing are slow on some processors
    update_bn([pixels[:256]], model)
    return Subject(network, data, model.eval(), pixels, labels)


@cache
def images_at_hand() -> ImageData:
    """CIFAR-100 where its files are found, else the handwritten digits that need none."""
    try:
        return load_dataset("cifar100")
    except DataError:
        return load_dataset("digits")
