"""Any name is drawn as it stands."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from pruneviz.plot import style
from pruneviz.plot.glyphs import families, literal


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("a_b <c> & d%", "a_b <c> & d%"),
        ("$x$ and $y$", r"\$x\$ and \$y\$"),
        ("one $", r"one \$"),
        ("größe → λ²", "größe → λ²"),
        ("two\nlines\tand more", "two lines and more"),
        ("\x00\ue000", r"\x00\ue000"),
        (3, "3"),
    ],
)
def test_text_is_drawn_literally_and_without_warnings(text: object, drawn: str) -> None:
    assert literal(text) == drawn
    with style.paper():
        figure = Figure()
        figure.text(0, 0, literal(text))
        figure.draw_without_rendering()  # a missing glyph or a fault of TeX would warn or raise


def test_the_font_that_comes_with_matplotlib_is_first() -> None:
    assert families()[0] == "DejaVu Sans"
