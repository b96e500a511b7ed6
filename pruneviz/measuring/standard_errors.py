"""Inner products theta_p^T g_p and theta_p^T (H g)_p of filters, and their standard errors.

The contribution of every example is gathered while the derivatives are formed
(`pruneviz.measuring.directional`). The errors are those of a sample drawn stratum by stratum
(`pruneviz.measuring.strata`). If batches are normalised by their own statistics, examples have no
separate contributions, and standard errors are over batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruneviz.measuring.derivatives import Listener
from pruneviz.measuring.objective import NamedTensors
from pruneviz.measuring.ranks import Ranks
from pruneviz.measuring.strata import Strata
from pruneviz.measuring.stratified_spread import StratifiedSpread
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

    def end_share(self, ranks: Ranks, filters: int, device: torch.device) -> None:
        """Add up the blocks of all ranks.

        Args:
            ranks: The processes that share the sample.
            filters: Number of columns, for a rank without a block.
            device: Where the sums are.
        """
        if ranks.is_alone:
            return
        own = torch.zeros(2, filters, dtype=torch.float64, device=device)
        mean, squares = (
            own if self.mean is None or self.squares is None else (self.mean, self.squares)
        )
        weights = torch.tensor([self.count, self.weight], dtype=torch.float64)
        sums = mean * self.weight
        ranks.total("the means of batches", [weights, sums])
        if not weights[0]:
            return
        whole = sums / float(weights[1])
        squares = squares + (mean - whole).square() * self.weight
        ranks.total("the deviations of batches", [squares])
        self.count, self.weight = int(weights[0]), float(weights[1])
        self.mean, self.squares = whole, squares

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
        strata: The strata of the sample; its examples come in their order. Default: one.
        weights: Weights of the examples in the loss. Default: equal ones.
        start: Position of the first example of this rank's share.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        parameters: NamedTensors,
        examples: int,
        *,
        by_batch: bool,
        complete: bool,
        strata: Strata | None = None,
        weights: Tensor | None = None,
        start: int = 0,
    ) -> None:
        self._layers, self._parameters, self._examples = layers, parameters, examples
        self._by_batch, self._complete = by_batch, complete
        self.filters = tuple(layer.weight for layer in layers if layer.is_gathered)
        device = parameters[layers[0].weight].device
        filters = sum(layer.filters for layer in layers)
        self._gathered, self._part = torch.zeros(2, filters, dtype=torch.float64, device=device)
        self._degrees = None if strata is None else strata.degrees
        self._left = torch.ones(1) if strata is None else strata.left
        # columns are the filters of all layers, concatenated
        self._over_batches, self._over_examples = (
            RunningSpread(),
            StratifiedSpread(len(self._left), filters, device),
        )
        self._strata = strata.of_each.to(device) if strata and not by_batch else None
        self._weights = None if weights is None else (weights / weights.mean()).to(device)
        self._seen = start  # position of the next example
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
        own = slice(self._seen, self._seen + examples)
        self._seen += examples
        weights = None if self._weights is None else self._weights[own]
        if self._by_batch:
            weight = examples if weights is None else float(weights.sum())
            whole = of_part if self._complete else gathered + of_part
            if weight:  # else without a loss
                self._over_batches.add(whole[None] * (self._examples / weight), weight)
            return
        none = torch.zeros(examples, dtype=torch.int64, device=terms.device)
        strata = none if self._strata is None else self._strata[own]
        self._over_examples.add(terms * self._examples, strata, weights)

    def end_share(self, ranks: Ranks) -> None:
        """Add up the sums and spreads of all ranks."""
        if ranks.is_alone:
            return
        device = self._part.device
        odd = [float(layer.name in self._not_by_example) for layer in self._layers]
        not_by_example = torch.tensor(odd, dtype=torch.float64)
        ranks.total("the filters' products", [self._gathered, self._part, not_by_example])
        names = zip(self._layers, not_by_example.tolist(), strict=True)
        self._not_by_example = {layer.name for layer, times in names if times}
        if self._by_batch:
            self._over_batches.end_share(ranks, len(self._part), device)
        else:
            self._over_examples.end_share(ranks)

    def products(self) -> NamedTensors:
        """{layer: theta^T of the derivative, float64 [filters] on the CPU}."""
        return self._by_layer(self._part if self._complete else self._gathered + self._part)

    def standard_errors(self) -> NamedTensors:
        """{layer: standard error of each filter, float64 [filters] on the CPU}.

        That of the sample as it was drawn. NaN without a degree of freedom, such as where fewer
        than two examples or batches have a weight, for a layer
        whose output does not keep examples in its first dimension, and for a layer whose weight is
        also used elsewhere, so that its terms do not add up to the derivative.
        """
        if self._by_batch:
            errors = self._over_batches.standard_error(len(self._part)) * self._left[0].sqrt()
        else:
            errors = self._over_examples.standard_error(self._left)
        if self._degrees is not None and self._degrees < 1:
            errors = torch.full_like(errors, _NULL)
        return self._where_valid(errors)

    def independent_errors(self) -> NamedTensors:
        """The same as if all examples, or batches, were independent draws.

        NaN also if they have unequal weights, where the mean of squares does not follow from it.
        """
        if self._by_batch:
            errors = self._over_batches.standard_error(len(self._part))
        else:
            errors = self._over_examples.independent_error()
        if self._weights is not None:
            errors = torch.full_like(errors, _NULL)
        return self._where_valid(errors)

    def mean_squares(self) -> NamedTensors:
        """{layer: mean over examples of each filter's squared terms, float64 [filters] on the CPU}.

        NaN where standard errors are.
        """
        spread = self._over_batches if self._by_batch else self._over_examples
        return self._where_valid(spread.mean_of_squares())

    def _where_valid(self, values: Tensor) -> NamedTensors:
        """{layer: its values}, NaN for layers without terms per example."""
        found = self._by_layer(values)
        valid = found.keys() if self._by_batch else self._valid()
        return {
            name: own if name in valid else torch.full_like(own, _NULL)
            for name, own in found.items()
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
        squares = self._by_layer(self._over_examples.mean_of_squares())
        adds_up = {
            name
            for name in elsewhere
            if elsewhere[name].norm() <= _ADDS_UP * squares[name].sum().sqrt()
        }
        return adds_up - self._not_by_example
