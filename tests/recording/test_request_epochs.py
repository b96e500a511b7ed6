"""Columns on request in a recording, at their epochs; one draw of filters for all epochs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import LogError, MeasureError
from tests.support.cases import BY_NAME, as_pair, digit_batches

SAMPLE = as_pair(digit_batches((6, 6)))


def record(out: Path, epochs: int = 4, **options: Any) -> tuple[nn.Module, pd.DataFrame]:
    """A network at the last epoch, and what a recorder wrote while its weights moved."""
    model = BY_NAME["residual"].model()
    with pv.Recorder(model, SAMPLE, out / "run", every=2, **options) as recorder:
        for epoch in range(epochs + 1):
            recorder.after_epoch(epoch)
            for parameter in model.parameters() if epoch < epochs else ():
                parameter.data.mul_(1.05)
    return model, pv.load(out).filters


def drawn_at(filters: pd.DataFrame, epoch: int) -> list[tuple[str, int]]:
    rows = filters[(filters["epoch"] == epoch) & filters["delta_loss"].notna()]
    return list(zip(rows["layer"].astype(str), rows["filter"], strict=True))


def test_a_draw_has_the_same_filters_at_every_measured_epoch(tmp_path: Path) -> None:
    model, filters = record(tmp_path, oracle=6)
    assert len(drawn_at(filters, 0)) == 6
    assert drawn_at(filters, 0) == drawn_at(filters, 2) == drawn_at(filters, 4)
    assert not drawn_at(filters, 1) and not drawn_at(filters, 3)
    truth = pv.delta_loss(model, SAMPLE, filters=6)
    rows = filters[(filters["epoch"] == 4) & filters["delta_loss"].notna()]
    np.testing.assert_allclose(rows["delta_loss"], truth["delta_loss"], rtol=1e-6)
    assert (rows["filter"].to_numpy() == truth["filter"].to_numpy()).all()
    assert rows["theta_g"].notna().all()


@pytest.mark.parametrize(
    ("request_at", "text"),
    [
        ([1, 4], "1 4"),
        (np.array([4, 1]), "1 4"),
        (3, "3"),
        (np.int64(3), "3"),
        (lambda epoch: epoch in (1, 4), "<lambda>"),
    ],
)
def test_epochs_are_chosen_beside_those_of_every(
    tmp_path: Path, request_at: Any, text: str
) -> None:
    _, filters = record(tmp_path, oracle=6, request_at=request_at)
    wanted = {0, 3} if text == "3" else {1, 4}
    assert {epoch for epoch in range(5) if drawn_at(filters, epoch)} == wanted
    measured = filters.loc[filters["theta_g"].notna(), "epoch"]
    assert set(measured) == {0, 2, 4}
    spec = pv.load(tmp_path).spec.iloc[0]
    assert text in spec["request_at"] and spec["oracle"] == 6


def test_all_columns_on_request_are_measured_at_these_epochs_alone(tmp_path: Path) -> None:
    columns = ["theta_g", "synflow", "delta_loss"]
    _, filters = record(tmp_path, columns=columns, request_at=[0, 3])
    there = {name: set(filters.loc[filters[name].notna(), "epoch"]) for name in columns}
    assert there == {"theta_g": {0, 2, 4}, "synflow": {0, 3}, "delta_loss": {0, 3}}


def test_all_filters_by_name_of_the_column(tmp_path: Path) -> None:
    _, filters = record(tmp_path, columns=["delta_loss"])
    assert filters.loc[filters["epoch"] == 2, "delta_loss"].notna().all()
    assert filters["theta_g"].isna().all()


def test_it_correlates_with_measures_and_ranks_filters(tmp_path: Path) -> None:
    model, filters = record(tmp_path, oracle=8)
    found = pv.correlate(filters, "theta_g", "delta_loss", method="spearman")
    assert found["n"].tolist() == [8, 8, 8]
    pruner = pv.Pruner(model, SAMPLE[0])
    table = pv.measure(model, SAMPLE, columns=["delta_loss"])
    pruner.prune(table, "delta_loss", gone=1)
    (lowest,) = pruner.coupling.pruned()
    row = table.loc[table["delta_loss"].idxmin()]
    assert lowest == (row["layer"], row["filter"])


def test_a_table_for_ranking_measures_all_filters(tmp_path: Path) -> None:
    model = BY_NAME["residual"].model()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run", oracle=3)
    assert recorder.table(0, "delta_loss")["delta_loss"].notna().all()
    assert "delta_loss" not in recorder.table(0, "theta_g")


def test_a_resumed_run_goes_on_with_its_draw(tmp_path: Path) -> None:
    model = BY_NAME["grouped"].model()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run", every=1, oracle=5)
    recorder.after_epoch(0)
    with pytest.raises(LogError, match="oracle was 5, now 4"):
        pv.Recorder(model, SAMPLE, tmp_path / "run", every=1, oracle=4, resume=True)
    with pv.Recorder(model, SAMPLE, tmp_path / "run", every=1, oracle=5, resume=True) as again:
        pv.Pruner(model, SAMPLE[0]).prune_filters({"3": [0]})
        again.after_epoch(1)
    filters = pv.load(tmp_path).filters
    before, after = drawn_at(filters, 0), drawn_at(filters, 1)
    gone = filters[(filters["epoch"] == 1) & ~filters["kept"]]
    pruned = set(zip(gone["layer"], gone["filter"], strict=True))
    assert after == [row for row in before if row not in pruned]


def test_recording_it_moves_nothing(tmp_path: Path) -> None:
    model = BY_NAME["conv_bn_relu"].model().train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pv.Recorder(model, SAMPLE, tmp_path / "run", oracle=4, bn="batch") as recorder:
        recorder.after_epoch(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(now, before[name]) for name, now in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_recordings_with_and_without_the_column_are_read_together(tmp_path: Path) -> None:
    record(tmp_path, oracle=6)
    model = BY_NAME["residual"].model()
    with pv.Recorder(model, SAMPLE, tmp_path / "without") as recorder:
        recorder.after_epoch(0)
    filters = pv.load(tmp_path).filters
    assert filters.loc[filters["run"] == "without", "delta_loss"].isna().all()
    assert filters["delta_loss"].notna().sum() == 18
    assert "delta_loss" not in pv.load("data/cifar-mini").filters


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"request_at": [0]}, LogError, r"request_at=\[0\] .* add oracle=200"),
        ({"oracle": 4, "request_at": [0.5]}, LogError, r"whole numbers from 0"),
        ({"oracle": 4, "request_at": "0 1"}, LogError, r"give epochs"),
        ({"oracle": 4, "request_at": 0}, LogError, r"request_at=0; give epochs"),
        ({"oracle": 4, "request_at": True}, LogError, r"request_at=True; give epochs"),
        ({"oracle": 4, "request_at": [True]}, LogError, r"request_at=\[True\]; give epochs"),
        ({"oracle": 4, "request_at": [[0]]}, LogError, r"request_at=\[\[0\]\]; give epochs"),
        ({"oracle": 4, "request_at": []}, LogError, r"request_at=\[\]; give epochs"),
        ({"oracle": 0}, MeasureError, r"oracle=0; give the number of filters"),
        ({"oracle": 4, "unit": "weight"}, MeasureError, r"not single weights"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        record(tmp_path, **options)


def test_full_errors_are_recorded_at_the_epochs_of_columns_on_request(tmp_path: Path) -> None:
    model, filters = record(tmp_path, errors="full", request_at=[0, 4], seed=5)
    errors = ["abs_theta_g_se", "theta_hg_se"]
    for epoch, rows in filters.groupby("epoch"):
        assert rows[errors].notna().all(axis=None) == (epoch in (0, 4))
        assert rows["theta_g_se"].notna().all() == (epoch in (0, 2, 4))
    now = pv.measure(model, SAMPLE, columns=errors, seed=5)
    last = filters[filters["epoch"] == 4]
    np.testing.assert_allclose(last[errors], now[errors], rtol=1e-6)
    spec = pv.load(tmp_path).spec.iloc[0]
    assert {*errors} <= {*spec["columns"]} and spec["draw_seed"] == 5
