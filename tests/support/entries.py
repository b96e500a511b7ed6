"""Slow twins of columns per entry of every parameter: float64, plain double backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.double_backward import derivatives


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
    theta, g, hg = derivatives(model, lambda twin: loss(twin, inputs, target))
    found: dict[str, dict[str, Tensor]] = {}
    for name, p in theta.items():
        values = {
            "theta_norm2": p * p,
            "theta_l1": p.abs(),
            "theta_g": p * g[name],
            "abs_theta_g": (p * g[name]).abs(),
            "theta2_abs_g": p * p * g[name].abs(),
            "g_norm2": g[name] ** 2,
            "theta_hg": p * hg[name],
        }
        for column, value in values.items():
            found.setdefault(column, {})[name] = value
    return found
