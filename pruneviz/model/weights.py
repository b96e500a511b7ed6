"""Which parameters of a module act as linear maps, and along which dimensions their rows run.

A row of a weight is what one output reads: y_p = <row_p, x>. `MAPS` names the weights of torch's
own modules. Other modules' parameters count as linear maps where a forward pass multiplies them
with an activation (`pruneviz.model.uses`). A weight that is computed, as by a parametrization, is
never read: that would run the computation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Dims = tuple[int, ...]


@dataclass(frozen=True)
class LinearMap:
    """A parameter that acts as a linear map.

    Attributes:
        parameter: Its name in `named_parameters()`.
        dims: Dimensions along which its rows run.
        groups: Groups of a transposed convolution, whose rows run along dimension 1 of each group
            of dimension 0.
    """

    parameter: str
    dims: Dims = (0,)
    groups: int = 1


def rows_along(values: Tensor, dims: Dims, groups: int = 1) -> Tensor:
    """Values in the shape of a parameter as [rows, entries of a row ...]."""
    if dims == (0,) and values.ndim > 1:
        return values
    if groups > 1:
        values = values.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        return values.flatten(1)
    if not dims:
        return values.reshape(1, -1)
    others = [dim for dim in range(values.ndim) if dim not in dims]
    rows = math.prod(values.shape[dim] for dim in dims)
    return values.permute(*dims, *others).reshape(rows, -1)


def linear_maps(model: nn.Module) -> Iterator[tuple[str, LinearMap]]:
    """(module name, map) of every weight of `MAPS`, each parameter once, in module order."""
    names = {id(p): name for name, p in model.named_parameters()}
    seen: set[str] = set()
    for path, module in model.named_modules():
        for own, dims, groups in maps_of(module):
            parameter = names[id(own_parameters(module)[own])]
            if parameter not in seen:
                seen.add(parameter)
                yield path, LinearMap(parameter, dims, groups)


def maps_of(module: nn.Module) -> list[tuple[str, Dims, int]]:
    """(own parameter, dims, groups) of the linear maps of one module; empty for most modules."""
    own = own_parameters(module)
    found = [read(module) for kind, read in MAPS.items() if isinstance(module, kind)]
    if not found and is_input_first(module):
        found = [[("weight", (1,), 1)]]
    return [map_ for maps in found for map_ in maps if map_[0] in own]


def computes_weight(module: nn.Module) -> bool:
    """Whether a module of `MAPS` has a weight that is computed, not a parameter."""
    plain = isinstance(module, _ConvNd | nn.Linear | nn.Bilinear)
    return plain and "weight" not in own_parameters(module)


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that a module holds itself."""
    return dict(module.named_parameters(recurse=False, remove_duplicate=False))


def is_input_first(module: nn.Module) -> bool:
    """Whether a module is a linear layer with weight [inputs, outputs].

    This is how GPT-2 writes its layers: a class `Conv1D` with `nf` outputs.
    """
    weight = own_parameters(module).get("weight")
    outputs = getattr(module, "nf", None)
    named = type(module).__name__ == "Conv1D" and isinstance(outputs, int)
    return named and isinstance(weight, Tensor) and weight.ndim == 2 and weight.shape[1] == outputs


def _first(module: nn.Module) -> list[tuple[str, Dims, int]]:
    return [("weight", (0,), 1)]


def _transposed(module: nn.Module) -> list[tuple[str, Dims, int]]:
    return [("weight", (1,), int(module.groups))]  # type: ignore[arg-type]


def _convolution(module: nn.Module) -> list[tuple[str, Dims, int]]:
    return _transposed(module) if isinstance(module, _ConvTransposeNd) else _first(module)


def _attention(module: nn.Module) -> list[tuple[str, Dims, int]]:
    names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    return [(name, (0,), 1) for name in names]


def _recurrent(module: nn.Module) -> list[tuple[str, Dims, int]]:
    return [(name, (0,), 1) for name, p in own_parameters(module).items() if p.ndim == 2]


Maps = Callable[[nn.Module], list[tuple[str, Dims, int]]]

# linear maps by the type of their module; extend it for modules of other libraries
MAPS: Mapping[type[nn.Module], Maps] = {
    _ConvNd: _convolution,
    nn.Linear: _first,
    nn.Bilinear: _first,
    nn.MultiheadAttention: _attention,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent,
}
