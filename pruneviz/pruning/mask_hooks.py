"""Hooks that keep pruned entries at zero, whatever moves the parameters.

A module has the masks of its own parameters in an attribute, so copies, pickles and
`torch.save(model)` have them too. They are applied at three places, each of which suffices for what
comes after it: before every forward pass of the module, to every accumulated gradient, and around
every step of any torch optimiser that holds the parameter. Nothing is a buffer: averaging a
network (`AveragedModel`) averages no masks, and a state dict has no further keys. Masks travel in
the metadata of a state dict, which `torch.save` writes and `load_state_dict` of a pruned network
reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.optim import Optimizer
from torch.optim import optimizer as optimizers

MASK_SUFFIX = "_kept"  # of keys of masks in the state dicts of checkpoints
METADATA = "kept"  # key of masks in the metadata of a state dict
_MASKS = "kept_masks"
_WARDS = "masked_children"  # children that forward passes read, but never call
_HOOKS = (
    "_forward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
    "_state_dict_pre_hooks",
)

_META = torch.device("meta")


def masks_of(module: nn.Module) -> Mapping[str, Tensor]:
    """The masks of a module's own parameters: {name: boolean, False at pruned entries}."""
    masks: Mapping[str, Tensor] = module.__dict__.get(_MASKS, {})
    return masks


def mask_on(module: nn.Module, name: str) -> Tensor | None:
    """The mask of a module's own parameter on its device; None if it has none."""
    mask, parameter = masks_of(module).get(name), module._parameters.get(name)
    if mask is None or parameter is None or parameter.device in (mask.device, _META):
        return mask
    module.__dict__[_MASKS] = {**masks_of(module), name: mask.to(parameter.device)}
    return masks_of(module)[name]


def set_mask(module: nn.Module, name: str, mask: Tensor | None) -> None:
    """Set the mask of a module's own parameter, or take it away (None).

    The hooks are those of the masks: a module without masks has none.
    """
    others = {own: value for own, value in masks_of(module).items() if own != name}
    masks = others if mask is None else {**others, name: mask}
    parameter = module._parameters.get(name)
    if mask is None and parameter is not None:
        _disarm(parameter)
    if masks:
        module.__dict__[_MASKS] = masks
        _dress(module)
    elif _MASKS in module.__dict__:
        del module.__dict__[_MASKS]
        _undress(module)


def watch_over(network: nn.Module) -> None:
    """Let attention modules hold the output projection that they read but never call."""
    for module in network.modules():
        wards = [
            name
            for name, child in module.named_children()
            if isinstance(child, NonDynamicallyQuantizableLinear) and masks_of(child)
        ]
        if wards:
            module.__dict__[_WARDS] = wards
            _register(module, "_forward_pre_hooks", _hold, module.register_forward_pre_hook)


def hold(module: nn.Module) -> None:
    """Zero the pruned entries of a module's own parameters, and arm their gradients."""
    for name in masks_of(module):
        parameter, mask = module._parameters.get(name), mask_on(module, name)
        # A functional call puts other tensors in the place of parameters.
        if isinstance(parameter, nn.Parameter) and mask is not None:
            _arm(parameter, mask).zero(parameter)


class GradientMask:
    """Hook on a parameter that zeroes accumulated gradients at pruned entries.

    Args:
        kept: Boolean mask, False at pruned entries.
    """

    def __init__(self, kept: Tensor) -> None:
        self.kept = kept
        self._gone, self._factors = ~kept, kept.float()
        self._nothing = self._factors.new_zeros(())

    def __call__(self, leaf: Tensor) -> None:
        """Zero the gradient of a parameter at its pruned entries."""
        self.zero(leaf.grad)

    def gone_on(self, parameter: Tensor) -> Tensor:
        """The pruned entries, on the device of a parameter."""
        if self._gone.device != parameter.device:
            self._gone = self._gone.to(parameter.device)
        return self._gone

    def zero(self, tensor: Tensor | None) -> None:
        """Zero the pruned entries of a parameter, its gradient, or other tensors of its shape.

        Derivatives do not see it, and the module of a parameter may be called twice in one pass.
        """
        if tensor is None or tensor.layout != torch.strided:
            return
        values = tensor.data
        if values.device.type == "cpu" and values.is_floating_point():
            # A product takes a sixth of the time, but NaN and infinity times 0 are NaN.
            if self._factors.dtype != values.dtype or self._factors.device != values.device:
                self._factors = self.kept.to(values.device, values.dtype)
                self._nothing = self._factors.new_zeros(())
            # The sum with 0 turns -0 into 0.
            torch.addcmul(self._nothing, values, self._factors, out=values)
            if math.isfinite(values.sum()):
                return
        values.masked_fill_(self.gone_on(values), 0.0)


def gradient_mask(parameter: Tensor) -> GradientMask | None:
    """The hook on a parameter with pruned entries; None for any other tensor."""
    hooks = getattr(parameter, "_post_accumulate_grad_hooks", None)
    found = (hook for hook in (hooks or {}).values() if type(hook) is GradientMask)
    return next(found, None)


def blank_state(optimizer: Optimizer) -> None:
    """Zero the gradients and the state, such as momentum, that an optimiser has of pruned entries.

    The history of an optimiser that flattens all parameters (L-BFGS) begins anew if it has some.
    """
    for group in optimizer.param_groups:
        masked = False
        for parameter in group["params"]:
            mask = gradient_mask(parameter)
            if mask is None:
                continue
            masked = True
            mask.zero(parameter.grad)
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    mask.zero(value)
        if masked:
            _restart_flat(optimizer, group["params"])


def _arm(parameter: nn.Parameter, kept: Tensor) -> GradientMask:
    """Hook the gradient of a parameter; copies of parameters have no hooks of their originals."""
    _hook_optimizers()
    mask = gradient_mask(parameter)
    if mask is not None and mask.kept is kept:
        return mask
    _disarm(parameter)
    mask = GradientMask(kept)
    if parameter.requires_grad:  # a frozen one is hooked when it is trained
        parameter.register_post_accumulate_grad_hook(mask)
    return mask


def _disarm(parameter: nn.Parameter) -> None:
    hooks = getattr(parameter, "_post_accumulate_grad_hooks", None) or {}
    for key in [key for key, hook in hooks.items() if type(hook) is GradientMask]:
        del hooks[key]


# Hooks on optimisers. There is no other way from a parameter to the optimisers that hold it than
# torch's hooks on all of them; they pass over parameters without masks.


def _hook_optimizers() -> None:
    if _before_step not in optimizers._global_optimizer_pre_hooks.values():
        optimizers.register_optimizer_step_pre_hook(_before_step)
    if _after_step not in optimizers._global_optimizer_post_hooks.values():
        optimizers.register_optimizer_step_post_hook(_after_step)


def _before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    blank_state(optimizer)


def _after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            mask = gradient_mask(parameter)
            if mask is not None:
                mask.zero(parameter)


def _restart_flat(optimizer: Optimizer, parameters: list[Tensor]) -> None:
    """Forget a history of flattened parameters that has more than zeros at pruned entries."""
    state = optimizer.state.get(parameters[0], {})
    total = sum(parameter.numel() for parameter in parameters)
    flat = [
        value
        for value in _listed(state)
        if value.shape == (total,) and value.shape != parameters[0].shape
    ]
    if flat:
        gone = torch.cat([_gone(parameter).flatten() for parameter in parameters])
        if any(value[gone].any() for value in flat):
            state.clear()


def _gone(parameter: Tensor) -> Tensor:
    mask = gradient_mask(parameter)
    if mask is None:
        return torch.zeros_like(parameter, dtype=torch.bool)
    return mask.gone_on(parameter)


def _listed(state: Mapping[str, Any]) -> Iterator[Tensor]:
    for value in state.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Tensor):
                yield item


# Hooks on modules, by reference to functions of this module, so that they can be pickled.


def _hold(module: nn.Module, args: Any) -> None:
    if torch.compiler.is_compiling():
        _hold_compiled(module)
        return
    hold(module)
    for name in module.__dict__.get(_WARDS, ()):
        hold(module.get_submodule(name))


def _hold_compiled(module: nn.Module) -> None:
    with torch.no_grad():
        for name, mask in masks_of(module).items():
            module._parameters[name].masked_fill_(~mask, 0.0)  # type: ignore[union-attr]


def _write_masks(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    metadata[METADATA] = dict(masks_of(module))


def _before_saving(module: nn.Module, prefix: str, keep_vars: bool) -> None:
    hold(module)


def _read_masks(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any], *rest: Any
) -> None:
    """Take over the masks of a state dict: from its metadata, or its keys in older checkpoints."""
    found = dict(metadata.get(METADATA, {}))
    for name in module._parameters:
        key = prefix + name + MASK_SUFFIX
        if key in state:
            found[name] = state.pop(key)
    for name in {**masks_of(module)} if found else ():
        set_mask(module, name, None)
    for name, mask in found.items():
        set_mask(module, name, mask)


def _after_loading(module: nn.Module, incompatible: Any) -> None:
    hold(module)


def _dress(module: nn.Module) -> None:
    """Register the hooks of a module with masks, once."""
    _register(module, _HOOKS[0], _hold, module.register_forward_pre_hook)
    _register(module, _HOOKS[1], _write_masks, module.register_state_dict_post_hook)
    _register(module, _HOOKS[2], _read_masks, module.register_load_state_dict_pre_hook)
    _register(module, _HOOKS[3], _after_loading, module.register_load_state_dict_post_hook)
    _register(module, _HOOKS[4], _before_saving, module.register_state_dict_pre_hook)


def _register(
    module: nn.Module, kind: str, hook: Callable[..., None], register: Callable[..., Any]
) -> None:
    if hook not in map(_plain, module.__dict__[kind].values()):
        register(hook)


def _undress(module: nn.Module) -> None:
    own = {_hold, _write_masks, _read_masks, _after_loading, _before_saving}
    for kind in _HOOKS:
        hooks = module.__dict__[kind]
        for key in [key for key, hook in hooks.items() if _plain(hook) in own]:
            del hooks[key]


def _plain(hook: Any) -> Any:
    """The function in torch's wrapper of a hook."""
    return getattr(hook, "hook", hook)
