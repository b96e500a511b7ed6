"""theta_g and theta_hg of filters by plain double backward of any loss, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def plain_products(
    model: nn.Module, loss: Callable[[nn.Module], Tensor], weights: Sequence[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """{weight: (theta^T g, theta^T H g) of every filter}, with Theta all parameters.

    Args:
        model: Any network; measured as a float64 copy in evaluation mode.
        loss: The loss of the whole sample, as a function of the network.
        weights: Names of the parameters [filters, ...].
    """
    twin = copy.deepcopy(model).double().eval()
    names, parameters = zip(*twin.named_parameters(), strict=True)
    for parameter in parameters:
        parameter.requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # other kernels have no second derivative
        value = loss(twin)
    g = torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)
    slope = sum((part * part.detach()).sum() for part in g)
    hg = torch.autograd.grad(slope, parameters, materialize_grads=True)
    found = {}
    for name, p, g_p, hg_p in zip(names, parameters, g, hg, strict=True):
        if name in weights:
            theta = p.detach().flatten(1)
            found[name] = (
                (theta * g_p.detach().flatten(1)).sum(1),
                (theta * hg_p.flatten(1)).sum(1),
            )
    return found


def assert_as_plain(
    frame: pd.DataFrame,
    model: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    tolerance: float = 1e-9,
) -> None:
    """Check theta_g and theta_hg of every filter in a table against plain autograd."""
    layers = list(dict.fromkeys(frame["layer"]))
    expected = plain_products(model, loss, [f"{layer}.weight" for layer in layers])
    assert layers
    for i, column in enumerate(("theta_g", "theta_hg")):
        want = torch.cat([expected[f"{layer}.weight"][i] for layer in layers]).numpy()
        assert np.linalg.norm(want) > 0
        apart = np.linalg.norm(frame[column].to_numpy() - want)
        assert apart <= tolerance * np.linalg.norm(want), (column, apart, np.linalg.norm(want))
