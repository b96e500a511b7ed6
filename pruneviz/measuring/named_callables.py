"""Losses and other functions of a person as text, which tells one from another at a resume."""

from __future__ import annotations

import hashlib
import platform
import re
from argparse import Namespace
from collections import UserList, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import is_dataclass
from functools import partial
from types import CodeType, MemberDescriptorType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.loss import _Loss

from pruneviz.analysis.measures import Measure
from pruneviz.measuring.losses import CrossEntropy, Loss, understood
from pruneviz.measuring.options import Options
from pruneviz.measuring.sample_digest import PLAIN, plain_text, sample_digest, table_of
from pruneviz.model.own_code import called_methods, is_own

_COLLECTIONS = (Mapping, tuple, list, set, frozenset, deque, UserList)
_HELPERS = (SimpleNamespace, Namespace)
_MOVED = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.utils.data.Dataset)
_MOST_LETTERS = 500  # of a function as text; a longer one is cut, and a digest tells it apart
# in what torch.jit prints: the place in a file, and how many of a name a process has scripted
_PLACE = re.compile(r" *# .*:\d+:\d+$|\.___torch_mangle_\d+", re.MULTILINE)
_OF_CROSS_ENTROPY = ("weight", "ignore_index", "reduction", "label_smoothing")
_DIGITS = 8
# last words of names of numbers that a training counts up, such as `last_epoch`
_COUNTED = frozenset({"step", "epoch", "iteration", "calls", "count", "counter", "seen"})


def callables_facts(options: Options, mask_score: Measure | None = None) -> dict[str, Any]:
    """What measures besides the network, under names of options; nothing for defaults.

    Args:
        options: Measuring options.
        mask_score: Pruning measure of the logged masks; one of pruneviz's is known by its name.
    """
    found: dict[str, Any] = {} if options.loss is None else {"loss": _loss(options.loss)}
    found |= {name: True for name in ("classifier", "hooks") if getattr(options, name)}
    for name in ("loss_weight", "forward"):
        function = getattr(options, name)
        if function is not None:
            found[name] = described(function)
    return found | measure_facts("mask_score_code", mask_score)


def measure_facts(name: str, measure: Measure | None) -> dict[str, str]:
    """The code of a person's own pruning measure, under the name of a fact; nothing for others."""
    if measure is None or not measure.own:
        return {}
    return {name: f"{described(measure.formula)} of {', '.join(measure.reads)}"}


def described(function: Callable[..., Any]) -> str:
    """A function as text: its name, its options, and a digest of code that is the person's own.

    What it holds counts: defaults, closure, constants of its class, public attributes and options
    of modules within. Not seen are attributes that begin with an underscore, numbers that count
    (`step`, `last_epoch`), what training moves, such as trainable parameters, and what the code
    refers to elsewhere, such as a global variable.

    Args:
        function: A function, a partial one, a module, or an object that can be called.
    """
    return _cut(_described(function, frozenset()))


def _described(function: Callable[..., Any], within: frozenset[int]) -> str:
    """As `described`, of a function that others hold, which may hold each other."""
    if id(function) in within:
        return getattr(function, "__qualname__", type(function).__qualname__)
    within |= {id(function)}
    if isinstance(function, partial):
        given = [*(_value(one, within) for one in function.args)]
        given += _named(function.keywords, within)
        return f"{_described(function.func, within)}({', '.join(given)})"
    if isinstance(function, (torch.jit.ScriptFunction, torch.jit.ScriptModule)):
        return _scripted(function)
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType):
        return _of_owner(function, owner, within)
    if isinstance(function, type):
        return _class(function, within)
    if hasattr(function, "__qualname__"):
        return _function(function, within)
    return _object(function, within)


def _of_owner(method: Any, owner: Any, within: frozenset[int]) -> str:
    """A method of an object or class, or of what Python has built in: `{0, 5}.__contains__`."""
    function = getattr(method, "__func__", None)
    name = getattr(method, "__qualname__", type(method).__qualname__)
    text = name if function is None else _described(function, within)
    kind = owner if isinstance(owner, type) else type(owner)
    others = _methods(kind, getattr(function, "__name__", ""), within)
    return f"{text}{others} of a {_value(owner, within)}"


def _scripted(function: Any) -> str:
    """What `torch.jit.script` made: its graph, with constants, and what a module holds."""
    is_module = isinstance(function, torch.jit.ScriptModule)
    name = function.original_name if is_module else function.qualified_name.rpartition(".")[2]
    graph = function.inlined_graph
    constants = [
        _tensor(node.t("value"))
        for node in graph.findAllNodes("prim::Constant")
        if node.hasAttribute("value") and node.kindOf("value") == "t"
    ]
    held = [*_script_attributes(function), *_fixed_named(function)] if is_module else []
    text = _PLACE.sub("", "\n".join([str(graph), *constants, *held]))
    return f"torch.jit.{name} [code {_digest(text)} of torch {torch.__version__}]"


def _script_attributes(module: Any) -> Iterator[str]:
    """The public attributes of a scripted module and of those within, without tensors."""
    tensors = {name.rpartition(".")[2] for name in module.state_dict()}
    for line in module._c.dump_to_str(False, True, False).splitlines():
        name, equals, value = line.strip().partition(" = ")
        counts = not name.startswith("_") and name != "training"
        if equals and name.isidentifier() and counts and name not in tensors:
            yield f"{name}={value}"


def _fixed_named(module: nn.Module) -> list[str]:
    return _named(_fixed_tensors(module), frozenset())


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
    given = ", ".join(_named(changed, frozenset()))
    return _cut(f"{name}({given})") if changed else name


def _function(function: Any, within: frozenset[int]) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    code, wrapped = (getattr(function, part, None) for part in ("__code__", "__wrapped__"))
    if not isinstance(code, CodeType) or not is_own(str(function.__globals__.get("__name__"))):
        # such as a function with a cache, or compiled
        return name if wrapped is None else f"{name} of {_described(wrapped, within)}"
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
    yield repr((code.co_flags, code.co_argcount, code.co_kwonlyargcount, code.co_freevars))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield _value(constant, frozenset())


def _methods(kind: type, first: str, within: frozenset[int]) -> str:
    """A digest of the code of own methods to which a method leads by name; "" without any."""
    found = [m for m in called_methods(kind, first) if id(m) not in within]
    return f" [code {_digest('|'.join(_function(m, within) for m in found))}]" if found else ""


def _class(kind: type, within: frozenset[int]) -> str:
    constants = _named(_constants(kind), within)
    return f"{kind.__module__}.{kind.__qualname__}({', '.join(constants)})"


def _object(value: Any, within: frozenset[int]) -> str:
    kind = type(value)
    is_module = isinstance(value, nn.Module)
    code = _methods(kind, "forward" if is_module else "__call__", within)
    named = _named(_public(value) | (_fixed_tensors(value) if is_module else {}), within)
    if isinstance(value, _COLLECTIONS):
        named.append(_container(value, within - {id(value)}))
    if is_module and next(value.children(), None) is not None:
        named.append(f"options {_module_options(value)}")
    return f"{kind.__module__}.{kind.__qualname__}{code}({', '.join(named)})"


def _public(value: Any) -> dict[str, Any]:
    """The constants of an object's class and its public attributes, without what is counted up."""
    found = _constants(type(value))
    for kind in type(value).__mro__:
        slots = vars(kind).items() if is_own(kind.__module__) else ()
        names = [name for name, slot in slots if isinstance(slot, MemberDescriptorType)]
        found |= {name: getattr(value, name) for name in names if hasattr(value, name)}
    found |= getattr(value, "__dict__", {})
    return {name: held for name, held in found.items() if _counts(name, held)}


def _constants(kind: type) -> dict[str, Any]:
    """What an own class and its own bases hold besides methods."""
    return {
        name: held
        for base in reversed(kind.__mro__)
        if is_own(base.__module__)
        for name, held in vars(base).items()
        if not hasattr(type(held), "__get__") and _counts(name, held)
    }


def _counts(name: str, held: Any) -> bool:
    """Whether an attribute tells one function from another, and is not counted up."""
    is_counted = isinstance(held, int) and name.rpartition("_")[2] in _COUNTED
    return not name.startswith("_") and name != "training" and not is_counted


def _held(value: Any, within: frozenset[int]) -> str:
    """An object that a function holds: its type and attributes; of a library's the plain ones."""
    name = type(value).__qualname__
    if id(value) in within:
        return name
    if isinstance(value, nn.Module):
        fixed = _fixed_named(value) if isinstance(value, _Loss) else []
        return f"{name}({', '.join(fixed)}; options {_module_options(value)})"
    known = _public(value)
    if not _is_known(value):
        known = {key: held for key, held in known.items() if _is_plain(held, within)}
    return f"{name}({', '.join(_named(known, within | {id(value)}))})"


def _is_known(value: Any) -> bool:
    """Whether all attributes of an object count: those of a library may be moved by training."""
    if isinstance(value, _MOVED):
        return False
    return is_own(type(value).__module__) or is_dataclass(value) or isinstance(value, _HELPERS)


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
    if isinstance(value, _COLLECTIONS):
        return all(_is_plain(one, within) for one in value)
    return isinstance(value, (*PLAIN, np.generic, np.ndarray))


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
        trained = value.requires_grad and value.is_leaf
        return f"tensor {tuple(value.shape)}" if trained else f"tensor {_tensor(value)}"
    if isinstance(value, (np.ndarray, np.generic)):
        return _array(value)
    if isinstance(value, PLAIN):
        return plain_text(value)
    if isinstance(value, (pd.Series, pd.DataFrame, pd.Index)):
        return f"{type(value).__qualname__} {_digest(repr(table_of(value)))}"
    if isinstance(value, _COLLECTIONS):
        return _container(value, within)
    callables = partial, torch.jit.ScriptFunction, torch.jit.ScriptModule
    if hasattr(value, "__qualname__") or isinstance(value, callables):
        return _described(value, within)
    is_called = callable(value) and not isinstance(value, nn.Module) and _is_known(value)
    return _described(value, within) if is_called else _held(value, within)


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


def _cut(text: str) -> str:
    """A text for the spec, which stays short however much a function holds."""
    if len(text) <= _MOST_LETTERS:
        return text
    return f"{text[:_MOST_LETTERS]}... [{_digest(text)}]"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:_DIGITS]
