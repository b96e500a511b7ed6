"""Pruned entries of a network's parameters, marked in buffers and held at zero.

The module that owns a parameter with pruned entries has a boolean buffer `<parameter>_kept` of the
same shape. Copies and checkpoints therefore know their pruned entries, and measuring excludes them
from derivatives. A hook on the parameter zeroes its gradient there, so neither the optimiser nor
weight decay moves an entry away from zero, once `hold_pruned` has cleared momentum from before.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pruneviz.errors import PruningError

_SUFFIX = "_kept"
_HOOKED = "_gradient_is_blanked"


def kept_buffer(parameter: str) -> str:
    """Name of the buffer that marks a parameter's kept entries."""
    return parameter + _SUFFIX


def parameter_of(buffer: str) -> str | None:
    """Name of the parameter that a `_kept` buffer belongs to; None for any other buffer."""
    return buffer.removesuffix(_SUFFIX) if buffer.endswith(_SUFFIX) else None


def kept_of(module: nn.Module, parameter: str) -> Tensor | None:
    """Boolean mask of kept entries in a module's own parameter; None if none is pruned."""
    kept = getattr(module, kept_buffer(parameter), None)
    return kept if isinstance(kept, Tensor) else None


def set_kept(module: nn.Module, parameter: str, kept: Tensor | None) -> None:
    """Record the kept entries of a module's own parameter, or forget them (None)."""
    if kept is not None:
        module.register_buffer(kept_buffer(parameter), kept)
    elif kept_of(module, parameter) is not None:
        delattr(module, kept_buffer(parameter))


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
    """Zero all pruned entries and their gradients, and hold them at zero from now on.

    Call it with the optimiser after pruning in the middle of training: momentum from before would
    move pruned entries away from zero. Call it after copying a pruned network or loading its state
    dict: a copy has the buffers that mark pruned entries, but not the gradient hooks. Repeated
    calls are harmless; no-op without pruned entries.

    Args:
        model: Network pruned by `Pruner`, changed in place.
        optimizer: Optimiser whose state, such as momentum, is zeroed at pruned entries. Not needed
            if it has not stepped yet.

    Example:
        >>> pruner.prune_filters({"features.0": [3]})
        >>> pv.hold_pruned(network, optimizer)
        >>> copied = copy.deepcopy(network)
        >>> pv.hold_pruned(copied)
    """
    for name, kept in kept_entries(model).items():
        module, own = _owner(model, name)
        parameter = module.get_parameter(own)
        with torch.no_grad():
            for held in (parameter, parameter.grad):
                if held is not None:
                    held.masked_fill_(~kept, 0.0)
        _blank_gradient(module, own, parameter)
        state = {} if optimizer is None else optimizer.state.get(parameter, {})
        for value in state.values():
            if isinstance(value, Tensor) and value.shape == kept.shape:
                value.masked_fill_(~kept, 0.0)


def check_held(model: nn.Module) -> None:
    """Check that every pruned entry is zero.

    Raises:
        PruningError: If one is not; names its parameter.
    """
    for name, kept in kept_entries(model).items():
        module, own = _owner(model, name)
        if module.get_parameter(own).detach()[~kept].any():
            raise PruningError(
                f"pruned entries of {name} are no longer zero: momentum from before the pruning "
                "moved them, or they were overwritten; call pruneviz.hold_pruned(model, optimizer) "
                "right after pruning, and train again from there"
            )


def expect_pruned(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Register the buffers named by the state dict of a pruned network, so that it can be loaded.

    Call `hold_pruned` after loading.
    """
    for name in state:
        parameter = parameter_of(name)
        if parameter is None:
            continue
        with suppress(
            AttributeError
        ):  # a state of another network; loading it reports the difference
            module, own = _owner(model, parameter)
            set_kept(module, own, torch.ones_like(module.get_parameter(own), dtype=torch.bool))


def pruned_rows(model: nn.Module, weight: str) -> Tensor | None:
    """Mask of fully pruned filters: boolean [filters]; None if no entry is pruned."""
    kept = kept_of(*_owner(model, weight))
    return None if kept is None else ~kept.flatten(1).any(1)


def _blank_gradient(module: nn.Module, own: str, parameter: nn.Parameter) -> None:
    # Check the hooks themselves: a copy has the attributes of its original, but not its hooks.
    hooks: Mapping[int, object] = getattr(parameter, "_post_accumulate_grad_hooks", None) or {}
    if any(getattr(hook, _HOOKED, False) for hook in hooks.values()):
        return

    def blank(leaf: Tensor) -> None:
        kept = kept_of(module, own)
        if leaf.grad is not None and kept is not None:
            leaf.grad.masked_fill_(~kept, 0.0)

    setattr(blank, _HOOKED, True)
    # Only a parameter that requires a gradient accepts a hook; freezing it again keeps the hook.
    frozen = not parameter.requires_grad
    parameter.requires_grad_(True)
    parameter.register_post_accumulate_grad_hook(blank)
    parameter.requires_grad_(not frozen)


def _restart(norm: nn.Module, kept: Tensor) -> None:
    mean, variance = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
    if isinstance(mean, Tensor) and isinstance(variance, Tensor):
        mean.masked_fill_(~kept.to(mean.device), 0.0)
        variance.masked_fill_(~kept.to(variance.device), 1.0)


def _owner(model: nn.Module, parameter: str) -> tuple[nn.Module, str]:
    path, _, own = parameter.rpartition(".")
    return model.get_submodule(path), own
