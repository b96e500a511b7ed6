"""Legends that stay readable, whatever is named in them and however many entries they have."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator
from matplotlib.transforms import Bbox, ScaledTranslation

from pruneviz.console.shown_text import short
from pruneviz.plot.glyphs import drawable, literal

FEW = 8  # entries that one short block holds
MOST = 24  # entries; more would crowd out the picture
_LONGEST, _LONGEST_OF_MANY = 44, 34  # characters of a label
_MOST_TIMES = 2  # as long a label, so that it differs from others
_SMALL = 7.0  # points: the smallest text of the style
_LARGE = 7.5
_POINTS = 72
_LETTER = 0.58  # mean width of a letter, as a fraction of the font size
_ROW = 1.6  # height of an entry, in font sizes
_SHARE = 0.4  # of a figure's height that a legend below it may take
_AIRY = {"handlelength": 2.4, "columnspacing": 1.4}
_ONE_COLUMN = 3  # entries inside axes; more stand side by side
_INSIDE = 0.9  # of the width of axes: their text may be larger than that of our own pictures
_CLEAR, _MOST_ROOM = 0.04, 0.6  # room beside a legend, and of all that it takes, of an axis
_APART = 0.06  # inches between axes and a legend beside them
_AROUND = 4.5  # room of a handle and the gap after an entry, in font sizes


def legend(
    target: Figure | Axes,
    handles: Sequence[Artist],
    *,
    columns: int | None = None,
    most: int = MOST,
    room: int | None = None,
    **options: Any,
) -> Legend | None:
    """Name what is drawn: below a figure, or in or beside axes.

    Labels are drawn as they stand and shortened in their middle if they are long. Where there are
    more entries than fit, the first ones are named, and how many more there are.

    Args:
        target: Figure, below whose panels the legend stands; or axes, in which it stands while it
            is short and hides nothing, and else beside them: a layout of the figure makes room
            there, as does `savefig` with `bbox_inches="tight"`.
        handles: Drawn or made-up artists with labels. None without them.
        columns: Number of columns. Default: as many as fit into the width.
        most: Largest number of entries.
        room: Rows that a figure has room for; its height grows by those beyond. Default: it keeps
            its height, and names fewer entries if there are too many for it.
        options: Further arguments of matplotlib's `legend`.
    """
    longest = _LONGEST if len(handles) <= 2 * FEW else _LONGEST_OF_MANY
    labels = shortened([str(handle.get_label()) for handle in handles], longest)
    if not labels:
        return None
    if isinstance(target, Figure):
        labels = _wrapped(labels, target.get_figwidth())
        columns = min(len(labels), columns or fitting(target.get_figwidth(), labels))
        most = min(most, _entries(target, columns)) if room is None else most
    shown, labels = _first(handles, labels, most)
    if isinstance(target, Figure):
        place = {"loc": "outside lower center", **_AIRY}
        _grow(target, math.ceil(len(shown) / (columns or 1)), room)
    else:
        place = _beside(target, labels)
    small = {"fontsize": _SMALL} if len(shown) > FEW else {}
    fitted = {"ncols": columns} if columns else {}
    # A label with an underscore in front would leave its entry out, so the text comes afterwards.
    found = target.legend(
        handles=shown, labels=["."] * len(shown), **{**place, **small, **fitted, **options}
    )
    for text, label in zip(found.get_texts(), labels, strict=True):
        text.set_text(label)
    if isinstance(target, Axes) and place.get("loc") == "best" and "loc" not in options:
        _clear_way(target, found)
    return found


def _clear_way(axes: Axes, found: Legend) -> None:
    """Raise the upper ends of axes if a legend inside them hides something that is drawn.

    Axes that share the place, such as a second axis, are raised alike, and keep their common zero.
    A legend that would take most of the axes moves to their right.
    """
    figure = cast(Figure, axes.get_figure(root=True))
    figure.draw_without_rendering()
    box = found.get_window_extent()
    alike = [each for each in figure.axes if each.bbox.bounds == axes.bbox.bounds]
    drawn = [[*each.lines, *each.patches, *each.collections] for each in alike]
    if not any(_reaches(artist, box) for artists in drawn for artist in artists):
        return
    share = box.height / axes.bbox.height + _CLEAR
    if share > _MOST_ROOM:
        _move_beside(alike, found)
        return
    for each in alike:
        _raise(each, share)
    found.set_loc("upper left")


def _move_beside(alike: Sequence[Axes], found: Legend) -> None:
    """Move a legend to the right of axes and of what stands beside these, such as a second axis."""
    axes, figure = alike[0], cast(Figure, alike[0].get_figure(root=True))
    ends = [cast(Bbox, each.get_tightbbox(for_layout_only=True)).x1 for each in alike]
    inches = (max(ends) - axes.bbox.x1) / figure.dpi + _APART
    right = axes.transAxes + ScaledTranslation(inches, 0, figure.dpi_scale_trans)
    found.set_loc("upper left")
    found.set_bbox_to_anchor((1.0, 1.0), transform=right)
    found.borderaxespad = 0.0


def _raise(axes: Axes, share: float) -> None:
    """Leave a share of a panel free above what is drawn, without ticks there."""
    transform, (bottom, top) = axes.yaxis.get_transform(), axes.get_ylim()
    ticks = [float(tick) for tick in axes.get_yticks() if bottom <= tick <= top]
    low, high = transform.transform(np.array([bottom, top]))
    raised = transform.inverted().transform(np.array([low + (high - low) / (1 - share)]))
    axes.set_ylim(top=float(raised[0]))
    axes.yaxis.set_major_locator(FixedLocator(ticks))


def _reaches(artist: Artist, box: Bbox) -> bool:
    """Whether a line, bar, band or point lies where a legend is; spans of the background do not."""
    if artist.get_zorder() < 1:
        return False
    if isinstance(artist, Line2D):
        path = artist.get_transform().transform_path(artist.get_path())
        return bool(np.asarray(path.vertices).size) and path.intersects_bbox(box, filled=False)
    if isinstance(artist, PathCollection):
        offsets = np.array(artist.get_offsets(), dtype=float)
        return bool(box.count_contains(artist.get_offset_transform().transform(offsets)))
    return bool(artist.get_window_extent().overlaps(box))


def shortened(labels: Sequence[str], longest: int = _LONGEST) -> list[str]:
    """Labels cut in their middle to a length, or to a greater one at which they still differ.

    Where they differ only far from both ends, digits in the middle tell them apart. Labels are
    `drawable`, and have still to become `literal`.
    """
    known = list(map(drawable, labels))
    most = max(map(len, known), default=0)
    for length in range(longest, min(max(longest, most), _MOST_TIMES * longest) + 1, 8):
        found = [_cut(label, length) for label in known]
        if len(set(found)) == len(set(known)):
            return found
    return [short(label, longest) for label in known]


def _first(
    handles: Sequence[Artist], labels: Sequence[str], most: int
) -> tuple[list[Artist], list[str]]:
    """Entries with their text, the last of which counts those that are left out."""
    shown, texts = (
        list(handles),
        ["\n".join(map(literal, label.split("\n"))) for label in labels],
    )
    if len(shown) <= most:
        return shown, texts
    left = len(shown) - (most - 1)
    more = f"… and {left} more, in the table"
    return [*shown[: most - 1], Line2D([], [], linestyle="none")], [*texts[: most - 1], more]


def _entries(figure: Figure, columns: int) -> int:
    """Number of entries that leave most of a figure's height to its panels."""
    rows = _SHARE * figure.get_figheight() / (_ROW * _SMALL / _POINTS)
    return max(FEW, columns * int(rows))


def _grow(figure: Figure, rows: int, room: int | None) -> None:
    """Make room for more rows of a legend than a figure has room for."""
    beyond = max(0, rows - room) if room is not None else 0
    figure.set_figheight(figure.get_figheight() + beyond * _ROW * _SMALL / _POINTS)


def _beside(axes: Axes, labels: Sequence[str]) -> dict[str, Any]:
    """Inside axes; a long legend to the right of them, where the layout makes room for it."""
    figure = axes.get_figure(root=True)
    if len(labels) > FEW and figure is not None and figure.get_layout_engine() is not None:
        return {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
    width = axes.get_window_extent().width / axes.figure.dpi
    columns = 1 if len(labels) <= _ONE_COLUMN else fitting(_INSIDE * width, labels)
    return {
        "loc": "best",
        "ncols": columns,
        **({"fontsize": _small(), "columnspacing": 1.0} if len(labels) > _ONE_COLUMN else {}),
        "frameon": True,
        "framealpha": 0.8,
        "edgecolor": "none",
    }


def _small() -> float:
    """Size in points of text that is smaller than that around it, but not too small."""
    return max(_SMALL, FontProperties(size="small").get_size_in_points())


def _wrapped(labels: Sequence[str], width: float) -> list[str]:
    """Labels in several lines if they are longer than a width in inches."""
    letters = int((width / (_LARGE / _POINTS) - _AROUND) / _LETTER)
    return ["\n".join(textwrap.wrap(label, letters)) or label for label in labels]


def fitting(width: float, labels: Sequence[str], around: float = _AROUND) -> int:
    """Number of columns that a legend fits in a width.

    Args:
        width: In inches.
        labels: Its labels, column by column.
        around: Room of a handle and the gap after an entry, in font sizes.
    """
    for columns in range(len(labels), 1, -1):
        parts = np.array_split([_length(label) for label in labels], columns)
        letters = sum(max(part) * _LETTER + around for part in parts)
        if letters * _LARGE / _POINTS <= width:
            return columns
    return 1


def _length(label: str) -> int:
    return max(map(len, label.split("\n")))


def _cut(label: str, length: int) -> str:
    if len(label) <= length:
        return label
    head = length // 2
    return f"{label[:head]}…{label[len(label) - (length - head - 1) :]}"
