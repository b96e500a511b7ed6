"""Context after which other people's code has moved no random generator and no global setting."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from pruneviz.model.isolation import generators_preserved, matrix_units
from pruneviz.model.one_dtype import SETTINGS

Setting = tuple[Callable[[], Any], Callable[[Any], object]]


@contextmanager
def unmoved(device: torch.device) -> Iterator[None]:
    """Context that puts back all that training could notice of code that does not know the model.

    Random generators of Python, NumPy and torch; torch's gradient mode, dtype, device, precision,
    autocast, kernels, determinism and threads; NumPy's handling of errors; matplotlib's rcParams
    and backend; filters of warnings; the working directory. Outside of the main thread nothing is
    put back: training goes on meanwhile, and what it moved must not be undone.

    Args:
        device: Device whose random generator is restored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with SETTINGS, ExitStack() as stack:
        for read, write in _settings():
            stack.callback(_put_back, read, write, read())
        stack.enter_context(generators_preserved(None, device))
        yield


def _put_back(read: Callable[[], Any], write: Callable[[Any], object], before: Any) -> None:
    if read() != before:  # writing may have effects of its own
        write(before)


def _settings() -> list[Setting]:
    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    flags: list[tuple[Any, str]] = [(kernels, "enabled") for kernels in (cudnn, mkldnn)]
    flags += [(cudnn, "benchmark"), (cudnn, "deterministic"), (mkldnn, "deterministic")]
    flags += [(units, "fp32_precision") for units in matrix_units()]
    return [
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_default_device, torch.set_default_device),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        *(_autocast(device) for device in ("cpu", "cuda")),
        *(_attribute(owner, name) for owner, name in flags),
        (_precision, _put_back_precision),  # put back before the flags, which it moves
        (np.geterr, lambda kept: np.seterr(**kept)),
        (lambda: list(warnings.filters), _put_back_filters),
        (_folder, _put_back_folder),
        (matplotlib.rcParams.copy, _put_back_parameters),
        (lambda: matplotlib.get_backend(auto_select=False), _put_back_backend),
    ]


def _autocast(device: str) -> Setting:
    is_on, switch = torch.is_autocast_enabled, torch.set_autocast_enabled
    return (lambda: is_on(device)), (lambda on: switch(device, on))


def _attribute(owner: Any, name: str) -> Setting:
    return (lambda: getattr(owner, name)), (lambda value: setattr(owner, name, value))


def _precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # torch refuses to name it where only the newer flags were set
        return None


def _put_back_precision(before: str | None) -> None:
    if before is not None:
        torch.set_float32_matmul_precision(before)


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was deleted, and training does not mind
        return None


def _put_back_folder(before: Path | None) -> None:
    if before is not None:
        os.chdir(before)


def _put_back_filters(before: list[Any]) -> None:
    filters: Any = warnings.filters
    filters[:] = before


def _put_back_parameters(before: Mapping[str, Any]) -> None:
    # without a check of each value, and without resolving a backend that nobody has asked for
    parameters: Any = matplotlib.rcParams
    dict.update(parameters, before)


def _put_back_backend(before: str | None) -> None:
    if before is not None and "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].switch_backend(before)
