"""Vocabulary for runs: row kinds, batch-norm modes, schedules, precisions and defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

# what a row of the filters table describes; "group" is one of an explicit grouping
ROW_KINDS = (
    "filter",
    "weight",
    "head",
    "neuron",
    "channel",
    "expert",
    "residual",
    "group",
)

DTYPES = ("float32", "float64")  # arithmetic of measuring

CNN_ROW_KINDS = ("filter", "weight")  # those of the reference experiment

BN_MODES = {
    "eval": "evaluation mode with the running statistics as they are",
    "calibrated": "evaluation mode with running statistics re-estimated on the sample",
    "batch": "every batch normalised by its own statistics",
}

# Pruning measure and pruned fraction of the logged and drawn masks, by row kind.
MASK_SCORES: Mapping[str, str] = {
    **dict.fromkeys(ROW_KINDS, "magnitude"),
    "filter": "bn_scale",
}
MASK_RATIO = 0.2

PruningSchedule = Literal["published", "linear"]

Kind = Literal["unpruned", "weights", "pruned", "prune_phase"]

Precision = Literal["fp32", "tf32", "bf16"]

CorrelationMethod = Literal["pearson", "spearman", "kendall", "symlog"]

# Coefficients that stand beside each other wherever one is shown.
_TOGETHER: tuple[CorrelationMethod, ...] = ("spearman", "pearson", "symlog")

# Training precisions by device, default first; measuring always uses exact float32 or float64.
PRECISIONS: Mapping[str, tuple[Precision, ...]] = {
    "cpu": ("fp32",),
    "cuda": ("tf32", "fp32", "bf16"),
}

_ACCURACY = re.compile(r"(.*[^a-z])?(acc|accuracy)", re.IGNORECASE)


def with_companion(method: CorrelationMethod) -> tuple[CorrelationMethod, ...]:
    """The chosen coefficient and those that stand beside it.

    The rank correlation comes next, or Pearson's if ranks were chosen.

    Args:
        method: The chosen coefficient.
    """
    return method, *(beside for beside in _TOGETHER if beside != method)


def is_accuracy(column: str) -> bool:
    """Whether a column of the epochs table is an accuracy: `acc`, `val_accuracy`, `top1/acc`."""
    return _ACCURACY.fullmatch(column) is not None
