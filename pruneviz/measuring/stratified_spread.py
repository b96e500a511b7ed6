"""Means and standard errors of values per example, stratum by stratum, in running sums."""

from __future__ import annotations

import torch
from torch import Tensor

from pruneviz.measuring.ranks import Ranks

_NULL = float("nan")


class StratifiedSpread:
    """Mean of values per example, and the spread within each stratum, accumulated block by block.

    With weights the mean is a ratio, sum of weight x value over sum of weights. Its error is that
    of the residuals, value - ratio x weight, with values that have their weight as a factor.

    Args:
        strata: Number of strata.
        columns: Values of each example.
        device: Where the sums are.

    References:
        Cochran, "Sampling Techniques", 1977, chapters 5 and 6.
    """

    def __init__(self, strata: int, columns: int, device: torch.device) -> None:
        self._sums = torch.zeros(strata, columns, dtype=torch.float64, device=device)
        self._squares = torch.zeros_like(self._sums)
        self._products: Tensor | None = None  # of values and weights
        self._count, self._weights, self._weight_squares = torch.zeros(
            3, strata, dtype=torch.float64, device=device
        )
        self._shift: Tensor | None = None  # near the mean, so that squares keep their digits

    def add(self, values: Tensor, strata: Tensor, weights: Tensor | None = None) -> None:
        """Add a block.

        Args:
            values: Float64 [examples, columns].
            strata: Stratum of each example, int64.
            weights: Weight of each example relative to their mean, in all blocks or in none.
        """
        if self._shift is None:
            self._shift = values.mean(0)
        apart = values - self._shift
        self._count.index_add_(0, strata, torch.ones_like(values[:, 0]))
        self._sums.index_add_(0, strata, apart)
        if weights is not None:
            if self._products is None:
                self._products = torch.zeros_like(self._sums)
            self._products.index_add_(0, strata, apart * weights[:, None])
            self._weights.index_add_(0, strata, weights)
            self._weight_squares.index_add_(0, strata, weights.square())
        self._squares.index_add_(0, strata, apart.square_())

    def end_share(self, ranks: Ranks) -> None:
        """Add up the blocks of all ranks, relative to one shift."""
        if ranks.is_alone:
            return
        known = torch.tensor([self._shift is not None, self._products is not None]).double()
        own = torch.zeros_like(self._sums[0]) if self._shift is None else self._shift
        shift = own.clone()
        ranks.total("the shifts of examples", [known, shift])
        if not known[0]:
            return
        shift = shift / known[0].to(shift)
        apart, n = own - shift, self._count[:, None]
        products = torch.zeros_like(self._sums) if self._products is None else self._products
        products = products + apart * self._weights[:, None]
        squares = self._squares + 2 * apart * self._sums + n * apart.square()
        sums = self._sums + n * apart
        of_strata = [self._count, self._weights, self._weight_squares]
        ranks.total("the spreads of examples", [sums, squares, products, *of_strata])
        self._shift, self._sums, self._squares = shift, sums, squares
        self._products = products if known[1] else None

    def mean(self) -> Tensor:
        """Mean of all values: [columns]."""
        assert self._shift is not None
        return self._shift + self._sums.sum(0) / self._count.sum()

    def mean_of_squares(self) -> Tensor:
        """Mean of the squared values: [columns]."""
        n, sums = self._count.sum(), self._sums.sum(0)
        within = (self._squares.sum(0) - sums.square() / n) / n
        return within.clamp(min=0) + self.mean().square()

    def standard_error(self, left: Tensor) -> Tensor:
        """Standard error of the mean, or of the ratio, float64 [columns] on the CPU.

        Args:
            left: For each stratum the share of its population that is not in the sample.

        Returns:
            The root of the sum over strata of left x n / (n - 1) x squared deviations, divided by
            the number of examples; NaN below two examples.
        """
        n = self._count[:, None]
        if float(n.sum()) < 2:
            return torch.full_like(self._sums[0], _NULL).cpu()
        each = n.clamp(min=1)
        squares = self._squares - self._sums.square() / each
        if self._products is not None:
            ratio, weights = self.mean(), self._weights[:, None]
            squares = squares - 2 * ratio * (self._products - self._sums * weights / each)
            spread = self._weight_squares[:, None] - weights.square() / each
            squares = squares + ratio.square() * spread
        factors = left.to(n)[:, None] * n / (n - 1).clamp(min=1)
        return ((factors * squares.clamp(min=0)).sum(0).sqrt() / n.sum()).cpu()

    def independent_error(self) -> Tensor:
        """Standard error of the mean as if all examples were independent draws, on the CPU."""
        n, sums = self._count.sum(), self._sums.sum(0)
        if float(n) < 2:
            return torch.full_like(sums, _NULL).cpu()
        squares = (self._squares.sum(0) - sums.square() / n).clamp(min=0)
        return (squares / (n - 1) / n).sqrt().cpu()
