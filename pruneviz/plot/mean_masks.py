"""Distances of consecutive pruning masks, averaged over the runs of one setting."""

from __future__ import annotations

import pandas as pd

from pruneviz.analysis.measures import AnyMeasure, resolve
from pruneviz.errors import FigureError, PrunevizError
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import MASK_SCORES
from pruneviz.plot.row_kind import row_kind_of
from pruneviz.plot.rows import different
from pruneviz.plot.words import listed

AUTO = "auto"  # the first measure of masks that the runs can have
_FALLBACK = "magnitude"  # needs nothing that a network could lack, such as batch norm


def mean_mask_distances(
    runs: Runs, spec: pd.DataFrame, score: AnyMeasure, ratio: float
) -> pd.DataFrame | None:
    """Mask distances of each epoch, averaged over runs.

    Args:
        runs: Recordings.
        spec: Runs of one setting.
        score: Pruning measure of the masks. AUTO: that of the row kind, such as bn_scale, else
            magnitude.
        ratio: Fraction that they prune.

    Returns:
        One row per epoch that has masks: epoch, mask_score, mask_ref_epoch, mask_distance,
        mask_distance_sd (over runs) and chance. None if AUTO finds no measure that gives masks.

    Raises:
        FigureError: If a named measure gives no masks.
    """
    if score != AUTO:
        found = _by(runs, spec, score, ratio)
        if found is None:
            raise FigureError(
                f"no two epochs of {listed(spec['run'])} have masks by {resolve(score).name}; "
                "choose another mask_score (--mask-score), such as bn_scale"
            )
        return found
    for name in _candidates(spec):
        try:
            found = _by(runs, spec, name, ratio)
        except PrunevizError:  # the runs lack what the measure needs
            continue
        if found is not None:
            return found
    return None


def _candidates(spec: pd.DataFrame) -> list[str]:
    logged = list(map(str, different(spec["mask_score"]))) if "mask_score" in spec else []
    usual = MASK_SCORES[str(spec["unit"].iloc[0])]
    return list(dict.fromkeys([usual, _FALLBACK, *logged]))


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
        chance=("chance", "mean"),
    )
    found.insert(0, "mask_score", measure.name)
    return found.reset_index()
