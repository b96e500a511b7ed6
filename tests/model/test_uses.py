"""How a forward pass uses parameters, and which layers come last."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz.model.uses import Uses


class Net(nn.Module):
    """A network written as a function of its own modules and parameters."""

    def __init__(self, forward: Callable, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self._forward = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> object:
        return self._forward(self, x)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


PRODUCTS = {
    "F.linear": (weight(4, 3), lambda net, x: F.linear(x, net.w), (0,)),
    "matmul": (weight(3, 4), lambda net, x: x @ net.w, (1,)),
    "batched": (weight(2, 3, 4), lambda net, x: torch.bmm(x.expand(2, 2, 3), net.w), (0, 2)),
    "expert": (weight(2, 4, 3), lambda net, x: F.linear(x, net.w[1]), (0, 1)),
    "heads": (weight(2, 2, 3), lambda net, x: x @ net.w.flatten(0, 1).T, (0, 1)),
    "merged": (weight(3, 2, 4), lambda net, x: x.repeat(1, 2) @ net.w.view(6, 4), (2,)),
    "convolution": (weight(4, 3, 1), lambda net, x: F.conv1d(x[..., None], net.w), (0,)),
    "transposed": (weight(3, 4, 1), lambda net, x: F.conv_transpose1d(x[..., None], net.w), (1,)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_rows_run_along_what_a_product_does_not_sum_over(name: str) -> None:
    w, forward, dims = PRODUCTS[name]
    found = Uses(Net(forward, w=w), torch.randn(2, 3)).matrices
    assert {key: map_.dims for key, map_ in found.items()} == {"w": dims}


def test_a_parameter_that_is_added_or_looked_up_is_no_matrix() -> None:
    model = Net(
        lambda net, x: net.fc(net.table(x) + net.place),
        table=nn.Embedding(5, 3),
        place=weight(1, 3),
    )
    model.fc = nn.Linear(3, 2)
    assert list(Uses(model, torch.tensor([[1, 2]])).matrices) == ["fc.weight"]


LAST = {
    "plain": (lambda net, x: net.b(net.a(x)), {"b.weight"}),
    "features too": (lambda net, x: (net.b(net.a(x)), net.a(x)), {"b.weight"}),
    "two heads": (lambda net, x: {"a": net.a(x), "b": net.b(x)}, {"a.weight", "b.weight"}),
    "side branch": (lambda net, x: net.a(x) + 0 * net.b(x).detach(), {"a.weight"}),
    "functional": (lambda net, x: F.linear(net.a(x), net.b.weight), {"b.weight"}),
    "applied twice": (lambda net, x: net.a(net.a(x)), {"a.weight"}),
    "residual": (lambda net, x: net.b(x + net.a(x)), {"b.weight"}),
    "in place": (lambda net, x: net.b(net.a(x).relu_()), {"b.weight"}),
}


@pytest.mark.parametrize("name", LAST)
def test_the_last_layers_feed_no_other(name: str) -> None:
    forward, last = LAST[name]
    model = Net(forward, a=nn.Linear(3, 3), b=nn.Linear(3, 3))
    assert Uses(model.requires_grad_(False), torch.randn(2, 3)).last == last


def test_a_tied_embedding_does_not_hide_the_classifier() -> None:
    model = Net(
        lambda net, x: net.out(net.fc(net.table(x))), table=nn.Embedding(5, 3), fc=nn.Linear(3, 3)
    )
    model.out = nn.Linear(3, 5, bias=False)
    model.out.weight = model.table.weight
    uses = Uses(model, torch.tensor([[1, 2]]))
    assert uses.last == {"table.weight"}
    assert list(uses.matrices) == ["fc.weight", "table.weight"]
