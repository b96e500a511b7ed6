"""Where plots are drawn: a figure of their own that a notebook shows, or given axes."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pruneviz.errors import FigureError
from pruneviz.plot import style


class Picture(Figure):
    """A matplotlib figure that a notebook shows when a cell returns it.

    pyplot does not know it until `show`, so drawing changes nothing global and no figure is shown
    twice or kept in memory.
    """

    def _repr_png_(self) -> bytes:
        with style.paper():
            target = io.BytesIO()
            self.savefig(target, format="png", dpi=2 * 72)
        return target.getvalue()

    def show(self, warn: bool = True) -> None:
        """Show the figure in a window, as `pyplot.show` does for its own."""
        import matplotlib.pyplot as plt  # a second to import, and it chooses a backend

        manager = plt.new_figure_manager(0)
        manager.canvas.figure = self
        self.set_canvas(manager.canvas)
        plt.show()


def one_panel(ax: Axes | None, panels: int, what: str, repair: str) -> None:
    """Check that what is to be drawn into given axes is one panel.

    Raises:
        FigureError: If it is several; says what they are and how to choose.
    """
    if ax is not None and not isinstance(ax, Axes):
        raise FigureError(f"ax is a {type(ax).__name__}, expected matplotlib axes")
    if ax is not None and panels > 1:
        raise FigureError(f"ax= holds one panel, and this has {panels}: {what}; {repair}")


def picture(width: float, height: float, **options: Any) -> Picture:
    """An empty figure of a size in inches, with a layout that keeps labels apart."""
    return Picture(figsize=(width, height), layout="constrained", **options)
