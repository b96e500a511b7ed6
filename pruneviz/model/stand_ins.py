"""Tensors that stand in for a network's parameters and buffers, however it gets at those."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

_FREEZING = {Tensor.requires_grad_, Tensor.requires_grad.__set__}  # type: ignore[attr-defined]

_HOOKING = {Tensor.register_hook, Tensor.register_post_accumulate_grad_hook}


@contextmanager
def stand_ins(model: nn.Module, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Context in which functions of torch take the tensors in `state` for the network's own.

    `torch.func.functional_call` replaces the tensors that modules hold. A network may also keep a
    parameter in a list or a closure: the derivative would miss that use, and writing into it would
    reach the network. Tensors in `state` get no hooks, and cannot be frozen if differentiated.

    Args:
        model: The network.
        state: Parameters and buffers by name.
    """
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with _StandIns({id(tensor): state[n] for n, tensor in own.items() if n in state}, state):
        yield


def every_place(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in `state` by every place that holds them: a tied weight has several.

    A module that is registered twice is one place, unlike for `torch.func.functional_call`.

    Args:
        model: The network.
        state: Parameters and buffers by name.
    """
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    instead = {id(tensor): state[name] for name, tensor in own.items() if name in state}
    found = {}
    for path, module in model.named_modules():
        mine = {**module._parameters, **module._buffers}
        for name, tensor in mine.items():
            if tensor is not None and id(tensor) in instead:
                found[f"{path}.{name}" if path else name] = instead[id(tensor)]
    return found


class _StandIns(TorchFunctionMode):
    """Replaces tensors in the arguments of all calls."""

    def __init__(self, instead: Mapping[int, Tensor], state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._instead = instead
        self._standing_in = {id(tensor) for tensor in state.values()}
        self._differentiated = {id(tensor) for tensor in state.values() if tensor.requires_grad}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args = tuple(map(self._replaced, args))
        kwargs = {name: self._replaced(value) for name, value in (kwargs or {}).items()}
        if func in _FREEZING and id(args[0]) in self._differentiated:
            return args[0].requires_grad_()
        if func in _HOOKING and id(args[0]) in self._standing_in:
            return RemovableHandle(OrderedDict())
        return func(*args, **kwargs)

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._instead.get(id(value), value)
        if type(value) in (list, tuple):
            return type(value)(map(self._replaced, value))
        return value
