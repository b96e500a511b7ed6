"""Networks that cannot be measured or pruned as they are, and forward passes that fail: named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pruneviz.errors import DataError, MeasureError, PrunevizError, UnsupportedError
from pruneviz.model.out_of_memory import is_out_of_memory


def check_supported(model: nn.Module) -> None:
    """Check that a network has ordinary modules and parameters with values.

    Args:
        model: Any network.

    Raises:
        UnsupportedError: For scripted, exported or sharded networks, and parameters without values;
            names the module or parameter and the repair.
    """
    for name, module in model.named_modules():
        reason = _module_fault(module)
        if reason:
            raise UnsupportedError(f"{_named(name, module)} {reason}")
    for name, parameter in model.named_parameters():
        reason = _parameter_fault(parameter)
        if reason:
            raise UnsupportedError(f"the parameter {name} {reason}")


def not_nested(tensor: Tensor) -> Tensor:
    """A tensor of a sample, whose first dimension counts examples.

    Raises:
        DataError: If it is a nested tensor.
    """
    if tensor.is_nested:
        raise DataError(
            "the sample holds a nested tensor, which cannot be split by examples; give a padded "
            "one, as torch.nested.to_padded_tensor(x, 0.0), with a mask of what counts"
        )
    return tensor


def rows_of(tensor: Tensor, start: int, stop: int) -> Tensor:
    """A slice of a tensor's first dimension.

    Raises:
        DataError: If torch cannot slice its layout, such as a sparse one.
    """
    try:
        return tensor[start:stop]
    except RuntimeError as error:
        if tensor.layout is torch.strided:
            raise
        raise DataError(
            f"the sample holds a tensor in the layout {tensor.layout}, of which torch takes no "
            "first examples; give a dense one, such as adjacency.to_dense()"
        ) from error


@contextmanager
def forward_explained(model: nn.Module) -> Iterator[None]:
    """Context of a forward pass that names the layer in which an error was raised.

    Errors from outside of the network's modules, such as a person's own function, pass unchanged,
    and so do lack of memory and errors of pruneviz.

    Args:
        model: The network that is called.

    Raises:
        MeasureError: If a layer fails; the original error is its cause.
    """
    try:
        yield
    except PrunevizError:
        raise
    except Exception as error:
        where = None if is_out_of_memory(error) else failing_layer(model, error.__traceback__)
        if where is None:
            raise
        raise MeasureError(
            f"the forward pass fails in {where}: {type(error).__name__}: {error}; give inputs with "
            f"which the network can be called in evaluation mode{_state(model)}"
        ) from error


def failing_layer(model: nn.Module, traceback: TracebackType | None) -> str | None:
    """The innermost module of a network in a traceback, as messages name it; None without one.

    Args:
        model: The network.
        traceback: Of an error in a forward pass.
    """
    names = {id(module): name for name, module in model.named_modules()}
    found = None
    while traceback is not None:
        frame = traceback.tb_frame
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and id(module) in names:
            found = _named(names[id(module)], module)
        traceback = traceback.tb_next
    return found


def described_layer(model: nn.Module, name: str) -> str:
    """A layer as messages name it: its name and type.

    Args:
        model: The network.
        name: Name in `model.named_modules()`; "" for the network itself.
    """
    return _named(name, model.get_submodule(name))


def _state(model: nn.Module) -> str:
    """Advice about tensors that a layer may have kept from an earlier call."""
    for name, module in model.named_modules():
        for own, value in vars(module).items():
            if isinstance(value, Tensor) and value.ndim:
                return (
                    f"; {_named(name, module)} holds {own} of shape "
                    f"{tuple(value.shape)}; if it is state of an earlier batch, reset it before "
                    "measuring"
                )
    return ""


def _named(name: str, module: nn.Module) -> str:
    kind = type(module).__name__
    return f"layer {name} ({kind})" if name else f"the network ({kind})"


def _module_fault(module: nn.Module) -> str | None:
    if isinstance(module, torch.jit.ScriptModule):
        return "is compiled by torch.jit; give the network that it was made from"
    modules = [kind.__module__ for kind in type(module).__mro__]
    if any(name.startswith("torch.export") for name in modules):
        return "was made by torch.export, which fixes its modes; give the original network"
    fsdp = sys.modules.get("torch.distributed.fsdp")
    kinds = [getattr(fsdp, name, None) for name in ("FSDPModule", "FullyShardedDataParallel")]
    if any(kind is not None and isinstance(module, kind) for kind in kinds):
        return (
            "is sharded by FSDP; measure a copy of the whole network that has the full state dict. "
            "What fully_shard (FSDP2) has sharded, pv.measure(..., ranks='share') and pv.Recorder "
            "gather themselves, called on every rank"
        )
    return None


def _parameter_fault(parameter: Tensor) -> str | None:
    if is_lazy(parameter):
        return "is not initialised yet (lazy); call the network on one batch first"
    if parameter.is_meta:
        return (
            "is on the meta device and has no values; "
            "load its weights, such as with load_state_dict(..., assign=True)"
        )
    tensors = sys.modules.get("torch.distributed.tensor")
    if tensors is not None and isinstance(parameter, tensors.DTensor):
        return (
            "is split over devices (DTensor), as of tensor-parallel layers; "
            "measure a copy of the whole network that has the full state dict"
        )
    return None
