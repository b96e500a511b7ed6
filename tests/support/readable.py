"""Whether a picture can be read: the size of its texts, and that none is cut off or lies on another."""

from __future__ import annotations

import itertools

from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[Text]:
    """Every text that is drawn; ticks outside the limits of their axis exist but are not."""
    hidden = {
        label
        for axes, axis in (
            (axes, axis) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)
        )
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


def assert_readable(figure: Figure) -> None:
    """Every text is at least 7 points high, inside the canvas, and touches no other text."""
    figure.draw_without_rendering()
    found = texts(figure)
    boxes = [text.get_window_extent() for text in found]
    for text, box in zip(found, boxes, strict=True):
        assert text.get_fontsize() >= 7, text
        assert (
            box.x0 >= -0.5
            and box.y0 >= -0.5
            and box.x1 <= figure.bbox.x1 + 0.5
            and box.y1 <= figure.bbox.y1 + 0.5
        ), (text, box)
    for (one, a), (other, b) in itertools.combinations(zip(found, boxes, strict=True), 2):
        assert min(a.x1, b.x1) - max(a.x0, b.x0) <= 0 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 0, (
            one,
            other,
        )
