"""The look of all commands: help, errors, exit codes, options that take several values."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
import typer
from typer.testing import CliRunner, Result

from pruneviz.console.command import (
    Group,
    command_app,
    command_line,
    may_be_incomplete,
    new_app,
)
from pruneviz.console.stop_signals import Stopped
from pruneviz.errors import DataError, PrunevizError

EXAMPLES = """
  # Two things at once
  pruneviz try --names a b
"""


def attempt(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Option(help="Some names.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(rich_help_panel="More")] = None,
    fail: Annotated[str, typer.Option()] = "",
    listed: Annotated[bool, typer.Option("--list")] = False,
    ratio: Annotated[float, typer.Option("--ratio", "--share")] = -1.0,
    jobs: Annotated[int, typer.Option(min=1)] = 1,
    how: Annotated[Literal["slow", "fast"], typer.Option()] = "slow",
) -> None:
    """Try things."""
    typer.echo(f"{names} {seeds}")
    typer.echo(command_line(ctx, without=("--list",)))
    if fail == "wrong":
        raise DataError("no such thing")
    if fail == "part":
        with may_be_incomplete():
            raise PrunevizError("1 of 2 failed")
    if fail == "file":
        Path("nowhere/at/all").read_text(encoding="utf-8")
    if fail == "interrupted":
        raise KeyboardInterrupt
    if fail == "stopped":
        raise Stopped(signal.SIGTERM, "r0 stopped after epoch 3.")
    if fail == "bug":
        raise ZeroDivisionError


def positional(
    things: list[str],
    formats: Annotated[list[str] | None, typer.Option("--format")] = None,
) -> None:
    """Take things and formats."""
    typer.echo(f"{things} {formats}")


APP = command_app(attempt, "try", EXAMPLES)


def invoke(*arguments: str, app: typer.Typer = APP) -> Result:
    return CliRunner().invoke(app, arguments)


SEVERAL = {
    "--names a --names b": "['a', 'b'] None",
    "--names a b": "['a', 'b'] None",
    "--names a,b": "['a', 'b'] None",
    "--names a, b": "['a', 'b'] None",
    "--names=a,b": "['a', 'b'] None",
    "--names=a b": "['a', 'b'] None",
    "--names a,b c --seeds 0,1 2": "['a', 'b', 'c'] [0, 1, 2]",
    "--names a b --list --seeds 3": "['a', 'b'] [3]",
}


@pytest.mark.parametrize("arguments", SEVERAL)
def test_several_values_one_after_the_other_by_commas_or_one_by_one(arguments: str) -> None:
    assert invoke(*arguments.split()).stdout.splitlines()[0] == SEVERAL[arguments]


def test_beside_positional_arguments_an_option_takes_one_value_or_values_joined_by_commas() -> None:
    app = command_app(positional, "positional", "")
    shown = invoke("--format", "pdf,png", "3", "13", "--format=svg", app=app)
    assert shown.stdout == "['3', '13'] ['pdf', 'png', 'svg']\n"


WRONG = {
    "--nmes a": "error: there is no option --nmes; did you mean --names?",
    "--zzzzzz": "error: there is no option --zzzzzz",
    "--foo": "error: there is no option --foo",
    "--names": "error: option '--names' requires an argument",
    "--names --list": "error: option --names needs a value, but --list follows it",
    "--seeds 0 x": "error: --seeds is 'x', expected a whole number",
    "--seeds 0 1.5": "error: --seeds is '1.5', expected a whole number",
    "--ratio x": "error: --ratio is 'x', expected a number",
    "--jobs 0": "error: --jobs is 0, expected 1 or more",
    "--how sloow": "error: there is no how 'sloow'; did you mean 'slow'? Choose one of slow, fast",
    "stray": "error: got unexpected extra argument",
    "--fail wrong": "error: no such thing",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_use_is_one_line_on_stderr_and_exits_with_2(arguments: str) -> None:
    result = invoke(*arguments.split())
    assert result.exit_code == 2
    first, *rest = result.stderr.splitlines()
    assert first.startswith("error: ") and WRONG[arguments] in first
    assert rest in ([], ["Try 'try --help'."])


def test_an_option_has_a_second_name_that_help_does_not_show() -> None:
    assert invoke("--share", "-0.5").exit_code == invoke("--ratio=-0.5").exit_code == 0
    shown = invoke("--help").stdout
    assert "--ratio" in shown and "--share" not in shown


def test_work_that_is_not_complete_exits_with_1() -> None:
    result = invoke("--fail", "part")
    assert (result.exit_code, result.stderr) == (1, "error: 1 of 2 failed\n")


def test_a_file_that_is_not_there_is_told_without_a_stack_trace() -> None:
    result = invoke("--fail", "file")
    assert result.exit_code == 1
    assert result.stderr == "error: nowhere/at/all: No such file or directory\n"


def test_ctrl_c_says_how_to_go_on_and_exits_with_130() -> None:
    result = invoke("--fail", "interrupted")
    assert result.exit_code == 130
    assert result.stderr == "Interrupted. Finished work is kept; repeat the command to go on.\n"


def test_a_signal_says_where_it_stopped_and_exits_with_its_number() -> None:
    result = invoke("--fail", "stopped")
    assert result.exit_code == 143
    assert result.stderr == "r0 stopped after epoch 3.\n"


def test_a_bug_keeps_its_stack_trace() -> None:
    assert isinstance(invoke("--fail", "bug").exception, ZeroDivisionError)


def test_help_is_plain_has_panels_and_ends_with_examples() -> None:
    shown = invoke("--help").stdout
    assert invoke("-h").stdout == shown
    assert shown.index("Options:") < shown.index("More:") < shown.index("Examples:")
    assert shown.endswith("  # Two things at once\n  pruneviz try --names a b\n")
    assert "│" not in shown


def test_the_command_is_told_as_a_shell_takes_it() -> None:
    shown = invoke("--names", "a b", "c", "--list").stdout.splitlines()
    assert shown[1] == "pruneviz try --names 'a b' c"


class Two(Group):
    """Two modules, the second of which cannot be loaded."""

    modules: ClassVar = {
        "first": ("tests.console.test_command", "The first."),
        "second": ("pruneviz.nowhere", "The second."),
    }


app = APP  # what a group runs of a module


def group() -> typer.Typer:
    both = new_app(cls=Two)
    both.callback()(lambda: None)
    return both


def test_a_group_loads_only_the_subcommand_that_it_runs() -> None:
    shown = invoke("--help", app=group()).stdout
    assert "The first." in shown and "The second." in shown
    assert "['a'] None" in invoke("first", "--names", "a", app=group()).stdout
    assert isinstance(invoke("second", app=group()).exception, ModuleNotFoundError)


def test_a_group_passes_on_exit_codes_and_suggests_names() -> None:
    assert invoke("first", "--fail", "part", app=group()).exit_code == 1
    assert invoke("first", "--fail", "interrupted", app=group()).exit_code == 130
    result = invoke("frst", app=group())
    assert result.exit_code == 2
    assert result.stderr.startswith("error: there is no command 'frst'; did you mean first?\n")
