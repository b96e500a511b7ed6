"""Paths that a beginner takes and a sceptic checks: runs beside those of the figures, killed processes, words that claim too much."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import pruneviz as pv
from pruneviz import record
from pruneviz.errors import DataError, PresetError, PruningError
from pruneviz.experiment import run
from pruneviz.experiment.run import record_run
from pruneviz.experiment.setting import Setting
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.log.run_directory import read_spec
from pruneviz.plans.planning import plan_pruned_runs
from pruneviz.plans.run_plan import RunPlan

PLAN = RunPlan(
    "r0", "tiny", "vgg13", "digits", 0, epochs=2, lr_drops=(), batch_size=32, augment=False, width=0.0625, every=1,
    sample_per_class=1, train_per_class=6, test_per_class=4, pruning=PruningOptions("magnitude", 0.5),
)  # fmt: skip

# A process that starts a worker as recording does, tells the worker's number, and waits for ever.
PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from pruneviz.experiment.parallel import end_with_parent
if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def ignore(epochs: float, note: str) -> None:
    pass


def interrupt(epochs: float, note: str) -> None:
    if epochs >= 2:
        raise KeyboardInterrupt


def runs_on(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


# Recording


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


def test_a_run_goes_on_with_the_threads_it_was_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: asked[-1])
    with pytest.raises(KeyboardInterrupt):
        record_run(PLAN, Setting(tmp_path, threads=1), interrupt)
    record_run(PLAN, Setting(tmp_path, threads=2), ignore)
    record_run(replace(PLAN, run="r1"), Setting(tmp_path, threads=2), ignore)
    assert asked == [1, 1, 2] and [read_spec(tmp_path / name).threads for name in ("r0", "r1")] == [
        1,
        2,
    ]


def test_a_run_ends_whole_where_its_filters_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(network: torch.nn.Module, example: torch.Tensor) -> None:
        raise PruningError("Torch-Pruning is not installed")

    monkeypatch.setattr(run, "remove", refuse)
    record_run(PLAN, Setting(tmp_path), ignore)
    extra = read_spec(tmp_path / "r0").extra
    assert (
        extra["not_removed"] == "Torch-Pruning is not installed" and "parameters_after" not in extra
    )
    assert pv.load(tmp_path).epochs["epoch"].tolist() == [0, 1, 2]


def test_runs_of_ones_own_have_a_folder_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[Path] = []
    monkeypatch.setattr(
        record, "_record_missing", lambda plans, setting, jobs: said.append(setting.out)
    )
    for options in (
        ["--figures", "5"],
        ["--measure", "proposed", "--rounds", "5"],
        ["--measure", "proposed", "--out", "here"],
    ):
        assert CliRunner().invoke(record.app, options).exit_code == 0
    assert said == [Path("data/digits"), Path("data/digits-own"), Path("here")]


def test_rounds_before_their_epochs_may_be_one_more_than_epochs() -> None:
    (plan,) = plan_pruned_runs(
        "digits", PruningOptions("magnitude", rounds=29, prune_at_start=True), ["vgg13"], [0]
    )
    assert plan.pruning_epochs == range(29) and plan.epochs == 28
    for pruning, name in (
        (PruningOptions("magnitude", rounds=30, prune_at_start=True), "r30-p75-atstart-s0"),
        (PruningOptions("magnitude", rounds=29), "r29-p75-s0"),
    ):
        with pytest.raises(
            PresetError,
            match=f"^vgg13-digits-magnitude-{name}: .* rounds take an epoch each, but there are 28 epochs",
        ):
            plan_pruned_runs("digits", pruning, ["vgg13"], [0])


# Pruning


def test_an_example_that_is_none_is_named() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Conv2d(3, 2, 3))
    for example, got in (
        ((torch.zeros(2, 1, 8, 8), torch.zeros(2)), "tuple"),
        (None, "NoneType"),
        (torch.zeros(0, 1, 8, 8), r"\(0, 1, 8, 8\)"),
    ):
        for entrance in (pv.Pruner, pv.remove):
            with pytest.raises(
                DataError, match=rf"the example must .*such as images\[:2\], got .*{got}"
            ):
                entrance(network, example)
