"""Many runs side by side: what they share is checked and fetched once, and Ctrl-C ends them all."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import pruneviz as pv
from pruneviz.errors import DataError, PresetError
from pruneviz.experiment import campaign, datasets
from pruneviz.experiment.campaign import check_data_sets, record_runs
from pruneviz.experiment.setting import Setting
from pruneviz.experiment.stop import Stop
from pruneviz.experiment.workers import Job
from pruneviz.plans.planning import plan_runs
from tests.support.plans import UNPRUNED
from tests.support.stopped_commands import StoppedCommand


def test_each_data_set_is_checked_once_and_fetched_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, Path | None, bool]] = []

    def find(name: str, *, root: Path | None, download: bool) -> None:
        found.append((name, root, download))
        if name == "cifar100":
            raise DataError("no connection")

    monkeypatch.setattr(datasets, "find_dataset", find)
    with pytest.raises(DataError, match="no connection"):
        check_data_sets(["digits", "cifar100", "digits"], tmp_path, download=True)
    assert found == [("digits", tmp_path, True), ("cifar100", tmp_path, True)]


def test_missing_images_and_unknown_names_are_found_without_reading_images(tmp_path: Path) -> None:
    check_data_sets(["digits"], tmp_path)
    for name, message in (
        ("cifar10", r"cifar10 cannot be read from .*cifar-10-batches-py \(missing: .*--download"),
        ("tiny-imagenet", "tiny-imagenet is not in"),
        ("folder", "has no train/ with val/ or test/ next to it"),
    ):
        with pytest.raises(DataError, match=message):
            check_data_sets([name], tmp_path)
    with pytest.raises(PresetError, match="no data set 'digit'; did you mean 'digits'"):
        check_data_sets(["digit"], tmp_path)


def test_workers_download_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Job] = []

    def run_jobs(jobs: Sequence[Job], at_once: int, *others: object, **how: object) -> None:
        seen.extend(jobs)
        assert at_once == 2

    monkeypatch.setattr(campaign, "run_jobs", run_jobs)
    plans = [UNPRUNED, replace(UNPRUNED, run="r1", seed=1)]
    record_runs(plans, Setting(tmp_path, download=True), 2, lambda text: None)
    assert [(job.run, job.epochs, job.work.args[0]) for job in seen] == [  # type: ignore[attr-defined]
        (plan.run, plan.epochs, plan) for plan in plans
    ]
    assert [job.work.args[1].download for job in seen] == [False, False]  # type: ignore[attr-defined]


def test_a_run_that_another_command_has_finished_counts_as_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded_recordings: Path
) -> None:
    (plan,) = plan_runs("digits", seeds=(0,), figures=("13",))
    before = embedded_recordings / plan.run
    (tmp_path / plan.run).symlink_to(before, target_is_directory=True)
    said: list[str] = []

    def run_jobs(jobs: Sequence[Job], at_once: int, *others: object, **how: object) -> None:
        said.extend(job.work(lambda epochs, text: None, Stop()) for job in jobs)

    monkeypatch.setattr(campaign, "run_jobs", run_jobs)
    record_runs([plan], Setting(tmp_path), 1, said.append)
    accuracy = pv.load(before).epochs["test_acc"].iloc[-1]
    assert said == [f"recorded 16 epochs, test accuracy {accuracy:.1%}"]


def test_a_signal_to_all_processes_of_the_command_lets_runs_write_checkpoints(
    tmp_path: Path,
) -> None:
    plans = [replace(UNPRUNED, run=f"r{seed}", seed=seed, epochs=5_000) for seed in range(3)]
    command = StoppedCommand(tmp_path, plans, "--jobs", "1")
    command.wait_for("r0/parts/epochs-*")
    ended = command.stop(signal.SIGTERM)
    assert ended.code == 143
    assert re.fullmatch(
        r"Ended by SIGTERM: r0 stopped after (step 1 of 2 of )?epoch \d+(, before .*)?; "
        r"2 runs not begun\. Finished work is kept; repeat the command to go on\.\n",
        ended.stderr,
    )
    assert not ended.left, "no process of the command is left behind"
    assert [run.name for run in command.out.iterdir()] == ["r0"]
    assert list(command.out.glob("r0/checkpoint/*.pt"))
    assert len(pv.load(command.out, unfinished="include").epochs) < 5_000
