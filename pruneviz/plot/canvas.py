"""Where plots are drawn: a figure of their own that a notebook shows, or given axes.

Every plot function is declared and drawn in the same way:

    @with_table(scatter_table)                   # scatter.table is scatter_table
    def scatter(source, x, y, *, ..., ax=None):
        return draw(scatter_table(source, x, y, ...), ..., ax=ax)

    def draw(table, ..., ax):                    # nothing but the table decides what is drawn
        with canvas(ax, names, "choose one with epochs") as drawn:
            for axes, name in zip(drawn.axes, drawn.names):
                ...
            drawn.legend(handles)
        return drawn.result
"""

from __future__ import annotations

import io
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from pruneviz.errors import FigureError
from pruneviz.plot import style
from pruneviz.plot.legends import legend
from pruneviz.plot.words import listed

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)

SCREEN_DPI = 144


class PlotFunction(Protocol[P, Q, R_co]):
    """A function that draws, with the function that returns the drawn numbers as `table`."""

    table: Callable[Q, pd.DataFrame]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Draw."""


def with_table(
    table: Callable[Q, pd.DataFrame],
) -> Callable[[Callable[P, R_co]], PlotFunction[P, Q, R_co]]:
    """Declare a plot function whose numbers `table` computes.

    Args:
        table: Function of the same arguments, without those of drawing alone, such as `ax`.

    Returns:
        A decorator. The plot function stays the function that it is, for `help` and `inspect`, and
        gains the attribute `table`.
    """

    def declared(function: Callable[P, R_co]) -> PlotFunction[P, Q, R_co]:
        found = cast(PlotFunction[P, Q, R_co], function)
        found.table = table
        return found

    return declared


class Picture(Figure):
    """A matplotlib figure that a notebook shows when a cell returns it.

    pyplot does not know it until `show`, so that drawing changes nothing global, no notebook shows
    a picture twice, and none is kept in memory.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        FigureCanvasAgg(self)  # keeps its renderer, so that texts are measured once a resolution

    def _repr_png_(self) -> bytes:
        target = io.BytesIO()
        self.savefig(target, format="png", dpi=SCREEN_DPI)
        return target.getvalue()

    def draw(self, renderer: RendererBase) -> None:
        """Draw in the style of the picture, which ticks that matplotlib creates late take up."""
        with style.paper():
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write the picture, as `matplotlib.figure.Figure.savefig` does, in the style of it."""
        with style.paper():
            super().savefig(fname, **options)

    def show(self, warn: bool = True) -> None:
        """Show the picture: below the cell of a notebook, else in a window until it is closed.

        Args:
            warn: Whether to warn where there is no window, such as on a server.
        """
        if in_notebook():
            from IPython.display import display

            display(self)
            return
        import matplotlib.pyplot as plt  # takes time to load, and chooses a backend

        window = plt.figure(figsize=tuple(self.get_size_inches()), dpi=self.dpi)
        manager = window.canvas.manager
        if manager is None or window.canvas.required_interactive_framework is None:
            plt.close(window)
            if warn:
                warnings.warn(
                    f"backend {plt.get_backend()} has no window to show a picture in; write it "
                    "with savefig",
                    stacklevel=2,
                )
            return
        manager.canvas.figure = self
        self.set_canvas(manager.canvas)
        plt.show()


def in_notebook() -> bool:
    """Whether the code runs in a kernel, whose front end displays pictures."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


@dataclass(frozen=True)
class Canvas:
    """Panels to draw into.

    Attributes:
        names: What each panel shows.
        axes: The panels, as many as names.
        given: The axes that a person gave; None for a picture of its own.
    """

    names: tuple[str, ...]
    axes: tuple[Axes, ...]
    given: Axes | None

    @property
    def figure(self) -> Figure | SubFigure:
        """The figure that holds the panels."""
        return self.axes[0].figure

    @property
    def result(self) -> Any:
        """What a plot function returns: the given axes, else the picture."""
        return self.figure if self.given is None else self.given

    def legend(
        self,
        handles: Sequence[Artist],
        columns: int | None = None,
        room: int = 1,
        **options: Any,
    ) -> None:
        """Explain lines, markers or bars: below the panels, or inside given axes.

        Args:
            handles: Artists with a label. None: no legend.
            columns: Entries in a row. Default: as many as fit the width.
            room: Rows that the height of the picture has room for; it grows by those beyond.
            options: Further arguments of matplotlib's `legend`.
        """
        target = self.given or cast(Figure, self.figure)
        legend(target, handles, columns=columns, room=room, **options)


@contextmanager
def canvas(
    ax: Axes | None,
    names: Sequence[str],
    choose: str,
    *,
    size: tuple[float, float],
    columns: int | None = None,
    **subplots: Any,
) -> Iterator[Canvas]:
    """Panels to draw into: given axes in the style of their figure, or a picture in our style.

    The picture is settled at the end: all later renderings show the same.

    Args:
        ax: Axes that a person gave, or None.
        names: What each panel shows, row by row; "" leaves a place empty.
        choose: How to choose one panel, for the error about `ax`.
        size: Width and height of the whole picture, in inches.
        columns: Panels in a row. Default: all.
        subplots: Further options of `Figure.subplots`, such as sharey.

    Raises:
        FigureError: If axes are given and there are several panels; names these and `choose`.
    """
    shown = tuple(name for index, name in enumerate(names) if name or len(names) == 1)
    if ax is not None:
        _check_given(ax, shown, choose)
        yield Canvas(shown, (ax,), ax)
        return
    with style.paper():
        figure = Picture(figsize=size, layout="constrained")
        across = columns or len(names)
        rows = math.ceil(len(names) / across)
        grid = list(figure.subplots(rows, across, squeeze=False, **subplots).flat)
        places = list(zip(grid, [*names, *[""] * (len(grid) - len(names))], strict=True))
        used = tuple(axes for axes, name in places if name or len(names) == 1)
        for axes in set(grid) - set(used):
            axes.remove()
        yield Canvas(shown, used, None)
        style.settle(figure)
        figure.set_dpi(SCREEN_DPI)  # after the layout, which depends on it a little
        if _is_cut_off(figure):  # long names are wider at this resolution
            figure.set_layout_engine("constrained")
            style.settle(figure)


def in_row(panels: int) -> int:
    """Panels in a row: at most three, and two of four."""
    return 2 if panels == 4 else min(panels, 3)


def with_rows_below(names: Sequence[str], across: int) -> list[str]:
    """Names of places in rows, each row followed by one of lower panels that go with it.

    Args:
        names: What each panel shows, row by row; "" is an empty place.
        across: Panels in a row.
    """
    rows = [list(names[start : start + across]) for start in range(0, len(names), across)]
    full = [row + [""] * (across - len(row)) for row in rows]
    return [name for row in full for name in row * 2]


def upper_and_lower(
    panels: Sequence[Axes], names: Sequence[str], across: int
) -> tuple[list[Axes], list[Axes]]:
    """Panels of a grid of `with_rows_below`: the upper ones, and those below them.

    Args:
        panels: All panels that have a name, row by row.
        names: What the upper panels show, with empty places.
        across: Panels in a row.
    """
    upper: list[Axes] = []
    lower: list[Axes] = []
    start = 0
    for row in range(0, len(names), across):
        count = sum(map(bool, names[row : row + across]))
        upper += panels[start : start + count]
        lower += panels[start + count : start + 2 * count]
        start += 2 * count
    return upper, lower


def row_heights(names: Sequence[str], across: int, heights: Sequence[float]) -> dict[str, Any]:
    """Options of `canvas` for the heights of upper and lower rows.

    Args:
        names: What the upper panels show, with empty places.
        across: Panels in a row.
        heights: Heights of an upper row and of the one below it, in proportion.
    """
    return {"gridspec_kw": {"height_ratios": [*heights] * -(-len(names) // across)}}


def _is_cut_off(figure: Figure) -> bool:
    """Whether something reaches over the edge of a picture."""
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(box.x0, box.y0, width - box.x1, height - box.y1) < 0


def _check_given(ax: object, names: Sequence[str], choose: str) -> None:
    if not isinstance(ax, Axes):
        raise FigureError(f"ax is a {type(ax).__name__}, expected matplotlib axes")
    if len(names) > 1:
        raise FigureError(
            f"ax is one panel, and this plot has {len(names)}: {listed(names)}; {choose}"
        )


def letters(count: int) -> list[str]:
    """Letters of panels for their titles: `(a) `, `(b) `, or nothing if there are too many."""
    return [f"({chr(ord('a') + index)}) " if count <= 26 else "" for index in range(count)]
