"""What one step of an optimiser did to the norms of filters, and what was predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pruneviz.measuring.rows import over_filters
from pruneviz.model.filters import Layer
from pruneviz.recording.step_rules import StepRule

_ROUNDINGS = 16  # of one entry in a step


class StepChange:
    """One parameter before a step.

    Args:
        rule: How the optimiser steps.
        parameter: The parameter.
        state: What the optimiser holds of it.
        lag: c of the averaged iterate after the step before, if that was seen.

    Attributes:
        rule: How the optimiser steps.
        theta: Its values, float64.
    """

    def __init__(
        self, rule: StepRule, parameter: Tensor, state: Mapping[str, Any], lag: float | None
    ) -> None:
        held = state.get("momentum_buffer") if rule.known and (rule.momentum or lag) else None
        self.rule, self.theta = rule, double(parameter)
        self._buffer = None if held is None else double(held)
        self._lag = rule.lag if lag is None and rule.known else lag
        self._d: Tensor | None = None

    @property
    def effective(self) -> float:
        """The effective learning rate of this step."""
        return self.rule.effective_of(self._buffer)

    def read(self, layer: Layer, gradient: Tensor | None) -> None:
        """Take the inner products of filters with the gradient of the mini-batch."""
        if gradient is None:
            return
        rule, theta = self.rule, self.theta
        g = double(gradient).mul_(rule.sign / rule.scale)
        self.theta_g = over_filters(layer.rows(theta * g))
        self.norm2 = over_filters(layer.rows(theta.square()))
        d = g + rule.decay * theta
        self.d_norm2 = over_filters(layer.rows(d.square()))
        self._d = d

    def against(self, layer: Layer, parameter: Tensor) -> dict[str, Tensor]:
        """The change of the norms in this step, and its predictions; empty without a gradient."""
        if self._d is None:
            return {}
        rule, now = self.rule, double(parameter)
        change = over_filters(layer.rows((now - self.theta) * (now + self.theta)))
        flow = -2 * self.effective * self.theta_g
        values = {"change": change, "flow": flow}
        if not rule.known:
            return values
        d, decay = self._d, -2 * self.effective * rule.decay * self.norm2
        second = self.effective * self.effective * self.d_norm2
        u = rule.rate * rule.direction(d, self._buffer)
        memory = self._memory(layer, d)
        return {
            **values,
            "gradient": flow + decay + second,
            "momentum": flow + decay + second + memory,
            "update": over_filters(layer.rows(u * (u - 2 * self.theta))),
            "decay": decay,
            "second": second,
            "memory": memory,
        }

    def strays(self, layer: Layer, parameter: Tensor) -> Tensor:
        """Filters that did not take the step of the rule, beyond rounding; bool [filters].

        Entries that are not finite are not compared.
        """
        if self._d is None:
            return torch.zeros(layer.filters, dtype=torch.bool, device=self.theta.device)
        rule, d = self.rule, self._d
        step = -rule.rate * rule.direction(d, self._buffer)
        off = (double(parameter) - self.theta - step).abs()
        size = d.abs() + rule.decay * self.theta.abs()
        if self._buffer is not None:
            size = size + self._buffer.abs()
        info = torch.finfo(parameter.dtype)
        size = self.theta.abs() + step.abs() + abs(rule.rate) * size
        beyond = off > _ROUNDINGS * (info.eps * size + info.tiny)
        return over_filters(layer.rows(beyond.double())) > 0

    def _memory(self, layer: Layer, d: Tensor) -> Tensor:
        """What the change of norm(z)^2 has beyond that of an Euler step, jumps of z included."""
        if self._buffer is None:
            return torch.zeros_like(self.norm2)
        b, c, last = self._buffer, self.rule.lag, self._lag or 0.0
        b_d, theta_b, b_b = (
            over_filters(layer.rows(values)) for values in (b * d, b * self.theta, b.square())
        )
        jump = -2 * (c - last) * theta_b + (c * c - last * last) * b_b
        return 2 * self.effective * c * b_d + jump


def double(tensor: Tensor) -> Tensor:
    """A float64 copy of a parameter, gradient or buffer."""
    values = tensor.detach()
    if values.layout != torch.strided:
        values = values.to_dense()
    # copied even where nothing is converted, because the optimiser writes into its tensors
    return values.to(torch.float64, copy=True)
