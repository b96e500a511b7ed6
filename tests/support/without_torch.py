"""Python processes in which nothing of the extra `measure` can be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pruneviz.errors import MEASURE_PACKAGES

ROOT = Path(__file__).parents[2]
# Python runs a module of this name at its start, in worker processes too.
_START = f"""
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {sorted(MEASURE_PACKAGES)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent)
"""


def run(
    *command: str, folder: Path, package: Path = ROOT, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `python COMMAND` in a folder, without torch.

    Args:
        command: Arguments of Python.
        folder: Its working directory.
        package: The folder that holds `pruneviz`.
        check: Whether a failing command fails the test.
    """
    start = folder / "start"
    start.mkdir(exist_ok=True)
    (start / "sitecustomize.py").write_text(_START, encoding="utf-8")
    path = os.pathsep.join(map(str, (start, package)))
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, done.stderr
    return done
