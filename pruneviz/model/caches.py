"""Tensors that modules compute from their parameters once and keep, dropped while measuring.

A module may keep such a tensor for evaluation mode, in an attribute, a container or a buffer. If it
were used, the loss would not depend on the parameters behind it, so first and second derivatives
would silently be wrong. A place that the module fills again when it is found empty, with values
that depend on parameters and not on inputs, is such a cache. Classes are tried, not instances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pruneviz.errors import UnsupportedError
from pruneviz.model.isolation import copied_tensors, isolated
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.sample import Forward, Inputs, call_with, mapped, tensors_in
from pruneviz.model.supported import described_layer

_NO_PLACES = {"_parameters", "_buffers", "_modules"}
_SAME = 1e-4  # relative difference of outputs up to which two ways of computing are one


@contextmanager
def without_caches(
    model: nn.Module, inputs: Inputs, forward: Forward | None = None, *, hooks: bool = False
) -> Iterator[None]:
    """Context in which modules keep no tensors computed from their parameters.

    Caches are emptied. A module that fills one without gradients computes as in training mode
    instead, if that gives the same output.

    Args:
        model: Network inside `pruneviz.model.isolation.isolated`, in the mode for measuring.
        inputs: A few examples with which it can be called.
        forward: Callable of (model, inputs) that calls the network.
        hooks: Whether the person's hooks run.

    Raises:
        UnsupportedError: If a module uses a tensor that it computed without gradients from its
            parameters; names the module and the attribute.
    """
    passes = _Passes(model, inputs, forward, hooks)
    with ExitStack() as stack:
        filled = passes.filled_places()
        emptied = [found for place in _kept_places(model) if (found := passes.cache(place))]
        for place in emptied:
            stack.enter_context(place.empty_in(model))
        cut = [place for place in dict.fromkeys([*filled, *emptied]) if passes.is_cut(place)]
        for place in cut:
            passes.compute_as_in_training(place)
        if emptied:
            # attributes would be put back before every forward pass, caches with them
            stack.enter_context(isolated(model, hooks=hooks))
        yield


@dataclass(frozen=True)
class _Place:
    """An attribute or buffer of all modules of one class."""

    kind: type[nn.Module]
    name: str
    is_buffer: bool
    removed: bool = False  # whether an empty place is a missing attribute, not None

    def holders(self, model: nn.Module) -> list[tuple[str, nn.Module]]:
        return [(name, m) for name, m in model.named_modules() if type(m) is self.kind]

    def space(self, module: nn.Module) -> dict[str, Any]:
        return vars(module)["_buffers"] if self.is_buffer else vars(module)

    def content(self, model: nn.Module) -> list[Tensor]:
        """All tensors in this place."""
        held = [self.space(module).get(self.name) for _, module in self.holders(model)]
        return tensors_in(held)

    def without_graph(self, model: nn.Module) -> bool:
        return any(t.is_floating_point() and not t.requires_grad for t in self.content(model))

    @contextmanager
    def changed_in(self, model: nn.Module, change: Callable[[Any], Any]) -> Iterator[None]:
        """Context in which the content is another one; `_REMOVED` removes the attribute."""
        spaces = [self.space(module) for _, module in self.holders(model)]
        spaces = [space for space in spaces if self.name in space]
        before = [space[self.name] for space in spaces]
        for space in spaces:
            new = change(space.pop(self.name))
            if new is not _REMOVED:
                space[self.name] = new
        try:
            yield
        finally:
            for space, value in zip(spaces, before, strict=True):
                space[self.name] = value

    def empty_in(self, model: nn.Module) -> Any:
        """Context in which the place is empty in all modules."""
        return self.changed_in(model, self._emptied)

    def _emptied(self, value: Any) -> Any:
        if isinstance(value, (dict, list)):
            return type(value)()
        return _REMOVED if self.removed else None


_REMOVED = object()


class _Passes:
    """Forward passes of a network, each from the same start."""

    def __init__(
        self, model: nn.Module, inputs: Inputs, forward: Forward | None, hooks: bool
    ) -> None:
        self._model, self._inputs, self._forward, self._hooks = model, inputs, forward, hooks

    def filled_places(self) -> list[_Place]:
        """Places into which one forward pass puts tensors, though it found none there."""
        before = set(_kept_places(self._model))
        now = self._tried(lambda: _kept_places(self._model))
        return [place for place in now or () if place not in before]

    def cache(self, place: _Place) -> _Place | None:
        """The place, with the way to empty it, if it is filled again from parameters alone."""
        ways = [place] if place.is_buffer else [place, replace(place, removed=True)]
        return next((way for way in ways if self._is_refilled(way)), None)

    def is_cut(self, place: _Place) -> bool:
        """Whether the output depends on a cache that is filled without gradients."""
        with place.empty_in(self._model):
            found = self._tried(lambda: place.without_graph(self._model))
            if not found or not self._is_refilled(place):
                return False
            output, content = self._tried(lambda: None, output=True), self._content(place)
        if output is None or not content:
            return False
        with self._holding(place, lambda t: 1.5 * t + 0.1):
            other = self._tried(lambda: None, output=True)
        return other is None or not _same(output, other)

    def compute_as_in_training(self, place: _Place) -> None:
        """Put the modules that hold a cache into training mode if their output stays the same."""
        with place.empty_in(self._model):
            before = self._tried(lambda: None, output=True)
            modules = [module for _, module in place.holders(self._model)]
            flags = [module.training for module in modules]
            for module in modules:
                module.training = True
            after = self._tried(lambda: None, output=True)
            unused = not self._tried(lambda: place.without_graph(self._model))
        if unused and before is not None and after is not None and _same(before, after):
            return
        for module, flag in zip(modules, flags, strict=True):
            module.training = flag
        name = place.holders(self._model)[0][0]
        raise UnsupportedError(
            f"{described_layer(self._model, name)} computes with a tensor in its attribute "
            f"{place.name} that it made from its parameters without gradients, so derivatives by "
            "them are cut; compute it with gradients in evaluation mode too"
        )

    def _is_refilled(self, place: _Place) -> bool:
        with place.empty_in(self._model):
            first = self._content(place)
            if not first:
                return False
            other_inputs = self._content(place, inputs=mapped(self._inputs, _other))
            other_theta = self._content(place, shift=1.01)
        return _same(first, other_inputs) and not _same(first, other_theta)

    def _content(
        self, place: _Place, *, inputs: Inputs = None, shift: float = 1.0
    ) -> list[Tensor] | None:
        def copied() -> list[Tensor]:
            return [tensor.detach().clone() for tensor in place.content(self._model)]

        return self._tried(copied, inputs=inputs, shift=shift)

    @contextmanager
    def _holding(self, place: _Place, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Context in which a cache holds other tensors than those that a pass computes."""
        with place.empty_in(self._model):
            spaces = [place.space(module) for _, module in place.holders(self._model)]
            made = self._after(lambda: [mapped(s.get(place.name), change) for s in spaces])
            made = mapped(made, Tensor.detach)
            before = [(space, space.get(place.name, _REMOVED)) for space in spaces]
            for space, value in zip(spaces, made, strict=True):
                space[place.name] = value
            try:
                yield
            finally:
                for space, value in before:
                    space.pop(place.name, None)
                    if value is not _REMOVED:
                        space[place.name] = value

    def _tried(self, read: Callable[[], Any], **options: Any) -> Any:
        try:
            return self._after(read, **options)
        except Exception as error:
            if is_out_of_memory(error):
                raise  # else a cache would stay unseen
            return None  # measuring itself says why the network cannot be called

    def _after(
        self,
        read: Callable[[], Any],
        *,
        inputs: Inputs = None,
        shift: float = 1.0,
        output: bool = False,
    ) -> Any:
        """What `read` gives after a forward pass, or the tensors in its output."""
        state = self._state(shift)
        given = self._inputs if inputs is None else inputs
        with isolated(self._model, hooks=self._hooks), torch.enable_grad():
            result = call_with(self._model, state, given, self._forward)
            return [t.detach() for t in tensors_in(result)] if output else read()

    def _state(self, shift: float) -> dict[str, Tensor]:
        """Copies of parameters, times `shift`, and buffers, in the dtype of the inputs."""
        floats = [t.dtype for t in tensors_in(self._inputs) if t.is_floating_point()]
        state = copied_tensors(self._model)
        if floats:
            state = {n: t.to(floats[0]) if t.is_floating_point() else t for n, t in state.items()}
        for name, parameter in self._model.named_parameters():
            if parameter.is_floating_point():
                state[name] = (shift * state[name]).requires_grad_()
        return state


def _kept_places(model: nn.Module) -> list[_Place]:
    """Places outside of parameters and norms that hold floating-point tensors now."""
    found: dict[_Place, None] = {}
    for module in model.modules():
        if isinstance(module, _NormBase):
            continue
        others = _NO_PLACES | _computed_by_hooks(module)
        for name, value in vars(module).items():
            if name not in others and _holds_float(value):
                found[_Place(type(module), name, is_buffer=False)] = None
        for name, value in vars(module)["_buffers"].items():
            if _holds_float(value):
                found[_Place(type(module), name, is_buffer=True)] = None
    return list(found)


def _computed_by_hooks(module: nn.Module) -> set[str]:
    """Weights that old-style normalisations and pruning masks compute before every pass."""
    own: Mapping[str, object] = vars(module)["_parameters"]
    return {name.removesuffix(end) for name in own for end in ("_orig", "_g")}


def _holds_float(value: Any) -> bool:
    if isinstance(value, Tensor):  # first, as to tell a parameter from other objects is slow
        return value.is_floating_point() and not isinstance(value, nn.Parameter)
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(isinstance(t, Tensor) and t.is_floating_point() for t in held)


def _other(tensor: Tensor) -> Tensor:
    return 0.5 * tensor + 0.1 if tensor.is_floating_point() else tensor.flip(0)


def _same(first: Sequence[Tensor] | None, second: Sequence[Tensor] | None) -> bool:
    if first is None or second is None or len(first) != len(second):
        return False
    return all(_close(a, b) for a, b in zip(first, second, strict=True))


def _close(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or not first.is_floating_point():
        return first.shape == second.shape and torch.equal(first, second)
    return bool((first - second).norm() <= _SAME * first.norm())
