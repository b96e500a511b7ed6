"""Batch-norm running statistics re-estimated on the measurement sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.model.isolation import isolated
from pruneviz.model.sample import call_with

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

    def estimate(_: int) -> NamedTensors:
        buffers = {
            name: torch.zeros_like(b) if name in statistics else b.clone()
            for name, b in sample.buffers.items()
        }
        with _estimating(sample.model), torch.no_grad():
            for x, _target in sample.batches:
                state = {**sample.as_called(sample.parameters), **buffers}
                call_with(sample.model, state, x, sample.forward)
        return buffers

    buffers, _ = halved_on_out_of_memory(estimate, 1, sample.model, ESTIMATED)
    return replace(sample, buffers=buffers)


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
