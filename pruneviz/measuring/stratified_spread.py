"""Means and standard errors of values per example, stratum by stratum, in running sums."""

from __future__ import annotations

import torch
from torch import Tensor

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
        Cochran, "Sampling Techniques", 1977, chapters 5 and 6. Chan, Golub and LeVeque, "Algorithms
        for computing the sample variance", 1983.
    """

    def __init__(self, strata: int, columns: int, device: torch.device) -> None:
        self._mean = torch.zeros(strata, columns, dtype=torch.float64, device=device)
        self._count = torch.zeros_like(self._mean[:, 0])
        self._squares = torch.zeros_like(self._mean)
        self._mean_weight = torch.zeros_like(self._count)
        self._weight_squares = torch.zeros_like(self._count)
        self._products: Tensor | None = None  # of deviations of values and of weights

    def add(self, values: Tensor, strata: Tensor, weights: Tensor | None = None) -> None:
        """Add a block.

        Args:
            values: Float64 [examples, columns].
            strata: Stratum of each example, int64.
            weights: Weight of each example relative to their mean. Default: 1.
        """
        at, of_each = strata.unique(return_inverse=True)
        belongs = torch.zeros(len(at), len(values), dtype=torch.float64, device=values.device)
        belongs[of_each, torch.arange(len(values), device=values.device)] = 1.0
        added = belongs.sum(1)
        means = belongs @ values / added[:, None]
        apart = values - means[of_each]
        before = self._count[at]
        both = before + added
        share, moved = (added / both)[:, None], means - self._mean[at]
        joint = (before * added / both)[:, None]
        self._squares[at] += belongs @ apart.square() + moved.square() * joint
        if weights is not None or self._products is not None:
            own = torch.ones_like(values[:, 0]) if weights is None else weights
            self._add_weights(at, belongs, apart, moved, own, before, added)
        self._mean[at] += moved * share
        self._count[at] = both

    def _add_weights(
        self,
        at: Tensor,
        belongs: Tensor,
        apart: Tensor,
        moved: Tensor,
        weights: Tensor,
        before: Tensor,
        added: Tensor,
    ) -> None:
        if self._products is None:
            self._products = torch.zeros_like(self._mean)
            self._mean_weight += 1.0  # of all that was added without a weight
        means = belongs @ weights / added
        off = weights - belongs.T @ means
        shift, joint = means - self._mean_weight[at], before * added / (before + added)
        self._products[at] += belongs @ (apart * off[:, None]) + moved * (shift * joint)[:, None]
        self._weight_squares[at] += belongs @ off.square() + shift.square() * joint
        self._mean_weight[at] += shift * added / (before + added)

    def mean(self) -> Tensor:
        """Mean of all values: [columns]."""
        return self._count @ self._mean / self._count.sum()

    def mean_of_squares(self) -> Tensor:
        """Mean of the squared values: [columns]."""
        return (self._squares.sum(0) + self._count @ self._mean.square()) / self._count.sum()

    def standard_error(self, left: Tensor) -> Tensor:
        """Standard error of the mean, or of the ratio, float64 [columns] on the CPU.

        Args:
            left: For each stratum the share of its population that is not in the sample.

        Returns:
            The root of the sum over strata of left x n / (n - 1) x squared deviations, divided by
            the number of examples; NaN below two examples.
        """
        n, squares = self._count, self._squares
        if float(n.sum()) < 2:
            return torch.full_like(self._mean[0], _NULL).cpu()
        if self._products is not None:
            ratio = self.mean()
            squares = squares - 2 * ratio * self._products
            squares = (squares + ratio.square() * self._weight_squares[:, None]).clamp(min=0)
        factors = left.to(n) * n / (n - 1).clamp(min=1)
        return ((factors @ squares).sqrt() / n.sum()).cpu()

    def independent_error(self) -> Tensor:
        """Standard error of the mean as if all examples were independent draws, on the CPU."""
        n = self._count.sum()
        if float(n) < 2:
            return torch.full_like(self._mean[0], _NULL).cpu()
        between = self._count @ (self._mean - self.mean()).square()
        return ((self._squares.sum(0) + between) / (n - 1) / n).sqrt().cpu()
