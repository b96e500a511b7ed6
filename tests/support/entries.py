"""Slow twins of columns per entry of every parameter: float64, plain double backward."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def loss_of(model: nn.Module, inputs: Any, target: Tensor) -> Tensor:
    """Cross-entropy of the logits of a network."""
    output = model(inputs)
    logits = output if isinstance(output, Tensor) else output["logits"]
    return F.cross_entropy(logits, target)


def entry_columns(
    model: nn.Module,
    inputs: Any,
    target: Tensor,
    loss: Callable[[nn.Module, Any, Tensor], Tensor] = loss_of,
) -> dict[str, dict[str, Tensor]]:
    """{column: {parameter: one number per entry}}, at temperature 1."""
    twin = copy.deepcopy(model).double().eval()
    theta = dict(twin.named_parameters())
    with sdpa_kernel(SDPBackend.MATH):
        g = gradient_of(loss(twin, inputs, target), theta, create_graph=True)
        fixed = {name: value.detach() for name, value in g.items()}
        slope = sum((g[name] * fixed[name]).sum() for name in g)
        hg = gradient_of(slope, theta)
    found: dict[str, dict[str, Tensor]] = {}
    for name, p in ((name, p.detach()) for name, p in theta.items()):
        values = {
            "theta_norm2": p * p,
            "theta_l1": p.abs(),
            "theta_g": p * fixed[name],
            "abs_theta_g": (p * fixed[name]).abs(),
            "theta2_abs_g": p * p * fixed[name].abs(),
            "g_norm2": fixed[name] ** 2,
            "theta_hg": p * hg[name].detach(),
        }
        for column, value in values.items():
            found.setdefault(column, {})[name] = value
    return found


def gradient_of(
    value: Any, theta: Mapping[str, Tensor], create_graph: bool = False
) -> dict[str, Tensor]:
    """The gradient by every parameter, zero where there is none."""
    parts = torch.autograd.grad(
        value, list(theta.values()), create_graph=create_graph, allow_unused=True
    )
    return {
        name: torch.zeros_like(p) if part is None else part
        for (name, p), part in zip(theta.items(), parts, strict=True)
    }
