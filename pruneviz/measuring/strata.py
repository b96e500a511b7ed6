"""The strata of a sample: how it was drawn, as far as its labels show it or a person says.

A sample whose class sizes differ by at most one was drawn class by class. Its standard errors count
the spread within classes alone. Any other sample counts as drawn at random from everything, so that
the spread between classes belongs to its errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pruneviz.errors import MeasureError
from pruneviz.measuring.losses import (
    CrossEntropy,
    Loss,
    given_weights,
    labels_of,
    own_label_weights,
    understood,
)
from pruneviz.measuring.objective import Objective
from pruneviz.measuring.options import Options
from pruneviz.model.sample import Batch, examples_in, sample_size

_AUTO = Options()


@dataclass(frozen=True, eq=False)
class Strata:
    """The stratum of every observation, an example or a batch that cannot be split.

    Attributes:
        of_each: Numbers of strata from 0, int64 [observations].
        left: For each stratum the share of its population that is not in the sample, float64; 1
            where the population is not known or infinite.
        idle: Observations without a weight in the loss, such as ignored labels; they are the last
            stratum and count as none.
    """

    of_each: Tensor = field(repr=False)
    left: Tensor = field(repr=False)
    idle: int = 0

    @property
    def sizes(self) -> Tensor:
        """Observations in each stratum, int64."""
        return torch.bincount(self.of_each, minlength=len(self.left))

    @property
    def degrees(self) -> int:
        """Degrees of freedom of an error of all observations."""
        return len(self.of_each) - self.idle - self.drawn

    @property
    def drawn(self) -> int:
        """Number of strata, without that of observations that have no weight."""
        return len(self.left) - bool(self.idle)


def strata_of(sample: Objective, options: Options = _AUTO) -> Strata:
    """The strata that a sample was drawn from.

    Args:
        sample: The loss on the sample.
        options: Its `strata` and `population`, as for `pruneviz.measure`.

    Raises:
        MeasureError: As for `strata_of_batches`.
    """
    return strata_of_batches(sample.batches, sample.whole, sample.loss, options, sample.weights)


def strata_of_batches(
    batches: Sequence[Batch],
    whole: str,
    loss: Loss | None,
    options: Options,
    weights: Tensor | None = None,
) -> Strata:
    """The strata that some batches were drawn from.

    Classes are strata where class sizes differ by at most one and each is 2 or more, or if
    `options` say so. Then the examples of classes with a single one, whose spread is not known, are
    one stratum; if there is one such class, it joins the smallest other one. Their errors are too
    large rather than too small. Batches that cannot be split are one stratum.

    Args:
        batches: The sample.
        whole: Why batches cannot be split; "" if they may be.
        loss: The loss, which may ignore a label.
        options: Measuring options.
        weights: Weights of the examples in the loss; those without one do not count. Default: equal
            ones, but for ignored labels.

    Raises:
        MeasureError: If classes were asked for and labels are none, or the population does not hold
            the sample.
    """
    labels = class_labels(batches)
    if options.strata == "classes" and (labels is None or whole):
        reason = whole or "the sample has no integer labels, one for each example"
        raise MeasureError(
            f"strata='classes' needs examples of classes, but {reason}; leave it out"
        )
    counted = torch.ones(sample_size(batches), dtype=torch.bool) if weights is None else weights > 0
    if labels is not None:
        counted = counted & (labels != _ignored(loss))
    if whole:
        left = _one_left(labels, counted, options)
        return _with_idle(
            torch.zeros(len(batches), dtype=torch.int64), left, _of_batches(batches, weights)
        )
    if labels is None:
        left = _one_left(None, counted, options)
        return _with_idle(torch.zeros(len(counted), dtype=torch.int64), left, counted)
    classes, of_counted, sizes = labels[counted].unique(return_inverse=True, return_counts=True)
    balanced = len(sizes) > 1 and int(sizes.min()) > 1 and int(sizes.max() - sizes.min()) <= 1
    if options.strata is None or not len(sizes) or (options.strata == "auto" and not balanced):
        left = _one_left(labels, counted, options)
        return _with_idle(torch.zeros_like(labels), left, counted)
    stratum_of_class = _without_singles(sizes)
    left = _left_by_stratum(classes, sizes, stratum_of_class, options)
    of_each = torch.zeros_like(labels)
    of_each[counted] = stratum_of_class[of_counted]
    return _with_idle(of_each, left, counted)


def _with_idle(of_each: Tensor, left: Tensor, counted: Tensor) -> Strata:
    """Strata with the observations that do not count in one of their own."""
    idle = int((~counted).sum())
    if idle:
        of_each = of_each.where(counted, len(left))
        left = torch.cat([left, torch.ones(1, dtype=torch.float64)])
    return Strata(of_each, left, idle)


def _of_batches(batches: Sequence[Batch], weights: Tensor | None) -> Tensor:
    """Whether batches have an example with a weight."""
    if weights is None:
        return torch.ones(len(batches), dtype=torch.bool)
    parts = weights.split([examples_in(x) for x, _ in batches])
    return torch.stack([(own > 0).any() for own in parts])


def stated_weights(batches: Sequence[Batch], options: Options) -> Tensor | None:
    """Weights of examples as far as options and labels state them; None for a loss of one's own.

    Args:
        batches: The sample.
        options: Its `loss` and `loss_weight`.
    """
    if options.loss_weight is not None:
        return torch.cat([given_weights(options.loss_weight)(batch).cpu() for batch in batches])
    if options.loss is None and all(labels_of(batch) is not None for batch in batches):
        return torch.cat([own_label_weights(batch).cpu() for batch in batches])
    loss = understood(options.loss)
    if loss is None or not all(isinstance(y, Tensor) for _, y in batches):
        return None
    return torch.cat([loss.weights(batch).cpu() for batch in batches])


def class_labels(batches: Sequence[Batch]) -> Tensor | None:
    """The class of every example, int64 on the CPU; None if labels are no classes.

    Rows of a single one among zeros are classes, too.
    """
    found = []
    for batch in batches:
        target = batch[1] if isinstance(batch[1], Tensor) else labels_of(batch)
        if target is not None and _one_hot(target):
            target = target.argmax(1)
        if target is None or target.ndim != 1 or target.is_floating_point() or target.is_complex():
            return None
        found.append(target.cpu().long())
    return torch.cat(found)


def _one_hot(target: Tensor) -> bool:
    if target.ndim != 2 or target.shape[1] < 2 or target.is_complex():
        return False
    return bool((((target == 0) | (target == 1)).all()) and (target.sum(1) == 1).all())


def _ignored(loss: Loss | None) -> int:
    known = loss if isinstance(loss, CrossEntropy) else understood(loss)
    return (known or CrossEntropy()).ignore_index


def _without_singles(sizes: Tensor) -> Tensor:
    """The stratum of every class, none of which has a single example if that can be."""
    single = sizes == 1
    if int(single.sum()) == 1 and len(sizes) > 1:
        single[sizes.masked_fill(single, int(sizes.max()) + 1).argmin()] = True
    numbers = torch.where(single, 0, (~single).cumsum(0) - 1 + int(single.any()))
    return numbers


def _one_left(labels: Tensor | None, counted: Tensor, options: Options) -> Tensor:
    """`Strata.left` of one stratum, of the examples that count."""
    population = options.population
    if population is None:
        return torch.ones(1, dtype=torch.float64)
    if isinstance(population, Mapping):
        if labels is not None:
            classes, drawn = labels[counted].unique(return_counts=True)
            _share_left(drawn, _population_of(classes, population), classes)
        population = sum(population.values())
    return _share_left(counted.sum()[None], torch.tensor([int(population)]))


def _left_by_stratum(
    classes: Tensor, sizes: Tensor, stratum_of_class: Tensor, options: Options
) -> Tensor:
    strata = int(stratum_of_class.max()) + 1
    population = options.population
    drawn = torch.zeros(strata, dtype=torch.int64).index_add(0, stratum_of_class, sizes)
    if population is None:
        return torch.ones(strata, dtype=torch.float64)
    if isinstance(population, Mapping):
        known = _population_of(classes, population)
        _share_left(sizes, known, classes)
        held = torch.zeros(strata, dtype=torch.int64).index_add(0, stratum_of_class, known)
        return _share_left(drawn, held)
    # without the size of each class, it counts as drawn from at the rate of the whole sample
    return _share_left(sizes.sum()[None], torch.tensor([int(population)])).expand(strata).clone()


def _population_of(classes: Tensor, population: Mapping[int, int]) -> Tensor:
    lacking = [label for label in classes.tolist() if label not in population]
    if lacking:
        raise MeasureError(
            f"population has no number of examples of label {lacking[0]}; give one for every label "
            "of the sample, or their total"
        )
    return torch.tensor([int(population[label]) for label in classes.tolist()])


def _share_left(drawn: Tensor, held: Tensor, classes: Tensor | None = None) -> Tensor:
    if bool((drawn > held).any()):
        at = int((drawn > held).int().argmax())
        label = "" if classes is None else f" of label {int(classes[at])}"
        raise MeasureError(
            f"the sample has {int(drawn[at])} examples{label}, more than the {int(held[at])} of "
            "population; give the number of examples that it was drawn from without replacement"
        )
    return 1 - drawn.double() / held.double()
