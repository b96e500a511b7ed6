"""Slope and R^2 of changes against predictions, from sums alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.errors import AnalysisError
from pruneviz.log.flow_columns import FLOW, PREDICTIONS, product, square
from tests.support.synthetic_runs import SMALL, make_runs

STEPS, FILTERS = 7, 5


def points(seed: int = 0) -> pd.DataFrame:
    """A change and a prediction of every step, filter, layer, epoch and run."""
    random = np.random.default_rng(seed)
    keys = pd.MultiIndex.from_product(
        [("a", "b"), (1, 2), ("one", "two"), range(FILTERS), range(STEPS)],
        names=["run", "epoch", "layer", "filter", "step"],
    ).to_frame(index=False)
    x = random.normal(size=len(keys)) * 1e-6 + 3e-7
    return keys.assign(x=x, y=0.8 * x + 1e-7 * random.normal(size=len(keys)))


def as_flow(of: pd.DataFrame, prediction: str = "momentum") -> pd.DataFrame:
    """The table of flow that a meter makes of these points."""
    change, steps = PREDICTIONS[prediction].change, PREDICTIONS[prediction].steps
    sums = of.assign(
        **{
            steps: 1,
            change: of["y"],
            square(change): of["y"] ** 2,
            prediction: of["x"],
            square(prediction): of["x"] ** 2,
            product(prediction): of["x"] * of["y"],
        }
    )
    table = sums.groupby(["run", "epoch", "layer", "filter"]).sum().reset_index()
    return table.reindex(columns=list(FLOW))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("by", [["run", "epoch", "layer"], ["layer"], ["epoch", "run"]])
@pytest.mark.parametrize("over", ["step", "epoch"])
def test_regressions_agree_with_polyfit_over_the_points(
    prediction: str, by: list[str], over: str
) -> None:
    every = points()
    found = pv.flow_table(as_flow(every, prediction), prediction, by=by, over=over)
    if over == "epoch":
        keys = ["run", "epoch", "layer", "filter"]
        every = every.groupby(keys)[["x", "y"]].sum().reset_index()
    groups = every.groupby(by)
    assert list(map(tuple, found[by].to_numpy())) == [
        key if isinstance(key, tuple) else (key,) for key, _ in groups
    ]
    for (_, rows), row in zip(groups, found.to_dict("records"), strict=True):
        slope, _ = np.polyfit(rows["x"], rows["y"], 1)
        assert row["n"] == len(rows)
        assert row["slope"] == pytest.approx(slope, rel=1e-9)
        assert row["r2"] == pytest.approx(np.corrcoef(rows["x"], rows["y"])[0, 1] ** 2, rel=1e-9)
        residual = ((rows["y"] - rows["x"]) ** 2).mean() / rows["y"].var(ddof=0)
        assert row["explained"] == pytest.approx(1 - residual, rel=1e-9)
        assert row["change_rms"] == pytest.approx((rows["y"] ** 2).mean() ** 0.5, rel=1e-9)
        assert row["predicted_rms"] == pytest.approx((rows["x"] ** 2).mean() ** 0.5, rel=1e-9)


def test_an_identity_is_told_from_a_line() -> None:
    every = points().assign(y=lambda of: 2 * of["x"] + 1e-6)
    row = pv.flow_table(as_flow(every), by="layer", over="step").iloc[0]
    assert row["slope"] == pytest.approx(2)
    assert row["r2"] == pytest.approx(1)
    assert row["explained"] < 0.5
    same = every.assign(y=every["x"])
    assert pv.flow_table(as_flow(same), by="layer")["explained"].to_numpy() == pytest.approx(1)


def test_nothing_is_said_of_too_few_points_or_of_what_does_not_vary() -> None:
    few = as_flow(points().query("filter < 2"))
    found = pv.flow_table(few)
    assert found[["slope", "r2", "explained"]].isna().all(axis=None)
    assert (found["n"] == 2).all()
    constant = as_flow(points().assign(x=1e-7))
    assert pv.flow_table(constant, over="step")["slope"].isna().all()


def test_a_wrong_question_names_what_there_is() -> None:
    flow = as_flow(points())
    with pytest.raises(AnalysisError, match=r"'gradiant'.*gradient"):
        pv.flow_table(flow, "gradiant")
    with pytest.raises(AnalysisError, match=r"over='steps'; choose"):
        pv.flow_table(flow, over="steps")
    with pytest.raises(AnalysisError, match=r"no run has the flow prediction 'sample'"):
        pv.flow_table(flow, "sample")
    with pytest.raises(AnalysisError, match=r"of whole epochs; pass over='epoch'"):
        pv.flow_table(flow, "sample", over="step")
    with pytest.raises(AnalysisError, match=r"has no column network"):
        pv.flow_table(flow, by="network")
    with pytest.raises(AnalysisError, match=r"not int"):
        pv.flow_table(3)
    with pytest.raises(AnalysisError, match=r"pruneviz record --flow"):
        pv.flow_table(make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), epochs=1))


def test_no_groups_are_one_regression_over_all_rows() -> None:
    flow = as_flow(points())
    found = pv.flow_table(flow, by=[])
    same = pv.flow_table(flow.assign(layer="one"), by="layer").drop(columns="layer")
    pd.testing.assert_frame_equal(found, same)


def test_training_that_diverged_is_told_from_no_recording() -> None:
    flow = as_flow(points())
    with pytest.raises(AnalysisError, match=r"all 2 epochs with steps is not finite"):
        pv.flow_table(flow.assign(change=np.nan, momentum=np.nan))


def test_the_sample_counts_for_all_steps_of_an_epoch() -> None:
    flow = as_flow(points()).assign(
        sample_steps=2, sample_flow=lambda of: 2 / STEPS * of["momentum"], decay=1.0, second=2.0
    )
    found = pv.flow_table(flow.assign(memory=-3.0), "sample")
    pd.testing.assert_frame_equal(found, pv.flow_table(flow))
