"""A training of one's own by several ranks, recorded into a store; started by torchrun, killed."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

import pruneviz as pv
from tests.support.own_loop import first_epoch, go_on, train
from tests.support.short_recordings import SAMPLE, network

WAIT = timedelta(seconds=60)  # for a rank that is gone


def run_loop(out: str, checkpoint: Path, epochs: int) -> None:
    """Train the same network on every rank, record it together, or go on with what is there.

    Args:
        out: Where to record, a URL.
        checkpoint: File of rank 0's checkpoint, which all ranks read.
        epochs: The last epoch.
    """
    torch.set_num_threads(1)
    torch.manual_seed(7)
    model = network(torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    recorder = pv.Recorder(model, SAMPLE, out, every=2, columns="theta_g", resume="auto")
    there = checkpoint.exists()
    if there:
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        go_on(recorder, saved["recorder"])
    for epoch in range(first_epoch(recorder, lost=not there), epochs + 1):
        if epoch:
            train(model, optimizer, epoch)
        recorder.after_epoch(epoch)
        parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        if recorder.records:
            torch.save({**parts, "recorder": recorder.state_dict()}, f"{checkpoint}.new")
            Path(f"{checkpoint}.new").replace(checkpoint)
    recorder.close()


if __name__ == "__main__":
    dist.init_process_group("gloo", timeout=WAIT)
    try:
        run_loop(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    finally:
        dist.destroy_process_group()
