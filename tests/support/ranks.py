"""Several ranks on one machine with the gloo backend. Worker processes import this module.

Each rank trains on the whole sample, so that gradients average to one rank's own, bit for bit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import pruneviz as pv
from pruneviz.errors import PrunevizError
from pruneviz.loops.follower import Follower
from tests.support.short_recordings import SAMPLE, network

SIZES = (5, 1, 9, 2, 4)  # batches of very uneven size
SHORT = 15.0  # seconds that a rank waits for one that does not come

DOOMED: list[int] = []  # ranks that die at their next loss

# Measured on three ranks, with each mode of batch norms.
MODES: dict[str, dict[str, Any]] = {
    "eval": {},
    "calibrated": {"bn": "calibrated"},
    "batch": {"bn": "batch", "columns": ["default", "theta_g_se_iid"]},
}
_REQUESTED = ["theta2_g2", "fisher_block", "obd", "wanda", "synflow", "fpgm"]
# Measured on two ranks: everything else.
FURTHER: dict[str, dict[str, Any]] = {
    "everything": {
        "columns": ["default", "hg_norm2", "theta_g_se_iid", *_REQUESTED],
        "errors": "full",
        "oracle": 3,
        "probes": 2,
    },
    "weights": {"unit": "weight", "columns": ["default", "theta2_g2"], "bn": "calibrated"},
}


def small_network() -> nn.Module:
    """Convolutions and batch norms in float64, with statistics that are not those of the sample."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 3)]
    layers += [nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)]
    return nn.Sequential(*layers).double()


def small_sample(case: str) -> list[tuple[Tensor, Tensor]]:
    """Batches of uneven size; none of a single example where statistics are those of batches."""
    generator = torch.Generator().manual_seed(1)
    n = sum(SIZES)
    images = torch.randn(n, 1, 6, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (n,), generator=generator)
    batches = zip(images.split(SIZES), labels.split(SIZES), strict=True)
    return [(x, y) for x, y in batches if case in ("eval", "everything") or len(y) > 1]


def measured(cases: dict[str, dict[str, Any]], ranks: Any) -> dict[str, pd.DataFrame]:
    """The table of every case."""
    return {
        case: pv.measure(small_network(), small_sample(case), chunk=4, ranks=ranks, **options)
        for case, options in cases.items()
    }


def train_epoch(model: nn.Module) -> None:
    """Two steps of gradient descent through `backward`, as DDP needs."""
    torch.manual_seed(0)  # equal dropout on all ranks
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model.train()(SAMPLE[0]), SAMPLE[1]).backward()
        optimizer.step()


def said(call: Callable[[], object]) -> str:
    """The message of the error that a call raises."""
    try:
        call()
    except PrunevizError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def recorded_twice(folder: Path) -> dict[str, object]:
    """Train and record on every rank, interrupted once; returns what this rank saw."""
    model = DistributedDataParallel(network())
    how: dict[str, Any] = {"every": 2, "samples": 2}
    first = pv.Recorder(model, SAMPLE, folder / "shared", **how)
    first.after_epoch(0, test_acc=0.5)
    train_epoch(model)
    first.observe(1)(test_acc=0.6)
    dist.barrier()
    second = pv.Recorder(model, SAMPLE, folder / "shared", resume=True, **how)
    second.rewind(1)
    seen: dict[str, object] = {"records": second.records, "resumed": second.last_epoch}
    seen["next"] = second.next_epoch()
    for epoch in (2, 3):
        train_epoch(model)
        second.after_epoch(epoch, test_acc=0.5 + epoch / 10)
    seen["table"] = second.table(3, "theta_g")
    second.note(size=3)
    second.close()  # measures epoch 3
    seen["last"], seen["finished"] = second.last_epoch, second.finished
    return seen


def recorded_on_the_first(folder: Path) -> dict[str, object]:
    """Record on rank 0 alone."""
    with pv.Recorder(network(), SAMPLE, folder / "first", ranks="first") as recorder:
        recorder.after_epoch(0)
        seen = {"records": recorder.records, "table": said(lambda: recorder.table(0))}
    return {**seen, "last": recorder.last_epoch}


def on_two_ranks(rank: int, folder: Path) -> dict[str, object]:
    """Recordings and measurements that succeed."""
    seen: dict[str, object] = {"measured": measured(FURTHER, "share")}
    seen["share"] = recorded_twice(folder)
    seen["first"] = recorded_on_the_first(folder)
    follower = Follower(SAMPLE, folder / "followed", {"every": 1}, "resume it")
    follower.start(network())
    follower.observe(1, lr=0.1)
    follower.flush({"test_acc": 0.8})
    seen["state"] = follower.state(1) is not None
    again = Follower(SAMPLE, folder / "followed", {"every": 1}, "resume it")
    dist.barrier()
    seen["again"] = said(lambda: again.start(network()))
    seen["followed"] = follower.last_epoch
    follower.finish()
    with pv.Recorder(network(), SAMPLE, folder / f"own{rank}", ranks="each") as each:
        each.after_epoch(0)
    return seen | sharded(folder)


def sharded(folder: Path) -> dict[str, object]:
    """What is measured and recorded of a network that FSDP2 has sharded, and what is refused."""
    mesh = init_device_mesh("cpu", (2,))
    model = small_network()
    fully_shard(model[3], mesh=mesh)
    fully_shard(model, mesh=mesh)
    sample = small_sample("eval")
    seen: dict[str, object] = {"alone": said(lambda: pv.measure(model, sample))}
    seen["sharded"] = pv.measure(model, sample, chunk=4, ranks="share")
    with pv.Recorder(model, sample, folder / "sharded", every=1) as recorder:
        recorder.after_epoch(0)
        F.cross_entropy(model(sample[0][0]), sample[0][1]).backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        recorder.after_epoch(1)
    parallel = parallelize_module(nn.Sequential(nn.Linear(4, 4)), mesh, {"0": ColwiseParallel()})
    seen["parallel"] = said(
        lambda: pv.measure(parallel, (torch.zeros(2, 4), torch.zeros(2).long()))
    )
    return seen


def at_odds(rank: int, folder: Path) -> dict[str, object]:
    """Ranks that do not do the same; each ends in an error on both."""
    lazy, synced = nn.LazyLinear(2), nn.SyncBatchNorm.convert_sync_batchnorm(network())
    sample, other = small_sample("eval"), small_network()
    smooth = nn.CrossEntropyLoss(label_smoothing=0.3 * rank)
    bent = small_network()
    bent[2] = nn.GELU() if rank else nn.ReLU()
    if rank:
        with torch.no_grad():
            next(other.parameters())[0] += 1

    def fails(output: Tensor, target: Tensor) -> Tensor:
        if dist.get_rank():
            raise RuntimeError("out of luck")
        return F.cross_entropy(output, target)

    def recorder(out: str, **how: Any) -> pv.Recorder:
        return pv.Recorder(network(), SAMPLE, folder / out, **{"every": 1, **how})

    seen: dict[str, object] = {
        "unsupported": said(lambda: pv.Recorder(lazy, SAMPLE, folder / "lazy")),
        "synced": said(lambda: pv.Recorder(synced, SAMPLE, folder / "synced", bn="batch")),
        "options": said(lambda: recorder("options", lag=1 + rank)),
        "folders": said(lambda: recorder(f"folder{rank}")),
        "bn": said(lambda: recorder("bn", bn="batch" if rank else "eval")),
        "losses": said(lambda: pv.measure(small_network(), sample, loss=smooth, ranks="share")),
        "activations": said(lambda: pv.measure(bent, sample, ranks="share")),
        "networks": said(lambda: pv.measure(other, sample, ranks="share")),
        "samples": said(lambda: pv.measure(small_network(), sample[rank:], ranks="share")),
    }
    try:
        pv.measure(small_network(), sample, loss=fails, ranks="share")
    except Exception as error:
        seen["failed"] = f"{type(error).__name__}: {error}"
    run = recorder("epochs")
    run.after_epoch(0)
    seen["epochs"] = said(lambda: run.after_epoch(1 + rank))
    run.after_epoch(1)  # the ranks have met again
    seen["went on"] = run.last_epoch
    return seen


def dies(output: Tensor, target: Tensor) -> Tensor:
    """A loss that ends the second of several ranks, once they have recorded an epoch."""
    if dist.is_initialized() and dist.get_rank() and DOOMED:
        os._exit(3)
    return F.cross_entropy(output, target)


def left_alone(rank: int, folder: Path) -> dict[str, object]:
    """A rank that skips an epoch and one that dies in a snapshot; what the other sees."""
    run = pv.Recorder(network(), SAMPLE, folder / "skipped", every=1)
    run.after_epoch(0)
    seen: dict[str, object] = {}
    if rank == 0:
        seen["skipped"] = said(lambda: run.after_epoch(1))
        (folder / "gone on").touch()
    while not (folder / "gone on").exists():
        time.sleep(0.05)
    other = pv.Recorder(network(), SAMPLE, folder / "dead", every=1, loss=dies)
    other.after_epoch(0)
    DOOMED.append(rank)
    seen["dead"] = said(lambda: other.after_epoch(1))
    return seen


@contextmanager
def group_of(folder: Path, name: str, rank: int, count: int, seconds: float) -> Iterator[None]:
    """Context with a process group of its own."""
    where = f"file://{folder / name}"
    timeout = timedelta(seconds=seconds)
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=count, timeout=timeout)
    try:
        yield
    finally:
        dist.destroy_process_group()


def work(rank: int, folder: Path) -> None:
    """What one of three worker processes does, with groups of three ranks and of two."""
    torch.set_num_threads(1)
    seen: dict[str, object] = {}
    with group_of(folder, "three", rank, 3, 120):
        seen["three"] = measured(MODES, "share")
    if rank < 2:
        for name, scene, seconds in (
            ("two", on_two_ranks, 120),
            ("odds", at_odds, 120),
            ("alone", left_alone, SHORT),
        ):
            pd.to_pickle(seen, folder / f"seen{rank}.pkl")
            with group_of(folder, name, rank, 2, seconds):
                seen[name] = scene(rank, folder)
    pd.to_pickle(seen, folder / f"seen{rank}.pkl")


def run_ranks(folder: Path) -> list[dict[str, Any]]:
    """Run three processes, of which the second dies in the end; returns what each saw."""
    return run_processes(work, folder, [0, 3, 0])


def run_processes(
    work: Callable[[int, Path], None], folder: Path, codes: Sequence[int]
) -> list[dict[str, Any]]:
    """Run a process for each rank.

    Args:
        work: Function of the rank and the folder, in which it leaves what it saw.
        folder: A folder for all ranks.
        codes: How the process of each rank has to end.

    Returns:
        What each rank saw.
    """
    ranks, spawn = range(len(codes)), mp.get_context("spawn")
    started = [spawn.Process(target=work, args=(rank, folder)) for rank in ranks]
    for process in started:
        process.start()
    for process in started:
        process.join(900)
    for process in started:
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in started] == list(codes)
    return [pd.read_pickle(folder / f"seen{rank}.pkl") for rank in ranks]
