"""theta * g and theta * Hg of every parameter by plain autograd in float64, for any network.

Written from the definitions; nothing of the package is imported. For networks of up to some million
parameters: the gradient is differentiated once more along itself, no Hessian is formed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

Products = dict[str, dict[str, Tensor]]  # {column: {parameter: theta * g, or theta * Hg}}


class _TwiceDifferentiable(TorchFunctionMode):
    """Hard activations by their formulas: torch cannot differentiate its own kernels twice."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in (F.hardswish, torch._C._nn.hardswish):
            return args[0] * torch.clamp(args[0] + 3, 0, 6) / 6
        if func in (F.hardsigmoid, torch._C._nn.hardsigmoid):
            return torch.clamp(args[0] + 3, 0, 6) / 6
        return func(*args, **(kwargs or {}))


def in_float64(tree: Any) -> Any:
    """The same nested containers with floating-point tensors in float64."""
    return tree_map(
        lambda leaf: (
            leaf.detach().double()
            if isinstance(leaf, Tensor) and leaf.is_floating_point()
            else leaf
        ),
        tree,
    )


def call(model: nn.Module, inputs: Any) -> Any:
    """The output for inputs that are one tensor, positional or keyword arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def products(
    model: nn.Module, inputs: Any, target: Any, loss: Callable[[Any, Any], Tensor]
) -> Products:
    """Products of all parameters with the gradient, and with the Hessian times the gradient.

    Args:
        model: The network; a float64 copy in evaluation mode is differentiated.
        inputs: The whole sample in one piece.
        target: Its targets.
        loss: The loss of the whole sample, from output and target.
    """
    found = derivatives(model, lambda net: loss(call(net, in_float64(inputs)), in_float64(target)))
    return {
        "theta_g": {name: _inner(p, found.g[name]) for name, p in found.theta.items()},
        "theta_hg": {name: _inner(p, found.hg[name]) for name, p in found.theta.items()},
    }


class Derivatives(NamedTuple):
    """Parameters of a float64 copy by name, the gradient g by them and the Hessian times g."""

    theta: Mapping[str, Tensor]
    g: Mapping[str, Tensor]
    hg: Mapping[str, Tensor]


def derivatives(
    model: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    names: Sequence[str] | None = None,
    second: bool = True,
) -> Derivatives:
    """Differentiate a loss by the parameters of a network, twice.

    Args:
        model: The network; a float64 copy in evaluation mode is differentiated.
        loss: The loss of the whole sample, as a function of the network.
        names: Parameters to differentiate by; None for all.
        second: Whether to differentiate twice; if not, Hg is 0.
    """
    twin = copy.deepcopy(model).double().eval()
    parameters = {
        name: p.requires_grad_()
        for name, p in twin.named_parameters()
        if (p.is_floating_point() or p.is_complex()) and (names is None or name in names)
    }
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _TwiceDifferentiable():
            g = _gradient(loss(twin), parameters, create_graph=second)
            along = sum(_inner(part, part.detach()).sum() for part in g.values())
            hg = _gradient(along, parameters) if along.requires_grad else {}
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    theta = {name: p.detach() for name, p in parameters.items()}
    return Derivatives(
        theta,
        {name: part.detach() for name, part in g.items()},
        {name: hg.get(name, torch.zeros_like(p)) for name, p in theta.items()},
    )


def _inner(one: Tensor, other: Tensor) -> Tensor:
    """Entry by entry, the product; of complex numbers, as vectors of their parts."""
    return (one.conj() * other).real if one.is_complex() else one * other


def _gradient(
    value: Tensor, parameters: Mapping[str, Tensor], create_graph: bool = False
) -> dict[str, Tensor]:
    found = torch.autograd.grad(
        value,
        list(parameters.values()),
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(parameters, found, strict=True))


def worst_error(
    model: nn.Module, table: pd.DataFrame, truth: Mapping[str, Tensor], column: str
) -> float:
    """Largest error of a column, relative to the largest value of the same layer.

    Values below a thousandth of the network's largest count as if they were that large, because
    they are remainders of cancelling sums.

    Args:
        model: The network, whose modules say along which dimension their filters run.
        table: Rows of filters, from `pruneviz.measure`.
        truth: Products of a parameter's entries, by name.
        column: "theta_g" or "theta_hg".
    """
    largest = float(table[column].abs().max())
    errors = [0.0]
    for layer, rows in table.groupby("layer", observed=True, sort=False):
        got = rows[column].to_numpy(dtype=np.float64)
        chosen = rows["filter"].to_numpy()
        found = []
        for sums in _row_sums(model, truth, str(layer), int(chosen.max()) + 1):
            want = sums[chosen]
            scale = max(float(np.abs(want).max()), 1e-3 * largest)
            difference = float(np.abs(got - want).max())
            found.append(difference / scale if scale else difference)
        errors.append(min(found, default=float("inf")))
    return float("nan") if np.isnan(errors).any() else max(errors)


def _row_sums(
    model: nn.Module, truth: Mapping[str, Tensor], layer: str, filters: int
) -> list[np.ndarray]:
    """Sums over the rows of a layer's weight; of a bare parameter, along every dimension that fits.

    Layers are named after their module, or after the parameter if it is no module's `weight`.
    """
    values = truth[weight_of(model, layer)]
    if layer in truth:
        ways = [(dim,) for dim in range(values.ndim)]
        ways += [(0, dim) for dim in range(1, values.ndim)]  # a stack of matrices
        fitting = [w for w in ways if np.prod([values.shape[dim] for dim in w]) >= filters]
        return [_sums(values, way) for way in fitting]
    module = model.get_submodule(layer)
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        values = values.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1)
    if type(module).__name__ == "Conv1D":  # of GPT-2, whose weight is [inputs, outputs]
        values = values.T
    return [_sums(values, (0,))]


def weight_of(model: nn.Module, layer: str) -> str:
    """The parameter that a layer of the table is named after; a tied one has its first name."""
    names = {id(p): name for name, p in model.named_parameters()}
    return layer if layer in names.values() else names[id(model.get_submodule(layer).weight)]


def _sums(values: Tensor, dims: tuple[int, ...]) -> np.ndarray:
    others = [dim for dim in range(values.ndim) if dim not in dims]
    sums: np.ndarray = values.permute(*dims, *others).flatten(0, len(dims) - 1)[:, None]
    return sums.flatten(1).sum(1).numpy()
