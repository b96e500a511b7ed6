"""Two ranks record one run, and the log is that of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

import pruneviz as pv
from pruneviz.errors import LogError
from tests.support.short_recordings import SAMPLE, assert_same_tables, network
from tests.support.two_ranks import EPOCHS, train_epoch, train_on_two_ranks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def seen(folder: Path) -> list[dict[str, object]]:
    return train_on_two_ranks(folder)


def test_rank_0_records_what_one_process_would(
    folder: Path, tmp_path: Path, seen: list[dict[str, object]]
) -> None:
    model = network()
    with pv.Recorder(model, SAMPLE, tmp_path / "alone", every=1) as recorder:
        recorder.after_epoch(0, test_acc=0.5)
        for epoch in range(1, EPOCHS + 1):
            train_epoch(model)
            recorder.after_epoch(epoch, test_acc=0.5 + epoch / 10)
    shared = pv.load(folder / "shared")
    assert_same_tables(shared, pv.load(tmp_path / "alone"))
    assert shared.spec["size"].item() == 3, "a note of rank 0 is kept"
    assert [rank["records"] for rank in seen] == [True, False]


def test_every_rank_knows_where_to_continue(seen: list[dict[str, object]]) -> None:
    assert [(rank["resumed"], rank["last"]) for rank in seen] == [(1, EPOCHS)] * 2


def test_an_idle_rank_has_no_table_and_says_where_it_is(seen: list[dict[str, object]]) -> None:
    assert seen[0]["table"] == ""
    assert "rank 1 records nothing" in str(seen[1]["table"])
    assert "on rank 0" in str(seen[1]["table"])


def test_what_follows_a_trainer_is_idle_on_other_ranks(
    folder: Path, seen: list[dict[str, object]]
) -> None:
    assert [rank["followed"] for rank in seen] == [1, None]
    assert pv.load(folder / "followed").epochs["test_acc"].tolist()[1:] == [0.8]


def test_every_rank_records_into_its_own_folder_on_request(
    folder: Path, seen: list[dict[str, object]]
) -> None:
    assert len(seen) == len(list(folder.glob("own*/spec.json"))) == 2


def test_one_rank_does_not_wait_for_batch_statistics_of_others(
    seen: list[dict[str, object]],
) -> None:
    for rank in seen:  # all of them stop, none waits for one that has failed
        assert "measure with bn='eval'" in str(rank["synced"])
        assert "is not initialised yet" in str(rank["unsupported"])


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
