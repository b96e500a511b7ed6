"""Hooks put aside while a network is measured.

Hooks of the person, such as statistics of an optimiser or counters, must not see passes that are
no training. Hooks that define the network's function stay: those of `torch.nn.utils` (old-style
weight norm and spectral norm, pruning masks), methods of the network's own modules, and forward
hooks that return a value, which replaces an input or output.
"""

from __future__ import annotations

import dis
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import CodeType, FunctionType
from typing import Any, TypeAlias

from torch import nn
from torch.nn.modules import module as torch_module

_FORWARD = ("_forward_pre_hooks", "_forward_hooks")
_BACKWARD = ("_backward_hooks", "_backward_pre_hooks")
_HOOKS = (*_FORWARD, *_BACKWARD)
_RETURN_NOTHING = {
    "append", "appendleft", "add", "extend", "insert", "remove", "discard", "clear", "update",
    "put", "print", "write", "debug", "info", "warning", "log", "observe", "count", "record",
    "__setitem__", "setattr",
}  # fmt: skip

Keep: TypeAlias = Callable[[str, Any], bool]  # (kind of hook, hook) -> whether it stays


def defines_function(kind: str, hook: Any) -> bool:
    """Whether a hook belongs to the function that a network computes.

    Args:
        kind: Attribute of a module that holds the hook, such as "_forward_hooks".
        hook: The hook.
    """
    while isinstance(hook, partial):
        hook = hook.func
    if isinstance(getattr(hook, "__self__", None), nn.Module):
        return True
    if any(base.__module__.startswith("torch.nn.utils.") for base in type(hook).__mro__):
        return True
    return kind.removeprefix("_global") in _FORWARD and _returns_value(hook)


def kept_hooks(modules: Iterable[nn.Module]) -> list[Any]:
    """The hooks of modules that stay because they define the network's function.

    Args:
        modules: Modules whose hooks are asked for.
    """
    held = [(name, vars(module).get(name) or {}) for module in modules for name in _HOOKS]
    return [hook for name, own in held for hook in own.values() if defines_function(name, hook)]


@contextmanager
def hooks_put_aside(modules: Iterable[nn.Module], keep: Keep = defines_function) -> Iterator[None]:
    """Put aside the hooks of modules, and hooks of all modules; put all back.

    Args:
        modules: Modules whose hooks are put aside.
        keep: Which hooks stay.
    """
    held = [(module, {name: vars(module).get(name) for name in _HOOKS}) for module in modules]
    everywhere = {f"_global{name}": getattr(torch_module, f"_global{name}") for name in _HOOKS}
    aside = {name: OrderedDict(hooks) for name, hooks in everywhere.items()}
    for name, hooks in everywhere.items():
        _replace(hooks, _kept(name, hooks, keep))
    for module, own in held:
        vars(module).update({name: _kept(name, h, keep) for name, h in own.items() if h})
    try:
        yield
    finally:
        for module, own in held:
            vars(module).update({name: h for name, h in own.items() if h is not None})
        for name, hooks in everywhere.items():
            _replace(hooks, aside[name])


def _kept(name: str, hooks: OrderedDict[int, Any], keep: Keep) -> OrderedDict[int, Any]:
    return OrderedDict((key, hook) for key, hook in hooks.items() if keep(name, hook))


def _replace(hooks: OrderedDict[int, Any], content: OrderedDict[int, Any]) -> None:
    hooks.clear()
    hooks.update(content)


def _returns_value(hook: Any, depth: int = 3) -> bool:
    """Whether a function may return something other than None, read from its code.

    A function whose result it returns is read too, down to some depth.
    """
    call = hook if hasattr(hook, "__code__") or hasattr(hook, "__func__") else type(hook).__call__
    function = getattr(call, "__func__", call)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):  # a builtin, such as the method of a list
        return getattr(hook, "__name__", "") not in _RETURN_NOTHING
    statement: list[dis.Instruction] = []
    for instruction in _instructions(code):
        if instruction.opname == "RETURN_CONST" and instruction.argval is not None:
            return True
        if instruction.opname == "RETURN_VALUE" and not _is_nothing(statement, function, depth):
            return True
        if instruction.opname.startswith(("POP_", "STORE_", "RETURN_", "RESUME")):
            statement = []
        else:
            statement.append(instruction)
    return False


@cache
def _instructions(code: CodeType) -> tuple[dis.Instruction, ...]:
    """The instructions of a function; reading them takes longer than all else about a hook."""
    return tuple(dis.get_instructions(code))


def _is_nothing(statement: list[dis.Instruction], function: Any, depth: int) -> bool:
    """Whether a returned expression is None, or a call of a function that returns None."""
    last = statement[-1] if statement else None
    if last is None or (last.opname == "LOAD_CONST" and last.argval is None):
        return True
    if not last.opname.startswith("CALL"):
        return False
    if {str(instruction.argval) for instruction in statement} & _RETURN_NOTHING:
        return True
    called = _called(statement, function)
    return called is not None and depth > 0 and not _returns_value(called, depth - 1)


def _called(statement: list[dis.Instruction], function: Any) -> Any:
    """The Python function, or method of an object, that a statement calls; None if unknown."""
    names = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    loads = [i for i in statement if i.opname.startswith("LOAD_")]
    first = loads[0] if loads else None
    if first is None or first.opname not in ("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_NAME"):
        return None
    found = names.get(first.argval)
    for load in loads[1:]:
        if load.opname not in ("LOAD_METHOD", "LOAD_ATTR"):
            break
        found = inspect.getattr_static(found, load.argval, None)
    return found if isinstance(found, FunctionType) else None
