"""Aggregates of an epoch are what plain pandas, and pruneviz, find in the sealed Parquet files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pruneviz as pv
from pruneviz.analysis.epoch_aggregates import QUANTITIES, aggregates
from pruneviz.log.runs import Runs
from tests.support.short_recordings import SAMPLE, network, train_epoch

Sent = dict[int, dict[str, float]]


def recorded(out: Path, *, prunes: bool = False, **options: Any) -> tuple[Sent, pv.Runs]:
    """What a sink got by epoch, and the recording."""
    sent: Sent = {}

    def keep(run: str, epoch: int, values: dict[str, float]) -> None:
        sent.setdefault(epoch, {}).update(values)

    model = network()
    with pv.Recorder(model, SAMPLE, out, sinks=keep, **options) as recorder:
        pruner = pv.Pruner(model, SAMPLE[0][:2]) if prunes else None
        for epoch in range(4):
            if epoch:
                train_epoch(model, epoch)
            if pruner and epoch == 2:
                pruner.prune(recorder.table(epoch), "magnitude", 1)
            facts: dict[str, Any] = {"train_loss": 1.5 / (epoch + 1), "stage": "warm"}
            recorder.after_epoch(epoch, **facts)
    return sent, pv.load(out)


def parquet(out: Path, table: str, epoch: int) -> pd.DataFrame:
    rows = pd.read_parquet(out / f"{table}.parquet")
    return rows[rows["epoch"] == epoch]


def plain(out: Path, epoch: int) -> dict[str, float]:
    """Facts, the correlation of theta_g and theta_hg, and quantiles, by pandas, NumPy and SciPy."""
    facts = parquet(out, "epochs", epoch).iloc[0]
    found = {
        f"epoch/{name}": float(value)
        for name, value in facts.items()
        if name not in ("run", "epoch", "phase", "stage", "network_digest") and not pd.isna(value)
    }
    rows = parquet(out, "filters", epoch)
    rows = rows[rows["kept"]]
    pair = rows[["theta_g", "theta_hg"]].astype("float64").dropna()
    if len(pair):
        found["pearson/theta_g/theta_hg"] = float(np.corrcoef(pair.T)[0, 1])
        found["spearman/theta_g/theta_hg"] = float(stats.spearmanr(*pair.T.to_numpy()).statistic)
    for column in QUANTITIES:
        for layer in rows["layer"].unique():
            values = rows.loc[rows["layer"] == layer, column] if column in rows else pd.Series()
            numbers = values.dropna().to_numpy(dtype="float64")
            if len(numbers):
                for name, share in (("q10", 0.1), ("q50", 0.5), ("q90", 0.9)):
                    found[f"{column}/{layer}/{name}"] = float(np.quantile(numbers, share))
    return found


def same(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert math.isclose(found[name], value, rel_tol=1e-9, abs_tol=1e-12), name


@pytest.mark.parametrize("prunes", [False, True], ids=["unpruned", "pruned"])
def test_aggregates_are_those_of_plain_pandas_on_the_sealed_files(
    tmp_path: Path, prunes: bool
) -> None:
    out = tmp_path / "run"
    sent, _ = recorded(out, prunes=prunes, every=2)
    assert list(sent) == [0, 1, 2, 3], "epoch 3 twice: it is measured at the end"
    for epoch, values in sent.items():
        others = (
            "pearson/loss_preservation",
            "spearman/loss_preservation",
            "theta_g/theta_hg_t200",
        )
        same(
            {k: v for k, v in values.items() if not any(o in k for o in others)}, plain(out, epoch)
        )
    assert ("pearson/theta_g/theta_hg" in sent[1]) is False


def test_correlations_and_mask_distances_are_those_that_pruneviz_finds_in_a_recording(
    tmp_path: Path,
) -> None:
    sent, runs = recorded(tmp_path / "run", every=1, oracle=4)
    measures = [name for name in pv.recorded_measures(runs) if name != "delta_loss"]
    pairs = [("theta_g", "theta_hg"), ("theta_g", "theta_hg_t200")]
    pairs += [("delta_loss", name) for name in measures]
    pairs += [("loss_preservation", n) for n in measures if n != "loss_preservation"]
    expected: Sent = {epoch: {} for epoch in sent}
    for x, y in pairs:
        for method in ("pearson", "spearman"):
            found = pv.correlate(runs, x, y, method=method, interval=None)  # type: ignore[arg-type]
            for row in found[found["r"].notna()].itertuples():
                expected[row.epoch][f"{method}/{x}/{y}"] = row.r
    for epoch, values in sent.items():
        same({k: v for k, v in values.items() if "earman" in k or "pearson" in k}, expected[epoch])
    distances = pv.mask_distance(runs).set_index("epoch")["distance"]
    told = {e: v["epoch/mask_distance"] for e, v in sent.items() if "epoch/mask_distance" in v}
    assert told == distances.dropna().to_dict()
    assert len(told) >= 2
    assert "delta_loss/0/q50" in sent[1]


def test_single_weights_have_the_correlations_over_all_weights(tmp_path: Path) -> None:
    sent, runs = recorded(tmp_path / "run", every=1, unit="weight", rows=20)
    for row in runs.correlations.itertuples():
        name = f"{row.method}/{row.x}/{row.y}"
        assert name not in sent[row.epoch] if pd.isna(row.r) else sent[row.epoch][name] == row.r
    assert "symlog/theta_g/theta_hg" in sent[2]
    assert "theta/0/q90" in sent[0]


def test_measures_of_ones_own_are_not_called(tmp_path: Path) -> None:
    @pv.measures.register("failing", needs=["theta_norm2"])
    def failing(filters: pd.DataFrame) -> pd.Series:
        raise RuntimeError("called")

    try:
        sent, runs = recorded(tmp_path / "run", every=1)
        assert "failing" in pv.recorded_measures(runs)
    finally:
        pv.measures.unregister("failing")
    assert "spearman/loss_preservation/magnitude" in sent[3]
    assert not [name for name in sent[3] if "failing" in name]


def test_an_epoch_without_values_has_no_entries() -> None:
    filters = pd.DataFrame({"run": "r", "epoch": 0, "layer": "a", "filter": [0, 1], "kept": True})
    epochs = pd.DataFrame({"run": ["r"], "epoch": [0], "phase": ["init"], "lr": [np.nan]})
    spec = pd.DataFrame({"run": ["r"]})
    rows = filters.assign(theta_norm2=np.nan)
    assert aggregates(Runs(spec=spec, epochs=epochs, filters=rows, rounds=epochs[:0])) == {}
