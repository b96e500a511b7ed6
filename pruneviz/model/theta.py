"""Theta: the parameters that a loss is differentiated by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from torch import nn

from pruneviz.errors import MeasureError, unknown_name
from pruneviz.model.coverage import matches

Choice: TypeAlias = str | Sequence[str]  # "all", "trainable", or names and patterns


def theta_of(model: nn.Module, parameters: Choice) -> list[str]:
    """The names of the parameters in Theta.

    Args:
        model: Any network.
        parameters: "all" real and complex parameters, the "trainable" ones (`requires_grad`), or
            names and patterns such as "blocks.*.weight".

    Raises:
        MeasureError: If a pattern matches none, or no parameter is trainable.
    """
    known = model.named_parameters()
    floating = {name: p for name, p in known if p.is_floating_point() or p.is_complex()}
    if parameters == "all":
        return list(floating)
    if parameters == "trainable":
        found = [name for name, p in floating.items() if p.requires_grad]
        if not found:
            raise MeasureError(
                "parameters='trainable', but every parameter is frozen; pass parameters='all', or "
                "set requires_grad of those that are trained"
            )
        return found
    patterns = (parameters,) if isinstance(parameters, str) else parameters
    matched = {pattern: {n for n in floating if matches(pattern, n)} for pattern in patterns}
    for pattern, names in matched.items():
        if not names:
            hint = "parameters is 'all', 'trainable', or names and patterns such as '*.weight'"
            raise MeasureError(unknown_name("parameter", pattern, list(floating), hint))
    wanted = set().union(*matched.values())
    return [name for name in floating if name in wanted]
