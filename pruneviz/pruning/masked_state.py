"""State dicts with the masks of pruned entries as further keys.

`model.state_dict()` of a pruned network has the keys of the unpruned one, and its masks in metadata
that `torch.save` writes. Formats for tensors alone, such as safetensors, and copies as a plain
`dict` lose the metadata; in these functions a mask is a tensor beside its parameter, in the key
`<parameter>_kept`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pruneviz.pruning.held_entries import forget_masks, hold_pruned, kept_entries, set_kept
from pruneviz.pruning.mask_hooks import MASK_SUFFIX, METADATA


def state_with_masks(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a network, with the masks of pruned entries as boolean tensors.

    Any format for tensors can hold it. Without pruned entries it is the state dict.

    Args:
        model: Any network.

    Example:
        >>> safetensors.torch.save_file(pv.state_with_masks(network), "pruned.safetensors")
    """
    masks = {name + MASK_SUFFIX: kept for name, kept in kept_entries(model).items()}
    return {**model.state_dict(), **masks}


def load_with_masks(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict and prune the entries that were pruned when it was made.

    Args:
        model: Network of the same architecture, pruned or not; changed in place.
        state: From `state_with_masks`, or from `state_dict()` of a pruned or unpruned network.

    Raises:
        RuntimeError: If the state is of another network.

    Example:
        >>> pv.load_with_masks(network, safetensors.torch.load_file("pruned.safetensors"))
    """
    masks = _masks_in(model, state)
    plain = OrderedDict((key, v) for key, v in state.items() if _parameter(key) not in masks)
    if hasattr(state, "_metadata"):
        plain._metadata = state._metadata  # type: ignore[attr-defined]
    forget_masks(model)
    model.load_state_dict(plain)
    for name, kept in masks.items():
        path, _, own = name.rpartition(".")
        set_kept(model.get_submodule(path), own, kept.clone())
    hold_pruned(model)


def _masks_in(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks of a state dict that fit parameters of a network, from metadata or keys."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found = {}
    for prefix, metadata in getattr(state, "_metadata", {}).items():
        for own, kept in metadata.get(METADATA, {}).items():
            found[f"{prefix}.{own}" if prefix else own] = kept
    own_keys = model.state_dict().keys()
    for key, value in state.items():
        if key.endswith(MASK_SUFFIX) and key not in own_keys and value.dtype == torch.bool:
            found[_parameter(key)] = value
    return {
        name: kept
        for name, kept in found.items()
        if name in parameters and parameters[name].shape == kept.shape
    }


def _parameter(key: str) -> str:
    return key.removesuffix(MASK_SUFFIX) if key.endswith(MASK_SUFFIX) else ""
