"""Log messages of pruneviz show what names hold."""

from __future__ import annotations

import logging

import pytest

import pruneviz  # noqa: F401  # puts the filter in its place


def test_a_message_cannot_control_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("pruneviz").warning("run %s, %d %%", "\x1b[2J\u202e", 3)
    assert caplog.messages == [r"run \x1b[2J\u202e, 3 %"]


def test_a_line_break_in_a_name_begins_no_line(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("pruneviz").warning("%s is left out", "a\n3 runs: no faults")
    assert caplog.messages == [r"a\n3 runs: no faults is left out"]
