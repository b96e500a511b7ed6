"""Training on two ranks with the gloo backend, each on the whole sample: gradients average to one
rank's own, bit for bit. Worker processes import this module."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pruneviz as pv
from pruneviz.errors import PrunevizError
from pruneviz.loops.follower import Follower
from tests.support.short_recordings import SAMPLE, network

EPOCHS = 2


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
        return str(error)
    return ""


def recorded_twice(rank: int, folder: Path) -> dict[str, object]:
    """Train and record on every rank, interrupted once; returns what this rank saw."""
    model = DistributedDataParallel(network())
    first = pv.Recorder(model, SAMPLE, folder / "shared", every=1)
    first.after_epoch(0, test_acc=0.5)
    train_epoch(model)
    first.observe(1)(test_acc=0.6)
    dist.barrier()
    second = pv.Recorder(model, SAMPLE, folder / "shared", every=1, resume=True)
    second.rewind(1)
    seen: dict[str, object] = {"records": second.records, "resumed": second.last_epoch}
    train_epoch(model)
    second.after_epoch(EPOCHS, test_acc=0.7)
    seen["table"] = said(lambda: second.table(EPOCHS))
    second.note(size=3)
    second.close()
    seen["last"] = second.last_epoch
    follower = Follower(SAMPLE, folder / "followed", {"every": 1}, "resume it")
    follower.start(model)
    follower.observe(1, lr=0.1)
    follower.flush({"test_acc": 0.8})
    seen["followed"] = follower.last_epoch
    follower.finish()
    own = folder / f"own{rank}"
    with pv.Recorder(network(), SAMPLE, own, every_rank=True) as each:
        each.after_epoch(0)
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(network())
    lazy = nn.LazyLinear(2)  # stands for networks that no rank can record
    seen["unsupported"] = said(lambda: pv.Recorder(lazy, SAMPLE, folder / "lazy"))
    seen["synced"] = said(lambda: pv.Recorder(synced, SAMPLE, folder / "synced", bn="batch"))
    return seen


def work(rank: int, folder: Path) -> None:
    """What one worker process does."""
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    seen = recorded_twice(rank, folder)
    (folder / f"seen{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()


def train_on_two_ranks(folder: Path) -> list[dict[str, object]]:
    """Run both workers; returns what each saw."""
    mp.spawn(work, (folder,), nprocs=2)
    return [json.loads((folder / f"seen{rank}.json").read_text()) for rank in (0, 1)]
