"""Worker processes: they end with their parent, share what failed, and hide no bug."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from pruneviz.console.progress import Lines
from pruneviz.console.stop_signals import Received, Stopped
from pruneviz.console.time_limit import TimeLimit
from pruneviz.errors import PrunevizError
from pruneviz.experiment import workers
from pruneviz.experiment.parallel import Device, available_device, run_jobs
from pruneviz.experiment.workers import Job, death, start_worker
from tests.support.jobs import (
    be_ended,
    be_killed,
    break_down,
    crash,
    exit_politely,
    fail_without_words,
    finish_when_asked,
    leave,
    miss_images,
    signal_the_command,
    signal_when_asked,
    stay,
    succeed,
    wait_to_be_stopped,
)

# A process that starts a worker as recording does, prints its number, and waits for ever.
PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from pruneviz.experiment.workers import start_worker
if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=start_worker) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def runs_on(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them(
    tmp_path: Path, how: signal.Signals
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert runs_on(worker)
        parent.send_signal(how)
    deadline = time.monotonic() + 60
    while runs_on(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = runs_on(worker)
    if left:
        os.kill(worker, signal.SIGKILL)
    assert not left


def test_runs_that_fail_for_one_reason_share_a_sentence_after_the_others_are_done() -> None:
    said: list[str] = []
    jobs = [Job("r0", 2, miss_images), Job("r1", 2, succeed), Job("r2", 2, miss_images)]
    with pytest.raises(
        PrunevizError,
        match=r"^2 of 3 runs failed; fix the cause and repeat the command\. "
        r"(r0, r2|r2, r0): no images; download them$",
    ):
        run_jobs(jobs, 2, said.append)
    assert sorted(line.partition(" (")[0] for line in said) == [
        "r0: failed",
        "r1: recorded",
        "r2: failed",
    ]


def test_a_failure_without_a_message_is_a_failure() -> None:
    said: list[str] = []
    with pytest.raises(PrunevizError, match=r"^1 of 1 runs failed; .* r0: NotImplementedError$"):
        run_jobs([Job("r0", 2, fail_without_words)], 1, said.append)
    assert said[0].startswith("r0: failed")


def test_a_bug_in_a_worker_is_raised() -> None:
    with pytest.raises(TypeError, match="a bug"):
        run_jobs([Job("r0", 2, break_down)], 1, lambda line: None)


DEATHS = [
    ("killed", be_killed, r"its process was killed \(SIGKILL\) by somebody, or by the system"),
    ("crashed", crash, r"its process crashed \(SIGSEGV\)"),
    ("left", leave, "its process ended before the run did, with exit code 3"),
    ("exited", exit_politely, "its process ended before the run did, with exit code 4"),
    ("ended", be_ended, r"its process was asked to end, and stopped after step 1 of 2 of epoch 1"),
]


def test_dead_workers_fail_their_own_runs_alone() -> None:
    """All ways to die among runs that go well, two at a time."""
    said: list[str] = []
    dying = [Job(name, 2, work) for name, work, _ in DEATHS]
    living = [Job(f"r{number}", 2, succeed) for number in range(3)]
    with pytest.raises(PrunevizError, match=r"^5 of 8 runs failed; ") as failure:
        run_jobs([living[0], *dying, *living[1:]], 2, said.append)
    for name, _, words in DEATHS:
        assert re.search(f"{name}: {words}", str(failure.value))
    assert str(failure.value).count("the run goes on from its last checkpoint when") == 5
    recorded = {line.partition(":")[0] for line in said if ": recorded" in line}
    assert recorded == {"r0", "r1", "r2"}
    assert len(said) == 8


def test_lack_of_memory_is_told_where_the_system_tells_it() -> None:
    assert "(SIGKILL) because memory ran out; run fewer at once" in death(-9, for_memory=True)
    assert death(143).startswith("its process was ended (SIGTERM);")
    assert death(-15).startswith("its process was ended (SIGTERM);")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_lets_runs_stop_at_their_next_step(name: str) -> None:
    number = signal.Signals[name]
    before, said = signal.getsignal(number), list[str]()
    jobs = [Job("r0", 2, partial(signal_the_command, numbers=(number,))), Job("r1", 2, succeed)]
    with pytest.raises(Stopped) as stopped:
        run_jobs(jobs, 1, said.append)
    why = "Interrupted" if name == "SIGINT" else f"Ended by {name}"
    assert str(stopped.value) == (
        f"{why}: r0 stopped after step 1 of 2 of epoch 1; 1 run not begun. "
        "Finished work is kept; repeat the command to go on."
    )
    assert stopped.value.number == number
    assert not said
    assert signal.getsignal(number) is before
    assert not multiprocessing.active_children()


def test_a_second_signal_ends_runs_at_once_and_those_that_never_come_to_a_step() -> None:
    twice = partial(signal_the_command, numbers=(signal.SIGINT, signal.SIGTERM))
    with pytest.raises(
        Stopped, match=r"^Ended at once by a second SIGTERM\. Finished work is kept"
    ):
        run_jobs([Job("r0", 2, twice), Job("r1", 2, stay)], 2, lambda line: None)
    assert not multiprocessing.active_children()


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> TimeLimit:
    """A limit that is near as soon as the command has heard of a run."""
    heard: list[str] = []
    monkeypatch.setattr(Lines, "move", lambda self, run, epochs, note: heard.append(run))
    monkeypatch.setattr(TimeLimit, "is_near", lambda self: bool(heard))
    return TimeLimit("1h30m", 5400)


def test_runs_stop_at_their_next_step_when_the_time_limit_is_near(limit: TimeLimit) -> None:
    said: list[str] = []
    jobs = [Job("r0", 2, wait_to_be_stopped), Job("r1", 2, succeed)]
    with pytest.raises(Stopped) as stopped:
        run_jobs(jobs, 1, said.append, limit=limit)
    assert str(stopped.value) == (
        "The time limit of 1h30m is near: r0 stopped after step 1 of 2 of epoch 1; "
        "1 run not begun. Finished work is kept; repeat the command to go on."
    )
    assert (stopped.value.number, stopped.value.code) == (None, 1)
    assert not said
    assert not multiprocessing.active_children()


def test_runs_that_end_in_the_time_that_is_left_are_recorded(limit: TimeLimit) -> None:
    said: list[str] = []
    run_jobs([Job("r0", 2, finish_when_asked)], 1, said.append, limit=limit)
    assert [line.partition(" (")[0] for line in said] == ["r0: recorded after all"]


def test_a_signal_at_the_time_limit_is_no_second_one(limit: TimeLimit) -> None:
    both = partial(signal_when_asked, number=signal.SIGTERM)
    with pytest.raises(Stopped, match=r"^Ended by SIGTERM: r0 stopped after step 1") as stopped:
        run_jobs([Job("r0", 2, both)], 1, lambda line: None, limit=limit)
    assert stopped.value.code == 143


def test_no_run_begins_when_the_time_is_over_before() -> None:
    over = TimeLimit("1h", 3600, began=time.monotonic() - 3600)
    with pytest.raises(Stopped, match=r"^The time limit of 1h is near: 2 runs not begun\. "):
        run_jobs([Job("r0", 2, succeed), Job("r1", 2, succeed)], 1, lambda line: None, limit=over)


def test_processes_of_torchrun_do_not_all_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(PrunevizError, match="torchrun has started this command several times"):
        run_jobs([Job("r0", 2, succeed)], 1, lambda line: None)


def test_signals_that_are_ignored_stay_so() -> None:
    """As of `nohup`, and of SIGINT in the background jobs of a shell."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Received() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.next() is None
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signals.next(5) == signal.SIGUSR1
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_worker_keeps_the_memory_it_frees(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(workers, "keep_freed_memory", lambda: called.append(True))
    start_worker()
    assert called == [True]


@pytest.mark.parametrize("has_gpu", [False, True])
def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, has_gpu: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert available_device(Device.auto) == ("cuda" if has_gpu else "cpu")
    assert available_device(Device.cpu) == "cpu"
    if has_gpu:
        assert available_device(Device.cuda) == "cuda"
    else:
        with pytest.raises(PrunevizError, match="there is no CUDA GPU on this machine"):
            available_device(Device.cuda)
