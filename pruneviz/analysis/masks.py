"""Keep masks from importance scores, and distances between the masks of two epochs.

A mask is flat: all filters of a network are ranked together, across layers. The mask distance of
You et al., "Drawing Early-Bird Tickets", ICLR 2020, is the fraction of positions in which two masks
differ.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.analysis.checks import require_columns
from pruneviz.analysis.mask_chance import chance_distance
from pruneviz.analysis.measures import AnyMeasure
from pruneviz.analysis.run_facts import check_is_scan, check_not_left_out, table_of
from pruneviz.analysis.scores import columns_read, sendable
from pruneviz.analysis.scores import score as importance
from pruneviz.analysis.thin_masks import check_references
from pruneviz.errors import AnalysisError
from pruneviz.log.arguments import exactly, is_number, is_whole
from pruneviz.log.pieces import results_of
from pruneviz.log.runs import Runs
from pruneviz.log.scan import Scan
from pruneviz.log.sections import Section
from pruneviz.log.vocabulary import MASK_RATIO, MASK_SCORES

_KEYS = ("run", "epoch", "layer", "filter")
_PRUNED = -np.inf  # score of a filter that is already pruned: below every kept filter


def keep_mask(scores: pd.Series, ratio: float) -> pd.Series:
    """Mask of the filters that are kept when the lowest-scoring fraction `ratio` is pruned.

    All rows are ranked together. Exactly round(ratio * n) of the n rows that have a score are
    pruned, half of a row rounded to the even number; ties are pruned in row order.

    Args:
        scores: One importance per filter.
        ratio: Fraction to prune, from 0 to 1.

    Returns:
        Series of dtype "boolean" with the index of `scores`: True for kept, null where the score is
        null.

    Raises:
        AnalysisError: If `ratio` is outside [0, 1].

    Example:
        >>> pv.keep_mask(pv.score(table, "bn_scale"), ratio=0.2)
    """
    check_ratio(ratio)
    if not isinstance(scores, pd.Series):
        raise AnalysisError(
            f"keep_mask takes scores, not {type(scores).__name__}; score the filters first, as in "
            "pv.score(runs, 'bn_scale')"
        )
    values = _values(scores)
    keep = pd.Series(_kept(values, ratio), index=scores.index, name="keep", dtype="boolean")
    return keep.mask(np.isnan(values), pd.NA)


def mask_distance(
    filters: Runs | pd.DataFrame | Scan,
    score: AnyMeasure = MASK_SCORES["filter"],
    ratio: float = MASK_RATIO,
    lag: int = 1,
    *,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Distance between the pruning masks at each epoch and at an earlier one.

    The distance is the fraction of positions in which two masks differ. Positions are the filters
    that have a score at both epochs, matched by name; ties rank in the order in which the run first
    names the filters. Filters that are already pruned (`kept` false) are always masked out and
    count towards the ratio, even if their score is null.

    Args:
        filters: Runs; or a filters table with run, epoch, layer, filter (and weight for single
            weights) and the columns that the measure needs; or a `Scan` for tables on disk.
        score: Pruning measure, as for `pruneviz.score`.
        ratio: Fraction to prune, from 0 to 1.
        lag: Number of scored epochs to go back; 1 compares consecutive scored epochs, whatever
            their numbers. Of runs and scans, an epoch that a thin copy left out counts too.
        executor: Who works on the runs of a `Scan`, one run at a time: processes, Dask, Ray,
            anything that is a `concurrent.futures.Executor` (docs/large_sets.md). Default: this
            process.

    Returns:
        One row per run and epoch that has a reference: run, epoch, ref_epoch, distance and chance.
        distance is a fraction, at most 2q, with q the pruned fraction. It is null if all scores of
        either epoch are equal, as batch-norm scales are before training: without a ranking, the
        mask would only reflect the row order. chance is the expected distance of two masks that
        are random but for what is pruned already: 2q(1 - q) of an unpruned network, and
        2(q - s)(1 - q)/(1 - s) with a share s pruned at both epochs.

    Raises:
        AnalysisError: If a key column is missing; if a filter occurs twice at one epoch; if `ratio`
            is outside [0, 1] or `lag` below 1; if a thin copy left out an epoch to go back to, so
            that its distances would not be those of the full run; if a worker of `executor` fails
            or dies, which names the run.
        ScoreError: If the measure is unknown or a column that it needs is missing.

    References:
        You et al., "Drawing Early-Bird Tickets", ICLR 2020.
        Lubana and Dick, ICLR 2021, Figure 2 (`bn_scale`, 20 % pruned).

    Example:
        >>> runs = pv.load("data/cifar-mini")
        >>> pv.mask_distance(runs, score="bn_scale", ratio=0.2)
    """
    check_ratio(ratio)
    if not is_whole(lag) or lag < 1:
        raise AnalysisError(
            f"lag={lag!r}; give the number of epochs to go back, a whole number from 1"
        )
    check_is_scan(filters, executor)
    keys = (*_KEYS, "weight", "kept")
    if isinstance(filters, Scan):
        check_not_left_out(filters, [score])
        filters.look_through(executor)
    table = filters if isinstance(filters, Scan) else table_of(filters, [score], keys)
    empty = table.no_rows() if isinstance(table, Scan) else table.iloc[:0]
    importance(empty, score)
    _check_keys(empty)
    if isinstance(table, Scan):
        columns = tuple(table.columns_among([*keys, *columns_read(score)]))
        asked = _Asked(sendable(score), ratio, int(lag), columns, table.layers)
        work = partial(_of_run, asked)
        parts = list(results_of(work, table.whole_runs(), executor, table.section_rows))
    else:
        scored = _with_scores(table, score).groupby("run", observed=True)
        parts = [_distances(run, [rows], ratio, int(lag)) for run, rows in scored]
    found = _gathered(parts, empty)
    if isinstance(filters, Runs):
        check_references(found, score, int(lag), filters.thin_copies())
    elif isinstance(filters, Scan):
        check_references(found, score, int(lag), filters.thin)
    return found


def distance_between(previous: pd.Series, current: pd.Series, ratio: float) -> float:
    """Distance between the masks from two sets of scores for the same filters.

    Args:
        previous: Importances at the earlier epoch; -inf for a filter that is pruned already (see
            `mask_scores`), which is always masked out.
        current: Importances at the later epoch, matched to `previous` by index.
        ratio: Fraction to prune, from 0 to 1.

    Returns:
        Fraction of positions in which the masks differ, at most 2 * ratio unless more is already
        pruned. NaN if no filter has both scores or all scores of an epoch are equal.

    Raises:
        AnalysisError: If the two do not name the same filters, or `ratio` is outside [0, 1].

    References:
        You et al., "Drawing Early-Bird Tickets", ICLR 2020.
    """
    check_ratio(ratio)
    if not previous.index.equals(current.index):
        current = _aligned(previous, current)
    return _distance_and_chance(_values(previous), _values(current), ratio)[0]


def mask_scores(filters: pd.DataFrame, score: AnyMeasure) -> pd.Series:
    """Importances as masks rank them: -inf for filters that are already pruned.

    Args:
        filters: Filters table; without a column `kept`, all filters count as kept.
        score: Pruning measure, as for `pruneviz.score`.

    Returns:
        Float64 Series with the index of the table. Null scores stay null.

    Raises:
        ScoreError: If the measure is unknown or a column that it needs is missing.
    """
    scores = importance(filters, score)
    if "kept" not in filters:
        return scores
    return scores.mask(_pruned(filters["kept"]) & scores.notna(), _PRUNED)


def _kept(values: np.ndarray, ratio: float) -> np.ndarray:
    """Rows that stay when round(ratio * n) of the n rows with a score are pruned.

    False where there is no score.
    """
    keep: np.ndarray = ~np.isnan(values)
    count = round(exactly(ratio) * int(keep.sum()))
    if count:
        # A partition: sorting the millions of weights of a network would take seconds.
        threshold = np.partition(values[keep], count - 1)[count - 1]
        below = values < threshold
        equal = np.flatnonzero(values == threshold)
        keep &= ~below
        keep[equal[: count - int(below.sum())]] = False
    return keep


def _distance_and_chance(
    previous: np.ndarray, current: np.ndarray, ratio: float
) -> tuple[float, float]:
    common = ~(np.isnan(previous) | np.isnan(current))
    if not common.any():
        return np.nan, np.nan
    before, now = previous[common], current[common]
    masks = [_kept(values, ratio) & (values > _PRUNED) for values in (before, now)]
    p, q = (1 - mask.mean() for mask in masks)
    gone = [values == _PRUNED for values in (before, now)]
    shares = (gone[0].mean(), gone[1].mean(), (gone[0] & gone[1]).mean())
    chance = float(chance_distance(p, q, *shares))
    if not (_has_ranking(before) and _has_ranking(now)):
        return np.nan, chance
    return float(np.mean(masks[0] != masks[1])), chance


def _has_ranking(values: np.ndarray) -> bool:
    standing = values[values > _PRUNED]
    return standing.size > 0 and bool(standing.min() < standing.max())


@dataclass(frozen=True)
class _Asked:
    """Which masks of the runs of a scan are compared; can be sent to another process."""

    score: AnyMeasure
    ratio: float
    lag: int
    columns: tuple[str, ...]
    layers: tuple[str, ...]


def _of_run(asked: _Asked, section: Section) -> pd.DataFrame:
    """Distances of a run on disk."""
    blocks = section.blocks(asked.columns, asked.layers)
    scored = (_with_scores(block, asked.score) for block in blocks)
    return _distances(section.of.run, scored, asked.ratio, asked.lag)


def _with_scores(filters: pd.DataFrame, score: AnyMeasure) -> pd.DataFrame:
    keys = filters[[key for key in (*_KEYS, "weight") if key in filters.columns]]
    return keys.assign(
        layer=keys["layer"].astype("category"),
        kept=filters.get("kept", True),
        score=importance(filters, score),
    )


def _distances(run: object, blocks: Iterable[pd.DataFrame], ratio: float, lag: int) -> pd.DataFrame:
    found = []
    before: deque[tuple[int, np.ndarray]] = deque(maxlen=lag)
    for epoch, scores in _scored_epochs(run, blocks):
        if len(before) == lag:
            ref_epoch, earlier = before[0]
            earlier = np.append(earlier, np.full(len(scores) - len(earlier), np.nan))
            found.append((run, epoch, ref_epoch, *_distance_and_chance(earlier, scores, ratio)))
        before.append((epoch, scores))
    return pd.DataFrame(found, columns=["run", "epoch", "ref_epoch", "distance", "chance"])


def _scored_epochs(run: object, blocks: Iterable[pd.DataFrame]) -> Iterator[tuple[int, np.ndarray]]:
    """Epochs of one run that have the score, ascending, each with its scores.

    Scores cover all filters named so far, in order of appearance.
    """
    places = _Places(run)
    had_score = np.zeros(0, dtype=bool)
    for epoch, keys, values, gone in itertools.chain.from_iterable(map(_epochs, blocks)):
        at = places.of(keys)
        scores, pruned = np.full(len(places), np.nan), np.zeros(len(places), dtype=bool)
        scores[at], pruned[at] = values, gone
        newcomers = np.zeros(len(places) - len(had_score), dtype=bool)
        had_score = np.append(had_score, newcomers) | ~np.isnan(scores)
        measured = not np.isnan(scores).all()
        # A filter that never had a score, such as one without batch norm, is not part of the mask,
        # pruned or not.
        scores[pruned & had_score] = _PRUNED
        if measured:
            yield epoch, scores


def _epochs(rows: pd.DataFrame) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Epochs of a block, ascending: number, keys [layer filter weight, row], scores, pruned."""
    epochs = rows["epoch"].to_numpy()
    weight = rows.get("weight", pd.Series(-1, index=rows.index))
    columns = [rows["layer"].cat.codes, rows["filter"], weight]
    keys = np.stack([column.fillna(-1).to_numpy(dtype="int64") for column in columns])
    scores, pruned = _values(rows["score"]), _pruned(rows["kept"])
    if (np.diff(epochs) < 0).any():
        order = np.argsort(epochs, kind="stable")
        epochs, keys, scores, pruned = epochs[order], keys[:, order], scores[order], pruned[order]
    starts = np.flatnonzero(np.diff(epochs, prepend=epochs[:1] - 1))
    for start, end in zip(starts, [*starts[1:], len(epochs)], strict=True):
        yield int(epochs[start]), keys[:, start:end], scores[start:end], pruned[start:end]


class _Places:
    """Positions of a run's filters in its masks, in order of first appearance."""

    def __init__(self, run: object) -> None:
        self._run = run
        self._known = self._asked = np.zeros((3, 0), dtype="int64")
        self._answer = np.zeros(0, dtype="int64")

    def __len__(self) -> int:
        return self._known.shape[1]

    def of(self, keys: np.ndarray) -> np.ndarray:
        """Positions of one epoch's keys [layer filter weight, row]; new keys are appended."""
        # Nearly every epoch names the filters of the epoch before, in the same order.
        if not np.array_equal(keys, self._asked):
            both = np.concatenate([self._known, keys], axis=1)
            positions = pd.DataFrame(both.T).groupby([0, 1, 2], sort=False).ngroup().to_numpy()
            self._answer = positions[len(self) :]
            self._check_once_each()
            self._known = np.concatenate([self._known, keys[:, self._answer >= len(self)]], axis=1)
            self._asked = keys
        return self._answer

    def _check_once_each(self) -> None:
        if len(np.unique(self._answer)) < len(self._answer):
            raise AnalysisError(
                f"run {self._run} has a filter twice at one epoch; pass a table with one row per "
                "run, epoch and filter (or weight)"
            )


def _gathered(parts: list[pd.DataFrame], filters: pd.DataFrame) -> pd.DataFrame:
    """One table for all runs, with key dtypes as in `filters`."""
    rows = [part for part in parts if len(part)]
    if rows:
        table = pd.concat(rows, ignore_index=True)
    else:
        columns = ("run", "epoch", "ref_epoch", "distance", "chance")
        table = pd.DataFrame({name: [] for name in columns})
    epoch = filters["epoch"].dtype
    return table.astype({"run": filters["run"].dtype, "epoch": epoch, "ref_epoch": epoch})


def _values(scores: pd.Series) -> np.ndarray:
    return scores.to_numpy(dtype="float64", na_value=np.nan)


def _pruned(kept: pd.Series) -> np.ndarray:
    # A null counts as kept.
    return kept.eq(False).fillna(False).to_numpy(dtype=bool)


def _aligned(previous: pd.Series, current: pd.Series) -> pd.Series:
    """`current` in the order of `previous`."""
    unique = previous.index.is_unique and current.index.is_unique
    same_length = len(previous) == len(current)
    if not (unique and same_length and bool(current.index.isin(previous.index).all())):
        raise AnalysisError(
            f"scores of {len(previous)} and of {len(current)} filters do not name the same "
            "filters; give both an index that names each filter once, such as layer and filter"
        )
    return current.reindex(previous.index)


def check_ratio(ratio: Any) -> None:
    """Check the fraction that a mask prunes.

    Raises:
        AnalysisError: If it is not a number from 0 to 1.
    """
    if not (is_number(ratio) and 0 <= ratio <= 1):
        raise AnalysisError(
            f"ratio={ratio!r}; give the fraction of filters to prune, from 0 to 1, such as 0.2 for "
            "20 %"
        )


def _check_keys(filters: pd.DataFrame) -> None:
    repair = "mask_distance needs the filters table of a log"
    require_columns(filters, _KEYS, "the table", repair)
