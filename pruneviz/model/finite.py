"""Find the first layer whose values are not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def first_nonfinite_layer(
    model: nn.Module, forward: Callable[[Any], object], batches: Iterable[Any]
) -> str | None:
    """Name of the first layer, in execution order, whose weights or output are not finite.

    Args:
        model: Network whose layers are watched.
        forward: Calls the network on a batch of inputs.
        batches: Inputs, tried batch by batch until a layer is found.

    Returns:
        Name in `model.named_modules()`; None if all values are finite.
    """
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            values = (output, *module.parameters())
            if not all(v.isfinite().all() for v in values if isinstance(v, Tensor)):
                found.append(name)

        return hook

    leaves = [(name, m) for name, m in model.named_modules() if not list(m.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        for batch in batches:
            forward(batch)
            if found:
                return found[0]
    finally:
        for handle in handles:
            handle.remove()
    return None
