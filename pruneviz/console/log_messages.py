"""Log messages, which reach a terminal: names in them are shown with escapes."""

from __future__ import annotations

import logging

from pruneviz.console.shown_text import visible_line


def made_visible(record: logging.LogRecord) -> bool:
    """Filter of the logger `pruneviz`: keeps every message, on one line that is `visible_line`."""
    record.msg, record.args = visible_line(record.getMessage()), None
    return True
