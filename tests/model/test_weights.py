"""Rows of weights are what single outputs read, for every kind of linear map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from pruneviz.model.weights import computes_weight, linear_maps, rows_along


class Conv1D(nn.Module):
    """A linear layer with weight [inputs, outputs], as GPT-2 writes it."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.weight, self.bias = nf, nn.Parameter(torch.randn(nx, nf)), None

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


LAYERS = {
    "linear": (nn.Linear(3, 4, bias=False), torch.ones(1, 3)),
    "convolution": (nn.Conv2d(2, 4, 3, bias=False), torch.ones(1, 2, 3, 3)),
    "grouped convolution": (nn.Conv2d(2, 4, 3, groups=2, bias=False), torch.ones(1, 2, 3, 3)),
    "transposed": (nn.ConvTranspose1d(2, 4, 1, bias=False), torch.ones(1, 2, 1)),
    "transposed in groups": (
        nn.ConvTranspose1d(6, 4, 1, groups=2, bias=False),
        torch.ones(1, 6, 1),
    ),
    "input first": (Conv1D(4, 3), torch.ones(1, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_row_sums_to_its_output_on_ones(name: str) -> None:
    module, ones = LAYERS[name]
    ((path, found),) = linear_maps(module)
    rows = rows_along(module.weight, found.dims, found.groups).flatten(1)
    assert path == ""
    torch.testing.assert_close(rows.sum(1), module(ones).flatten())


def test_attention_and_recurrent_layers_hold_several_maps() -> None:
    model = nn.ModuleDict(
        {"one": nn.MultiheadAttention(4, 2), "two": nn.MultiheadAttention(4, 2, kdim=3, vdim=3)}
    )
    assert [found.parameter for _, found in linear_maps(model)] == [
        "one.in_proj_weight",
        "one.out_proj.weight",
        *(f"two.{part}_proj_weight" for part in "qkv"),
        "two.out_proj.weight",
    ]
    names = [found.parameter for _, found in linear_maps(nn.LSTM(2, 3, 2))]
    assert names == [f"weight_{part}_l{n}" for n in range(2) for part in ("ih", "hh")]


def test_tied_weights_are_one_map() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert [(path, found.parameter) for path, found in linear_maps(model)] == [("0", "0.weight")]


def test_a_computed_weight_is_never_read() -> None:
    normed = parametrizations.spectral_norm(nn.Linear(3, 3))
    pruned = prune.l1_unstructured(nn.Linear(3, 3), "weight", 1)
    before = normed.parametrizations.weight[0]._u.clone()
    assert [computes_weight(m) for m in (normed, pruned, nn.Linear(3, 3))] == [True, True, False]
    assert list(linear_maps(nn.Sequential(normed.train(), pruned))) == []
    torch.testing.assert_close(normed.parametrizations.weight[0]._u, before, rtol=0, atol=0)
