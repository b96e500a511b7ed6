"""What one step of an optimiser did to the norms of filters, and what was predicted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pruneviz.measuring.rows import over_filters
from pruneviz.model.filters import Layer
from pruneviz.recording.step_rules import StepRule


class StepChange:
    """One parameter before a step.

    Attributes:
        rule: How the optimiser steps.
        theta: Its values, float64.
    """

    def __init__(self, rule: StepRule, theta: Tensor) -> None:
        self.rule, self.theta = rule, theta
        self._d: Tensor | None = None

    def read(self, layer: Layer, gradient: Tensor | None) -> None:
        """Take the inner products of filters with the gradient of the mini-batch."""
        if gradient is None:
            return
        rule, theta = self.rule, self.theta
        g = rule.sign * double(gradient)
        self.theta_g = over_filters(layer.rows(theta * g))
        self.norm2 = over_filters(layer.rows(theta.square()))
        d = g + rule.decay * theta
        self.d_norm2 = over_filters(layer.rows(d.square()))
        self._d = d

    def against(self, layer: Layer, parameter: Tensor, state: dict[str, Any]) -> dict[str, Tensor]:
        """The change of the norms in this step, and its predictions; empty without a gradient."""
        if self._d is None:
            return {}
        rule, now = self.rule, double(parameter)
        change = over_filters(layer.rows((now - self.theta) * (now + self.theta)))
        flow = -2 * rule.effective * self.theta_g
        values = {"change": change, "flow": flow}
        if not rule.known:
            return values
        d, decay = self._d, -2 * rule.effective * rule.decay * self.norm2
        second = rule.effective**2 * self.d_norm2
        held = state.get("momentum_buffer") if rule.momentum else None
        buffer = None if held is None else double(held)
        u = rule.rate * rule.direction(d, buffer)
        memory = torch.zeros_like(change)
        if buffer is not None:
            offset = rule.offset(d, buffer)
            memory = 2 * rule.effective * over_filters(layer.rows(offset * d))
        return {
            **values,
            "gradient": flow + decay + second,
            "momentum": flow + decay + second + memory,
            "update": over_filters(layer.rows(u * (u - 2 * self.theta))),
            "decay": decay,
            "second": second,
            "memory": memory,
        }


def double(tensor: Tensor) -> Tensor:
    """A float64 copy of a parameter, gradient or buffer."""
    values = tensor.detach()
    if values.layout != torch.strided:
        values = values.to_dense()
    # copied even where nothing is converted, because the optimiser writes into its tensors
    return values.to(torch.float64, copy=True)
