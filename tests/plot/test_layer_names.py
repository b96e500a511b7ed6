"""Names of layers below an axis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from matplotlib.figure import Figure

from pruneviz import plot
from pruneviz.experiment.networks.registry import build_network
from pruneviz.plot import style
from pruneviz.plot.layer_names import name_layers, short_names
from tests.support.readable import assert_readable, texts
from tests.support.synthetic_runs import make_runs


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["features.conv1", "features.conv2"], ["conv1", "conv2"]),
        (
            ["features.conv0", "features.block1.pointwise", "features.block2.pointwise"],
            ["conv0", "block1", "block2"],
        ),
        (
            ["f.block1.depthwise", "f.block1.pointwise", "f.block2.pointwise"],
            ["block1.depthwise", "block1.pointwise", "block2"],
        ),
        (["a.b", "a.b.c", "a.d.e.f"], ["b", "b.c", "d"]),
        (["encoder.conv"], ["conv"]),
        (["0", "3", "6"], ["layer 0", "layer 3", "layer 6"]),
        (["f.0.conv", "f.0.norm", "f.3.conv"], ["0.conv", "0.norm", "layer 3"]),
        (["层1", "层2"], ["层1", "层2"]),
    ],
)
def test_names_are_cut_to_what_tells_layers_apart(names: list[str], short: list[str]) -> None:
    assert short_names(names) == short


@pytest.mark.parametrize("network", ["vgg13", "mobilenet_v1", "resnet56"])
def test_short_names_of_the_networks_of_the_paper_are_unique(network: str) -> None:
    model = build_network(network, num_classes=4, width=0.125)
    weights = [name for name, parameter in model.named_parameters() if parameter.dim() == 4]
    names = [name.removesuffix(".weight") for name in weights]
    short = short_names(names)
    assert len(set(short)) == len(names)
    for whole, cut in zip(names, short, strict=True):
        assert f".{cut}." in f".{whole}."


@pytest.mark.parametrize(
    "names",
    [
        ["a", "b$1$", "_c"],
        [f"encoder.layer.{number}.attention.output.dense" for number in range(60)],
        [f"{number} a name without any full stop that is very long" for number in range(12)],
    ],
    ids=["odd", "sixty", "long"],
)
def test_names_are_readable(names: list[str]) -> None:
    with style.paper():
        figure = Figure((style.TEXT_WIDTH, 3), layout="constrained")
        axes = figure.subplots()
        height = name_layers(axes, names)
        assert_readable(figure)
    assert 0.05 < height < 2.5
    assert len([text for text in axes.get_xticklabels() if text.get_text()]) >= len(names) // 2


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (plot.scatter, {"x": "theta_g", "y": "theta_hg", "hue": "layer", "epochs": -1}),
        (plot.correlation, {"x": "theta_g", "y": "theta_hg", "by": "layer"}),
        (plot.layer_ratios, {"y": "theta_norm2"}),
        (plot.heatmap, {"measures": ["magnitude", "proposed"], "over": "layer", "epochs": -1}),
        (plot.trajectory, {"y": "theta_norm2"}),
        (plot.masks, {}),
    ],
    ids=["scatter", "correlation", "layers", "heatmap", "trajectory", "masks"],
)
def test_layers_that_are_numbers_are_called_layers(kind: Any, options: dict[str, Any]) -> None:
    runs = make_runs({"mine": (8, 16)}, (0,), 4, 2)
    numbers = dict(zip(runs.filters["layer"].unique(), ["0", "3"], strict=True))
    numbered = runs.filters["layer"].astype(str).map(numbers)
    figure = kind(replace(runs, filters=runs.filters.assign(layer=numbered)), **options)
    assert {"layer 0", "layer 3"} <= {text.get_text() for text in texts(figure)}
