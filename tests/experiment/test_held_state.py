"""A run that is stopped within an epoch goes on from that step, to the same bytes."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from pruneviz.console.stop_signals import Stopped, exit_code
from pruneviz.experiment import run
from pruneviz.experiment.run import record_run
from pruneviz.experiment.setting import Setting, is_recorded
from pruneviz.experiment.step import Step
from pruneviz.experiment.stop import Stop
from pruneviz.log.on_request import OnRequest
from pruneviz.plans.run_plan import RunPlan
from pruneviz.recording.recorder import Recorder
from tests.support.cut_off import ignore, interrupt
from tests.support.plans import UNPRUNED, changed
from tests.support.stopped_commands import StoppedCommand

SMALL = replace(UNPRUNED, width=0.03125, epochs=3, lr_drops=(2,), every=2, batch_size=16)
ROUNDS = changed(SMALL, measure="bn_scale", target=0.4, rounds=2)
STEPS = 4  # of an epoch of these plans
CHANGES = OnRequest(columns=("update_size", "distance_from_init"))

# name: (plan, further settings)
KINDS: dict[str, tuple[RunPlan, dict[str, Any]]] = {
    "filters": (SMALL, {"keep_weights": True, "on_request": CHANGES}),
    "weights": (changed(SMALL, unit="weight"), {}),
    "pruned": (changed(ROUNDS, prune_at_start=True), {}),
    "carried": (changed(ROUNDS, carry_momentum=True, augment=True), {"on_request": CHANGES}),
    "flowandprune": (changed(ROUNDS, flowandprune=True, augment=True, epochs=4), {}),
    "flow": (SMALL, {"flow": True}),
}
LONG = [pytest.param(name, marks=pytest.mark.soak) for name in KINDS]


def tables(path: Path) -> dict[str, Any]:
    """The bytes of all tables of a run; of epochs all but how long they took."""
    found: dict[str, Any] = {file.name: file.read_bytes() for file in path.glob("*.parquet")}
    epochs = pq.read_table(path / "epochs.parquet")
    found["epochs.parquet"] = epochs.drop_columns(["seconds"]).to_pylist()
    for file in path.glob("weights/*"):
        found[file.name] = file.read_bytes()
    return {name: str(rows) if isinstance(rows, list) else rows for name, rows in found.items()}


class Counted:
    """Counts training steps of all processes of a run, and acts at some of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: Callable[[int], object]) -> None:
        self.steps, step = 0, Step.__call__

        def counted(own: Step, chosen: torch.Tensor) -> None:
            step(own, chosen)
            self.steps += 1
            at(self.steps)

        monkeypatch.setattr(Step, "__call__", counted)


def stopped_again_and_again(
    plan: RunPlan, setting: Setting, monkeypatch: pytest.MonkeyPatch, between: int
) -> tuple[int, int]:
    """Record a plan, stopped after every so many steps; how often, and how many steps in all."""
    stops: list[Stop] = [Stop()]

    def at(step: int) -> None:
        if step % between == 0:
            stops[-1].asked = signal.SIGTERM

    counted, times = Counted(monkeypatch, at), 0
    while not is_recorded(plan, setting):
        stops.append(Stop())
        try:
            record_run(plan, setting, ignore, stops[-1])
        except Stopped as stopped:
            assert "stopped after" in str(stopped)
            times += 1
    return times, counted.steps


def check_stops(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, between: Sequence[int]
) -> None:
    plan, how = KINDS[name]
    record_run(plan, Setting(folder / "whole", threads=1, **how), ignore)
    whole = tables(folder / "whole" / plan.run)
    for steps_between in between:
        setting = Setting(folder / str(steps_between), threads=1, **how)
        with monkeypatch.context() as patch:
            times, steps = stopped_again_and_again(plan, setting, patch, steps_between)
        assert times >= 2
        assert steps == plan.epochs * STEPS, "no step was taken twice"
        assert tables(setting.out / plan.run) == whole


def test_a_run_stopped_at_steps_writes_the_bytes_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_stops("carried", tmp_path, monkeypatch, between=[5])


@pytest.mark.parametrize("name", LONG)
def test_stops_at_all_steps_of_all_kinds_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    check_stops(name, tmp_path, monkeypatch, between=range(1, 6))


class Watched(Stop):
    """A stop that shows how what is held is written."""

    save: Callable[[], object] | None = None

    def keep(self, save: Callable[[], object] | None) -> None:
        self.save = save


@pytest.mark.parametrize("name", ["filters", *LONG])
def test_what_is_held_while_an_epoch_is_measured_is_a_checkpoint_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """At every epoch it is written by another thread, and the process dies."""
    plan, how = KINDS[name]
    record_run(plan, Setting(tmp_path / "whole", threads=1, **how), ignore)
    setting, stop, died = Setting(tmp_path / "cut", threads=1, **how), Watched(), set[int]()
    observe = Recorder.observe

    def dying(self: Recorder, epoch: int, **facts: Any) -> Callable[..., None]:
        if epoch in died:
            return observe(self, epoch, **facts)
        died.add(epoch)
        with torch.no_grad():
            assert stop.save is not None
            writer = threading.Thread(target=stop.save)
            writer.start()
            writer.join()
            for parameter in self._model.parameters():  # what the dead process leaves is not read
                parameter.fill_(torch.nan)
        raise InterruptedError

    monkeypatch.setattr(Recorder, "observe", dying)
    counted = Counted(monkeypatch, lambda step: None)
    while not is_recorded(plan, setting):
        with suppress(InterruptedError):
            record_run(plan, setting, ignore, stop)
    assert died == set(range(plan.epochs + 1))
    assert counted.steps == STEPS * (plan.epochs + (2 if name == "flow" else 0))
    assert tables(setting.out / plan.run) == tables(tmp_path / "whole" / plan.run)


def test_epochs_that_are_not_measured_have_checkpoints_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_SECONDS_WITHOUT_CHECKPOINT", 0.0)
    plan, setting = replace(SMALL, every=100), Setting(tmp_path, threads=1)
    with pytest.raises(KeyboardInterrupt):
        record_run(plan, setting, interrupt(3, "measuring"))
    told: list[str] = []
    record_run(plan, setting, lambda epochs, note: told.append(note))
    assert told[0] == "continuing after epoch 2"


# In workers: what is held is written after a tenth of a second.
HASTY = """
if __name__ != "__main__":
    from pruneviz.experiment import stop
    stop.GRACE = 0.1
"""
OPTIONS = {
    "filters": ("--keep-weights", "--columns", "update_size", "distance_from_init"),
    "flow": ("--flow",),
}
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
def test_real_signals_at_random_instants_lose_nothing(tmp_path: Path, name: str) -> None:
    """Two runs at once, stopped again and again: by one or two signals, to one process or all."""
    plan = replace(KINDS[name][0], epochs=12, train_per_class=12)
    plans = [replace(plan, run=f"r{seed}", seed=seed) for seed in range(2)]
    draw = random.Random(name)
    options = ("--jobs", "2", *OPTIONS.get(name, ()))
    (tmp_path / "whole").mkdir()
    whole = StoppedCommand(tmp_path / "whole", plans, *options)
    assert whole.stop().code == 0
    for trial in range(5):
        folder, times = tmp_path / str(trial), 0
        folder.mkdir()
        while True:
            patches = draw.choice(["", HASTY])
            command = StoppedCommand(folder, plans, *options, patches=patches)
            if times < 4:
                command.wait_for_an_epoch()
                time.sleep(draw.uniform(0.0, 2.0))
            numbers = [draw.choice(NUMBERS)] * draw.choice([1, 1, 1, 2])
            numbers = numbers if times < 4 else []
            ended = command.stop(*numbers, alone=draw.random() < 0.5, between=draw.random() / 9)
            what = (trial, times, numbers, ended)
            assert "Traceback" not in ended.stderr and "leaked" not in ended.stderr, what
            assert not ended.left, what
            if ended.code == 0:
                break
            assert ended.code == exit_code(numbers[0]), what
            assert ended.stderr.count("repeat the command to go on") == 1, what
            times += 1
        for plan in plans:
            assert tables(command.out / plan.run) == tables(whole.out / plan.run), (trial, plan.run)


@pytest.mark.soak
def test_a_killed_worker_fails_its_own_run_which_goes_on_later(tmp_path: Path) -> None:
    plans = [replace(SMALL, run=f"r{seed}", seed=seed, epochs=8) for seed in range(3)]
    killed = 0
    for trial in range(5):
        folder = tmp_path / str(trial)
        folder.mkdir()
        command = StoppedCommand(folder, plans, "--jobs", "2")
        command.wait_for("r0/parts/epochs-0000[2-6].parquet")
        command.kill_worker()
        ended = command.stop()
        assert "Traceback" not in ended.stderr and not ended.left
        sealed = {file.parent.name for file in command.out.glob("*/epochs.parquet")}
        if ended.code:
            killed += 1
            (name,) = {plan.run for plan in plans} - sealed
            words = rf"error: 1 of 3 runs failed; .* {name}: its process was killed \(SIGKILL\)"
            assert re.match(words, ended.stderr)
            assert StoppedCommand(folder, plans, "--jobs", "2").stop().code == 0
        for plan in plans:
            whole = Setting(tmp_path / "whole", threads=1)
            if not is_recorded(plan, whole):
                record_run(plan, whole, ignore)
            assert tables(command.out / plan.run) == tables(whole.out / plan.run)
    assert killed
