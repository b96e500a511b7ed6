"""A copy of a network without some of its parameters' entries, and where the others were before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from pruneviz.pruning.held_entries import hold_pruned, kept_entries, set_kept


def shrunk(
    network: nn.Module, cut: Callable[[nn.Module], None]
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Copy a network and cut the copy.

    Args:
        network: It does not change.
        cut: Takes slices of parameters out of a network in place.

    Returns:
        The copy, with the masks of what is left, and {parameter: indices of its entries in the
        flattened old parameter}.
    """
    smaller, originals = deepcopy(network), dict(network.named_parameters())
    for parameter in smaller.parameters():
        # Every entry carries its index through `cut`; float64 represents it exactly.
        positions = torch.arange(parameter.numel(), dtype=torch.float64, device=parameter.device)
        parameter.data = positions.view(parameter.shape)
    cut(smaller)
    entries = {}
    for name, parameter in smaller.named_parameters():
        original = originals[name]
        values = original.detach()
        entries[name] = parameter.data.long().flatten()
        if parameter.shape == original.shape:
            parameter.data = values.clone()
        else:
            parameter.data = values.flatten()[entries[name]].view(parameter.shape)
        parameter.requires_grad_(original.requires_grad)
    _slice_kept(smaller, kept_entries(network), entries)
    hold_pruned(smaller)
    return smaller, entries


def _slice_kept(
    smaller: nn.Module, kept: Mapping[str, Tensor], entries: Mapping[str, Tensor]
) -> None:
    """Slice the masks of kept entries too; drop masks without pruned entries."""
    for name, before in kept.items():
        path, _, own = name.rpartition(".")
        module = smaller.get_submodule(path)
        left = before.flatten()[entries[name].to(before.device)]
        shape = module.get_parameter(own).shape
        set_kept(module, own, None if left.all() else left.view(shape))
