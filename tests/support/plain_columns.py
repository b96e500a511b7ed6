"""theta_g and theta_hg of any network, from plain double backward in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]


def classified(inputs: Tensor, targets: Tensor) -> Loss:
    """Cross-entropy of a network called with parameters on float64 inputs."""
    given = inputs.double() if inputs.is_floating_point() else inputs

    def loss(model: nn.Module, theta: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(model, theta, (given,)), targets)

    return loss


def plain_columns(
    model: nn.Module, loss: Loss, layers: list[str], *, second: bool = True
) -> pd.DataFrame:
    """theta_g and theta_hg of every filter of these layers, one row per filter."""
    model = copy.deepcopy(model).double().eval()
    theta = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    with sdpa_kernel(SDPBackend.MATH):
        value = loss(model, theta)
    g = torch.autograd.grad(
        value, list(theta.values()), create_graph=second, materialize_grads=True
    )
    found = {"theta_g": dict(zip(theta, g, strict=True))}
    if second:
        slope = sum((one * one.detach()).sum() for one in g)
        hg = torch.autograd.grad(slope, list(theta.values()), materialize_grads=True)
        found["theta_hg"] = dict(zip(theta, hg, strict=True))
    return pd.DataFrame(
        {
            column: torch.cat([_products(theta, parts, layer) for layer in layers]).numpy()
            for column, parts in found.items()
        }
    )


def _products(theta: dict[str, Tensor], parts: dict[str, Tensor], layer: str) -> Tensor:
    weight = layer if layer in theta else f"{layer}.weight"
    return (theta[weight] * parts[weight]).detach().flatten(1).sum(1)


def worst_error(frame: pd.DataFrame, expected: pd.DataFrame) -> float:
    """The largest error of a column, relative to its largest entry."""
    errors = [
        (frame[column].to_numpy() - expected[column].to_numpy()) / expected[column].abs().max()
        for column in expected
    ]
    return float(max(abs(error).max() for error in errors))
