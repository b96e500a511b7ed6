"""`pruneviz check`: faults are named and decide the exit code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pruneviz import check
from tests.support.mutated_recordings import make_recordings


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(check.app, [str(argument) for argument in arguments])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return make_recordings(tmp_path / "runs")


def test_whole_runs_exit_with_0_and_unfinished_ones_are_named(runs: Path) -> None:
    done = invoke(runs)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{runs / 'open'}: unfinished, with 4 epochs",
        "4 runs, 1 of them unfinished: no faults",
    ]


def test_every_fault_is_a_line_and_they_exit_with_1(runs: Path) -> None:
    (runs / "whole" / "rounds.parquet").unlink()
    (runs / "whole" / ".x.17.tmp").touch()
    (runs / "thin" / "spec.json").write_text("{")
    done = invoke(runs / "thin", runs)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{runs / 'thin' / 'spec.json'} is corrupt (")
    assert lines[-1] == "4 runs, 1 of them unfinished: 2 runs with faults"
    assert sum("rounds.parquet is missing" in line for line in lines) == 1
    assert sum(".x.17.tmp is half-written" in line for line in lines) == 1


def test_a_folder_without_runs_is_wrong_use(tmp_path: Path) -> None:
    for given in ([], [tmp_path], [tmp_path / "nowhere"]):
        done = invoke(*given)
        assert done.exit_code == 2 and done.stderr.startswith("error: ")


def test_a_copy_is_checked_wherever_it_lies(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "whole", tmp_path / "deep" / "er" / "whole")
    assert invoke(tmp_path / "deep").stdout == "1 run: no faults\n"
