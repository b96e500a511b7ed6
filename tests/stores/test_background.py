"""Work in the background is repeated until it succeeds, told once, and waited for in bounds."""

from __future__ import annotations

import logging
import threading

import pytest

from pruneviz.errors import LogError
from pruneviz.stores import background
from pruneviz.stores.background import Background

pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_FIRST", 0.01)


def test_failures_are_repeated_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[LogError | None] = [LogError("refused"), LogError("refused"), None]

    def work() -> None:
        if outcome := outcomes.pop(0):
            raise outcome

    renewed: list[int] = []
    running = Background(work, "The recording goes on", lambda: renewed.append(1))
    with caplog.at_level(logging.WARNING, "pruneviz"):
        running.ask()
        assert running.wait(60)
    running.end()
    assert caplog.messages == ["refused. The recording goes on", "uploads go on"]
    assert not outcomes and running.failure is None and len(renewed) == 2


def test_what_is_asked_for_meanwhile_is_done_too() -> None:
    began, go_on, done = threading.Event(), threading.Event(), []

    def work() -> None:
        done.append(1)
        began.set()
        go_on.wait(60)

    running = Background(work, "")
    running.ask()
    assert began.wait(60)
    running.ask()
    running.ask()
    assert not running.wait(0)
    go_on.set()
    assert running.wait(60) and len(done) == 2
    running.end()


def test_a_store_that_hangs_is_not_waited_for() -> None:
    hanging = threading.Event()
    running = Background(lambda: hanging.wait(60) and None, "")
    running.ask()
    assert not running.wait(0.01) and running.refused is None
    running.end()
    hanging.set()


@pytest.mark.parametrize("raised", [False, True])
def test_work_that_cannot_succeed_ends(raised: bool) -> None:
    def work() -> LogError:
        if raised:
            raise RuntimeError("unknown")
        return LogError("taken")

    running = Background(work, "")
    running.ask()
    assert not running.wait(60)
    expected = "uploading ended: RuntimeError: unknown" if raised else "taken"
    assert str(running.refused) == expected
