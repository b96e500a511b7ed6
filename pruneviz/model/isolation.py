"""Context managers that restore random generators, module modes and precision settings."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from pruneviz.errors import MeasureError


@contextmanager
def generators_preserved(sample: object, device: torch.device) -> Iterator[None]:
    """Restore the state of every random generator.

    Covers Python, NumPy, torch on the CPU and on `device`, and the generators of a data loader.
    """
    holders = (sample, getattr(sample, "sampler", None))
    held = [getattr(holder, "generator", None) for holder in holders]
    own = {id(generator): generator for generator in held if isinstance(generator, torch.Generator)}
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


@contextmanager
def module_modes(model: nn.Module, bn: str) -> Iterator[None]:
    """Put modules into evaluation mode and batch norms into the mode `bn`; restore all.

    Raises:
        MeasureError: If a batch norm keeps no running statistics and `bn` is not "batch" (results
            would depend on the chunk), or a batch with one value would be normalised by itself.
    """
    with flags_preserved(model):
        model.eval()
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
    with ExitStack() as stack:
        for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for units in _matrix_units():
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


def _matrix_units() -> list[Any]:
    """The settings `fp32_precision` of torch's backends."""
    # The older allow_tf32 flags cannot be read once a program has used these, and restoring them
    # would lose the precision "medium".
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    return [backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
