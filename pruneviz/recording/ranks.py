"""Which ranks of `torch.distributed` record: all together, the first alone, or each by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch.distributed as dist
from torch import nn

from pruneviz.errors import LogError, MeasureError
from pruneviz.log.run_lock import released_on_error
from pruneviz.measuring.ranks import ALONE, all_ranks, is_distributed
from pruneviz.measuring.sharing import full_copy
from pruneviz.model.full_copy import FullCopy, is_sharded
from pruneviz.model.supported import check_supported

RanksWord: TypeAlias = Literal["share", "first", "each"]

_WORDS = ("share", "first", "each")


def rank() -> int:
    """The rank of this process in the default process group; 0 without a group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class Roles:
    """What this rank does for a recording, and the network that it sees.

    Args:
        word: "share": all ranks measure together and rank 0 writes. "first": rank 0 measures and
            writes, the others do nothing. "each": every rank records by itself.
        model: The network of this rank, unwrapped.
        bn: How batch norms are measured.

    Attributes:
        ranks: The processes that measure together.
        records: Whether this rank writes.
        is_idle: Whether it does nothing at all.
        network: The network, or the whole of a sharded one.

    Raises:
        LogError: If the word is another one.
        UnsupportedError: If the network cannot be measured.
        MeasureError: If another rank does not make a recorder too, or a sharded network does not
            fit into memory.
    """

    def __init__(self, word: str, model: nn.Module, bn: str) -> None:
        if word not in _WORDS:
            raise LogError(
                f"ranks={word!r}; choose 'share' (all ranks measure together, rank 0 writes), "
                "'first' (rank 0 alone) or 'each' (every rank into a folder of its own)"
            )
        self._word = word
        self.ranks = all_ranks("pv.Recorder") if word == "share" else ALONE
        self.records = word == "each" or rank() == 0
        self.is_idle = word == "first" and not self.records
        self._copy: FullCopy | None = None
        here = self.ranks.together("the network of pv.Recorder")
        with released_on_error(self.ranks.close), here:
            if word == "share" and is_sharded(model):
                self._copy = full_copy(model, self.ranks)
            self.network = self._copy.network if self._copy else model
            check_supported(self.network)
            _check_norms(self.network, bn)

    @contextmanager
    def together(self, call: str, facts: Mapping[str, Any] | None = None) -> Iterator[None]:
        """Context of a call that all ranks make together, with the network as it is now.

        Args:
            call: The call, for errors.
            facts: What has to be equal on all ranks, by name.
        """
        with self.ranks.together(call, facts):
            if self._copy:
                self._copy.refresh()
            yield

    def compare(
        self, measured: Mapping[str, Any], given: Mapping[str, Any], spec: Mapping[str, Any] | None
    ) -> None:
        """Check that all ranks were given the same.

        Args:
            measured: Facts of how the run is measured.
            given: Further arguments, by name.
            spec: Facts of the run that were given.

        Raises:
            MeasureError: If a rank was given something else; names it.
        """
        own = {f"spec[{name!r}]": value for name, value in (spec or {}).items()}
        facts = {**measured, **given, **own}
        self.ranks.meet("pv.Recorder", {name: _in_words(value) for name, value in facts.items()})

    @contextmanager
    def seeing(self, call: str) -> Iterator[None]:
        """Context of a call of one rank, which all make together if the network is sharded."""
        if self._copy is None:
            yield
            return
        with self.together(call):
            yield

    def open(self, call: str) -> None:
        """Let the ranks meet again after `close`."""
        if self._word == "share" and self.ranks.is_closed:
            self.ranks = all_ranks(call)

    def close(self) -> None:
        """Hold nothing open between the ranks."""
        self.ranks.close()


def _in_words(value: object) -> str:
    """A value as text; functions by their names, as their addresses differ between processes."""
    return str(getattr(value, "__qualname__", type(value))) if callable(value) else str(value)


def nothing_here(name: str) -> LogError:
    """The error for asking an idle recorder for what only the first rank has."""
    return LogError(
        f"rank {rank()} records nothing with ranks='first' and has no {name}; ask for it on rank 0 "
        "and send it with torch.distributed.broadcast_object_list, or let all ranks measure with "
        "ranks='share'"
    )


def _check_norms(model: nn.Module, bn: str) -> None:
    """Check that no batch norm waits for the statistics of other ranks.

    Raises:
        MeasureError: If one would, each rank with a share of its own.
    """
    if bn == "eval" or not is_distributed():
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.SyncBatchNorm):
            raise MeasureError(
                f"bn={bn!r} computes batch statistics, and batch norm {name} waits for those of "
                "the other ranks, which do not measure the same batch; measure with bn='eval'"
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
            "recorder is made, then only rank 0 writes"
        ) from error
