"""Networks that differentiate in their own forward pass, called where gradients are off."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from pruneviz.errors import MeasureError

_Call = TypeVar("_Call", bound=Callable[..., Any])
_NEEDS_GRAPH = "does not require grad"


def retried_with_gradients(call: _Call) -> _Call:
    """Let a call of a network that differentiates in its forward pass work without gradients too.

    A network of physics or a gradient penalty needs them in evaluation as well. Where gradients are
    off and the call fails for that reason, it is repeated with gradients; its output has none.

    Args:
        call: Function of (model, state, ...), as `pruneviz.model.sample.call_with`.
    """

    @wraps(call)
    def tried(model: Any, state: Any, *args: Any) -> Any:
        if torch.is_grad_enabled():
            return call(model, state, *args)
        try:
            return call(model, state, *args)
        except (RuntimeError, MeasureError) as error:
            if _NEEDS_GRAPH not in str(error):
                raise
        own = {name for name, p in model.named_parameters() if p.is_floating_point()}
        leaves = {n: t.detach().requires_grad_() if n in own else t for n, t in state.items()}
        with torch.enable_grad():
            result = call(model, leaves, *args)
        return tree_map_only(Tensor, Tensor.detach, result)

    return tried  # type: ignore[return-value]
