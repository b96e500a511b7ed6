"""Pictures of reliability: readable, they draw what the table says, with gaps where it is null."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pruneviz.errors import FigureError
from pruneviz.plot.reliability_plot import draw_corrected, draw_reliability
from tests.support.readable import assert_readable

RUNS = ("vgg13-cifar100-unpruned-s0", "mobilenetv1-cifar100-unpruned-s0")


def reliabilities() -> pd.DataFrame:
    keys = [(m, r, e) for m in ("theta_g", "proposed") for r in RUNS for e in (0, 8, 16)]
    table = pd.DataFrame(keys, columns=["measure", "run", "epoch"])
    whole = np.linspace(0.2, 0.9, len(table))
    table = table.assign(whole=whole, whole_low=whole - 0.1, whole_high=whole + 0.05)
    return table.assign(whole=table["whole"].where(table.index != 1))


def test_reliability_has_a_line_for_each_measure_and_a_panel_for_each_run() -> None:
    table = reliabilities()
    figure = draw_reliability(table)
    assert_readable(figure)
    assert len(figure.axes) == 2
    line = figure.axes[0].lines[0]
    expected = table[(table["measure"] == "theta_g") & (table["run"] == RUNS[0])]["whole"]
    np.testing.assert_array_equal(line.get_ydata(), expected)
    assert np.isnan(line.get_ydata()[1]), "null is a gap"


def test_a_corrected_value_beyond_1_is_hollow_at_the_edge() -> None:
    table = pd.DataFrame({"epoch": [0, 1, 2], "r": [0.1, 0.2, 0.3], "cross": [0.1, 0.2, 0.2]})
    figure = draw_corrected(table.assign(corrected=[0.5, 1.4, np.nan]))
    assert_readable(figure)
    (axes,) = figure.axes
    corrected, hollow = axes.lines[2], axes.lines[3]
    np.testing.assert_array_equal(corrected.get_ydata(), [0.5, np.nan, np.nan])
    assert list(hollow.get_xdata()) == [1] and list(hollow.get_ydata()) == [1.0]
    assert hollow.get_markerfacecolor() == "none"


def test_a_table_without_epochs_is_refused() -> None:
    with pytest.raises(FigureError, match="no epochs; make it of recorded runs"):
        draw_reliability(pd.DataFrame({"measure": ["theta_g"], "whole": [0.5]}))
