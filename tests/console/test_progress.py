"""Progress: one line now and then off a terminal, bars on one."""

from __future__ import annotations

import io
import sys

import pytest

from pruneviz.console.progress import INTERVAL, Bars, Lines, show_progress


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_line_says_which_run_how_far_and_how_long_and_not_too_often() -> None:
    said: list[str] = []
    clock = Clock()
    with Lines(2, said.append, clock) as progress:
        progress.start("a", 10)
        progress.start("a", 10)
        progress.move("a", 0.0, "train")
        for second in (1, 10, 29):
            clock.now = second
            progress.move("a", second / 30)
        assert not said
        clock.now = 30.0
        progress.move("a", 1.0, "measuring")
        progress.move("a", 1.1)
    assert said == ["a: 1.0 of 10 epochs, measuring; about 4 minutes left"]


def test_the_time_left_of_a_continued_run_counts_from_where_it_went_on() -> None:
    said: list[str] = []
    clock = Clock()
    progress = Lines(1, said.append, clock)
    progress.start("a", 100)
    progress.move("a", 90.0)
    clock.now = INTERVAL
    progress.move("a", 95.0)
    assert said == ["a: 95.0 of 100 epochs; about 30 s left"]


def test_without_any_pace_no_time_is_given() -> None:
    said: list[str] = []
    clock = Clock()
    progress = Lines(1, said.append, clock)
    progress.start("a", 1)
    clock.now = INTERVAL
    progress.move("a", 0.0, "compiling")
    assert said == ["a: 0.0 of 1 epoch, compiling"]


def test_each_run_has_lines_of_its_own() -> None:
    said: list[str] = []
    clock = Clock()
    progress = Lines(2, said.append, clock)
    for run in "ab":
        progress.start(run, 4)
        progress.move(run, 0)
    clock.now = INTERVAL
    for run in "ab":
        progress.move(run, 1)
    assert [line[0] for line in said] == ["a", "b"]


def test_an_end_counts_the_runs_even_one_that_never_started() -> None:
    said: list[str] = []
    clock = Clock()
    with Lines(2, said.append, clock) as progress:
        clock.now = 12.4
        progress.end("a", "a: failed")
        progress.start("b", 3)
        progress.end("b", "b: recorded 3 epochs")
    assert said == ["a: failed (1 of 2 runs, 12 s)", "b: recorded 3 epochs (2 of 2 runs, 12 s)"]


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with show_progress(2, said.append) as progress:
        assert isinstance(progress, Bars)
        progress.start("one", 4)
        progress.move("one", 1.5, "measuring")
        progress.end("one", "one: done")
        progress.end("two", "two: failed")
    assert [line.split(" (")[0] for line in said] == ["one: done", "two: failed"]
    drawn = terminal.getvalue()
    assert "1.5/4 epochs" in drawn and "measuring" in drawn and "2/2" in drawn


def test_a_file_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(show_progress(1, print), Lines)
