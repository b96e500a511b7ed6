"""Texts that others wrote, as terminals, CSV files and Markdown show them."""

from __future__ import annotations

import csv
import io

import pytest

from pruneviz.console.shown_text import (
    LONGEST_LINE,
    LONGEST_NAME,
    LONGEST_WORD,
    in_cell,
    in_markdown,
    short,
    visible,
    visible_lines,
)
from tests.support.hostile_names import LENGTH, LONG, NAMES


def test_there_are_enough_names() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 40 and all(len(name) >= LENGTH - 10 for name in LONG)


@pytest.mark.parametrize("show", [visible, short, in_cell, in_markdown])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_every_name_is_one_line_of_characters_that_can_be_seen(show: object, name: str) -> None:
    shown = show(name)
    assert all(one.isprintable() for one in shown)
    assert shown.encode("utf-8") and len(shown.splitlines()) <= 1 if shown else not name.strip()
    assert show is in_markdown or show is in_cell or show(shown) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\udcff\ud800", r"\udcff\ud800"),
        ("\u202eltr\u200b\u2028", r"\u202eltr\u200b\u2028"),
        ("\U000e0041", r"\U000e0041"),
        (r"\x1b stays", r"\x1b stays"),
        ("θᵀHg 層 é a\N{NO-BREAK SPACE}b", "θᵀHg 層 é a\N{NO-BREAK SPACE}b"),
    ],
)
def test_what_cannot_be_seen_is_written_as_its_escape(name: str, shown: str) -> None:
    assert visible(name) == visible_lines(name.replace("\n", r"\n")) == shown


def test_lines_stay_lines_and_are_bounded() -> None:
    assert visible_lines("a\nb\x1b") == "a\nb\\x1b"
    word = visible_lines(f"see {'x' * LENGTH}y now")
    assert word.startswith("see xxx") and word.endswith("xxy now")
    assert len(word) == LONGEST_WORD + len("see  now")
    line = visible_lines(f"first\n{'a b ' * LENGTH}")
    assert line.startswith("first\na b") and len(line) == LONGEST_LINE + len("first\n")


@pytest.mark.parametrize("name", LONG, ids=("word", "words", "dollars"))
def test_an_overlong_name_keeps_its_beginning_and_end(name: str) -> None:
    shown = short(name)
    assert len(shown) == LONGEST_NAME and shown[:40] == name[:40] and shown[-40:] == name[-40:]
    middle = LENGTH // 2
    assert short(f"{name[:middle]}!{name[middle + 1 :]}") != shown


def test_markdown_shows_every_name_as_it_stands() -> None:
    assert in_markdown("a|b<script>") == r"a\|b&lt;script&gt;"
    assert in_markdown("*b* `c` [d](e) $f$ ~g~") == (
        r"\*b\* \`c\` \[d\](e) &#36;f&#36; &#126;g&#126;"
    )
    assert in_markdown("bn_scale _it_ a\\b") == r"bn_scale \_it\_ a\\b"
    assert in_markdown("say `pruneviz record` <b>", with_code=True) == (
        "say `pruneviz record` &lt;b&gt;"
    )
    for name in NAMES:
        assert not {"<", ">"} & set(in_markdown(name))
        assert in_markdown(name).count("|") == in_markdown(name).count(r"\|")


def test_a_cell_is_no_formula_and_one_line() -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([[in_cell(name), 1] for name in NAMES])
    assert buffer.getvalue().count("\n") == len(NAMES)
    rows = list(csv.reader(io.StringIO(buffer.getvalue())))
    assert len(rows) == len(NAMES)
    for (cell, _), name in zip(rows, NAMES, strict=True):
        assert not cell.startswith(("=", "+", "-", "@"))
        assert cell.lstrip("'") == visible(name).lstrip("'")
