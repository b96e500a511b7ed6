"""The strata of a sample: how it was drawn, as far as its labels show it.

A sample with as many examples of every class was drawn class by class. Its standard errors count
the spread within classes alone. Any other sample counts as drawn at random from everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pruneviz.measuring.losses import labels_of
from pruneviz.measuring.objective import Objective


@dataclass(frozen=True, eq=False)
class Strata:
    """The stratum of every observation, an example or a batch that cannot be split.

    Attributes:
        of_each: Numbers of strata from 0, int64 [observations].
        left: For each stratum the share of its population that is not in the sample, float64; 1
            where the population is not known or infinite.
    """

    of_each: Tensor
    left: Tensor

    @property
    def sizes(self) -> Tensor:
        """Observations in each stratum, int64."""
        return torch.bincount(self.of_each, minlength=len(self.left))

    @property
    def degrees(self) -> int:
        """Degrees of freedom of an error of all observations."""
        return len(self.of_each) - len(self.left)


def strata_of(sample: Objective) -> Strata:
    """The strata that a sample was drawn from.

    Classes are strata if every class has as many examples as any other, up to one, and two or more.
    Batches that cannot be split are one stratum.

    Args:
        sample: The loss on the sample.
    """
    if sample.whole:
        return _one(len(sample.batches))
    labels = class_labels(sample)
    if labels is None:
        return _one(sample.examples)
    _, of_each, sizes = labels.unique(return_inverse=True, return_counts=True)
    if len(sizes) < 2 or int(sizes.min()) < 2 or int(sizes.max() - sizes.min()) > 1:
        return _one(len(labels))
    return Strata(of_each, torch.ones(len(sizes), dtype=torch.float64))


def class_labels(sample: Objective) -> Tensor | None:
    """The class of every example, int64 on the CPU; None if labels are no classes."""
    found = []
    for batch in sample.batches:
        target = batch[1] if isinstance(batch[1], Tensor) else labels_of(batch)
        if target is None or target.ndim != 1 or target.is_floating_point():
            return None
        found.append(target.cpu().long())
    return torch.cat(found)


def _one(observations: int) -> Strata:
    ones = torch.ones(1, dtype=torch.float64)
    return Strata(torch.zeros(observations, dtype=torch.int64), ones)
