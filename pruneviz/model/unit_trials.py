"""Trials of units on a network: what is taken for a unit must act as one.

Once the entries that read a unit's activations are zero, the entries that make them no longer
matter: changing them leaves the output as it is. Channels of a residual stream can be exchanged.
Units whose entries were assigned wrongly fail.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from pruneviz.model.filters import Trace
from pruneviz.model.isolation import copied_tensors, evaluate, isolated
from pruneviz.model.sample import call_with, measuring_dtype, tensors_in
from pruneviz.model.units import Units

_LEAK = 1e-3  # relative to the change where the units are read


@torch.no_grad()
def act_alone(model: nn.Module, trace: Trace, layers: Sequence[Units]) -> bool:
    """Whether the first and the last unit of each of these layers act through their readers alone.

    Args:
        model: The network; it does not change.
        trace: Trace of the network.
        layers: Layers of units, tried together.
    """
    generator = torch.Generator().manual_seed(0)
    names = {name for name, _ in model.named_parameters()}
    state = _awake(copied_tensors(model, measuring_dtype(model)), names, generator)
    moved, silent = dict(state), dict(state)
    for layer in layers:
        for unit in {0, layer.filters - 1}:
            for part in layer.slices:
                index = part.of(unit).to(state[part.parameter].device)
                if part.reads:
                    silent[part.parameter] = silent[part.parameter].index_fill(part.dim, index, 0.0)
                else:
                    moved[part.parameter] = _moved(
                        moved[part.parameter], part.dim, index, generator
                    )
    changed = {name: moved[name] for name in moved if moved[name] is not state[name]}
    base, heard, off, both = _outputs(model, trace, [state, moved, silent, {**silent, **changed}])
    effect = (heard - base).abs().max()
    return bool(effect > 0) and bool((both - off).abs().max() <= _LEAK * effect)


@torch.no_grad()
def are_exchangeable(model: nn.Module, trace: Trace, units: Units) -> bool:
    """Whether exchanging the first and the last unit in all their entries keeps the output.

    An output along these units, as of a network without a head, is exchanged with them.
    """
    last = units.filters - 1
    generator = torch.Generator().manual_seed(0)
    names = {name for name, _ in model.named_parameters()}
    state = _awake(copied_tensors(model, measuring_dtype(model)), names, generator)
    both, one = dict(state), dict(state)
    for part in units.slices:
        swapped = _exchanged(both[part.parameter], part.dim, part.of(0), part.of(last))
        both[part.parameter] = swapped
        if not part.reads:
            one[part.parameter] = swapped
    base, exchanged, broken = _outputs(model, trace, [state, both, one])
    effect = (broken - base).abs().max()
    candidates = [base]
    if base.shape[-1] == units.filters:
        candidates.append(_exchanged(base, -1, torch.tensor([0]), torch.tensor([last])))
    leak = min(float((exchanged - kept).abs().max()) for kept in candidates)
    return bool(effect > 0) and leak <= _LEAK * float(effect)


def _exchanged(tensor: Tensor, dim: int, first: Tensor, second: Tensor) -> Tensor:
    """A copy with two sets of positions exchanged along a dimension."""
    order = torch.arange(tensor.shape[dim])
    order[first], order[second] = second, first
    return tensor.index_select(dim, order.to(tensor.device))


def _outputs(model: nn.Module, trace: Trace, states: Sequence[dict[str, Tensor]]) -> list[Tensor]:
    """The first floating-point output of the network with other parameters."""
    found = []
    with isolated(model):
        evaluate(model)
        for state in states:
            output = call_with(model, state, trace.example, trace.forward)
            found.append(next(t for t in tensors_in(output) if t.is_floating_point()).double())
    return found


def _awake(
    state: dict[str, Tensor], parameters: Collection[str], generator: torch.Generator
) -> dict[str, Tensor]:
    """The tensors, with noise in place of zeros in weights, which would hide what they read.

    Weights start at zero in some layers, and pruned ones are zero.
    """
    return {
        name: torch.where(tensor == 0, _noise(tensor, generator), tensor)
        if name in parameters and tensor.is_floating_point() and tensor.ndim > 1
        else tensor
        for name, tensor in state.items()
    }


def _moved(tensor: Tensor, dim: int, index: Tensor, generator: torch.Generator) -> Tensor:
    """A copy with noise added at some positions along a dimension."""
    noise = _noise(tensor, generator) * (tensor.std() + 0.1)
    return tensor.index_add(dim, index, noise.index_select(dim, index))


def _noise(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=generator).to(tensor)
