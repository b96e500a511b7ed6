"""Runs that all processes of `torchrun` train together, one run after the other."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn

import torch
import torch.distributed as dist

from pruneviz.console.beside import beside
from pruneviz.console.command import may_be_incomplete
from pruneviz.console.command import say as say_on_stderr
from pruneviz.console.processes import threads_each
from pruneviz.console.progress import Progress, show_progress
from pruneviz.console.stop_signals import GO_ON, Received, Stopped, reason
from pruneviz.console.time_limit import TimeLimit
from pruneviz.console.words import counted
from pruneviz.engines.engine import Engine
from pruneviz.errors import PrunevizError
from pruneviz.experiment.campaign import check_data_sets, record_one
from pruneviz.experiment.freed_memory import keep_freed_memory
from pruneviz.experiment.setting import Setting
from pruneviz.experiment.shared_stop import SharedStop
from pruneviz.log.spooled_runs import named_out
from pruneviz.measuring.ranks import Ranks, all_ranks
from pruneviz.plans.run_plan import RunPlan
from pruneviz.recording.run_facts import versions
from pruneviz.stores.spool import spool_url


def check_together(setting: Setting, jobs: int | None, engine: Engine) -> None:
    """Check that options are of use where several processes train one run together.

    Raises:
        PrunevizError: If one is not.
    """
    refused = {
        f"--jobs {jobs}": jobs not in (None, 1) and "they record one run at a time",
        f"--on {engine.on}": not engine.is_local and "they work where torchrun starts them",
        "--flow": setting.flow and "the flow of a training is followed in one process",
        f"--out {named_out(setting.out)}": spool_url(setting.out)
        and "they record into a folder, which pruneviz upload sends to a store afterwards",
    }
    for option, why in refused.items():
        if why:
            raise PrunevizError(
                f"torchrun has started several processes, and {option} does not go with that: "
                f"{why}; leave it out, or call pruneviz record without torchrun"
            )


def record_together(
    missing: Callable[[], Sequence[RunPlan]],
    setting: Setting,
    say: Callable[[str], None],
    limit: TimeLimit | None = None,
) -> None:
    """Record runs one after the other, each trained by all processes that `torchrun` has started.

    Every process makes this call; rank 0 writes and prints. A signal to any of them, or the limit,
    ends all of them with its exit code, at the same step.

    Args:
        missing: Gives the runs to record, in their order; called on rank 0.
        setting: Where and how to record them.
        say: Prints one line.
        limit: When to stop. Default: once all runs have ended.

    Raises:
        PrunevizError: If runs cannot be begun.
        Incomplete: If a run fails, which ends the command; names the run. Its epochs so far stay
            recorded.
    """
    keep_freed_memory()
    with _joined(setting.device) as ranks:
        stop = SharedStop(ranks, limit, say_on_stderr)
        with _listening(stop):
            plans = ranks.first("the list of runs", missing)
            if not plans:
                return
            names = [plan.dataset for plan in plans]
            ranks.first(
                "the data sets", lambda: check_data_sets(names, setting.images, setting.download)
            )
            check_data_sets(names, setting.images)
            local = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.count))
            how = replace(setting, download=False, threads=threads_each(local))
            if ranks.is_first:
                where = f"into {how.out}, one at a time on {ranks.count} processes"
                say(f"recording {counted(len(plans), 'run')} {where}")
            shown = show_progress(len(plans) if ranks.is_first else 0, say)
            with shown as progress, may_be_incomplete():
                _record_all(plans, how, stop, ranks, progress)


def _record_all(
    plans: Sequence[RunPlan],
    setting: Setting,
    stop: SharedStop,
    ranks: Ranks,
    progress: Progress,
) -> None:
    for number, plan in enumerate(plans):
        told = ranks.is_first

        def report(epochs: float, note: str, run: str = plan.run, told: bool = told) -> None:
            if told:
                progress.move(run, epochs, note)

        if stop.agreed() is not None:  # at the limit, or by a signal that came between two runs
            _leave("", len(plans) - number, stop, ranks, progress)
        if told:
            progress.start(plan.run, plan.epochs)
        try:
            words = record_one(plan, setting, report, stop, ranks)
        except Stopped as stopped:
            _leave(f"{plan.run} {stopped}", len(plans) - number - 1, stop, ranks, progress)
        except (PrunevizError, OSError, RuntimeError) as error:
            raise PrunevizError(_failed(plan.run, error, ranks)) from error
        stop.keep(None)
        if told:
            progress.end(plan.run, f"{plan.run}: {words}")


def _failed(run: str, error: Exception, ranks: Ranks) -> str:
    who = "" if ranks.is_first else f"rank {ranks.number}, "
    what = str(error) or type(error).__name__
    return f"{who}{run}: {what}"


def _leave(stopped: str, left: int, stop: SharedStop, ranks: Ranks, progress: Progress) -> NoReturn:
    """End this process after a stop, once its run is written; rank 0 says where it stands.

    At once, because torchrun may pass on a signal that all processes of a terminal have got anyway.
    """
    number = stop.agreed() or 0
    if ranks.is_first:
        progress.__exit__(None, None, None)
        waiting = [f"{counted(left, 'run')} not begun"] if left else []
        why = stop.limit_words if stop.by_limit else reason(number)
        say_on_stderr(f"{why}: {'; '.join([*filter(None, [stopped]), *waiting])}. {GO_ON}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(Stopped(None if stop.by_limit else number, "").code)


@contextmanager
def _joined(device: str) -> Iterator[Ranks]:
    """Context with the process group of all that `torchrun` has started."""
    backend, name = "gloo", "a CPU"
    if device == "cuda":
        own, here = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        started = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if started > here:
            raise PrunevizError(
                f"torchrun has started {started} processes on a machine with "
                f"{counted(here, 'GPU')}; start at most {here} here (--nproc-per-node {here}), or "
                "train on CPUs with --device cpu"
            )
        torch.cuda.set_device(own)
        backend, name = "cpu:gloo,cuda:nccl", torch.cuda.get_device_name(own)
    try:
        dist.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        raise PrunevizError(
            f"the processes of torchrun do not find each other ({error}); check its options "
            "--nnodes, --rdzv-endpoint and --master-addr"
        ) from error
    ranks = all_ranks("pruneviz record")
    ranks.meet("the start of pruneviz record", {**versions(), "the device": name})
    yield ranks
    ranks.meet("the end of pruneviz record")
    ranks.close()
    dist.destroy_process_group()  # not after an error: it may wait for a rank that has ended


@contextmanager
def _listening(stop: SharedStop) -> Iterator[None]:
    """Context in which another thread takes stop signals, also while torch computes or waits."""
    with Received() as signals:

        def listen(over: threading.Event) -> None:
            while not over.is_set():
                number = signals.next(0.2)
                if number is not None:
                    stop.ask(number)

        with beside(listen):
            yield
