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

The first buffer is d, undampened, so that the first step has η / (1 - μ). If η or μ changes between
two steps, so does c, and z jumps by (c_old - c_new) b, although θ stays; norm(z)² then changes by
-2 (c_new - c_old) θ^T b + (c_new² - c_old²) norm(b)².

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
        effective: η_eff, the distance that a gradient moves a parameter in all, from its second
            step on; see `effective_of`.
        decay: Weight decay λ in d = g + λ θ.
        sign: -1 if the optimiser maximises, so that g stands for the negative gradient.
        momentum: μ.
        dampening: τ.
        nesterov: Whether the step is -η (d + μ b).
        known: Whether all of this is known; for other optimisers than SGD only `rate` is.
        scale: What gradients are multiplied by until the step divides them (fused AMP).
    """

    rate: float
    effective: float
    decay: float = 0.0
    sign: float = 1.0
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    known: bool = True
    scale: float = 1.0

    @property
    def lag(self) -> float:
        """c in z = θ - c b."""
        c = self.rate * self.momentum / (1 - self.momentum)
        return c * self.momentum if self.nesterov else c

    def gain(self, before: Tensor | None) -> float:
        """What d is multiplied by in the buffer, given the buffer before the step."""
        return 1.0 if before is None or not self.momentum else 1 - self.dampening

    def effective_of(self, before: Tensor | None) -> float:
        """η_eff of a step, given the buffer before it."""
        return self.rate * self.gain(before) / (1 - self.momentum) if self.known else self.effective

    def direction(self, d: Tensor, before: Tensor | None) -> Tensor:
        """u of a step s = -η u.

        Args:
            d: g + λ θ before the step.
            before: The momentum buffer before the step; None if there is none.
        """
        if not self.momentum:
            return d
        buffer = d if before is None else self.momentum * before + self.gain(before) * d
        return d + self.momentum * buffer if self.nesterov else buffer


def step_rule(optimizer: Optimizer, group: Mapping[str, Any]) -> StepRule:
    """The rule of a parameter group, with its learning rate of now.

    Subclasses of SGD count as SGD, and momentum of 1 or more as not known: the steps themselves are
    checked against the rule.
    """
    rate, scale = float(group["lr"]), _scale(optimizer)
    sign = -1.0 if group.get("maximize") else 1.0
    if not isinstance(optimizer, SGD) or group["momentum"] >= 1:
        return StepRule(rate, rate, sign=sign, known=False, scale=scale)
    momentum, dampening = float(group["momentum"]), float(group["dampening"])
    effective = rate * (1 - dampening) / (1 - momentum) if momentum else rate
    decay, nesterov = float(group["weight_decay"]), bool(group["nesterov"])
    return StepRule(rate, effective, decay, sign, momentum, dampening, nesterov, scale=scale)


def is_skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimiser will leave out the coming step, as a gradient is not finite."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(float(found))


def _scale(optimizer: Optimizer) -> float:
    """What `torch.amp.GradScaler` leaves to a fused optimiser to divide gradients by."""
    scale = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else float(scale)


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
