"""Batch-norm running statistics re-estimated on the measurement sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.shares import pieces, share_of
from pruneviz.model.isolation import isolated
from pruneviz.model.sample import Batch, call_with, examples_in

_AVERAGED = ("running_mean", "running_var", "num_batches_tracked")
ESTIMATED = "bn='calibrated' estimates statistics from all examples of a batch together"


def calibrated(sample: Objective) -> Objective:
    """The objective with running statistics averaged over the batches of its sample.

    This is torch's own procedure with momentum=None: reset, one forward pass in training mode per
    batch, cumulative average (unbiased variance). A pair of tensors is one batch, so it needs
    memory for a forward pass of all examples.
    """
    statistics = {
        f"{name}.{buffer}"
        for name, norm in _norms(sample.model)
        for buffer, _ in norm.named_buffers()
    }

    def estimate(batches: Sequence[Batch]) -> NamedTensors:
        buffers = {
            name: torch.zeros_like(b) if name in statistics else b.clone()
            for name, b in sample.buffers.items()
        }
        with _estimating(sample.model), torch.no_grad():
            for x, _target in batches:
                state = {**sample.as_called(sample.parameters), **buffers}
                call_with(sample.model, state, x, sample.forward)
        return buffers

    def estimated(batches: Sequence[Batch]) -> NamedTensors:
        return halved_on_out_of_memory(lambda _: estimate(batches), 1, sample.model, ESTIMATED)[0]

    ranks = sample.ranks
    if len(sample.batches) < 2 or ranks.is_alone:
        return replace(sample, buffers=estimated(sample.batches))
    sizes = [examples_in(x) for x, _ in sample.batches]
    own = share_of(sizes, ranks.number, ranks.count, whole=True)
    buffers = estimated(list(pieces(sample.batches, own)))
    others = buffers.keys() - {f"{name}.{b}" for name, _ in _norms(sample.model) for b in _AVERAGED}
    moved = any(not torch.equal(buffers[name], sample.buffers[name]) for name in others)
    if ranks.reason("the calibration of batch norms", "moved" if moved else ""):
        return replace(
            sample, buffers=estimated(sample.batches)
        )  # all in their order, on each rank
    _average_over_ranks(sample, buffers)
    return replace(sample, buffers=buffers)


def _average_over_ranks(sample: Objective, buffers: NamedTensors) -> None:
    """Average running statistics over the batches of all ranks, in place."""
    times, sums = [], []
    held = [
        [buffers[f"{name}.{own}"] for own in _AVERAGED]
        for name, norm in _norms(sample.model)
        if norm.num_batches_tracked is not None
    ]
    for mean, variance, tracked in held:
        times.append(tracked.double())
        sums += [mean.double() * times[-1], variance.double() * times[-1]]
    sample.ranks.total("the calibration of batch norms", [*times, *sums])
    averages = iter(sums)
    for (mean, variance, tracked), count in zip(held, times, strict=True):
        tracked.copy_(count)
        for statistic in (mean, variance):
            statistic.copy_(next(averages) / count.clamp(min=1))


def _norms(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [(name, m) for name, m in model.named_modules() if isinstance(m, _BatchNorm)]


@contextmanager
def _estimating(model: nn.Module) -> Iterator[None]:
    """Put every batch norm into training mode with a cumulative average; restore it afterwards."""
    before = [(norm, norm.training, norm.momentum) for _, norm in _norms(model)]
    try:
        for norm, _, _ in before:
            norm.training, norm.momentum = True, None
        # nested, because the outer context would put the momentum back before every forward pass
        with isolated(model):
            yield
    finally:
        for norm, training, momentum in before:
            norm.training, norm.momentum = training, momentum
