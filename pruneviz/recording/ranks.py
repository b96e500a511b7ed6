"""Recording under `torch.distributed`: the first rank records, the others do nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch import nn

from pruneviz.errors import LogError, MeasureError
from pruneviz.model.supported import check_supported


def rank() -> int:
    """The rank of this process in the default process group; 0 without a group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def nothing_here(name: str) -> LogError:
    """The error for asking an idle recorder for what only the first rank has."""
    return LogError(
        f"rank {rank()} records nothing and has no {name}; ask for it on rank 0 and send it with "
        "torch.distributed.broadcast_object_list, or record every rank into a folder of its own "
        "with every_rank=True"
    )


def check_one_rank(model: nn.Module, bn: str) -> None:
    """Check that one rank can measure a network without the others.

    Raises:
        UnsupportedError: If the network is sharded.
        MeasureError: If batch norms would wait for the statistics of other ranks.
    """
    check_supported(model)
    alone = not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
    if alone or bn == "eval":
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.SyncBatchNorm):
            raise MeasureError(
                f"bn={bn!r} computes batch statistics, and batch norm {name} waits for those of "
                "the other ranks, which do not measure; measure with bn='eval'"
            )


@contextmanager
def one_writer() -> Iterator[None]:
    """Explain errors of opening a log where several processes do so unknown to torch."""
    try:
        yield
    except LogError as error:
        processes = os.environ.get("WORLD_SIZE", "1")
        if processes == "1" or (dist.is_available() and dist.is_initialized()):
            raise
        raise LogError(
            f"{error}. {processes} processes run this script (WORLD_SIZE), and without a process "
            "group each of them records: call torch.distributed.init_process_group before the "
            "recorder is made, then only rank 0 records"
        ) from error
