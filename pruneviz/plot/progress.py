"""Where one run stands while it is recorded, and its filters at one epoch, as pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from matplotlib.axes import Axes

from pruneviz.analysis.matrix import recorded_measures
from pruneviz.errors import PrunevizError
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import is_accuracy
from pruneviz.plot import style
from pruneviz.plot.accuracy_plot import accuracy
from pruneviz.plot.canvas import SCREEN_DPI, Picture
from pruneviz.plot.correlation_plot import correlation
from pruneviz.plot.glyphs import drawable, literal
from pruneviz.plot.scatter_plot import scatter

# What is drawn against each other: the first pair that a run holds.
PAIRS = (
    ("theta_g", "theta_hg"),
    ("theta_change", "loss_preservation"),
    ("sigma_change", "loss_preservation"),
    ("magnitude", "loss_preservation"),
    ("magnitude", "bn_scale"),
    ("magnitude", "l1_norm"),
)
_SIZE = (14.5, 3.6)  # inches
_LINE = 30  # characters of a text in a panel
_LOSSES = ("train_loss", "test_loss", "sample_loss")


def progress(runs: Runs) -> Picture:
    """Draw where a run stands: its filters at the last measured epoch, and its course so far.

    Four panels: a scatter of the first of `PAIRS` that the run holds, the correlation of the two by
    epoch, the recorded distance between pruning masks, and accuracy, or a loss. A panel that has
    nothing to show yet says so.

    Args:
        runs: One run, up to any epoch.
    """
    pair = _pair(runs)
    panels = (
        lambda axes: _draw_scatter(runs, pair, axes),
        lambda axes: _draw_correlation(runs, pair, axes),
        lambda axes: _draw_masks(runs, axes),
        lambda axes: _draw_fact(runs, axes),
    )
    with style.paper():
        figure = Picture(figsize=_SIZE, layout="constrained")
        for axes, draw in zip(figure.subplots(1, len(panels)), panels, strict=True):
            _draw_or_say(axes, draw)
        figure.suptitle(literal(_title(runs)), fontsize=8, x=0.01, ha="left")
        style.settle(figure)
        figure.set_dpi(SCREEN_DPI)
    return figure


def epoch_scatter(runs: Runs) -> Picture | None:
    """Draw the filters of a run at one epoch, by the first of `PAIRS` that is recorded there.

    Args:
        runs: One run, with the rows of one epoch.

    Returns:
        The picture; None if the epoch holds none of the pairs.
    """
    pair = _pair(runs)
    return None if pair is None else scatter(runs, *pair)


def _pair(runs: Runs) -> tuple[str, str] | None:
    held = {*runs.recorded("filters"), *recorded_measures(runs)}
    return next((pair for pair in PAIRS if set(pair) <= held), None)


def _title(runs: Runs) -> str:
    run = str(runs.spec["run"].iloc[0])
    epochs = runs.epochs["epoch"]
    return f"{run}, epoch {epochs.max()}" if len(epochs) else f"{run}, before the first epoch"


def _draw_or_say(axes: Axes, draw: Callable[[Axes], object]) -> None:
    """Draw into a panel, or write there why nothing can be drawn yet."""
    try:
        draw(axes)
    except PrunevizError as error:
        axes.clear()
        _write(axes, str(error))


def _draw_scatter(runs: Runs, pair: tuple[str, str] | None, axes: Axes) -> None:
    if pair is None:
        _write(axes, "no epoch with two quantities of the filters is recorded yet")
    else:
        scatter(runs, *pair, epochs=-1, ax=axes)


def _draw_correlation(runs: Runs, pair: tuple[str, str] | None, axes: Axes) -> None:
    if pair is None:
        _write(axes, "no correlation is recorded yet")
    else:
        correlation(runs, *pair, mask_score=None, ax=axes)


def _draw_masks(runs: Runs, axes: Axes) -> None:
    if runs.epochs["mask_distance"].notna().any():
        accuracy(runs, "mask_distance", ax=axes)
    else:
        _write(axes, "no two epochs are recorded yet whose masks can be compared")


def _draw_fact(runs: Runs, axes: Axes) -> None:
    known = [str(name) for name in runs.epochs if runs.epochs[name].notna().any()]
    if any(is_accuracy(name) for name in known):
        accuracy(runs, ax=axes)
        return
    losses = [name for name in _LOSSES if name in known]
    if losses:
        accuracy(runs, losses[0], ax=axes)
    else:
        _write(axes, "no accuracy and no loss is recorded yet; give them to after_epoch")


def _write(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    words = "\n".join(literal(line) for line in textwrap.wrap(drawable(text), _LINE))
    axes.text(0.5, 0.5, words, ha="center", va="center", color=style.NOTE_COLOUR)
