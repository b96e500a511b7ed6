"""What every example contributes to a column to first order: float64, plain autograd, dense.

The slow twin of `pruneviz.measuring.drawn_errors`. A column is a function of the weights of the
examples in the mean loss; its derivative by the weight of example n, times N, is the example's
influence. With l_n the loss of an example, a = (H_n g + H grad l_n) for theta^T H g. The standard
error of a stratified sample follows from the variance of the influences within each stratum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev


def influences(
    network: nn.Module, x: Tensor, y: Tensor, weights: Tensor | None = None
) -> dict[str, dict[str, Tensor]]:
    """{column: {parameter: influence of every example on every entry, [examples, ...]}}."""
    shapes = {name: p.shape for name, p in network.named_parameters()}
    theta = torch.cat([p.detach().double().flatten() for p in network.parameters()])
    sizes = [shape.numel() for shape in shapes.values()]

    def losses(flat: Tensor) -> Tensor:
        parts = zip(shapes.items(), flat.split(sizes), strict=True)
        state = {name: own.view(shape) for (name, shape), own in parts}
        return F.cross_entropy(functional_call(network, state, (x,)), y, reduction="none")

    share = torch.ones(len(x), dtype=torch.float64) if weights is None else weights
    share = (share / share.sum())[:, None]
    single, bent = jacrev(losses)(theta), jacrev(jacrev(losses))(theta)
    g, h = (share * single).sum(0), (share[..., None] * bent).sum(0)
    ones, n = torch.ones_like(share), len(x)
    of_g = n * share * (single - ones * g)
    of_hg = n * share * (bent @ g + single @ h - 2 * ones * (h @ g))
    flat = {
        "theta_g_se": theta * of_g,
        "theta_hg_se": theta * of_hg,
    }
    return {
        column: {
            name: own.view(n, *shape)
            for (name, shape), own in zip(shapes.items(), values.split(sizes, 1), strict=True)
        }
        for column, values in flat.items()
    }


def stratified_error(rows: Tensor, strata: Sequence[int], left: Mapping[int, float]) -> Tensor:
    """The standard error of the mean of rows [examples, rows], for a sample drawn by stratum.

    Args:
        rows: Values per example.
        strata: The stratum of every example.
        left: {stratum: share of its population that is not in the sample}; 1 if not named.
    """
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for stratum in set(strata):
        own = rows[[i for i, other in enumerate(strata) if other == stratum]]
        share = len(own) / len(rows)
        total += share**2 * own.var(0) / len(own) * left.get(stratum, 1.0)
    return total.sqrt()
