"""First and second derivatives of convolutions against torch's own, in float64, for every geometry that a layer can have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruneviz.convolutions import TwiceDifferentiable

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "plain": (nn.Conv2d(4, 6, 3), (2, 4, 6, 6)),
    "pointwise without bias": (nn.Conv2d(4, 6, 1, bias=False), (2, 4, 5, 5)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), (2, 4, 5, 5)),
    "depthwise with a multiplier and stride": (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4), (3, 4, 7, 6)),
    "grouped and dilated": (nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), (2, 4, 6, 6)),
    "uneven": (nn.Conv2d(3, 2, (3, 1), stride=(1, 2), padding=(0, 1)), (2, 3, 5, 6)),
    "same padding": (nn.Conv2d(3, 4, 3, padding="same"), (2, 3, 5, 5)),
    "padding of another kind": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (2, 3, 5, 5)),
    "one dimension": (nn.Conv1d(4, 4, 3, padding=1, groups=2), (2, 4, 7)),
    "three dimensions": (nn.Conv3d(2, 4, 2, stride=2, groups=2), (2, 2, 4, 4, 4)),
    "a single example without a batch": (nn.Conv2d(3, 4, 3), (3, 5, 5)),
}


def derivatives(layer: nn.Module, x: Tensor, inside: bool) -> list[Tensor]:
    """Output, gradients by input and parameters, and the product of the Hessian with fixed vectors, of a loss that is not quadratic."""
    wanted = [x.requires_grad_(), *layer.parameters()]
    if inside:
        with TwiceDifferentiable():
            output = layer(x)
    else:
        output = layer(x)
    first = torch.autograd.grad(output.sin().sum(), wanted, create_graph=True)
    vectors = [torch.linspace(-1, 1, part.numel(), dtype=part.dtype).view_as(part) for part in first]
    along = sum((part * vector).sum() for part, vector in zip(first, vectors, strict=True))
    second = torch.autograd.grad(along, wanted)
    return [part.detach() for part in (output, *first, *second)]


@pytest.mark.parametrize("name", LAYERS)
def test_derivatives_are_those_of_torch(name: str) -> None:
    layer, shape = LAYERS[name]
    torch.manual_seed(0)
    layer, x = layer.double(), torch.randn(shape, dtype=torch.float64)
    for ours, theirs in zip(derivatives(layer, x.clone(), True), derivatives(layer, x.clone(), False), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_only_what_is_asked_for_is_formed_and_no_group_is_looped_over() -> None:
    """A frozen weight, and an input that needs no gradient, as that of the first layer."""
    layer = nn.Conv2d(64, 64, 3, groups=64, bias=False).double()
    x = torch.randn(1, 64, 5, 5, dtype=torch.float64)
    with TwiceDifferentiable():
        (g,) = torch.autograd.grad(layer(x).square().sum(), [layer.weight], create_graph=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as seen:
        (hg,) = torch.autograd.grad(g.square().sum(), [layer.weight])
    assert hg.shape == layer.weight.shape
    assert sum(event.count for event in seen.key_averages() if "convolution" in event.key) < 64
    layer.requires_grad_(False)
    with TwiceDifferentiable():
        (by_input,) = torch.autograd.grad(layer(x.requires_grad_()).sum(), [x])
    assert by_input.shape == x.shape


def test_a_third_derivative_is_there_too() -> None:
    layer, x = nn.Conv2d(2, 2, 2, groups=2).double(), torch.randn(1, 2, 4, 4, dtype=torch.float64)
    thirds = []
    for inside in (True, False):
        with TwiceDifferentiable() if inside else torch.enable_grad():
            loss = layer(x).pow(4).sum()
        (first,) = torch.autograd.grad(loss, [layer.weight], create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), [layer.weight], create_graph=True)
        thirds.append(torch.autograd.grad(second.square().sum(), [layer.weight])[0])
    torch.testing.assert_close(*thirds, rtol=1e-11, atol=1e-11)
