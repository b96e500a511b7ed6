"""Residual-stream dimensions as units: what writes a channel of the stream, and what reads it.

The width of the stream is the most frequent size of the norms' vectors. Weights have rows that
write it, columns that read it, or both; a square weight is told by the heads and neurons that it
belongs to. What is found is tried: exchanging two channels everywhere must not change the output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruneviz.errors import MeasureError
from pruneviz.model.filters import Trace
from pruneviz.model.unit_trials import are_exchangeable
from pruneviz.model.units import Slices, Units
from pruneviz.model.weights import linear_maps

Finder = Callable[[nn.Module, Trace], list[Units]]

_GROUPING = "give a grouping {name: [(parameter, dim, indices), ...]} as unit instead"


def residual_channels(model: nn.Module, trace: Trace, inner: tuple[Finder, ...]) -> list[Units]:
    """The channels of the residual stream, as one layer named "residual".

    Args:
        model: The network.
        trace: Its trace.
        inner: Finders of the units between which the stream runs: heads and neurons.

    Raises:
        MeasureError: If there is no stream, or exchanging two channels changes the output.
    """
    width = _width(model)
    if width is None:
        raise MeasureError(
            f"{type(model).__name__} has no residual stream: no layer norm or RMS norm, whose size "
            f"would be its width; {_GROUPING}"
        )
    parts = tuple(_slices(model, width, _inner_dims(model, trace, inner)))
    units = Units("residual", "residual", width, parts)
    if not are_exchangeable(model, trace, units):
        raise MeasureError(
            f"the residual stream of {type(model).__name__}, {width} channels wide, is not "
            f"understood: exchanging two of its channels in all weights changes the output; "
            f"{_GROUPING}"
        )
    return [units]


def _width(model: nn.Module) -> int | None:
    """The most frequent size of the norms' scales; the largest of equally frequent ones."""
    sizes = Counter(
        len(p)
        for module in model.modules()
        for own, p in module.named_parameters(recurse=False)
        if own == "weight" and p.ndim == 1 and not isinstance(module, _BatchNorm)
    )
    return max(sizes, key=lambda size: (sizes[size], size)) if sizes else None


def _inner_dims(model: nn.Module, trace: Trace, inner: tuple[Finder, ...]) -> set[tuple[str, int]]:
    """(weight, dimension) of the heads and neurons, which do not run along the stream."""
    found: set[tuple[str, int]] = set()
    for find in inner:
        with suppress(MeasureError):  # a network may have only one of them
            for units in find(model, trace):
                found |= {(part.parameter, part.dim) for part in units.slices}
    return found


def _slices(model: nn.Module, width: int, inner: set[tuple[str, int]]) -> Iterator[Slices]:
    rows = {map_.parameter: map_.dims[0] for _, map_ in linear_maps(model)}
    index = torch.arange(width)
    biases: dict[str, bool] = {}  # whether a bias of a linear map writes the stream
    for name, parameter in model.named_parameters():
        path, dot, own = name.rpartition(".")
        if name in rows:
            sizes = enumerate(parameter.shape)
            fitting = [d for d, size in sizes if size == width and (name, d) not in inner]
            # a square weight of neither heads nor neurons reads the stream
            dim = next((d for d in fitting if d != rows[name]), None)
            dim = rows[name] if dim is None and rows[name] in fitting else dim
            writes = dim == rows[name]
            biases[path + dot + own.replace("weight", "bias")] = writes
            if dim is not None:
                yield Slices(name, dim, index, index, reads=not writes)
    for name, parameter in model.named_parameters():
        dims = [dim for dim, size in enumerate(parameter.shape) if size == width]
        if name not in rows and dims and biases.get(name, True):
            yield Slices(name, dims[-1], index, index)
