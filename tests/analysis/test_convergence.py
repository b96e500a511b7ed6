"""Convergence numbers: by hand on small curves, against plain pandas on many, refused input."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from pruneviz.analysis.convergence import SHARES, convergence, convergence_by_run, leads
from pruneviz.errors import AnalysisError
from pruneviz.plans.needs import CURVE_MEASURES
from tests.support.synthetic_runs import SMALL, make_pruned_runs


def tables(
    curves: dict[tuple[str, int], list[float]], start: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Epochs and spec of runs of one network and data set: accuracies by measure and seed."""
    runs = {f"{measure}-s{seed}": accuracies for (measure, seed), accuracies in curves.items()}
    parts = [
        pd.DataFrame({"run": run, "epoch": range(start, start + len(a)), "test_acc": a})
        for run, a in runs.items()
    ]
    facts = [
        {"network": "vgg13", "dataset": "digits", "measure": measure, "rounds": 5, "seed": seed}
        for measure, seed in curves
    ]
    return pd.concat(parts, ignore_index=True), pd.DataFrame(facts).assign(run=list(runs))


def test_small_curves_by_hand() -> None:
    epochs, spec = tables(
        {("magnitude", 0): [0.0, 0.4, 0.8, 0.6, 0.8], ("proposed", 0): [0.2, 0.2, 0.2, 0.4, 0.4]}
    )
    found = convergence_by_run(epochs, spec, thresholds=[0.8, 0.3]).set_index(
        ["run", "quantity", "threshold"]
    )["value"]
    assert found["magnitude-s0"].to_list() == pytest.approx(
        [1, 2, (0.2 + 0.6 + 0.7 + 0.7) / 4, 0.8]
    )  # the first time, whatever follows
    assert found["proposed-s0"].to_list() == pytest.approx(
        [3, np.nan, (0.2 + 0.2 + 0.3 + 0.4) / 4, 0.4], nan_ok=True
    )
    by_default = convergence_by_run(epochs, spec)
    assert by_default["threshold"].dropna().unique() == pytest.approx(
        [0.8 * share for share in SHARES]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_accuracy_equal_to_a_threshold_reaches_it_despite_rounding(dtype: str) -> None:
    hits = np.array([10, 139, 140, 175], dtype=dtype)  # of 200 images: 140 is 80 % of 175
    epochs, spec = tables({("magnitude", 0): (hits / np.asarray(200, dtype=dtype)).tolist()})
    for found in (
        convergence_by_run(epochs, spec).query("share == 0.8"),
        convergence_by_run(epochs, spec, thresholds=[0.8 * 0.875]),
    ):
        assert found["value"].iloc[0] == 2


def test_a_run_that_never_reaches_a_threshold_counts_as_a_seed() -> None:
    epochs, spec = tables(
        {("magnitude", 0): [0.1, 0.9], ("magnitude", 1): [0.1, 0.5], ("magnitude", 2): [0.9, 0.9]}
    )
    row = convergence(epochs, spec, thresholds=[0.8]).iloc[1]
    assert (row["quantity"], row["seeds"], row["reached"], row["mean"]) == ("epochs_to", 3, 2, 0.5)
    none = convergence(epochs, spec, thresholds=[0.95]).iloc[1]
    assert none["reached"] == 0 and none[["mean", "sd", "low", "high"]].isna().all()


def test_an_epoch_without_accuracy_is_skipped() -> None:
    epochs, spec = tables({("magnitude", 0): [0.1, np.nan, 0.3, 0.5, np.nan]}, start=2)
    found = convergence_by_run(epochs, spec, thresholds=[0.2])
    assert found["value"].to_list() == pytest.approx([4, ((0.1 + 0.3) / 2 * 2 + 0.4) / 3, 0.5])


def test_runs_are_compared_at_the_epochs_that_all_have() -> None:
    curve = [0.1, 0.3, 0.5, 0.6, 0.7]
    sparse = [0.1, np.nan, 0.5, np.nan, 0.7]  # the same curve, at every other epoch
    epochs, spec = tables({("magnitude", 0): curve, ("proposed", 0): sparse})
    found = convergence_by_run(epochs, spec, thresholds=[0.25, 0.65])
    one, other = (rows["value"].to_list() for _, rows in found.groupby("run"))
    assert one == other


@pytest.mark.parametrize(("accuracy", "level"), [("test_acc", 0.95), ("train_acc", 0.5)])
def test_numbers_equal_plain_pandas(accuracy: str, level: float) -> None:
    runs = make_pruned_runs(
        {"vgg13": SMALL["vgg13"], "resnet56": SMALL["resnet56"]},
        rounds=(1, 5),
        datasets=("cifar10", "cifar100"),
    )
    found = convergence(runs.epochs, runs.spec, accuracy, level=level)
    assert len(found) == 2 * 2 * 2 * 3 * (len(SHARES) + 2)
    keys = ["network", "dataset", "rounds"]
    of_panel = {key: spec.set_index("run") for key, spec in runs.spec.groupby(keys)}
    accuracies = {
        run: rows.set_index("epoch")[accuracy].dropna()
        for run, rows in runs.epochs.groupby("run", observed=True)
    }
    for key, panel in found.groupby(keys):
        measures = of_panel[key]["measure"]
        best = max(accuracies[run].iloc[-1] for run in measures.index)
        for _, row in panel.iterrows():
            mine = [accuracies[run] for run in measures.index[measures == row["measure"]]]
            assert row["seeds"] == len(mine) == 3
            values = [_plain(curve, row["quantity"], row["share"] * best) for curve in mine]
            _assert_mean_over_runs(row, pd.Series(values).dropna(), level)


def _assert_mean_over_runs(row: pd.Series, values: pd.Series, level: float) -> None:
    assert row["reached"] == len(values)
    assert row["mean"] == pytest.approx(values.mean(), nan_ok=True)
    assert row["sd"] == pytest.approx(values.std(), nan_ok=True)
    if len(values) > 1 and values.std() > 0:
        fraction = row["quantity"] != "epochs_to"
        scaled = special.logit(values) if fraction else values
        ends = stats.t.interval(level, len(values) - 1, scaled.mean(), scaled.sem())
        interval = tuple(special.expit(ends)) if fraction else ends
        assert (row["low"], row["high"]) == pytest.approx(interval)


def _plain(curve: pd.Series, quantity: str, threshold: float) -> float:
    if quantity == "epochs_to":
        reached = [epoch for epoch, value in curve.items() if value >= threshold]
        return float(min(reached, default=np.nan))
    if quantity == "final":
        return float(curve.iloc[-1])
    steps = [(b - a) * (curve[a] + curve[b]) / 2 for a, b in itertools.pairwise(curve.index)]
    return float(sum(steps) / (curve.index[-1] - curve.index[0]))


def test_leads_are_paired_by_seed_and_positive_where_the_first_is_faster() -> None:
    runs = make_pruned_runs({"vgg13": SMALL["vgg13"]}, seeds=(0, 1, 2))
    by_run = convergence_by_run(runs.epochs, runs.spec)
    found = leads(by_run, CURVE_MEASURES).set_index(["ahead", "quantity", "share"]).sort_index()
    wide = by_run.assign(share=by_run["share"].fillna(-1)).pivot_table(
        index=["seed"], columns=["measure", "quantity", "share"], values="value"
    )
    for quantity, share, sign in (("epochs_to", 0.8, -1), ("area", -1, 1), ("final", -1, 1)):
        each = sign * (wide[("magnitude", quantity, share)] - wide[("proposed", quantity, share)])
        row = found.loc[("magnitude", quantity)].reset_index()
        row = row[row["share"].fillna(-1) == share].iloc[0]
        assert (row["behind"], row["pairs"], row["seeds"]) == ("proposed", 3, 3)
        assert each.mean() > 0
        assert (row["mean"], row["sd"]) == pytest.approx((each.mean(), each.std()))
        interval = stats.t.interval(0.95, 2, each.mean(), each.sem())
        assert (row["low"], row["high"]) == pytest.approx(interval)
    swapped = leads(by_run, ["proposed", "magnitude"])
    assert (swapped.loc[swapped["quantity"] == "area", "mean"] < 0).all()


def test_leads_leave_out_what_is_not_paired() -> None:
    epochs, spec = tables(
        {
            ("magnitude", 0): [0.1, 0.9],
            ("magnitude", 1): [0.2, 0.9],
            ("proposed", 1): [0.1, 0.5],
            ("proposed", 2): [0.0, 0.9],
        }
    )
    found = leads(
        convergence_by_run(epochs, spec, thresholds=[0.8]), ["magnitude", "proposed"]
    ).set_index("quantity")
    assert found["pairs"].to_dict() == {"area": 1, "epochs_to": 1, "final": 1}
    assert found.loc["area", "mean"] == pytest.approx(0.25) and pd.isna(found.loc["area", "low"])
    assert found.loc["epochs_to", "seeds"] == 0 and pd.isna(found.loc["epochs_to", "mean"])
    apart = convergence_by_run(*tables({("magnitude", 0): [0.1, 0.9], ("proposed", 2): [0.0, 0.9]}))
    assert leads(apart, ["magnitude", "proposed"]).empty
    unknown = convergence_by_run(epochs, spec.assign(seed=np.nan))
    assert leads(unknown, ["magnitude", "proposed"]).empty


def test_groups_may_be_any_facts_of_the_runs() -> None:
    epochs, spec = tables({("magnitude", 0): [0.1, 0.9], ("magnitude", 1): [0.3, 0.9]})
    spec = spec.assign(width=[0.5, 1.0])
    found = convergence(epochs, spec, by=["width"])
    areas = found[found["quantity"] == "area"].set_index("width")["mean"]
    assert areas.to_dict() == pytest.approx({0.5: 0.5, 1.0: 0.6})
    mine = convergence(epochs, spec.assign(network=None))
    assert len(mine) == len(SHARES) + 2 and mine["network"].isna().all()


GOOD = {("magnitude", 0): [0.1, 0.9], ("proposed", 0): [0.1, 0.8]}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"accuracy": "val_acc"},
            r"no epochs column 'val_acc'; choose one of run, epoch, test_acc",
        ),
        ({"by": ["depth"]}, r"no spec column 'depth'; choose one of network"),
        ({"thresholds": [0.5, 50]}, r"thresholds are \[50\]; give accuracies as fractions"),
        ({"level": 95}, r"level=95"),
    ],
)
def test_bad_options_are_told_with_their_repair(options: dict[str, Any], told: str) -> None:
    with pytest.raises(AnalysisError, match=told):
        convergence(*tables(GOOD), **options)


def test_tables_that_lack_something_are_refused() -> None:
    epochs, spec = tables(GOOD)
    nulls = epochs.assign(test_acc=[0.1, 0.9, None, None])
    spans = r"different epochs \(magnitude-s0: 0 to 1; proposed-s0: 0 to 0\)"
    for told, bad_epochs, bad_spec in [
        (r"no spec column 'rounds'", epochs, spec.drop(columns="rounds")),
        (r"spec has no column seed; it has \[network", epochs, spec.drop(columns="seed")),
        (r"epochs has no column epoch; it has \[run", epochs.drop(columns="epoch"), spec),
        (r"epochs has no rows", epochs.iloc[:0], spec),
        (r"spec lacks proposed-s0", epochs, spec.iloc[:1]),
        (r"spec names a run twice", epochs, pd.concat([spec, spec])),
        (r"no epoch of proposed-s0 has test_acc", nulls, spec),
        (spans, epochs.iloc[:-1], spec),
    ]:
        with pytest.raises(AnalysisError, match=told):
            convergence(bad_epochs, bad_spec)


def test_leads_need_two_measures() -> None:
    with pytest.raises(AnalysisError, match=r"order is \['magnitude'\]; name two"):
        leads(convergence_by_run(*tables(GOOD)), ["magnitude"])


@pytest.mark.parametrize("column", [[1.8, 2.2, 2.0], [63.0, 61.0, 66.5], [0.7, 0.9, 1.3]])
def test_what_is_no_fraction_has_students_interval_of_itself(column: list[float]) -> None:
    epochs, spec = tables({("magnitude", seed): [2.5, last] for seed, last in enumerate(column)})
    found = convergence(epochs, spec, thresholds=[0.5]).set_index("quantity").loc["final"]
    mean, half = np.mean(column), stats.t.ppf(0.975, 2) * stats.sem(column)
    assert tuple(found[["mean", "low", "high"]]) == pytest.approx((mean, mean - half, mean + half))
