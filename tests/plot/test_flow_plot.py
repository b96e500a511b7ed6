"""Changes of filters against predictions: the numbers drawn, and what stands above them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import pruneviz as pv
from pruneviz.errors import FigureError
from pruneviz.log.flow_columns import FLOW
from pruneviz.plot.canvas import Picture
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_runs

LAYERS = ("stem", "features.0", "features.1")


def flow(runs: tuple[str, ...] = ("mine",), epochs: tuple[int, ...] = (1, 2, 4, 8)) -> pd.DataFrame:
    """A table of flow in which the change is 0.8 of the prediction, and some noise."""
    random = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [runs, epochs, LAYERS, range(6)], names=["run", "epoch", "layer", "filter"]
    )
    table = index.to_frame(index=False)
    x = random.normal(size=len(table)) * 1e-3
    return table.assign(
        steps=10, sample_steps=0, momentum=x, change=0.8 * x + 1e-5 * random.normal(size=len(table))
    ).reindex(columns=list(FLOW))


def test_points_are_filters_and_the_fit_is_that_of_flow_table() -> None:
    table = pv.plot.flow.table(flow())
    assert sorted(set(table["epoch"])) == [1, 4, 8]  # the first, the middle one and the last
    assert table.groupby("layer")["depth"].first().to_dict() == dict(
        zip(LAYERS, (1, 2, 3), strict=True)
    )
    fit = pv.flow_table(flow(), by="epoch").set_index("epoch")
    for epoch, rows in table.groupby("epoch"):
        for name in ("slope", "r2", "explained"):
            assert set(rows[name]) == {fit.loc[epoch, name]}
    one = flow().query("epoch == 4")
    assert np.array_equal(table.query("epoch == 4")["predicted"], one["momentum"])
    assert np.array_equal(table.query("epoch == 4")["change"], one["change"])


def test_by_layer_there_is_a_fit_for_every_layer_and_epoch() -> None:
    table = pv.plot.flow.table(flow(), by="layer", epochs=[1, -1])
    want = pv.flow_table(flow(), by=["epoch", "layer"]).query("epoch in (1, 8)")
    assert len(table) == 6
    merged = table.merge(want, on=["epoch", "layer"])
    assert np.array_equal(merged["slope_x"], merged["slope_y"])
    picture = pv.plot.flow(flow(), by="layer")
    assert_readable(picture)
    slopes = picture.axes[0].lines[0].get_ydata()
    assert np.allclose(slopes, want.query("epoch == 1").set_index("layer")["slope"].loc[[*LAYERS]])


@pytest.mark.parametrize("runs", [("mine",), ("mine", "other"), ("",)])
@pytest.mark.parametrize("by", ["filter", "layer"])
def test_runs_and_epochs_have_panels_of_their_own(runs: tuple[str, ...], by: str) -> None:
    picture = pv.plot.flow(flow(runs), by=by)
    assert isinstance(picture, Picture)
    panels = [axes for axes in picture.axes if axes.has_data() and axes.get_label() != "<colorbar>"]
    assert len(panels) == len(runs) * (3 if by == "filter" else 2)
    assert_readable(picture)


def test_the_heading_says_what_the_identity_explains() -> None:
    axes = pv.plot.flow(flow(), epochs=1).axes[0]
    (words,) = [text.get_text() for text in axes.texts]
    assert words == "slope 0.81, R² 1.00\ny = x explains 0.93"
    wrong = flow().assign(momentum=lambda of: -of["momentum"])
    assert "y = x explains nothing" in pv.plot.flow(wrong, epochs=1).axes[0].texts[0].get_text()
    few = flow(epochs=(1,)).query("filter == 0 and layer == 'stem'")
    assert pv.plot.flow(few).axes[0].texts[0].get_text() == "no line through 1 points"


def test_one_panel_is_drawn_into_given_axes() -> None:
    ax = Figure().subplots()
    assert pv.plot.flow(flow(), epochs=8, ax=ax) is ax
    with pytest.raises(FigureError, match=r"choose one with epochs and runs"):
        pv.plot.flow(flow(), ax=ax)


def test_what_is_not_there_is_an_error_that_says_what_is() -> None:
    for options, said in [
        ({"prediction": "flaw"}, "'flaw'.*flow"),
        ({"prediction": "curvature"}, "no run has the flow prediction 'curvature'"),
        ({"by": "epoch"}, "by='epoch'; choose"),
        ({"epochs": 3}, "epoch 3 holds none.* 1, 2, 4"),
        ({"runs": "yours"}, "'yours'.*mine"),
        ({"runs": {"seed": 0}}, "no facts of its runs"),
    ]:
        with pytest.raises(FigureError, match=said):
            pv.plot.flow(flow(), **options)
    with pytest.raises(FigureError, match=r"pruneviz record --flow"):
        pv.plot.flow(make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), epochs=1))
