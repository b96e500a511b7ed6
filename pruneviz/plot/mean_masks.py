"""Distances of consecutive pruning masks, averaged over the runs of one setting."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pruneviz.analysis.masks import check_ratio
from pruneviz.analysis.measures import AnyMeasure, resolve
from pruneviz.analysis.settings import different
from pruneviz.errors import FigureError, ScoreError
from pruneviz.log.runs import Runs
from pruneviz.log.thin_copies import lacks_epochs
from pruneviz.log.vocabulary import MASK_RATIO, MASK_SCORES
from pruneviz.plot.row_kind import row_kind_of
from pruneviz.plot.words import listed

AUTO = "auto"  # the first measure of masks that the runs can have
_FALLBACK = "magnitude"  # needs nothing that a network could lack, such as batch norm


def mean_mask_distances(
    runs: Runs, spec: pd.DataFrame, score: AnyMeasure, ratio: float | None
) -> pd.DataFrame | None:
    """Mask distances of each epoch, averaged over runs.

    Args:
        runs: Recordings.
        spec: Runs of one setting.
        score: Pruning measure of the masks. AUTO: the first of `mask_scores_of` that the runs can
            have.
        ratio: Fraction that they prune. None: that of the log, see `mask_ratio_of`.

    Returns:
        One row per epoch that has masks: epoch, mask_score, mask_ref_epoch, mask_distance,
        mask_distance_sd (over runs) and chance. None if AUTO finds no measure that gives masks.

    Raises:
        FigureError: If a named measure gives no masks, or the runs hold none of this ratio.
        AnalysisError: If the ratio is outside [0, 1].
    """
    logged = _logged(spec, "mask_ratio") if ratio is None else []
    if len(logged) > 1 and not row_kind_of(spec).sampled:
        raise FigureError(
            f"{listed(spec['run'])} log masks of several ratios, {listed(sorted(logged))}, which "
            "have no mean; choose one with mask_ratio (--mask-ratio)"
        )
    share = mask_ratio_of(spec) if ratio is None else ratio
    check_ratio(share)
    if score != AUTO:
        found = _by(runs, spec, score, share)
        if found is None:
            raise FigureError(
                f"no two epochs of {listed(spec['run'])} have masks by {resolve(score).name}; "
                "choose another mask_score (--mask-score), such as bn_scale"
            )
        return found
    for name in _candidates(runs, spec, ratio):
        found = _by(runs, spec, name, share)
        if found is not None:
            return found
    return None


def mask_scores_of(spec: pd.DataFrame) -> list[str]:
    """Measures of masks to try in this order, where none is named.

    Those whose masks the log compares, then the usual one of the row kind, such as bn_scale, then
    magnitude, which every network has.

    Args:
        spec: Runs of one setting.
    """
    usual = MASK_SCORES[str(spec["unit"].iloc[0])]
    return list(dict.fromkeys([*_logged(spec, "mask_score"), usual, _FALLBACK]))


def mask_ratio_of(spec: pd.DataFrame) -> float:
    """The fraction that masks prune where none is named: that of the log, else 0.2.

    Args:
        spec: Runs of one setting; if they logged several fractions, it is 0.2, too.
    """
    held = _logged(spec, "mask_ratio")
    return float(held[0]) if len(held) == 1 else MASK_RATIO


def _logged(spec: pd.DataFrame, fact: str) -> list[Any]:
    return different(spec[fact]) if fact in spec else []


def _candidates(runs: Runs, spec: pd.DataFrame, ratio: float | None) -> list[str]:
    """Measures to try, as far as the runs hold what they need.

    Runs that hold no other masks than the logged ones have these alone.
    """
    if not row_kind_of(spec).sampled and not lacks_epochs(spec):
        held = [set(runs.named([run]).recorded("filters")) for run in spec["run"]]
        return [name for name in mask_scores_of(spec) if all(_is_in(one, name) for one in held)]
    scores = _logged(spec, "mask_score")
    alike = len(scores) == 1 and len(_logged(spec, "mask_ratio")) == 1
    return scores if alike or ratio is not None else []


def _is_in(recorded: set[str], name: str) -> bool:
    try:
        return set(resolve(name).columns) <= recorded
    except ScoreError:  # a logged measure of one's own that is not registered here
        return False


def _by(runs: Runs, spec: pd.DataFrame, score: AnyMeasure, ratio: float) -> pd.DataFrame | None:
    measure = resolve(score)
    distances = row_kind_of(spec).mask_distances(runs, spec, measure, ratio)
    distances = distances.dropna(subset=["distance"])
    if distances.empty:
        return None
    found = distances.groupby("epoch", observed=True).agg(
        mask_ref_epoch=("ref_epoch", "min"),
        mask_distance=("distance", "mean"),
        mask_distance_sd=("distance", "std"),
        chance=("chance", _mean_of_all),
    )
    found.insert(0, "mask_score", measure.name)
    return found.reset_index()


def _mean_of_all(values: pd.Series) -> float:
    """The mean, null where a run has no value."""
    return float(values.mean(skipna=False))
