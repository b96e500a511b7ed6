"""The Python attributes of a network's modules, saved and put back.

Forward passes may count, cache or collect in attributes. They are put back in place, so that every
object keeps its identity: attributes of every module, and the contents of containers, plain
tensors, random generators, namespaces, queues, dataclasses and objects of the person's own classes
found there. Of the person's own code, also what its forward methods, and functions found in
attributes, refer to: global variables, closures, mutable defaults, attributes of functions and of
classes. Objects of libraries are kept by reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

from pruneviz.model.contents import (
    SIMPLE,
    Restore,
    class_data,
    content_of,
    identical,
    is_data,
    is_helper,
    is_iterator,
    lent,
    of_cell,
    of_class,
    of_dict,
    of_tensor,
    of_variable,
    parts_of,
)
from pruneviz.model.own_code import called_methods, is_own, methods_of, names_in

# parts of a module that other contexts keep: modes, hooks, and tensors swapped by functional_call
_MEMBERS = ("_parameters", "_buffers", "_modules")
_NOT_SAVED = {
    *_MEMBERS, "training", "_non_persistent_buffers_set", "_is_full_backward_hook",
    "_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
}  # fmt: skip
_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, range)


class Attributes:
    """The attributes of all modules of a network as they are now.

    Args:
        model: Any network; it does not change.

    Attributes:
        modules: The modules of the network, and those that its modules keep in plain attributes.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules: list[nn.Module] = []
        self._restores: list[Restore] = []
        self._buffers: list[Restore] = []
        self._members: list[tuple[dict[str, Any], dict[str, Any]]] = []
        members = [*model.parameters(), *model.buffers()]
        self._seen = {id(tensor) for tensor in members}
        self._lent: list[tuple[Callable[[Any], None], Any]] = []  # how to set iterators, and which
        self._variables: set[tuple[int, str]] = set()
        self._todo: list[tuple[Any, str]] = []  # values to save, with the file of their module
        self._alive: list[object] = [members]  # so that no id is reused
        registered = list(model.modules())
        for module in registered:
            self._seen.add(id(module))
        for module in registered:
            self._save_module(module)
        self._save_all()
        # forward passes have copies, but a hook of an activation may write into the buffers
        saved = [of_tensor(buffer) for buffer in model.buffers()]
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
        for put, iterator in self._lent:
            put(lent(iterator))

    def restore_last(self) -> None:
        """`restore`, with the iterators themselves where copies were lent."""
        self.restore()
        for put, iterator in self._lent:
            put(iterator)

    def restore_members(self) -> None:
        """Put back which parameters, buffers and modules every module holds, and their buffers."""
        for now, before in self._members:
            if not identical(now, before):
                now.clear()
                now.update(before)
        for put_back in self._buffers:
            put_back()

    def _save_module(self, module: nn.Module) -> None:
        self.modules.append(module)
        for kind in _MEMBERS:
            held = vars(module)[kind]
            if isinstance(
                held, dict
            ):  # those of a scripted module can be neither added nor left out
                self._members.append((held, dict(held)))
        self._restores.append(_attributes_of(module))
        own = type(module)
        values = {n: v for n, v in vars(module).items() if n not in _NOT_SAVED}
        self._hold(values, vars(module), own.__module__)
        if (id(own), "forward") not in self._variables:
            self._variables.add((id(own), "forward"))
            for base in own.__mro__:
                self._save_class(base)
            for method in called_methods(own):
                self._save_variables(method)

    def _hold(self, values: dict[str, Any], space: dict[str, Any], home: str) -> None:
        """Save the values of attributes."""
        for name, value in values.items():
            if is_iterator(value):
                self._lent.append((partial(space.__setitem__, name), value))
            elif not isinstance(value, _CONSTANTS):
                self._todo.append((value, home))

    def _save_class(self, kind: type) -> None:
        """Save the attributes of a class of the person's own."""
        if (id(kind), "") in self._variables or not is_own(kind.__module__):
            return
        self._variables.add((id(kind), ""))
        self._restores.append(of_class(kind))
        for name, value in class_data(kind).items():
            if is_iterator(value):
                self._lent.append((partial(setattr, kind, name), value))
            self._todo.append((value, kind.__module__))

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
        if isinstance(value, type):
            self._save_class(value)
            return
        put_back = content_of(value, home)
        if put_back is not None:
            self._restores.append(put_back)
        self._todo += [(v, home) for v in parts_of(value, home) if not isinstance(v, _CONSTANTS)]
        self._lend(value, home)
        if is_own(type(value).__module__) and is_helper(value, home):
            for base in type(value).__mro__:
                self._save_methods(base)

    def _lend(self, value: Any, home: str) -> None:
        """Note the iterators that a dict, list or helper holds."""
        space: Any = value
        if isinstance(value, list):
            entries: Any = enumerate(value)
        else:
            if not isinstance(value, dict):
                space = getattr(value, "__dict__", {}) if is_helper(value, home) else {}
            entries = space.items()
        held = [(name, part) for name, part in entries if is_iterator(part)]
        self._lent += [(partial(space.__setitem__, name), part) for name, part in held]

    def _save_methods(self, kind: type) -> None:
        """Save the attributes of a helper's class, and what its methods refer to."""
        if (id(kind), "") not in self._variables and is_own(kind.__module__):
            self._save_class(kind)
            for method in methods_of(kind).values():
                self._save_variables(method)

    def save_function(self, function: Any) -> None:
        """Save what a function keeps: its closure, its globals, and the object it belongs to.

        Args:
            function: A function, method, partial function, or callable object or module.
        """
        self._save_function(function)
        self._save_all()

    def _save_function(self, function: Any) -> None:
        while isinstance(function, partial):
            self._todo += [(v, "") for v in (*function.args, function.keywords)]
            function = function.func
        owner = getattr(function, "__self__", function)
        if not isinstance(owner, (FunctionType, ModuleType)):
            self._todo.append((owner, type(owner).__module__))
        code = getattr(function, "__func__", function)
        if isinstance(code, FunctionType):
            self._save_variables(code)

    def _save_variables(self, function: FunctionType) -> None:
        """Save what a function keeps or refers to."""
        if (id(function), "") in self._variables:
            return
        self._variables.add((id(function), ""))
        home = function.__module__
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # a variable that has no value yet
                self._restores.append(of_cell(cell))
                self._todo.append((cell.cell_contents, home))
                if is_iterator(cell.cell_contents):
                    self._lent.append((partial(setattr, cell, "cell_contents"), cell.cell_contents))
        if is_own(home):
            self._restores.append(of_dict(vars(function)))
            kept = (function.__defaults__, function.__kwdefaults__, vars(function))
            self._todo += [(value, home) for value in kept if value]
        space, names = function.__globals__, names_in(function.__code__)
        for name in names & space.keys():
            if is_own(home) or isinstance(space[name], SIMPLE):
                self._save_global(space, name, names, home)

    def _save_global(
        self, space: dict[str, Any], name: str, names: set[str], home: str, depth: int = 2
    ) -> None:
        """Save a global variable; of a Python module of the person's, those that are named."""
        value = space[name]
        if isinstance(value, ModuleType):
            if is_own(value.__name__) and depth:
                for own in names & vars(value).keys():
                    self._save_global(vars(value), own, names, value.__name__, depth - 1)
        elif (id(space), name) in self._variables:
            return
        elif isinstance(value, (FunctionType, type)):
            if is_own(value.__module__):
                self._todo.append((value, home))
        elif is_data(value, home):
            self._variables.add((id(space), name))
            self._restores.append(of_variable(space, name))
            if is_iterator(value):
                self._lent.append((partial(space.__setitem__, name), value))
            else:
                self._todo.append((value, home))
        elif isinstance(value, nn.Module):
            self._todo.append((value, home))

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


def _attributes_of(module: nn.Module) -> Restore:
    now = vars(module)
    before = {name: value for name, value in now.items() if name not in _NOT_SAVED}

    def put_back() -> None:
        for name in [name for name in now if name not in before and name not in _NOT_SAVED]:
            del now[name]
        now.update(before)

    return put_back
