"""Ordinary use of the public functions, which mypy checks: what runs must also pass a type checker.

No test runs this module; `make lint` does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import pruneviz as pv


def records_facts_of_any_number_type(recorder: pv.Recorder, loss: Tensor) -> None:
    recorder.after_epoch(1, train_loss=loss, test_acc=np.float32(0.5), phase="train", lr=0.1)
    recorder.observe(2, train_loss=torch.tensor(0.3))(test_acc=loss.mean(), test_loss=None)


class Least:
    """A sink with nothing but what it must have."""

    def epoch(self, run: str, epoch: int, aggregates: Mapping[str, float]) -> None: ...


def told(run: str, epoch: int, aggregates: Mapping[str, float]) -> None: ...


def sends_epochs(network: nn.Module, sample: tuple[Tensor, Tensor], writer: object) -> None:
    pv.Recorder(network, sample, "data/mine/one", sinks=told)
    several = [told, Least(), pv.sinks.TensorBoard(writer), pv.sinks.WandB(project="mine")]
    pv.Recorder(network, sample, "data/mine/several", sinks=several, figures_at=[0, 10])
    sinks = [told, Least(), pv.sinks.TensorBoard("logs")]
    pv.Recorder(network, sample, "data/mine/inline", sinks=sinks, figures_at=10).show()


def names_one_thing_or_several(
    model: nn.Module, sample: tuple[Tensor, Tensor], runs: pv.Runs
) -> pd.DataFrame:
    pv.measure(model, sample, temperatures=1.0, columns="theta_g", layers="0", skip="1")
    pv.correlate(runs.filters, "theta_g", "theta_hg", by="epoch")
    pv.convergence(runs.epochs, runs.spec, thresholds=0.5, by="network")
    pv.Pruner(model, sample[0]).prune_filters({"0": 1, "3": [0, 2]})
    return runs.named("run0").read("filters", columns="theta_g", epochs=0, complete="theta_g")


def goes_on_with_the_smaller_network(
    network: nn.Module, sample: tuple[Tensor, Tensor]
) -> torch.optim.Optimizer:
    smaller = pv.remove(network, sample[0])
    smaller(sample[0])
    smaller.eval()
    pv.measure(smaller, sample)
    pv.coverage(smaller, sample)
    pv.delta_loss(smaller, sample, filters=20)
    pv.Pruner(pv.remove(smaller, sample[0]), sample[0])
    pv.Recorder(smaller, sample, "data/mine/smaller").close()
    return torch.optim.SGD(smaller.parameters(), lr=0.1)
