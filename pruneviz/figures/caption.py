"""Captions of at most `LINES` lines; the long form is data, see `pruneviz.figures.details`."""

from __future__ import annotations

import re
import textwrap
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from pruneviz.console.shown_text import short

WIDTH = 100  # characters
LINES = 15  # of a caption in a file, its last line included, which names the long form
_MOST_WIDTH = 10 * WIDTH  # characters for each line; more would only be looked at to be left out
_CUT = " ..."
_SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z(])")


@dataclass(frozen=True)
class Caption:
    """The parts of a caption.

    Attributes:
        title: Heading and title.
        drawn: What is drawn; axes, lines and colours.
        found: The main numbers.
        claim: What the paper claims, as a sentence; empty if there is no claim.
        absent: What is not recorded, as a sentence; empty if nothing is missing.
        made: Runs and main options.
    """

    title: str
    drawn: str
    found: str
    claim: str = ""
    absent: str = ""
    made: str = ""

    def text(self, long_form: str = "") -> str:
        """The caption: at most `LINES` lines of at most `WIDTH` characters.

        What does not fit is left out at the end of a sentence and marked by an ellipsis.

        Args:
            long_form: Name of the file with the long form. Without it one line fewer is used.
        """
        last = [f"All options, runs and numbers: {long_form}"] if long_form else []
        title, absent, made = (cut(part, 2) for part in (self.title, self.absent, self.made))
        claim = cut(self.claim, 3)
        room = LINES - 1 - sum(map(len, (title, absent, claim, made)))
        found_lines = len(cut(self.found, LINES))
        drawn = cut(self.drawn, max(room // 2, room - found_lines))
        found = cut(self.found, room - len(drawn))
        lines = [*title, *drawn, *absent, *claim, *found, *made, *last]
        return "".join(f"{line}\n" for line in lines)


def cut(text: str, lines: int) -> Sequence[str]:
    """Wrap a text at `WIDTH`, to at most this many lines.

    Whole sentences are left out at the end, marked by an ellipsis; words only where the first
    sentence is too long. Characters that cannot be seen are written as their escapes.
    """
    sentences = _SENTENCE.split(short(text, lines * _MOST_WIDTH).strip())

    def kept(number: int) -> list[str]:
        first = " ".join(sentences[:number])
        return _wrapped(first if number == len(sentences) else f"{first}{_CUT}")

    # more sentences never take fewer lines, but for the ellipsis that all of them do without
    numbers = range(1, len(sentences))
    most = bisect_right(numbers, lines, key=lambda number: len(kept(number)))
    found = kept(len(sentences))
    if len(found) > lines and most:
        found = kept(most)
    return found if len(found) <= lines else _wrapped(sentences[0], max_lines=lines)


def _wrapped(text: str, max_lines: int | None = None) -> list[str]:
    return textwrap.wrap(text, WIDTH, placeholder=_CUT, break_on_hyphens=False, max_lines=max_lines)
