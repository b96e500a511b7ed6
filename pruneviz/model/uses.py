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
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pruneviz.model.isolation import flags_preserved
from pruneviz.model.weights import Dims, LinearMap, computes_weight, maps_of

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
        call: Calls the network on an example: `call(model)`.

    Attributes:
        matrices: {parameter: how it acts}, for every parameter that is multiplied with an
            activation, in order of first use.
        last: Modules, and parameters used without a call of their module, that come last before the
            output. Empty if the output has no gradient.
    """

    def __init__(self, model: nn.Module, call: Callable[[nn.Module], object]) -> None:
        self._outputs: dict[Node, str] = {}  # node of a layer's output -> layer
        parameters = {
            name: p.detach().clone().requires_grad_(p.is_floating_point())
            for name, p in model.named_parameters()
        }
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        matrices = _Matrices(parameters)
        with ExitStack() as stack:
            stack.enter_context(flags_preserved(model))
            for handle in self._hooks(model):
                stack.callback(handle.remove)
            model.eval()
            given = {**buffers, **parameters}
            stack.enter_context(_reparametrize_module(model, given, tie_weights=True))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(matrices)
            output = call(model)
        self.matrices = matrices.found
        roots = [t.grad_fn for t in tensors_in(output) if t.grad_fn is not None]
        nodes = _sorted(roots)
        self._add_direct_uses(nodes, parameters)
        self.last = self._last(nodes)

    def _hooks(self, model: nn.Module) -> Iterator[Any]:
        for name, module in model.named_modules():
            if (maps_of(module) or computes_weight(module)) and not list(module.children()):
                yield module.register_forward_hook(self._note(name))

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
            if len(node.next_functions) == 1 and children and children[0] in only:
                only[node] = only[children[0]]
            elif _PRODUCT_NODES.fullmatch(node.name()):
                for name in (only[child] for child in children if child in only):
                    self._outputs.setdefault(node, name)

    def _last(self, nodes: Sequence[Node]) -> set[str]:
        """Layers with an output that no other layer reads."""
        read: set[Node] = set()  # nodes below some layer
        last = set()
        for node in reversed(nodes):
            is_layer = node in self._outputs
            if is_layer and node not in read:
                last.add(self._outputs[node])
            if is_layer or node in read:
                read.update(_inputs(node))
        return last


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
            self._note_product([(args[at], dim) for at, dim in _PRODUCTS[packet]], args)
        elif packet is _aten.convolution:
            dims = (1,) if args[6] else (0,)
            self._add(args[1], lambda name: LinearMap(name, dims, args[8] if args[6] else 1))
        elif packet in _GROUPED:
            self._note_product([(args[1], 1)], args)
        return func(*args, **(kwargs or {}))

    def _note_product(self, operands: list[tuple[Tensor, int]], args: Any) -> None:
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


def tensors_in(output: object) -> list[Tensor]:
    """All tensors in the output of a network or module: in tuples, mappings and data classes."""
    found = []
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, Mapping):
            found += [t for value in leaf.values() for t in tensors_in(value)]
        elif is_dataclass(leaf):
            found += [t for field in fields(leaf) for t in tensors_in(getattr(leaf, field.name))]
    return found


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
