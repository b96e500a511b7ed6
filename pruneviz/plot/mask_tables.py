"""The numbers of `pv.plot.masks`: which filters are kept at every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pruneviz.analysis.masks import keep_mask
from pruneviz.analysis.measures import AnyMeasure
from pruneviz.analysis.thin_masks import reads_derivatives
from pruneviz.errors import FigureError
from pruneviz.log.runs import Runs
from pruneviz.log.thin_copies import ThinCopy
from pruneviz.plot.mean_masks import mask_ratio_of, mask_scores_of
from pruneviz.plot.recorded import (
    Wanted,
    check_held,
    depths_of,
    epochs_of_group,
    groups_of,
    known_quantity,
    lowest_seed,
    recorded_names,
    values_of,
)
from pruneviz.plot.source import Chosen, Source, asked_epochs, runs_of
from pruneviz.plot.trajectories import chosen_layers


def masks_table(
    source: Source,
    *,
    score: AnyMeasure | None = None,
    ratio: float | None = None,
    layers: str | Sequence[str] | None = None,
    epochs: Wanted = None,
    runs: Chosen = None,
    unit: str | None = None,
    by: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """The numbers of `pv.plot.masks`, from the same arguments.

    Returns:
        One row per group of runs, filter and epoch, for the run with the lowest seed: group, run,
        seeds (runs in the group), score (pruning measure of the mask; null if it is the recorded
        one) and ratio (pruned fraction), depth (of the layer, from 1), layer, filter, weight (of
        single weights), epoch and kept (null where a filter has no score, or all filters of an
        epoch score alike and so have no ranking). Of thin copies also of_epochs, the number of
        epochs that were recorded, of which a copy holds some.

    Raises:
        FigureError: If a measure, layer, epoch or run is unknown, or no run holds the values that a
            measure needs; lists what is there.
        AnalysisError: If `ratio` is outside [0, 1].
    """
    epochs, whole = asked_epochs(epochs), runs_of(source, runs, unit)
    if score is not None:
        check_held(whole, [score])
    groups = [_of(label, group, score, ratio) for label, group in groups_of(whole, by)]
    groups = [group for group in groups if len(group.rows)]
    if not groups:
        name = "filters" if score is None else known_quantity(whole, score).name
        raise FigureError(f"there are no values of {name} to draw masks from")
    names = chosen_layers(pd.concat([group.rows[["layer"]] for group in groups]), layers)
    known = sorted({epoch for group in groups for epoch in group.epochs})
    parts = []
    for group in groups:
        at = epochs_of_group(group.epochs, known, epochs)
        rows = group.rows
        parts.append(rows[rows["epoch"].isin(at) & rows["layer"].isin(names)])
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True, repr=False)
class _Group:
    """The masks of a run that stands for a group, at all epochs that have them."""

    rows: pd.DataFrame

    @property
    def epochs(self) -> list[int]:
        """Epochs with a mask, ascending."""
        return sorted(map(int, self.rows["epoch"].unique()))


def _of(label: str, group: Runs, score: AnyMeasure | None, ratio: float | None) -> _Group:
    run = lowest_seed(group)
    copies = run.thin_copies()
    if score is None and ratio is None:
        rows = _with_recorded(values_of(run, []), copies)
        if not rows["kept"].all() or any(copy.pruned for copy in copies):
            return _described(rows, label, group, None, np.nan)
    chosen = _score_of(run) if score is None else score
    share = mask_ratio_of(run.spec) if ratio is None else ratio
    name = known_quantity(run, chosen).name
    rows = values_of(run, [chosen], of_pruned=True).rename(columns={name: "score"})
    for copy in copies:
        _check_ranked(copy, rows, reads_derivatives(known_quantity(run, chosen)))
    rows = _with_recorded(_by_score(rows, share), copies)
    return _described(rows, label, group, name, share)


def _with_recorded(rows: pd.DataFrame, copies: Sequence[ThinCopy]) -> pd.DataFrame:
    """The rows; those of a copy that lacks epochs with the number of epochs of its full run."""
    lacking = [copy for copy in copies if len(copy.held) < len(copy.recorded)]
    return rows.assign(of_epochs=len(lacking[0].recorded)) if lacking else rows


def _score_of(run: Runs) -> str:
    """The measure whose masks the run logged, or else the usual one, as far as it has values."""
    known, wanted = recorded_names(run), mask_scores_of(run.spec)
    for name in wanted:
        if name in known:
            return name
    raise FigureError(
        f"nothing was pruned, and there is no {' or '.join(wanted)} to make masks by; name a "
        f"measure with score=, one of [{', '.join(known)}]"
    )


def _check_ranked(copy: ThinCopy, rows: pd.DataFrame, derived: bool) -> None:
    """Check that a thin copy tells which pruned filters ever had a score, as masks need to know.

    A filter that was pruned before the first epoch that is left has no derivatives there.

    Raises:
        FigureError: If it does not.
    """
    if derived and not rows["kept"].all() and set(copy.measured) - set(copy.held):
        raise FigureError(
            f"{copy.run} {copy.in_words}, so which of its pruned filters count in a mask is not "
            "known; name a score of weights, such as magnitude, or draw the full run"
        )


def _by_score(rows: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """Masks of all epochs that have the score, as `pruneviz.mask_distance` compares them."""
    keys = ["layer", "filter", *(["weight"] if "weight" in rows else [])]
    ranked = rows.groupby(keys, observed=True, dropna=False)["score"].transform("count") > 0
    # Pruned filters rank below all others; filters that never have a score are not in the mask.
    scores = rows["score"].mask(~rows["kept"] & ranked, -np.inf)
    found = []
    for _, epoch in rows.assign(score=scores).groupby("epoch"):
        standing = epoch.loc[epoch["kept"], "score"].dropna()
        if not len(standing):
            continue
        mask = keep_mask(epoch["score"], ratio) & epoch["kept"]
        alike = standing.min() == standing.max()
        found.append(epoch.assign(kept=mask.mask(epoch["kept"], pd.NA) if alike else mask))
    return pd.concat(found) if found else rows.iloc[:0]


def _described(
    rows: pd.DataFrame, label: str, group: Runs, score: str | None, ratio: float
) -> _Group:
    depths = rows["layer"].map(depths_of(rows)).astype("int64")
    keys = [key for key in ("weight", "of_epochs") if key in rows and rows[key].notna().any()]
    described = rows.assign(
        group=label,
        seeds=len(group),
        score=score,
        ratio=ratio,
        depth=depths,
        kept=rows["kept"].astype("boolean"),
    )
    first = ["group", "run", "seeds", "score", "ratio", "depth", "layer", "filter"]
    return _Group(
        described[[*first, *keys, "epoch", "kept"]].astype({"run": "str", "layer": "str"})
    )
