"""Options: names that complete and suggest, several values, the fields of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner, Result

from pruneviz.console.command import command_app
from pruneviz.console.options import completing, one_by_one, one_of, options_of, separated


@dataclass(frozen=True)
class Choices:
    """Fields of every type that becomes an option."""

    name: str
    rounds: int = 3
    how_much: float | None = None
    shape: Literal["round", "square"] = "round"
    at_start: bool = False


HELP = {"name": "The name.", "rounds": "Rounds.", "how_much": "A lot.", "shape": "Shape."}


@options_of(Choices, lambda name: HELP.get(name, ""), "Choices", {"name": {"metavar": "WHO"}})
def choose(
    mode: Annotated[str, typer.Option(**one_of("mode", ("fast", "slow")))] = "fast",
    **choices: Any,
) -> None:
    """Choose."""
    typer.echo(f"{mode} {choices}")


APP = command_app(choose, "choose", "")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(APP, arguments)


def test_every_field_is_an_option_that_is_none_or_false_if_it_is_not_given() -> None:
    shown = invoke().stdout
    none = {"name": None, "rounds": None, "how_much": None, "shape": None, "at_start": False}
    assert shown == f"fast {none}\n"
    given = [
        "--name",
        "me",
        "--rounds",
        "2",
        "--how-much",
        "0.5",
        "--shape",
        "square",
        "--at-start",
    ]
    values = {"name": "me", "rounds": 2, "how_much": 0.5, "shape": "square", "at_start": True}
    assert invoke(*given).stdout == f"fast {values}\n"


def test_fields_have_a_panel_help_and_no_opposite() -> None:
    shown = invoke("--help").stdout
    panel = shown[shown.index("Choices:") :]
    assert "--name WHO" in panel and "The name." in panel and "--how-much" in panel
    assert "--at-start" in panel and "--no-at-start" not in shown
    assert "--mode <fast|slow>" in shown[: shown.index("Choices:")]


WRONG = {
    "--rounds x": "--rounds",
    "--shape oval": "there is no shape 'oval'; choose one of round, square",
    "--mode fats": "there is no mode 'fats'; did you mean 'fast'? Choose one of fast, slow",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_values_are_refused_with_what_is_right(arguments: str) -> None:
    result = invoke(*arguments.split())
    assert result.exit_code == 2
    assert WRONG[arguments] in result.stderr


def test_values_joined_by_commas_are_separated() -> None:
    assert separated(["1,2", " 3 ", "4,", ""]) == ["1", "2", "3", "4"]


def test_completion_does_not_mind_capitals() -> None:
    assert completing(lambda: ["H1a", "H1b", "3"])("h1") == ["H1a", "H1b"]


ONE_BY_ONE = {
    "--of a b": "--of a --of b",
    "--of a,b c --to d e": "--of a --of b --of c --to d e",
    "--of=a,b": "--of=a --of=b",
    "--of --to": "--of --to",
    "x --of a": "x --of a",
}


@pytest.mark.parametrize("arguments", ONE_BY_ONE)
def test_the_name_of_an_option_is_repeated_before_each_value(arguments: str) -> None:
    found = list(one_by_one(arguments.split(), {"--of"}, greedy=True))
    assert found == ONE_BY_ONE[arguments].split()


def test_without_greed_only_commas_make_several_values() -> None:
    found = list(one_by_one(["--of", "a,b", "c"], {"--of"}, greedy=False))
    assert found == ["--of", "a", "--of", "b", "c"]
