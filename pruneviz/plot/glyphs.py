"""Text as it stands, drawn by fonts that have its characters: names hold `$`, `_`, `<` or 层."""

from __future__ import annotations

import functools

from matplotlib import font_manager

_FIRST = "DejaVu Sans"  # comes with matplotlib
# Families for characters that the first lacks, used where a machine has them.
_FURTHER = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "PingFang SC", "Hiragino Sans", "Heiti TC"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Segoe UI Symbol"),
)


def literal(text: object) -> str:
    r"""Text for matplotlib that is drawn as it stands: no mathematics between dollar signs.

    Line breaks become spaces, and a character that no font of this machine has is written as its
    code, such as `\u5c42`.
    """
    plain = " ".join(str(text).split())
    return "".join(map(_drawable, plain)).replace("$", r"\$")


@functools.cache
def families() -> tuple[str, ...]:
    """Font families to draw text with, the first one that has a character draws it."""
    installed = set(font_manager.get_font_names())
    return (_FIRST, *(name for name in _FURTHER if name in installed))


def _drawable(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    code = ord(character)
    return character if _has_glyph(code) else rf"\u{code:04x}"


@functools.cache
def _has_glyph(code: int) -> bool:
    fonts = (font_manager.get_font(font_manager.findfont(name)) for name in families())
    return any(font.get_char_index(code) for font in fonts)
