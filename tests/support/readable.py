"""Whether a picture can be read: no text is small, cut off or covered by another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[Text]:
    """Every text that is drawn."""
    hidden = set(_labels_outside(figure))
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


def _labels_outside(figure: Figure) -> Iterator[Text]:
    """Labels of ticks outside the limits of their axis, which exist but are not drawn."""
    axis: Axis
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


def assert_readable(figure: Figure, *, drawn: bool = False) -> None:
    """Every text has at least 7 points, is inside the canvas, and touches no other text.

    Args:
        figure: Any figure.
        drawn: Whether it was just drawn at its own resolution, so that all texts have their place.
    """
    if not drawn:
        figure.draw_without_rendering()
    found = [(text, text.get_window_extent()) for text in texts(figure)]
    right, top = figure.bbox.x1 + 0.5, figure.bbox.y1 + 0.5
    for text, box in found:
        assert text.get_fontsize() >= 7, text
        assert box.x0 >= -0.5 and box.y0 >= -0.5, (text, box)
        assert box.x1 <= right and box.y1 <= top, (text, box)
    for (one, a), (other, b) in itertools.combinations(found, 2):
        apart = min(a.x1, b.x1) <= max(a.x0, b.x0) or min(a.y1, b.y1) <= max(a.y0, b.y0)
        assert apart, (one, other)
