"""Numbers of the figures in plain pandas, from the files of recordings alone, without pruneviz.

`recorded` lists runs and `read` reads their tables. A function per kind of figure returns the
tables that its CSV files should hold, by the ends of their names.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tests.support.plain_statistics import (
    effective_number,
    interval_over_seeds,
    symmetric_log,
)

Facts = dict[str, Any]

# In the order of the claim, the fastest first.
CURVE_MEASURES = ("magnitude", "proposed", "loss_preservation")
RATIO_MEASURES = (
    "magnitude",
    "loss_preservation",
    "proposed",
    "grasp_t200",
    "grasp",
    "gradient_norm_preservation",
)
CLEAR = ["theta_g_clear"]
SHARES = ("0.5", "0.8", "0.9", "0.95")
ERRORS = ("theta_g_se", "theta_g_se_iid", "theta_hg_se_given_g", "theta_hg_se_given_g_iid")
# columns of standard errors before schema 3, under their names since
OLDER = {"theta_g_se": "theta_g_se_iid", "theta_hg_se": "theta_hg_se_given_g_iid"}


def recorded(folder: Path) -> list[Facts]:
    """`spec.json` of every run in a folder, with the run's `path` and `kind`; sorted by seed."""
    runs = []
    for file in folder.glob("*/spec.json"):
        run = json.loads(file.read_text(encoding="utf-8"))
        runs.append({**run, "path": file.parent, "kind": _kind(run)})
    return sorted(runs, key=lambda run: (run["seed"], run["run"]))


def _kind(run: Facts) -> str:
    if run["rounds"]:
        return "prune_phase" if run["prune_phase_only"] else "pruned"
    return "weights" if run["unit"] == "weight" else "unpruned"


def of(runs: Sequence[Facts], **facts: object) -> list[Facts]:
    """The runs that have these facts."""
    return [run for run in runs if all(run[name] == value for name, value in facts.items())]


@functools.lru_cache(maxsize=32)
def _read(path: Path, table: str) -> pd.DataFrame:
    rows = pd.read_parquet(path / f"{table}.parquet")
    is_older = table == "filters" and "theta_g_se_iid" not in rows
    return rows.rename(columns=OLDER) if is_older else rows


def read(run: Facts, table: str) -> pd.DataFrame:
    """Read a table of a run from its Parquet file."""
    return _read(run["path"], table).copy()


def at(run: Facts, epoch: int) -> pd.DataFrame:
    """Rows of a run's filters table at an epoch, in file order."""
    filters = _read(run["path"], "filters")
    return filters[filters["epoch"] == epoch]


def mean_sd_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation and 95 % interval (Student's t) of one value per run."""
    mean = float(np.mean(values)) if len(values) else np.nan
    if len(values) < 2:
        return {"mean": mean, "sd": np.nan, "low": np.nan, "high": np.nan}
    sd = float(np.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1)))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / len(values) ** 0.5
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}


def _with_sd(name: str, values: Sequence[float]) -> dict[str, float]:
    found = mean_sd_interval(values)
    return {name: found["mean"], f"{name}_sd": found["sd"]}


# Accuracy curves


def accuracy_tables(runs: Sequence[Facts], network: str, rounds: int) -> dict[str, pd.DataFrame]:
    """Figures 1 and 4-12: the curves, the convergence numbers and the leads."""
    panel = of(runs, kind="pruned", network=network, rounds=rounds)
    by_measure = {measure: of(panel, measure=measure) for measure in CURVE_MEASURES}
    numbers = {run["run"]: _convergence_of(run, panel) for run in panel}
    ends = _ends(of(runs, kind="pruned", network=network))
    curves, convergence, leads = [], [], []
    for measure in CURVE_MEASURES:
        curves += [{**row, **ends} for row in _curve(by_measure[measure])]
        convergence += _convergence(by_measure[measure], numbers)
    for ahead, behind in itertools.pairwise(CURVE_MEASURES):
        leads += _leads(by_measure[ahead], by_measure[behind], numbers)
    return {
        "": pd.DataFrame(curves),
        "_convergence": pd.DataFrame(convergence),
        "_leads": pd.DataFrame(leads),
    }


def _curve(runs: Sequence[Facts]) -> list[Facts]:
    tables = [read(run, "epochs").set_index("epoch") for run in runs]
    pruned = {epoch for run in runs for epoch in read(run, "rounds")["epoch"]}
    facts = ("network", "dataset", "rounds", "target", "measure", "augment")
    keys = {name: runs[0][name] for name in facts}
    rows = []
    for epoch in range(runs[0]["epochs"] + 1):
        at_epoch = {
            name: [table.loc[epoch, name] for table in tables]
            for name in ("train_acc", "test_acc", "kept_fraction")
        }
        rows.append(
            {
                **keys,
                "epoch": epoch,
                "seeds": len(runs),
                **_with_sd("train_acc", at_epoch["train_acc"]),
                **_with_sd("test_acc", at_epoch["test_acc"]),
                "kept_fraction": np.mean(at_epoch["kept_fraction"]),
                "pruned": epoch in pruned,
                **_single_runs(at_epoch),
            }
        )
    return rows


def _single_runs(at_epoch: dict[str, list[float]]) -> dict[str, float]:
    """The accuracies of each of a few seeds; of one seed they are the mean."""
    if len(at_epoch["test_acc"]) == 1:
        return {}
    return {
        f"{name}_run{number}": value
        for name in ("train_acc", "test_acc")
        for number, value in enumerate(at_epoch[name], start=1)
    }


def _ends(runs: Sequence[Facts]) -> dict[str, float]:
    """The least and greatest accuracies of a network in any number of rounds."""
    epochs = pd.concat([read(run, "epochs") for run in runs])
    return {
        f"{name}_{end}": getattr(epochs[name], how)()
        for name in ("train_acc", "test_acc")
        for end, how in (("least", "min"), ("most", "max"))
    }


def _convergence_of(run: Facts, panel: Sequence[Facts]) -> dict[tuple[str, str, float], float]:
    """Convergence numbers of a run: {(quantity, share, threshold): value}."""
    accuracies = read(run, "epochs")["test_acc"].tolist()
    steps = [(one + other) / 2 for one, other in itertools.pairwise(accuracies)]
    best = max(read(other, "epochs")["test_acc"].iloc[-1] for other in panel)
    found = {("area", "", np.nan): sum(steps) / (len(accuracies) - 1)}
    for share in SHARES:
        first = _first(accuracies, Fraction(share) * _exact(best))
        found["epochs_to", share, float(share) * best] = first
    found["final", "", np.nan] = accuracies[-1]
    return found


def _exact(accuracy: float) -> Fraction:
    """The fraction of some hundred test images that an accuracy, rounded on disk, stands for."""
    return Fraction(accuracy).limit_denominator(1000)


def _first(accuracies: Sequence[float], threshold: Fraction) -> float:
    """First epoch whose accuracy reaches the threshold."""
    for epoch, accuracy in enumerate(accuracies):
        if _exact(accuracy) >= threshold:
            return float(epoch)
    return np.nan


def _convergence(
    runs: Sequence[Facts], numbers: dict[str, dict[tuple[str, str, float], float]]
) -> list[Facts]:
    keys = {name: runs[0][name] for name in ("network", "dataset", "measure", "rounds")}
    rows = []
    for quantity, share, threshold in numbers[runs[0]["run"]]:
        every = [_value(numbers[run["run"]], quantity, share) for run in runs]
        known = [value for value in every if not np.isnan(value)]
        what = {"quantity": quantity, "share": share, "threshold": threshold}
        rows.append(
            {
                **keys,
                **what,
                "seeds": len(every),
                "reached": len(known),
                **_numbers_of(known, quantity),
            }
        )
    return rows


def _numbers_of(known: Sequence[float], quantity: str) -> dict[str, float]:
    """Mean, deviation and interval; of accuracies the interval of their logit, within 0 and 1."""
    found = mean_sd_interval(known)
    if quantity != "epochs_to" and len(known) > 1 and min(known) > 0 and max(known) < 1:
        of_logit = mean_sd_interval([float(np.log(a / (1 - a))) for a in known])
        found |= {end: float(1 / (1 + np.exp(-of_logit[end]))) for end in ("low", "high")}
    return found


def _value(numbers: dict[tuple[str, str, float], float], quantity: str, share: str) -> float:
    return next(value for key, value in numbers.items() if key[:2] == (quantity, share))


def _leads(
    ahead: Sequence[Facts],
    behind: Sequence[Facts],
    numbers: dict[str, dict[tuple[str, str, float], float]],
) -> list[Facts]:
    keys = {name: ahead[0][name] for name in ("network", "dataset", "rounds")}
    pairs = [
        (numbers[one["run"]], numbers[other["run"]])
        for one in ahead
        for other in of(behind, seed=one["seed"])
    ]
    rows = []
    for quantity, share, threshold in numbers[ahead[0]["run"]]:
        sign = -1 if quantity == "epochs_to" else 1  # fewer epochs are better
        every = [
            sign * (_value(one, quantity, share) - _value(other, quantity, share))
            for one, other in pairs
        ]
        known = [lead for lead in every if not np.isnan(lead)]
        names = {"ahead": ahead[0]["measure"], "behind": behind[0]["measure"]}
        what = {"quantity": quantity, "share": share, "threshold": threshold}
        counts = {"pairs": len(every), "seeds": len(known)}
        rows.append({**keys, **names, **what, **counts, **mean_sd_interval(known)})
    return rows


# Correlations


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's coefficient of two float64 arrays."""
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's coefficient: Pearson's of the ranks; ties get their mean rank."""
    return pearson(pd.Series(x).rank().to_numpy(), pd.Series(y).rank().to_numpy())


# Of a run at an epoch: number of pairs, r, their effective number, and ends of the run's interval.
_Correlation = tuple[int, float, float, float, float]


def _agreement(found: dict[str, list[_Correlation]], counted: str) -> Facts:
    """Average the correlations of a network's runs at an epoch, by method."""
    seeds, least = len(found["pearson"]), min(pair[0] for pair in found["pearson"])
    columns: Facts = {"seeds": seeds, counted: least}
    for method, pairs in found.items():
        r = [pair[1] for pair in pairs]
        over = mean_sd_interval(r)
        low, high = interval_over_seeds(r) if len(r) > 1 else pairs[0][3:]
        columns |= {
            method: over["mean"],
            f"{method}_sd": over["sd"],
            f"{method}_low": low,
            f"{method}_high": high,
        }
    return {**columns, "pearson_n_eff": min(pair[2] for pair in found["pearson"])}


def _over_filters(runs: Sequence[Facts], epoch: int, x: str, y: str) -> Facts:
    """Correlation of two columns over the filters of each run; `sigma_change` is computed."""
    columns = ["sigma", "sigma_delta", "theta_g", "theta_hg", "abs_theta_g"]
    found: dict[str, list[_Correlation]] = {"pearson": [], "spearman": [], "symlog": []}
    none = (np.nan, np.nan)  # networks of filters have several seeds
    for run in runs:
        numbers = at(run, epoch)[columns].astype("float64")
        numbers["sigma_change"] = (numbers["sigma"] * numbers["sigma_delta"]).abs()
        numbers = numbers[[x, y]].dropna()
        a, b = numbers[x].to_numpy(), numbers[y].to_numpy()
        logs = [np.array(symmetric_log(values)) for values in (a, b)]
        found["pearson"].append((len(a), pearson(a, b), effective_number(a, b), *none))
        found["spearman"].append((len(a), spearman(a, b), np.nan, *none))
        found["symlog"].append((len(a), pearson(*logs), np.nan, *none))
    return _agreement(found, "filters")


def _over_weights(runs: Sequence[Facts], epoch: int, x: str, y: str) -> Facts:
    """Correlation of two quantities over all weights of each run, as computed while recording."""
    found: dict[str, list[_Correlation]] = {}
    for method in ("pearson", "spearman", "symlog"):
        found[method] = [_logged(run, epoch, x, y, method) for run in runs]
    return _agreement(found, "weights")


def _logged(run: Facts, epoch: int, x: str, y: str, method: str) -> _Correlation:
    """A correlation of a log, with nulls for what a log of schema 2 does not hold."""
    table = read(run, "correlations")
    keys = {"epoch": epoch, "x": x, "y": y, "method": method}
    row = table[np.logical_and.reduce([table[name] == value for name, value in keys.items()])]
    known = row.reindex(columns=["n", "r", "n_eff", "low", "high"]).astype("float64")
    if known.empty:
        return 0, np.nan, np.nan, np.nan, np.nan
    n, r, n_eff, low, high = known.iloc[0]
    return int(n), r, n_eff, low, high


# Correlation and mask distance


def correlation_tables(
    runs: Sequence[Facts], networks: Sequence[str], kind: str
) -> dict[str, pd.DataFrame]:
    """Figures 2 and H1b."""
    rows = []
    for network in networks:
        rows += _correlation_rows(of(runs, kind=kind, network=network))
    return {"": pd.DataFrame(rows)}


def _correlation_rows(runs: Sequence[Facts]) -> list[Facts]:
    of_weights = runs[0]["kind"] == "weights"
    distance = _recorded_distance if of_weights else _distance
    blank = dict.fromkeys(("mask_ref_epoch", "mask_distance", "mask_distance_sd", "chance"), np.nan)
    rows = []
    for epoch in range(1, runs[0]["epochs"] + 1):
        masks = distance(runs, epoch)
        found: Facts = {}
        if epoch % int(runs[0]["every"]) == 0:
            if of_weights:
                found = _over_weights(runs, epoch, "theta_change", "loss_preservation")
            else:
                found = _over_filters(runs, epoch, "sigma_change", "abs_theta_g")
        keys = {"network": runs[0]["network"], "dataset": runs[0]["dataset"], "epoch": epoch}
        if found or masks:
            rows.append({**keys, **found, **_band(found), **(masks or blank)})
    order = ["network", "dataset", "epoch", "seeds", "weights" if of_weights else "filters"]
    for method in ("pearson", "spearman", "symlog"):
        order += [method, f"{method}_sd", f"{method}_low", f"{method}_high"]
    order.append("pearson_n_eff")
    return pd.DataFrame(rows)[[*order, "band_low", "band_high", *blank]].to_dict("records")


def _band(found: Facts) -> Facts:
    if not found:
        return {}
    if found["seeds"] == 1:
        return {"band_low": found["pearson_low"], "band_high": found["pearson_high"]}
    mean, sd = found["pearson"], found["pearson_sd"]
    return {"band_low": mean - sd, "band_high": mean + sd}


def lowest(scores: np.ndarray, ratio: float) -> np.ndarray:
    """Entries among the fraction `ratio` of lowest scores; ties in order."""
    chosen = np.zeros(len(scores), dtype=bool)
    chosen[np.argsort(scores, kind="stable")[: round(ratio * len(scores))]] = True
    return chosen


def scales(run: Facts, epoch: int) -> np.ndarray:
    """|sigma| of every filter of a run at an epoch, in file order; -inf for a pruned filter."""
    rows = at(run, epoch)
    return np.where(rows["kept"], rows["sigma"].astype("float64").abs(), -np.inf)


def _distance(runs: Sequence[Facts], epoch: int) -> Facts | None:
    """Mask distance to the epoch before; None if scales are still equal, as before training."""
    distances, chances = [], []
    for run in runs:
        before, now = scales(run, epoch - 1), scales(run, epoch)
        if before.min() == before.max() or now.min() == now.max():
            return None
        masks = [lowest(scores, 0.2) for scores in (before, now)]
        distances.append(float((masks[0] != masks[1]).mean()))
        chances.append(2 * masks[0].mean() * (1 - masks[0].mean()))
    return {
        "mask_ref_epoch": epoch - 1,
        **_with_sd("mask_distance", distances),
        "chance": np.mean(chances),
    }


def _recorded_distance(runs: Sequence[Facts], epoch: int) -> Facts:
    distances = [read(run, "epochs").set_index("epoch").loc[epoch, "mask_distance"] for run in runs]
    columns = {"mask_ref_epoch": epoch - 1, **_with_sd("mask_distance", distances)}
    return {**columns, "chance": 2 * 0.2 * 0.8}


# Scatter


def scatter_tables(runs: Sequence[Facts], network: str, kind: str) -> dict[str, pd.DataFrame]:
    """Figures 3, 13-15 and H1a."""
    mine = of(runs, kind=kind, network=network)
    schedule = mine[0]["epochs"]
    over = _over_weights if kind == "weights" else _over_filters
    panels = []
    for epoch in (0, schedule // 4, schedule):
        rows = _points(mine[0], epoch).assign(schedule=schedule)
        shown = over(mine[:1], epoch, "theta_g", "theta_hg")
        drawn = {f"{name}_drawn": shown[name] for name in ("pearson", "spearman", "symlog")}
        panels.append(rows.assign(**over(mine, epoch, "theta_g", "theta_hg"), **drawn))
    table = pd.concat(panels, ignore_index=True)
    keys = ["network", "dataset", "epoch", "schedule", "run", "seed", "layer", "depth", "filter"]
    keys += ["weight"] if kind == "weights" else []
    errors = [name for name in (*ERRORS, *CLEAR) if name in table]
    points = [*keys, "theta_g", "theta_hg", *errors]
    return {"": table[[*points, *(name for name in table if name not in points)]]}


def _points(run: Facts, epoch: int) -> pd.DataFrame:
    rows = at(run, epoch).astype({"layer": "str"})
    layers = list(dict.fromkeys(rows["layer"]))
    rows = rows.assign(depth=[1 + layers.index(layer) for layer in rows["layer"]])
    facts = {name: run[name] for name in ("network", "dataset", "run", "seed")}
    keys = ["epoch", "layer", "depth", "filter", *(["weight"] if run["kind"] == "weights" else [])]
    errors = [name for name in ERRORS if name in rows and rows[name].notna().any()]
    if errors:
        rows = rows.assign(**_clear(rows, run))
        errors += CLEAR
    return rows.sort_values(keys[2:])[[*keys, "theta_g", "theta_hg", *errors]].assign(**facts)


def _clear(rows: pd.DataFrame, run: Facts) -> dict[str, pd.Series]:
    """Whether values exceed Student's 97.5 % quantile of their standard errors."""
    beyond = stats.t.ppf(0.975, run.get("se_df", run["sample_size"] - 1))
    found = {}
    # with g held fixed, an error says nothing about theta_hg
    for name, errors in (("theta_g", ERRORS[:2]),):
        error = next(rows[e].astype(float) for e in errors if e in rows and rows[e].notna().any())
        found[f"{name}_clear"] = rows[name].astype(float).abs() > beyond * error
    return found


# Layer ratios


def ratio_tables(runs: Sequence[Facts], network: str) -> dict[str, pd.DataFrame]:
    """Figures 16 and 17."""
    of_network = of(runs, kind="prune_phase", network=network)
    rows = []
    for rounds in (1, 5, 25):
        for measure in RATIO_MEASURES:
            rows += _ratio_rows(of(of_network, rounds=rounds, measure=measure))
    return {"": pd.DataFrame(rows)}


def after_last_round(run: Facts) -> pd.DataFrame:
    """Rows of a run's rounds table after its last round, by layer in depth order."""
    rounds = read(run, "rounds")
    last = rounds[rounds["round"] == run["rounds"]].sort_values("layer_index")
    return last.astype({"layer": "str"}).set_index("layer")


def _ratio_rows(runs: Sequence[Facts]) -> list[Facts]:
    tables = [after_last_round(run) for run in runs]
    whole = [_whole(table[table["coupled_to"].isna()]) for table in tables]
    of_all: Facts = {}
    for name in whole[0]:
        of_all |= _with_sd(name, [shares[name] for shares in whole])
    keys = {name: runs[0][name] for name in ("network", "dataset", "measure", "rounds", "target")}
    return [
        {
            **keys,
            "layer_index": state["layer_index"],
            "layer": layer,
            "filters": state["filters"],
            "coupled_to": state["coupled_to"],
            "seeds": len(runs),
            **_with_sd("ratio", [_share(table.loc[[layer]]) for table in tables]),
            **of_all,
        }
        for layer, state in tables[0].iterrows()
    ]


def _whole(deciding: pd.DataFrame) -> dict[str, float]:
    half, third = len(deciding) // 2, len(deciding) // 3
    first, second = _share(deciding[:half]), _share(deciding[len(deciding) - half :])
    return {
        "network_ratio": _share(deciding),
        "first_half": first,
        "second_half": second,
        "front_loading": first - second,
        "first_third": _share(deciding[:third]),
        "last_third": _share(deciding[len(deciding) - third :]),
    }


def _share(layers: pd.DataFrame) -> float:
    """Pruned fraction of the filters of some layers."""
    return float((layers["filters"] - layers["kept"]).sum() / layers["filters"].sum())
