"""Colours stay apart in grey."""

from __future__ import annotations

import matplotlib
import numpy as np

from pruneviz.figures import style
from pruneviz.plans.needs import CURVE_MEASURES, RATIO_MEASURES


def _grey(colour: str) -> float:
    return float(np.dot(matplotlib.colors.to_rgb(colour), (0.299, 0.587, 0.114)))


def test_colours_stay_apart_in_grey() -> None:
    grey = sorted(
        _grey(name) for name in (style.LEFT_COLOUR, style.RIGHT_COLOUR, style.GUIDE_COLOUR)
    )
    assert min(np.diff(grey)) > 0.12
    curves = sorted(_grey(style.MEASURE_COLOURS[measure]) for measure in CURVE_MEASURES)
    assert min(np.diff(curves)) > 0.12
    looks = {
        (style.MEASURE_COLOURS[measure], style.MEASURE_HATCHES[measure])
        for measure in RATIO_MEASURES
    }
    assert (
        len(looks)
        == len(RATIO_MEASURES)
        == len({style.MEASURE_MARKERS[measure] for measure in RATIO_MEASURES})
    )
    lightness = style.depth_colours()(np.linspace(0, 1, 20))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(lightness) > 0).all()
