"""Contents of Python objects, saved and put back in place, so that objects keep their identity."""

from __future__ import annotations

import copy
import random
import warnings
from argparse import Namespace
from array import array
from collections import UserDict, UserList, deque
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from queue import Queue
from types import (
    CellType,
    FunctionType,
    GeneratorType,
    MemberDescriptorType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pruneviz.errors import UnsupportedError
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.own_code import is_own

Restore: TypeAlias = Callable[[], None]

_HELPERS = (SimpleNamespace, Namespace, Queue, UserDict, UserList)
_NO_HELPERS = (type, FunctionType, ModuleType, tuple, Dataset, torch.optim.Optimizer)
_ABSENT = object()


def content_of(value: Any, home: str) -> Restore | None:
    """How to put back the content of a value; None for values that keep nothing.

    Args:
        value: Any object.
        home: Name of the Python module of the class that holds it.
    """
    for kinds, save in _CONTENTS.items():
        if isinstance(value, kinds):
            return save(value)
    if not is_helper(value, home):
        return None
    restores = [of_dict(vars(value))] if hasattr(value, "__dict__") else []
    restores += [_of_slot(slot, value) for slot in _slots(value)]

    def put_back() -> None:
        for each in restores:
            each()

    return put_back


def parts_of(value: Any, home: str) -> Iterator[Any]:
    """The values that a value holds."""
    if isinstance(value, (dict, UserDict)):
        yield from list(value.values())
    if isinstance(value, (list, tuple, set, deque)):
        yield from list(value)
    elif not isinstance(value, (dict, *_LEAVES)) and is_helper(value, home):
        yield from list(getattr(value, "__dict__", {}).values())
        for slot in _slots(value):
            yield slot.__get__(value, type(value)) if _is_set(slot, value) else None


def is_data(value: Any, home: str) -> bool:
    """Whether a variable holds a number, text, container, generator or helper."""
    known = isinstance(value, (type(None), str, *SIMPLE))
    return known or is_iterator(value) or is_helper(value, home)


def is_helper(value: Any, home: str) -> bool:
    """Whether an object's attributes count as its module's own."""
    kind = type(value)
    if isinstance(value, _NO_HELPERS) or not (hasattr(value, "__dict__") or _slots(value)):
        return False
    own = kind.__module__ == home or is_own(kind.__module__)
    return own or is_dataclass(value) or isinstance(value, _HELPERS)


def is_iterator(value: Any) -> bool:
    """Whether a value is an iterator of Python's own, which moves when it is read."""
    return type(value).__module__ in ("builtins", "itertools") and isinstance(value, Iterator)


def lent(value: Any) -> Any:
    """A copy of an iterator, to be used in its place; one that refuses to be read if none can be.

    Args:
        value: An iterator.
    """
    if isinstance(value, GeneratorType):
        return _Unreadable(value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return copy.deepcopy(value)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return _Unreadable(value)  # whatever it iterates over


class _Unreadable:
    """Stands in for an iterator that cannot be copied."""

    def __init__(self, value: Any) -> None:
        self._name = getattr(value, "__name__", type(value).__name__)

    def __iter__(self) -> _Unreadable:
        return self

    def __next__(self) -> Any:
        raise UnsupportedError(
            f"the network reads the generator {self._name} in its forward pass; a generator cannot "
            "be copied, so measuring would move it. Hold itertools.cycle or itertools.count, or a "
            "counter"
        )


def of_class(kind: type) -> Restore:
    """How to put back the attributes of a class, except methods."""
    before = class_data(kind)

    def put_back() -> None:
        now = class_data(kind)
        for name in now.keys() - before.keys():
            delattr(kind, name)
        for name, value in before.items():
            if now.get(name, _ABSENT) is not value:
                setattr(kind, name, value)

    return put_back


def class_data(kind: type) -> dict[str, Any]:
    """The attributes of a class, except methods and names that Python uses."""
    return {
        name: value
        for name, value in vars(kind).items()
        if not name.startswith(("__", "_abc_"))
        and not callable(value)
        and not hasattr(type(value), "__get__")
    }


def of_variable(space: dict[str, Any], name: str) -> Restore:
    """How to put back a global variable."""
    before = space[name]

    def put_back() -> None:
        if space.get(name, _ABSENT) is not before:
            space[name] = before

    return put_back


def _slots(value: Any) -> list[MemberDescriptorType]:
    kinds = [kind for kind in type(value).__mro__ if is_own(kind.__module__)]
    held = [slot for kind in kinds for slot in vars(kind).values()]
    return [slot for slot in held if isinstance(slot, MemberDescriptorType)]


def _is_set(slot: MemberDescriptorType, value: Any) -> bool:
    try:
        slot.__get__(value, type(value))
    except AttributeError:
        return False
    return True


def _of_slot(slot: MemberDescriptorType, value: Any) -> Restore:
    if not _is_set(slot, value):
        return lambda: slot.__delete__(value) if _is_set(slot, value) else None
    before = slot.__get__(value, type(value))
    return lambda: slot.__set__(value, before)


def of_cell(cell: CellType) -> Restore:
    """How to put back a variable of a closure."""
    before = cell.cell_contents

    def put_back() -> None:
        cell.cell_contents = before

    return put_back


def _of_list(value: list[Any]) -> Restore:
    before = list(value)

    def put_back() -> None:
        if len(value) != len(before) or any(a is not b for a, b in zip(value, before, strict=True)):
            value[:] = before

    return put_back


def of_dict(value: dict[Any, Any]) -> Restore:
    """How to put back the entries of a dict."""
    before = dict(value)

    def put_back() -> None:
        if not identical(value, before):
            value.clear()
            value.update(before)

    return put_back


def _of_set(value: set[Any]) -> Restore:
    before = set(value)

    def put_back() -> None:
        if value != before:
            value.clear()
            value.update(before)

    return put_back


def _of_deque(value: deque[Any]) -> Restore:
    before = list(value)

    def put_back() -> None:
        if len(value) != len(before) or any(a is not b for a, b in zip(value, before, strict=True)):
            value.clear()
            value.extend(before)

    return put_back


def of_tensor(value: Tensor) -> Restore | None:
    """How to put back the values of a tensor; None if they cannot be copied."""
    if value.layout is not torch.strided or value.is_meta or value.is_nested:
        return None
    try:
        before = value.detach().clone()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return None  # quantised in a way that torch has no copy of

    def put_back() -> None:
        # compared, not counted: an in-place change of `.data` moves no version counter
        if value.shape != before.shape:
            value.data = before.clone()
        elif not _equal(value.detach(), before):
            value.data.copy_(before)

    return put_back


def _equal(value: Tensor, before: Tensor) -> bool:
    """Whether two tensors are equal; false where torch cannot compare them, as of complex32."""
    try:
        return torch.equal(value, before)
    except NotImplementedError:
        return False


def _of_array(value: np.ndarray) -> Restore | None:
    if not value.flags.writeable or value.dtype.hasobject:
        return None
    before = value.copy()
    return lambda: np.copyto(value, before)


def _of_generator(value: torch.Generator) -> Restore:
    before = value.get_state()
    return lambda: None if torch.equal(value.get_state(), before) else _set_state(value, before)


def _set_state(generator: torch.Generator, state: Tensor) -> None:
    generator.set_state(state)


def _of_random(value: random.Random) -> Restore:
    before = value.getstate()
    return lambda: value.setstate(before)


def _of_numpy_generator(value: np.random.Generator) -> Restore:
    before = value.bit_generator.state

    def put_back() -> None:
        value.bit_generator.state = before

    return put_back


def _of_numpy_state(value: np.random.RandomState) -> Restore:
    before = value.get_state()
    return lambda: value.set_state(before)


def _of_bytes(value: bytearray | array[Any]) -> Restore:
    before = value[:]

    def put_back() -> None:
        if value != before:
            value[:] = before  # type: ignore[assignment]

    return put_back


def identical(now: dict[Any, Any], before: dict[Any, Any]) -> bool:
    """Whether two dicts hold the same objects in the same order."""
    return list(now) == list(before) and all(now[name] is before[name] for name in before)


_LEAVES: dict[type, Callable[[Any], Restore | None]] = {
    Tensor: of_tensor,
    np.ndarray: _of_array,
    torch.Generator: _of_generator,
    random.Random: _of_random,
    np.random.Generator: _of_numpy_generator,
    np.random.RandomState: _of_numpy_state,
    bytearray: _of_bytes,
    array: _of_bytes,
}
_CONTENTS: dict[type, Callable[[Any], Restore | None]] = {
    list: _of_list,
    dict: of_dict,
    set: _of_set,
    deque: _of_deque,
    **_LEAVES,
}
SIMPLE = (int, float, *_CONTENTS)  # kinds of variables, also of a library's functions
