"""Trials of units on a network: what is taken for a unit must act as one.

Once the entries that read a unit's activations are zero, the entries that make them no longer
matter: changing them leaves the output as it is. Units whose rows were assigned wrongly fail.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    state = _awake(copied_tensors(model, measuring_dtype(model)), generator)
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


def _outputs(model: nn.Module, trace: Trace, states: Sequence[dict[str, Tensor]]) -> list[Tensor]:
    """The first floating-point output of the network with other parameters."""
    found = []
    with isolated(model):
        evaluate(model)
        for state in states:
            output = call_with(model, state, trace.example, trace.forward)
            found.append(next(t for t in tensors_in(output) if t.is_floating_point()).double())
    return found


def _awake(state: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """The tensors, with noise in place of those that are zero, which would hide what they read."""
    return {
        name: _noise(tensor, generator)
        if tensor.is_floating_point() and tensor.ndim > 1 and not tensor.any()
        else tensor
        for name, tensor in state.items()
    }


def _moved(tensor: Tensor, dim: int, index: Tensor, generator: torch.Generator) -> Tensor:
    """A copy with noise added at some positions along a dimension."""
    noise = _noise(tensor, generator) * (tensor.std() + 0.1)
    return tensor.index_add(dim, index, noise.index_select(dim, index))


def _noise(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=generator).to(tensor)
