"""The few points that decide a Pearson coefficient, on linear axes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pruneviz.console.words import counted
from pruneviz.plot import style
from pruneviz.plot.colouring import Colouring
from pruneviz.plot.row_kind import RowKind

_OTHERS = 3.0  # size of the other points
_SMALL = 7.0  # points


def deciding(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The points that decide Pearson's coefficient of x and y.

    A point's weight w in it is the size of the product of its distances from the two means. Weights
    of unequal size count as (sum w)^2 / sum w^2 equal ones; so many points, those of the largest
    weight, decide.

    Args:
        x: One number per point.
        y: Another.

    Returns:
        Whether each point is among them: at least one, unless all weights are zero.
    """
    weights = np.abs((x - x.mean()) * (y - y.mean())) if len(x) else np.zeros(0)
    squares = float(np.sum(weights**2))
    if not squares > 0:
        return np.zeros(len(x), dtype=bool)
    number = max(1, round(float(np.sum(weights)) ** 2 / squares))
    chosen = np.zeros(len(x), dtype=bool)
    chosen[np.argsort(-weights, kind="stable")[:number]] = True
    return chosen


def draw_deciding(
    axes: Axes, rows: pd.DataFrame, colours: Colouring, names: tuple[str, str], row_kind: RowKind
) -> None:
    """Draw the deciding points of a panel in its colours, before the others in grey.

    Args:
        axes: The panel, whose axes stay linear.
        rows: All points; a point that is pruned decides nothing.
        colours: Colours of the points.
        names: Columns of x and y.
        row_kind: What the points are.
    """
    x, y = names
    found = deciding(rows[x].to_numpy(dtype="float64"), rows[y].to_numpy(dtype="float64"))
    axes.scatter(
        rows.loc[~found, x],
        rows.loc[~found, y],
        s=_OTHERS,
        color=style.GUIDE_COLOUR,
        alpha=0.5,
        linewidths=0,
        rasterized=True,
    )
    colours.draw(axes, rows[found], x, y)
    text = f"{counted(int(found.sum()), row_kind.noun)} decide r"
    if not found.any():
        text = "no r to decide"
    elif found.sum() == 1:
        text = f"one {row_kind.noun} decides r"
    axes.set_title(text, fontsize=_SMALL, fontweight="normal", color=style.NOTE_COLOUR, loc="left")
