"""Commands for other schedulers: every shell reads what was meant, one line each."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pruneviz.console.command import command_app
from pruneviz.console.tasks import quoted, task_lines, tell_tasks, without_option
from pruneviz.errors import PrunevizError

# Stands in for pruneviz: writes its working directory and arguments, each ended by NUL.
SHIM = '#!/bin/sh\nprintf \'%s\\0\' "$PWD" "$@" >> "$SEEN"\n'

NASTY = [
    "",
    "a b",
    "it's",
    'say "no"',
    "$HOME `id` $(id)",
    "a\\b\\n",
    "%s %d %%",
    "-n",
    "tab\there",
    "two\nlines",
    "\x1b[31mred",
    "grüße 文字",
    "\u202etxt.exe",
    os.fsdecode(b"no \xff text"),
    "x" * 3000,
    "*?[!]{a,b}~#;&|<>",
]


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File with what the stand-in was called with."""
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "pruneviz"
    shim.write_text(SHIM)
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    return tmp_path / "seen"


def calls(seen: Path, length: int) -> list[list[str]]:
    words = seen.read_bytes().split(b"\0")[:-1]
    texts = [os.fsdecode(word) for word in words]
    return [texts[at : at + length] for at in range(0, len(texts), length)]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_reads_each_argument_as_it_was(tmp_path: Path, shell: str, seen: Path) -> None:
    rng = random.Random(0)
    junk = [bytes(rng.choices(range(1, 256), k=12)) for _ in range(40)]
    arguments = [*NASTY, *(os.fsdecode(one).rstrip("\n") for one in junk)]
    (line,) = task_lines(["pruneviz", "record", *arguments], ["r0"], str(tmp_path))
    assert len(line.splitlines()) == 1 and line.isascii() and line.isprintable()
    subprocess.run([shell, "-c", line], check=True)
    assert calls(seen, len(arguments) + 4) == [[str(tmp_path), "record", "--run", "r0", *arguments]]


def test_what_shells_drop_is_refused() -> None:
    with pytest.raises(PrunevizError, match=r"^'a\\n' ends in a line break, .*; rename it$"):
        quoted("a\n")


SCHEDULERS = {
    "xargs": "xargs -d '\\n' -n 1 -P 2 sh -c < tasks.txt",
    "array": 'for SLURM_ARRAY_TASK_ID in 1 2 3; do sed -n "${SLURM_ARRAY_TASK_ID}p" tasks.txt | sh'
    "; done",
    "whole": "sh tasks.txt",
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_run_each_line_once_in_the_folder_of_the_list(
    tmp_path: Path, scheduler: str, seen: Path
) -> None:
    folder = tmp_path / "it's a\nfolder"
    folder.mkdir()
    runs = ["r0", "r1", "r2"]
    lines = task_lines(["pruneviz", "record", "--out", "new data"], runs, str(folder))
    (tmp_path / "tasks.txt").write_text("".join(f"{line}\n" for line in lines))
    subprocess.run(["sh", "-c", SCHEDULERS[scheduler]], check=True, cwd=tmp_path)
    expected = [[str(folder), "record", "--run", run, "--out", "new data"] for run in runs]
    assert sorted(calls(seen, 6)) == expected


@pytest.mark.parametrize(
    ("given", "greedy", "kept"),
    [
        ("--run a b --seed 0 1", True, "--seed 0 1"),
        ("--run=a b --seed 0", True, "--seed 0"),
        ("--seed 0 --run a,b", True, "--seed 0"),
        ("--run a file.toml", False, "file.toml"),
        ("--run=a file.toml --run b", False, "file.toml"),
        ("--runs a --out --run", True, "--runs a --out"),
    ],
)
def test_runs_that_were_chosen_by_name_are_chosen_anew(given: str, greedy: bool, kept: str) -> None:
    assert without_option(given.split(), "--run", greedy=greedy) == kept.split()


def test_what_makes_a_list_stands_in_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def show() -> None:
        words = "pruneviz record --list --preset digits --as-tasks --download --run r0 r1"
        tell_tasks(words.split(), ["r1"], 2)

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command_app(show, "show", ""), [])
    assert result.stdout == f"cd {tmp_path} && pruneviz record --run r1 --preset digits\n"
    assert result.stderr == "1 of 2 runs left to record, one task each\n"
