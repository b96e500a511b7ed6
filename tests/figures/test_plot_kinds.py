"""Options of the command for kinds of pictures are those of the plot functions."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import get_args

import pytest

from pruneviz import plot
from pruneviz.errors import FigureError
from pruneviz.figures.plot_kinds import (
    AGGREGATES,
    DIRECTIONS,
    KINDS,
    ORDERS,
    SCALES,
    PlotOptions,
    arguments_of,
    flag,
)
from pruneviz.plot import heatmap_plot, layer_table, mask_plot, scatter_plot, trajectory_plot


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_takes_the_parameters_of_its_function(kind: str) -> None:
    found = KINDS[kind]
    parameters = set(inspect.signature(getattr(plot, found.function)).parameters)
    assert set(found.takes.values()) == parameters - {"source", "runs", "ax"}
    assert set(found.takes) <= {option.name for option in fields(PlotOptions)}
    assert set(found.usual) <= parameters and set(found.required) <= set(found.takes)


def test_every_plot_function_has_a_kind() -> None:
    functions = {name for name in plot.__all__ if inspect.isfunction(getattr(plot, name))}
    # flow draws the table of a meter, which no shipped recording has
    assert {found.function for found in KINDS.values()} == functions - {"flow"}


def test_options_become_arguments() -> None:
    asked = PlotOptions(y=["theta_g"], epochs=[-1], by=["bn", "seed"], network=["mine"])
    assert arguments_of("layers", asked) == ({"y": "theta_g", "epoch": -1, "by": ["bn", "seed"]},)
    masks = PlotOptions(mask_score="magnitude", mask_ratio=0.5)
    assert arguments_of("masks", masks) == ({"score": "magnitude", "ratio": 0.5},)
    assert arguments_of("scatter", PlotOptions(seed=0)) == (
        {"x": "theta_g", "y": "theta_hg", "seed": 0},
    )
    assert arguments_of("heatmap", PlotOptions(measures=["a"])) == ({"measures": ["a"]},)


def test_a_correlation_that_names_nothing_tries_the_paper_s_pair_first() -> None:
    first, second, last = arguments_of("correlation", PlotOptions(method="kendall"))
    assert first == {"x": "sigma_change", "y": "loss_preservation", "method": "kendall"}
    assert second["x"] == "theta_change" and "x" not in last
    (named,) = arguments_of("correlation", PlotOptions(x=["magnitude"]))
    assert named == {"x": "magnitude", "y": "loss_preservation"}


def test_options_that_a_kind_does_not_take_are_refused_with_those_that_it_takes() -> None:
    with pytest.raises(FigureError, match=r"accuracy does not take --hue; it takes --y, --by"):
        arguments_of("accuracy", PlotOptions(hue="depth"))
    with pytest.raises(FigureError, match="--kind trajectory needs --y"):
        arguments_of("trajectory", PlotOptions())
    with pytest.raises(FigureError, match="one epoch, and --epochs names 2 epochs"):
        arguments_of("layers", PlotOptions(epochs=[0, 1]))
    with pytest.raises(FigureError, match="no kind of picture 'scater'; did you mean 'scatter'"):
        arguments_of("scater", PlotOptions())
    assert flag("mask_score") == "--mask-score"


def test_words_are_those_of_the_plot_functions() -> None:
    assert AGGREGATES == layer_table.AGGREGATES
    assert get_args(heatmap_plot.Over) == DIRECTIONS and get_args(mask_plot.Order) == ORDERS
    of_plots = {*get_args(scatter_plot.AxisScale), *get_args(trajectory_plot.Scale)}
    assert set(SCALES) == of_plots


def test_filters_are_keys_of_layer_number_and_weight() -> None:
    asked = PlotOptions(y=["theta_g"], filters=["stage1.0:3", "a:b:0:17"])
    (found,) = arguments_of("trajectory", asked)
    assert found["filters"] == [("stage1.0", 3), ("a:b", 0, 17)]
    for wrong in ("3", "conv1", "conv1:x", ":3"):
        with pytest.raises(FigureError, match=f"--filters {wrong} is no filter; expected LAYER:N"):
            arguments_of("trajectory", PlotOptions(y=["theta_g"], filters=[wrong]))


def test_options_of_masks_leave_out_pictures_without_masks() -> None:
    first, second = arguments_of("correlation", PlotOptions(mask_ratio=0.5))
    assert (first["x"], second["x"]) == ("sigma_change", "theta_change")
    assert (
        len(arguments_of("correlation", PlotOptions(mask_score="magnitude", mask_ratio=0.5))) == 3
    )
    for several in (
        PlotOptions(x=["a", "b"], mask_ratio=0.5),
        PlotOptions(y=["a"], mask_ratio=0.5),
    ):
        with pytest.raises(FigureError, match="masks only with --mask-score; add it"):
            arguments_of("correlation", several)
