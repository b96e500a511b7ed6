"""What a measurement may not move: random generators, module modes, precision settings. Each is a context that puts it back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruneviz.errors import MeasureError


@contextmanager
def generators_preserved(sample: object, device: torch.device) -> Iterator[None]:
    """Put back the state of every random generator: Python's, NumPy's, torch's on the CPU and `device`, and a loader's own."""
    own = {id(g): g for g in (getattr(o, "generator", None) for o in (sample, getattr(sample, "sampler", None))) if _is_generator(g)}
    states = [(g, g.get_state()) for g in own.values()]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the legacy state is what training loops use
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            for generator, state in states:
                generator.set_state(state)


@contextmanager
def module_modes(model: nn.Module, bn: str) -> Iterator[None]:
    """Evaluation mode for every module, batch norms in the mode `bn` asks for; all flags are put back.

    Errors: `MeasureError` where bn="eval" meets a batch norm that keeps no running statistics: it would normalise every
    chunk by its own, so that the chunk would decide the numbers.
    """
    flags = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm):
                if bn != "batch" and module.running_mean is None:
                    raise MeasureError(f"the batch norm {name} keeps no running statistics, so bn={bn!r} has none to use; measure with bn='batch'")
                module.training = bn == "batch"
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def exact_float32() -> Iterator[None]:
    """Float32 without reduced-precision matrix units, without autocast, with gradients enabled; settings are put back."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with ExitStack() as stack:
        for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.enable_grad())
        try:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _is_generator(value: object) -> bool:
    return isinstance(value, torch.Generator)
