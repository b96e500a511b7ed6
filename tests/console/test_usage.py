"""Wording of usage errors, whatever version of the command library reports them."""

from __future__ import annotations

from types import SimpleNamespace

from pruneviz.console.usage import swallowed_option, usage_message


def error(message: str) -> SimpleNamespace:
    param = SimpleNamespace(opts=["--rounds"], param_type_name="option", human_readable_name="r")
    return SimpleNamespace(message=message, param=param, __cause__=None, format_message=lambda: "?")


def test_messages_of_other_versions_are_put_in_the_same_words() -> None:
    said = {
        "'x' is not a valid integer.": "--rounds is 'x', expected a whole number",
        "'x' is not a valid float.": "--rounds is 'x', expected a number",
        "'onne' is not one of 'one', 'two'.": "there is no rounds 'onne'; did you mean 'one'? "
        "Choose one of one, two",
        "anything else": "?",
    }
    assert {message: usage_message(error(message)) for message in said} == said


def test_an_option_that_took_the_next_one_for_its_value_is_found() -> None:
    takes = ["--out", "--seed"]
    assert swallowed_option(["--out", "--list"], takes) == ("--out", "--list")
    assert swallowed_option(["--seed", "-h"], takes) == ("--seed", "-h")
    for fine in (["--out", "a", "--list"], ["--seed", "-1"], ["--list", "--out", "a"], ["--out"]):
        assert swallowed_option(fine, takes) is None
