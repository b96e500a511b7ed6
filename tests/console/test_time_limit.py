"""Limits on the time of a command: what their texts mean, and when they are near."""

from __future__ import annotations

import time

import pytest
import typer

from pruneviz.console.time_limit import MARGIN, TimeLimit, time_limit

SECONDS = {
    "55m": 3300,
    "2h": 7200,
    "90s": 90,
    "1h30m": 5400,
    "1h30m5s": 5405,
    "2d": 172_800,
    " 1H ": 3600,
}


@pytest.mark.parametrize("text", SECONDS)
def test_a_limit_is_written_with_letters_for_its_units(text: str) -> None:
    limit = time_limit(text)
    assert (limit.text, limit.seconds) == (text.strip(), SECONDS[text])


@pytest.mark.parametrize("text", ["", "55", "m", "1.5h", "30m1h", "-5m", "5 m", "1h 30m", "٣m"])
def test_what_is_no_duration_is_told_with_examples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"is no duration; .* such as 55m, 2h, 90s"):
        time_limit(text)


def test_a_limit_in_which_nothing_can_be_saved_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match=r"'29s' is too short: .*; give at least 30s"):
        time_limit("29s")


def test_a_limit_is_near_as_long_before_as_stopping_may_take() -> None:
    now = time.monotonic()
    assert not TimeLimit("1h", 3600, began=now - 3600 + MARGIN + 60).is_near()
    assert TimeLimit("1h", 3600, began=now - 3600 + MARGIN).is_near()
