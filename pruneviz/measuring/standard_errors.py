"""Inner products theta_p^T g_p and theta_p^T (H g)_p of filters, and their standard errors.

The contribution of every example is gathered while the derivatives are formed
(`pruneviz.measuring.directional`). If batches are normalised by their own statistics, examples have
no separate contributions, and standard errors are over batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruneviz.measuring.derivatives import Listener
from pruneviz.measuring.objective import NamedTensors
from pruneviz.model.filters import Layer

_NULL = float("nan")
# relative; far above float32 rounding, far below a contribution from another use of the weight
_ADDS_UP = 1e-2


class RunningSpread:
    """Mean and squared deviations of values per example or batch, accumulated block by block.

    Batches count by their number of examples. The variance of a batch's mean falls with it, so that
    the standard error is without bias for batches of any sizes.

    References:
        Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983.
    """

    def __init__(self) -> None:
        self.count = 0
        self.weight = 0.0
        self.mean: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, values: Tensor, each: float = 1.0) -> None:
        """Add a block of values [examples or batches, filters], each with a weight."""
        block = values.double()
        weight, mean = each * len(block), block.mean(0)
        squares = (block - mean).square().sum(0) * each
        self.count += len(block)
        if self.mean is None or self.squares is None:
            self.weight, self.mean, self.squares = weight, mean, squares
            return
        total, shift = self.weight + weight, mean - self.mean
        self.squares = self.squares + squares + shift.square() * (self.weight * weight / total)
        self.mean, self.weight = self.mean + shift * (weight / total), total

    def mean_of_squares(self) -> Tensor:
        """Mean of the squared values: [filters]."""
        assert self.mean is not None and self.squares is not None
        return self.mean.square() + self.squares / self.weight

    def standard_error(self, filters: int) -> Tensor:
        """Standard error of the mean, float64 [filters] on the CPU; NaN below two values."""
        if self.squares is None or self.count < 2:
            return torch.full((filters,), _NULL, dtype=torch.float64)
        return (self.squares / (self.count - 1) / self.weight).sqrt().cpu()


class FilterTerms(Listener):
    """Gathers the contributions of filters to theta^T g or theta^T H v.

    Args:
        layers: Layers whose filters are gathered.
        parameters: Theta, by name.
        examples: Number of examples in the sample.
        by_batch: Whether standard errors are over batches instead of examples.
        complete: Whether the `part` of a chunk is its whole derivative, or only the rest beside the
            gathered terms.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        parameters: NamedTensors,
        examples: int,
        *,
        by_batch: bool,
        complete: bool,
    ) -> None:
        self._layers, self._parameters, self._examples = layers, parameters, examples
        self._by_batch, self._complete = by_batch, complete
        self.filters = tuple(layer.weight for layer in layers if layer.is_gathered)
        device = parameters[layers[0].weight].device
        filters = sum(layer.filters for layer in layers)
        self._gathered, self._part = torch.zeros(2, filters, dtype=torch.float64, device=device)
        self._spread = RunningSpread()  # filters of all layers, concatenated
        self._not_by_example: set[str] = set()  # layers whose terms are summed over examples
        self._chunk: dict[str, list[Tensor]] = {}

    def gather(self, weight: str, terms: Tensor) -> None:
        """Add the terms [examples, filters] of one layer call."""
        self._chunk.setdefault(weight, []).append(terms)

    def end_chunk(self, examples: int, part: NamedTensors) -> None:
        """Add the chunk's terms to sums and spreads."""
        terms = torch.cat([self._terms_of(layer, examples) for layer in self._layers], dim=1)
        of_part = torch.cat([self._product_with(layer, part) for layer in self._layers])
        gathered = terms.sum(0)
        self._chunk = {}
        self._gathered += gathered
        self._part += of_part
        if self._by_batch:
            whole = of_part if self._complete else gathered + of_part
            self._spread.add(whole[None] * (self._examples / examples), examples)
        else:
            self._spread.add(terms * self._examples)

    def products(self) -> NamedTensors:
        """{layer: theta^T of the derivative, float64 [filters] on the CPU}."""
        return self._by_layer(self._part if self._complete else self._gathered + self._part)

    def standard_errors(self) -> NamedTensors:
        """{layer: standard error of each filter, float64 [filters] on the CPU}.

        NaN for fewer than two examples or batches, for a layer whose output does not keep examples
        in its first dimension, and for a layer whose weight is also used elsewhere, so that its
        terms do not add up to the derivative.
        """
        errors = self._by_layer(self._spread.standard_error(len(self._part)))
        valid = errors.keys() if self._by_batch else self._valid()
        return {
            name: e if name in valid else torch.full_like(e, _NULL) for name, e in errors.items()
        }

    def mean_squares(self) -> NamedTensors:
        """{layer: mean over examples of each filter's squared terms, float64 [filters] on the CPU}.

        NaN where standard errors are.
        """
        squares = self._by_layer(self._spread.mean_of_squares())
        valid = squares.keys() if self._by_batch else self._valid()
        return {
            name: found if name in valid else torch.full_like(found, _NULL)
            for name, found in squares.items()
        }

    def _terms_of(self, layer: Layer, examples: int) -> Tensor:
        """Terms of a layer, float64 [examples, filters].

        If terms are not per example, the first row holds their sum.
        """
        blocks = self._chunk.get(layer.weight, [])
        if layer.examples_first and blocks and all(len(block) == examples for block in blocks):
            if len(blocks) == 1:
                return blocks[0].double()
            return torch.stack(blocks).sum(0, dtype=torch.float64)
        self._not_by_example.add(layer.name)
        found = torch.zeros(examples, layer.filters, dtype=torch.float64, device=self._part.device)
        for block in blocks:
            found[0] += block.sum(0, dtype=torch.float64)
        return found

    def _product_with(self, layer: Layer, part: NamedTensors) -> Tensor:
        """Inner products of a layer's filters with a derivative part: float64 [filters]."""
        if layer.weight not in part:
            return torch.zeros(layer.filters, dtype=torch.float64, device=self._part.device)
        theta = self._parameters[layer.weight].detach().double()
        return layer.rows(theta * part[layer.weight].detach()).flatten(1).sum(1)

    def _by_layer(self, values: Tensor) -> NamedTensors:
        names = [layer.name for layer in self._layers]
        sizes = [layer.filters for layer in self._layers]
        return dict(zip(names, values.cpu().split(sizes), strict=True))

    def _valid(self) -> set[str]:
        """Layers whose terms are per example and add up to the derivative."""
        elsewhere = self._by_layer(self._part - self._gathered if self._complete else self._part)
        squares = self._by_layer(self._spread.mean_of_squares())
        adds_up = {
            name
            for name in elsewhere
            if elsewhere[name].norm() <= _ADDS_UP * squares[name].sum().sqrt()
        }
        return adds_up - self._not_by_example
