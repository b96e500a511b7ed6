"""Pruned entries of a network's parameters: which they are, and that they stay as they were left.

Beside every parameter with pruned entries stands a boolean buffer of its shape, `<parameter>_kept`, in the module that owns the
parameter. So copies and checkpoints of a network know what is pruned, and measuring does not differentiate by what is gone. A
hook on the parameter blanks the gradient at the pruned entries, which are zero: then neither weight decay nor momentum moves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

SUFFIX = "_kept"
_HOOKED = "_gradient_is_blanked"


def kept_entries(model: nn.Module) -> dict[str, Tensor]:
    """{parameter: boolean tensor of its shape, False where pruned}, for the parameters that have pruned entries."""
    found = {}
    for name, _ in model.named_parameters():
        module, own = _owner(model, name)
        kept = getattr(module, own + SUFFIX, None)
        if isinstance(kept, Tensor):
            found[name] = kept
    return found


def prune_entries(model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Zero the entries of parameters at which `kept` {parameter: boolean tensor of its shape} is False, and hold them there.

    Entries that were pruned before stay pruned. Running statistics of a norm whose scale is pruned start anew, see `restart_statistics`.
    """
    for name, keep in kept.items():
        module, own = _owner(model, name)
        parameter = module.get_parameter(own)
        before = getattr(module, own + SUFFIX, None)
        now = keep.to(parameter.device) if before is None else before & keep.to(parameter.device)
        module.register_buffer(own + SUFFIX, now)
        if isinstance(module, _NormBase) and own == "weight":
            _restart(module, now)
    hold_pruned(model)


def restart_statistics(model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Start the running statistics of norms {name: boolean [channels]} anew, at mean 0 and variance 1, where they are not kept.

    What a pruned channel holds is 0; a norm without a scale that is pruned with it would shift that by a mean of other days.
    """
    for name, channels in kept.items():
        _restart(model.get_submodule(name), channels)


def hold_pruned(model: nn.Module) -> None:
    """Zero all pruned entries and what gradient they have, and blank it from now on; needed again after a network was copied."""
    for name, kept in kept_entries(model).items():
        module, own = _owner(model, name)
        parameter = module.get_parameter(own)
        with torch.no_grad():
            for held in (parameter, parameter.grad):
                if held is not None:
                    held.masked_fill_(~kept, 0.0)
        _blank_gradient(module, own, parameter)


def hold_in_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Zero what an optimiser remembers of pruned entries, such as their momentum."""
    parameters = dict(model.named_parameters())
    for name, kept in kept_entries(model).items():
        for value in optimizer.state.get(parameters[name], {}).values():
            if isinstance(value, Tensor) and value.shape == kept.shape:
                value.masked_fill_(~kept, 0.0)


def expect_pruned(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network the buffers that a state dict of a pruned one names, so that it can be loaded; call `hold_pruned` afterwards."""
    for name in state:
        if name.endswith(SUFFIX):
            with suppress(AttributeError):
                module, own = _owner(model, name)
                module.register_buffer(
                    own,
                    torch.ones_like(
                        module.get_parameter(own.removesuffix(SUFFIX)), dtype=torch.bool
                    ),
                )


def pruned_rows(model: nn.Module, weight: str) -> Tensor | None:
    """Which filters of a weight [filters, ...] are pruned whole: boolean [filters]; None where nothing of it is pruned."""
    module, own = _owner(model, weight)
    kept = getattr(module, own + SUFFIX, None)
    return ~kept.flatten(1).any(1) if isinstance(kept, Tensor) else None


def _blank_gradient(module: nn.Module, own: str, parameter: nn.Parameter) -> None:
    # asked of the hooks themselves: a copy has the attributes of its original, but not its hooks
    hooks: Mapping[int, object] = getattr(parameter, "_post_accumulate_grad_hooks", None) or {}
    if any(getattr(hook, _HOOKED, False) for hook in hooks.values()):
        return

    def blank(leaf: Tensor) -> None:
        if leaf.grad is not None:
            leaf.grad.masked_fill_(~getattr(module, own + SUFFIX), 0.0)

    setattr(blank, _HOOKED, True)
    frozen = not parameter.requires_grad
    parameter.requires_grad_(
        True
    )  # only such a parameter takes a hook, which then holds for good, should it be frozen or not
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
