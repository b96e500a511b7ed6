"""What a filter is, in any `nn.Module`: the layers, their weights, and the batch-norm scale that follows each filter.

A filter is one output channel of a convolution or one neuron of a linear layer. The classifier, the layer whose filters are
the outputs of the network, is left out unless asked for. The norm of a filter is the first batch norm that reads its
channel, found by tracing one forward pass (`pruneviz.model.tracing`): activations, pooling, reshaping and concatenation may lie
between; after a residual sum the channel belongs to the stream and no norm is the filter's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils._pytree import tree_flatten

from pruneviz.errors import MeasureError
from pruneviz.model.isolation import flags_preserved
from pruneviz.model.sample import model_dtype
from pruneviz.model.tracing import MIXED, ChannelTracer, channel_origins, is_single

NormChannel = tuple[str, int]
FilterOf = tuple[str, int]  # layer, filter
Note = Callable[[str, list[int]], None]
NUMBERS = "filter_numbers"  # buffer of a layer whose pruned filters were removed: the original numbers of those left


@dataclass(frozen=True)
class Layer:
    """The filters of one layer: `weight` names the parameter [filters, ...], `norms[p]` is (batch norm, channel) of filter p or None.

    `examples_first` says whether the first dimension of its output counts the examples, and nothing else. `numbers` are the filters'
    output channels in the unpruned layer, which differ from 0, 1, ... once others were removed.
    """

    name: str
    weight: str
    filters: int
    norms: tuple[NormChannel | None, ...]
    examples_first: bool = True
    numbers: tuple[int, ...] = ()

    @property
    def norm(self) -> str | None:
        """The one batch norm that follows all filters of the layer; None where there is none or several."""
        names = {norm[0] if norm else None for norm in self.norms}
        return names.pop() if len(names) == 1 else None


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside `DataParallel`, `DistributedDataParallel` and `torch.compile` wrappers, which do not support double backward."""
    while isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)) or hasattr(
        model, "_orig_mod"
    ):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module  # type: ignore[assignment]
    return model


def find_layers(model: nn.Module, example: Tensor, *, classifier: bool = False) -> list[Layer]:
    """All layers with filters, in the order in which the network applies them.

    Args: `example` is one or more inputs of the network (at most two are used); `classifier` also lists the output layer.
    Nothing of the model changes. Errors: `MeasureError` when the model has no filters, or a weight is not a parameter.
    """
    return layers_of(model, Trace(model, example), classifier=classifier)


def layers_of(model: nn.Module, trace: Trace, *, classifier: bool = False) -> list[Layer]:
    """As `find_layers`, of a network that was traced already."""
    modules = dict(weighted_modules(model))
    names = [name for name in trace.order if classifier or name not in trace.output_layers]
    if not names:
        hint = (
            "; its only layer is the classifier, measured with classifier=True"
            if trace.order
            else ""
        )
        raise MeasureError(
            f"{type(model).__name__} has no filters: no convolution or linear layer before its output{hint}"
        )
    weights = {
        id(p): parameter for parameter, p in model.named_parameters()
    }  # a tied weight goes by its first name
    return [_layer(name, modules[name], weights, trace) for name in names]


def sigma(model: nn.Module, layer: Layer) -> Tensor:
    """The signed batch-norm scale of every filter of a layer, float64 [filters] on the CPU; NaN where no batch norm follows."""
    scales = torch.full((layer.filters,), float("nan"), dtype=torch.float64)
    for name in {norm[0] for norm in layer.norms if norm}:
        weight = model.get_submodule(name).weight
        if isinstance(weight, Tensor):  # a norm without affine parameters has no scale
            at = [(p, norm[1]) for p, norm in enumerate(layer.norms) if norm and norm[0] == name]
            rows, channels = zip(*at, strict=True)
            scales[list(rows)] = weight.detach().double().cpu()[list(channels)]
    return scales


def weighted_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The convolutions and linear layers of a network with their names, each weight once; `MeasureError` where a weight is computed."""
    seen: set[str] = set()
    for name, module in weight_users(model):
        if name not in seen:
            seen.add(name)
            yield name, module


def weight_users(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All convolutions and linear layers of a network; those of tied weights, which are one set of filters, go by the name of the first."""
    parameters = {id(p) for p in model.parameters()}
    names: dict[int, str] = {}
    for name, module in model.named_modules():
        if not isinstance(module, (_ConvNd, nn.Linear)) or isinstance(module, _ConvTransposeNd):
            continue
        if id(module.weight) not in parameters:
            raise MeasureError(
                f"the weight of {name} is computed, not a parameter; remove its parametrization or pruning wrapper first"
            )
        yield names.setdefault(id(module.weight), name), module


def _layer(name: str, module: nn.Module, weights: dict[int, str], trace: Trace) -> Layer:
    weight, norms = module.get_parameter("weight"), trace.norms.get(name, {})
    own = getattr(module, NUMBERS, None)
    numbers = tuple(own.tolist()) if isinstance(own, Tensor) else tuple(range(len(weight)))
    following = tuple(norms.get(p) for p in range(len(weight)))
    return Layer(
        name, weights[id(weight)], len(weight), following, name not in trace.folded, numbers
    )


class Trace:
    """One forward pass: the order of the layers, the first norm of every filter, the layers that are the output, who reads what.

    `folded` are layers that do not keep the examples in the first dimension. `read` holds, for every layer, norm and transposed
    convolution, a list of the filters that meet in each of its input channels, (layer, filter) pairs, or None where they are not
    known; one list per call. `multiplied` are the pairs of filters whose outputs are multiplied with one another, and `together` the
    operations that normalise several filters of a layer by a statistic of them all, {layer: operation}. `example` is one or more
    inputs, of which two are used, for networks that squeeze a dimension of one. Nothing of the model changes.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self.order: list[str] = []
        self.norms: dict[str, dict[int, NormChannel | None]] = {}
        self.folded: set[str] = set()
        self.read: dict[str, list[list[frozenset[FilterOf] | None]]] = {}
        dtype = model_dtype(model) if example.is_floating_point() else example.dtype
        example = example[:2].to(dtype, copy=True)
        self._examples = len(example)
        self._owner: list[FilterOf] = []  # origin number -> (layer, filter)
        self._tracer = ChannelTracer()
        self._origins = {
            name: self._number(name, module) for name, module in weighted_modules(model)
        }
        outputs = self._run(model, example)
        self.output_layers = {
            self._owner[o][0] for tensor in outputs for o in self._known(tensor)
        } or set(self.order[-1:])
        self.multiplied = {(self._owner[a], self._owner[b]) for a, b in self._tracer.multiplied}
        self.together = dict(self._normalised_together())

    def _number(self, name: str, module: nn.Module) -> Tensor:
        start, filters = len(self._owner), len(module.get_parameter("weight"))
        self._owner += [(name, p) for p in range(filters)]
        return torch.arange(start, start + filters)

    def _run(self, model: nn.Module, example: Tensor) -> list[Tensor]:
        with ExitStack() as stack:
            stack.enter_context(flags_preserved(model))
            for name, module in weight_users(model):
                stack.callback(
                    module.register_forward_pre_hook(
                        self._before(name, self._note_read), with_kwargs=True
                    ).remove
                )
                stack.callback(module.register_forward_hook(self._after_layer(name)).remove)
            for name, module in model.named_modules():
                if isinstance(module, (_NormBase, _ConvTransposeNd)):
                    note = self._note_norm if isinstance(module, _BatchNorm) else self._note_read
                    stack.callback(
                        module.register_forward_pre_hook(
                            self._before(name, note), with_kwargs=True
                        ).remove
                    )
            model.eval()
            stack.enter_context(torch.no_grad())
            self._tracer.mark(example, MIXED)
            buffers = {
                name: buffer.clone() for name, buffer in model.named_buffers()
            }  # a network may count its calls
            stack.enter_context(self._tracer)
            output = functional_call(model, buffers, (example,))
        return [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]

    def _after_layer(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if name not in self.order:
                self.order.append(name)
            channel = _channel_dim(module, output)
            if len(output) != self._examples or channel == 0:
                self.folded.add(name)
            shape = [1] * output.ndim
            shape[channel] = -1
            with torch.utils._python_dispatch._disable_current_modes():
                self._tracer.mark(output, self._origins[name].view(shape).expand(output.shape))

        return hook

    def _before(
        self, name: str, note: Note
    ) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            given = args[0] if args else kwargs["input"]
            with torch.utils._python_dispatch._disable_current_modes():
                origins = self._tracer.origins(given)
                note(
                    name,
                    []
                    if origins is None
                    else channel_origins(origins, _input_channel_dim(module, given)).tolist(),
                )

        return hook

    def _note_read(self, name: str, channels: list[int]) -> None:
        sets = {origin: self._tracer.filters(origin) for origin in set(channels)}
        named = {
            origin: None if found is None else frozenset(self._owner[o] for o in found)
            for origin, found in sets.items()
        }
        self.read.setdefault(name, []).append([named[origin] for origin in channels])

    def _note_norm(self, name: str, channels: list[int]) -> None:
        self._note_read(name, channels)
        times = Counter(channels)
        for channel, origin in enumerate(channels):
            if is_single(origin):
                layer, p = self._owner[origin]
                # a filter that is read at several channels, as after flattening, has several scales and so no scale of its own
                self.norms.setdefault(layer, {}).setdefault(
                    p, (name, channel) if times[origin] == 1 else None
                )

    def _normalised_together(self) -> Iterator[tuple[str, str]]:
        for operation, groups in self._tracer.together.items():
            for group in groups:
                times = Counter(self._owner[origin][0] for origin in group)
                yield from ((layer, operation) for layer, filters in times.items() if filters > 1)

    def _known(self, output: Tensor) -> list[int]:
        origins = self._tracer.origins(output)
        return [] if origins is None else [o for o in origins.unique().tolist() if is_single(o)]


def _channel_dim(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return output.ndim - 1
    return output.ndim - len(module.kernel_size) - 1  # type: ignore[arg-type]


def _input_channel_dim(module: nn.Module, given: Tensor) -> int:
    if isinstance(module, _ConvNd):
        return _channel_dim(module, given)
    return given.ndim - 1 if isinstance(module, nn.Linear) else 1
