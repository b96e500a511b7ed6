"""What a step of an optimiser does with a gradient: rates, decay and momentum of a parameter.

SGD with momentum steps by s = -η b with b = μ b' + (1 - τ) d and d = g + λ θ. Every d then moves a
parameter by -η_eff d in all, with the effective rate η_eff = η (1 - τ) / (1 - μ), spread over
1 / (1 - μ) steps. With η_eff, d alone predicts how a norm changes over many steps; the second-order
part is η_eff² norm(d)², because steps that share a d add up.

It does so exactly for the iterate that momentum has averaged out: z = θ - c b, c = η μ / (1 - μ)
(times μ for Nesterov), steps by -η_eff d. So norm(z)² changes by -2 η_eff z^T d + η_eff² norm(d)²,
which has the further part 2 η_eff c b^T d. It is 0 in the mean if the gradients of mini-batches are
independent, positive if they agree, and negative if they alternate. Over many steps, norm(θ)² and
norm(z)² change alike.

References:
    Ghadimi, Feyzmahdavian and Johansson, "Global convergence of the heavy-ball method for convex
    optimization", ECC 2015, for z.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import LBFGS, SGD, Optimizer

from pruneviz.errors import MeasureError


@dataclass(frozen=True)
class StepRule:
    """How an optimiser steps along the gradient of a parameter.

    Attributes:
        rate: Learning rate η of the coming step.
        effective: η_eff, the distance that a gradient moves a parameter in all.
        decay: Weight decay λ in d = g + λ θ.
        sign: -1 if the optimiser maximises, so that g stands for the negative gradient.
        momentum: μ.
        dampening: τ.
        nesterov: Whether the step is -η (d + μ b).
        known: Whether all of this is known; for other optimisers than SGD only `rate` is.
    """

    rate: float
    effective: float
    decay: float = 0.0
    sign: float = 1.0
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    known: bool = True

    def direction(self, d: Tensor, buffer: Tensor | None) -> Tensor:
        """u of a step s = -η u.

        Args:
            d: g + λ θ before the step.
            buffer: The momentum buffer after the step; None without momentum.
        """
        if buffer is None:
            return d
        return d + self.momentum * buffer if self.nesterov else buffer

    def offset(self, d: Tensor, buffer: Tensor) -> Tensor:
        """c b before a step, by which the averaged iterate is behind.

        Args:
            d: g + λ θ before the step.
            buffer: The momentum buffer after the step.
        """
        before = (buffer - (1 - self.dampening) * d) / self.momentum
        c = self.rate * self.momentum / (1 - self.momentum)
        return (c * self.momentum if self.nesterov else c) * before


def step_rule(optimizer: Optimizer, group: Mapping[str, Any]) -> StepRule:
    """The rule of a parameter group, with its learning rate of now."""
    rate = float(group["lr"])
    if not isinstance(optimizer, SGD):
        sign = -1.0 if group.get("maximize") else 1.0
        return StepRule(rate, rate, sign=sign, known=False)
    momentum, dampening = float(group["momentum"]), float(group["dampening"])
    effective = rate * (1 - dampening) / (1 - momentum) if momentum else rate
    return StepRule(
        rate,
        effective,
        float(group["weight_decay"]),
        -1.0 if group["maximize"] else 1.0,
        momentum,
        dampening,
        bool(group["nesterov"]),
    )


def check_optimizer(optimizer: object) -> None:
    """Check that an optimiser takes one gradient per step.

    Raises:
        MeasureError: If it does not, or momentum is 1 or more, which has no effective rate.
    """
    if not isinstance(optimizer, Optimizer):
        raise MeasureError(
            f"the optimiser is a {type(optimizer).__name__}, not a torch.optim.Optimizer; "
            "the optimiser comes second, as in pv.FlowMeter(model, optimizer, sample)"
        )
    if isinstance(optimizer, LBFGS):
        raise MeasureError(
            "LBFGS takes several gradients per step, and gradient flow one; use SGD, or another "
            "optimiser with one gradient per step"
        )
    for group in optimizer.param_groups if isinstance(optimizer, SGD) else ():
        if group["momentum"] >= 1:
            raise MeasureError(
                f"momentum={group['momentum']} never forgets a gradient, so a step has no "
                "effective rate; use a momentum below 1"
            )
