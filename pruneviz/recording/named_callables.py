"""Losses and other functions of a person as text, which tells one from another at a resume."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CodeType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pruneviz.measuring.losses import CrossEntropy, Loss, understood
from pruneviz.measuring.options import Options
from pruneviz.model.own_code import is_own
from pruneviz.recording.sample_digest import sample_digest

_SIMPLE = (str, bool, int, float, complex, type(None))
_OF_CROSS_ENTROPY = ("weight", "ignore_index", "reduction", "label_smoothing")
_DIGITS = 8


def callables_facts(options: Options) -> dict[str, Any]:
    """What measures besides the network, under names of options; nothing for defaults."""
    found: dict[str, Any] = {} if options.loss is None else {"loss": _loss(options.loss)}
    found |= {name: True for name in ("classifier", "hooks") if getattr(options, name)}
    for name in ("loss_weight", "forward"):
        function = getattr(options, name)
        if function is not None:
            found[name] = described(function)
    return found


def described(function: Callable[..., Any]) -> str:
    """A function as text: its name, its options, and a digest of code that is the person's own.

    What the code refers to, such as a global variable, is not seen.

    Args:
        function: A function, a partial one, a module, or an object that can be called.
    """
    return _described(function, frozenset())


def _described(function: Callable[..., Any], within: frozenset[int]) -> str:
    """As `described`, of a function that others hold, which may hold each other."""
    if id(function) in within:
        return getattr(function, "__qualname__", type(function).__qualname__)
    within |= {id(function)}
    if isinstance(function, partial):
        given = [*(_value(one, within) for one in function.args)]
        given += _named(function.keywords, within)
        return f"{_described(function.func, within)}({', '.join(given)})"
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type) and hasattr(function, "__func__"):
        return f"{_described(function.__func__, within)} of a {type(owner).__qualname__}"
    if hasattr(function, "__qualname__"):
        return _function(function, within)
    return _object(function, within)


def _loss(loss: Loss) -> str:
    usual, plain = understood(loss), CrossEntropy()
    if usual is None:
        return described(loss)
    values = {name: getattr(usual, name) for name in _OF_CROSS_ENTROPY}
    changed = {
        name: value
        for name, value in values.items()
        if isinstance(value, Tensor) or value != getattr(plain, name)
    }
    name = "cross_entropy" if usual.function is F.cross_entropy else "nll_loss"
    return f"{name}({', '.join(_named(changed, frozenset()))})" if changed else name


def _function(function: Callable[..., Any], within: frozenset[int]) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType) or not is_own(str(function.__module__)):
        return name
    cells = getattr(function, "__closure__", None) or ()
    held = [_value(cell.cell_contents, within) for cell in cells if _is_filled(cell)]
    held += [_value(one, within) for one in getattr(function, "__defaults__", None) or ()]
    held += _named(getattr(function, "__kwdefaults__", None) or {}, within)
    text = "\n".join([*_code(code), *held])
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{name} [code {_digest(text)} of Python {version}]"


def _code(code: CodeType) -> Iterator[str]:
    """What code does, without its file and lines."""
    yield from (code.co_code.hex(), repr(code.co_names), repr(code.co_varnames))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(constant) if isinstance(constant, (*_SIMPLE, tuple)) else ""


def _object(value: Any, within: frozenset[int]) -> str:
    kind = type(value)
    call = getattr(kind, "forward", None) if isinstance(value, nn.Module) else kind.__call__
    code = kind.__qualname__
    if callable(call) and hasattr(call, "__code__"):
        code = _function(call, within)
    tensors = _fixed_tensors(value) if isinstance(value, nn.Module) else {}
    held = getattr(value, "__dict__", {})
    attributes = {name: v for name, v in held.items() if not name.startswith("_")}
    attributes.pop("training", None)
    return f"{kind.__module__}.{code}({', '.join(_named(attributes | tensors, within))})"


def _fixed_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a loss that do not change while the network is trained."""
    parameters = {name: p for name, p in module.named_parameters() if not p.requires_grad}
    buffers = {
        name: buffer
        for path, part in module.named_modules()
        if not isinstance(part, _NormBase)
        for name, buffer in part.named_buffers(path, recurse=False)
    }
    return parameters | buffers


def _named(values: Mapping[str, Any], within: frozenset[int]) -> list[str]:
    return [f"{name}={_value(values[name], within)}" for name in sorted(values)]


def _value(value: Any, within: frozenset[int]) -> str:
    if isinstance(value, Tensor):
        return f"tensor {_tensor(value)}"
    if isinstance(value, _SIMPLE):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"({', '.join(_value(one, within) for one in value)})"
    is_function = hasattr(value, "__qualname__") or isinstance(value, partial)
    return _described(value, within) if is_function else type(value).__qualname__


def _tensor(value: Tensor) -> str:
    return sample_digest([(value, None)])[:_DIGITS]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:_DIGITS]
