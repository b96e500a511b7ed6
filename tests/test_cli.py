"""The `pruneviz` command: one set of commands by two ways, quick help, completion, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import pruneviz
from pruneviz.analysis.scores import SCORES
from pruneviz.cli import app
from pruneviz.plans.needs import DATASET_NAMES, FIGURE_NEEDS, NETWORK_NAMES
from pruneviz.plans.presets import PRESETS

SUBCOMMANDS = (
    "record",
    "sweep",
    "figures",
    "remeasure",
    "findings",
    "claims",
    "samplesize",
    "check",
    "thin",
    "upload",
    "report",
    "watch",
)
ROOT = Path(pruneviz.__file__).parent.parent
HEAVY = ("torch", "pandas", "numpy", "matplotlib", "scipy", "pyarrow", "tqdm")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="pruneviz")


def run(*command: str, **environment: str) -> str:
    """What `python COMMAND` prints."""
    env = {**os.environ, "COLUMNS": "82", **environment}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, cwd=ROOT, env=env
    )
    return done.stdout


def completed(line: str) -> list[str]:
    """What bash offers after TAB at the end of a line."""
    count = str(len(line.split()) - (not line.endswith(" ")))
    found = run(
        "-m", "pruneviz", _PRUNEVIZ_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=count
    )
    return found.split()


def test_alone_it_prints_its_help() -> None:
    alone = invoke()
    assert alone.exit_code == 0
    assert alone.stdout == invoke("--help").stdout == invoke("-h").stdout
    assert all(f"  {name} " in alone.stdout for name in SUBCOMMANDS)
    assert "pruneviz figures 3 13 --data data/cifar-mini\n" in alone.stdout


def test_the_version_is_that_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert invoke("--version").stdout == f"pruneviz {pruneviz.__version__}\n"
    assert run("-m", "pruneviz", "--version") == f"pruneviz {pruneviz.__version__}\n"
    assert declared["version"] == pruneviz.__version__
    assert declared["scripts"] == {"pruneviz": "pruneviz.__main__:main"}


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_a_subcommand_and_its_module_are_one_and_help_loads_nothing_heavy(name: str) -> None:
    module = {"claims": "verdicts"}.get(name, name)  # `pruneviz.claims` is a function
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('pruneviz.{module}', run_name='__main__', alter_sys=True)\n"
        f"except SystemExit as ended: print(ended.code, sorted({set(HEAVY)} & set(sys.modules)))"
    )
    *by_module, last = run("-c", code).splitlines()
    by_command = invoke(name, "--help")
    assert by_command.exit_code == 0
    assert by_module == by_command.stdout.splitlines()
    assert by_module[0].startswith(f"Usage: pruneviz {name} ")
    assert "Examples:" in by_module
    assert last == "0 []"


def test_the_list_of_subcommands_says_what_each_says_of_itself() -> None:
    listed = invoke().stdout.split("Commands:")[1]
    for name in SUBCOMMANDS:
        about = invoke(name, "--help").stdout.splitlines()[2].strip()
        assert about.removesuffix(".") in listed


def test_help_of_all_loads_no_subcommand() -> None:
    code = (
        "import sys; from pruneviz.cli import app; app(['--help'], standalone_mode=False);"
        f"print(sorted({{'pruneviz.record', *{HEAVY}}} & set(sys.modules)))"
    )
    assert run("-c", code).splitlines()[-1] == "[]"


COMPLETED = {
    "pruneviz ": set(SUBCOMMANDS),
    "pruneviz figures H1": {"H1a", "H1b"},
    "pruneviz figures --mask-score bn": {name for name in SCORES if name.startswith("bn")},
    "pruneviz figures --format p": {"pdf", "png"},
    "pruneviz record --figures ": set(FIGURE_NEEDS),
    "pruneviz record --preset ": set(PRESETS),
    "pruneviz record --network ": set(NETWORK_NAMES),
    "pruneviz record --dataset ": set(DATASET_NAMES),
    "pruneviz record --measure grasp": {name for name in SCORES if name.startswith("grasp")},
    "pruneviz record --schedule ": {"published", "linear"},
    "pruneviz record --flow": {"--flow", "--flowandprune"},
    "pruneviz remeasure --bn c": {"calibrated"},
}


@pytest.mark.parametrize("line", COMPLETED)
def test_the_shell_completes_names(line: str) -> None:
    assert set(completed(line)) == COMPLETED[line]


MISSPELT = {
    "figurs 3": "there is no command 'figurs'; did you mean figures?",
    "figures --methd pearson": "there is no option --methd; did you mean --method?",
    "figures H1": "there is no figure 'H1'; did you mean 'H1",
    "figures 3 --mask-score magnitud": "did you mean 'magnitude'?",
    "record --figures H1": "there is no figure 'H1'; did you mean 'H1",
    "record --preset digit": "there is no preset 'digit'; did you mean 'digits'?",
    "record --network resnet": "there is no network 'resnet'; did you mean 'resnet56'?",
    "record --dataset cifar": "there is no data set 'cifar'; did you mean 'cifar10",
    "remeasure x --out y --bn calibrate": "did you mean 'calibrated'?",
}


@pytest.mark.parametrize("line", MISSPELT)
def test_a_misspelt_name_is_told_with_the_right_one(line: str) -> None:
    result = invoke(*line.split())
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert MISSPELT[line] in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "figures --data nowhere",
        "remeasure nowhere --out new",
        "remeasure --data nowhere --out new",
        "findings nowhere",
        "findings --data nowhere",
        "claims --data nowhere",
        "check nowhere",
        "check --data nowhere",
        "thin nowhere --out new",
        "thin --data nowhere --out new",
    ],
)
def test_a_missing_folder_is_wrong_use_by_either_name(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*line.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: there is no folder nowhere")


def test_recordings_go_where_they_are_read_from() -> None:
    shown = [
        invoke("record", "--list", "--figures", "13", name, "x/y") for name in ("--out", "--data")
    ]
    assert [result.exit_code for result in shown] == [0, 0]
    assert shown[0].stdout.replace("--out", "--data") == shown[1].stdout
    nothing = invoke("findings")
    assert nothing.exit_code == 2 and "name the recordings: run directories" in nothing.stderr


@pytest.mark.parametrize("name", ["samplesize", "remeasure", "check", "thin", "report", "watch"])
def test_a_missing_argument_is_told(name: str) -> None:
    result = invoke(name, *(["--out", "x"] if name == "thin" else []))
    assert result.exit_code == 2 and not isinstance(result.exception, AttributeError)
    assert result.stderr.startswith("error: ") and "Traceback" not in result.output
