"""Partial forward passes: a network run from the first layer that changed on.

All that a network computes before it reads a changed tensor is as in the pass before. So the calls
of modules in one pass are recorded, with their outputs, and with the time at which every parameter
and buffer is first read. A pass with other tensors then takes the outputs of all calls that ended
before the first of these is read, and only computes what comes after. Code between the calls runs
as always. A call is replayed only if its output is all that is left of it: not if it writes into
its arguments, into buffers or into attributes, or has hooks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pruneviz.errors import PrunevizError
from pruneviz.model.one_dtype import SETTINGS
from pruneviz.model.sample import mapped, tensors_in

Run: TypeAlias = Callable[[Mapping[str, Tensor]], Any]  # tensors by name -> output of a pass

_OWN_HOOKS = ("pruneviz.", "torch.nn.utils.")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_HELD = {"_parameters", "_buffers", "_modules"}
_PLAIN = (bool, int, float, str, type(None))


class DivergedError(PrunevizError):
    """A pass calls other modules than the recorded one, or writes into recorded outputs."""


@dataclass(eq=False, repr=False)
class Call:
    """One call of a module.

    Attributes:
        module: The module.
        start, end: Times at which it began and ended.
        inside: Number of calls that it made, also indirectly.
        quiet: Whether it leaves buffers and attributes as they are, with all calls inside.
        usable: Whether its output is all that is left of it.
        output: Its output; None until it is recorded.
        written: Whether the pass writes into its output later on.
        versions: Version counters of the tensors in its output.
    """

    module: nn.Module
    start: int
    end: int = 0
    inside: int = 0
    quiet: bool = False
    usable: bool = False
    output: Any = None
    written: bool = False
    versions: list[int] = field(default_factory=list)

    def again(self) -> Any:
        """The output, as the module gave it."""
        return mapped(self.output, Tensor.clone if self.written else lambda leaf: leaf)


class Replay:
    """A recorded forward pass, and passes with some other tensors that take over its beginning.

    Args:
        model: The network, isolated, in the mode for measuring.
        state: All parameters and buffers by name, as the pass uses them.
        run: Runs a forward pass with tensors by name in place of the network's own. It must not
            write into them, and give equal outputs in every call.
    """

    def __init__(self, model: nn.Module, state: Mapping[str, Tensor], run: Run) -> None:
        self._own = {id(module) for module in model.modules()}
        self._run = run
        watch = _Watch(self._own)
        with _Reads(state, watch) as reads, _calls_handled(watch):
            self.output = run(state)
        self._calls, self._first_reads = watch.calls, reads.found
        for call in self._calls:
            call.written = _versions(call.output) != call.versions
            call.output = None

    def cut(self, changed: Iterable[str]) -> tuple[int, str]:
        """The time before which a pass with some changed tensors stays the same.

        Args:
            changed: Names of tensors.

        Returns:
            The time, and the tensor that is read first; (0, "") if none of them was seen.
        """
        known = [(self._first_reads[name], name) for name in changed if name in self._first_reads]
        return min(known, default=(0, ""))

    def record(self, state: Mapping[str, Tensor], cuts: Collection[int]) -> None:
        """Record the outputs that passes from these times on take over."""
        wanted = {i for cut in set(cuts) for i in self._taken_over(cut)}
        with _calls_handled(_Take(self._own, self._calls, wanted)):
            self._run(state)

    def output_from(self, cut: int, state: Mapping[str, Tensor]) -> Any:
        """The output of a pass whose tensors equal the recorded ones until a time.

        Args:
            cut: The time, among those that outputs were recorded for.
            state: All parameters and buffers by name.

        Raises:
            DivergedError: If the pass is not like the recorded one. What was recorded is lost.
        """
        taken = set(self._taken_over(cut))
        with _calls_handled(_Give(self._own, self._calls, taken, cut)):
            output = self._run(state)
        if any(_versions(self._calls[i].output) != self._calls[i].versions for i in taken):
            raise DivergedError
        return output

    def _taken_over(self, cut: int) -> Iterator[int]:
        """Positions of the outermost calls that can be replayed in a pass from a time on."""
        at = 0
        while at < len(self._calls) and self._calls[at].start <= cut:
            call = self._calls[at]
            if call.end <= cut and call.usable:
                yield at
                at += call.inside
            at += 1


class _Handler:
    """Handles all calls of modules in one thread; the base only counts how deep they are."""

    def __init__(self, own: Collection[int]) -> None:
        self._own, self._depth, self._thread = own, 0, threading.get_ident()

    def __call__(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return call(module, *args, **kwargs)
        if not self._depth:
            self.begin()  # also of a pass that is tried a second time
        self._depth += 1
        try:
            if id(module) not in self._own:
                return call(module, *args, **kwargs)
            return self.handle(lambda: call(module, *args, **kwargs), module, (args, kwargs))
        finally:
            self._depth -= 1

    def begin(self) -> None:
        """Start a pass."""

    def handle(self, call: Callable[[], Any], module: nn.Module, given: Any) -> Any:
        """Handle the call of a module of the network."""
        return call()


class _Watch(_Handler):
    """Notes all calls, and what is left of each."""

    def __init__(self, own: Collection[int]) -> None:
        super().__init__(own)
        self.calls: list[Call] = []
        self.clock = 0

    def begin(self) -> None:
        self.calls, self.clock = [], 0

    def handle(self, call: Callable[[], Any], module: nn.Module, given: Any) -> Any:
        self.clock += 1
        at, noted = len(self.calls), Call(module, self.clock)
        self.calls.append(noted)
        versions, (before, alive) = _versions(given), _state(module)
        output = call()
        self.clock += 1
        noted.end, noted.inside = self.clock, len(self.calls) - at - 1
        noted.output, noted.versions = output, _versions(output)
        inside = self.calls[at + 1 :]
        noted.quiet = _state(module)[0] == before and not _is_hooked(module)
        noted.quiet &= all(call.quiet for call in inside)
        del alive
        # what calls inside write into is left only if it came from outside, as an argument
        noted.usable = noted.quiet and _versions(given) == versions and _is_plain(output)
        return output


class _Take(_Handler):
    """Records outputs of calls."""

    def __init__(
        self, own: Collection[int], calls: Sequence[Call], wanted: Collection[int]
    ) -> None:
        super().__init__(own)
        self._calls, self._wanted, self._at = calls, wanted, 0

    def begin(self) -> None:
        self._at = 0

    def handle(self, call: Callable[[], Any], module: nn.Module, given: Any) -> Any:
        at, self._at = self._at, self._at + 1
        output = call()
        if at in self._wanted:
            noted = self._calls[at]
            noted.output = mapped(output, Tensor.clone if noted.written else Tensor.detach)
            noted.versions = _versions(noted.output)
        return output


class _Give(_Handler):
    """Gives recorded outputs instead of calling, up to a time."""

    def __init__(
        self, own: Collection[int], calls: Sequence[Call], taken: Collection[int], cut: int
    ) -> None:
        super().__init__(own)
        self._calls, self._taken, self._cut, self._at = calls, taken, cut, 0

    def begin(self) -> None:
        self._at = 0

    def handle(self, call: Callable[[], Any], module: nn.Module, given: Any) -> Any:
        if self._at >= len(self._calls) or self._calls[self._at].start > self._cut:
            self._at = len(self._calls)  # from here on everything is computed
            return call()
        at = self._at
        noted = self._calls[at]
        if noted.module is not module:
            raise DivergedError
        if at in self._taken:
            self._at += noted.inside + 1
            return noted.again()
        self._at += 1
        return call()


class _Reads(TorchDispatchMode):
    """Notes when the memory of some tensors is first read or written."""

    def __init__(self, state: Mapping[str, Tensor], watch: _Watch) -> None:
        super().__init__()
        self._watch = watch
        self._names: dict[int, list[str]] = {}
        for name, tensor in state.items():
            address = _address(tensor)
            if address:
                self._names.setdefault(address, []).append(name)
        self.found: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tensors_in((args, kwargs or {})):
            for name in self._names.get(_address(leaf), ()):
                self.found.setdefault(name, self._watch.clock)
        return func(*args, **(kwargs or {}))


@contextmanager
def _calls_handled(handler: _Handler) -> Iterator[None]:
    """Context in which a handler makes all calls of modules, as in torch.fx.

    There is one such method in a process, so that threads wait for each other: whoever came second
    would restore the handler of the first.
    """
    with SETTINGS:
        before = nn.Module.__call__

        def handled(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return handler(before, module, args, kwargs)

        nn.Module.__call__ = handled  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = before  # type: ignore[method-assign]


def _address(tensor: Tensor) -> int:
    """Where a tensor's memory begins; 0 without memory of its own, such as of a sparse tensor."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0


def _versions(tree: Any) -> list[int]:
    return [tensor._version for tensor in tensors_in(tree)]


def _state(module: nn.Module) -> tuple[list[Any], list[Any]]:
    """What shows that a call wrote into buffers or attributes of its module.

    Returns:
        Marks to compare, and the objects that they stand for, so that no id is reused.
    """
    own = [*module._buffers.values()]
    own += [value for name, value in vars(module).items() if name not in _HELD]
    parts = [_parts(value) for value in own]
    marks = [(id(v), _version(v), list(map(id, p))) for v, p in zip(own, parts, strict=True)]
    return marks, [own, parts]


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, (list, set)) else []


def _version(value: Any) -> int:
    return value._version if isinstance(value, Tensor) else 0


def _is_hooked(module: nn.Module) -> bool:
    """Whether a module has hooks that may do more than change its inputs and output."""
    hooks = [hook for name in _HOOKS for hook in vars(module)[name].values()]
    kinds = [getattr(hook, "__module__", None) or type(hook).__module__ for hook in hooks]
    return not all(kind.startswith(_OWN_HOOKS) for kind in kinds)


def _is_plain(tree: Any) -> bool:
    """Whether an output consists of tensors and numbers that can be given again."""
    if isinstance(tree, Mapping):
        return all(map(_is_plain, tree.values()))
    if isinstance(tree, (tuple, list)):
        return all(map(_is_plain, tree))
    if is_dataclass(tree) and not isinstance(tree, type):
        return all(_is_plain(getattr(tree, own.name)) for own in fields(tree))
    return isinstance(tree, (Tensor, *_PLAIN))
