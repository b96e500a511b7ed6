"""Hooks put aside while a network is measured.

Hooks of the person, such as statistics of an optimiser or counters, must not see passes that are
no training. Hooks that define the network's function stay: those of `torch.nn.utils` (old-style
weight norm and spectral norm, pruning masks) and methods of the network's own modules.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = tuple("_global" + name for name in _HOOKS)


def defines_function(hook: Any) -> bool:
    """Whether a hook belongs to the network: of `torch.nn.utils`, or a method of a module.

    Args:
        hook: A hook registered on a module.
    """
    while isinstance(hook, partial):
        hook = hook.func
    if isinstance(getattr(hook, "__self__", None), nn.Module):
        return True
    return any(kind.__module__.startswith("torch.nn.utils.") for kind in type(hook).__mro__)


@contextmanager
def hooks_put_aside(
    modules: Iterable[nn.Module], keep: Callable[[Any], bool] = defines_function
) -> Iterator[None]:
    """Put aside the hooks of modules, and hooks of all modules; put all back.

    Args:
        modules: Modules whose hooks are put aside.
        keep: Which hooks stay.
    """
    held = [(module, {name: vars(module).get(name) for name in _HOOKS}) for module in modules]
    everywhere = [getattr(torch_module, name) for name in _GLOBAL_HOOKS]
    aside = [OrderedDict(hooks) for hooks in everywhere]
    for hooks in everywhere:
        _replace(hooks, {key: hook for key, hook in hooks.items() if keep(hook)})
    for module, own in held:
        for name, hooks in own.items():
            if hooks:
                vars(module)[name] = OrderedDict((k, h) for k, h in hooks.items() if keep(h))
    try:
        yield
    finally:
        for module, own in held:
            vars(module).update({name: hooks for name, hooks in own.items() if hooks is not None})
        for hooks, before in zip(everywhere, aside, strict=True):
            _replace(hooks, before)


def _replace(hooks: OrderedDict[int, Any], content: dict[int, Any]) -> None:
    hooks.clear()
    hooks.update(content)
