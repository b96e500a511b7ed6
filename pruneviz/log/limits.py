"""Limits of what can be read: writing refuses what lies beyond them, so that nothing is lost."""

from __future__ import annotations

MOST_BYTES = 4 << 20  # of a spec; over 1,000 times a usual one
MOST_DEPTH = 16  # of lists and dicts in each other
MOST_FACTS = 10_000  # by name, in each dict
MOST_DIGITS = 40  # of a whole number in a spec; a seed of 128 bits has 39

MOST_COLUMNS = 10_000  # of a table
MOST_LETTERS = 10_000  # of the name of a run, layer or phase, and of a fact of an epoch
MOST_NAMES = 1 << 20  # letters of the names of all facts of epochs, as they stand in every footer
MOST_TEXT = 1 << 29  # bytes of the texts of a table
MOST_EPOCH = (1 << 31) - 1

# kept free in a spec for what sealing adds, and for what pruneviz itself notes before
ROOM_BYTES, ROOM_FACTS = 1 << 17, 100


def readable(text: str) -> str:
    """A text with escapes in place of what is no Unicode, such as bytes of file names.

    It is the one rule for such texts, wherever they come from: UTF-8 cannot store them.
    """
    return text.encode("utf-8", "backslashreplace").decode()
