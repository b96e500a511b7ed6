"""Weights times the norms of their inputs, in layers that the shared cases do not have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(6, 3, 5, 5, dtype=torch.float64, generator=GENERATOR)
TOKENS = torch.randn(6, 7, 8, dtype=torch.float64, generator=GENERATOR)
TARGET = torch.arange(6) % 4


def wanda(model: nn.Module, inputs: Tensor, **options: object) -> np.ndarray:
    table = pv.measure(model, (inputs, TARGET), columns="wanda", **options)  # type: ignore[arg-type]
    return table["wanda"].to_numpy()


def of_rows(weight: Tensor, x: Tensor) -> np.ndarray:
    """Of a map [rows, inputs] of the last dimension of x."""
    norms = x.reshape(-1, x.shape[-1]).norm(dim=0)
    return (weight.abs() * norms).sum(1).detach().numpy()


class Pooled(nn.Module):
    """A layer of tokens or images, and the mean over places through a classifier."""

    def __init__(self, layer: nn.Module, features: int) -> None:
        super().__init__()
        self.layer, self.classifier = layer, nn.Linear(features, 4)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.classifier(torch.tanh(y.flatten(2).mean(2) if y.ndim == 4 else y.mean(1)))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_by_the_outputs_of_each_single_weight(groups: int) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=groups)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Pooled(layer, 6)).double()
    x = model[0](IMAGES).detach()
    total = torch.zeros(6, dtype=torch.float64)
    with torch.no_grad():
        for position in np.ndindex(*layer.weight.shape):
            one = torch.zeros_like(layer.weight)
            one[position] = 1
            places = {"stride": 2, "padding": 1, "output_padding": 1, "groups": groups}
            reads = F.conv_transpose2d(x, one, **places)  # its input, at each of its outputs
            output = position[1] + position[0] // (4 // groups) * (6 // groups)
            total[output] += layer.weight[position].abs() * reads.norm()
    table = pv.measure(model, (IMAGES, TARGET), columns="wanda")
    found = table[table["layer"] == "1.layer"]["wanda"]
    np.testing.assert_allclose(found, total, rtol=1e-12)


class Transposed(nn.Module):
    """A layer with its weight as [inputs, outputs], as in GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(8, 5)), nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        product = torch.addmm(self.bias, x.reshape(-1, 8), self.weight)
        return product.view(*x.shape[:-1], 5)


class Experts(nn.Module):
    """Stacked experts that all read the same tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.randn(3, 8, 5))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(1, -1, 8).expand(3, -1, -1)
        return torch.bmm(flat, self.experts).sum(0).view(*x.shape[:-1], 5)


class Left(nn.Module):
    """A weight as the left factor of a product, expanded over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(self.weight, x.transpose(1, 2)).transpose(1, 2)


def test_weights_with_inputs_first_experts_and_left_factors() -> None:
    torch.manual_seed(0)
    for layer, rows in (
        (Transposed(), lambda layer: layer.weight.T),
        (Experts(), lambda layer: layer.experts.transpose(1, 2).flatten(0, 1)),
        (Left(), lambda layer: layer.weight),
    ):
        model = Pooled(layer, 5)
        found = wanda(model, TOKENS)
        np.testing.assert_allclose(found, of_rows(rows(layer), TOKENS), rtol=1e-12)


class Attention(nn.Module):
    """Self-attention with fused projections."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def test_projections_of_attention_and_its_heads() -> None:
    torch.manual_seed(0)
    model = Pooled(Attention(), 8)
    attention, seen = model.layer.attention, {}
    table = pv.measure(model, (TOKENS, TARGET), columns="wanda").set_index("layer")["wanda"]
    projected = of_rows(attention.in_proj_weight, TOKENS)
    layer = next(name for name in table.index.unique() if "in_proj" in name)
    np.testing.assert_allclose(table.loc[layer], projected, rtol=1e-12)

    q, k, v = F.linear(TOKENS, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    heads = [part.view(6, 7, 2, 4).transpose(1, 2) for part in (q, k, v)]
    mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(6, 7, 8)
    seen["out"] = attention.out_proj.weight.abs() * mixed.reshape(-1, 8).norm(dim=0)
    by_head = projected.reshape(3, 2, 4).sum((0, 2))
    by_head += seen["out"].view(8, 2, 4).sum((0, 2)).detach().numpy()
    np.testing.assert_allclose(wanda(model, TOKENS, unit="head"), by_head, rtol=1e-12)


def test_single_weights_add_up_to_filters_and_chunks_to_the_sample() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.ReLU(), Pooled(nn.Conv2d(4, 6, 2), 6))
    model.double()
    whole = wanda(model, IMAGES)
    np.testing.assert_allclose(wanda(model, IMAGES, chunk=4), whole, rtol=1e-12)
    np.testing.assert_allclose(wanda(model.to(memory_format=torch.channels_last), IMAGES), whole)
    weights = pv.measure(model, (IMAGES, TARGET), columns="wanda", unit="weight")
    sums = weights.groupby(["layer", "filter"], observed=True, sort=False)["wanda"].sum()
    np.testing.assert_allclose(sums, whole, rtol=1e-12)


class Scaled(nn.Module):
    """A table of vectors that is looked up and never multiplied with an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(7, 8))
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x + self.table)


def test_a_parameter_without_inputs_is_null_and_not_zero() -> None:
    torch.manual_seed(0)
    model = Pooled(Scaled(), 5)
    table = pv.measure(model, (TOKENS, TARGET), columns="wanda", layers=["*", "*table"])
    unknown = table["layer"].astype(str).str.contains("table")
    assert table["wanda"].isna().equals(unknown)
    both = {"both": [("layer.table", 0, [0]), ("layer.linear.weight", 0, [0])]}
    assert np.isnan(wanda(model, TOKENS, unit=both)).all()
    biased = {"biased": [("layer.linear.bias", 0, [0]), ("layer.linear.weight", 0, [0])]}
    expected = of_rows(model.layer.linear.weight[:1], TOKENS + model.layer.table)
    np.testing.assert_allclose(wanda(model, TOKENS, unit=biased), expected, rtol=1e-12)
