"""How a network uses its parameters in one forward pass: as matrices, and which layer comes last.

A parameter acts as a linear map if it, or a view of it, is multiplied with an activation. The
classifier is found by what it is: the last layer before the output, so no other layer with weights
lies between it and the output, and no other layer reads what it computes. A network that also
returns features or hidden states therefore keeps its last convolution.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pruneviz.model.isolation import copied, evaluate, isolated
from pruneviz.model.sample import Forward, Inputs, call_with, measuring_dtype, tensors_in
from pruneviz.model.weights import Dims, LinearMap, computes_weight, maps_of, own_parameters

_aten = torch.ops.aten
# matrix products: {operation: ((operand, dimension that the product sums over), ...)}
_PRODUCTS: Mapping[Any, tuple[tuple[int, int], ...]] = {
    _aten.mm: ((0, 1), (1, 0)),
    _aten.bmm: ((0, 2), (1, 1)),
    _aten.mv: ((0, 1),),
    _aten.addmm: ((1, 1), (2, 0)),
    _aten.baddbmm: ((1, 2), (2, 1)),
    _aten.addmv: ((1, 1),),
}
_GROUPED = {getattr(_aten, "_grouped_mm", None), getattr(_aten, "_scaled_grouped_mm", None)}
# nodes of autograd's graph that multiply a weight with an activation
_PRODUCT_NODES = re.compile(
    "(Mm|Bmm|Mv|Addmm|Baddbmm|Addmv|Linear|Convolution|GroupedMm)Backward[0-9]*"
)
Node = Any  # node of autograd's graph


class Uses:
    """How a network uses its parameters.

    Args:
        model: Any network; it does not change.
        example: Inputs as in `pruneviz.model.sample`.
        forward: Callable of (model, example) that calls the network.

    Attributes:
        matrices: {parameter: how it acts}, for every parameter that is multiplied with an
            activation, in order of first use.
        feeds: {weight: weights of the layers that read its layer's output through no other layer}.
            A layer whose weight is computed goes by the name of its module.
        last: Weights of the layers that come last before the output; empty if the output has no
            gradient.
    """

    def __init__(self, model: nn.Module, example: Inputs, forward: Forward | None = None) -> None:
        self._outputs: dict[Node, str] = {}  # node of a layer's output -> its weight
        dtype = measuring_dtype(model)
        parameters = {
            name: copied(p, dtype).requires_grad_(p.is_floating_point())
            for name, p in model.named_parameters()
        }
        buffers = {name: copied(buffer, dtype) for name, buffer in model.named_buffers()}
        matrices = _Matrices(parameters)
        with ExitStack() as stack:
            stack.enter_context(isolated(model))
            for handle in self._hooks(model):
                stack.callback(handle.remove)
            evaluate(model)
            stack.enter_context(torch.enable_grad())
            stack.enter_context(matrices)
            output = call_with(model, {**buffers, **parameters}, example, forward)
        self.matrices = matrices.found
        roots = [t.grad_fn for t in tensors_in(output) if t.grad_fn is not None]
        nodes = _sorted(roots)
        self._add_direct_uses(nodes, parameters)
        self.feeds: dict[str, set[str]] = {}
        self.last = self._last(nodes)

    def _hooks(self, model: nn.Module) -> Iterator[Any]:
        names = {id(p): name for name, p in model.named_parameters()}
        for path, module in model.named_modules():
            if computes_weight(module):
                yield module.register_forward_hook(self._note(path))
            elif maps_of(module) and not list(module.children()):
                weight = own_parameters(module)[maps_of(module)[0][0]]
                yield module.register_forward_hook(self._note(names[id(weight)]))

    def _note(self, name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            for tensor in tensors_in(output):
                if tensor.grad_fn is not None:
                    self._outputs[tensor.grad_fn] = name

        return hook

    def _add_direct_uses(self, nodes: Collection[Node], parameters: Mapping[str, Tensor]) -> None:
        """Add products with a parameter, or a view of it, outside of its module's call."""
        names = {id(parameters[name]): name for name in self.matrices}
        only: dict[Node, str] = {}  # nodes that read one parameter and nothing else
        for node in nodes:
            if hasattr(node, "variable"):
                name = names.get(id(node.variable))
                if name is not None:
                    only[node] = name
                continue
            children = _inputs(node)
            if node.name().startswith("Embedding"):  # a lookup's rows are activations
                continue
            if len(node.next_functions) == 1 and children and children[0] in only:
                only[node] = only[children[0]]
            elif _PRODUCT_NODES.fullmatch(node.name()):
                for name in (only[child] for child in children if child in only):
                    self._outputs.setdefault(node, name)

    def _last(self, nodes: Sequence[Node]) -> set[str]:
        """Layers whose output reaches the network's output, and that feed no other layer."""
        read_by: dict[Node, set[str]] = {}  # node -> layers that read it through no other
        last = set()
        for node in reversed(nodes):
            readers = read_by.pop(node, set())
            layer = self._outputs.get(node)
            if layer is not None:
                self.feeds.setdefault(layer, set()).update(readers - {layer})
                last.add(layer)
                readers = {layer}
            for child in _inputs(node):
                read_by.setdefault(child, set()).update(readers)
        return {layer for layer in last if not self.feeds[layer]}


class _Matrices(TorchDispatchMode):
    """Notes the parameters that are multiplied with an activation."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._parameters = parameters
        self._names = {p.untyped_storage().data_ptr(): name for name, p in parameters.items()}
        self.found: dict[str, LinearMap] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        if packet in _PRODUCTS:
            self._note_product([(args[at], dim) for at, dim in _PRODUCTS[packet]])
        elif packet is _aten.convolution:
            dims = (1,) if args[6] else (0,)
            self._add(args[1], lambda name: LinearMap(name, dims, args[8] if args[6] else 1))
        elif packet in _GROUPED:
            self._note_product([(args[1], 1)])
        return func(*args, **(kwargs or {}))

    def _note_product(self, operands: list[tuple[Tensor, int]]) -> None:
        named = [(tensor, dim) for tensor, dim in operands if self._name(tensor)]
        # a product of two parameters, as of learned queries, does not say which one is the map
        if len(named) == 1:
            tensor, dim = named[0]
            self._add(
                tensor,
                lambda name: LinearMap(name, _row_dims(self._parameters[name], tensor, dim)),
            )

    def _add(self, tensor: Tensor, read: Callable[[str], LinearMap]) -> None:
        name = self._name(tensor)
        if name and name not in self.found:
            self.found[name] = read(name)

    def _name(self, tensor: object) -> str | None:
        if not isinstance(tensor, Tensor) or not tensor.numel():
            return None
        return self._names.get(tensor.untyped_storage().data_ptr())


def _row_dims(parameter: Tensor, view: Tensor, summed: int) -> Dims:
    """The dimensions of a parameter that a product does not sum over."""
    stride, size = view.stride(summed), view.shape[summed]
    inner = [d for d in range(parameter.ndim) if parameter.stride(d) == stride]
    over: list[int] = []
    for dim in inner[-1:]:
        covered = 1
        while dim >= 0 and covered < size:
            over.append(dim)
            covered *= parameter.shape[dim]
            dim -= 1
    rest = tuple(dim for dim in range(parameter.ndim) if dim not in over)
    return rest if over and rest else (0,)


def _inputs(node: Node) -> list[Node]:
    return [child for child, _ in node.next_functions if child is not None]


def _sorted(roots: Collection[Node]) -> list[Node]:
    """All nodes below some roots, inputs before what reads them."""
    ordered: list[Node] = []
    seen: set[Node] = set()
    stack = [(root, False) for root in roots]
    while stack:
        node, done = stack.pop()
        if done:
            ordered.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(child, False) for child in _inputs(node) if child not in seen]
    return ordered
