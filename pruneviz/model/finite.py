"""The first layer whose values are not finite."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


@torch.no_grad()
def first_broken_layer(network: nn.Module, images: Tensor) -> str | None:
    """The first layer, in the order of execution, whose weights or output are not finite; None where all are."""
    broken: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            values = [
                value for value in (output, *module.parameters()) if isinstance(value, Tensor)
            ]
            if not all(value.isfinite().all() for value in values):
                broken.append(name)

        return hook

    leaves = [
        (name, module) for name, module in network.named_modules() if not list(module.children())
    ]
    hooks = [module.register_forward_hook(look(name)) for name, module in leaves]
    try:
        network.eval()(images)
    finally:
        for handle in hooks:
            handle.remove()
    return broken[0] if broken else None
