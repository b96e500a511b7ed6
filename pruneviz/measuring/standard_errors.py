"""Inner products theta_p^T g_p and theta_p^T (H g)_p of filters, and their standard errors over the sample.

The contribution of every example to them is gathered while the derivatives are formed (`pruneviz.measuring.directional`). Where a batch is normalised
by its own statistics, examples have no contribution of their own, and the batch is the unit of a standard error.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruneviz.measuring.derivatives import Listener
from pruneviz.measuring.objective import Named
from pruneviz.model.filters import Layer

_NULL = float("nan")
_ADDS_UP = (
    1e-2  # far above rounding in float32, far below what a use of the weight elsewhere takes away
)


class RunningSpread:
    """Mean and squared deviations of per-unit values, gathered block by block (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self.units = 0
        self.mean: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Take in a block of values [units, filters]."""
        block = values.double()
        units, mean = len(block), block.mean(0)
        squares = (block - mean).square().sum(0)
        if self.mean is None or self.squares is None:
            self.units, self.mean, self.squares = units, mean, squares
            return
        total, shift = self.units + units, mean - self.mean
        self.squares = self.squares + squares + shift.square() * (self.units * units / total)
        self.mean, self.units = self.mean + shift * (units / total), total

    def mean_of_squares(self) -> Tensor:
        """Mean of the squared values, [filters]."""
        assert self.mean is not None and self.squares is not None
        return self.mean.square() + self.squares / self.units

    def standard_error(self, filters: int) -> Tensor:
        """Standard error of the mean, float64 [filters] on the CPU; NaN with fewer than two units."""
        if self.squares is None or self.units < 2:
            return torch.full((filters,), _NULL, dtype=torch.float64)
        return (self.squares / (self.units - 1) / self.units).sqrt().cpu()


class FilterTerms(Listener):
    """Gathers what the filters of `layers` contribute to theta^T g or theta^T H v, with `parameters` theta.

    Args: `examples`, the size of the sample; `by_batch`, whether a batch is the unit of the standard error, in the place of an example;
    `complete`, whether the parts that it is told of are the whole derivative, or only what the gathered terms leave out.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        parameters: Named,
        examples: int,
        *,
        by_batch: bool,
        complete: bool,
    ) -> None:
        self._layers, self._parameters, self._examples = layers, parameters, examples
        self._by_batch, self._complete = by_batch, complete
        self.filters = tuple(layer.weight for layer in layers)
        device = parameters[layers[0].weight].device
        self._gathered, self._part = torch.zeros(
            2, sum(layer.filters for layer in layers), dtype=torch.float64, device=device
        )
        self._spread = RunningSpread()  # of the filters of all layers side by side
        self._hidden: set[str] = set()  # layers whose terms do not come example by example
        self._chunk: dict[str, list[Tensor]] = {}

    def gather(self, weight: str, terms: Tensor) -> None:
        """Take in the terms [examples, filters] of one application of a layer."""
        self._chunk.setdefault(weight, []).append(terms)

    def end_chunk(self, examples: int, part: Named) -> None:
        """Take the chunk's terms into sums and spreads."""
        terms = torch.cat([self._terms_of(layer, examples) for layer in self._layers], dim=1)
        told = torch.cat([self._told_of(layer, part) for layer in self._layers])
        gathered = terms.sum(0)
        self._chunk = {}
        self._gathered += gathered
        self._part += told
        if self._by_batch:
            whole = told if self._complete else gathered + told
            self._spread.add(whole[None] * (self._examples / examples))
        else:
            self._spread.add(terms * self._examples)

    def products(self) -> Named:
        """{layer: theta^T of the derivative, float64 [filters] on the CPU}."""
        return self._by_layer(self._part if self._complete else self._gathered + self._part)

    def standard_errors(self) -> Named:
        """{layer: standard error of each filter, float64 [filters] on the CPU}.

        NaN with fewer than two units; for a layer whose output does not keep the examples in its first dimension; and for one
        whose weight acts elsewhere too, so that its terms do not add up to the derivative.
        """
        errors = self._by_layer(self._spread.standard_error(len(self._part)))
        valid = errors.keys() if self._by_batch else self._valid()
        return {
            name: e if name in valid else torch.full_like(e, _NULL) for name, e in errors.items()
        }

    def _terms_of(self, layer: Layer, examples: int) -> Tensor:
        """[examples, filters], float64; where terms do not come by example their sum stands in the first row."""
        blocks = self._chunk.get(layer.weight, [])
        if layer.examples_first and blocks and all(len(block) == examples for block in blocks):
            return (
                blocks[0].double()
                if len(blocks) == 1
                else torch.stack(blocks).sum(0, dtype=torch.float64)
            )
        self._hidden.add(layer.name)
        found = torch.zeros(examples, layer.filters, dtype=torch.float64, device=self._part.device)
        for block in blocks:
            found[0] += block.sum(0, dtype=torch.float64)
        return found

    def _told_of(self, layer: Layer, part: Named) -> Tensor:
        if layer.weight not in part:
            return torch.zeros(layer.filters, dtype=torch.float64, device=self._part.device)
        return (
            (self._parameters[layer.weight].detach().double() * part[layer.weight].detach())
            .flatten(1)
            .sum(1)
        )

    def _by_layer(self, values: Tensor) -> Named:
        names, sizes = (
            [layer.name for layer in self._layers],
            [layer.filters for layer in self._layers],
        )
        return dict(zip(names, values.cpu().split(sizes), strict=True))

    def _valid(self) -> set[str]:
        """The layers whose terms come by example, and add up to the derivative."""
        elsewhere = self._by_layer(self._part - self._gathered if self._complete else self._part)
        squares = self._by_layer(self._spread.mean_of_squares())
        adds_up = {
            name
            for name in elsewhere
            if elsewhere[name].norm() <= _ADDS_UP * squares[name].sum().sqrt()
        }
        return adds_up - self._hidden
