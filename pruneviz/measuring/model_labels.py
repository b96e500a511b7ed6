"""The column `fisher_block`: squared gradients with labels from the model's own distribution.

F is the Fisher information of the model, E over examples and over labels y ~ p(y | x) of g g^T with
g the gradient of -log p(y | x). For a cross-entropy it is also the Gauss-Newton matrix. With few
classes the mean over labels is exact, one backward pass for each class. With more, some labels are
drawn for each example.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pruneviz.errors import MeasureError
from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.derivatives import gradients
from pruneviz.measuring.extra_columns import example_gradients, squared_gradients
from pruneviz.measuring.losses import CrossEntropy
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.options import Options
from pruneviz.measuring.rows import AnyLayer, parameters_of, reduced
from pruneviz.measuring.standard_errors import FilterTerms
from pruneviz.model.filters import Layer
from pruneviz.model.sample import examples_in

_IGNORED = CrossEntropy().ignore_index


def model_fisher(
    sample: Objective, layers: Sequence[AnyLayer], chunk: int, options: Options
) -> NamedTensors:
    """theta_p^T F_pp theta_p = E[(theta_p^T g)^2] of every row, at the first temperature.

    Args:
        sample: The loss on the sample, a cross-entropy.
        layers: Layers of the table.
        chunk: Examples differentiated at once.
        options: With at most `probes` classes the mean over labels is exact; else `probes` labels
            per example are drawn with `seed`.

    Returns:
        {layer: one number per row, float64}.

    Raises:
        MeasureError: If the loss is no cross-entropy, or single examples have no gradient.
    """
    _check(sample)
    sample = replace(sample, temperatures=sample.temperatures[:1])
    totals: NamedTensors = {}
    logits, chunk = halved_on_out_of_memory(partial(_logits, sample), chunk, sample.model)
    for labelled in _labelled(sample, logits, options):
        measure = partial(_squares, labelled, layers, options.row_kind)
        squares, chunk = halved_on_out_of_memory(measure, chunk, sample.model)
        totals = {name: totals.get(name, 0.0) + own for name, own in squares.items()}
    return totals


def _check(sample: Objective) -> None:
    if sample.whole:
        raise MeasureError(
            f"fisher_block needs the gradient of every example, but {sample.whole}; leave out the "
            "column fisher_block, or with bn='batch' use bn='eval' or 'calibrated'"
        )
    if not isinstance(sample.loss, CrossEntropy):
        raise MeasureError(
            "fisher_block draws labels from the model's distribution, so it needs logits and their "
            "cross-entropy, not another loss; leave out the column fisher_block"
        )


def _labelled(sample: Objective, logits: Sequence[Tensor], options: Options) -> Iterator[Objective]:
    """The sample with other labels, whose mean squares add up to the column."""
    classes = logits[0].shape[1]
    targets: Iterator[list[tuple[Tensor, Tensor]]]
    if classes <= options.probes and all(part.ndim == 2 for part in logits):
        targets = _each_class(logits)
    else:
        targets = _drawn(logits, options)
    for drawn in targets:
        batches = [
            (x, (_as_ignored(sample, y, labels), weights * _of_examples(sample, (x, y), weights)))
            for (x, y), (labels, weights) in zip(sample.batches, drawn, strict=True)
        ]
        yield replace(sample, batches=batches, loss=_weighted, weigh=None, summed=False)


def _each_class(logits: Sequence[Tensor]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Each class as the label of all examples, weighted by the root of its probability."""
    for c in range(logits[0].shape[1]):
        roots = [part.softmax(1)[:, c].sqrt() for part in logits]
        yield [(torch.full((len(root),), c, device=root.device), root) for root in roots]


def _drawn(logits: Sequence[Tensor], options: Options) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Labels that are drawn for every example and position."""
    generator = torch.Generator().manual_seed(int(options.seed))
    # on the CPU, so that every device draws the same
    chances = [part.movedim(1, -1).softmax(-1).cpu() for part in logits]
    for _ in range(options.probes):
        yield [
            (
                torch.multinomial(part.reshape(-1, part.shape[-1]), 1, generator=generator)
                .reshape(part.shape[:-1])
                .to(of.device),
                torch.full((len(of),), 1 / math.sqrt(options.probes), device=of.device),
            )
            for part, of in zip(chances, logits, strict=True)
        ]


def _logits(sample: Objective, chunk: int) -> list[Tensor]:
    """Logits of every batch at the first temperature, float64."""
    found: list[Tensor] = []
    with torch.no_grad():
        for batch in sample.batches:
            parts = replace(sample, batches=[batch]).chunks(chunk)
            outputs = [sample.output(x).double() / sample.temperatures[0] for x, _ in parts]
            found.append(torch.cat(outputs))
    return found


def _as_ignored(sample: Objective, y: Any, labels: Tensor) -> Tensor:
    """The labels, but none where the sample has none."""
    loss = sample.loss
    if not isinstance(loss, CrossEntropy) or y.is_floating_point():
        return labels
    return labels.where(y != loss.ignore_index, _IGNORED)


def _of_examples(sample: Objective, batch: Any, like: Tensor) -> Tensor:
    """Roots of the examples' weights in the mean."""
    loss, y = sample.loss, batch[1]
    assert isinstance(loss, CrossEntropy)
    if y.is_floating_point():
        return torch.ones_like(like)
    # of class weights nothing is left: the Fisher information is that of the model
    counted = replace(loss, weight=None).weights
    all_weights = torch.cat([counted(own).cpu() for own in sample.batches])
    return (counted(batch) / all_weights.mean()).sqrt().to(like)


def _weighted(output: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
    """Mean over examples of weights times their own cross-entropy, itself a mean over positions."""
    labels, weights = target
    each = F.cross_entropy(output, labels, reduction="none").reshape(len(labels), -1).sum(1)
    counted = (labels != _IGNORED).reshape(len(labels), -1).sum(1)
    return (weights.to(each) * each / counted.clamp(min=1)).mean()


def _squares(sample: Objective, layers: Sequence[AnyLayer], unit: str, chunk: int) -> NamedTensors:
    """Mean over examples of (theta_p^T g)^2 of every row."""
    if unit == "weight":
        entries = squared_gradients(sample, parameters_of(layers), chunk)
        return {layer.name: reduced(layer, entries.__getitem__, unit) for layer in layers}
    filters = [layer for layer in layers if isinstance(layer, Layer)]
    found: NamedTensors = {}
    if filters:
        terms = FilterTerms(
            filters, sample.parameters, sample.examples, by_batch=False, complete=True
        )
        gradients(sample, chunk, terms)
        found = {n: own for n, own in terms.mean_squares().items() if not own.isnan().any()}
    others = [layer for layer in layers if layer.name not in found]
    return found | (_squares_by_example(sample, others, chunk, unit) if others else {})


def _squares_by_example(
    sample: Objective, layers: Sequence[AnyLayer], chunk: int, unit: str
) -> NamedTensors:
    """`_squares` from the gradient of every example, for rows that are gathered nowhere."""
    names = parameters_of(layers)
    theta = {name: sample.parameters[name].detach().double() for name in names}
    nothing = {name: torch.zeros_like(own) for name, own in theta.items()}
    totals = {layer.name: reduced(layer, nothing.__getitem__, unit) for layer in layers}
    for batch, found in example_gradients(sample, names, chunk):
        for n in range(examples_in(batch[0])):
            terms = {name: theta[name] * found[name][n] for name in names}
            for layer in layers:
                row = reduced(layer, terms.__getitem__, unit).square() / sample.examples
                totals[layer.name] = totals[layer.name] + row
    sample.ranks.total("the squares of examples", list(totals.values()))
    return {name: total.cpu() for name, total in totals.items()}
