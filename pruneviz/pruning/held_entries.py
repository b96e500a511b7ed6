"""Pruned entries of a network's parameters, held at zero.

Every module with pruned entries has a boolean mask for each of its own parameters that has some.
Copies and checkpoints therefore know their pruned entries, and measuring excludes them from
derivatives. `pruneviz.pruning.mask_hooks` applies the masks: no optimiser, weight decay or momentum
moves a pruned entry.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pruneviz.errors import PruningError
from pruneviz.pruning.mask_hooks import (
    blank_state,
    gradient_mask,
    hold,
    mask_on,
    masks_of,
    set_mask,
    watch_over,
)


def kept_of(module: nn.Module, parameter: str) -> Tensor | None:
    """Boolean mask of kept entries in a module's own parameter; None if none is pruned."""
    return mask_on(module, parameter)


def set_kept(module: nn.Module, parameter: str, kept: Tensor | None) -> None:
    """Record the kept entries of a module's own parameter, or forget them (None)."""
    set_mask(module, parameter, kept)


def forget_masks(model: nn.Module) -> None:
    """Forget which entries are pruned; their zeros stay until something moves them."""
    for module in model.modules():
        for parameter in tuple(masks_of(module)):
            set_mask(module, parameter, None)


def kept_entries(model: nn.Module) -> dict[str, Tensor]:
    """Kept entries {parameter: boolean tensor} of the parameters with pruned entries."""
    found = {}
    for name, _ in model.named_parameters():
        kept = kept_of(*_owner(model, name))
        if kept is not None:
            found[name] = kept
    return found


def prune_entries(model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Zero entries of parameters and hold them at zero.

    Already pruned entries stay pruned. Running statistics of pruned norm channels are reset, see
    `restart_statistics`.

    Args:
        model: Network to prune in place.
        kept: {parameter: boolean mask}, False at the entries to prune.
    """
    for name, keep in kept.items():
        module, own = _owner(model, name)
        before = kept_of(module, own)
        # A copy, because scale and bias of a norm often get one tensor, which they must not share.
        now = keep.to(module.get_parameter(own).device, copy=True)
        if before is not None:
            now = before & now
        set_kept(module, own, now)
        if isinstance(module, _NormBase) and own == "weight":
            _restart(module, now)
    hold_pruned(model)


def prune_like(network: nn.Module, pruned: nn.Module) -> None:
    """Prune a network at the entries that are pruned in another of the same architecture.

    For averages of weights (EMA, SWA) that were started before the pruning: their values at pruned
    entries are those of unpruned networks, and would only fade.

    Args:
        network: Network to prune in place; for `AveragedModel`, its `module`.
        pruned: Network pruned by `Pruner`.

    Raises:
        PruningError: If the network lacks a pruned parameter, or its shape differs.

    Example:
        >>> pruner.prune(table, "magnitude", gone)
        >>> pv.prune_like(averaged.module, network)
    """
    own, kept = dict(network.named_parameters()), kept_entries(pruned)
    for name, keep in kept.items():
        if name not in own or own[name].shape != keep.shape:
            found = tuple(own[name].shape) if name in own else "none"
            raise PruningError(
                f"the pruned network has {name} of shape {tuple(keep.shape)}, this network has "
                f"{found}; give two networks of the same architecture"
            )
    prune_entries(network, kept)


def restart_statistics(model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Reset the running statistics of pruned channels to mean 0 and variance 1.

    A pruned channel is zero; a norm without a scale would shift it by an outdated mean.

    Args:
        model: Network to change in place.
        kept: {norm: boolean [channels]}, False where the channel is pruned.
    """
    for name, channels in kept.items():
        _restart(model.get_submodule(name), channels)


def hold_pruned(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Zero all pruned entries now, not before the next forward pass or step.

    Training needs no call: pruned entries are zeroed before every forward pass and after every step
    of any torch optimiser. Call it after overwriting weights by hand, before they are read.
    Repeated calls are harmless; no-op without pruned entries.

    Args:
        model: Network pruned by `Pruner`, changed in place.
        optimizer: Optimiser whose gradients and state, such as momentum, are zeroed too.

    Example:
        >>> with torch.no_grad():
        ...     network.features[0].weight.add_(noise)
        >>> pv.hold_pruned(network)
    """
    watch_over(model)
    for module in model.modules():
        hold(module)
    for parameter in model.parameters():
        mask = gradient_mask(parameter)
        if mask is not None:
            mask.zero(parameter.grad)
    if optimizer is not None:
        blank_state(optimizer)


def check_held(model: nn.Module) -> None:
    """Check that every pruned entry is zero.

    Raises:
        PruningError: If one is not; names its parameter.
    """
    for name, kept in kept_entries(model).items():
        module, own = _owner(model, name)
        if module.get_parameter(own).detach()[~kept].any():
            raise PruningError(
                f"pruned entries of {name} are no longer zero: something wrote to them "
                "that passes over the hooks of torch optimisers, such as a compiled step or an "
                "assignment; call pruneviz.hold_pruned(model), which zeroes them"
            )


def pruned_rows(model: nn.Module, weight: str) -> Tensor | None:
    """Mask of fully pruned filters: boolean [filters]; None if no entry is pruned."""
    kept = kept_of(*_owner(model, weight))
    return None if kept is None else ~kept.flatten(1).any(1)


def _restart(norm: nn.Module, kept: Tensor) -> None:
    mean, variance = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
    if isinstance(mean, Tensor) and isinstance(variance, Tensor):
        mean.masked_fill_(~kept.to(mean.device), 0.0)
        variance.masked_fill_(~kept.to(variance.device), 1.0)


def _owner(model: nn.Module, parameter: str) -> tuple[nn.Module, str]:
    path, _, own = parameter.rpartition(".")
    return model.get_submodule(path), own
