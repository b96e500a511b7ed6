"""One style for all pictures: sizes in inches and points as printed, and colours that stay apart for every eye and in grey."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib.style
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

TEXT_WIDTH = 5.5  # inches: the width of the single column of an ICLR paper, at which no text may fall below 7 points
PNG_DPI = 220

# Dark blue and orange differ in hue for the three common kinds of colour blindness and by some 30 steps of lightness in grey.
LEFT_COLOUR = "#0B3C7D"
RIGHT_COLOUR = "#C85A00"
GUIDE_COLOUR = "#9A9A9A"
NOTE_COLOUR = "#333333"

# Pruning measures: the colours differ for every eye, those of the three accuracy curves by 0.17 of the lightness in grey too; where six
# stand side by side, hatches tell them apart, and where lines cross, markers.
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
    "grasp": "----",
    "gradient_norm_preservation": "\\\\\\\\",
}
MEASURE_MARKERS: Mapping[str, str] = {
    "magnitude": "o",
    "proposed": "s",
    "loss_preservation": "^",
    "grasp_t200": "D",
    "grasp": "v",
    "gradient_norm_preservation": "P",
}

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
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
    "pdf.fonttype": 42,  # TrueType: text in the file stays text, and no publisher refuses it
    "ps.fonttype": 42,
    "svg.hashsalt": "pruneviz",  # equal pictures give equal bytes
    "savefig.dpi": 400,  # of the rasterised points inside a PDF
}


@contextmanager
def paper() -> Iterator[None]:
    """Draw and save inside this context in the one style of all figures; a person's own settings are back afterwards."""
    with matplotlib.style.context(["default", _RC]):
        yield


def depth_colours() -> Colormap:
    """Sequential colours for the depth of a layer: viridis without its palest end, which vanishes on white paper."""
    viridis = matplotlib.colormaps["viridis"]
    return LinearSegmentedColormap.from_list("depth", [viridis(i / 255) for i in range(226)])


def settle(figure: Figure) -> None:
    """Lay a finished picture out once and for all: ticks, made late, are made in this style, and every format shows the same picture."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
