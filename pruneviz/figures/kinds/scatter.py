"""Figures 3, 13-15 and H1a: theta_hg against theta_g of every filter, at three epochs.

The epochs are the beginning, a quarter and the end of training. Points show one seed; correlations
are means over all seeds (Lubana and Dick, ICLR 2021). In H1a a point is a single weight; points are
a sample, correlations are over all weights.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from pruneviz import plot
from pruneviz.analysis.noise import clear_name
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.chosen_runs import chosen_spec
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plot.canvas import letters
from pruneviz.plot.points import clear_points, clear_words
from pruneviz.plot.row_kind import RowKind, check_recorded, row_kind_in, row_kind_of
from pruneviz.plot.scatter_heading import counts, when
from pruneviz.plot.scatter_plot import draw_points
from pruneviz.plot.signed_log import SignedLog
from pruneviz.plot.words import (
    COEFFICIENT_NAMES,
    dataset_title,
    interval,
    listed,
    mean_and_sd,
    network_title,
)

X, Y = "theta_g", "theta_hg"
# Columns of the filters table, and fields of DrawOptions, that the picture depends on.
NEEDS = (X, Y)
OPTIONS = ("method", "seed", "scale", "inset")


def table(runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """The numbers of the figure: those of `pruneviz.plot.scatter` for its runs and quantities.

    Raises:
        FigureError: If no epoch has both quantities in all runs, the requested seed was not
            recorded, or the log of single weights lacks their correlations; as for `chosen_spec`.
    """
    spec = chosen_spec(runs.spec, entry, options)
    chosen = runs.named(spec["run"])
    if row_kind_of(spec).sampled:
        check_recorded(chosen, spec, X, Y, [options.method])
    found = plot.scatter.table(chosen, X, Y, method=options.method, seed=options.seed)
    return found.assign(dataset=spec["dataset"].iloc[0])


def draw(table: pd.DataFrame, options: DrawOptions) -> Figure:
    """Draw a table of `table`: a panel per epoch, a point per row, coloured by layer depth."""
    return draw_points(
        table, x=X, y=Y, method=options.method, scale=options.scale, inset=options.inset
    )


def drawn(table: pd.DataFrame, options: DrawOptions) -> str:
    """Description of the picture, in words, including the thresholds of its axes."""
    facts, row_kind = table.iloc[0], row_kind_in(table)
    x, y = row_kind.column(X), row_kind.column(Y)
    text = (
        f"{_alone(table)}One point is one {row_kind.noun} of {network_title(facts['network'])} "
        f"{_trained_on(table)} {dataset_title(facts['dataset'])}; "
        f"x is {x.meaning} ({X}, {x.unit}), y is {y.meaning} ({Y}, {y.unit}). "
        f"{_sample(table, row_kind)}Points are those of {_seed_name(facts)}, {_above(facts)}; "
        "colour is the depth of the layer; grey lines mark zero. "
        f"{_hollow(table)}{_inset(options)}"
    )
    if options.scale == "linear":
        return text + "Both axes are linear."
    strips = "; ".join(
        f"x {linear[X]:.0e}, y {linear[Y]:.0e} at {place}"
        for place, linear in thresholds(table).iterrows()
    )
    return (
        f"{text}Axes are logarithmic in both directions beyond a shaded strip around zero in which "
        f"they are linear, up to {strips}."
    )


def _before_training(table: pd.DataFrame) -> bool:
    return bool((table["schedule"] == 0).all())


def _alone(table: pd.DataFrame) -> str:
    """Which of the paper's panels this is, if it is the first alone."""
    if not _before_training(table):
        return ""
    return "Panel (a) of the paper alone: these runs were measured at initialisation only. "


def _trained_on(table: pd.DataFrame) -> str:
    return "before training, measured on" if _before_training(table) else "trained on"


def _above(facts: pd.Series) -> str:
    """What stands above the panels."""
    if not facts["seeds"] > 1:
        return "whose correlations stand above"
    return "whose correlations stand above, before the means over all seeds"


def _hollow(table: pd.DataFrame) -> str:
    if clear_points(table, X, Y).isna().all():
        return ""
    where = clear_words(table, X, Y)
    return f"Hollow points are not clear of the noise of the sample{where}. "


def _inset(options: DrawOptions) -> str:
    if not options.inset:
        return ""
    return "Below, in colour and on linear axes: the points that decide Pearson's coefficient. "


def values(table: pd.DataFrame, options: DrawOptions) -> list[str]:
    """The computed correlations, one line per panel and coefficient."""
    lines, row_kind, panels = [], row_kind_in(table), _panels(table)
    for letter, (_, facts) in zip(letters(len(panels)), panels.iterrows(), strict=True):
        lines.append(f"{letter}{_place(facts)}, {counts(facts, row_kind)}:")
        for method in options.methods:
            lines.append(f"    {COEFFICIENT_NAMES[method]:<8} {_with_interval(facts, method)}")
        clear = _clear_of_noise(_points_of(table, facts)).dropna()
        if len(clear):
            shares = listed(f"{name} in {share:.0%}" for name, share in clear.items())
            lines.append(f"    clear of the noise of the sample: {shares} of the points shown")
    return lines


def thresholds(table: pd.DataFrame) -> pd.DataFrame:
    """The value up to which each symmetric-log axis is linear.

    Returns:
        One row per panel, indexed by its setting and epoch in words; one column per quantity.
    """
    panels = _panels(table)
    found = [
        {name: SignedLog.fit(_points_of(table, facts)[name].to_numpy()).threshold for name in NEEDS}
        for _, facts in panels.iterrows()
    ]
    places = [_group(facts) + f"epoch {facts['epoch']}" for _, facts in panels.iterrows()]
    return pd.DataFrame(found, index=places)


def _sample(table: pd.DataFrame, row_kind: RowKind) -> str:
    """Number of shown and of all rows, if the points are a sample."""
    shown = len(_points_of(table, table.iloc[0]))
    there = int(table[row_kind.counted].iloc[0])
    if shown >= there:
        return ""
    return (
        f"Shown are {shown:,} of its {there:,} {row_kind.noun}s, a fixed random sample; "
        "correlations are over all of them. "
    )


def _clear_of_noise(panel: pd.DataFrame) -> pd.Series:
    """Share of points clear of noise, by quantity; null if their errors are not known."""
    found = {name: panel.get(clear_name(name), pd.Series(dtype="boolean")) for name in NEEDS}
    return pd.Series({name: clear.astype("Float64").mean() for name, clear in found.items()})


def _with_interval(facts: pd.Series, method: str) -> str:
    mean = mean_and_sd(facts[method], facts[f"{method}_sd"], 3)
    return f"{mean} {interval(facts[f'{method}_low'], facts[f'{method}_high'])}"


def _panels(table: pd.DataFrame) -> pd.DataFrame:
    """One row per panel."""
    return table.drop_duplicates(["run", "epoch"])


def _points_of(table: pd.DataFrame, panel: pd.Series) -> pd.DataFrame:
    return table[(table["run"] == panel["run"]) & (table["epoch"] == panel["epoch"])]


def _place(panel: pd.Series) -> str:
    """Setting, if there are several, and epoch of a panel in words."""
    return _group(panel) + when(panel)


def _group(panel: pd.Series) -> str:
    return f"{panel['group']}, " if "group" in panel else ""


def _seed_name(facts: pd.Series) -> str:
    return f"run {facts['run']}" if pd.isna(facts["seed"]) else f"seed {int(facts['seed'])}"
