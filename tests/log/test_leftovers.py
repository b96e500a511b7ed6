"""A process that is killed while it finishes a run leaves files, which the next command removes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pruneviz import findings, thin
from pruneviz.log.faulty_files import left_behind
from pruneviz.log.leftovers import remove_leftovers
from tests.support.edited_specs import edit_spec

EXAMPLES = Path(thin.__file__).parent / "log" / "example_runs"
LEFT = (
    "parts/epochs-00001.parquet",
    "parts/filters-00001.parquet",
    "parts/dropped.txt",
    f"checkpoint/epoch-00001-{'0' * 64}.pt",
    "checkpoint/initial.safetensors",
    "checkpoint/state.pt",
    ".spec.json.0123abcd-17.tmp",
    "weights/.00001.safetensors.0123abcd-17.tmp",
    ".lock",
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with leftovers, and with weights that were kept."""
    path = tmp_path / "data" / "run"
    shutil.copytree(next(file.parent for file in sorted(EXAMPLES.rglob("spec.json"))), path)
    leave(path)
    (path / "weights" / "00001.safetensors").write_bytes(b"kept")
    return path


def leave(run: Path, *names: str) -> None:
    for name in names or LEFT:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(b"")


def contents(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


@pytest.mark.parametrize("command", ["thin", "findings"])
def test_a_command_removes_them_and_nothing_else(run: Path, tmp_path: Path, command: str) -> None:
    before = contents(run) - {*LEFT, "parts", "checkpoint"}
    if command == "thin":
        result = CliRunner().invoke(thin.app, [str(run), "--epochs", "-1", "--out", str(tmp_path)])
    else:
        result = CliRunner().invoke(findings.app, [str(run), "--table", "recordings"])
    assert result.exit_code == 0, result.output
    assert contents(run) == before


def test_files_of_a_person_in_such_folders_stay(run: Path) -> None:
    mine = {"checkpoint/best.pt", "checkpoint/epoch-00001.pt", "parts/notes.txt", ".mine.tmp"}
    for name in mine:
        (run / name).write_text("mine")
    remove_leftovers([run])
    assert mine <= contents(run)
    assert not {*LEFT} & contents(run)


@pytest.mark.parametrize("left", [*LEFT, "checkpoint/"])
def test_what_is_named_as_left_behind_is_removed(run: Path, left: str) -> None:
    remove_leftovers([run])
    before = contents(run)
    path = run / left
    path.mkdir() if left.endswith("/") else leave(run, left)
    (fault,) = left_behind(run, sealed=True)
    assert fault.startswith(str(path)) or fault.startswith(str(path.parent))
    remove_leftovers([run])
    assert list(left_behind(run, sealed=True)) == []
    assert contents(run) == before


def test_files_of_a_person_are_not_named_as_left_behind(run: Path) -> None:
    remove_leftovers([run])
    for mine in ("checkpoint/best.pt", ".notes.tmp"):
        (run / mine).parent.mkdir(exist_ok=True)
        (run / mine).write_text("mine")
    assert list(left_behind(run, sealed=True)) == []
    leave(run, "checkpoint/state.pt")
    (fault,) = left_behind(run, sealed=True)
    assert fault.endswith("repeat the command that recorded it, or delete what is not yours in it")


def test_an_unfinished_run_and_what_is_no_run_stay_as_they_are(run: Path, tmp_path: Path) -> None:
    edit_spec(run, sealed=False)
    before = contents(run)
    remove_leftovers([run, tmp_path / "missing", tmp_path])
    assert contents(run) == before


@pytest.fixture
def finishing(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the run."""
    program = (
        "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(run / ".lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_run_that_another_process_is_finishing_is_left_alone(
    run: Path, finishing: subprocess.Popen[str]
) -> None:
    before = contents(run)
    remove_leftovers([run])
    assert contents(run) == before
    finishing.communicate()
    remove_leftovers([run])
    assert not {*LEFT} & contents(run)
