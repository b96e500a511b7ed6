"""What all tests share: one thread, so that timings and sums do not depend on the machine, and recordings and images where they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pruneviz.log.run_directory import is_sealed
from pruneviz.plans.planning import plan_runs

torch.set_num_threads(1)

RECORDINGS = Path(__file__).resolve().parents[1] / "data" / "digits"
RESTORE = Path(__file__).resolve().parents[2] / "shared" / "datasets" / "restore.py"


@pytest.fixture(scope="session")
def embedded_recordings() -> Path:
    """The folder of the recordings of the embedded experiment; the test is skipped where they were not made."""
    if not all(is_sealed(RECORDINGS / plan.run) for plan in plan_runs("digits")):
        pytest.skip("the embedded recordings are not there: make record")
    return RECORDINGS


@pytest.fixture(scope="session")
def cifar_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the official CIFAR-10 and CIFAR-100 files; the test is skipped where there are none."""
    given = Path(os.environ.get("PRUNEVIZ_IMAGES", ""))
    if (given / "cifar-10-batches-py").is_dir() and (given / "cifar-100-python").is_dir():
        yield given
        return
    if not RESTORE.is_file():
        pytest.skip(
            "no real CIFAR at hand: set PRUNEVIZ_IMAGES to the folder that holds cifar-10-batches-py and cifar-100-python"
        )
    restored = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, str(RESTORE), str(restored)], check=True, capture_output=True)
    yield restored
    shutil.rmtree(restored)
