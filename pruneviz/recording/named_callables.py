"""Losses and other functions of a person as text, which tells one from another at a resume."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from functools import partial
from types import CodeType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.loss import _Loss

from pruneviz.measuring.losses import CrossEntropy, Loss, understood
from pruneviz.measuring.options import Options
from pruneviz.model.own_code import is_own
from pruneviz.recording.sample_digest import sample_digest

_SIMPLE = (str, bool, int, float, complex, type(None))
_OF_CROSS_ENTROPY = ("weight", "ignore_index", "reduction", "label_smoothing")
_DIGITS = 8
# last words of names of numbers that a training counts up, such as `last_epoch`
_COUNTED = frozenset({"step", "epoch", "iteration", "calls", "count", "counter", "seen"})


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

    What it holds counts: defaults, closure, public attributes and options of modules within. Not
    seen are attributes that begin with an underscore, numbers that count (`step`, `last_epoch`),
    what training moves, such as trainable parameters, and what the code refers to elsewhere, such
    as a global variable.

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
        return f"{_described(function.__func__, within)} of a {_held(owner, within)}"
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
            held = sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
            yield repr(held) if isinstance(held, (*_SIMPLE, tuple, list)) else ""


def _object(value: Any, within: frozenset[int]) -> str:
    kind = type(value)
    call = getattr(kind, "forward", None) if isinstance(value, nn.Module) else kind.__call__
    code = kind.__qualname__
    if callable(call) and hasattr(call, "__code__"):
        code = _function(call, within)
    tensors = _fixed_tensors(value) if isinstance(value, nn.Module) else {}
    named = _named(_public(value) | tensors, within)
    if isinstance(value, nn.Module) and next(value.children(), None) is not None:
        named.append(f"options {_module_options(value)}")
    return f"{kind.__module__}.{code}({', '.join(named)})"


def _public(value: Any) -> dict[str, Any]:
    """The public attributes of an object, without what a training counts up."""
    return {
        name: held
        for name, held in getattr(value, "__dict__", {}).items()
        if not name.startswith("_")
        and name != "training"
        and not (isinstance(held, int) and name.rpartition("_")[2] in _COUNTED)
    }


def _held(value: Any, within: frozenset[int]) -> str:
    """An object that a function holds: its type, and its plain attributes, one level of them."""
    name = type(value).__qualname__
    if id(value) in within:
        return name
    if isinstance(value, nn.Module):
        fixed = _fixed_tensors(value) if isinstance(value, _Loss) else {}
        return f"{name}({', '.join(_named(fixed, within))}; options {_module_options(value)})"
    plain = {key: held for key, held in _public(value).items() if _is_plain(held, within)}
    return f"{name}({', '.join(_named(plain, within | {id(value)}))})"


def _module_options(module: nn.Module) -> str:
    """A digest of the plain attributes of a module and of those within it."""
    lines = [
        f"{path} {type(part).__qualname__} {name}={_value(held, frozenset())}"
        for path, part in module.named_modules()
        for name, held in sorted(_public(part).items())
        if _is_plain(held, frozenset())
    ]
    return _digest("\n".join(lines))


def _is_plain(value: Any, within: frozenset[int]) -> bool:
    """Whether a value is a number or text, or holds such ones alone."""
    if id(value) in within:
        return False
    within |= {id(value)}
    if isinstance(value, Mapping):
        return all(_is_plain(one, within) for pair in value.items() for one in pair)
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(_is_plain(one, within) for one in value)
    return isinstance(value, (*_SIMPLE, np.generic, np.ndarray, Enum, torch.dtype))


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
    if isinstance(value, (np.ndarray, np.generic)):
        return _array(value)
    if isinstance(value, (*_SIMPLE, Enum, torch.dtype)):
        return repr(value)
    if isinstance(value, (Mapping, tuple, list, set, frozenset)):
        return _container(value, within)
    is_function = hasattr(value, "__qualname__") or isinstance(value, partial)
    return _described(value, within) if is_function else _held(value, within)


def _container(value: Collection[Any], within: frozenset[int]) -> str:
    if id(value) in within:
        return type(value).__qualname__
    within |= {id(value)}
    if isinstance(value, Mapping):
        pairs = (f"{_value(key, within)}: {_value(one, within)}" for key, one in value.items())
        return f"{{{', '.join(sorted(pairs))}}}"
    texts = [_value(one, within) for one in value]
    return f"({', '.join(sorted(texts) if isinstance(value, (set, frozenset)) else texts)})"


def _array(value: np.ndarray | np.generic) -> str:
    if isinstance(value, np.generic):
        return repr(value.item())
    text = repr(value.tolist()) if value.dtype.hasobject else value.tobytes().hex()
    return f"array {value.dtype} {value.shape} {_digest(text)}"


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
