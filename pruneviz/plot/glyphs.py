"""Text as it stands, drawn by fonts that have its characters: names hold `$`, `_`, `<` or 层."""

from __future__ import annotations

import functools

from matplotlib import font_manager

from pruneviz.console.shown_text import short

_FIRST = "DejaVu Sans"  # comes with matplotlib
# Families for characters that the first lacks, used where a machine has them.
_FURTHER = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "PingFang SC", "Hiragino Sans", "Heiti TC"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Segoe UI Symbol"),
)
LONGEST = 300  # characters of a text
_SPACES = {ord(character): " " for character in "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"}


def literal(text: object) -> str:
    r"""Text for matplotlib that is drawn as it stands: no mathematics between dollar signs.

    It is `drawable`, and runs of spaces become one. A text that is literal already must not be
    cut any more, which could part a dollar sign from its backslash.
    """
    return " ".join(drawable(text).split()).replace("$", r"\$")


def drawable(text: object, longest: int = LONGEST) -> str:
    r"""Text in characters that can be drawn, cut in its middle if it is overlong.

    Line breaks and tabs become spaces. What cannot be seen, and a character that no font of this
    machine has, is written as its code, such as `\u202e` or `\u5c42`.

    Args:
        text: The text.
        longest: Number of characters that stay.
    """
    plain = short(str(text).translate(_SPACES), longest)
    return plain if plain.isascii() else "".join(map(_with_glyph, plain))


@functools.cache
def families() -> tuple[str, ...]:
    """Font families to draw text with, the first one that has a character draws it."""
    installed = set(font_manager.get_font_names())
    return (_FIRST, *(name for name in _FURTHER if name in installed))


def _with_glyph(character: str) -> str:
    if character.isascii() or _has_glyph(ord(character)):
        return character
    return character.encode("unicode_escape").decode("ascii")


@functools.cache
def _has_glyph(code: int) -> bool:
    fonts = (font_manager.get_font(font_manager.findfont(name)) for name in families())
    return any(font.get_char_index(code) for font in fonts)
