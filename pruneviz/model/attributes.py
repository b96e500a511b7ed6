"""The Python attributes of a network's modules, saved and put back.

Forward passes may count, cache or collect in attributes. They are put back in place, so that every
object keeps its identity: attributes of every module, and the contents of lists, dicts, sets,
deques, plain tensors, arrays and generators found there, and in the variables of functions found
there. Other objects are kept by reference, unless they are dataclasses, namespaces or helpers
defined beside their module.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import is_dataclass
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

# parts of a module that other contexts keep: modes, hooks, and tensors swapped by functional_call
_MEMBERS = ("_parameters", "_buffers", "_modules")
_NOT_SAVED = {
    *_MEMBERS, "training", "_non_persistent_buffers_set", "_is_full_backward_hook",
    "_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
}  # fmt: skip
_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, range)
_Restore: TypeAlias = Callable[[], None]


class Attributes:
    """The attributes of all modules of a network as they are now.

    Args:
        model: Any network; it does not change.

    Attributes:
        modules: The modules of the network, and those that its modules keep in plain attributes.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules: list[nn.Module] = []
        self._restores: list[_Restore] = []
        self._buffers: list[_Restore] = []
        self._members: list[tuple[dict[str, Any], dict[str, Any]]] = []
        members = [*model.parameters(), *model.buffers()]
        self._seen = {id(tensor) for tensor in members}
        self._todo: list[tuple[Any, str]] = []  # values to save, with the file of their module
        self._alive: list[object] = [members]  # so that no id is reused
        registered = list(model.modules())
        for module in registered:
            self._seen.add(id(module))
        for module in registered:
            self._save_module(module)
        self._save_all()
        # forward passes have copies, but a hook of an activation may write into the buffers
        saved = [_of_tensor(buffer) for buffer in model.buffers()]
        self._buffers = [put_back for put_back in saved if put_back is not None]

    def restore(self) -> None:
        """Put the attributes back, and forget members that were added or filled since."""
        for now, before in self._members:
            for name in list(now):
                if name not in before:
                    del now[name]
                elif before[name] is None:
                    now[name] = None
        for put_back in self._restores:
            put_back()

    def restore_members(self) -> None:
        """Put back which parameters, buffers and modules every module holds, and their buffers."""
        for now, before in self._members:
            if not _identical(now, before):
                now.clear()
                now.update(before)
        for put_back in self._buffers:
            put_back()

    def _save_module(self, module: nn.Module) -> None:
        self.modules.append(module)
        for kind in _MEMBERS:
            self._members.append((vars(module)[kind], dict(vars(module)[kind])))
        self._restores.append(_attributes_of(module))
        for name, value in list(vars(module).items()):
            if name not in _NOT_SAVED:
                self._todo.append((value, type(module).__module__))

    def _save_all(self) -> None:
        """Save the content of all waiting values, and of what they hold."""
        while self._todo:
            self._save(*self._todo.pop())

    def _save(self, value: Any, home: str) -> None:
        if isinstance(value, _CONSTANTS) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._alive.append(value)
        if isinstance(value, nn.Module):
            self._save_hidden(value)
            return
        if isinstance(value, (FunctionType, MethodType, partial)):
            self._save_function(value)
            return
        put_back = _content(value, home)
        if put_back is not None:
            self._restores.append(put_back)
        self._todo += [(part, home) for part in _parts(value, home)]

    def save_function(self, function: Any) -> None:
        """Save what a function keeps: its closure, its globals, and the object it belongs to.

        Args:
            function: A function, method, partial function, or callable object or module.
        """
        self._save_function(function)
        self._save_all()

    def _save_function(self, function: Any) -> None:
        while isinstance(function, partial):
            self._todo += [(v, "") for v in (*function.args, *function.keywords.values())]
            function = function.func
        owner = getattr(function, "__self__", function)
        if not isinstance(owner, (FunctionType, ModuleType)):
            self._todo.append((owner, type(owner).__module__))
        code = getattr(function, "__func__", function)
        if isinstance(code, FunctionType):
            self._save_variables(code)

    def _save_variables(self, function: FunctionType) -> None:
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # a variable that has no value yet
                self._restores.append(_of_cell(cell))
                self._todo.append((cell.cell_contents, function.__module__))
        space = function.__globals__
        for name in function.__code__.co_names:
            if isinstance(space.get(name), (int, float, *_CONTENTS)):
                self._restores.append(partial(space.__setitem__, name, space[name]))
                self._todo.append((space[name], function.__module__))

    def _save_hidden(self, module: nn.Module) -> None:
        """Save a module that is not registered, such as a teacher kept in a list."""
        self._seen |= {id(parameter) for parameter in module.parameters()}
        for part in module.modules():
            self._seen.add(id(part))
            self._save_module(part)
            for buffer in part.buffers(recurse=False):
                self._todo.append((buffer, type(part).__module__))


class Restoring:
    """Forward pre-hook that restores attributes before a pass.

    Args:
        attributes: What to restore.
    """

    def __init__(self, attributes: Attributes) -> None:
        self._attributes, self._inside = attributes, False

    def __call__(self, module: nn.Module, inputs: object) -> None:
        if not self._inside:
            self._attributes.restore()

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Context of one pass, in which the network may be called several times, or by parts."""
        self._attributes.restore()
        self._inside = True
        try:
            yield
        finally:
            self._inside = False


@contextmanager
def one_pass(model: nn.Module) -> Iterator[None]:
    """Context of one forward pass of an isolated network, however its parts are called.

    Args:
        model: The network; nothing happens if it is not isolated.
    """
    hooks = vars(model)["_forward_pre_hooks"].values()
    restoring = next((hook for hook in hooks if isinstance(hook, Restoring)), None)
    with nullcontext() if restoring is None else restoring.one_pass():
        yield


def _attributes_of(module: nn.Module) -> _Restore:
    now = vars(module)
    before = {name: value for name, value in now.items() if name not in _NOT_SAVED}

    def put_back() -> None:
        for name in [name for name in now if name not in before and name not in _NOT_SAVED]:
            del now[name]
        now.update(before)

    return put_back


def _content(value: Any, home: str) -> _Restore | None:
    """How to put back the content of a value; None for values that keep nothing."""
    for kinds, save in _CONTENTS.items():
        if isinstance(value, kinds):
            return save(value)
    return _of_dict(vars(value)) if _is_helper(value, home) else None


def _parts(value: Any, home: str) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from list(value.values())
    elif isinstance(value, (list, tuple, set, deque)):
        yield from list(value)
    elif not isinstance(value, tuple(_LEAVES)) and _is_helper(value, home):
        yield from list(vars(value).values())


def _is_helper(value: Any, home: str) -> bool:
    """Whether an object's attributes count as its module's own."""
    if not hasattr(value, "__dict__") or isinstance(value, (type, FunctionType, ModuleType)):
        return False
    own = type(value).__module__ == home
    return own or is_dataclass(value) or isinstance(value, SimpleNamespace)


def _of_cell(cell: CellType) -> _Restore:
    before = cell.cell_contents

    def put_back() -> None:
        cell.cell_contents = before

    return put_back


def _of_list(value: list[Any]) -> _Restore:
    before = list(value)

    def put_back() -> None:
        if len(value) != len(before) or any(a is not b for a, b in zip(value, before, strict=True)):
            value[:] = before

    return put_back


def _of_dict(value: dict[Any, Any]) -> _Restore:
    before = dict(value)

    def put_back() -> None:
        if not _identical(value, before):
            value.clear()
            value.update(before)

    return put_back


def _of_set(value: set[Any]) -> _Restore:
    before = set(value)

    def put_back() -> None:
        if value != before:
            value.clear()
            value.update(before)

    return put_back


def _of_deque(value: deque[Any]) -> _Restore:
    before = list(value)

    def put_back() -> None:
        if len(value) != len(before) or any(a is not b for a, b in zip(value, before, strict=True)):
            value.clear()
            value.extend(before)

    return put_back


def _of_tensor(value: Tensor) -> _Restore | None:
    if value.layout is not torch.strided or value.is_meta or value.is_nested:
        return None
    before = value.detach().clone()

    def put_back() -> None:
        # compared, not counted: an in-place change of `.data` moves no version counter
        if value.shape != before.shape:
            value.data = before.clone()
        elif not torch.equal(value.detach(), before):
            value.data.copy_(before)

    return put_back


def _of_array(value: np.ndarray) -> _Restore | None:
    if not value.flags.writeable or value.dtype.hasobject:
        return None
    before = value.copy()
    return lambda: np.copyto(value, before)


def _of_generator(value: torch.Generator) -> _Restore:
    before = value.get_state()
    return lambda: None if torch.equal(value.get_state(), before) else _set_state(value, before)


def _set_state(generator: torch.Generator, state: Tensor) -> None:
    generator.set_state(state)


def _of_random(value: random.Random) -> _Restore:
    before = value.getstate()
    return lambda: value.setstate(before)


def _of_numpy_generator(value: np.random.Generator) -> _Restore:
    before = value.bit_generator.state

    def put_back() -> None:
        value.bit_generator.state = before

    return put_back


def _of_numpy_state(value: np.random.RandomState) -> _Restore:
    before = value.get_state()
    return lambda: value.set_state(before)


def _identical(now: dict[Any, Any], before: dict[Any, Any]) -> bool:
    return list(now) == list(before) and all(now[name] is before[name] for name in before)


_LEAVES: dict[type, Callable[[Any], _Restore | None]] = {
    Tensor: _of_tensor,
    np.ndarray: _of_array,
    torch.Generator: _of_generator,
    random.Random: _of_random,
    np.random.Generator: _of_numpy_generator,
    np.random.RandomState: _of_numpy_state,
}
_CONTENTS: dict[type, Callable[[Any], _Restore | None]] = {
    list: _of_list,
    dict: _of_dict,
    set: _of_set,
    deque: _of_deque,
    **_LEAVES,
}
