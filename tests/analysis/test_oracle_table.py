"""The table of measures against the oracle: plain means of plain rank correlations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pruneviz as pv
from pruneviz.analysis.oracle_table import oracle_table
from tests.support.synthetic_runs import renamed

ROOT = Path(pv.__file__).parent.parent
NETWORKS = ("mobilenet_v1", "resnet56", "vgg13")


@pytest.fixture(scope="module")
def runs() -> pv.Runs:
    return pv.load(ROOT / "data" / "cifar-mini-oracle")


@pytest.fixture(scope="module")
def by_hand(runs: pv.Runs) -> dict[tuple[str, int], float]:
    """Spearman's coefficient of magnitude with abs(delta_loss), by network and epoch."""
    filters = runs.filters.dropna(subset=["delta_loss"])
    filters = filters.assign(
        network=filters["run"].astype(str).map(runs.spec.set_index("run")["network"])
    )
    return {
        (str(network), int(epoch)): stats.spearmanr(
            rows["theta_norm2"], rows["delta_loss"].abs()
        ).statistic
        for (network, epoch), rows in filters.groupby(["network", "epoch"], observed=True)
        if rows["delta_loss"].any()
    }


def test_the_cells_are_plain_means(runs: pv.Runs, by_hand: dict[tuple[str, int], float]) -> None:
    row = oracle_table(runs).table.set_index("measure").loc["magnitude"]
    after = {key: r for key, r in by_hand.items() if key[1] > 0}
    assert row["mean"] == f"{np.mean(list(after.values())):.2f}"
    assert row["worst"] == f"{min(after.values()):.2f}"
    for name in NETWORKS:
        assert row[name] == f"{np.mean([r for key, r in after.items() if key[0] == name]):.2f}"
    for epoch in (0, 1, 4, 8, 16):
        r = [value for (_, at), value in by_hand.items() if at == epoch]
        assert row[f"epoch {epoch}"] == f"{np.mean(r):.2f}"
    assert ("mobilenet_v1", 0) not in by_hand
    assert any(
        "mobilenet_v1, epoch 0: left out, since delta_loss is the same" in note
        for note in oracle_table(runs).notes
    )


def test_a_measure_that_one_network_lacks_has_no_mean(runs: pv.Runs) -> None:
    filters = runs.filters
    of_one = filters["run"].astype(str).str.startswith("vgg13") & (filters["epoch"] == 16)
    some = filters.assign(bn_taylor=filters["bn_taylor"].mask(of_one))
    row = oracle_table(replace(runs, filters=some)).table.set_index("measure").loc["bn_taylor"]
    assert {row[name] for name in ("mean", "vgg13", "epoch 16", "last third")} == {""}
    assert row["epoch 8"] and row["resnet56"] and row["worst"]


def test_rows_are_in_the_order_of_their_means_and_chance_is_among_them(runs: pv.Runs) -> None:
    found = oracle_table(runs)
    means = found.table["mean"].astype(float)
    assert list(means) == sorted(means, reverse=True)
    assert "random" in set(found.table["measure"])
    best = found.table.loc[0, "measure"]
    assert best == "bn_taylor"
    assert found.notes[0] == "cifar100: bn_taylor is first in all"
    assert "±0.14" in found.notes[-1] and "3 runs, 200 removed filters in each" in found.notes[-1]


def joined(*recordings: pv.Runs) -> pv.Runs:
    """Several recordings as one, with all columns of their filters."""
    spec = pd.concat([runs.spec for runs in recordings], ignore_index=True)
    filters = pd.concat([runs.filters for runs in recordings], ignore_index=True)
    return replace(recordings[0], spec=spec, filters=filters)


def test_settings_are_not_averaged_together(runs: pv.Runs) -> None:
    vgg = runs.select(network="vgg13")
    warm = replace(
        vgg,
        spec=vgg.spec.assign(run="warm", temperatures=[[5.0]]),
        filters=vgg.filters.assign(run="warm"),
    )
    table = oracle_table(joined(vgg, warm)).table
    assert list(dict.fromkeys(table["setting"])) == ["temperatures 1/200", "temperatures 5"]
    assert len(table) == 2 * len(oracle_table(vgg).table)


def test_a_repeated_seed_counts_once(runs: pv.Runs) -> None:
    vgg = runs.select(network="vgg13")
    vgg = replace(vgg, spec=vgg.spec.assign(created="2020"))
    again = renamed(replace(vgg, spec=vgg.spec.assign(created="2021")), "-again")
    found = oracle_table(joined(again, vgg))
    pd.testing.assert_frame_equal(found.table, oracle_table(vgg).table)
    assert found.notes == oracle_table(vgg).notes


def test_runs_of_two_measures_are_told_apart(runs: pv.Runs) -> None:
    vgg = runs.select(network="vgg13")
    named = [
        renamed(replace(vgg, spec=vgg.spec.assign(measure=name, rounds=5, target=0.5)), f"-{name}")
        for name in ("magnitude", "grasp")
    ]
    table = oracle_table(joined(*named)).table
    assert set(table["setting"]) == {"measure magnitude", "measure grasp"}


def test_a_measure_is_named_first_only_where_it_is(runs: pv.Runs) -> None:
    vgg = runs.select(network="vgg13")
    filters = vgg.filters
    turned = filters["delta_loss"].mask(filters["epoch"] == 16, filters["theta_l1"])
    found = oracle_table(replace(vgg, filters=filters.assign(delta_loss=turned)))
    assert "l1_norm is first in epoch 16" in found.notes[0]


def test_runs_without_an_oracle_make_no_table(runs: pv.Runs) -> None:
    blind = replace(runs, filters=runs.filters.assign(delta_loss=np.nan))
    assert oracle_table(blind).table.empty and oracle_table(blind).notes == ()
