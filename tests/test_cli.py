"""The `pruneviz` command: one set of commands by two ways, quick help, version, exit codes."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import pruneviz
from pruneviz.cli import app

SUBCOMMANDS = ("record", "figures", "remeasure", "findings")
ROOT = Path(pruneviz.__file__).parent.parent


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="pruneviz")


def shown(*command: str) -> str:
    """What `python COMMAND` prints."""
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout


def test_alone_it_prints_its_help() -> None:
    alone = invoke()
    assert alone.exit_code == 0
    assert alone.stdout == invoke("--help").stdout
    assert all(f"  {name} " in alone.stdout for name in SUBCOMMANDS)


def test_the_version_is_that_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert invoke("--version").stdout == f"pruneviz {pruneviz.__version__}\n"
    assert declared["version"] == pruneviz.__version__
    assert declared["scripts"] == {"pruneviz": "pruneviz.cli:main"}


def test_a_misspelt_subcommand_is_told_with_the_right_one() -> None:
    result = invoke("figurs")
    assert result.exit_code == 2
    assert "there is no command 'figurs'; did you mean figures?" in result.stderr


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_subcommand_is_there_and_helps(name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: pruneviz {name} ")


def test_help_of_all_loads_no_subcommand() -> None:
    code = (
        "import sys; from pruneviz.cli import app; app(['--help'], standalone_mode=False);"
        "heavy = {'pandas', 'numpy', 'matplotlib', 'torch', 'pruneviz.record'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert shown("-c", code).splitlines()[-1] == "[]"


def test_the_module_is_the_command() -> None:
    assert shown("-m", "pruneviz", "--version") == f"pruneviz {pruneviz.__version__}\n"
