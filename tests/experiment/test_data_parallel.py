"""Two processes train one run: the steps of one process, one network, resumed to the same bytes."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import pruneviz as pv
from pruneviz.errors import LogError, PresetError
from pruneviz.experiment.data_parallel import check_batch, share_of
from pruneviz.experiment.run import record_run
from pruneviz.experiment.setting import Setting, is_due, is_recorded
from pruneviz.measuring.ranks import Ranks
from pruneviz.recording.kept_weights import kept_epochs
from tests.support.cut_off import ignore, without_times
from tests.support.data_parallel import PLAN, begun_alone, run_both, trained

pytestmark = pytest.mark.timeout(600)  # the processes do everything in the first test's setup

ALONE = replace(PLAN, run="alone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    begun_alone(folder, ALONE)
    return folder


@pytest.fixture(scope="module")
def seen(folder: Path) -> list[dict[str, Any]]:
    return run_both(folder)


def test_shares_are_a_batch_and_none_is_a_single_image() -> None:
    for count in range(1, 9):
        for images in range(1, 40):
            shares = [share_of(images, Ranks(number, count)) for number in range(count)]
            positions = [list(range(images))[share] for share in shares]
            assert list(chain(*positions)) == list(range(images))
            assert images == 1 or 1 not in map(len, positions)
    check_batch(4, Ranks(0, 2))
    with pytest.raises(PresetError, match=r"3 images is too small for 2 processes.*at most 1"):
        check_batch(3, Ranks(0, 2))


def test_two_processes_take_the_steps_of_one(seen: list[dict[str, Any]]) -> None:
    alone = trained()
    for rank in seen:
        found = rank["trained"]
        for name, weights in alone["weights"].items():
            torch.testing.assert_close(found["weights"][name], weights, rtol=1e-12, atol=1e-13)
            assert torch.equal(found["weights"][name], seen[0]["trained"]["weights"][name])
        torch.testing.assert_close(found["epochs"], alone["epochs"], rtol=1e-6, atol=0)
        assert found["tested"] == pytest.approx(alone["tested"], rel=1e-6)
        assert found["tested"] == seen[0]["trained"]["tested"]


def test_a_signal_to_one_process_stops_both_at_the_same_step_and_both_go_on(
    folder: Path, seen: list[dict[str, Any]]
) -> None:
    assert seen[0]["whole"] == seen[1]["whole"] == []
    assert seen[0]["cut"] == seen[1]["cut"]
    assert len(seen[0]["cut"]) == 1
    assert all(told.endswith("(10)") for told in seen[0]["cut"])
    assert any("of 4 of epoch" in told for told in seen[0]["cut"]), "within an epoch"
    whole, cut = pv.load(folder / "whole"), pv.load(folder / "cut")
    pd.testing.assert_frame_equal(without_times(cut), without_times(whole), check_exact=True)
    for table in ("filters", "rounds"):
        one, other = (folder / name / PLAN.run / f"{table}.parquet" for name in ("whole", "cut"))
        assert one.read_bytes() == other.read_bytes()
    assert kept_epochs(folder / "cut" / PLAN.run) == [0, 1, 2]


def test_a_run_says_how_many_processes_trained_it(folder: Path, seen: list[dict[str, Any]]) -> None:
    runs = pv.load(folder / "whole")
    assert runs.spec["ranks"].tolist() == [2]
    assert runs.rounds["kept"].sum() == 92
    assert is_recorded(PLAN, Setting(folder / "whole")), "however many would train it now"


def test_another_number_of_processes_does_not_go_on_with_a_run(
    folder: Path, seen: list[dict[str, Any]]
) -> None:
    for rank in seen:
        assert "started by one process and would go on with 2" in rank["refused"]["alone"]
        assert "call pruneviz record without torchrun" in rank["refused"]["alone"]
        assert "3 images is too small for 2 processes" in rank["refused"]["small"]
    with pytest.raises(LogError, match="one process and would go on with 2"):
        is_due(ALONE, Setting(folder, ranks=2))
    assert is_due(ALONE, Setting(folder))
    with pytest.raises(
        LogError, match=r"by 2 processes and would go on with 1.*start 2 with torchr"
    ):
        record_run(PLAN, Setting(folder / "left", keep_weights=True), ignore)


def test_processes_that_hold_different_networks_are_named(seen: list[dict[str, Any]]) -> None:
    for rank in seen:
        assert "after epoch 7 rank 1 has another random generator" in rank["refused"]["draws"]
        assert "after epoch 8 rank 1 has another network than rank 0" in rank["refused"]["network"]
