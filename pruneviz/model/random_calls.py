"""Which operation and layer of a network draw random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle


class RandomCalls(TorchDispatchMode):
    """Context that notes the first torch operation of a forward pass that draws random numbers.

    Args:
        model: The network that is called inside.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self._inside: list[str] = []
        self._handles: list[RemovableHandle] = []
        self._first: tuple[str, str] | None = None  # operation, layer

    def described(self) -> str:
        """Where random numbers were drawn, to continue a sentence; "" if not by torch."""
        if self._first is None:
            return " outside of torch"
        operation, layer = self._first
        return f" by {operation}" + (f" in layer {layer}" if layer else "")

    def __enter__(self) -> RandomCalls:
        for name, module in self._model.named_modules():
            self._handles += [
                module.register_forward_pre_hook(self._entered(name)),
                module.register_forward_hook(self._left, always_call=True),
            ]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._first is None and torch.Tag.nondeterministic_seeded in func.tags:
            layer = self._inside[-1] if self._inside else ""
            self._first = func.overloadpacket.__name__.strip("_"), layer
        return func(*args, **(kwargs or {}))

    def _entered(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object) -> None:
            self._inside.append(name)

        return hook

    def _left(self, module: nn.Module, inputs: object, output: object) -> None:
        if self._inside:
            self._inside.pop()
