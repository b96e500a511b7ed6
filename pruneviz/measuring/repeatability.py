"""Whether a model and a sample give the same loss and gradient twice; without that no measurement means anything."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from pruneviz.errors import DataError, MeasureError
from pruneviz.measuring.derivatives import gradients
from pruneviz.measuring.objective import Named
from pruneviz.measuring.snapshot import Options, build_objective, chunk_for
from pruneviz.model.isolation import exact_float32, generators_preserved, module_modes
from pruneviz.model.sample import Batch, Sample, as_batches, model_device, model_dtype, same_batches

_TOLERANCE = 1e-4  # sums in another order on a GPU differ by about 1e-6, dropout by about 1e-1


def fixed_batches(model: nn.Module, sample: Sample, options: Options) -> list[Batch]:
    """Walk the sample twice and compare; returns its batches.

    Errors: `DataError` when the two walks differ (shuffled, augmented, exhausted).
    """
    device, dtype = model_device(model), options.dtype or model_dtype(model)
    with generators_preserved(sample, device):
        first = as_batches(sample, device, dtype)
        if not same_batches(first, _second_walk(sample, device, dtype)):
            raise DataError(
                "the sample is not the same the second time it is walked through; it is shuffled or augmented. "
                "Give a fixed pair of tensors, or a list of batches"
            )
    return first


def check_repeatable(model: nn.Module, batches: Sequence[Batch], options: Options) -> int:
    """Evaluate loss and gradient twice, and compare; returns the size of the sample.

    Errors: `MeasureError` when the model answers differently (dropout, noise).
    """
    with (
        generators_preserved(batches, model_device(model)),
        exact_float32(),
        module_modes(model, options.bn),
    ):
        built = build_objective(model, batches, options)
        chunk = chunk_for(built, options)
        _compare(gradients(built, chunk), gradients(built, chunk))
        return built.examples


def _second_walk(
    sample: Sample, device: torch.device, dtype: torch.dtype
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    try:
        return as_batches(sample, device, dtype)
    except DataError:
        raise DataError(
            "the sample can be walked through only once; give a pair of tensors, or a list of batches"
        ) from None


def _compare(
    first: tuple[list[float], list[Named]], second: tuple[list[float], list[Named]]
) -> None:
    for before, after in zip(first[0], second[0], strict=True):
        if not math.isclose(before, after, rel_tol=_TOLERANCE, abs_tol=1e-12) and math.isfinite(
            before
        ):
            raise MeasureError(_unrepeatable(f"the loss was {before:.6g}, then {after:.6g}"))
    for before_g, after_g in zip(first[1], second[1], strict=True):
        norm = math.sqrt(sum(float(g.square().sum()) for g in before_g.values()))
        apart = math.sqrt(
            sum(float((before_g[name] - after_g[name]).square().sum()) for name in before_g)
        )
        if apart > _TOLERANCE * norm:
            raise MeasureError(_unrepeatable(f"the gradient moved by {apart:.3g} of {norm:.3g}"))


def _unrepeatable(what: str) -> str:
    repair = (
        "Use nn.Dropout rather than functional dropout, and switch off any noise in evaluation mode"
    )
    return f"the model does not answer the same twice: {what}. {repair}"
