"""Weights that a network swaps during its forward pass and puts back before it ends.

A backward pass reads weights where they are kept, so it would use the wrong ones without an error.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pruneviz.errors import UnsupportedError
from pruneviz.measuring.bilinear import bilinear_call
from pruneviz.measuring.objective import NamedTensors


class UsedWeights(TorchFunctionMode):
    """Context of one forward pass that keeps the values with which weights are used.

    Args:
        parameters: The tensors with which the network is called, by name.
    """

    def __init__(self, parameters: NamedTensors) -> None:
        super().__init__()
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._used: dict[str, tuple[Tensor, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = bilinear_call(func, args, kwargs or {})
        name = self._names.get(id(call.weight)) if call else None
        if call is not None and name is not None and name not in self._used:
            self._used[name] = call.weight, call.weight.detach().clone()
        return func(*args, **(kwargs or {}))

    def check_kept(self) -> None:
        """Check, after the pass, that the weights are those that were used.

        Raises:
            UnsupportedError: If one is not; names it.
        """
        for name, (weight, used) in self._used.items():
            now = weight.detach()
            if now.shape != used.shape or not torch.equal(now.nan_to_num(), used.nan_to_num()):
                raise swapped(name)


def swapped(name: str) -> UnsupportedError:
    """The error about a weight that differs between forward and backward pass.

    Args:
        name: Name of the parameter.
    """
    return UnsupportedError(
        f"the network computes with other values of {name} than those it leaves there: it swaps "
        "them during forward, as by `self.weight.data = ...`, and puts them back, so a backward "
        "pass would read the wrong ones; compute with a new tensor instead, such as "
        "F.linear(x, 2 * self.weight), or register the computation with "
        "torch.nn.utils.parametrize"
    )
