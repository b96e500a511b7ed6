"""Shared fixtures: recordings and images where they exist. All tests compute on one thread."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from pruneviz.console.stop_signals import STOP_SIGNALS
from pruneviz.log.spec_file import is_sealed
from pruneviz.plans.planning import plan_runs

# The order of sums, and so the last bit of a result, depends on the number of threads.
torch.set_num_threads(1)
# Processes that tests start are of one thread too: threads of several that share cores wait for
# each other, at full load.
os.environ["OMP_NUM_THREADS"] = "1"

# Signals that are ignored, as by `nohup` or in the background of a shell, stay ignored in the
# commands that tests start, and could not stop them.
for number in STOP_SIGNALS:
    if signal.getsignal(number) is signal.SIG_IGN:
        is_interrupt = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)

# jsonschema, which nbformat loads, has this package build a parser of addresses, for seconds; it
# does without, and no notebook has an address to check.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

RECORDINGS = Path(__file__).resolve().parents[1] / "data" / "digits"
RESTORE = Path(__file__).resolve().parents[2] / "shared" / "datasets" / "restore.py"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Collect tests without garbage collections: all that is created stays, and they search it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Leave all that is loaded by now out of garbage collections, which would search it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def embedded_recordings() -> Path:
    """Folder of the embedded recordings; skips the test if they are not complete."""
    if not all(is_sealed(RECORDINGS / plan.run) for plan in plan_runs("digits")):
        pytest.skip("the embedded recordings are missing; run `make record`")
    return RECORDINGS


@pytest.fixture(scope="session")
def cifar_root(pytestconfig: pytest.Config) -> Path:
    """Folder of the official CIFAR-10 and CIFAR-100 files; skips the test if there is none."""
    given = Path(os.environ.get("PRUNEVIZ_IMAGES", ""))
    if (given / "cifar-10-batches-py").is_dir() and (given / "cifar-100-python").is_dir():
        return given
    if not RESTORE.is_file():
        pytest.skip(
            "no CIFAR images; set PRUNEVIZ_IMAGES to the folder with cifar-10-batches-py and "
            "cifar-100-python"
        )
    return restored_once(pytestconfig.cache.mkdir("cifar"))


def restored_once(folder: Path) -> Path:
    """Restore both data sets into `folder` unless they are there; parallel workers share it."""
    with FileLock(folder / "lock"):
        done = folder / "done"
        if not done.exists():
            command = [sys.executable, str(RESTORE), str(folder)]
            subprocess.run(command, check=True, capture_output=True)
            done.touch()
    return folder
