"""Check that sample and model are repeatable: equal batches, loss and gradient twice."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from pruneviz.errors import DataError, MeasureError, UnsupportedError
from pruneviz.measuring.building import build_objective, chunk_for
from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.derivatives import gradients
from pruneviz.measuring.independence import reason_against_chunks
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.options import Options
from pruneviz.measuring.parts import REFUSALS, few_examples
from pruneviz.measuring.ranks import ALONE, Ranks
from pruneviz.measuring.shortage import shortage_explained
from pruneviz.measuring.swapped import UsedWeights
from pruneviz.measuring.underivable import derivatives_explained
from pruneviz.model.isolation import exact_float32, generators_preserved, isolated, module_modes
from pruneviz.model.random_calls import RandomCalls
from pruneviz.model.sample import (
    Batch,
    Sample,
    as_batches,
    mapped,
    measuring_dtype,
    model_device,
)
from pruneviz.model.sample_again import batches_again
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
    with shortage_explained(model), generators_preserved(sample, device):
        first = as_batches(sample, device, dtype, options.forward)
        again = batches_again(first, sample, device, dtype, options.forward)
        if again == 0:
            raise DataError(
                "the sample can be iterated over only once; "
                "give a pair of tensors, or a list of batches"
            )
        if again is None:
            raise DataError(
                "the sample differs when it is iterated over a second time; it is shuffled or "
                "augmented. Give a fixed pair of tensors, or a list of batches"
            )
    return first


def check_repeatable(
    model: nn.Module, batches: Sequence[Batch], options: Options, ranks: Ranks = ALONE
) -> str:
    """Evaluate loss and gradient on the whole sample twice and compare.

    Returns:
        Why batches cannot be split into chunks; "" if they may be.

    Raises:
        MeasureError: If the results differ (dropout, noise); names the cause.
    """
    with (
        shortage_explained(model),
        generators_preserved(batches, model_device(model)),
        exact_float32(),
        isolated(model, hooks=options.hooks, also=options.loss),
        module_modes(model, options.bn),
    ):
        built = build_objective(model, batches, options, ranks=ranks)
        with UsedWeights(built.parameters) as used:
            built.output(few_examples(built)[0])
        used.check_kept()
        chunk = chunk_for(built, options)
        built = replace(built, whole=reason_against_chunks(built, chunk))
        twice = []
        for _ in range(2):  # one after the other: ranks that share the sample keep in step
            found, chunk = halved_on_out_of_memory(
                partial(gradients, built), chunk, model, built.whole
            )
            twice.append(found)
        _refuse(_difference(*twice), built, lambda: gradients(built, chunk))
        return built.whole


def check_answers_twice(sample: Objective) -> None:
    """Evaluate loss and gradient on a few examples twice and compare.

    Four examples, so that it costs little beside a measurement; one if memory runs out, and a whole
    batch if the network does not run on fewer. What fails here is named by the measurement itself.

    Raises:
        MeasureError: If the results differ; names the cause.
    """
    for batch in (few_examples(sample), few_examples(sample, 1), sample.batches[0]):
        answer = _answer_of(sample, batch)
        try:
            difference = _difference(answer(), answer())
        except UnsupportedError:
            raise
        except (*REFUSALS, MeasureError):
            continue
        _refuse(difference, sample, answer)
        return


def _answer_of(sample: Objective, batch: Batch) -> Callable[[], _LossesAndGradients]:
    """Loss and gradient of some examples, without warnings: they may lack what all of them have."""

    def answer() -> _LossesAndGradients:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with UsedWeights(sample.parameters) as used:
                output = sample.output(batch[0])
            used.check_kept()
            loss = sample.loss_at(output, batch[1], 1.0)
            theta = list(sample.parameters.values())
            with derivatives_explained(sample, 1):
                parts = torch.autograd.grad(loss, theta, materialize_grads=True)
        return [float(loss.detach())], [dict(zip(sample.parameters, parts, strict=True))]

    return answer


def _refuse(difference: str, sample: Objective, answer: Callable[[], _LossesAndGradients]) -> None:
    if difference and _loss_moves(sample):
        raise MeasureError(
            f"the loss gives different results when evaluated twice: {difference}. It keeps state, "
            "such as a buffer that every call moves, or draws random numbers; pass a function of "
            "(output, target) alone, such as with that state as it is now"
        )
    if difference:
        raise MeasureError(
            f"the model gives different results when evaluated twice: {difference}. "
            f"{_cause(sample, answer)}"
        )


def _loss_moves(sample: Objective) -> bool:
    """Whether the loss of the same output differs in a second call."""
    x, y = few_examples(sample)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            output = sample.output(x)
            values = [sample.loss_at(mapped(output, torch.clone), y, 1.0) for _ in range(2)]
        except (*REFUSALS, MeasureError):
            return False
    return not math.isclose(*map(float, values), rel_tol=_TOLERANCE)


def _difference(first: _LossesAndGradients, second: _LossesAndGradients) -> str:
    """What differs between two evaluations; "" for nothing."""
    for before, after in zip(first[0], second[0], strict=True):
        same = math.isclose(before, after, rel_tol=_TOLERANCE, abs_tol=1e-12)
        if not same and math.isfinite(before):
            return f"the loss was {before:.6g}, then {after:.6g}"
    for before_g, after_g in zip(first[1], second[1], strict=True):
        norm = _norm(before_g)
        apart = _norm({name: before_g[name] - after_g[name] for name in before_g})
        if apart > _TOLERANCE * norm:
            return f"the gradient moved by {apart:.3g} of {norm:.3g}"
    return ""


def _norm(vector: NamedTensors) -> float:
    return math.sqrt(sum(float(part.square().sum()) for part in vector.values()))


def _cause(sample: Objective, answer: Callable[[], _LossesAndGradients]) -> str:
    """Why two evaluations differ, and the repair."""
    if _difference(_seeded(sample, answer), _seeded(sample, answer)):
        return (
            "They differ with equal random numbers too, so it keeps state that measuring does not "
            "put back, such as in a global variable or a closure, or an operation is not "
            "deterministic; reset that state in forward=callable(model, batch), or see "
            "torch.use_deterministic_algorithms"
        )
    first = replace(sample, batches=sample.batches[:1])
    calls, _ = halved_on_out_of_memory(
        partial(_random_calls, first), first.examples, sample.model, sample.whole
    )
    return (
        f"It draws random numbers{calls}. Use nn.Dropout rather than functional dropout "
        "(or pass training=self.training), and switch off any noise in evaluation mode"
    )


def _random_calls(sample: Objective, size: int) -> str:
    with RandomCalls(sample.model) as seen:
        for x, _ in sample.chunks(size):
            sample.output(x)
    return seen.described()


def _seeded(sample: Objective, answer: Callable[[], _LossesAndGradients]) -> _LossesAndGradients:
    with generators_preserved(None, sample.device):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        return answer()
