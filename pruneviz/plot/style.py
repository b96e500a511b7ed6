"""The common style of all pictures: print sizes, and looks of measures, networks and other names.

The six measures of the paper have looks of their own. Any other name has one that follows from the
name alone, and `styles_of` keeps names that are drawn together apart.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import matplotlib.style
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.typing import LineStyleType

from pruneviz.plot.glyphs import families

Line: TypeAlias = LineStyleType

# Inches: the text width of an ICLR paper, where no text is smaller than 7 points.
TEXT_WIDTH = 5.5
PNG_DPI = 220

# Dark blue and orange differ in hue for the three common kinds of colour blindness, and by about
# 30 steps of lightness in grey.
LEFT_COLOUR = "#0B3C7D"
RIGHT_COLOUR = "#C85A00"
GUIDE_COLOUR = "#9A9A9A"
NOTE_COLOUR = "#333333"
REFERENCE_COLOUR = "#707070"  # unpruned runs beside pruned ones

# Colours of pruning measures differ for the colour-blind; the three of the accuracy curves differ
# in grey too, by 0.17 of the lightness. Hatches distinguish six bars side by side, which differ in
# grey by 0.1 or in the kind of their hatch, not just in its direction; dashes crossing lines.
MEASURE_COLOURS: Mapping[str, str] = {
    "magnitude": "#0B3C7D",
    "proposed": "#C85A00",
    "loss_preservation": "#56B4E9",
    "grasp_t200": "#E3B505",
    "grasp": "#8C1D40",
    "gradient_norm_preservation": "#4F9D69",
}
MEASURE_HATCHES: Mapping[str, str] = {
    "magnitude": "",
    "proposed": "////",
    "loss_preservation": "",
    "grasp_t200": "....",
    "grasp": "....",
    "gradient_norm_preservation": "xxxx",
}
MEASURE_MARKERS: Mapping[str, str] = {
    "magnitude": "o",
    "proposed": "s",
    "loss_preservation": "^",
    "grasp_t200": "D",
    "grasp": "v",
    "gradient_norm_preservation": "P",
}

MEASURE_LINES: Mapping[str, Line] = {
    "magnitude": "-",
    "proposed": (0, (5, 1.5)),
    "loss_preservation": (0, (1, 1.2)),
    "grasp_t200": (0, (5, 1.5, 1, 1.5)),
    "grasp": (0, (9, 2)),
    "gradient_norm_preservation": (0, (4, 1.2, 1, 1.2, 1, 1.2)),
}

# What other names choose from. Any two of all colours here differ by 18 or more in CIE Lab, also
# under simulated colour blindness of the three kinds.
_COLOURS = ("#7A2BE0", "#1B1020", "#B200B2", "#B56A9B", "#5E4A0A", "#E6174B", "#8C7CF0")
_MARKERS = ("X", "<", "h", "*", ">", "d", "p", "H", "8", *MEASURE_MARKERS.values())
_HATCHES = ("----", "||||", "oooo", "++++", "//..", *MEASURE_HATCHES.values())
_LINES: tuple[Line, ...] = (*MEASURE_LINES.values(), (0, (2, 2)), (0, (8, 1.5, 2, 1.5)))
_WIDTH, _DOTTED = 1.2, 1.8  # points of curves; of those of which less than half is drawn
_GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue in the lightness
_APART = 0.1  # least difference in lightness that is told apart in grey


@dataclass(frozen=True)
class Style:
    """Look of a name.

    Attributes:
        colour: Of its lines, points and bars.
        marker: Of its points and lines.
        hatch: Of its bars.
        line: Dashes of its lines.
    """

    colour: str
    marker: str
    hatch: str
    line: Line


_RC: dict[str, Any] = {
    "font.size": 8,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#444444",
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 1.6,
    "ytick.minor.size": 1.6,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "hatch.linewidth": 0.7,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # TrueType: text stays text, as publishers ask
    "ps.fonttype": 42,
    "svg.hashsalt": "pruneviz",  # equal pictures give equal bytes
    "savefig.dpi": 400,  # of the rasterised points inside a PDF
}


@contextmanager
def paper() -> Iterator[None]:
    """Draw and save in the style of all figures; restores the rcParams afterwards."""
    with matplotlib.style.context(["default", _RC, {"font.family": list(families())}]):
        yield


def styles_of(names: Iterable[object]) -> dict[str, Style]:
    """Looks of names that are drawn together, so that no two look alike.

    A name has the look that it has alone, unless another name of the picture has it already. The
    looks do not depend on the order of the names. Up to 13 names differ in their colour, the first
    of them in grey too; beyond that they differ in colour and marker, hatch or line together.

    Args:
        names: Measures, networks, layers or other labels.

    Returns:
        A look for each name, as text, in the given order.
    """
    wanted = list(dict.fromkeys(map(str, names)))
    known = [name for name in wanted if name in MEASURE_COLOURS]
    found = {name: _of_measure(name) for name in known}
    for name in sorted(set(wanted) - set(known)):
        found[name] = _unlike(name, found.values())
    return {name: found[name] for name in wanted}


def variants_of(measure: str, count: int) -> list[Style]:
    """Looks of several settings of one measure: in its colour, told apart by all else.

    Args:
        measure: A key of `MEASURE_COLOURS`; the first look is its own.
        count: Number of looks.
    """
    own = _of_measure(measure)

    def others(first: Any, options: Sequence[Any]) -> list[Any]:
        return [first, *(option for option in dict.fromkeys(options) if option != first)]

    parts = zip(
        others(own.marker, _MARKERS),
        others(own.hatch, _HATCHES),
        itertools.cycle(others(own.line, _LINES)),
        strict=False,
    )
    return [Style(own.colour, *part) for part in itertools.islice(itertools.cycle(parts), count)]


def _of_measure(name: str) -> Style:
    return Style(
        MEASURE_COLOURS[name], MEASURE_MARKERS[name], MEASURE_HATCHES[name], MEASURE_LINES[name]
    )


def _unlike(name: str, taken: Collection[Style]) -> Style:
    """The look of a name beside others: as few as possible share its parts, and none the whole."""
    draw = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    colour = _colour(draw[0], [look.colour for look in taken])
    beside = [look for look in taken if look.colour == colour]
    return Style(
        colour,
        _least_used(_MARKERS, draw[1], [x.marker for x in beside], [x.marker for x in taken]),
        _least_used(_HATCHES, draw[2], [x.hatch for x in beside], [x.hatch for x in taken]),
        _least_used(_LINES, draw[3], [x.line for x in beside], [x.line for x in taken]),
    )


def _colour(place: int, taken: Sequence[str]) -> str:
    """A colour that is free and told apart in grey, or else free, or else seldom used."""
    own, papers = _rotated(_COLOURS, place), tuple(MEASURE_COLOURS.values())
    free = [colour for colour in (*own, *papers) if colour not in taken]
    apart = [
        colour
        for colour in free
        if all(abs(_lightness(colour) - _lightness(other)) >= _APART for other in taken)
    ]
    uses = Counter(taken)
    return next(iter(apart or free), min((*own, *papers), key=lambda colour: uses[colour]))


def _least_used(options: Sequence[Any], place: int, *uses: Sequence[Any]) -> Any:
    counts = [Counter(used) for used in uses]
    rotated = _rotated(options, place)
    return min(rotated, key=lambda option: tuple(count[option] for count in counts))


def _rotated(options: Sequence[Any], place: int) -> tuple[Any, ...]:
    start = place % len(options)
    return (*options[start:], *options[:start])


def _lightness(colour: str) -> float:
    return sum(weight * part for weight, part in zip(_GREY, to_rgb(colour), strict=True))


def line_width(line: Line) -> float:
    """Width of a curve in points: dotted ones are thicker, or grey would leave little of them."""
    if isinstance(line, str):
        return _WIDTH
    dashes = line[1] or (1, 0)
    return _DOTTED if 2 * sum(dashes[::2]) < sum(dashes) else _WIDTH


def depth_colours() -> Colormap:
    """Colours for layer depth: viridis without its palest end, which is invisible on paper."""
    viridis = matplotlib.colormaps["viridis"]
    return LinearSegmentedColormap.from_list("depth", [viridis(i / 255) for i in range(226)])


def settle(figure: Figure) -> None:
    """Fix the layout of a finished picture.

    matplotlib creates ticks late; this gives them the style, and all formats the same picture.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine(None)
