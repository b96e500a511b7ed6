"""Context managers that restore all that a forward pass can move, and settings of torch.

Inside `isolated` forward passes move nothing of a network. The other contexts restore random
generators, module modes and precision settings.
"""

from __future__ import annotations

import os
import random
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from pruneviz.errors import MeasureError, UnsupportedError
from pruneviz.model.attributes import Attributes, Restoring
from pruneviz.model.hooks import defines_function, hooks_put_aside, kept_hooks
from pruneviz.model.one_dtype import SETTINGS
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.replaced import (
    without_autocast,
    without_checkpointing,
    without_cudnn_recurrence,
    without_sparse_gradients,
)
from pruneviz.model.sample import model_device
from pruneviz.model.supported import check_supported

# environment variable; "1" also compares checksums of the weights before and after
DEBUG = "PRUNEVIZ_DEBUG"


@contextmanager
def isolated(model: nn.Module, *, hooks: bool = False, also: object = None) -> Iterator[None]:
    """Context in which forward passes move nothing of a network.

    The person's hooks are put aside (`pruneviz.model.hooks` says which ones are), Python attributes
    and members of all modules, modes and random generators are restored. Checkpointed functions run
    directly; autocast and torch's fast path for attention are off. Attributes are also restored
    before every forward pass, so that no pass sees what an earlier one cached. Call the network
    with `torch.func.functional_call` on `copied_tensors` or other tensors, so that parameters and
    buffers stay as they are too.

    Args:
        model: Any network.
        hooks: Whether the person's hooks run.
        also: A loss, whose attributes and buffers are put back too if it is a module.

    Raises:
        UnsupportedError: If the network is of a kind that cannot be measured.
        MeasureError: If a parameter was moved nevertheless; names it.

    Example:
        >>> with isolated(model):
        ...     output = functional_call(model, copied_tensors(model), (images,))
    """
    check_supported(model)
    attributes = Attributes(model)
    for hook in [] if hooks else kept_hooks(attributes.modules):
        attributes.save_function(hook)
    if isinstance(also, nn.Module):
        attributes.save_function(also)
    parameters = _named(model, attributes.modules)
    before = _marks(parameters)
    keep = _is_not_restoring if hooks else defines_function
    with ExitStack() as stack:
        stack.enter_context(_gradients_put_aside(parameters))
        stack.enter_context(generators_preserved(None, model_device(model)))
        stack.enter_context(flags_preserved(model))
        stack.callback(attributes.restore_members)
        stack.callback(attributes.restore_last)
        stack.enter_context(hooks_put_aside(attributes.modules, keep))
        stack.enter_context(slow_attention())
        stack.enter_context(without_checkpointing())
        stack.enter_context(without_autocast())
        stack.enter_context(without_cudnn_recurrence())
        stack.enter_context(without_sparse_gradients())
        stack.enter_context(_own_warnings_ignored())
        handle = model.register_forward_pre_hook(Restoring(attributes), prepend=True)
        stack.callback(handle.remove)
        yield
    _check_unmoved(before, _marks(parameters))


def copied_tensors(model: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Copies of all parameters and buffers by name, for `torch.func.functional_call`.

    Args:
        model: Any network.
        dtype: Dtype of floating-point tensors. Default: each its own.

    Returns:
        Tensors without gradients.

    Raises:
        UnsupportedError: If torch has no copy of a tensor; names it.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: _copied_by_name(name, tensor, dtype) for name, tensor in tensors.items()}


def _copied_by_name(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    try:
        return copied(tensor, dtype)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        kind = f"{tensor.dtype}, layout {tensor.layout}".replace("torch.", "")
        raise UnsupportedError(
            f"{name} is a tensor ({kind}) that torch cannot copy, and a forward pass must not move "
            f"the network's own; make it a dense tensor, or set it after the measurement"
        ) from error


def copied(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A copy of a tensor without gradient; in the precision of a dtype if it is not of integers."""
    wanted = tensor.dtype
    if dtype is not None and (tensor.is_floating_point() or tensor.is_complex()):
        wanted = dtype.to_complex() if tensor.is_complex() else dtype
    return tensor.detach().to(wanted, copy=True)


def _is_not_restoring(kind: str, hook: object) -> bool:
    return not isinstance(hook, Restoring)


@contextmanager
def _own_warnings_ignored() -> Iterator[None]:
    """Context without warnings that torch gives about itself, which may be errors."""
    with warnings.catch_warnings():
        message = ".*torch.jit.script.*is deprecated"
        warnings.filterwarnings("ignore", message, category=DeprecationWarning)
        yield


@contextmanager
def slow_attention() -> Iterator[None]:
    """Attention layers without their fast path, which has no derivatives and nests tensors."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _named(model: nn.Module, modules: list[nn.Module]) -> dict[str, Tensor]:
    """All parameters by name, also those of modules kept in plain attributes."""
    found: dict[str, Tensor] = dict(model.named_parameters())
    known = {id(parameter) for parameter in found.values()}
    for i, module in enumerate(modules):
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in known:
                found[f"{own} of the unregistered {type(module).__name__} ({i})"] = parameter
    return found


@contextmanager
def _gradients_put_aside(parameters: dict[str, Tensor]) -> Iterator[None]:
    """Put `.grad` of all parameters aside and back.

    A function that recomputes a part of the network in its backward pass would add to it.

    Raises:
        UnsupportedError: If something did; names the parameter.
    """
    before = {name: parameter.grad for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.grad = None
    try:
        yield
        written = [name for name, parameter in parameters.items() if parameter.grad is not None]
    finally:
        for name, parameter in parameters.items():
            parameter.grad = before[name]
    if written:
        raise UnsupportedError(
            f"the network differentiates a part of itself that holds {written[0]}, as activation "
            "checkpointing of its own does; switch that off while measuring"
        )


def _marks(parameters: dict[str, Tensor]) -> dict[str, tuple[object, ...]]:
    """What shows that a parameter was moved, by its name."""
    return {name: _mark(parameter) for name, parameter in parameters.items()}


def _mark(parameter: Tensor) -> tuple[object, ...]:
    version = None if parameter.is_inference() else parameter._version
    checksum = _checksum(parameter) if os.environ.get(DEBUG) == "1" else None
    return version, checksum


def _checksum(tensor: Tensor) -> int:
    data = tensor.detach().cpu().contiguous().reshape(-1)
    return zlib.crc32(data.view(torch.uint8).numpy().tobytes())


def _check_unmoved(
    before: dict[str, tuple[object, ...]], after: dict[str, tuple[object, ...]]
) -> None:
    moved = [name for name in before if after[name] != before[name]]
    if moved:
        raise MeasureError(
            f"measuring moved the parameter {moved[0]}: the network, or a function it was given, "
            "writes into its weights in place; load the weights again, and write into a copy"
        )


@contextmanager
def generators_preserved(sample: object, device: torch.device) -> Iterator[None]:
    """Restore the state of every random generator.

    Covers Python, NumPy, torch on the CPU and on `device`, and the generators of a data loader.
    """
    holders = (sample, getattr(sample, "sampler", None))
    held = [getattr(holder, "generator", None) for holder in holders]
    own = {id(generator): generator for generator in held if isinstance(generator, torch.Generator)}
    with SETTINGS:
        states = [(g, g.get_state()) for g in own.values()]
        # NPY002: training loops use NumPy's legacy generator
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            try:
                yield
            finally:
                random.setstate(python)
                np.random.set_state(numpy)  # noqa: NPY002
                for generator, state in states:
                    generator.set_state(state)


@contextmanager
def flags_preserved(model: nn.Module) -> Iterator[None]:
    """Restore the train/eval flag of every module."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


def evaluate(model: nn.Module) -> None:
    """Put all modules into evaluation mode, without calling their `train` or `eval`.

    An overridden `train` may do more than set flags, such as merge adapters into weights.

    Args:
        model: Network to change in place.
    """
    for module in model.modules():
        module.training = False


@contextmanager
def module_modes(model: nn.Module, bn: str) -> Iterator[None]:
    """Put modules into evaluation mode and batch norms into the mode `bn`; restore all.

    Raises:
        MeasureError: If a batch norm keeps no running statistics and `bn` is not "batch" (results
            would depend on the chunk), or a batch with one value would be normalised by itself.
    """
    with flags_preserved(model):
        evaluate(model)
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm):
                if bn != "batch" and module.running_mean is None:
                    raise MeasureError(
                        f"batch norm {name} keeps no running statistics, so bn={bn!r} has none to "
                        "use; pass bn='batch'"
                    )
                module.training = bn == "batch"
        try:
            yield
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise MeasureError(
                f"bn={bn!r} has a batch of one example and no statistics for it; "
                "give larger batches"
            ) from error


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute in exact float32 with gradients enabled; restore all settings.

    Autocast and reduced-precision matrix units are off. Attention uses its plain formula and
    compiled networks run eagerly, because the fast forms have no second derivative.
    """
    with SETTINGS, ExitStack() as stack:
        for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for units in matrix_units():
            stack.callback(setattr, units, "fp32_precision", units.fp32_precision)
            units.fp32_precision = "ieee"
        yield


@contextmanager
def tried_kernels(device: torch.device) -> Iterator[None]:
    """On a GPU, let cuDNN benchmark the algorithms of every new convolution; restore the setting.

    The first convolution of a shape takes tens of milliseconds longer. The fastest algorithm, and
    so rounding, may differ between processes; no-op if deterministic algorithms are required.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark
    deterministic = cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
    cudnn.benchmark = before or (device.type == "cuda" and not deterministic)
    try:
        yield
    finally:
        cudnn.benchmark = before


def matrix_units() -> list[Any]:
    """The settings `fp32_precision` of torch's backends."""
    # The older allow_tf32 flags cannot be read once a program has used these, and restoring them
    # would lose the precision "medium".
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    return [backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
