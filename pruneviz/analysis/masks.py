"""Keep masks from importance scores, and the distance between the masks of two epochs.

A mask is flat: all filters of a network are ranked together, whatever their layer. The mask distance is that of You et al.,
"Drawing Early-Bird Tickets", ICLR 2020: the fraction of positions in which two masks differ.
"""

from __future__ import annotations

import itertools
import numbers
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from pruneviz.analysis.scores import columns_read
from pruneviz.analysis.scores import score as importance
from pruneviz.errors import AnalysisError
from pruneviz.log.scan import Scan

_KEYS = ("run", "epoch", "layer", "filter")
_PRUNED = (
    -np.inf
)  # the score of a filter that is gone already: below every score of a filter that is still there


def keep_mask(scores: pd.Series, ratio: float) -> pd.Series:
    """Which filters to keep when the fraction `ratio` with the lowest scores is pruned, ranked over all rows together.

    Args: `scores`, one importance per filter; `ratio`, a fraction from 0 to 1. Exactly round(ratio * n) of the n rows with a
    score are pruned; equal scores are pruned in the order of the rows.
    Returns: Series of nullable booleans (dtype "boolean") with the index of `scores`, True for kept, null where the score is null.
    Errors: `AnalysisError` for a ratio outside [0, 1].
    """
    _check_ratio(ratio)
    values = _values(scores)
    keep = pd.Series(_kept(values, ratio), index=scores.index, name="keep", dtype="boolean")
    return keep.mask(np.isnan(values), pd.NA)


def mask_distance(
    filters: pd.DataFrame | Scan, score: str = "bn_scale", ratio: float = 0.2, lag: int = 1
) -> pd.DataFrame:
    """How far the pruning mask of every epoch is from that of an epoch before: the fraction of positions in which they differ.

    Args: `filters` with run, epoch, layer, filter (and weight, where rows are single weights) and the columns of the measure
    `score`, or a `Scan` of such tables on disk; `ratio`, the pruned fraction; `lag`, how many of the run's epochs that have the score to
    go back (1: consecutive ones, whatever their numbers).

    Returns: one row per run and epoch that has such a reference: run, epoch, ref_epoch, distance (a fraction, at most 2q) and
    chance, which is what two independent random masks give, 2q(1 - q), q being the fraction really pruned.
    Positions are the filters that have a score at both epochs, matched by these keys; equal scores rank in the order in
    which the run, epoch by epoch, first names the filters. `distance` is null when all scores of either epoch are equal, as those
    of batch-norm scales are before training: then there is no ranking, and the mask would only tell the order of the rows. Filters
    that are pruned already (`kept` false) are masked out always and count towards the ratio, also when their score has become null.

    Errors: `AnalysisError` for missing key columns, a filter twice at one epoch, a ratio outside [0, 1], a lag below 1;
    `ScoreError` for an unknown measure or a column that it lacks.
    Source: You et al., ICLR 2020; Lubana and Dick, ICLR 2021, Figure 2 (`bn_scale`, 20 % pruned).
    """
    _check_ratio(ratio)
    if not isinstance(lag, numbers.Integral) or lag < 1:
        raise AnalysisError(
            f"lag={lag!r}; give the number of recorded epochs to go back, a whole number from 1"
        )
    empty = filters.no_rows() if isinstance(filters, Scan) else filters.iloc[:0]
    importance(empty, score)
    _check_keys(empty)
    parts = [_distances(run, blocks, ratio, int(lag)) for run, blocks in _runs(filters, score)]
    return _gathered(parts, empty)


def distance_between(previous: pd.Series, current: pd.Series, ratio: float) -> float:
    """Fraction of positions in which the masks of two sets of scores differ when the fraction `ratio` is pruned by each.

    Args: importances of the same filters at two epochs, matched by index; -inf for a filter that is pruned already (see
    `mask_scores`), which is masked out always.
    Returns: a fraction from 0 to 2q; NaN where it is undefined: no filter has both scores, or all scores of an epoch are equal.
    Errors: `AnalysisError` when the two do not name the same filters, and for a ratio outside [0, 1].
    Source: You et al., ICLR 2020.
    """
    _check_ratio(ratio)
    if not previous.index.equals(current.index):
        current = _aligned(previous, current)
    return _distance_and_chance(_values(previous), _values(current), ratio)[0]


def mask_scores(filters: pd.DataFrame, score: str) -> pd.Series:
    """The importances of a filters table as masks rank them: -inf where the filter is pruned already (`kept` false).

    Null scores stay null. Errors: those of `pruneviz.score`.
    """
    scores = importance(filters, score)
    return (
        scores.mask(_pruned(filters["kept"]) & scores.notna(), _PRUNED)
        if "kept" in filters
        else scores
    )


def _kept(values: np.ndarray, ratio: float) -> np.ndarray:
    """True for the rows that stay when round(ratio * n) of the n rows with a score are pruned; False where there is no score."""
    keep: np.ndarray = ~np.isnan(values)
    count = round(ratio * int(keep.sum()))
    if count:
        threshold = np.partition(values[keep], count - 1)[
            count - 1
        ]  # sorting the millions of weights of a network would take seconds
        keep &= ~(values < threshold)
        equal = np.flatnonzero(values == threshold)
        keep[equal[: count - int((values < threshold).sum())]] = False
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
    # The two fractions differ only if more than the ratio is pruned already; otherwise this is 2q(1 - q).
    chance = p * (1 - q) + q * (1 - p)
    ranked = _has_ranking(before) and _has_ranking(now)
    return float(np.mean(masks[0] != masks[1])) if ranked else np.nan, float(chance)


def _has_ranking(values: np.ndarray) -> bool:
    standing = values[values > _PRUNED]
    return standing.size > 0 and bool(standing.min() < standing.max())


def _runs(
    filters: pd.DataFrame | Scan, score: str
) -> Iterator[tuple[object, Iterable[pd.DataFrame]]]:
    """Every run and its rows, in blocks of whole epochs: of a table in memory a single block."""
    if isinstance(filters, Scan):
        blocks = filters.blocks([*_KEYS, "weight", "kept", *columns_read(score)])
        for run, mine in itertools.groupby(blocks, key=lambda block: block["run"].iloc[0]):
            yield run, (_with_scores(block, score) for block in mine)
    else:
        for run, rows in _with_scores(filters, score).groupby("run", observed=True):
            yield run, [rows]


def _with_scores(filters: pd.DataFrame, score: str) -> pd.DataFrame:
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
    """The epochs of one run that have the score, ascending, each with the scores of all filters named so far, in order of appearance."""
    places = _Places(run)
    had_score = np.zeros(0, dtype=bool)
    for epoch, keys, values, gone in itertools.chain.from_iterable(map(_epochs, blocks)):
        at = places.of(keys)
        scores, pruned = np.full(len(places), np.nan), np.zeros(len(places), dtype=bool)
        scores[at], pruned[at] = values, gone
        had_score = np.append(
            had_score, np.zeros(len(places) - len(had_score), dtype=bool)
        ) | ~np.isnan(scores)
        measured = not np.isnan(scores).all()
        # A filter that never had the score, such as one without batch norm, is no position of the mask, pruned or not.
        scores[pruned & had_score] = _PRUNED
        if measured:
            yield epoch, scores


def _epochs(rows: pd.DataFrame) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Every epoch of a block, ascending: its number, the keys [layer filter weight, row], the scores and which rows are pruned."""
    epochs = rows["epoch"].to_numpy()
    numbers = [
        rows["layer"].cat.codes,
        rows["filter"],
        rows.get("weight", pd.Series(-1, index=rows.index)),
    ]
    keys = np.stack([column.fillna(-1).to_numpy(dtype="int64") for column in numbers])
    scores, pruned = _values(rows["score"]), _pruned(rows["kept"])
    if (np.diff(epochs) < 0).any():
        order = np.argsort(epochs, kind="stable")
        epochs, keys, scores, pruned = epochs[order], keys[:, order], scores[order], pruned[order]
    starts = np.flatnonzero(np.diff(epochs, prepend=epochs[:1] - 1))
    for start, end in zip(starts, [*starts[1:], len(epochs)], strict=True):
        yield int(epochs[start]), keys[:, start:end], scores[start:end], pruned[start:end]


class _Places:
    """The places of the filters of one run in its masks: the order in which the run first names them."""

    def __init__(self, run: object) -> None:
        self._run = run
        self._known = self._asked = np.zeros((3, 0), dtype="int64")
        self._answer = np.zeros(0, dtype="int64")

    def __len__(self) -> int:
        return self._known.shape[1]

    def of(self, keys: np.ndarray) -> np.ndarray:
        """The places of one epoch's keys [layer filter weight, row]; new ones are put behind those that are known."""
        if not np.array_equal(
            keys, self._asked
        ):  # nearly every epoch names the filters of the one before, in its order
            both = np.concatenate([self._known, keys], axis=1)
            self._answer = (
                pd.DataFrame(both.T).groupby([0, 1, 2], sort=False).ngroup().to_numpy()[len(self) :]
            )
            self._check_once_each()
            self._known = np.concatenate([self._known, keys[:, self._answer >= len(self)]], axis=1)
            self._asked = keys
        return self._answer

    def _check_once_each(self) -> None:
        if len(np.unique(self._answer)) < len(self._answer):
            raise AnalysisError(
                f"run {self._run} has a filter twice at one epoch; pass a table with one row per run, epoch and filter (or weight)"
            )


def _gathered(parts: list[pd.DataFrame], filters: pd.DataFrame) -> pd.DataFrame:
    empty = pd.DataFrame({"run": [], "epoch": [], "ref_epoch": [], "distance": [], "chance": []})
    kinds = {
        "run": filters["run"].dtype,
        "epoch": filters["epoch"].dtype,
        "ref_epoch": filters["epoch"].dtype,
    }
    rows = [part for part in parts if len(part)]
    return (pd.concat(rows, ignore_index=True) if rows else empty).astype(kinds)


def _values(scores: pd.Series) -> np.ndarray:
    return scores.to_numpy(dtype="float64", na_value=np.nan)


def _pruned(kept: pd.Series) -> np.ndarray:
    return (
        kept.eq(False).fillna(False).to_numpy(dtype=bool)
    )  # a filter of which nothing is known counts as kept


def _aligned(previous: pd.Series, current: pd.Series) -> pd.Series:
    alike = previous.index.is_unique and current.index.is_unique and len(previous) == len(current)
    if not (alike and bool(current.index.isin(previous.index).all())):
        raise AnalysisError(
            f"scores of {len(previous)} and of {len(current)} filters do not name the same filters; "
            "give both one index with each filter once, such as layer and filter"
        )
    return current.reindex(previous.index)


def _check_ratio(ratio: float) -> None:
    if not 0 <= ratio <= 1:
        raise AnalysisError(
            f"ratio={ratio!r}; give the fraction of filters to prune, from 0 to 1, such as 0.2 for 20 %"
        )


def _check_keys(filters: pd.DataFrame) -> None:
    missing = [key for key in _KEYS if key not in filters.columns]
    if missing:
        had = ", ".join(map(str, filters.columns))
        raise AnalysisError(
            f"mask_distance needs the column {', '.join(missing)}; the table has [{had}]; pass the filters table of a log"
        )
