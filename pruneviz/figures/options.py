"""Drawing options that the paper leaves open, each with a default."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from pruneviz.errors import FigureError
from pruneviz.log.arguments import is_number
from pruneviz.log.vocabulary import MASK_RATIO, MASK_SCORES, CorrelationMethod, with_companion

LossPreservation = Literal["sum_of_abs", "abs_of_sum"]
AxisScale = Literal["symlog", "linear"]

LOSS_PRESERVATION_SCORES: Mapping[str, str] = {
    "sum_of_abs": "loss_preservation",
    "abs_of_sum": "loss_preservation_abs_of_sum",
}


@dataclass(frozen=True)
class DrawOptions:
    """Drawing options, checked on construction.

    Args:
        method: Correlation coefficient: "pearson", "spearman", "kendall" or "symlog".
        loss_preservation: Sum of absolute values ("sum_of_abs") or absolute value of the signed sum
            ("abs_of_sum").
        mask_score: Pruning measure for the masks of a mask distance. Default: "bn_scale"; for
            single weights "magnitude".
        mask_ratio: Fraction of filters that these masks prune.
        seed: Seed shown in scatter plots. Default: the lowest.
        dataset: Data set to draw. Default: the figure's own, else the only one recorded.
        scale: Scatter axes: "symlog" (logarithmic on both sides of zero) or "linear".
        inset: Whether scatter plots show the points that decide Pearson's coefficient on linear
            axes, too.

    Raises:
        FigureError: If a value is not allowed; names the option and the allowed values.
    """

    method: CorrelationMethod = "pearson"
    loss_preservation: LossPreservation = "sum_of_abs"
    mask_score: str | None = None
    mask_ratio: float = MASK_RATIO
    seed: int | None = None
    dataset: str | None = None
    scale: AxisScale = "symlog"
    inset: bool = False

    def __post_init__(self) -> None:
        # Imported here so that the command line can list the choices without loading pandas.
        from pruneviz.analysis.measures import is_measure, names

        _require_one_of("method", self.method, get_args(CorrelationMethod))
        _require_one_of("loss_preservation", self.loss_preservation, get_args(LossPreservation))
        _require_one_of("scale", self.scale, get_args(AxisScale))
        if self.mask_score is not None and not is_measure(self.mask_score):
            _require_one_of("mask_score", self.mask_score, names())
        if not (is_number(self.mask_ratio) and 0 < self.mask_ratio < 1):
            raise FigureError(
                f"mask_ratio is {self.mask_ratio!r}, expected a fraction between 0 and 1, such as "
                "0.2"
            )

    def masks_by(self, unit: str) -> str:
        """The pruning measure for masks in a figure of runs with rows of this unit."""
        return MASK_SCORES[unit] if self.mask_score is None else self.mask_score

    def for_unit(self, unit: str) -> DrawOptions:
        """These options with `mask_score` filled in for runs with rows of this unit."""
        return replace(self, mask_score=self.masks_by(unit))

    @property
    def loss_preservation_score(self) -> str:
        """Pruning measure for the chosen form of loss preservation."""
        return LOSS_PRESERVATION_SCORES[self.loss_preservation]

    @property
    def methods(self) -> tuple[CorrelationMethod, ...]:
        """The chosen coefficient and those printed beside it."""
        return with_companion(self.method)


def _require_one_of(name: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise FigureError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")
