"""An engine as a `concurrent.futures.Executor`: `pv.executor`."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from pruneviz.console.processes import cores, end_with_parent
from pruneviz.engines.engine import Engine
from pruneviz.errors import MissingExtraError

# What is loaded of each extra; the second of Ray for a cluster that is joined from outside.
_PACKAGES = {"ray": ("ray", "grpc"), "slurm": ("submitit",), "dask": ("distributed",)}


def executor(
    on: str = "local",
    *,
    cpus: int | None = None,
    gpus: float | None = None,
    retries: int | None = None,
    resources: Mapping[str, str] | None = None,
    folder: str | Path = ".",
) -> Executor:
    """An engine of one or several machines as a `concurrent.futures.Executor`.

    Use it as a context manager, which ends what it began: a Ray that runs already stays.

    Args:
        on: "local" (processes on this machine), "ray" (the cluster that runs here or that
            RAY_ADDRESS names, else one of this machine alone), "ray://HOST:PORT", "slurm" (tasks
            that are submitted together are one array job) or "dask://HOST:PORT".
        cpus: Cores of a task. Default: one.
        gpus: GPUs of a task; Ray also shares one, such as 0.25.
        retries: How often a task is begun again when its node is lost, or its time is over.
            Default: 3.
        resources: What else a task needs, by name: resources of Ray and Dask, or options of sbatch
            such as {"partition": "gpu", "time": "120"}.
        folder: Folder that all machines share, where Slurm's jobs and their output are written.

    Raises:
        PrunevizError: If there is no such engine, it cannot be reached, or it cannot give this.
        MissingExtraError: If its package is not installed.
    """
    return executor_of(Engine(on, cpus, gpus, retries, resources or {}), Path(folder))


def check_installed(engine: Engine) -> None:
    """Check that the package of an engine is there, without loading it.

    Raises:
        MissingExtraError: If it is not.
    """
    needed = _PACKAGES.get(engine.kind, ())
    for package in needed if engine.kind != "ray" or engine.address else needed[:1]:
        if not _is_there(package):
            raise MissingExtraError(
                f"the engine {engine.on} needs {package}, which is not installed: "
                f"pip install 'pruneviz[{engine.kind}]'"
            )


def _is_there(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    found = find_spec(package)
    return found is not None and found.origin is not None  # a folder of this name is no package


def executor_of(engine: Engine, folder: Path) -> Executor:
    """The executor of an engine; see `executor`."""
    check_installed(engine)
    if engine.kind == "ray":
        from pruneviz.engines.ray_executor import RayExecutor

        return RayExecutor(engine)
    if engine.kind == "slurm":
        from pruneviz.engines.slurm_executor import SlurmExecutor

        return SlurmExecutor(engine, folder)
    if engine.kind == "dask":
        from pruneviz.engines.dask_executor import DaskExecutor

        return DaskExecutor(engine)
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(cores(), mp_context=spawn, initializer=end_with_parent)
