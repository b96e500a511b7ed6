"""Norms of weight changes: against plain copies, over gaps, and after a resume."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import LogError, MeasureError

COLUMNS = ["update_size", "distance_from_init"]
SAMPLE = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
    layers += [nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4)]
    return nn.Sequential(*layers)


def trained(epochs: int) -> list[nn.Module]:
    """The network after 0, 1, ... epochs."""
    found = [network()]
    for epoch in range(1, epochs + 1):
        found.append(copy.deepcopy(found[-1]))
        torch.manual_seed(epoch)
        with torch.no_grad():
            for weight in found[-1].parameters():
                weight += 0.1 * torch.randn_like(weight)
    return found


def norms(now: nn.Module, before: nn.Module) -> np.ndarray:
    rows = [
        (now.get_parameter(name).double() - before.get_parameter(name).double())
        .flatten(1)
        .norm(dim=1)
        for name in ("0.weight", "3.weight")
    ]
    return torch.cat(rows).detach().numpy()


def recorder(model: nn.Module, out: Path, **options: Any) -> pv.Recorder:
    return pv.Recorder(model, SAMPLE, out, every=2, columns=["default", *COLUMNS], **options)


def recorded(out: Path, epochs: Sequence[int], **options: Any) -> pv.Runs:
    states = trained(max(epochs))
    model = network()
    with recorder(model, out, **options) as recording:
        for epoch in epochs:
            model.load_state_dict(states[epoch].state_dict())
            recording.after_epoch(epoch)
    return pv.load(out)


def at(runs: pv.Runs, epoch: int, column: str) -> np.ndarray:
    rows = runs.filters[runs.filters["epoch"] == epoch]
    return rows[column].to_numpy(dtype="float64", na_value=np.nan)


def test_changes_are_those_of_plain_copies_at_every_epoch(tmp_path: Path) -> None:
    states, runs = trained(3), recorded(tmp_path / "run", range(4))
    for epoch in range(1, 4):
        update = norms(states[epoch], states[epoch - 1])
        np.testing.assert_allclose(at(runs, epoch, "update_size"), update, rtol=1e-7)
        distance = norms(states[epoch], states[0])
        np.testing.assert_allclose(at(runs, epoch, "distance_from_init"), distance, rtol=1e-7)
    assert np.isnan(at(runs, 0, "update_size")).all()
    assert (at(runs, 0, "distance_from_init") == 0).all()
    for name in COLUMNS:
        found = pv.score(runs, name)
        np.testing.assert_array_equal(found, runs.filters[name].astype("float64"))
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    gap = recorded(tmp_path / "gap", [0, 2, 3], gap=True)
    assert np.isnan(at(gap, 2, "update_size")).all()
    assert at(gap, 2, "distance_from_init").min() > 0 and at(gap, 3, "update_size").min() > 0
    late = recorded(tmp_path / "late", [1, 2])
    assert at(late, 2, "update_size").min() > 0
    assert np.isnan(late.filters["distance_from_init"]).all()


@pytest.mark.parametrize("unit", ["weight", "neuron"])
def test_changes_of_single_weights_and_units(tmp_path: Path, unit: str) -> None:
    states = trained(2)
    grouping = {"all": [("0.weight", 0, range(4)), ("3.weight", 1, range(2)), ("0.bias", 0, [1])]}
    rows = grouping if unit == "neuron" else unit
    runs = recorded(tmp_path / "run", range(3), unit=rows, rows=10_000)
    parts = [
        states[2].get_parameter(name).double() - states[1].get_parameter(name).double()
        for name in ("0.weight", "3.weight", "0.bias")
    ]
    if unit == "weight":
        expected = torch.cat([part.flatten() for part in parts[:2]]).abs()
    else:
        parts[2] = parts[2][[1]]
        expected = torch.cat([part.flatten() for part in parts]).norm()[None]
    np.testing.assert_allclose(at(runs, 2, "update_size"), expected.detach(), rtol=1e-7)


@pytest.mark.parametrize("restored", ["before", "rewound"])
def test_a_resumed_recording_equals_an_uninterrupted_one(tmp_path: Path, restored: str) -> None:
    whole, states = recorded(tmp_path / "whole", range(5)), trained(4)
    out, model = tmp_path / "run", network()
    first = recorder(model, out)
    for epoch in range(4):
        model.load_state_dict(states[epoch].state_dict())
        first.after_epoch(epoch)
    again = network()
    if restored != "rewound":
        again.load_state_dict(states[3].state_dict())
    with recorder(again, out, resume=True) as second:
        if restored == "rewound":
            again.load_state_dict(states[2].state_dict())
            second.rewind(2)
            again.load_state_dict(states[3].state_dict())
            second.after_epoch(3)
        again.load_state_dict(states[4].state_dict())
        second.after_epoch(4)
    found, expected = pv.load(out).filters[COLUMNS], whole.filters[COLUMNS]
    pd.testing.assert_frame_equal(found, expected)


def test_kept_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    first = recorder(network(), tmp_path / "run")
    first.after_epoch(0)
    file = tmp_path / "run" / "checkpoint" / "initial.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(LogError, match=r"initial\.safetensors is corrupt"):
        recorder(network(), tmp_path / "run", resume=True)


def test_kept_weights_that_are_lost_are_named(tmp_path: Path) -> None:
    first = recorder(network(), tmp_path / "run")
    first.after_epoch(0)
    (tmp_path / "run" / "checkpoint" / "initial.safetensors").unlink()
    with pytest.raises(LogError, match=r"initial\.safetensors is missing, so distance_from_init"):
        recorder(network(), tmp_path / "run", resume=True)


def test_a_finished_run_that_goes_on_says_that_it_lost_its_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with recorder(network(), tmp_path / "run") as first:
        first.after_epoch(0)
    with recorder(network(), tmp_path / "run", resume="auto") as second:
        second.rewind(0)
        second.after_epoch(1)
    assert any("distance_from_init is null from now on" in said for said in caplog.messages)
    assert np.isnan(at(pv.load(tmp_path), 1, "distance_from_init")).all()
    assert (at(pv.load(tmp_path), 1, "update_size") == 0).all()


def test_a_run_without_epoch_0_goes_on_without_its_start(tmp_path: Path) -> None:
    first = recorder(network(), tmp_path / "run")
    first.after_epoch(1)
    first.log.checkpoint.mkdir()
    with recorder(network(), tmp_path / "run", resume=True) as second:
        second.after_epoch(2)
    assert np.isnan(pv.load(tmp_path).filters["distance_from_init"]).all()


def test_a_snapshot_has_no_changes() -> None:
    with pytest.raises(MeasureError, match=r"update_size compares two epochs.*from a Recorder"):
        pv.measure(network(), SAMPLE, columns=["theta_g", "update_size"])


def test_a_table_for_ranking_has_the_changes_and_moves_nothing(tmp_path: Path) -> None:
    states, model = trained(1), network()
    with recorder(model, tmp_path / "run") as recording:
        recording.after_epoch(0)
        model.load_state_dict(states[1].state_dict())
        ranked = recording.table(1, columns=["theta_g", "theta_g_se_iid"])
        recording.after_epoch(1)
        again = recording.table(1)
    pd.testing.assert_frame_equal(again[COLUMNS], ranked[COLUMNS])
    update = norms(states[1], states[0])
    np.testing.assert_allclose(pv.score(ranked, "update_size"), update, rtol=1e-7)
    np.testing.assert_allclose(at(pv.load(tmp_path), 1, "update_size"), update, rtol=1e-7)
    assert pv.score(ranked, "gate_fisher").notna().all()
