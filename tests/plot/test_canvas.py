"""Figures that a notebook shows, and given axes."""

from __future__ import annotations

import matplotlib
import pytest
from matplotlib.figure import Figure

from pruneviz.errors import FigureError
from pruneviz.plot.canvas import one_panel, picture


def test_a_notebook_shows_a_picture_and_nothing_global_moves() -> None:
    before = dict(matplotlib.rcParams)
    found = picture(3, 2)
    found.subplots().plot([1, 2])
    assert found._repr_png_().startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before


def test_given_axes_hold_one_panel() -> None:
    axes = Figure().subplots()
    one_panel(axes, 1, "epoch 0", "choose one")
    with pytest.raises(FigureError, match="has 2: epochs 0 and 4; choose one"):
        one_panel(axes, 2, "epochs 0 and 4", "choose one with epochs=0")
