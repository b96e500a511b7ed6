"""Slope and R^2 of changes in training against what gradient flow predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from pruneviz.analysis.checks import as_names, require_columns
from pruneviz.errors import AnalysisError, unknown_name
from pruneviz.log.flow_columns import PREDICTIONS, product, square
from pruneviz.log.runs import Runs

Over: TypeAlias = Literal["epoch", "step"]

SAMPLE = "sample"  # made of other columns, see `_of_sample`
KNOWN = (*PREDICTIONS, SAMPLE)  # predictions of `flow_table`
_PARTS = ("sample_flow", "decay", "second", "memory")

_KEYS = ("run", "epoch", "layer", "filter")
_LEAST = 3  # pairs


def flow_table(
    source: Runs | pd.DataFrame,
    prediction: str = "momentum",
    *,
    by: str | Sequence[str] = ("run", "epoch", "layer"),
    over: Over = "epoch",
) -> pd.DataFrame:
    """Slope and R^2 of the change of norm(theta_p)^2 in training against its prediction.

    Args:
        source: Runs with flow (`pruneviz record --flow`), or the table of a `pruneviz.FlowMeter`.
        prediction: What predicts the change, per step with effective learning rate η and weight
            decay λ:

            - "flow": gradient flow alone, -2 η θ^T g, on the mini-batch.
            - "gradient": an Euler step, -2 η θ^T d + η² norm(d)² with d = g + λ θ. Exact for SGD
              without momentum.
            - "momentum" (default): the same for the iterate that momentum averages, which adds what
              d has in common with earlier steps, and its jumps where rates change. Exact for it;
              over many steps also for θ. Without momentum it is "gradient".
            - "update": 2 θ^T s + norm(s)² of the step s that the optimiser's buffer says. Exact for
              SGD; it checks the books.
            - "sample": as "momentum", with θ^T g on the measurement sample; over epochs only, from
              the mean over the steps at which the sample was measured.
            - "curvature": of the change of θ^T g on the sample, -(g^T v + θ^T H v) with v = η d and
              d on the sample: gradient flow, exact to the second order in the step.
            - "displacement": the same along the step that was taken; for any optimiser.
        by: Columns of one regression: of "run", "epoch", "layer" and "filter"; facts of runs too.
            [] is one regression over all rows.
        over: What one point of the regression is: "epoch", a filter with the sums over the metered
            steps of an epoch; or "step", a filter at a step.

    Returns:
        One row per group, sorted: `by`; n (number of points); slope of the least-squares line of
        the change against the prediction, and its r2; explained, the share of the variance of the
        change that the prediction itself leaves no residual of, 1 - mean((change - predicted)²) /
        var(change), which is 1 only on the identity and may be negative; and change_rms and
        predicted_rms (roots of mean squares, in weight², or nats for changes of θ^T g). Null below
        3 points and where nothing varies.

    Raises:
        AnalysisError: If an argument is unknown, or no run has what is asked.

    Example:
        >>> pv.flow_table(pv.load("data/mine"), by=["run", "epoch"])
    """
    if prediction not in KNOWN:
        raise AnalysisError(unknown_name("prediction", prediction, KNOWN))
    if over not in ("epoch", "step"):
        raise AnalysisError(f"over={over!r}; choose 'epoch' or 'step'")
    if prediction == SAMPLE and over == "step":
        raise AnalysisError(
            "the sample is measured at few steps, and its prediction is of whole epochs; "
            "pass over='epoch'"
        )
    groups = as_names(by)
    rows = flow_rows(source, prediction, groups)
    sums = _sums(rows, prediction, over)
    if not groups:
        return _regressions(sums.sum().to_frame().T)
    totals = sums.groupby([rows[name] for name in groups], observed=True).sum()
    return _regressions(totals).reset_index()


def flow_rows(
    source: Runs | pd.DataFrame, prediction: str, facts: Sequence[str] = ()
) -> pd.DataFrame:
    """The rows of the table `flow` that have a prediction, with facts of their runs.

    The prediction is in the column of its name, and its change in `change_of(prediction)`.

    Raises:
        AnalysisError: If there are none; says how to record them.
    """
    if not isinstance(source, Runs | pd.DataFrame):
        raise AnalysisError(
            f"flow is in runs or the table of a FlowMeter, not {type(source).__name__}; pass what "
            "pruneviz.load returns, or meter.table"
        )
    rows = source if isinstance(source, pd.DataFrame) else source.flow
    change = change_of(prediction)
    held = _PARTS if prediction == SAMPLE else (prediction,)
    steps = PREDICTIONS[_of(prediction)].steps
    require_columns(rows, [*_KEYS[1:], *held, change, steps], "the table of flow", _REPAIR)
    measured = rows[rows[steps] > 0]
    if len(measured) and measured[change].isna().all():
        raise AnalysisError(
            f"the flow of all {measured['epoch'].nunique()} epochs with steps is not finite: "
            "training has diverged; lower the learning rate"
        )
    rows = rows.dropna(subset=[*held, change])
    if prediction == SAMPLE:
        rows = rows.assign(sample=_of_sample(rows))
    if isinstance(source, Runs):
        known = source.spec.set_index("run")
        more = [name for name in facts if name not in rows and name in known]
        runs = rows["run"].astype("str")
        rows = rows.assign(**{name: runs.map(known[name]) for name in more})
    require_columns(rows, facts, "the table of flow", "choose among these, or facts of the runs")
    if rows.empty:
        raise AnalysisError(f"no run has the flow prediction {prediction!r}; {_REPAIR}")
    return rows


def change_of(prediction: str) -> str:
    """The column of the change that a prediction is compared with."""
    return PREDICTIONS[_of(prediction)].change


def _of(prediction: str) -> str:
    """The prediction whose change and steps one has."""
    return "flow" if prediction == SAMPLE else prediction


def _of_sample(rows: pd.DataFrame) -> pd.Series:
    """Predicted change over the metered steps, with theta^T g of the sample at some of them."""
    of_all = rows["steps"] / rows["sample_steps"]
    return of_all * rows["sample_flow"] + rows["decay"] + rows["second"] + rows["memory"]


_REPAIR = (
    "record it with pruneviz record --flow, or a pruneviz.FlowMeter beside the recorder (`sample`, "
    "`curvature` and `displacement` need sample_every; all but `flow` and `displacement` need SGD)"
)


def _sums(rows: pd.DataFrame, prediction: str, over: Over) -> pd.DataFrame:
    """n and sums of x (predicted), y (change), their squares and product, one row per row."""
    change = change_of(prediction)
    x, y = rows[prediction].astype("float64"), rows[change].astype("float64")
    if over == "epoch":
        return pd.DataFrame({"n": 1, "x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y})
    return pd.DataFrame(
        {
            "n": rows[PREDICTIONS[prediction].steps],
            "x": x,
            "y": y,
            "xx": rows[square(prediction)],
            "yy": rows[square(change)],
            "xy": rows[product(prediction)],
        }
    )


def _regressions(of: pd.DataFrame) -> pd.DataFrame:
    """Regressions from sums: n, slope, r2, explained, change_rms and predicted_rms."""
    n = of["n"].astype("float64")
    sxx, syy = of["xx"] - of["x"] ** 2 / n, of["yy"] - of["y"] ** 2 / n
    sxy = of["xy"] - of["x"] * of["y"] / n
    # a spread below the rounding of its sums is none
    tiny = 64 * np.finfo("float64").eps
    defined = (n >= _LEAST) & (sxx > tiny * of["xx"]) & (syy > tiny * of["yy"])
    sxx, syy = sxx.where(defined), syy.where(defined)
    residual = (of["yy"] - 2 * of["xy"] + of["xx"]).clip(lower=0)
    return pd.DataFrame(
        {
            "n": of["n"].astype("int64"),
            "slope": sxy / sxx,
            "r2": (sxy**2 / (sxx * syy)).clip(upper=1),
            "explained": 1 - residual / syy,
            "change_rms": np.sqrt(of["yy"] / n),
            "predicted_rms": np.sqrt(of["xx"] / n),
        }
    )
