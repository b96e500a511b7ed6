"""Cheap columns read for all layers at once equal those of layers one by one, to the last bit."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

import pruneviz as pv
from pruneviz.experiment.networks.registry import NETWORKS, build_network
from pruneviz.log import schema
from pruneviz.log.vocabulary import CNN_ROW_KINDS
from pruneviz.measuring.cheap_columns import CheapColumns
from pruneviz.model.filters import Layer, find_layers
from pruneviz.pruning.held_entries import prune_entries
from tests.support.cases import BY_NAME, digit_batches


def built(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    if name in NETWORKS:
        return build_network(name, num_classes=10, width=0.125), torch.randn(2, 3, 32, 32)
    return BY_NAME[name].model(dtype=torch.float32), torch.randn(2, 1, 4, 4)


def layer_by_layer(model: nn.Module, layers: list[Layer], unit: str) -> dict[str, list[float]]:
    """The slow twin: each layer and filter by itself, in float64."""
    rows: dict[str, list[float]] = {name: [] for name in ("kept", *schema.CHEAP_OF_UNIT[unit])}
    for layer in layers:
        weight = model.get_parameter(layer.weight).detach().double().flatten(1)
        parts = weight if unit == "filter" else weight.reshape(-1, 1)
        rows["theta_norm2"] += parts.square().sum(1).tolist()
        rows["theta_l1"] += parts.abs().sum(1).tolist()
        rows["kept"] += (parts != 0).any(1).tolist()
        for norm in layer.norms:
            scale = model.get_submodule(norm[0]).weight[norm[1]].item() if norm else float("nan")
            rows["sigma"] += [scale] * (1 if unit == "filter" else weight.shape[1])
        if unit == "weight":
            rows["theta"] += weight.flatten().tolist()
    return rows


# networks with many layers of one shape, in both kinds of row; the small cases take turns
NAMES = [(name, unit) for name in NETWORKS for unit in CNN_ROW_KINDS]
NAMES += list(zip(BY_NAME, cycle(CNN_ROW_KINDS), strict=False))


@pytest.mark.parametrize(("name", "unit"), NAMES)
def test_all_layers_at_once_equal_layers_one_by_one(name: str, unit: str) -> None:
    model, x = built(name)
    layers = find_layers(model, x)
    weight = layers[-1].weight
    kept = torch.ones_like(model.get_parameter(weight), dtype=torch.bool)
    kept[0] = False
    prune_entries(model, {weight: kept})
    cheap = CheapColumns(model, layers, unit)
    table, twin = cheap.table(cheap.read()), layer_by_layer(model, layers, unit)
    keys = ["layer", "filter", *(["weight"] if unit == "weight" else [])]
    assert list(table.columns) == [*keys, "kept", *schema.CHEAP_OF_UNIT[unit]]
    for column, values in twin.items():
        assert table[column].dtype == ("bool" if column == "kept" else "float64")
        np.testing.assert_array_equal(table[column], values, err_msg=column)
    rows = {layer: len(part) for layer, part in table.groupby("layer", observed=True)}
    per_filter = {
        layer.name: model.get_parameter(layer.weight)[0].numel() if unit == "weight" else 1
        for layer in layers
    }
    assert rows == {layer.name: layer.filters * per_filter[layer.name] for layer in layers}


@pytest.mark.parametrize("unit", CNN_ROW_KINDS)
def test_measure_gives_the_same_cheap_columns(unit: str) -> None:
    model, x = built("concatenated")
    cheap = CheapColumns(model, find_layers(model, x), unit)
    columns = schema.CHEAP_OF_UNIT[unit]
    measured = pv.measure(model, digit_batches((4,)), unit=unit, columns=columns)
    pd.testing.assert_frame_equal(measured, cheap.table(cheap.read()), check_exact=True)


def test_a_norm_without_scales_gives_no_sigma() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3, affine=False), nn.Flatten())
    model.append(nn.Linear(27, 2))
    layers = find_layers(model, torch.randn(2, 1, 4, 4))
    assert layers[0].norm == "1"
    cheap = CheapColumns(model, layers)
    assert cheap.table(cheap.read())["sigma"].isna().all()


def test_the_memory_layout_changes_nothing() -> None:
    model, x = built("resnet56")
    layers = find_layers(model, x)
    expected = CheapColumns(model, layers).read()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    seen = CheapColumns(model, layers).read()
    assert all((seen.terms[column] == values).all() for column, values in expected.terms.items())


@pytest.mark.parametrize("unit", CNN_ROW_KINDS)
def test_a_network_is_read_in_one_transfer_and_few_kernels(
    monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    model, x = built("resnet56")
    cheap, moved = CheapColumns(model, find_layers(model, x), unit), []
    cpu = Tensor.cpu

    def counted(tensor: Tensor) -> Tensor:
        moved.append(tensor.shape)
        return cpu(tensor)

    monkeypatch.setattr(Tensor, "cpu", counted)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        cheap.read()
    assert len(moved) == 1
    names = [event.name for event in profile.events()]
    assert not {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero"} & set(names)
    kernels = ("aten::sum", "aten::square", "aten::abs", "aten::stack")
    assert sum(name in kernels for name in names) < 60, "57 layers of 8 shapes"


@pytest.mark.parametrize("unit", CNN_ROW_KINDS)
def test_values_read_stay_when_the_network_trains_on(unit: str) -> None:
    model, x = built("conv_bn_relu")
    model = model.double()  # nothing is converted, so that a view could pass for a copy
    cheap = CheapColumns(model, find_layers(model, x.double()), unit)
    seen = cheap.read()
    before = cheap.table(seen)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert cheap.table(seen).equals(before)
    assert not cheap.table(cheap.read()).equals(before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_any_parameter_that_is_not_finite_is_noticed(value: float) -> None:
    for name, _ in built("conv_bn_relu")[0].named_parameters():
        model, x = built("conv_bn_relu")
        cheap = CheapColumns(model, find_layers(model, x))
        assert cheap.read().bounded
        with torch.no_grad():
            model.get_parameter(name).view(-1)[-1] = value
        assert not cheap.read().bounded, name


class ScaleInBuffer(nn.BatchNorm2d):
    """A batch norm whose scale is a buffer, as a frozen one may have it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        scale = torch.linspace(0.5, 1.5, channels)
        del self.weight
        self.register_buffer("weight", scale)


def test_scales_that_are_no_parameters_are_read_too() -> None:
    inputs, labels = digit_batches((12,), torch.float32)[0]
    channels = inputs.shape[1]
    computed = nn.BatchNorm2d(4)
    nn.utils.parametrize.register_parametrization(computed, "weight", nn.Softplus())
    for norm in (ScaleInBuffer(4), computed):
        model = nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1), norm, nn.Flatten(), nn.LazyLinear(10)
        ).eval()
        model(inputs)
        table = pv.measure(model, (inputs, labels), columns=["sigma"])
        np.testing.assert_array_equal(table["sigma"], norm.weight.detach().double())


class Drawn(nn.Module):
    """A parametrization that draws, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, weight: Tensor) -> Tensor:
        self.calls += 1
        self.seen += 1
        return weight + 0 * torch.rand(())


def test_reading_a_computed_scale_moves_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 2))
    drawn, sample = Drawn(), (torch.randn(4, 1, 4, 4), torch.arange(4) % 2)
    register_parametrization(model[1], "weight", drawn)
    before = torch.get_rng_state(), drawn.calls, drawn.seen.clone()
    table = pv.measure(model, sample, columns="sigma")
    assert table["sigma"].eq(1).all()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (drawn.calls, drawn.seen) == before[1:]
