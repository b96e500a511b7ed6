"""What pruned filters leave behind, and where: one forward pass with every filter silenced.

All filters give zero in this pass, so an element that holds one filter alone has the value that is
left of it once it is pruned: f(0) after an activation f. What reads nothing but the filter can be
pruned with it, whatever this value is. Where the filter meets others, zero is what an absent filter
would give, and any other value is not. Sums and linear maps take zero for absence; in other
operations on several filters, such as a maximum, the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from pruneviz.errors import PruningError
from pruneviz.model.filters import (
    FilterOf,
    copied_inputs,
    input_channel_dim,
    numbered_filters,
    output_channel_dim,
    weight_users,
)
from pruneviz.model.isolation import copied_tensors, evaluate, isolated
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.sample import (
    Forward,
    Inputs,
    call_with,
    examples_in,
    first_of,
    model_dtype,
    tensors_in,
)
from pruneviz.model.tracing import MIXED, channel_origins
from pruneviz.pruning.silence import Silence

Sources: TypeAlias = frozenset[FilterOf] | None  # the filters in a channel; None if unknown
Hook: TypeAlias = Callable[..., None]
_Read: TypeAlias = tuple[list[Sources], list[bool]]  # sources of each channel; whether one is left


class Flow:
    """Where filters go, and what is left there of pruned ones.

    Args:
        network: Any network; it does not change.
        example: Inputs as in `pruneviz.model.sample`.
        forward: Callable of (network, example) that calls the network.
        examples: Number of examples that are used, None for all. Two, because some networks squeeze
            dimensions of size 1.

    Attributes:
        read: {module: the filters in each of its input channels}, for convolutions, linear layers,
            norms and PReLU, over all calls. Modules that run only in training are among them.
        only_training: Modules that run only in training, such as an auxiliary head.
        not_run: Layers and norms that did not run in either mode.
        met: Sets of filters that meet in one place.
        leaves: {layer: why one of its filters, pruned, is not as if it were absent}.
        leave_together: Filters that meet, and leave a constant if all of them are pruned, and the
            operation where it is left.
        gates: {filter that leaves a constant factor: the filters that it multiplies, or None}.
        whole: {filter: parameters and modules that read it, of which no channel can be taken out}.
        outputs: Filters in the network's output.

    Raises:
        PruningError: If the network cannot run with silenced filters.
    """

    def __init__(
        self,
        network: nn.Module,
        example: Inputs,
        forward: Forward | None = None,
        examples: int | None = 2,
    ) -> None:
        self._network, self._forward, self._examples = network, forward, examples
        self._calls: dict[str, list[_Read]] = {}
        self._named: dict[int, Sources] = {}
        self._tracer = Silence()
        self._owner, self._numbers = numbered_filters(network)
        self.whole: dict[FilterOf, set[str]] = {}
        self.outputs: set[FilterOf] = set()
        self._called: set[str] = set()
        self._run(example, training=False)
        self.only_training: frozenset[str] = frozenset()
        silent = self._never_called()
        if silent:
            self._try_training(example)
            self.only_training = frozenset(silent & self._called)
        self.not_run = tuple(sorted(filter(self._is_layer, self._never_called())))
        self.read = {
            name: _over_calls([c for c, _ in calls]) for name, calls in self._calls.items()
        }
        self.met = [self._filters(origin) or frozenset() for origin in self._tracer.unions()]
        self.leave_together: list[tuple[frozenset[FilterOf], str]] = []
        self.leaves = dict(self._reasons())
        self.gates: dict[FilterOf, frozenset[FilterOf | None]] = {}
        for origin in self._tracer.gates:
            for filter_ in self._filters(origin) or ():
                self.gates[filter_] = self.gates.get(filter_, frozenset()) | self._gated_by(origin)
        for origin, name in self._tracer.scaled:
            for filter_ in self._filters(origin) or ():
                self.whole.setdefault(filter_, set()).add(name)

    @classmethod
    def of(cls, network: nn.Module, example: Inputs, forward: Forward | None = None) -> Flow:
        """Follow two examples, or all if the network does not run on two, such as a graph's."""
        try:
            return cls(network, example, forward)
        except PruningError:
            if examples_in(example) <= 2:
                raise
            try:
                return cls(network, example, forward, None)
            except PruningError:
                pass
            raise  # the first error, of the smaller example

    def _gated_by(self, origin: int) -> frozenset[FilterOf | None]:
        """The filters that the filters of an origin multiply; None for anything else."""
        found: set[FilterOf | None] = set()
        for other in self._tracer.gates[origin]:
            filters = self._filters(other)
            found |= filters if filters is not None and len(filters) == 1 else {None}
        return frozenset(found)

    def _filters(self, origin: int) -> Sources:
        if origin not in self._named:
            found = self._tracer.filters(origin)
            named = None if found is None else frozenset(self._owner[o] for o in found)
            self._named[origin] = named
        return self._named[origin]

    def _never_called(self) -> set[str]:
        """Names of modules with parameters of their own that did not run."""
        named = self._network.named_modules()
        owners = {n for n, m in named if next(m.parameters(recurse=False), None) is not None}
        return owners - self._called

    def _is_layer(self, path: str) -> bool:
        module = self._network.get_submodule(path)
        held = isinstance(module, NonDynamicallyQuantizableLinear)  # attention never calls it
        return isinstance(module, (_ConvNd, nn.Linear, _NormBase)) and not held

    def _try_training(self, example: Inputs) -> None:
        # A network may need more in training, such as targets; its branches then stay unknown.
        try:
            self._run(example, training=True)
        except PruningError:
            return

    def _run(self, example: Inputs, *, training: bool) -> None:
        before = set(self._calls)
        with ExitStack() as stack:
            stack.enter_context(isolated(self._network))
            for handle in self._hooks(before):
                stack.callback(handle.remove)
            evaluate(self._network)
            if training:
                branch_as_in_training(self._network)
            stack.enter_context(torch.no_grad())
            example = first_of(example, self._examples)
            example = copied_inputs(example, model_dtype(self._network))
            for leaf in tensors_in(example):
                self._tracer.mark(leaf, MIXED)
            tensors = copied_tensors(self._network)
            self._tracer.begin(tensors)
            stack.enter_context(self._tracer)
            try:
                output = call_with(self._network, tensors, example, self._forward)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                raise PruningError(
                    f"{type(self._network).__name__} cannot run with all filters at zero "
                    f"({type(error).__name__}: {error}), which shows what a pruned filter leaves; "
                    "give an example that it can run on"
                ) from error
        for tensor in tensors_in(output):
            for origin in self._tracer.known(tensor):
                self.outputs |= self._filters(origin) or set()

    def _hooks(self, before: set[str]) -> Iterator[Any]:
        names = {id(module): name for name, module in weight_users(self._network)}
        for path, module in self._network.named_modules():
            name = names.get(id(module), path)
            yield module.register_forward_pre_hook(self._note_called(path))
            if id(module) in names or isinstance(module, (_NormBase, _ConvTransposeNd, nn.PReLU)):
                enter = self._enter(name, note=name not in before)
                yield module.register_forward_pre_hook(enter, with_kwargs=True)
                yield module.register_forward_hook(self._leave(name), with_kwargs=True)
            elif _reads_whole(module):
                yield module.register_forward_pre_hook(self._note_whole(path), with_kwargs=True)

    def _note_called(self, path: str) -> Hook:
        return lambda module, inputs: self._called.add(path)

    def _note_whole(self, path: str) -> Hook:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            for tensor in tensors_in((args, kwargs)):
                for origin in self._tracer.known(tensor):
                    for filter_ in self._filters(origin) or ():
                        self.whole.setdefault(filter_, set()).add(path)

        return hook

    def _enter(self, name: str, *, note: bool) -> Hook:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._tracer.inside += 1
            given = args[0] if args else kwargs["input"]
            with torch.utils._python_dispatch._disable_current_modes():
                origins = self._tracer.origins(given)
                channels = [] if origins is None else self._read(module, given, origins, name)
                if note:
                    left = self._left_in(module, given)
                    sources = [self._filters(origin) for origin in channels]
                    self._calls.setdefault(name, []).append((sources, left))

        return hook

    def _read(self, module: nn.Module, given: Tensor, origins: Tensor, name: str) -> list[int]:
        """The origin of each input channel; notes what is left in channels that mix filters."""
        dim = input_channel_dim(module, given)
        channels = channel_origins(origins, dim)
        mixed = (channels == MIXED).view([-1 if d == dim else 1 for d in range(given.ndim)])
        alone = mixed & (origins != MIXED)
        left = alone if isinstance(module, _NormBase) else alone & (given != 0)
        self._tracer.leave(origins[left.expand(given.shape)], f"the layer {name}")
        return channels.tolist()

    def _left_in(self, module: nn.Module, given: Tensor) -> list[bool]:
        """Whether each input channel has another value than zero."""
        if isinstance(module, _NormBase):  # whose shift is left
            return [True] * given.shape[input_channel_dim(module, given)]
        return (given.movedim(input_channel_dim(module, given), 0).flatten(1) != 0).any(1).tolist()

    def _leave(self, name: str) -> Hook:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            self._tracer.inside -= 1
            given = args[0] if args else kwargs["input"]
            with torch.utils._python_dispatch._disable_current_modes():
                if name in self._numbers and not isinstance(module, (_NormBase, nn.PReLU)):
                    dim = output_channel_dim(module, output)
                    shape = [-1 if d == dim else 1 for d in range(output.ndim)]
                    output.zero_()
                    numbers = self._numbers[name].to(output.device)
                    self._tracer.mark(output, numbers.view(shape).expand(output.shape))
                elif isinstance(module, _NormBase):
                    self._silence_norm(module, given, output)

        return hook

    def _silence_norm(self, module: _NormBase, given: Tensor, output: Tensor) -> None:
        """Give the output that a norm has once the channels that read only filters are pruned."""
        origins = self._tracer.origins(given)
        if origins is None:
            return
        dim = input_channel_dim(module, given)
        alone = channel_origins(origins, dim) != MIXED
        shape = [-1 if d == dim else 1 for d in range(given.ndim)]
        # scale and shift are pruned too; without them, statistics are 0 and 1
        nothing = torch.zeros_like(given) if module.affine else given
        output.copy_(torch.where(alone.view(shape), nothing, output))

    def _reasons(self) -> Iterator[tuple[str, str]]:
        for origin, (text, operation) in {**self._tracer.unknown, **self._tracer.left}.items():
            filters = self._filters(origin) or frozenset()
            if len(filters) > 1:
                self.leave_together.append((filters, operation))
            for layer, _ in filters if len(filters) == 1 else ():
                yield layer, text.format(layer=layer, operation=operation)
        for name, calls in self._calls.items():
            for channels, left in calls:
                pairs = zip(channels, self.read[name], left, strict=False)
                for sources, over_all, is_left in pairs:
                    if sources and is_left and sources != over_all:
                        for layer, _ in sources:
                            text, _ = Silence.LEFT
                            yield layer, text.format(layer=layer, operation=f"the layer {name}")


def branch_as_in_training(network: nn.Module) -> None:
    """Let containers run the branches of training, and their modules without children evaluate."""
    for module in network.modules():
        module.training = next(module.children(), None) is not None


def _over_calls(calls: Sequence[list[Sources]]) -> list[Sources]:
    """The filters in each input channel of a module over all its calls."""
    together: list[Sources] = []
    for channel in zip(*calls, strict=False):
        known = [sources for sources in channel if sources is not None]
        together.append(frozenset().union(*known) if len(known) == len(calls) else None)
    return together


def _reads_whole(module: nn.Module) -> bool:
    """Whether a module has parameters of its own that no rule here slices."""
    own = next(module.parameters(recurse=False), None) is not None
    leaf = next(module.children(), None) is None
    return own and (leaf or isinstance(module, nn.MultiheadAttention))
