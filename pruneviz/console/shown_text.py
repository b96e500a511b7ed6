"""Texts that others wrote, made fit to be shown: on a terminal, in files of text, as Markdown.

Names of layers, networks, data sets, runs and facts come from recordings and may hold anything.
Data stay as they are; what is shown of them is plain: no character moves a cursor, turns the
direction of writing, starts a formula or ends a table.
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata

from pruneviz.console.url_names import with_urls

LONGEST_NAME = 120  # characters of a name that stays whole
LONGEST_WORD = 500  # characters without a space in a longer text, such as a path
LONGEST_LINE = 10_000

_DIGITS = 4  # of the digest in the place of the middle of a name
_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")
# Characters that begin or end emphasis, code, links or cells; `_` does within no word.
_MARKS = re.compile(r"[\\`*\[\]|]|(?<![^\W_])_|_(?![^\W_])")
# Those that some renderers know and others take no backslash before: mathematics, struck text.
_ENTITIES = str.maketrans({"$": "&#36;", "~": "&#126;"})
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of one


class _Escapes(dict[int, str]):
    """What stands for each character: itself, or its escape if it cannot be seen."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        seen = character.isprintable() or unicodedata.category(character) == "Zs"
        self[code] = shown = (
            character if seen else character.encode("unicode_escape").decode("ascii")
        )
        return shown


_ESCAPES = _Escapes()
_ESCAPES_IN_LINES = _Escapes({ord("\n"): "\n"})


def visible(text: object) -> str:
    r"""A text on one line; what cannot be seen is written as its escape, such as `\x1b` or `\n`.

    These are control characters, marks that turn the direction of writing, lone surrogates and
    codes without a character. Escapes that are there already stay. A local copy of a remote file
    has its URL.
    """
    return with_urls(str(text)).translate(_ESCAPES)


def visible_line(text: object) -> str:
    """`visible`, in which overlong words, and the whole if it is too long, are cut."""
    return _without_overlong(visible(text))


def visible_lines(text: object) -> str:
    """`visible_line` for each line of a text whose line breaks are its own, and of no name."""
    return _without_overlong(with_urls(str(text)).translate(_ESCAPES_IN_LINES))


def short(name: object, longest: int = LONGEST_NAME) -> str:
    """A name on one line, `visible`; of an overlong one the beginning and the end.

    In the place of its middle stand digits that differ for names which differ only there.

    Args:
        name: The name.
        longest: Number of characters that stay.
    """
    text = str(name)
    if len(text) > longest:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
        text = _cut(text, longest, f"…{digest}…")
    return visible(text)


def in_markdown(text: object, *, with_code: bool = False) -> str:
    """A text that Markdown shows as it stands, in the cell of a table too, without HTML.

    Args:
        text: The text; line breaks become spaces.
        with_code: Whether backticks mark code, as in a sentence of ours with names in it.
    """
    plain = html.escape(" ".join(visible_lines(text).split()), quote=False)
    marked = _MARKS.sub(r"\\\g<0>", plain).translate(_ENTITIES)
    return marked.replace(r"\`", "`") if with_code else marked


def in_cell(text: str) -> str:
    """A name in a CSV file: on one line, `short`, and no spreadsheet takes it for a formula.

    One that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe in front.
    """
    return f"'{short(text)}" if text.startswith(_FORMULA) else short(text)


def _without_overlong(shown: str) -> str:
    if len(shown) <= LONGEST_WORD:
        return shown
    shown = _WORD.sub(lambda found: _cut(found[0], LONGEST_WORD), shown)
    return "\n".join(_cut(line, LONGEST_LINE) for line in shown.split("\n"))


def _cut(text: str, longest: int, middle: str = "…") -> str:
    if len(text) <= longest:
        return text
    head = (longest - len(middle)) // 2
    return f"{text[:head]}{middle}{text[len(text) - (longest - head - len(middle)) :]}"
