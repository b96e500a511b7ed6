"""Masks of thin copies: which distances are those of the full run."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pruneviz.analysis.measures import AnyMeasure, Measure, resolve
from pruneviz.errors import AnalysisError
from pruneviz.log.thin_copies import CHEAP, ThinCopy


def reads_derivatives(measure: Measure) -> bool:
    """Whether a measure has values only at measured epochs, as far as it says what it reads."""
    return bool(set(measure.columns) - CHEAP)


def check_references(
    distances: pd.DataFrame, score: AnyMeasure, lag: int, copies: Sequence[ThinCopy]
) -> None:
    """Check that mask distances of thin copies are those of their full runs.

    Args:
        distances: Run, epoch and ref_epoch of each distance.
        score: The measure of the masks.
        lag: Number of scored epochs between the two masks.
        copies: What the thin copies among the runs hold.

    Raises:
        AnalysisError: If an epoch before, that the full run may have masks of, is left out; names
            the copy and the way out.
    """
    measure = resolve(score)
    derived = reads_derivatives(measure)
    for copy in copies:
        mine = distances[distances["run"].astype(str) == copy.run]
        references = dict(zip(mine["epoch"], mine["ref_epoch"], strict=True))
        masked = copy.measured if derived else copy.recorded
        for epoch in sorted({*masked} & {*copy.held}):
            before = [other for other in masked if other < epoch]
            gone = [other for other in before if other not in copy.held]
            apart = len(before) >= lag and any(other > references.get(epoch, -1) for other in gone)
            # which pruned filters ever had derivatives, and so count, is not known without them
            if apart or (gone and derived and epoch in copy.pruned):
                raise AnalysisError(_lacks(copy, measure.name, epoch, gone))


def _lacks(copy: ThinCopy, score: str, epoch: int, gone: Sequence[int]) -> str:
    return (
        f"{copy.run} {copy.in_words}, so masks by {score} at epoch {epoch} cannot be compared with "
        f"those before it: epoch {gone[-1]} is left out. Take the logged distances, "
        "runs.epochs['mask_distance'] (their measure and ratio are in runs.spec), or the full run; "
        "runs.filters in place of the runs compares the epochs that are left with each other"
    )
