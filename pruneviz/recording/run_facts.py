"""The facts of a run that a recorder finds out by itself: how it measures, and the machine and versions it runs on."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from pruneviz.errors import LogError
from pruneviz.log.schema import RunSpec
from pruneviz.measuring.snapshot import Options
from pruneviz.model.sample import model_device, model_dtype

Schedule = int | Callable[[int], bool]


def spec_of(run: str, measured: Mapping[str, Any], given: Mapping[str, Any]) -> RunSpec:
    """The spec of a run from how it is measured, and what a person says of it; the one may not belie the other."""
    spec = RunSpec.from_dict({"run": run, **measured, **given})
    true = RunSpec.from_dict({"run": run, **measured})
    for name in measured:
        if getattr(spec, name) != getattr(true, name):
            raise LogError(
                f"spec says {name}={getattr(spec, name)!r}, but the recorder measures with {getattr(true, name)!r}; "
                f"leave {name} out of spec, and pass it to the recorder instead"
            )
    return spec


def measured_facts(model: nn.Module, options: Options, every: Schedule) -> dict[str, Any]:
    """How a network is measured, as its spec says it."""
    dtype = options.dtype or model_dtype(model)
    return {
        "unit": options.unit,
        "bn": options.bn,
        "temperatures": options.temperatures,
        "columns": options.wanted(),
        "every": getattr(every, "__qualname__", repr(every)) if callable(every) else str(every),
        "dtype": str(dtype).removeprefix("torch."),
        "device": model_device(model).type,
    }


def machine_facts(model: nn.Module) -> dict[str, Any]:
    """What a recorder says of a run that a person may say otherwise: the network's name, the machine, the command, the versions."""
    device = model_device(model)
    return {
        "network": type(model).__name__,
        "device_name": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "cuda": torch.version.cuda or "none"}
    for package in ("pruneviz", "torch", "torchvision", "numpy", "pandas", "pyarrow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
