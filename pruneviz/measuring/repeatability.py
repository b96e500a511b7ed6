"""Check that sample and model are repeatable: equal batches, loss and gradient twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import nn

from pruneviz.errors import DataError, MeasureError
from pruneviz.measuring.derivatives import gradients
from pruneviz.measuring.objective import NamedTensors
from pruneviz.measuring.options import Options
from pruneviz.measuring.snapshot import build_objective, caches_emptied, chunk_for
from pruneviz.model.isolation import exact_float32, generators_preserved, isolated, module_modes
from pruneviz.model.sample import (
    Batch,
    Forward,
    Sample,
    as_batches,
    measuring_dtype,
    model_device,
    same_batches,
)
from pruneviz.model.supported import check_supported

# relative; summation order on a GPU changes about 1e-6, dropout about 1e-1
_TOLERANCE = 1e-4

_LossesAndGradients: TypeAlias = tuple[list[float], list[NamedTensors]]


def fixed_batches(model: nn.Module, sample: Sample, options: Options) -> list[Batch]:
    """The batches of a repeatable sample.

    Raises:
        UnsupportedError: If the network is of a kind that cannot be measured.
        DataError: If a second iteration differs from the first (shuffled, augmented, exhausted).
    """
    check_supported(model)
    device, dtype = model_device(model), measuring_dtype(model, options.dtype)
    with generators_preserved(sample, device):
        first = as_batches(sample, device, dtype, options.forward)
        second = _second_walk(sample, device, dtype, options.forward)
        if not same_batches(first, second):
            raise DataError(
                "the sample differs when it is iterated over a second time; it is shuffled or "
                "augmented. Give a fixed pair of tensors, or a list of batches"
            )
    return first


def check_repeatable(model: nn.Module, batches: Sequence[Batch], options: Options) -> int:
    """Evaluate loss and gradient twice and compare.

    Returns:
        Number of examples in the sample.

    Raises:
        MeasureError: If the results differ (dropout, noise).
    """
    with (
        generators_preserved(batches, model_device(model)),
        exact_float32(),
        isolated(model, hooks=options.hooks),
        module_modes(model, options.bn),
        caches_emptied(model, batches, options),
    ):
        built = build_objective(model, batches, options)
        chunk = chunk_for(built, options)
        _compare(gradients(built, chunk), gradients(built, chunk))
        return built.examples


def _second_walk(
    sample: Sample, device: torch.device, dtype: torch.dtype, forward: Forward | None
) -> list[Batch]:
    try:
        return as_batches(sample, device, dtype, forward)
    except DataError:
        raise DataError(
            "the sample can be iterated over only once; "
            "give a pair of tensors, or a list of batches"
        ) from None


def _compare(first: _LossesAndGradients, second: _LossesAndGradients) -> None:
    for before, after in zip(first[0], second[0], strict=True):
        same = math.isclose(before, after, rel_tol=_TOLERANCE, abs_tol=1e-12)
        if not same and math.isfinite(before):
            raise MeasureError(_unrepeatable(f"the loss was {before:.6g}, then {after:.6g}"))
    for before_g, after_g in zip(first[1], second[1], strict=True):
        norm = _norm(before_g)
        apart = _norm({name: before_g[name] - after_g[name] for name in before_g})
        if apart > _TOLERANCE * norm:
            raise MeasureError(_unrepeatable(f"the gradient moved by {apart:.3g} of {norm:.3g}"))


def _norm(vector: NamedTensors) -> float:
    return math.sqrt(sum(float(part.square().sum()) for part in vector.values()))


def _unrepeatable(what: str) -> str:
    return (
        f"the model gives different results when evaluated twice: {what}. Use nn.Dropout rather "
        "than functional dropout, and switch off any noise in evaluation mode"
    )
