"""Two processes that train one network together. Worker processes import this module."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from pruneviz.console.stop_signals import Stopped
from pruneviz.experiment import data_parallel, images, step, training
from pruneviz.experiment.data_parallel import make_equal
from pruneviz.experiment.images import ImageData
from pruneviz.experiment.run import record_run
from pruneviz.experiment.setting import Setting
from pruneviz.experiment.shared_stop import SharedStop
from pruneviz.experiment.training import evaluate, first_step, start, train_epoch
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.measuring.ranks import ALONE, Ranks, all_ranks
from pruneviz.plans.run_plan import RunPlan
from tests.support.cut_off import ignore
from tests.support.plans import UNPRUNED, changed
from tests.support.ranks import group_of, run_processes, said

# A round, crops and flips; 60 images in 19 + 19 + 19 + 3, of which the last is too small to share.
PLAN = changed(
    UNPRUNED,
    run="r0",
    augment=True,
    batch_size=19,
    pruning=PruningOptions("proposed", target=0.5, rounds=1),
)
STEPS = 4  # in an epoch of it


def data() -> ImageData:
    """Random images, fewer for the test than can be shared evenly."""
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(256, (97, 3, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(3, (97,), generator=generator)
    return ImageData("random", pixels[:60], labels[:60], pixels[60:], labels[60:], 3)


def without_norms() -> nn.Module:
    """A network in float64 whose output for an image depends on no other image."""
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)]
    return nn.Sequential(*layers).double()


def in_float64(pixels: Tensor) -> Tensor:
    """The images of a network in float64."""
    return images.normalise(pixels).double()


def trained(ranks: Ranks = ALONE) -> dict[str, Any]:
    """Train a network without batch norms in float64; all that comes out."""
    before = images.normalise
    modules: list[Any] = [data_parallel, step, training]
    for module in modules:
        module.normalise = in_float64
    try:
        state = start(without_norms(), PLAN, ranks)
        how = first_step(state, data(), PLAN)
        epochs = [train_epoch(state, how, PLAN.batch_size) for _ in range(2)]
        tested = evaluate(state.network, data(), ranks=ranks)
    finally:
        for module in modules:
            module.normalise = before
    return {"weights": state.network.state_dict(), "epochs": epochs, "tested": tested}


class StopAt(SharedStop):
    """A signal that one rank gets before a question of all whether to stop."""

    def __init__(self, ranks: Ranks, at: int) -> None:
        super().__init__(ranks, None, lambda text: None)
        self.left = at if ranks.number == 1 else 0

    def agreed(self) -> int | None:
        self.left -= 1
        if self.left == 0:
            self.asked = signal.SIGUSR1
        return super().agreed()


def recorded(out: Path, ranks: Ranks, stops: list[int]) -> list[str]:
    """Record a run, stopped at these questions; where it stopped, with the signal."""
    setting = Setting(out, threads=1, ranks=ranks.count, keep_weights=True)
    told: list[str] = []
    for at in stops:
        try:
            record_run(PLAN, setting, ignore, StopAt(ranks, at), ranks)
        except Stopped as stopped:
            told.append(f"{stopped} ({stopped.number})")
    return told


def refused(out: Path, ranks: Ranks) -> dict[str, str]:
    """What each rank hears of runs that cannot be trained together."""
    setting = Setting(out, threads=1, ranks=ranks.count)
    small = replace(PLAN, run="small", batch_size=3)
    alone = replace(PLAN, run="alone")
    other, generator = without_norms(), torch.Generator()
    if ranks.number:
        generator.manual_seed(5)
    seen = {
        "small": said(lambda: record_run(small, setting, ignore, None, ranks)),
        "alone": said(lambda: record_run(alone, setting, ignore, None, ranks)),
        "draws": said(lambda: make_equal(other, generator, ranks, 7)),
    }
    with torch.no_grad():
        next(other.parameters())[0, 0, 0, 0] += ranks.number
    seen["network"] = said(lambda: make_equal(other, torch.Generator(), ranks, 8))
    return seen


def work(rank: int, folder: Path) -> None:
    """What one of two worker processes does."""
    torch.set_num_threads(1)
    with group_of(folder, "group", rank, 2, 120):
        ranks = all_ranks("a test")
        seen: dict[str, Any] = {"trained": trained(ranks)}
        seen["whole"] = recorded(folder / "whole", ranks, [0])
        seen["cut"] = recorded(folder / "cut", ranks, [6, 0])
        recorded(folder / "left", ranks, [5])
        seen["refused"] = refused(folder, ranks)
    pd.to_pickle(seen, folder / f"seen{rank}.pkl")


def run_both(folder: Path) -> list[dict[str, Any]]:
    """Run two processes; what each saw."""
    return run_processes(work, folder, [0, 0])


def begun_alone(out: Path, plan: RunPlan) -> None:
    """Record the beginning of a run in one process."""
    stop = StopAt(replace(ALONE), 0)
    stop.agreed = lambda: signal.SIGTERM  # type: ignore[method-assign]
    try:
        record_run(plan, Setting(out, threads=1), ignore, stop)
    except Stopped:
        return
