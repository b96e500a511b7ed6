"""Short recordings of a small network that is trained on its measurement sample."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

import pruneviz as pv
from tests.support.cases import BY_NAME, as_pair, digit_batches

SAMPLE = as_pair(digit_batches(dtype=torch.float32))
CASE = BY_NAME["conv_bn_relu"]


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    return CASE.model(dtype=dtype)


def train_epoch(model: nn.Module, seed: int) -> None:
    """Three steps of gradient descent."""
    torch.manual_seed(seed)
    dtype = next(model.parameters()).dtype
    for _ in range(3):
        loss = F.cross_entropy(model.train()(SAMPLE[0].to(dtype)), SAMPLE[1])
        parameters = list(model.parameters())
        for parameter, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.data -= 0.1 * g


def record(model: nn.Module, out: Path, epochs: int = 4, **options: object) -> pv.Runs:
    """Train on the sample, and record."""
    with pv.Recorder(model, SAMPLE, out, **options) as recorder:  # type: ignore[arg-type]
        recorder.after_epoch(0)
        for epoch in range(1, epochs + 1):
            train_epoch(model, epoch)
            recorder.after_epoch(epoch)
    return pv.load(out)


def at(runs: pv.Runs, epoch: int) -> pd.DataFrame:
    return runs.filters[runs.filters["epoch"] == epoch].reset_index(drop=True)


def assert_same_tables(found: pv.Runs, expected: pv.Runs) -> None:
    """Check that two recordings hold equal rows; run names may differ."""
    for table in ("filters", "epochs"):
        frames = [getattr(runs, table).drop(columns="run") for runs in (found, expected)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
