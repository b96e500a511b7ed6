"""Pruning, removing and measuring single weights on a GPU give what they give on the CPU; skipped where there is none."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz import Pruner, measure, remove
from pruneviz.datasets import balanced_sample, load_dataset
from pruneviz.masking import kept_entries
from pruneviz.networks import NETWORKS, build_network

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def sample() -> tuple[Tensor, Tensor]:
    images, labels = balanced_sample(load_dataset("digits"), per_class=2)
    return images.double(), labels


def pruned_by_half(name: str, sample: tuple[Tensor, Tensor], device: str) -> tuple[nn.Module, Pruner]:
    torch.manual_seed(0)
    network = build_network(name, num_classes=10, width=0.125).double().to(device)
    pruner = Pruner(network, sample[0][:2].to(device))
    pruner.prune(measure(network, (sample[0].to(device), sample[1].to(device))), "proposed", pruner.units // 2)
    return network, pruner


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_filters_go_and_stay_away(name: str, sample: tuple[Tensor, Tensor]) -> None:
    (_, on_cpu), (network, on_gpu) = (pruned_by_half(name, sample, device) for device in ("cpu", "cuda"))
    assert on_gpu.counts().equals(on_cpu.counts())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(network.train()(sample[0].cuda()), sample[1].cuda()).backward()
        optimizer.step()
    parameters = dict(network.named_parameters())
    assert all((parameters[name][~kept] == 0).all() for name, kept in kept_entries(network).items())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_smaller_network_computes_the_same(name: str, sample: tuple[Tensor, Tensor]) -> None:
    network, _ = pruned_by_half(name, sample, "cuda")
    smaller = remove(network, sample[0].cuda())
    assert smaller.removed > 0
    assert smaller.after.seconds > 0
    assert torch.allclose(smaller.network.eval()(sample[0].cuda()), network.eval()(sample[0].cuda()), atol=1e-10)


def test_single_weights_are_measured_alike(sample: tuple[Tensor, Tensor]) -> None:
    network, _ = pruned_by_half("vgg13", sample, "cpu")
    tables = [
        measure(copy.deepcopy(network).to(device), (sample[0].to(device), sample[1].to(device)), unit="weight")
        for device in ("cpu", "cuda")
    ]
    for column in ("theta", "theta_g", "theta_hg", "g_norm2"):
        expected = tables[0][column].to_numpy()
        np.testing.assert_allclose(tables[1][column].to_numpy(), expected, rtol=1e-6, atol=1e-9 * np.nanmax(np.abs(expected)))
