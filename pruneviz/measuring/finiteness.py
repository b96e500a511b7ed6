"""Check that losses and derivatives are finite, and where they are not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from pruneviz.errors import MeasureError
from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.model.finite import first_nonfinite_layer

_WATCHED_AT_ONCE = 64  # examples per forward pass when searching for a layer that is not finite


def check_finite(
    sample: Objective, losses: Sequence[float], derivatives: Sequence[NamedTensors], what: str
) -> None:
    """Check that losses and derivatives are finite.

    Raises:
        MeasureError: If one is NaN or infinite; names `what` and the layer where it begins.
    """
    names = list(derivatives[0])
    finite = torch.stack([d[name].isfinite().all() for name in names for d in derivatives])
    finite_by_name = finite.view(-1, len(derivatives)).all(1).tolist()
    bad = [name for name, is_finite in zip(names, finite_by_name, strict=True) if not is_finite]
    if all(map(math.isfinite, losses)) and not bad:
        return
    broken = [name for name, p in sample.parameters.items() if not p.isfinite().all()]
    if broken:
        raise MeasureError(
            f"{what} is not finite because the parameter {broken[0]} is not; "
            "the training diverged before this measurement"
        )
    repair = "check the inputs, lower the learning rate, or measure with dtype=torch.float64"
    raise MeasureError(f"{what} is NaN or infinite, {_place(sample, bad)}; {repair}")


def _place(sample: Objective, bad: Sequence[str]) -> str:
    """Location of the first value that is not finite."""

    def find(size: int) -> str | None:
        inputs = (x for x, _ in sample.chunks(size))
        return first_nonfinite_layer(sample.model, sample.output, inputs)

    layer, _ = halved_on_out_of_memory(find, _WATCHED_AT_ONCE, sample.model, sample.whole)
    if layer:
        return f"first in the output of layer {layer}"
    return f"in the derivative by {bad[0]}" if bad else "in the loss itself"
