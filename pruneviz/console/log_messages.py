"""Log messages, which reach a terminal: names in them are shown with escapes."""

from __future__ import annotations

import logging

from pruneviz.console.shown_text import visible_lines


def made_visible(record: logging.LogRecord) -> bool:
    """Filter of the logger `pruneviz`: keeps every message, `visible_lines` of it."""
    record.msg, record.args = visible_lines(record.getMessage()), None
    return True
