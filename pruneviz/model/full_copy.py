"""The whole of a network whose parameters FSDP2 has sharded, as a plain copy on each rank.

Second derivatives do not go through the collective operations of FSDP, so a sharded network is
measured as the network that it stands for: the same modules with whole parameters, without FSDP's
hooks. The network itself stays sharded.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pruneviz.errors import UnsupportedError

_OF_FSDP = ("_is_fsdp_managed_module", "_fsdp_use_orig_params")
_STATE = "__composable_api_state_key"
_HOME = "torch.distributed."


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP2 (`fully_shard`) has sharded a network or a part of it."""
    kind = _fsdp_module()
    return kind is not None and any(isinstance(module, kind) for module in model.modules())


def check_only_sharded(model: nn.Module) -> None:
    """Check that a network's distributed tensors are shards of FSDP2 alone.

    Raises:
        UnsupportedError: If one is split in another way, such as tensor-parallel; names it.
    """
    kind, of_fsdp = _dtensor(), _fsdp_module()
    if kind is None:
        return
    for name, module in model.named_modules():
        hooks = [hook for _, own in _hooks(module) for hook in own.values()]
        if any(_home(hook).startswith(f"{_HOME}tensor") for hook in hooks):
            raise UnsupportedError(f"layer {name} ({type(module).__name__}) {_PARALLEL}")
    inside = {
        id(parameter)
        for module in model.modules()
        if of_fsdp is not None and isinstance(module, of_fsdp)
        for parameter in module.parameters()
    }
    for name, parameter in model.named_parameters():
        if isinstance(parameter, kind) and not (id(parameter) in inside and _is_shard(parameter)):
            split = ", ".join(map(str, parameter.placements))
            raise UnsupportedError(f"the parameter {name} ({split}) {_PARALLEL}")


_PARALLEL = (
    "is tensor-parallel, and its layers exchange activations while they are called, which a "
    "second derivative cannot follow; measure a copy of the whole network that has the full state "
    "dict"
)


class FullCopy:
    """A plain copy of a network that FSDP2 has sharded. All ranks make and refresh it together.

    Args:
        model: The sharded network.

    Attributes:
        network: The copy, on the device where the network computes.

    Raises:
        UnsupportedError: If a module cannot be copied; names it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._twins = {id(module): _bare(module) for module in model.modules()}
        self._whole: dict[str, nn.Parameter] = {}
        self.network = self._twins[id(model)]
        self.refresh()

    def refresh(self) -> None:
        """Make the copy what the network is now."""
        memo: dict[int, Any] = dict(self._twins)
        _resharded(self._model)
        for name, parameter in self._model.named_parameters():
            memo[id(parameter)] = self._filled(name, parameter)
        for name, module in self._model.named_modules():
            twin = self._twins.get(id(module))
            if twin is None:
                raise UnsupportedError(
                    f"layer {name} ({type(module).__name__}) was added to a sharded network after "
                    "its recorder was made; make the recorder once the network is complete"
                )
            try:
                own = {key: copy.deepcopy(value, memo) for key, value in _content(module)}
            except Exception as error:
                raise UnsupportedError(
                    f"layer {name} ({type(module).__name__}) of a sharded network cannot be "
                    f"copied: {type(error).__name__}: {error}; measure a copy of the whole network "
                    "that has the full state dict"
                ) from error
            vars(twin).clear()
            vars(twin).update(own)

    def _filled(self, name: str, parameter: nn.Parameter) -> nn.Parameter:
        """The whole of a parameter, always in the same object."""
        whole = _whole(parameter)
        if name not in self._whole:
            self._whole[name] = nn.Parameter(whole.clone(), requires_grad=False)
        own = self._whole[name]
        with torch.no_grad():
            own.copy_(whole)
        own.grad = None
        # a copy is measured: it is trained by nobody, but `parameters="trainable"` reads the flag
        own.requires_grad_(parameter.requires_grad)
        return own


def full_size(model: nn.Module) -> tuple[int, int]:
    """Numbers in a network's whole parameters, and the bytes that they take."""
    sizes = [(p.numel(), p.element_size()) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n * each for n, each in sizes)


def _whole(parameter: Tensor) -> Tensor:
    kind = _dtensor()
    if kind is None or not isinstance(parameter, kind):
        return parameter.detach()
    shard = parameter.detach()
    home = shard.device_mesh.device_type
    if shard.device.type != home:  # kept on the CPU, gathered where the network computes
        shard = shard.to(home)
    found: Tensor = shard.full_tensor()
    return found


def _resharded(model: nn.Module) -> None:
    """Let go of whole parameters that FSDP has left from a forward pass, rounded as it computes."""
    kind = _fsdp_module()
    for module in model.modules():
        if kind is not None and isinstance(module, kind):
            module.reshard()


def _bare(module: nn.Module) -> nn.Module:
    """An empty module of the type that a module had before it was sharded."""
    kind, of_fsdp = type(module), _fsdp_module()
    if of_fsdp is not None and issubclass(kind, of_fsdp):
        kind = kind.__mro__[kind.__mro__.index(of_fsdp) + 1]
    return kind.__new__(kind)


def _content(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The attributes of a module, without those of FSDP and without its hooks."""
    hooks = dict(_hooks(module))
    for name, value in vars(module).items():
        if name in hooks:
            own = [(key, hook) for key, hook in value.items() if not _home(hook).startswith(_HOME)]
            yield name, type(value)(own)
        elif not name.startswith(_STATE) and name not in _OF_FSDP:
            yield name, value


def _hooks(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if name.endswith("_hooks") and isinstance(value, dict):
            yield name, value


def _home(hook: Any) -> str:
    """The Python module that a hook was written in."""
    hook = getattr(hook, "hook", hook)  # as torch wraps hooks that get their module
    owner = getattr(hook, "__self__", None)
    return str(getattr(hook if owner is None else type(owner), "__module__", ""))


def _is_shard(parameter: Any) -> bool:
    """Whether a distributed tensor is split over one dimension of its mesh, the last, at most."""
    *copies, last = parameter.placements
    return all(place.is_replicate() for place in copies) and last.is_shard()


def _dtensor() -> Any:
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)


def _fsdp_module() -> Any:
    return getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
