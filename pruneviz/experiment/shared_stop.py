"""A request to stop that all processes of one training follow at the same step."""

from __future__ import annotations

import signal
from collections.abc import Callable

import torch
import torch.distributed as dist

from pruneviz.console.stop_signals import GO_ON, reason
from pruneviz.console.time_limit import TimeLimit
from pruneviz.experiment.data_parallel import ended_ranks
from pruneviz.experiment.stop import Stop
from pruneviz.measuring.ranks import Ranks

_NEAR = 1  # what a rank tells at the limit; a signal is told as its number and this


class SharedStop(Stop):
    """A request to any of the ranks; none goes on where another stops.

    Args:
        ranks: The processes.
        limit: When to stop. Default: once all runs have ended.
        say: Prints one line; called on rank 0.

    Attributes:
        by_limit: Whether it is the limit that asks all to stop.
    """

    def __init__(self, ranks: Ranks, limit: TimeLimit | None, say: Callable[[str], object]) -> None:
        super().__init__()
        self._ranks, self._limit, self._say = ranks, limit, say
        self._told = 0
        self.by_limit = False

    @property
    def limit_words(self) -> str:
        """Beginning of the sentence on why all stop at the limit."""
        return f"The time limit of {self._limit.text} is near" if self._limit else ""

    def agreed(self) -> int | None:
        """The signal that asks one of the ranks to stop, SIGTERM at the limit; None if none does.

        Raises:
            TrainingError: If another rank has ended.
        """
        if not self._told:
            near = self._limit is not None and self._limit.is_near()
            own = int(near) * _NEAR if self.asked is None else self.asked + _NEAR
            told = torch.tensor([own])
            with ended_ranks(self._ranks):
                dist.all_reduce(told, dist.ReduceOp.MAX, group=self._ranks.group)
            self._told = int(told)
            self.by_limit = self._told == _NEAR
        if not self._told:
            return None
        return signal.SIGTERM if self.by_limit else self._told - _NEAR

    def leave(self, number: int) -> None:
        """End the process at once; rank 0 says so, as no other process does.

        Args:
            number: The signal that asks.
        """
        if self._ranks.is_first:
            self._say(f"{reason(number)}. {GO_ON}")
        super().leave(number)
