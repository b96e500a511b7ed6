"""The column `wanda`: weights times the norms of their inputs, from one forward pass.

Every product of a parameter with an activation and every convolution is seen as torch carries it
out, whichever layer calls it. Squared inputs are reduced at once to one number per input of the
weight, so nothing is kept of the activations.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.rows import REDUCTIONS, AnyLayer, parameters_of
from pruneviz.model.units import Units

_aten = torch.ops.aten
# {operation: ((operand, the other one, dimension of the first that is summed over), ...)}
_PRODUCTS: Mapping[Any, tuple[tuple[int, int, int], ...]] = {
    _aten.mm: ((0, 1, 1), (1, 0, 0)),
    _aten.bmm: ((0, 1, 2), (1, 0, 1)),
    _aten.mv: ((0, 1, 1),),
    _aten.addmm: ((1, 2, 1), (2, 1, 0)),
    _aten.baddbmm: ((1, 2, 2), (2, 1, 1)),
    _aten.addmv: ((1, 2, 1),),
}


def weights_times_inputs(
    sample: Objective, layers: Sequence[AnyLayer], chunk: int, unit: str
) -> NamedTensors:
    """Sum over the weights of each row of |theta_j| times the norm of its input x_j.

    The norm is over all examples and positions at which the weight is used. Of a convolution, the
    input of a weight is what its place in the kernel reads, without the padding.

    Args:
        sample: The network and its sample.
        layers: The layers of the rows.
        chunk: Number of examples in one pass.
        unit: Row kind.

    Returns:
        {layer: one number per row, float64}. NaN for a parameter that is not multiplied with an
        activation, by a product of matrices or a convolution. Vectors in a unit, such as biases,
        have no input and do not count.

    References:
        Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024.
    """
    names = parameters_of(layers)
    squares = _squared_inputs(sample, names, chunk)
    times = {
        name: sample.parameters[name].detach().double().abs() * squares[name].sqrt()
        for name in names
        if name in squares
    }
    return {layer.name: _rows(layer, times, sample.parameters, unit) for layer in layers}


def _rows(layer: AnyLayer, times: NamedTensors, parameters: NamedTensors, unit: str) -> Tensor:
    if not isinstance(layer, Units):
        unknown = torch.full_like(parameters[layer.weight], float("nan"), dtype=torch.float64)
        return REDUCTIONS[unit](layer.rows(times.get(layer.weight, unknown)))
    found = {}
    for name in layer.parameters:
        matrix = parameters[name].ndim > 1
        default = torch.full_like(
            parameters[name], float("nan") if matrix else 0.0, dtype=torch.float64
        )
        found[name] = times.get(name, default)
    return layer.sums(found)


def _squared_inputs(sample: Objective, names: Collection[str], chunk: int) -> NamedTensors:
    """Squared norms of the inputs of every entry of some parameters, in their shapes, float64."""
    total: NamedTensors = {}
    with torch.no_grad():
        for x, _ in sample.chunks(chunk):
            with _Inputs({name: sample.parameters[name] for name in names}) as seen:
                sample.output(x)
            for name, squares in seen.found.items():
                total[name] = total[name] + squares if name in total else squares
    return total


class _Inputs(TorchDispatchMode):
    """Adds up the squared inputs of parameters during one forward pass."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._parameters = parameters
        self._names = {p.untyped_storage().data_ptr(): name for name, p in parameters.items()}
        self.found: NamedTensors = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in _PRODUCTS:
            operands = [places for places in _PRODUCTS[packet] if self._name(args[places[0]])]
            # a product of two parameters has no input
            if len(operands) == 1:
                of, other, summed = operands[0]
                self._add(args[of], _along(args[of], args[other], summed))
        elif packet is _aten.convolution and self._name(args[1]):
            self._add(args[1], _of_convolution(output, args))
        return output

    def _name(self, tensor: Tensor) -> str | None:
        if tensor.layout != torch.strided or not tensor.numel():  # a sparse tensor has no storage
            return None
        return self._names.get(tensor.untyped_storage().data_ptr())

    def _add(self, operand: Tensor, squares: Tensor) -> None:
        """Add squares in the shape of an operand, which is a parameter or a view of it."""
        name = self._name(operand)
        assert name is not None
        parameter = self._parameters[name]
        if name not in self.found:
            self.found[name] = torch.zeros_like(parameter, dtype=torch.float64)
        into = self.found[name]
        repeated = [d for d in range(operand.ndim) if operand.stride(d) == 0]
        if repeated:  # expanded over a batch: one weight with the inputs of all
            squares = squares.expand(operand.shape).sum(repeated, keepdim=True)
        sizes = [1 if d in repeated else size for d, size in enumerate(operand.shape)]
        offset = operand.storage_offset() - parameter.storage_offset()
        place = into.as_strided(sizes, operand.stride(), into.storage_offset() + offset)
        place += squares


def _along(operand: Tensor, other: Tensor, summed: int) -> Tensor:
    """Squared norms of the inputs in a product, to broadcast over an operand.

    The product sums over the dimension `summed` of the operand, and over the last but one of a
    second, or the last of a first factor of the other.
    """
    left = summed == operand.ndim - 1  # the operand is the left factor
    squares = other.double().square()
    if other.ndim == 1:
        return squares
    if left:  # other [..., K, n]
        return squares.sum(-1).unsqueeze(-2)
    return squares.sum(-2).unsqueeze(-1)  # other [..., n, K]


def _of_convolution(output: Tensor, args: Sequence[Any]) -> Tensor:
    """Squared norms of the inputs of a convolution's weight, to broadcast over it.

    They are the weight gradient of the summed output for squared inputs, alike for all outputs of a
    group, of which one is therefore enough.
    """
    x, weight, _, stride, padding, dilation, transposed, outside, groups = args
    shape = [*weight.shape]
    shape[1 if transposed else 0] = 1 if transposed else groups
    one = weight.new_zeros(shape, dtype=torch.float64)
    along = one.new_ones((1, groups, *output.shape[2:]))
    squares = x.double().square().sum(0, keepdim=True)  # first, so that the rest costs nothing
    options = None, stride, padding, dilation, transposed, outside, groups
    mask = [False, True, False]
    found: Tensor = _aten.convolution_backward(along, squares, one, *options, mask)[1]
    if transposed or groups == 1:
        return found
    per_group = weight.shape[0] // groups
    return found.repeat_interleave(per_group, dim=0)
