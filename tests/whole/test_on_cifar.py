"""Narrow VGG-13 and ResNet-56 on CIFAR-100 images: chunk, precision, initial loss, sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, balanced_sample
from pruneviz.experiment.networks.registry import build_network
from pruneviz.measuring.options import Options
from pruneviz.measuring.snapshot import Snapshot, take_snapshot

Sample = tuple[Tensor, Tensor]
WIDTHS = {"vgg13": 1 / 8, "resnet56": 1 / 4}
# rounding in float32, more with 56 layers than with 13; in float64 both agree to 1e-14
CHUNK_TOLERANCE = {"vgg13": 1e-6, "resnet56": 1e-5}
EVERY_NETWORK = pytest.mark.parametrize("name", WIDTHS)


@pytest.fixture(scope="module")
def cifar100(cifar_root: Path) -> ImageData:
    return load_dataset("cifar100", root=cifar_root)


@pytest.fixture(scope="module")
def sample(cifar100: ImageData) -> Sample:
    images, labels = balanced_sample(cifar100, per_class=1, seed=0)
    return images[:50], labels[:50]


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_network(name, num_classes=100, width=WIDTHS[name])


@pytest.fixture(scope="module")
def snapshot(sample: Sample) -> Callable[..., Snapshot]:
    taken: dict[tuple[object, ...], Snapshot] = {}

    def take(name: str, chunk: int = 50, dtype: torch.dtype = torch.float32) -> Snapshot:
        key = name, chunk, dtype
        if key not in taken:
            taken[key] = take_snapshot(network(name), sample, Options(chunk=chunk, dtype=dtype))
        return taken[key]

    return take


def assert_apart_by_at_most(tolerance: float, frame: pd.DataFrame, other: pd.DataFrame) -> None:
    """Relative to the norm of each column over the network, with nulls at the same places."""
    assert list(frame.columns) == list(other.columns) and len(frame) == len(other)
    for name in frame.columns:
        got, want = frame[name].to_numpy(), other[name].to_numpy()
        assert np.array_equal(np.isnan(got), np.isnan(want)), name
        apart = np.nanmax(np.abs(got - want)) / np.linalg.norm(np.nan_to_num(want))
        assert apart <= tolerance, f"{name}: {apart:.1e}"


@EVERY_NETWORK
def test_the_chunk_changes_no_number_on_real_images(
    name: str, snapshot: Callable[..., Snapshot]
) -> None:
    for chunk in (7, 32):
        assert_apart_by_at_most(
            CHUNK_TOLERANCE[name], snapshot(name, chunk).filters, snapshot(name).filters
        )


def test_the_chunk_changes_nothing_at_all_in_double_precision(
    snapshot: Callable[..., Snapshot],
) -> None:
    exact = [snapshot("vgg13", chunk, torch.float64).filters for chunk in (17, 50)]
    assert_apart_by_at_most(1e-12, *exact)


@EVERY_NETWORK
def test_float32_is_exact_enough_on_real_images(
    name: str, snapshot: Callable[..., Snapshot]
) -> None:
    assert_apart_by_at_most(
        1e-4, snapshot(name).filters, snapshot(name, dtype=torch.float64).filters
    )


@EVERY_NETWORK
def test_a_fresh_network_guesses_and_no_filter_is_without_a_number(
    name: str, snapshot: Callable[..., Snapshot]
) -> None:
    whole = snapshot(name)
    assert whole.sample_loss == pytest.approx(math.log(100), rel=0.01)
    assert whole.filters.notna().all(axis=None)
    assert len(whole.filters) == sum(
        len(conv.weight) for conv in network(name).modules() if isinstance(conv, nn.Conv2d)
    )
    # the rest belongs to norms and classifier
    assert whole.g_norm2 > whole.filters["g_norm2"].sum() > 0
    assert math.isfinite(whole.ghg)


def test_a_balanced_sample_holds_every_class_equally_often_and_only_training_images(
    cifar100: ImageData,
) -> None:
    images, labels = balanced_sample(cifar100, per_class=3, seed=1)
    assert torch.equal(labels.bincount(minlength=100), torch.full((100,), 3))
    assert images.shape == (300, 3, 32, 32)
    assert (images.min(), images.max()) == (-1, 1)
    pixels = ((images[:20] + 1) * 127.5).round().to(torch.uint8)
    own = [cifar100.train_images[cifar100.train_labels == label] for label in labels[:20]]
    assert all(
        (many == image).flatten(1).all(1).any() for many, image in zip(own, pixels, strict=True)
    )
    assert not torch.equal(balanced_sample(cifar100, per_class=3, seed=2)[0], images)
