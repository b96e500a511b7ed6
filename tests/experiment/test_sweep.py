"""Sweeps: failures stop nothing and are told later, too; what is recorded is never done again."""

from __future__ import annotations

import multiprocessing
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import pruneviz as pv
from pruneviz.console.stop_signals import Stopped
from pruneviz.console.time_limit import TimeLimit
from pruneviz.errors import PresetError, PrunevizError
from pruneviz.experiment import sweep
from pruneviz.experiment.setting import Setting
from pruneviz.experiment.stop import Stop
from pruneviz.experiment.sweep import State, check_runs, record_sweep, state_of
from pruneviz.experiment.workers import Job
from pruneviz.log.sweep_notes import Note, keep_note, note_of, trace_file
from pruneviz.plans.own_runs import OwnRun
from pruneviz.plans.sweep_runs import RecordedRun
from tests.support.own_training import HERE
from tests.support.plans import UNPRUNED


def own(run: str, function: str = "train", **arguments: Any) -> OwnRun:
    return OwnRun(run, f"{HERE}:{function}", arguments)


WORDS = {
    "raises": r"KeyError: 'lr' \(.*own_training.py, line \d+\)",
    "torch": r"RuntimeError: .*own_training.py, line \d+\)",
    "unfinished": f"{HERE}:train_unless has returned, but .* is unfinished; record into the folder",
    "nothing": f"{HERE}:train_unless has returned, but .* is no recording; record into the folder",
    "exits": "its process ended before the run did, with exit code 1",
    "killed": r"its process was killed \(SIGKILL\)",
}


def run_here(
    jobs: Sequence[Job],
    at_once: int,
    say: Callable[[str], None],
    *others: object,
    failed: Callable[[str, str], object],
    **how: object,
) -> None:
    """Record runs one after the other in this process, as workers do."""
    for job in jobs:
        try:
            say(f"{job.run}: {job.work(lambda epochs, note: None, Stop())}")
        except PrunevizError as error:
            failed(job.run, str(error))
            say(f"{job.run}: failed: {error}")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are recorded in this process."""
    monkeypatch.setattr(sweep, "run_jobs", run_here)


def test_failures_stop_no_other_run_and_are_kept_until_it_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, setting = tmp_path / "marker", Setting(tmp_path / "out", threads=1)
    marker.touch()
    hows = ("raises", "torch", "unfinished", "nothing", "killed")
    failing = [
        own(f"fails-{how}", "train_unless", marker=str(marker), how=how, seed=1) for how in hows
    ]
    r0, r1 = own("r0", seed=0), own("r1", seed=2, width=3, epochs=2)
    # the one whose process dies is the last, so that no other process has to begin
    runs = [*failing[:2], r0, r1, *failing[2:]]
    assert {state_of(run, setting) for run in runs} == {State("missing")}
    said: list[str] = []
    with pytest.raises(PrunevizError, match=r"^5 of 7 runs failed; fix the cause and repeat"):
        record_sweep(runs, setting, 1, said.append)
    assert {line.partition(" (")[0] for line in said if "recorded" in line} == {
        "r0: recorded 1 epoch",
        "r1: recorded 2 epochs",
    }
    assert state_of(r0, setting) == state_of(r1, setting) == State("recorded")
    for run in failing:
        state = state_of(run, setting)
        assert state.word == "failed"
        assert re.search(WORDS[run.arguments["how"]], state.why), state.why
    assert "Traceback" in trace_file(setting.out, "fails-torch").read_text(encoding="utf-8")
    before = (setting.out / "r0" / "spec.json").read_bytes()
    marker.unlink()
    monkeypatch.setattr(sweep, "run_jobs", run_here)
    record_sweep(failing, setting, 1, said.append)
    assert {state_of(run, setting) for run in runs} == {State("recorded")}
    assert not trace_file(setting.out, "fails-torch").exists()
    assert (setting.out / "r0" / "spec.json").read_bytes() == before
    assert sorted(pv.load(setting.out).spec["run"]) == sorted(run.run for run in runs)


def test_functions_leave_no_setting_to_the_next_run(tmp_path: Path, here: None) -> None:
    setting = Setting(tmp_path, threads=1)
    runs = [own("a", "keep_settings", seed=0), own("b", "keep_settings", seed=1)]
    record_sweep(runs, setting, 1, lambda line: None)
    assert {state_of(run, setting).word for run in runs} == {"recorded"}


def test_other_arguments_are_not_taken_for_those_that_were_recorded(
    tmp_path: Path, here: None
) -> None:
    setting, said = Setting(tmp_path, threads=1), list[str]()
    record_sweep([own("r0", seed=0)], setting, 1, said.append)
    other = own("r0", seed=1, width=2)
    state = state_of(other, setting)
    assert state.word == "failed"
    assert state.why.endswith(
        "r0 was begun with other arguments: seed was 0, now 1; width was None, now 2; use the old "
        "ones, give another name, or delete the folder"
    )
    record_sweep([other], setting, 1, said.append)
    assert said == ["r0: recorded 1 epoch", f"r0: failed: {state.why}"]
    assert state_of(own("r0", seed=0), setting) == State("recorded")


def test_a_recording_with_other_options_fails_alone(tmp_path: Path) -> None:
    (tmp_path / UNPRUNED.run).mkdir()
    (tmp_path / UNPRUNED.run / "spec.json").write_text("{")
    state = state_of(RecordedRun(UNPRUNED), Setting(tmp_path))
    assert state.word == "failed" and "spec.json is corrupt (" in state.why


def test_a_run_that_is_tried_again_has_not_failed_until_it_does(
    tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, setting = RecordedRun(UNPRUNED), Setting(tmp_path)
    keep_note(tmp_path, run.run, Note({}, "no data"))
    assert state_of(run, setting) == State("failed", "no data")

    def stopped(*arguments: object) -> str:
        raise Stopped(signal.SIGTERM, "stopped")

    monkeypatch.setattr(sweep, "record_one", stopped)
    with pytest.raises(Stopped):
        record_sweep([run], setting, 1, lambda line: None)
    assert state_of(run, setting) == State("missing")


RECORDING = f"""
import sys
from {HERE} import wait_in_epoch
wait_in_epoch(sys.argv[1], sys.argv[2])
"""


def test_what_another_command_records_is_running_and_left_to_it(tmp_path: Path, here: None) -> None:
    setting, said = Setting(tmp_path, threads=1), list[str]()
    run, marker = own("r0", "wait_in_epoch", marker="m"), tmp_path / "recording"
    with subprocess.Popen([sys.executable, "-c", RECORDING, tmp_path / "r0", marker]) as other:
        while not marker.exists():
            assert other.poll() is None
            time.sleep(0.05)
        state = state_of(run, setting)
        assert state.word == "running" and f"by process {other.pid} (" in state.why
        record_sweep([run], setting, 1, said.append)
        assert said[0].startswith(f"r0: left to another command, it is being recorded {state.why}")
        other.send_signal(signal.SIGKILL)
    assert state_of(run, setting) == State("unfinished")
    assert note_of(tmp_path, "r0") == Note()


def test_functions_are_stopped_when_the_time_limit_is_near(tmp_path: Path) -> None:
    marker = tmp_path / "recording"
    runs = [own("r0", "wait_in_epoch", marker=str(marker)), own("r1")]

    class Near(TimeLimit):
        def is_near(self) -> bool:
            return marker.exists()

    setting = Setting(tmp_path / "out", threads=1)
    with pytest.raises(Stopped, match=r"^The time limit of 55m is near: r0 stopped; 1 run not"):
        record_sweep(runs, setting, 1, lambda line: None, limit=Near("55m", 3300))
    assert not multiprocessing.active_children()
    assert [state_of(run, setting) for run in runs] == [State("unfinished"), State("missing")]


CALLS = {
    "train_": "function 'tests.support.own_training:train_': .* has no function 'train_'; it has",
    "train": r"own_training:train\(folder.*\) -> .* cannot be called with the run directory, lr: "
    "got an unexpected keyword argument 'lr'; change arguments, or the function",
    "wait_in_epoch": "missing a required argument: 'marker'|unexpected keyword argument 'lr'",
}


@pytest.mark.parametrize("function", CALLS)
def test_functions_that_cannot_be_called_are_refused_before_any_run(
    tmp_path: Path, function: str
) -> None:
    with pytest.raises(PresetError, match=CALLS[function]):
        check_runs([own("r0"), own("r1", function, lr=0.1)], Setting(tmp_path))
    with pytest.raises(PresetError, match=r"module 'no_such' cannot be imported: .*; give module:"):
        check_runs([OwnRun("r0", "no_such:train", {})], Setting(tmp_path))


def test_notes_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    keep_note(tmp_path, "r0", Note({"function": "m:f", "arguments": {"lr": 0.1}}, "no data"))
    assert note_of(tmp_path, "r0").failed == "no data"
    file = tmp_path / ".sweep" / "r0.json"
    for text in ("", "{", "[]", '{"begun": 3, "failed": ""}', "[" * 100_000):
        file.write_text(text)
        assert note_of(tmp_path, "r0") == Note()


@pytest.mark.soak
def test_two_hundred_runs_end_as_they_should(tmp_path: Path) -> None:
    """Of 200, every tenth fails in one of six ways; the second command records those alone."""
    marker, setting, said = tmp_path / "marker", Setting(tmp_path / "out", threads=1), list[str]()
    marker.touch()
    hows = list(WORDS)
    runs = [
        own(f"r{n}", "train_unless", marker=str(marker), how=hows[n // 10 % 6], seed=n)
        if n % 10 == 0
        else own(f"r{n}", seed=n, width=2 + n % 3)
        for n in range(200)
    ]
    with pytest.raises(PrunevizError, match=r"^20 of 200 runs failed; "):
        record_sweep(runs, setting, 4, said.append)
    words = Counter(state_of(run, setting).word for run in runs)
    assert words == {"recorded": 180, "failed": 20}
    assert len(said) == 200
    marker.unlink()
    record_sweep(
        [run for run in runs if state_of(run, setting).word != "recorded"], setting, 4, said.append
    )
    assert len(said) == 220
    assert {state_of(run, setting) for run in runs} == {State("recorded")}
    assert set(pv.load(setting.out).spec["seed"]) == set(range(200))
