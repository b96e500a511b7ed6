"""Networks and images that the benchmarks measure."""

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

# Images in a mini-batch of the published code: 2,560 over the 100 classes of CIFAR-100.
PER_CLASS = 25
Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with batch-norm statistics of the sample, and the sample, balanced over classes."""

    network: str
    data: ImageData
    model: nn.Module
    images: Tensor
    labels: Tensor

    @property
    def description(self) -> str:
        """The sample, in words."""
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
    """A freshly initialised network and at most `images` images.

    The number of classes is chosen so that each has 25 images: a smaller sample then has fewer
    mini-batches of the published code, not smaller ones.
    """
    data = available_images()
    classes = max(1, min(data.num_classes, images // PER_CLASS))
    pixels, labels = balanced_sample(data, images // classes)
    few = labels < classes
    pixels, labels = pixels[few].to(device), labels[few].to(device)
    torch.manual_seed(0)
    model = build_network(network, num_classes=data.num_classes, width=width).to(device)
    # With initial statistics the activations of deep networks vanish; denormals are slow.
    update_bn([pixels[:256]], model)
    return Subject(network, data, model.eval(), pixels, labels)


@cache
def available_images() -> ImageData:
    """CIFAR-100 if its files are found, else the digits, which need none."""
    try:
        return load_dataset("cifar100")
    except DataError:
        return load_dataset("digits")
