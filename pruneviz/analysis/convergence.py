"""How fast runs converge: epochs to given accuracies, area under the curve, final accuracy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.checks import as_names, columns_of, require_columns
from pruneviz.analysis.over_runs import mean_over_runs, with_facts
from pruneviz.errors import AnalysisError, unknown_name
from pruneviz.log.arguments import as_tuple, is_number
from pruneviz.log.runs import Runs

BY = ("network", "dataset", "measure", "rounds")
SHARES = (0.5, 0.8, 0.9, 0.95)  # of the best final accuracy of a panel
QUANTITY = ["quantity", "share", "threshold"]

# Relative tolerance of thresholds: above the error of rounding hits / images to float32, below one
# image in a million. Without it, 0.8 of an accuracy of 175 / 200 would exceed 140 / 200.
_ROUNDING = 1e-6


def convergence(
    epochs: Runs | pd.DataFrame,
    spec: pd.DataFrame | None = None,
    accuracy: str = "test_acc",
    thresholds: float | Sequence[float] | None = None,
    by: str | Sequence[str] = BY,
    level: float = 0.95,
) -> pd.DataFrame:
    """Average how fast the runs of every group converge.

    Args:
        epochs: Runs; or their epochs table (`runs.epochs`).
        spec: One row per run (`runs.spec`), beside an epochs table.
        accuracy: Column of `epochs`, a fraction.
        thresholds: Accuracies as fractions. Default: `SHARES` of the best final accuracy in a
            panel. A panel is made of the runs that are equal in `by` except for the measure.
        by: Run facts to group by.
        level: Confidence level, between 0 and 1.

    Returns:
        One row per group and quantity, sorted: the `by` columns, quantity, share and threshold (see
        `convergence_by_run`), seeds (number of runs), reached (number of runs that reach the
        threshold), and their mean, sd, low and high (Student's t interval; of accuracies on the
        scale of their logit, so between 0 and 1, unless a value of the column is outside 0 to 1, as
        of percentages or a loss). sd, low and high are null for one value, mean also for none. If
        reached < seeds, the mean leaves out the slowest runs and is too small by an unknown amount.

    Raises:
        AnalysisError: As for `convergence_by_run`; if `level` is outside (0, 1).

    Example:
        >>> runs = pv.load("data/digits").select(rounds=5, prune_phase_only=False)
        >>> pv.convergence(runs, thresholds=[0.8])
    """
    by = as_names(by)
    runs = convergence_by_run(epochs, spec, accuracy, thresholds, by)
    keys = [*by, *QUANTITY]
    found = mean_over_runs(runs, keys, "value", level).rename(columns={"seeds": "reached"})
    # Accuracies and their mean over epochs are fractions, and so are the ends of their intervals.
    of_epochs = runs["quantity"] == "epochs_to"
    fractions = runs.assign(value=runs["value"].mask(of_epochs))
    if fractions["value"].dropna().between(0, 1).all():  # not so of percentages or of a loss
        inside = mean_over_runs(fractions, keys, "value", level, bounds=(0.0, 1.0))
        for end in ("low", "high"):
            found[end] = found[end].where(found["quantity"] == "epochs_to", inside[end])
    seeds = runs.groupby(keys, observed=True, dropna=False).size().rename("seeds").reset_index()
    return found.merge(seeds, on=keys)[[*keys, "seeds", "reached", "mean", "sd", "low", "high"]]


def convergence_by_run(
    epochs: Runs | pd.DataFrame,
    spec: pd.DataFrame | None = None,
    accuracy: str = "test_acc",
    thresholds: float | Sequence[float] | None = None,
    by: str | Sequence[str] = BY,
) -> pd.DataFrame:
    """Measure how fast every run converges, at the epochs at which all runs of a panel have it.

    Args:
        epochs: Runs; or their epochs table (`runs.epochs`).
        spec: One row per run (`runs.spec`), beside an epochs table.
        accuracy: Column of `epochs`, a fraction.
        thresholds: Accuracies as fractions. Default: `SHARES` of the best final accuracy in a
            panel. A panel is made of the runs that are equal in `by` except for the measure.
        by: Run facts.

    Returns:
        One row per run and quantity: run, seed, the `by` columns, quantity, share (of the panel's
        best final accuracy; null for given thresholds), threshold (fraction) and value. The
        quantities are

        - epochs_to: first epoch whose accuracy is at least `threshold`; null if there is none.
        - area: mean accuracy over the epochs, by the trapezoid rule.
        - final: accuracy at the last epoch.

    Raises:
        AnalysisError: If a column is missing; if there are no runs; if a threshold is not in
            (0, 1]; if a run has no accuracies; if accuracies in one panel span different epochs, so
            that their areas are not comparable.
    """
    by = as_names(by)
    thresholds = None if thresholds is None else as_tuple(thresholds)
    rows, given = _tables(epochs, spec)
    _check(rows, given, accuracy, thresholds, by)
    known = rows[["run", "epoch", accuracy]].dropna().sort_values(["run", "epoch"])
    curves = {str(run): curve for run, curve in known.groupby("run", observed=True)}
    named = pd.DataFrame({"run": rows["run"].astype(str).unique()})
    facts = with_facts(named, given, ["seed", *by])
    _check_curves(facts, curves, accuracy)
    facts = facts.assign(final=[float(curves[run][accuracy].iloc[-1]) for run in facts["run"]])
    parts = [_of_panel(panel, curves, accuracy, thresholds) for panel in _panels(facts, by)]
    return pd.concat(parts, ignore_index=True)[["run", "seed", *by, *QUANTITY, "value"]]


def leads(
    runs: pd.DataFrame, order: Sequence[str], by: str | Sequence[str] = BY, level: float = 0.95
) -> pd.DataFrame:
    """Lead of each measure over the next one in convergence, paired by seed.

    Args:
        runs: Result of `convergence_by_run` for the same `by`.
        order: Measures, from the supposedly fastest to the slowest.
        by: Run facts.
        level: Confidence level, between 0 and 1.

    Returns:
        One row per panel, pair of neighbours in `order` and quantity: the `by` columns except
        measure, ahead and behind (measures), quantity, share, threshold, pairs (number of seeds
        recorded for both measures), seeds (number of pairs with both values), and mean, sd, low and
        high (Student's t) of their lead. A lead is positive if `ahead` is better: fewer epochs,
        larger area, higher final accuracy. Pairs without a common seed are left out.

    Raises:
        AnalysisError: If `order` has fewer than two measures; if `level` is outside (0, 1).
    """
    if len(order) < 2:
        raise AnalysisError(
            f"order is {list(order)}; name two measures or more, the supposedly fastest first"
        )
    panel = [name for name in as_names(by) if name != "measure"]
    pairs = [leads_by_seed(runs, one, other, by) for one, other in itertools.pairwise(order)]
    both = pd.concat(pairs, ignore_index=True)
    groups = [*panel, "ahead", "behind", *QUANTITY]
    found = mean_over_runs(both, groups, "lead", level).drop(columns=["least", "most"])
    sizes = both.groupby(groups, observed=True, dropna=False).size().rename("pairs").reset_index()
    return found.merge(sizes, on=groups)[[*groups, "pairs", "seeds", "mean", "sd", "low", "high"]]


def leads_by_seed(
    runs: pd.DataFrame, ahead: str, behind: str, by: str | Sequence[str] = BY
) -> pd.DataFrame:
    """Lead of one measure over another in convergence, seed by seed.

    Args:
        runs: Result of `convergence_by_run` for the same `by`.
        ahead: The supposedly faster measure.
        behind: The other one.
        by: Run facts.

    Returns:
        One row per panel, seed that both have, and quantity: the columns of `runs` with the values
        of `ahead`, run_behind and value_behind, ahead, behind, and lead, positive if `ahead` is
        better: fewer epochs, larger area, higher final accuracy.
    """
    panel = [name for name in as_names(by) if name != "measure"]
    known = runs.dropna(subset=["seed"])
    one, other = (known[known["measure"] == measure] for measure in (ahead, behind))
    pairs = one.merge(other, on=["seed", *panel, *QUANTITY], suffixes=("", "_behind"))
    sign = np.where(pairs["quantity"] == "epochs_to", -1.0, 1.0)
    lead = sign * (pairs["value"] - pairs["value_behind"])
    return pairs.assign(ahead=ahead, behind=behind, lead=lead)


def _tables(
    epochs: Runs | pd.DataFrame, spec: pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    if isinstance(epochs, Runs):
        return epochs.epochs, epochs.spec if spec is None else spec
    if spec is None:
        raise AnalysisError("spec is missing; pass the runs alone, or runs.epochs and runs.spec")
    return epochs, spec


def _panels(facts: pd.DataFrame, by: list[str]) -> list[pd.DataFrame]:
    panel = [name for name in by if name != "measure"]
    if not panel:
        return [facts]
    return [rows for _, rows in facts.groupby(panel, observed=True, dropna=False)]


def _of_panel(
    panel: pd.DataFrame,
    curves: dict[str, pd.DataFrame],
    accuracy: str,
    thresholds: Sequence[float] | None,
) -> pd.DataFrame:
    _check_same_epochs({run: curves[run] for run in panel["run"]})
    best = float(panel["final"].max())
    levels: list[tuple[float, float]]
    if thresholds is None:
        levels = [(share, share * best) for share in SHARES]
    else:
        levels = [(np.nan, level) for level in sorted(thresholds)]
    mine = _on_common_epochs([curves[run] for run in panel["run"]])
    rows = [
        ("epochs_to", share, level, [_first(curve, accuracy, level) for curve in mine])
        for share, level in levels
    ]
    rows.append(("area", np.nan, np.nan, [_area(curve, accuracy) for curve in mine]))
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
    if len(epoch) < 2:
        return np.nan
    return float(np.trapezoid(curve[accuracy], epoch) / (epoch[-1] - epoch[0]))


def _check(
    epochs: pd.DataFrame,
    spec: pd.DataFrame,
    accuracy: str,
    thresholds: Sequence[float] | None,
    by: list[str],
) -> None:
    require_columns(epochs, ["run", "epoch"], "epochs", "pass the epochs table of a log")
    require_columns(spec, ["run", "seed"], "spec", "pass runs.spec, one row per run")
    if accuracy not in epochs.columns:
        raise AnalysisError(unknown_name("epochs column", accuracy, columns_of(epochs)))
    unknown = [name for name in by if name not in spec.columns]
    if unknown:
        raise AnalysisError(unknown_name("spec column", unknown[0], columns_of(spec)))
    if epochs.empty:
        raise AnalysisError("epochs has no rows; pass the epochs of one run or more")
    wrong = [level for level in thresholds or () if not (is_number(level) and 0 < level <= 1)]
    if wrong:
        raise AnalysisError(
            f"thresholds are {wrong}; give accuracies as fractions above 0 and up to 1, such as 0.5"
        )


def _check_curves(facts: pd.DataFrame, curves: dict[str, pd.DataFrame], accuracy: str) -> None:
    bare = [run for run in facts["run"] if run not in curves]
    if bare:
        raise AnalysisError(
            f"no epoch of {', '.join(bare)} has {accuracy}; leave these runs out, or record them "
            "with their accuracies"
        )


def _on_common_epochs(curves: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """The curves at the epochs that all have: one measured more often would arrive earlier."""
    common = set.intersection(*(set(curve["epoch"]) for curve in curves))
    return [curve[curve["epoch"].isin(common)] for curve in curves]


def _check_same_epochs(curves: dict[str, pd.DataFrame]) -> None:
    spans = {
        run: (int(curve["epoch"].iloc[0]), int(curve["epoch"].iloc[-1]))
        for run, curve in curves.items()
    }
    if len(set(spans.values())) > 1:
        told = "; ".join(f"{run}: {first} to {last}" for run, (first, last) in spans.items())
        raise AnalysisError(
            f"accuracies to compare span different epochs ({told}); compare runs of one schedule"
        )
