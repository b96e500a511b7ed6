"""The memory layout of an objective."""

from __future__ import annotations

import torch
from torch import nn

from pruneviz.measuring.building import build_objective
from pruneviz.measuring.options import Options
from pruneviz.model.sample import as_batches
from tests.support.cases import head


def test_the_layout_is_the_fastest_whatever_the_network_trains_in() -> None:
    """Channels last in float32 on a CPU, contiguous in float64."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *head(4)).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(4) % 2
    expected = {torch.float32: torch.channels_last, torch.float64: torch.contiguous_format}
    for dtype, form in expected.items():
        batches = as_batches((images, labels), torch.device("cpu"), dtype)
        sample = build_objective(model, batches, Options(dtype=dtype))
        weights = [p for p in sample.parameters.values() if p.ndim == 4]
        assert all(p.is_contiguous(memory_format=form) for p in weights)
        assert all(x.is_contiguous(memory_format=form) for x, _ in sample.chunks(3))


def test_a_network_that_views_activations_keeps_the_contiguous_layout() -> None:
    class Viewing(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).view(len(x), -1)

    model = nn.Sequential(Viewing(3, 4, 3), nn.Linear(144, 3)).eval()
    batches = as_batches(
        (torch.randn(4, 3, 8, 8), torch.arange(4) % 2), torch.device("cpu"), torch.float32
    )
    assert not build_objective(model, batches, Options()).channels_last
