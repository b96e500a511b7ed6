"""Options of the command for kinds of pictures are those of the plot functions."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

from pruneviz import plot
from pruneviz.errors import FigureError
from pruneviz.figures.plot_kinds import KINDS, PlotOptions, arguments_of, flag


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_takes_the_parameters_of_its_function(kind: str) -> None:
    found = KINDS[kind]
    parameters = set(inspect.signature(getattr(plot, found.function)).parameters)
    assert set(found.takes.values()) == parameters - {"source", "runs", "ax"}
    assert set(found.takes) <= {option.name for option in fields(PlotOptions)}
    assert set(found.usual) <= parameters and set(found.required) <= set(found.takes)


def test_every_plot_function_has_a_kind() -> None:
    functions = {name for name in plot.__all__ if inspect.isfunction(getattr(plot, name))}
    assert {found.function for found in KINDS.values()} == functions


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
