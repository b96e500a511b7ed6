"""An epoch of training that is under way, perhaps begun in an earlier process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(repr=False)
class Begun:
    """An epoch under way.

    Args:
        steps: Number of steps taken.
        before: Seconds that they took in an earlier process.
        shuffled_from: State of the generator before this epoch, if it was begun in an earlier
            process. Default: its state now.
        totals: Loss and hits, summed over the steps; of the training step once it runs.
        of: Number of steps of the epoch, known once it runs.
    """

    steps: int = 0
    before: float = 0.0
    shuffled_from: Tensor | None = None
    totals: Tensor | None = None
    of: int = 0
    _since: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Time since the epoch began, without that between two processes."""
        return self.before + time.perf_counter() - self._since

    def order(self, images: int, generator: torch.Generator) -> Tensor:
        """Positions of all images in the order of this epoch, int64 [images]."""
        now = None if self.shuffled_from is None else generator.get_state()
        if self.shuffled_from is not None:
            generator.set_state(self.shuffled_from)
        order = torch.randperm(images, generator=generator, device=generator.device)
        if now is not None:
            generator.set_state(now)
        return order
