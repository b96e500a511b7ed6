"""Batch-norm running statistics re-estimated on the sample, as copies: the model keeps its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from pruneviz.derivatives import Objective


def calibrated_buffers(sample: Objective) -> Objective:
    """The objective with running statistics that are the average of those of the sample's batches.

    This is torch's own procedure with momentum=None: reset, one forward pass in training mode per batch, cumulative average
    (the variance unbiased). A pair of tensors is one batch, which needs the memory of one forward pass of all its examples.
    """
    statistics = {f"{name}.{buffer}" for name, norm in _norms(sample.model) for buffer, _ in norm.named_buffers()}
    buffers = {name: torch.zeros_like(b) if name in statistics else b.clone() for name, b in sample.buffers.items()}
    with _estimating(sample.model), torch.no_grad():
        for x, _ in sample.batches:
            functional_call(sample.model, (sample.parameters, buffers), (x,))
    return dataclasses.replace(sample, buffers=buffers)


def _norms(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]


@contextmanager
def _estimating(model: nn.Module) -> Iterator[None]:
    before = [(norm, norm.training, norm.momentum) for _, norm in _norms(model)]
    try:
        for norm, _, _ in before:
            norm.training, norm.momentum = True, None
        yield
    finally:
        for norm, training, momentum in before:
            norm.training, norm.momentum = training, momentum
