"""What pruning promises, checked on every pruned run of the embedded recordings, from the files alone."""

from __future__ import annotations

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
    scales,
    spearman,
)

DERIVATIVES = [
    "theta_g",
    "abs_theta_g",
    "theta2_abs_g",
    "theta_hg",
    "theta_hg_t200",
    "g_norm2",
    "theta_g_se",
    "theta_hg_se",
]
CHEAP = ["theta_norm2", "theta_l1", "sigma"]


@pytest.fixture(scope="module")
def runs(embedded_recordings: Path) -> list[Facts]:
    return recorded(embedded_recordings)


@pytest.fixture(scope="module")
def pruned(runs: list[Facts]) -> list[Facts]:
    found = [run for run in runs if run["rounds"] and not run["flowandprune"]]
    assert {run["kind"] for run in found} == {"pruned", "prune_phase"} and {
        run["rounds"] for run in found
    } == {1, 5, 25}
    return found


def filters_of(run: Facts) -> pd.DataFrame:
    """The filters table with keys of plain text and a number for every filter."""
    table = read(run, "filters").astype({"layer": "str"})
    return table.assign(name=table["layer"] + "/" + table["filter"].astype(str))


def kept_by(table: pd.DataFrame, rows: str, column: str) -> pd.DataFrame:
    """How many filters are kept, from a rounds or filters table, one row for each of `rows` and one column for each value of `column`."""
    return table.pivot_table(index=rows, columns=column, values="kept", aggfunc="sum").astype(int)


def deciding(run: Facts) -> pd.DataFrame:
    """The rounds table without layers that are coupled to another."""
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
            assert abs(int(filters) - int(kept) - share * int(filters)) <= Fraction(1, 2), (
                run["run"],
                i,
            )
        filters, kept = state.loc[n]
        assert abs(int(filters) - int(kept) - p * int(filters)) <= Fraction(1, 2), run["run"]


def test_layers_only_shrink_and_keep_their_minimum(pruned: list[Facts]) -> None:
    for run in pruned:
        rounds = read(run, "rounds")
        kept = kept_by(rounds, "layer_index", "round")
        filters = rounds.groupby("layer_index")["filters"].first()
        assert (kept.diff(axis="columns").iloc[:, 1:] <= 0).all(axis=None), run["run"]
        assert rounds.groupby("layer_index")["filters"].nunique().eq(1).all()
        assert all(
            kept.loc[layer, run["rounds"]] >= int(0.05 * filters[layer]) + 1 for layer in kept.index
        ), run["run"]
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
        kept = filters_of(run).set_index(["epoch", "filter"]).groupby("layer")["kept"]
        for follower, leader in leaders.items():
            assert rounds[follower].equals(rounds[leader].rename(follower)), (run["run"], follower)
            assert kept.get_group(follower).equals(kept.get_group(leader)), (run["run"], follower)


def test_kept_filters_and_fraction_of_every_epoch_are_those_of_the_rounds(
    pruned: list[Facts],
) -> None:
    for run in pruned:
        rounds, epochs = (
            read(run, "rounds").astype({"layer": "str"}),
            read(run, "epochs").set_index("epoch"),
        )
        whole = rounds.groupby("layer")["filters"].first()
        after = kept_by(rounds, "epoch", "layer").reindex(epochs.index).ffill().fillna(whole)
        in_filters = kept_by(filters_of(run), "epoch", "layer")
        pd.testing.assert_frame_equal(
            in_filters, after, check_dtype=False, check_index_type=False, check_names=False
        )
        own = deciding(run)["layer"].astype(str).unique()
        np.testing.assert_allclose(
            epochs["kept_fraction"], after[own].sum(axis="columns") / whole[own].sum(), rtol=1e-12
        )


def test_a_pruned_filter_never_comes_back_and_stays_zero(pruned: list[Facts]) -> None:
    for run in pruned:
        table = filters_of(run)
        assert (kept_by(table, "epoch", "name").diff().iloc[1:] <= 0).all(axis=None), run["run"]
        assert (table.loc[~table["kept"], CHEAP] == 0).all(axis=None), run["run"]
        assert (table.loc[table["kept"], ["theta_norm2", "theta_l1"]] > 0).all(axis=None), run[
            "run"
        ]


def test_filters_keep_their_numbers_for_life(pruned: list[Facts]) -> None:
    for run in pruned:
        whole = after_last_round(run)["filters"]
        names = [f"{layer}/{number}" for layer, count in whole.items() for number in range(count)]
        for _, rows in filters_of(run).groupby("epoch"):
            assert rows["name"].tolist() == names, run["run"]


def test_derivatives_are_null_for_pruned_filters_and_there_for_the_others(
    pruned: list[Facts],
) -> None:
    for run in pruned:
        table = filters_of(run)
        measured = table[table["epoch"] % int(run["every"]) == 0]
        assert set(measured["epoch"]) == (
            {0} if run["kind"] == "prune_phase" else {0, run["epochs"]}
        )
        assert measured.loc[measured["kept"], DERIVATIVES].notna().all(axis=None), run["run"]
        assert measured.loc[~measured["kept"], DERIVATIVES].isna().all(axis=None), run["run"]
        assert table.loc[~table.index.isin(measured.index), DERIVATIVES].isna().all(axis=None), run[
            "run"
        ]
        assert table[CHEAP].notna().all(axis=None)


def test_phases_and_learning_rates_follow_the_plan(runs: list[Facts]) -> None:
    for run in runs:
        epochs, rounds = read(run, "epochs"), run["rounds"]
        phases = [
            "init",
            *["prune"] * rounds,
            *["finetune" if rounds else "train"] * (run["epochs"] - rounds),
        ]
        assert (
            epochs["epoch"].tolist() == list(range(run["epochs"] + 1))
            and epochs["phase"].tolist() == phases
        ), run["run"]
        rates = [
            run["lr"] / 10 ** sum(epoch > drop for drop in run["lr_drops"])
            for epoch in range(1, run["epochs"] + 1)
        ]
        np.testing.assert_allclose(epochs["lr"], [np.nan, *rates], rtol=1e-12, err_msg=run["run"])
        assert (
            epochs["test_acc"].between(0, 1).all()
            and epochs["train_acc"].iloc[1:].between(0, 1).all()
        )


def test_the_distance_logged_live_is_that_of_the_masks_in_the_filters_table(
    runs: list[Facts],
) -> None:
    for run in (run for run in runs if run["unit"] == "filter"):
        recorded_live = read(run, "epochs").set_index("epoch")["mask_distance"]
        for epoch in range(1, run["epochs"] + 1):
            before, now = scales(run, epoch - 1), scales(run, epoch)
            if any(len(np.unique(part[part > -np.inf])) < 2 for part in (before, now)):
                assert np.isnan(recorded_live[epoch]), (run["run"], epoch)
                continue
            differ = (lowest(before, 0.2) | (before == -np.inf)) != (
                lowest(now, 0.2) | (now == -np.inf)
            )
            assert recorded_live[epoch] == pytest.approx(differ.mean(), abs=1e-12), (
                run["run"],
                epoch,
            )


def test_the_account_of_removal_agrees_with_the_rounds(pruned: list[Facts]) -> None:
    for run in pruned:
        last = after_last_round(run)
        assert (
            run["filters_removed"] + run["filters_masked"] == (last["filters"] - last["kept"]).sum()
        ), run["run"]
        assert 0 < run["parameters_after"] < run["parameters_before"], run["run"]
        assert 0 < run["macs_after"] < run["macs_before"], run["run"]
        assert (
            run["forward_seconds_before"] > 0
            and run["forward_seconds_after"] > 0
            and run["forward_examples"] >= 1
        )
        if run["network"] != "resnet56":  # no residual sum, so all that is pruned can be removed
            assert run["filters_masked"] == 0, run["run"]
            assert run["parameters_before"] == parameters(last["filters"], run["num_classes"]), run[
                "run"
            ]
            assert run["parameters_after"] == parameters(last["kept"], run["num_classes"]), run[
                "run"
            ]


def parameters(counts: pd.Series, classes: int) -> int:
    """Parameters of a chain of bias-free convolutions, each with batch norm, and a linear layer, from the filters of each by name."""
    total, inputs = 0, 3
    for layer, filters in counts.items():
        total += (
            filters
            * (9 if "depthwise" in layer else inputs if "pointwise" in layer else 9 * inputs)
            + 2 * filters
        )
        inputs = filters
    return int(total + inputs * classes + classes)


def test_correlations_over_all_weights_are_near_those_of_the_stored_sample(
    runs: list[Facts],
) -> None:
    """A coefficient over all weights was computed while recording; the 2,000 that are stored can only estimate it."""
    for run in of(runs, kind="weights"):
        logged = (
            read(run, "correlations").set_index(["x", "y", "method", "epoch"])["r"].sort_index()
        )
        for epoch in range(0, run["epochs"] + 1, int(run["every"])):
            rows = at(run, epoch)
            sample = spearman(
                rows["theta_g"].to_numpy("float64"), rows["theta_hg"].to_numpy("float64")
            )
            assert abs(logged[("theta_g", "theta_hg", "spearman", epoch)] - sample) < 5 / np.sqrt(
                len(rows)
            ), (run["run"], epoch)
            assert read(run, "correlations")["n"].max() == run["weights"]
