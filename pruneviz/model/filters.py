"""The filters of any `nn.Module`: its layers, their weights, and the batch norm after each filter.

A filter is one output channel of a convolution or one neuron of a linear layer. The classifier, the
layer whose filters are the network's outputs, is excluded by default. The norm of a filter is the
first batch norm that reads its channel, found by tracing one forward pass
(`pruneviz.model.tracing`), possibly after activations, pooling, reshaping or concatenation. After a
residual sum a channel holds several filters, and its norm belongs to none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils.hooks import RemovableHandle

from pruneviz.errors import MeasureError
from pruneviz.model.isolation import copied, copied_tensors, evaluate, isolated
from pruneviz.model.network_result import AnyNetwork, NetworkResult
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.sample import (
    Forward,
    Inputs,
    call_with,
    examples_in,
    first_of,
    mapped,
    measuring_dtype,
    tensors_in,
)
from pruneviz.model.tracing import MIXED, ChannelTracer, channel_origins, is_single
from pruneviz.model.uses import Uses
from pruneviz.model.weights import Dims, computes_weight, own_parameters, rows_along

NormChannel = tuple[str, int]
FilterOf = tuple[str, int]  # layer, filter

# buffer in a layer with removed filters: original numbers of the remaining ones
NUMBERS = "filter_numbers"


@dataclass(frozen=True)
class Layer:
    """The filters of one layer: the rows of one parameter.

    Attributes:
        name: Layer name in `named_modules()`; the parameter's name if it is no module's `weight`.
        weight: Name of its parameter, [filters, ...] unless `dims` says otherwise.
        filters: Number of filters.
        norms: (batch norm, channel) after each filter, or None.
        examples_first: Whether the first output dimension is exactly the examples.
        numbers: Output channels in the unpruned layer; 0, 1, ... unless filters were removed.
        dims: Dimensions of the parameter along which its filters run.
        groups: Groups of a transposed convolution, see `pruneviz.model.weights.LinearMap`.
        is_gathered: Whether the filters are the outputs of a product, so that their inner products
            can be gathered there.
    """

    name: str
    weight: str
    filters: int
    norms: tuple[NormChannel | None, ...]
    examples_first: bool = True
    numbers: tuple[int, ...] = ()
    dims: Dims = (0,)
    groups: int = 1
    is_gathered: bool = True

    @property
    def dim(self) -> int:
        """The last dimension along which the filters run."""
        return self.dims[-1]

    def rows(self, values: Tensor) -> Tensor:
        """Values in the shape of the parameter as [filters, entries of a filter ...]."""
        return rows_along(values, self.dims, self.groups)

    @property
    def norm(self) -> str | None:
        """The batch norm after all filters of the layer; None for none or several."""
        names = {norm[0] if norm else None for norm in self.norms}
        return names.pop() if len(names) == 1 else None


def unwrap(model: AnyNetwork) -> nn.Module:
    """The network inside a result, or a wrapper of `DataParallel`, `torch.compile` and the like.

    These wrappers do not support double backward.

    Raises:
        MeasureError: If it is not an `nn.Module`.
    """
    while True:
        if isinstance(model, NetworkResult):
            model = model.network
        if not isinstance(model, nn.Module):
            raise MeasureError(
                f"the model is a {type(model).__name__}, not an nn.Module; "
                "the model comes first, as in pv.measure(model, sample)"
            )
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod  # type: ignore[assignment]
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


def find_layers(
    model: nn.Module, example: Inputs, *, classifier: bool = False, forward: Forward | None = None
) -> list[Layer]:
    """Find the convolutions and linear layers that a forward pass calls, in execution order.

    `pruneviz.model.coverage` also finds all other weights.

    Args:
        model: Any network; it does not change.
        example: Inputs as in `pruneviz.model.sample`; two examples are used if they suffice.
        classifier: Whether to include the output layer.
        forward: Callable of (model, example) that calls the network.

    Raises:
        MeasureError: If the model has no filters.
    """
    return layers_of(model, Trace.of(model, example, forward), classifier=classifier)


def layers_of(model: nn.Module, trace: Trace, *, classifier: bool = False) -> list[Layer]:
    """`find_layers` for an already traced network."""
    modules = dict(weighted_modules(model))
    names = [name for name in trace.order if classifier or name not in trace.output_layers]
    if not names:
        raise MeasureError(no_filters(model, classifier=bool(trace.order)))
    # a tied weight is named after its first use
    weights = {id(p): parameter for parameter, p in model.named_parameters()}
    return [_layer(name, modules[name], weights, trace) for name in names]


def no_filters(model: nn.Module, *, classifier: bool) -> str:
    """The message for a model without filters.

    Args:
        model: Any network.
        classifier: Whether it has an output layer.
    """
    computed = [name for name, module in model.named_modules() if computes_weight(module)]
    return (
        f"{type(model).__name__} has no filters: no weight that acts as a linear map before its "
        f"output{'; its only layer is the classifier, measured with classifier=True' * classifier}"
        + (f"; the weight of {', '.join(computed[:3])} is computed" if computed else "")
    )


def weighted_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Convolutions and linear layers with their names, each weight once."""
    seen: set[str] = set()
    for name, module in weight_users(model):
        if name not in seen:
            seen.add(name)
            yield name, module


def weight_users(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All convolutions and linear layers with their names.

    Layers with tied weights are one set of filters, named after the first layer. A layer whose
    weight is computed, as by a parametrization, is left out; reading it would run the computation.
    """
    names: dict[int, str] = {}
    for name, module in model.named_modules():
        if not isinstance(module, (_ConvNd, nn.Linear)) or isinstance(module, _ConvTransposeNd):
            continue
        if not computes_weight(module):
            yield names.setdefault(id(own_parameters(module)["weight"]), name), module


def _layer(name: str, module: nn.Module, weights: dict[int, str], trace: Trace) -> Layer:
    weight, norms = module.get_parameter("weight"), trace.norms.get(name, {})
    own = getattr(module, NUMBERS, None)
    numbers = tuple(own.tolist()) if isinstance(own, Tensor) else tuple(range(len(weight)))
    following = tuple(norms.get(p) for p in range(len(weight)))
    return Layer(
        name, weights[id(weight)], len(weight), following, name not in trace.folded, numbers
    )


class Trace:
    """Facts about the filters of a network, found in one forward pass.

    Args:
        model: Any network; it does not change.
        example: Inputs as in `pruneviz.model.sample`.
        forward: Callable of (model, example) that calls the network.
        examples: Number of examples that are used, None for all. Two, because some networks squeeze
            dimensions of size 1.

    Attributes:
        order: Layers ordered by first call.
        norms: {layer: {filter: (batch norm, channel) or None}}, the first norm that reads a filter;
            None if it reads the filter at several channels.
        example: The examples that were used.
        forward: As given.
        uses: How the network uses its parameters.
        output_layers: The last layers before the output, see `pruneviz.model.uses`.
        folded: Layers whose output does not keep the examples in its first dimension.
        multiplied: Pairs of filters whose outputs are multiplied with each other.
        together: {layer: operation} that normalises several of its filters by a common statistic.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Inputs,
        forward: Forward | None = None,
        examples: int | None = 2,
    ) -> None:
        self.order: list[str] = []
        self.norms: dict[str, dict[int, NormChannel | None]] = {}
        self.folded: set[str] = set()
        example = copied_inputs(first_of(example, examples), measuring_dtype(model))
        self.example, self.forward = example, forward
        self._examples = examples_in(example)
        self._tracer = ChannelTracer()
        self._owner, self._origins = numbered_filters(model)
        self._run(model, example, forward)
        self.uses = Uses(model, example, forward)
        self.output_layers = self._last(model) or set(self.order[-1:])
        self.multiplied = {(self._owner[a], self._owner[b]) for a, b in self._tracer.multiplied}
        self.together = dict(self._normalised_together())

    @classmethod
    def of(
        cls,
        model: nn.Module,
        example: Inputs,
        forward: Forward | None = None,
        examples: int | None = 2,
    ) -> Trace:
        """Trace a network with a few examples, or with all if it does not run on a few.

        Networks that read a graph, keep batch-sized buffers or choose among the examples need a
        whole batch.
        """
        try:
            return cls(model, example, forward, examples)
        except (RuntimeError, IndexError, ValueError, AssertionError) as error:
            if examples is None or examples >= examples_in(example) or is_out_of_memory(error):
                raise
            try:
                return cls(model, example, forward, None)
            except (RuntimeError, IndexError, ValueError, AssertionError) as of_all:
                if is_out_of_memory(of_all):
                    raise
            raise  # the first error, of the smaller example

    def _last(self, model: nn.Module) -> set[str]:
        """Names of the last layers, and of their weights."""
        weights = {id(p): name for name, p in model.named_parameters()}
        last = self.uses.last
        named = {
            name
            for name, module in weighted_modules(model)
            if weights[id(module.get_parameter("weight"))] in last
        }
        return named | last

    def _run(self, model: nn.Module, example: Inputs, forward: Forward | None) -> None:
        """Run one forward pass with hooks."""
        with ExitStack() as stack:
            stack.enter_context(isolated(model))
            for handle in self._hooks(model):
                stack.callback(handle.remove)
            evaluate(model)
            stack.enter_context(torch.no_grad())
            for leaf in tensors_in(example):
                self._tracer.mark(leaf, MIXED)
            tensors = copied_tensors(model, measuring_dtype(model))
            stack.enter_context(self._tracer)
            call_with(model, tensors, example, forward)

    def _hooks(self, model: nn.Module) -> Iterator[RemovableHandle]:
        for name, module in weight_users(model):
            yield module.register_forward_hook(self._after_layer(name))
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm):
                yield module.register_forward_pre_hook(self._before_norm(name), with_kwargs=True)

    def _after_layer(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if name not in self.order:
                self.order.append(name)
            channel = output_channel_dim(module, output)
            if len(output) != self._examples or channel == 0:
                self.folded.add(name)
            shape = [1] * output.ndim
            shape[channel] = -1
            with torch.utils._python_dispatch._disable_current_modes():
                self._tracer.mark(output, self._origins[name].view(shape).expand(output.shape))

        return hook

    def _before_norm(
        self, name: str
    ) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            given = args[0] if args else kwargs["input"]
            with torch.utils._python_dispatch._disable_current_modes():
                origins = self._tracer.origins(given)
                channels: list[int] = []
                if origins is not None:
                    dim = input_channel_dim(module, given)
                    channels = channel_origins(origins, dim).tolist()
                self._note_norm(name, channels)

        return hook

    def _note_norm(self, name: str, channels: list[int]) -> None:
        """Record the norm of every filter that it reads first."""
        times = Counter(channels)
        for channel, origin in enumerate(channels):
            if is_single(origin):
                layer, p = self._owner[origin]
                # a filter read at several channels, as after flattening, has no scale of its own
                norm = (name, channel) if times[origin] == 1 else None
                self.norms.setdefault(layer, {}).setdefault(p, norm)

    def _normalised_together(self) -> Iterator[tuple[str, str]]:
        """(layer, operation) for every operation with a statistic over filters of one layer."""
        for operation, groups in self._tracer.together.items():
            for group in groups:
                times = Counter(self._owner[origin][0] for origin in group)
                yield from ((layer, operation) for layer, filters in times.items() if filters > 1)


def numbered_filters(model: nn.Module) -> tuple[list[FilterOf], dict[str, Tensor]]:
    """Number all filters of a network.

    Returns:
        The filter of each number, and {layer: numbers of its filters}.
    """
    owners: list[FilterOf] = []
    numbers = {}
    for name, module in weighted_modules(model):
        start, filters = len(owners), len(module.get_parameter("weight"))
        owners += [(name, p) for p in range(filters)]
        numbers[name] = torch.arange(start, start + filters)
    return owners, numbers


def copied_inputs(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """A copy of inputs, in the precision of a dtype where they are not integers."""
    return mapped(inputs, lambda leaf: copied(leaf, dtype))


def output_channel_dim(module: nn.Module, output: Tensor) -> int:
    """The dimension of the output of a convolution or linear layer that holds its filters."""
    if isinstance(module, nn.Linear):
        return output.ndim - 1
    return output.ndim - len(module.kernel_size) - 1  # type: ignore[arg-type]


def input_channel_dim(module: nn.Module, given: Tensor) -> int:
    """The dimension of the input of a layer or norm that holds its channels."""
    if isinstance(module, _ConvNd):
        return output_channel_dim(module, given)
    if isinstance(module, nn.Linear):
        return given.ndim - 1
    return min(1, given.ndim - 1)
