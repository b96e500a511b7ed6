"""Worker processes: they end with their parent, share what failed, and hide no bug."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pruneviz.errors import PrunevizError
from pruneviz.experiment import parallel
from pruneviz.experiment.parallel import Device, Job, available_device, run_jobs, start_worker
from tests.support.jobs import break_down, fail_without_words, miss_images, succeed

# A process that starts a worker as recording does, prints its number, and waits for ever.
PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from pruneviz.experiment.parallel import start_worker
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


def test_a_worker_keeps_the_memory_it_frees(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(parallel, "keep_freed_memory", lambda: called.append(True))
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
