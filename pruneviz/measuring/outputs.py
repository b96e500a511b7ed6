"""What a loss reads from the output of a network: logits, or a loss that the network computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pruneviz.model.sample import tensors_in


def logits_of(output: Any) -> Tensor | None:
    """The logits in an output: a tensor, its entry `logits`, or the only tensor in it.

    Returns:
        None if the output holds no tensor, or several without one of this name.
    """
    if isinstance(output, Tensor):
        return output
    named = _entry(output, "logits")
    if isinstance(named, Tensor):
        return named
    found = tensors_in(output)
    return found[0] if len(found) == 1 else None


def own_loss(output: Any) -> Tensor | None:
    """The entry `loss` of an output, as models of Hugging Face have when labels are given.

    Returns:
        None if there is none, or it is not one number.
    """
    loss = None if isinstance(output, Tensor) else _entry(output, "loss")
    return loss.squeeze() if isinstance(loss, Tensor) and loss.numel() == 1 else None


def _entry(output: Any, name: str) -> Any:
    """An entry of a mapping, or an attribute of another object."""
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
