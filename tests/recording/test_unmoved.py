"""What other people's code moves is put back: generators, and settings of the whole process."""

from __future__ import annotations

import os
import random
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from pruneviz.recording.unmoved import unmoved

CPU = torch.device("cpu")


# All that a training could notice.
READ: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch.random.get_rng_state().tolist(),
    "python": random.getstate,
    "numpy": lambda: np.random.get_state()[1].tolist(),  # noqa: NPY002
    "gradients": torch.is_grad_enabled,
    "autocast": lambda: (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
    "dtype": torch.get_default_dtype,
    "device": torch.get_default_device,
    "threads": torch.get_num_threads,
    "deterministic": torch.get_deterministic_debug_mode,
    "anomalies": torch.is_anomaly_enabled,
    "cudnn": lambda: (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
    "mkldnn": lambda: (torch.backends.mkldnn.enabled, torch.backends.mkldnn.deterministic),
    "tf32": lambda: torch.backends.cuda.matmul.fp32_precision,
    "precision": torch.get_float32_matmul_precision,
    "errors": np.geterr,
    "warnings": lambda: list(warnings.filters),
    "folder": Path.cwd,
    "parameters": lambda: dict(matplotlib.rcParams),
    "backend": matplotlib.get_backend,
}


def state() -> dict[str, Any]:
    return {name: read() for name, read in READ.items()}


MOVES: dict[str, Callable[[], object]] = {
    "torch": lambda: torch.rand(3),
    "python": lambda: random.seed(7),
    "numpy": lambda: np.random.seed(7),  # noqa: NPY002
    "gradients": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu").__enter__(),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "device": lambda: torch.set_default_device("meta"),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "cudnn": lambda: setattr(torch.backends.cudnn, "deterministic", True),
    "mkldnn": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "tf32": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "precision": lambda: torch.set_float32_matmul_precision("medium"),
    "errors": lambda: np.seterr(all="raise"),
    "warnings": lambda: warnings.simplefilter("ignore"),
    "folder": lambda: os.chdir("/"),
    "parameters": lambda: matplotlib.rcParams.update({"lines.linewidth": 11.0}),
    "backend": lambda: plt.switch_backend("svg"),
}


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_a_setting_that_is_moved_is_put_back(name: str) -> None:
    before = state()
    with pytest.raises(RuntimeError, match="failed"), unmoved(CPU):
        MOVES[name]()
        assert READ[name]() != before[name]
        raise RuntimeError("failed")
    assert state() == before


def test_nothing_is_moved_where_nothing_moves() -> None:
    before = state()
    with unmoved(CPU):
        pass
    assert state() == before


def test_a_thread_beside_the_training_undoes_nothing_of_it() -> None:
    """It would put back a generator from which the training has drawn meanwhile."""
    inside, trained = threading.Event(), threading.Event()

    def beside() -> None:
        with unmoved(CPU):
            inside.set()
            trained.wait(10)

    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    thread = threading.Thread(target=beside)
    thread.start()
    assert inside.wait(10)
    drawn = torch.rand(1)
    trained.set()
    thread.join()
    assert torch.equal(torch.cat([drawn, torch.rand(1)]), expected)


def test_a_working_directory_that_was_deleted_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with unmoved(CPU):
        os.chdir(tmp_path)
    assert Path.cwd() == tmp_path
