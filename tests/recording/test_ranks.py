"""Several ranks measure and record one network, and the numbers are those of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.errors import LogError, MeasureError
from tests.support.ranks import (
    FURTHER,
    MODES,
    dies,
    measured,
    run_ranks,
    small_network,
    small_sample,
)
from tests.support.ranks import train_epoch as train
from tests.support.short_recordings import SAMPLE, assert_same_tables, network

pytestmark = pytest.mark.timeout(1200)  # the ranks do everything in the first test's setup

CLOSE = 1e-10  # relative to the largest value of a column


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def seen(folder: Path) -> list[dict[str, Any]]:
    return run_ranks(folder)


def assert_close(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Check that two tables hold equal keys and numbers that differ by rounding."""
    assert list(found) == list(expected)
    assert found.attrs == expected.attrs
    for name in expected:
        if not pd.api.types.is_float_dtype(expected[name]):
            assert (found[name] == expected[name]).all(), name
            continue
        one, other = found[name].to_numpy(), expected[name].to_numpy()
        largest = np.nanmax(np.abs(other), initial=0.0)
        np.testing.assert_allclose(one, other, rtol=0, atol=CLOSE * largest, err_msg=str(name))


def test_three_ranks_measure_what_one_process_does(seen: list[dict[str, Any]]) -> None:
    alone = measured(MODES, "alone")
    for rank in seen:
        for case, table in rank["three"].items():
            assert_close(table, alone[case])


def test_columns_on_request_are_those_of_one_process(seen: list[dict[str, Any]]) -> None:
    alone = measured(FURTHER, "alone")
    for rank in seen[:2]:
        for case, table in rank["two"]["measured"].items():
            assert_close(table, alone[case])


def test_ranks_record_what_one_process_would(
    folder: Path, tmp_path: Path, seen: list[dict[str, Any]]
) -> None:
    model = network()
    with pv.Recorder(model, SAMPLE, tmp_path / "alone", every=2, samples=2) as recorder:
        recorder.after_epoch(0, test_acc=0.5)
        for epoch in (1, 2, 3):
            train(model)
            recorder.after_epoch(epoch, test_acc=0.5 + epoch / 10)
    shared, alone = pv.load(folder / "shared"), pv.load(tmp_path / "alone")
    for name in ("filters", "epochs", "halves"):
        found, expected = (getattr(runs, name).drop(columns="run") for runs in (shared, alone))
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-6)
    assert shared.filters["theta_hg"].notna().groupby(shared.filters["epoch"]).any().to_dict() == {
        0: True,
        1: False,
        2: True,
        3: True,  # the last epoch, measured by all ranks when they closed
    }
    assert shared.spec["size"].item() == 3, "a note of rank 0 is kept"


def test_every_rank_knows_where_the_recording_stands(seen: list[dict[str, Any]]) -> None:
    first, second = (rank["two"]["share"] for rank in seen[:2])
    assert (first["records"], second["records"]) == (True, False)
    for rank in (first, second):
        assert (rank["resumed"], rank["next"], rank["last"], rank["finished"]) == (1, 2, 3, True)
    pd.testing.assert_frame_equal(first["table"], second["table"], check_exact=True)


def test_one_rank_records_alone_on_request(folder: Path, seen: list[dict[str, Any]]) -> None:
    first, second = (rank["two"]["first"] for rank in seen[:2])
    assert (first["records"], first["table"]) == (True, "")
    assert "rank 1 records nothing" in second["table"] and "ranks='share'" in second["table"]
    assert pv.load(folder / "first").epochs["epoch"].tolist() == [0]
    assert len(list(folder.glob("own*/spec.json"))) == 2, "ranks='each' records every rank"


def test_what_follows_a_trainer_goes_along_on_all_ranks(
    folder: Path, seen: list[dict[str, Any]]
) -> None:
    assert [rank["two"]["followed"] for rank in seen[:2]] == [1, 1]
    assert [rank["two"]["state"] for rank in seen[:2]] == [True, False], "rank 0 saves the place"
    assert all("already holds a run" in rank["two"]["again"] for rank in seen[:2])
    assert pv.load(folder / "followed").epochs["test_acc"].tolist()[1:] == [0.8]


def test_a_sharded_network_is_measured_as_the_whole_one(
    folder: Path, seen: list[dict[str, Any]]
) -> None:
    expected = pv.measure(small_network(), small_sample("eval"), chunk=4)
    for rank in seen[:2]:
        assert_close(rank["two"]["sharded"], expected)
        assert "ranks='share'" in rank["two"]["alone"]
        assert "parameter 0.weight is split over devices" in rank["two"]["parallel"]
    recorded = pv.load(folder / "sharded").filters
    before, after = (recorded[recorded["epoch"] == epoch] for epoch in (0, 1))
    np.testing.assert_allclose(before["theta_hg"], expected["theta_hg"], rtol=1e-5)
    assert (after["theta_norm2"].to_numpy() != before["theta_norm2"].to_numpy()).any()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("unsupported", "is not initialised yet"),
        ("synced", "measure with bn='eval'"),
        ("options", "lag is 1 on rank 0 and 2 on rank 1"),
        ("folders", "give the same on every rank"),
        ("bn", "bn is eval on rank 0 and batch on rank 1"),
        ("losses", "loss is "),
        ("activations", "the module 2 is ReLU() on rank 0 and GELU("),
        ("networks", "the parameter 0.weight"),
        ("samples", "the sample differs between rank 0 and rank 1"),
        ("failed", "RuntimeError: out of luck"),
        ("epochs", "rank 0 is at after_epoch(1), rank 1 at after_epoch(2)"),
    ],
)
def test_ranks_at_odds_end_in_one_error_on_each(
    seen: list[dict[str, Any]], what: str, words: str
) -> None:
    for rank in seen[:2]:
        assert words in rank["odds"][what]


def test_ranks_go_on_after_an_error_that_both_had(seen: list[dict[str, Any]]) -> None:
    assert [rank["odds"]["went on"] for rank in seen[:2]] == [1, 1]


def test_a_rank_that_is_gone_ends_in_an_error_and_the_run_goes_on_later(
    folder: Path, seen: list[dict[str, Any]]
) -> None:
    skipped, dead = seen[0]["alone"]["skipped"], seen[0]["alone"]["dead"]
    assert "waited at after_epoch(1), and rank 1 did not come" in skipped
    assert "rank 0 waited at" in dead
    for name, loss in (("skipped", None), ("dead", dies)):
        run = pv.Recorder(network(), SAMPLE, folder / name, every=1, loss=loss, resume=True)
        run.after_epoch(1)
        run.close()
        assert pv.faults(folder / name).empty
        assert pv.load(folder / name).epochs["epoch"].tolist() == [0, 1]


def test_words_for_ranks_are_checked(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="ranks='all'; choose 'share'"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", ranks="all")  # type: ignore[arg-type]
    with pytest.raises(MeasureError, match="ranks='all'; choose 'alone'"):
        pv.measure(network(), SAMPLE, ranks="all")  # type: ignore[arg-type]


def test_one_process_shares_with_nobody(tmp_path: Path) -> None:
    for word in ("share", "first"):
        with pv.Recorder(network(), SAMPLE, tmp_path / word, ranks=word) as recorder:  # type: ignore[arg-type]
            recorder.after_epoch(0)
    assert_same_tables(pv.load(tmp_path / "share"), pv.load(tmp_path / "first"))


def test_processes_without_a_group_learn_why_their_folder_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pv.Recorder(network(), SAMPLE, tmp_path / "run")
    with pytest.raises(LogError) as alone:
        pv.Recorder(network(), SAMPLE, tmp_path / "run")
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun does
    with pytest.raises(LogError, match=r"already holds .*init_process_group .* only rank 0"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run")
    assert "init_process_group" not in str(alone.value)
