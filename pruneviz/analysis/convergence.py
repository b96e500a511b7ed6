"""How fast runs converge: epochs to given accuracies, area under the accuracy curve, final accuracy, with intervals over seeds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.over_runs import mean_over_runs, with_facts
from pruneviz.errors import AnalysisError

BY = ("network", "dataset", "measure", "rounds")
SHARES = (0.5, 0.8, 0.9, 0.95)  # of the best final accuracy of a panel
QUANTITY = ["quantity", "share", "threshold"]

# Part of a threshold that an accuracy may lack and still meet it: above what rounding to float32 takes from a number of hits over a number
# of images, below what one image is of a million. Else 140 of 200 images would not be 80 % of 175.
_ROUNDING = 1e-6


def convergence(
    epochs: pd.DataFrame,
    spec: pd.DataFrame,
    accuracy: str = "test_acc",
    thresholds: Sequence[float] | None = None,
    by: Sequence[str] = BY,
    level: float = 0.95,
) -> pd.DataFrame:
    """Convergence numbers of every group of runs: means over runs with confidence intervals.

    Args: those of `convergence_by_run`, and `level`, of confidence.
    Returns: one row per group and quantity, sorted: the columns of `by`, quantity, share, threshold (see `convergence_by_run`), seeds
    (runs of the group), reached (runs with a value: of a threshold those that ever reach it), and over these mean, sd, low and
    high (Student's t interval of the mean). A mean over fewer runs than there are (reached < seeds) leaves the slowest out: it is too
    small, and by how much is not known. sd, low and high are null for one value, mean too for none.
    Errors: `AnalysisError`, those of `convergence_by_run`, and for a level outside (0, 1).
    """
    runs = convergence_by_run(epochs, spec, accuracy, thresholds, by)
    keys = [*by, *QUANTITY]
    found = mean_over_runs(runs, keys, "value", level).rename(columns={"seeds": "reached"})
    seeds = runs.groupby(keys, observed=True, dropna=False).size().rename("seeds").reset_index()
    return found.merge(seeds, on=keys)[[*keys, "seeds", "reached", "mean", "sd", "low", "high"]]


def convergence_by_run(
    epochs: pd.DataFrame,
    spec: pd.DataFrame,
    accuracy: str = "test_acc",
    thresholds: Sequence[float] | None = None,
    by: Sequence[str] = BY,
) -> pd.DataFrame:
    """Convergence numbers of every run.

    Args: `epochs` and `spec`, tables of the log; `accuracy`, a column of `epochs`, as a fraction; `thresholds`, accuracies as fractions
    or, by default, `SHARES` of the best final accuracy that any run of the same panel has; a panel is what is equal in `by` but for the
    measure; `by`, facts of the runs.
    Returns: one row per run and quantity: run, seed, the columns of `by`, quantity, share (of the panel's best final accuracy; null for
    given thresholds), threshold (fraction) and value. The quantities are `epochs_to`, the first epoch whose accuracy is at least
    `threshold`, null where there is none (never the last epoch in its stead); `area`, the mean accuracy over the epochs by the
    trapezoid rule; `final`, the accuracy of the last epoch. Epochs without an accuracy are passed over.
    Errors: `AnalysisError` for absent columns, no runs, thresholds outside (0, 1], runs without accuracies, and runs of one panel whose
    accuracies span different epochs, for their areas could not be compared.
    """
    by = list(by)
    _check(epochs, spec, accuracy, thresholds, by)
    known = epochs[["run", "epoch", accuracy]].dropna().sort_values(["run", "epoch"])
    curves = {str(run): rows for run, rows in known.groupby("run", observed=True)}
    facts = with_facts(
        pd.DataFrame({"run": epochs["run"].astype(str).unique()}), spec, ["seed", *by]
    )
    _check_curves(facts, curves, accuracy)
    facts = facts.assign(final=[float(curves[run][accuracy].iloc[-1]) for run in facts["run"]])
    parts = [_of_panel(panel, curves, accuracy, thresholds) for panel in _panels(facts, by)]
    return pd.concat(parts, ignore_index=True)[["run", "seed", *by, *QUANTITY, "value"]]


def leads(
    runs: pd.DataFrame, order: Sequence[str], by: Sequence[str] = BY, level: float = 0.95
) -> pd.DataFrame:
    """By how much each measure converges faster than the next one of `order`, seed by seed.

    Args: `runs`, what `convergence_by_run` returned for the same `by`; `order`, measures, the one said to be fastest first; `level`.
    Returns: one row per panel, pair of neighbours in `order` and quantity: the columns of `by` but measure, ahead, behind (measures),
    quantity, share, threshold, pairs (seeds of which both measures are recorded), seeds (of these the ones with both values), and over
    these the mean, sd, low and high (Student's t) of the lead. A lead is positive where `ahead` is the better one: fewer
    epochs, a larger area, a higher final accuracy. Pairs that share no seed are left out.
    Errors: `AnalysisError` for an order of fewer than two measures, and for a level outside (0, 1).
    """
    if len(order) < 2:
        raise AnalysisError(
            f"order is {list(order)}; name two measures or more, the one said to be fastest first"
        )
    panel = [name for name in by if name != "measure"]
    keys = ["seed", *panel, *QUANTITY]
    known = runs.dropna(subset=["seed"])
    parts = []
    for ahead, behind in itertools.pairwise(order):
        one, other = (known[known["measure"] == measure] for measure in (ahead, behind))
        pairs = one.merge(other, on=keys, suffixes=("", "_behind"))
        sign = np.where(pairs["quantity"] == "epochs_to", -1.0, 1.0)
        parts.append(
            pairs.assign(
                ahead=ahead, behind=behind, lead=sign * (pairs["value"] - pairs["value_behind"])
            )
        )
    both = pd.concat(parts, ignore_index=True)
    groups = [*panel, "ahead", "behind", *QUANTITY]
    found = mean_over_runs(both, groups, "lead", level).drop(columns=["least", "most"])
    pairs = both.groupby(groups, observed=True, dropna=False).size().rename("pairs").reset_index()
    return found.merge(pairs, on=groups)[[*groups, "pairs", "seeds", "mean", "sd", "low", "high"]]


def _panels(facts: pd.DataFrame, by: list[str]) -> list[pd.DataFrame]:
    panel = [name for name in by if name != "measure"]
    return (
        [rows for _, rows in facts.groupby(panel, observed=True, dropna=False)]
        if panel
        else [facts]
    )


def _of_panel(
    panel: pd.DataFrame,
    curves: dict[str, pd.DataFrame],
    accuracy: str,
    thresholds: Sequence[float] | None,
) -> pd.DataFrame:
    _check_same_epochs({run: curves[run] for run in panel["run"]})
    best = float(panel["final"].max())
    levels = (
        [(share, share * best) for share in SHARES]
        if thresholds is None
        else [(np.nan, level) for level in sorted(thresholds)]
    )
    rows = [
        ("epochs_to", share, level, [_first(curves[run], accuracy, level) for run in panel["run"]])
        for share, level in levels
    ]
    rows.append(("area", np.nan, np.nan, [_area(curves[run], accuracy) for run in panel["run"]]))
    rows.append(("final", np.nan, np.nan, panel["final"].tolist()))
    parts = [
        panel.assign(quantity=name, share=share, threshold=level, value=values)
        for name, share, level, values in rows
    ]
    return pd.concat(parts, ignore_index=True)


def _first(curve: pd.DataFrame, accuracy: str, threshold: float) -> float:
    reached = curve.loc[curve[accuracy] >= threshold * (1 - _ROUNDING), "epoch"]
    return float(reached.iloc[0]) if len(reached) else np.nan


def _area(curve: pd.DataFrame, accuracy: str) -> float:
    epoch = curve["epoch"].to_numpy(dtype=float)
    return (
        float(np.trapezoid(curve[accuracy], epoch) / (epoch[-1] - epoch[0]))
        if len(epoch) > 1
        else np.nan
    )


def _check(
    epochs: pd.DataFrame,
    spec: pd.DataFrame,
    accuracy: str,
    thresholds: Sequence[float] | None,
    by: list[str],
) -> None:
    needed = {"epochs": (epochs, ["run", "epoch", accuracy]), "spec": (spec, ["run", "seed", *by])}
    for name, (table, columns) in needed.items():
        missing = [column for column in columns if column not in table.columns]
        if missing:
            had = ", ".join(map(str, table.columns))
            raise AnalysisError(
                f"{name} has no column {', '.join(missing)}; it has [{had}]; pass the tables of one load, and by of spec"
            )
    if epochs.empty:
        raise AnalysisError(
            "epochs has no rows, so nothing converges; pass the epochs of one run or more"
        )
    wrong = [level for level in thresholds or () if not 0 < level <= 1]
    if wrong:
        raise AnalysisError(
            f"thresholds are {wrong}; give accuracies as fractions above 0 and up to 1, such as 0.5"
        )


def _check_curves(facts: pd.DataFrame, curves: dict[str, pd.DataFrame], accuracy: str) -> None:
    bare = [run for run in facts["run"] if run not in curves]
    if bare:
        raise AnalysisError(
            f"no epoch of {', '.join(bare)} has {accuracy}; leave these runs out, or record them with their accuracies"
        )


def _check_same_epochs(curves: dict[str, pd.DataFrame]) -> None:
    spans = {
        run: (int(curve["epoch"].iloc[0]), int(curve["epoch"].iloc[-1]))
        for run, curve in curves.items()
    }
    if len(set(spans.values())) > 1:
        told = "; ".join(f"{run}: {first} to {last}" for run, (first, last) in spans.items())
        raise AnalysisError(
            f"accuracies to be compared span different epochs ({told}); compare runs of one schedule"
        )
