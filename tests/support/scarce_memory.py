"""Lack of memory on purpose: at the k-th tensor that is made, and by limits of a process."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

# what torch, its libraries and Python say when memory runs out
ERRORS: dict[str, Callable[[], BaseException]] = {
    "CPU": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 33554432 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "CPU of Windows": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you "
        "tried to allocate 33554432 bytes."
    ),
    "oneDNN": lambda: RuntimeError("could not create a primitive"),
    "oneDNN, execution": lambda: RuntimeError("could not execute a primitive"),
    "C++": lambda: RuntimeError("std::bad_alloc"),
    "Python": lambda: MemoryError(),
    "NumPy": lambda: MemoryError("Unable to allocate 32.0 MiB for an array with shape (4194304,)"),
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 32.00 MiB."),
    "CUDA, driver": lambda: RuntimeError("CUDA error: out of memory"),
    "cuDNN": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cuBLAS": lambda: RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "MPS": lambda: RuntimeError(
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max "
        "allowed: 9.07 GB). Tried to allocate 32.00 MB on private pool."
    ),
}


class FailsAt(TorchDispatchMode):
    """Context in which the tensor with a number cannot be made; later ones can.

    Args:
        number: Which of the tensors, from 1; 0 for none.
        error: Makes the error.

    Attributes:
        made: Number of tensors that were made.
    """

    def __init__(self, number: int, error: Callable[[], BaseException] = ERRORS["CPU"]) -> None:
        super().__init__()
        self._number, self._error, self.made = number, error, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        before = {_place(t) for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)}
        new = [t for t in tree_flatten(result)[0] if isinstance(t, Tensor)]
        if any(_place(t) not in before for t in new):
            self.made += 1
            if self.made == self._number:
                raise self._error()
        return result


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def in_a_limited_child(megabytes: int, job: Callable[[], object], kind: str = "RLIMIT_AS") -> str:
    """Do a job in a copy of this process that may take so much more memory.

    Args:
        megabytes: Beyond what this process has taken.
        job: What is done.
        kind: The limit: "RLIMIT_AS" (`ulimit -v`) or "RLIMIT_DATA" (`ulimit -d`).

    Returns:
        `str` of what the job returns, or class and text of its error.
    """
    line = {"RLIMIT_AS": "VmSize:", "RLIMIT_DATA": "VmData:"}[kind]
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    taken = next(int(row.split()[1]) for row in status.splitlines() if row.startswith(line)) * 1024
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            bound = taken + megabytes * 2**20
            resource.setrlimit(getattr(resource, kind), (bound, resource.RLIM_INFINITY))
            try:
                said = str(job())
            except BaseException as error:
                resource.setrlimit(getattr(resource, kind), (resource.RLIM_INFINITY,) * 2)
                said = f"{type(error).__name__}: {error}"
            os.write(write, said.encode()[:60_000])
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said or "the process died"
