"""Counts and durations in words."""

from __future__ import annotations

import pytest

from pruneviz.console.words import counted, duration


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (2500, "2,500 runs")]
)
def test_counts_have_the_right_number(number: int, text: str) -> None:
    assert counted(number, "run") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "about 1 s"),
        (89.4, "about 89 s"),
        (90, "about 2 minutes"),
        (5399, "about 90 minutes"),
        (5400, "about 2 hours"),
        (172_800, "about 2 days"),
    ],
)
def test_durations_are_rounded_to_the_unit_that_reads_best(seconds: float, text: str) -> None:
    assert duration(seconds) == text
