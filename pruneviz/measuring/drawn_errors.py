"""Standard errors from random half samples, for columns and rows without terms per example.

A draw splits the sample at random into two halves, class by class. With L_A and L_B the losses of
the halves, half the difference of a column between them has the standard error of the column on the
whole sample as its own spread:

    theta^T g:     theta^T d,                           d = (g_A - g_B) / 2
    |theta|^T |g|: |theta|^T (|g + d| - |g - d|) / 2
    theta^T H g:   (theta^T H_A (g + d) - theta^T H_B (g - d)) / 2 = theta^T H_w g + theta^T H d

with H_w = (H_A - H_B) / 2, so that the last counts that both H and g vary. It costs one
Hessian-vector product over the sample, since each half has half of the examples. It needs neither
gradients of single examples nor a mean over examples: halves of whole batches serve as well. The
same draw gives the errors of filters, weights and units, and of sums over coupled filters, whose
members vary together.

The absolute value has no derivative at 0, so that of g_j counts at most |g_j|: right where g_j is
far from 0, and also where it is nothing but noise.

theta^T H g is of second order in the sample. Where g is mostly noise, so is the g of the sample at
hand, and the mean square of the difference counts the part of second order, theta^T H_w d, for
twice what it varies. The sum of the halves is that part itself, and its variance over the draws is
subtracted, up to half of the mean square, which is right where all of it is of second order.

The mean over all splits of a squared difference is the stratified variance, sum_c (n_c / N)^2
s_c^2 / n_c. For a stratum of n split into a and b, E (mean_A - mean_B)^2 / 4 = s^2 n / (4 a b), so
the difference is scaled by the root of 4 a b / n^2, which is 1 for even n.

Strata of one size are split together, as a level. With weights the loss is a ratio of two sums over
all levels. A half of a level that happens to weigh more also moves that ratio from the mean of the
others towards the mean of its own level; `_tilts` says how far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor

from pruneviz.log.request_columns import DRAWS
from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.derivatives import filter_products, gradients, hessian_products
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.rows import AnyLayer, reduced
from pruneviz.measuring.standard_errors import FilterTerms
from pruneviz.measuring.strata import Strata
from pruneviz.model.filters import Layer
from pruneviz.model.sample import Batch, chosen, examples_in

DRAWN_COLUMNS = ("theta_g_se", "abs_theta_g_se", "theta_hg_se")
_NULL = float("nan")
BEND = "bend"  # of a draw: the part of theta^T H g of second order, theta^T H_w d, and a constant

Rows: TypeAlias = dict[str, NamedTensors]  # column -> layer -> one number per row


@dataclass(frozen=True, eq=False)
class Level:
    """Strata of the same size, which are split alike.

    Attributes:
        members: Numbers of the observations, examples or whole batches: [strata, n], n >= 2.
        left: The share 1 - n / N of a finite population that is not in the sample; 1 if infinite.
    """

    members: Tensor = field(repr=False)
    left: float = 1.0

    def split(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two halves of every stratum at random, all members of one and of the other."""
        strata, n = self.members.shape
        order = torch.rand(strata, n, generator=generator, dtype=torch.float64).argsort(1)
        shuffled = self.members.gather(1, order)
        first = n // 2 + int(torch.randint(0, 1 + n % 2, (), generator=generator))
        return shuffled[:, :first].flatten(), shuffled[:, first:].flatten()


def levels_of(strata: Strata, weights: Tensor) -> list[Level]:
    """The observations that have a weight, by stratum; strata of the same size in one level.

    Args:
        strata: The stratum of every observation.
        weights: Weights of the observations in the loss.

    Returns:
        Empty if a stratum has one observation alone, whose spread is not known.
    """
    alike: dict[tuple[int, float], list[Tensor]] = {}
    for number, left in enumerate(strata.left.tolist()):
        members = ((strata.of_each == number) & (weights > 0)).nonzero().flatten()
        if len(members) == 1:
            return []
        if len(members):
            alike.setdefault((len(members), left), []).append(members)
    return [Level(torch.stack(members), left) for (_, left), members in alike.items()]


class HalfSamples:
    """Differences of columns between two halves of a sample.

    Args:
        sample: The loss on the sample; the first temperature counts.
        layers: Layers of the table.
        levels: All observations of the sample that have a weight, by stratum.
        unit: Row kind.
        chunk: Examples differentiated at once.
    """

    def __init__(
        self,
        sample: Objective,
        layers: Sequence[AnyLayer],
        levels: Sequence[Level],
        unit: str,
        chunk: int,
    ) -> None:
        self._sample = replace(sample, temperatures=sample.temperatures[:1])
        self._layers, self._levels, self._unit, self._chunk = layers, levels, unit, chunk
        self._weights = observation_weights(sample)
        self._theta = {name: p.detach().double() for name, p in sample.parameters.items()}
        total = sum(self._weight(level.members) for level in levels)
        self._total = total
        self._shares = [self._weight(level.members) / total for level in levels]
        self._means = [self._gradient(level.members.flatten().sort().values) for level in levels]
        self._g = _combined(self._means, self._shares)

    def differences(self, halves: Sequence[tuple[Tensor, Tensor]], columns: Sequence[str]) -> Rows:
        """Half the difference of columns between the halves of one draw.

        Args:
            halves: The observations of both halves, for every level.
            columns: Among `DRAWN_COLUMNS`.

        Returns:
            {column: {layer: float64, one number per row}}, with theta_hg_se also `BEND`.
        """
        d = self._half_difference(halves)
        found: Rows = {}
        if "theta_g_se" in columns:
            found["theta_g_se"] = self._rows(lambda name: self._theta[name] * d[name])
        if "abs_theta_g_se" in columns:
            found["abs_theta_g_se"] = self._rows(
                lambda name: self._theta[name].abs() * _of_absolutes(self._g[name], d[name])
            )
        if "theta_hg_se" in columns:
            found["theta_hg_se"], found[BEND] = self._of_second_order(halves, d)
        return found

    def _half_difference(self, halves: Sequence[tuple[Tensor, Tensor]]) -> NamedTensors:
        """d, half the difference between the gradients of the halves."""
        parts, factors = [], []
        for (first, second), level, mean, share, tilt in zip(
            halves, self._levels, self._means, self._shares, self._tilts(halves), strict=True
        ):
            of_first = self._weight(first) / self._weight(level.members)
            own = self._gradient(first)
            # g_A - g_B, with g_B from the mean of both
            parts += [{name: (own[name] - mean[name]) / (1 - of_first) for name in own}, mean]
            factors += [share * _scale(level, first, second) / 2, tilt]
        return _combined(parts, factors)

    def _tilts(self, halves: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
        """What half the difference in weight adds to the share of each level; their sum is 0."""
        own = []
        for (first, second), level in zip(halves, self._levels, strict=True):
            n = len(first) + len(second)
            heavier = self._weight(first) * n / len(first) - self._weight(second) * n / len(second)
            own.append(_scale(level, first, second) * heavier / (2 * self._total))
        return [tilt - share * sum(own) for tilt, share in zip(own, self._shares, strict=True)]

    def _of_second_order(
        self, halves: Sequence[tuple[Tensor, Tensor]], d: NamedTensors
    ) -> tuple[NamedTensors, NamedTensors]:
        """Half the difference of theta^T H g per row, and the part of second order."""
        difference, bend = ({layer.name: torch.zeros(()) for layer in self._layers} for _ in "12")
        for (first, second), level, share, tilt in zip(
            halves, self._levels, self._shares, self._tilts(halves), strict=True
        ):
            scale = _scale(level, first, second)
            of_first = self._weight(first) / self._weight(level.members)
            # both halves together are H d, also if one of them is larger
            for half, sign, part in ((first, 1, of_first), (second, -1, 1 - of_first)):
                along = _combined([self._g, d], [sign * scale + 2 * part * tilt / share, 2 * part])
                for name, rows in self._products(half, along).items():
                    difference[name] = difference[name] + rows * (share / 2)
                    bend[name] = bend[name] + rows * (share * part * sign)
        return difference, bend

    def _weight(self, members: Tensor) -> float:
        return float(self._weights[members.flatten()].sum())

    def _part(self, members: Tensor) -> tuple[Objective, float]:
        """The loss of some observations, and its factor as an estimate of the whole loss."""
        part = replace(self._sample, batches=_batches_of(self._sample, members))
        factor = self._sample.examples / part.examples if self._sample.summed else 1.0
        return part, factor

    def _gradient(self, members: Tensor) -> NamedTensors:
        part, factor = self._part(members)
        (_, (g,)), self._chunk = halved_on_out_of_memory(
            lambda size: gradients(part, size), self._chunk, part.model, part.whole
        )
        return g if factor == 1 else {name: own * factor for name, own in g.items()}

    def _products(self, members: Tensor, vector: NamedTensors) -> NamedTensors:
        """theta^T H v of every row, with H of some observations."""
        part, factor = self._part(members)
        found, self._chunk = halved_on_out_of_memory(
            lambda size: self._products_in_chunks(part, vector, size),
            self._chunk,
            part.model,
            part.whole,
        )
        return {name: rows * factor for name, rows in found.items()}

    def _products_in_chunks(
        self, part: Objective, vector: NamedTensors, chunk: int
    ) -> NamedTensors:
        filters = [layer for layer in self._layers if isinstance(layer, Layer)]
        gathered = all(layer.is_gathered for layer in filters)
        if self._unit == "filter" and gathered and len(filters) == len(self._layers):
            terms = FilterTerms(
                filters, part.parameters, part.examples, by_batch=False, complete=False
            )
            filter_products(part, [vector], chunk, [terms])
            return terms.products()
        (h,) = hessian_products(part, [vector], chunk)
        return self._rows(lambda name: self._theta[name] * h[name])

    def _rows(self, per_entry: Callable[[str], Tensor]) -> NamedTensors:
        return {layer.name: reduced(layer, per_entry, self._unit).cpu() for layer in self._layers}


def drawn_errors(
    sample: Objective,
    layers: Sequence[AnyLayer],
    strata: Strata,
    columns: Sequence[str],
    *,
    unit: str,
    chunk: int,
    seed: int,
) -> Rows:
    """Standard errors of columns at the first temperature, from random half samples.

    Args:
        sample: The loss on the sample.
        layers: Layers of the table.
        strata: The strata that the sample was drawn from.
        columns: Among `DRAWN_COLUMNS`.
        unit: Row kind.
        chunk: Examples differentiated at once.
        seed: Seed of the draws.

    Returns:
        {column: {layer: float64, one number per row}}; NaN if a stratum cannot be split.

    References:
        McCarthy, "Pseudo-replication: half samples", Review of the International Statistical
        Institute, 1969. Wolter, "Introduction to Variance Estimation", 2007, chapter 3.
    """
    levels = levels_of(strata, observation_weights(sample))
    if not levels:
        return _unknown(sample, layers, columns, unit)
    generator = torch.Generator().manual_seed(int(seed))
    halves = HalfSamples(sample, layers, levels, unit, chunk)
    draws = [
        halves.differences([level.split(generator) for level in levels], columns)
        for _ in range(DRAWS)
    ]
    return {column: _errors_of(draws, column) for column in columns}


def _errors_of(draws: Sequence[Rows], column: str) -> NamedTensors:
    """The standard errors of a column."""
    found = {}
    for layer in draws[0][column]:
        square = torch.stack([draw[column][layer] for draw in draws]).square().mean(0)
        if column == "theta_hg_se":
            twice = torch.stack([draw[BEND][layer] for draw in draws]).var(0)
            square = (square - twice).maximum(square / 2)
        found[layer] = square.sqrt()
    return found


def _unknown(
    sample: Objective, layers: Sequence[AnyLayer], columns: Sequence[str], unit: str
) -> Rows:
    nothing = {
        layer.name: reduced(
            layer,
            lambda name: torch.full_like(sample.parameters[name], _NULL, dtype=torch.float64),
            unit,
        ).cpu()
        for layer in layers
    }
    return dict.fromkeys(columns, nothing)


def observation_weights(sample: Objective) -> Tensor:
    """The weight of every example in the loss, or of every batch that cannot be split: float64."""
    weights = sample.weights
    if weights is None:
        weights = torch.ones(sample.examples, dtype=torch.float64)
    if not sample.whole:
        return weights
    sizes = [examples_in(x) for x, _ in sample.batches]
    return torch.stack([own.sum() for own in weights.split(sizes)])


def _batches_of(sample: Objective, members: Tensor) -> list[Batch]:
    """The batches that hold some observations."""
    if sample.whole:
        return [sample.batches[number] for number in members.tolist()]
    found, start = [], 0
    for batch in sample.batches:
        stop = start + examples_in(batch[0])
        own = members[(members >= start) & (members < stop)] - start
        if len(own):
            x, y = (chosen(part, own.sort().values) for part in batch)
            found.append((x, x if batch[1] is batch[0] else y))  # a mapping may be both
        start = stop
    return found


def _of_absolutes(g: Tensor, d: Tensor) -> Tensor:
    """Half the difference of the absolute values of g + d and g - d."""
    return ((g + d).abs() - (g - d).abs()) / 2


def _scale(level: Level, first: Tensor, second: Tensor) -> float:
    """What makes the expected square of a half difference the variance of the stratified mean."""
    n = len(first) + len(second)
    return float((level.left * 4 * len(first) * len(second) / n**2) ** 0.5)


def _combined(parts: Sequence[Mapping[str, Tensor]], factors: Sequence[float]) -> NamedTensors:
    """The sum of vectors times factors, by parameter."""
    found = {name: torch.zeros_like(tensor) for name, tensor in parts[0].items()}
    for part, factor in zip(parts, factors, strict=True):
        for name, total in found.items():
            total += part[name] * factor
    return found
