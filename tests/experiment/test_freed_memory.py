"""Freed memory is kept only where a command asks for it, never by measuring."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pruneviz.experiment.freed_memory import _CHOSEN_BY_USER, _glibc

needs_glibc = pytest.mark.skipif(
    _glibc() is None, reason="needs glibc and an environment that does not configure its allocator"
)

AUDITED = """
import sys

looked_up = []
sys.addaudithook(lambda event, args: looked_up.append(args[1]) if event == "ctypes.dlsym" else None)
"""

MEASURES = """
import tempfile
import torch
from torch import nn
import pruneviz as pv

model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
sample = torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 0, 1])
pv.measure(model, sample)
with tempfile.TemporaryDirectory() as folder:
    with pv.Recorder(model, sample, folder + "/run") as recorder:
        recorder.after_epoch(0)
print("mallopt" in looked_up)
"""

KEEPS = """
from pruneviz.experiment.freed_memory import keep_freed_memory

keep_freed_memory()
print("mallopt" in looked_up)
"""

# Page faults of blocks that glibc by itself always returns (over 32 MB), after as many to warm up
FAULTS = """
import resource
import numpy

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        numpy.ones(9 * 1024**2, dtype="float32")
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


def output(program: str, **environment: str) -> str:
    """What a program prints in its own process."""
    settings = {**os.environ, **environment}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=settings, capture_output=True, text=True, check=True
    )
    return finished.stdout.strip()


@needs_glibc
def test_measuring_never_changes_the_allocator_of_the_process() -> None:
    assert output(AUDITED + MEASURES) == "False"
    assert output(AUDITED + KEEPS) == "True"  # the check above sees such a change


def test_an_environment_that_configures_the_allocator_is_respected() -> None:
    for name in _CHOSEN_BY_USER:
        value = "glibc.malloc.mxfast=0" if name == "GLIBC_TUNABLES" else "1000000"
        assert output(AUDITED + KEEPS, **{name: value}) == "False", name


@needs_glibc
def test_freed_memory_is_reused_without_new_page_faults() -> None:
    keep = "from pruneviz.experiment.freed_memory import keep_freed_memory\nkeep_freed_memory()\n"
    variables = {"MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_MMAP_MAX_": "0"}
    usual = int(output(FAULTS))
    assert int(output(keep + FAULTS)) < usual / 3
    assert int(output(FAULTS, **variables)) < usual / 3
