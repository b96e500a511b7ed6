"""The common style of all pictures: print sizes and colour-blind-safe colours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib.style
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

# Inches: the text width of an ICLR paper, where no text is smaller than 7 points.
TEXT_WIDTH = 5.5
PNG_DPI = 220

# Dark blue and orange differ in hue for the three common kinds of colour blindness, and by about
# 30 steps of lightness in grey.
LEFT_COLOUR = "#0B3C7D"
RIGHT_COLOUR = "#C85A00"
GUIDE_COLOUR = "#9A9A9A"
NOTE_COLOUR = "#333333"

# Colours of pruning measures differ for the colour-blind; the three of the accuracy curves differ
# in grey too, by 0.17 of the lightness. Hatches distinguish six bars side by side, markers
# crossing lines.
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
    "pdf.fonttype": 42,  # TrueType: text stays text, as publishers ask
    "ps.fonttype": 42,
    "svg.hashsalt": "pruneviz",  # equal pictures give equal bytes
    "savefig.dpi": 400,  # of the rasterised points inside a PDF
}


@contextmanager
def paper() -> Iterator[None]:
    """Draw and save in the style of all figures; restores the rcParams afterwards."""
    with matplotlib.style.context(["default", _RC]):
        yield


def depth_colours() -> Colormap:
    """Colours for layer depth: viridis without its palest end, which is invisible on paper."""
    viridis = matplotlib.colormaps["viridis"]
    return LinearSegmentedColormap.from_list("depth", [viridis(i / 255) for i in range(226)])


def settle(figure: Figure) -> None:
    """Fix the layout of a finished picture.

    matplotlib creates ticks late; this gives them the style, and all formats the same picture.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
