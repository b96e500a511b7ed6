"""Colours stay apart in grey, and the style leaves rcParams as they were."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from pruneviz.plans.needs import CURVE_MEASURES, RATIO_MEASURES
from pruneviz.plot import style

GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue in the lightness


def grey(colour: str) -> float:
    return float(np.dot(matplotlib.colors.to_rgb(colour), GREY))


@pytest.mark.parametrize(
    "colours",
    [
        (style.LEFT_COLOUR, style.RIGHT_COLOUR, style.GUIDE_COLOUR),
        tuple(style.MEASURE_COLOURS[measure] for measure in CURVE_MEASURES),
    ],
    ids=["axes", "accuracy curves"],
)
def test_colours_stay_apart_in_grey(colours: tuple[str, ...]) -> None:
    assert min(np.diff(sorted(map(grey, colours)))) > 0.12


def test_measures_differ_by_colour_or_hatch_and_by_marker() -> None:
    looks = {
        (style.MEASURE_COLOURS[measure], style.MEASURE_HATCHES[measure])
        for measure in RATIO_MEASURES
    }
    markers = {style.MEASURE_MARKERS[measure] for measure in RATIO_MEASURES}
    assert len(looks) == len(markers) == len(RATIO_MEASURES)


def test_deeper_layers_are_lighter() -> None:
    lightness = style.depth_colours()(np.linspace(0, 1, 20))[:, :3] @ GREY
    assert (np.diff(lightness) > 0).all()


def test_the_style_is_left_behind() -> None:
    before = dict(matplotlib.rcParams)
    with style.paper():
        assert matplotlib.rcParams["font.size"] == 8
    assert dict(matplotlib.rcParams) == before
