"""Promises of pruning, checked on every pruned run of the embedded recordings, from files alone."""

from __future__ import annotations

import functools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.recomputed import (
    Facts,
    after_last_round,
    at,
    lowest,
    of,
    read,
    recorded,
    spearman,
)

DERIVATIVES = [
    "theta_g",
    "abs_theta_g",
    "theta2_abs_g",
    "theta_hg",
    "theta_hg_t200",
    "g_norm2",
]
CHEAP = ["theta_norm2", "theta_l1", "sigma"]


@pytest.fixture(scope="module")
def runs(embedded_recordings: Path) -> list[Facts]:
    return recorded(embedded_recordings)


@pytest.fixture(scope="module")
def pruned(runs: list[Facts]) -> list[Facts]:
    found = [run for run in runs if run["rounds"] and not run["flowandprune"]]
    assert {run["kind"] for run in found} == {"pruned", "prune_phase"}
    assert {run["rounds"] for run in found} == {1, 5, 25}
    return found


@functools.cache
def _grid(path: Path) -> dict[str, np.ndarray]:
    stored = pd.read_parquet(path / "filters.parquet")
    errors = [name for name in stored if "_se" in name]
    columns = ["epoch", "layer", "filter", "kept", *CHEAP, *DERIVATIVES, *errors]
    table = stored[columns]
    epochs = table["epoch"].nunique()
    layers = table["layer"].cat
    by_epoch = table["epoch"].to_numpy().reshape(epochs, -1)
    assert (by_epoch == by_epoch[:, :1]).all()
    values = {name: table[name].to_numpy() for name in columns if name != "layer"}
    values["layer"] = np.asarray(layers.categories, dtype=object)[layers.codes]
    return {name: column.reshape(epochs, -1) for name, column in values.items()}


def grid(run: Facts, column: str) -> np.ndarray:
    """A column of a run's filters table: one row per epoch, one column per filter."""
    return _grid(run["path"])[column]


def errors_of(run: Facts) -> list[str]:
    """The columns of standard errors in a run's file, which older recordings call otherwise."""
    named = ("theta_g_se", "theta_hg_se", "theta_g_se_iid", "theta_hg_se_given_g")
    found = [name for name in named if name in _grid(run["path"])]
    assert len(found) >= 2
    return found


def kept_by_layer(run: Facts) -> pd.DataFrame:
    """How many filters every layer keeps, from the filters table: indexed by epoch."""
    layers = grid(run, "layer")[0]
    kept = {name: grid(run, "kept")[:, layers == name].sum(1) for name in dict.fromkeys(layers)}
    return pd.DataFrame(kept, index=grid(run, "epoch")[:, 0])


def kept_by(rounds: pd.DataFrame, rows: str, column: str) -> pd.DataFrame:
    """How many filters are kept, from a rounds table, by two of its columns."""
    return rounds.pivot_table(index=rows, columns=column, values="kept", aggfunc="sum").astype(int)


def deciding(run: Facts) -> pd.DataFrame:
    """Rows of the rounds table for layers that are not coupled to another."""
    rounds = read(run, "rounds")
    return rounds[rounds["coupled_to"].isna()]


def test_every_round_leaves_what_its_schedule_says_and_the_last_one_the_target(
    pruned: list[Facts],
) -> None:
    for run in pruned:
        state = deciding(run).groupby("round")[["filters", "kept"]].sum()
        p, n = Fraction(str(run["target"])), run["rounds"]
        assert list(state.index) == list(range(1, n + 1)), run["run"]
        for i, (filters, kept) in state.iterrows():
            share = i * p / (i * p + n * (1 - p))  # the published schedule
            apart = int(filters) - int(kept) - share * int(filters)
            assert abs(apart) <= Fraction(1, 2), (run["run"], i)
        filters, kept = state.loc[n]
        assert abs(int(filters) - int(kept) - p * int(filters)) <= Fraction(1, 2), run["run"]


def test_layers_only_shrink_and_keep_their_minimum(pruned: list[Facts]) -> None:
    for run in pruned:
        rounds = read(run, "rounds")
        kept = kept_by(rounds, "layer_index", "round")
        filters = rounds.groupby("layer_index")["filters"].first()
        minimum = (0.05 * filters).astype(int) + 1
        assert (kept.diff(axis="columns").iloc[:, 1:] <= 0).all(axis=None), run["run"]
        assert rounds.groupby("layer_index")["filters"].nunique().eq(1).all()
        assert (kept[run["rounds"]] >= minimum).all(), run["run"]
        assert rounds["epoch"].eq(rounds["round"]).all(), "round i comes after epoch i"


def test_coupled_layers_keep_what_the_layer_keeps_that_decides_for_them(
    pruned: list[Facts],
) -> None:
    coupled = {
        run["network"]: int(after_last_round(run)["coupled_to"].notna().sum()) for run in pruned
    }
    assert coupled == {"vgg13": 0, "mobilenet_v1": 13, "resnet56": 0}
    for run in of(pruned, network="mobilenet_v1"):
        leaders = after_last_round(run)["coupled_to"].dropna().astype(str)
        rounds = kept_by(read(run, "rounds").astype({"layer": "str"}), "round", "layer")
        layers, kept = grid(run, "layer")[0], grid(run, "kept")
        for follower, leader in leaders.items():
            assert rounds[follower].equals(rounds[leader].rename(follower)), (run["run"], follower)
            same = kept[:, layers == follower] == kept[:, layers == leader]
            assert same.all(), (run["run"], follower)


def test_kept_filters_and_fraction_of_every_epoch_are_those_of_the_rounds(
    pruned: list[Facts],
) -> None:
    for run in pruned:
        rounds = read(run, "rounds").astype({"layer": "str"})
        epochs = read(run, "epochs").set_index("epoch")
        whole = rounds.groupby("layer", sort=False)["filters"].first()
        after = kept_by(rounds, "epoch", "layer")[whole.index]
        after = after.reindex(epochs.index).ffill().fillna(whole)
        found = kept_by_layer(run)
        assert list(found.columns) == list(whole.index)
        assert np.array_equal(found, after), run["run"]
        own = deciding(run)["layer"].astype(str).unique()
        fraction = after[own].sum(axis="columns") / whole[own].sum()
        np.testing.assert_allclose(epochs["kept_fraction"], fraction, rtol=1e-12)


def test_a_pruned_filter_never_comes_back_and_stays_zero(pruned: list[Facts]) -> None:
    for run in pruned:
        kept = grid(run, "kept")
        assert not (kept[1:] & ~kept[:-1]).any(), run["run"]
        for column in CHEAP:
            assert (grid(run, column)[~kept] == 0).all(), (run["run"], column)
        for column in ("theta_norm2", "theta_l1"):
            assert (grid(run, column)[kept] > 0).all(), (run["run"], column)


def test_filters_keep_their_numbers_for_life(pruned: list[Facts]) -> None:
    for run in pruned:
        whole = after_last_round(run)["filters"]
        layers = [layer for layer, count in whole.items() for _ in range(count)]
        numbers = [number for count in whole for number in range(count)]
        assert (grid(run, "layer") == np.array(layers, dtype=object)).all(), run["run"]
        assert (grid(run, "filter") == numbers).all(), run["run"]


def test_derivatives_are_null_for_pruned_filters_and_there_for_the_others(
    pruned: list[Facts],
) -> None:
    for run in pruned:
        epochs, kept = grid(run, "epoch")[:, 0], grid(run, "kept")
        measured = epochs % int(run["every"]) == 0
        last = set() if run["kind"] == "prune_phase" else {run["epochs"]}
        assert set(epochs[measured]) == {0} | last
        for column in [*DERIVATIVES, *errors_of(run)]:
            there = ~np.isnan(grid(run, column))
            assert np.array_equal(there, kept & measured[:, None]), (run["run"], column)
        for column in CHEAP:
            assert not np.isnan(grid(run, column)).any(), (run["run"], column)


def test_phases_and_learning_rates_follow_the_plan(runs: list[Facts]) -> None:
    for run in runs:
        epochs, rounds = read(run, "epochs"), run["rounds"]
        phases = [
            "init",
            *["prune"] * rounds,
            *["finetune" if rounds else "train"] * (run["epochs"] - rounds),
        ]
        assert epochs["epoch"].tolist() == list(range(run["epochs"] + 1)), run["run"]
        assert epochs["phase"].tolist() == phases, run["run"]
        rates = [
            run["lr"] / 10 ** sum(epoch > drop for drop in run["lr_drops"])
            for epoch in range(1, run["epochs"] + 1)
        ]
        np.testing.assert_allclose(epochs["lr"], [np.nan, *rates], rtol=1e-12, err_msg=run["run"])
        assert epochs["test_acc"].between(0, 1).all()
        assert epochs["train_acc"].iloc[1:].between(0, 1).all()


def test_the_distance_logged_live_is_that_of_the_masks_in_the_filters_table(
    runs: list[Facts],
) -> None:
    for run in (run for run in runs if run["unit"] == "filter"):
        live = read(run, "epochs")["mask_distance"].to_numpy()
        kept = grid(run, "kept")
        scales = np.where(kept, np.abs(grid(run, "sigma").astype("float64")), -np.inf)
        ranked = [len(np.unique(row[row > -np.inf])) > 1 for row in scales]
        pruned = [lowest(row, 0.2) | (row == -np.inf) for row in scales]
        for epoch in range(1, run["epochs"] + 1):
            if ranked[epoch - 1] and ranked[epoch]:
                distance = (pruned[epoch - 1] != pruned[epoch]).mean()
                assert live[epoch] == pytest.approx(distance, abs=1e-12), (run["run"], epoch)
            else:
                assert np.isnan(live[epoch]), (run["run"], epoch)


def test_the_account_of_removal_agrees_with_the_rounds(pruned: list[Facts]) -> None:
    for run in pruned:
        last = after_last_round(run)
        gone = (last["filters"] - last["kept"]).sum()
        assert run["filters_removed"] + run["filters_masked"] == gone, run["run"]
        assert 0 < run["parameters_after"] < run["parameters_before"], run["run"]
        assert 0 < run["macs_after"] < run["macs_before"], run["run"]
        assert run["forward_seconds_before"] > 0 and run["forward_seconds_after"] > 0
        assert run["forward_examples"] >= 1
        if run["network"] != "resnet56":  # no residual sum, so all that is pruned can be removed
            before = parameters(last["filters"], run["num_classes"])
            after = parameters(last["kept"], run["num_classes"])
            assert run["filters_masked"] == 0, run["run"]
            assert (run["parameters_before"], run["parameters_after"]) == (before, after), run[
                "run"
            ]


def parameters(counts: pd.Series, classes: int) -> int:
    """Parameters of a chain of bias-free convolutions with batch norm and a linear layer.

    Args:
        counts: Filters of each convolution, indexed by its name.
        classes: Outputs of the linear layer.
    """
    total, inputs = 0, 3
    for layer, filters in counts.items():
        weights = 9 * inputs
        if "depthwise" in layer:
            weights = 9
        elif "pointwise" in layer:
            weights = inputs
        total += filters * weights + 2 * filters
        inputs = filters
    return int(total + inputs * classes + classes)


def test_correlations_over_all_weights_are_near_those_of_the_stored_sample(
    runs: list[Facts],
) -> None:
    """The 2,000 stored weights can only estimate a coefficient that was computed over all."""
    for run in of(runs, kind="weights"):
        correlations = read(run, "correlations")
        assert correlations["n"].max() == run["weights"]
        logged = correlations.set_index(["x", "y", "method", "epoch"])["r"].sort_index()
        for epoch in range(0, run["epochs"] + 1, int(run["every"])):
            rows = at(run, epoch)
            theta_g, theta_hg = (rows[name].to_numpy("float64") for name in ("theta_g", "theta_hg"))
            apart = logged[("theta_g", "theta_hg", "spearman", epoch)] - spearman(theta_g, theta_hg)
            assert abs(apart) < 5 / np.sqrt(len(rows)), (run["run"], epoch)
