"""Pruning, removing and measuring on a GPU equal those on the CPU, and training is captured.

Skipped without a GPU.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz import Pruner, measure, remove
from pruneviz.experiment import training
from pruneviz.experiment.checkpoint import parts_of, restore_checkpoint, write_checkpoint
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, balanced_sample, subset
from pruneviz.experiment.networks.registry import NETWORKS, build_network
from pruneviz.experiment.training import (
    TrainingState,
    first_step,
    start,
    train,
    train_epoch,
)
from pruneviz.log.vocabulary import PRECISIONS, Precision
from pruneviz.measuring.cheap_columns import CheapColumns
from pruneviz.model.filters import find_layers
from pruneviz.plans.run_plan import RunPlan
from pruneviz.pruning.held_entries import kept_entries, prune_entries
from tests.support.hooks import Hooks
from tests.support.plans import changed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def sample() -> tuple[Tensor, Tensor]:
    images, labels = balanced_sample(load_dataset("digits"), per_class=2)
    return images.double(), labels


def pruned_by_half(
    name: str, sample: tuple[Tensor, Tensor], device: str
) -> tuple[nn.Module, Pruner]:
    torch.manual_seed(0)
    network = build_network(name, num_classes=10, width=0.125).double().to(device)
    pruner = Pruner(network, sample[0][:2].to(device))
    table = measure(network, (sample[0].to(device), sample[1].to(device)))
    pruner.prune(table, "proposed", pruner.groups // 2)
    return network, pruner


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_filters_go_and_stay_away(name: str, sample: tuple[Tensor, Tensor]) -> None:
    _, on_cpu = pruned_by_half(name, sample, "cpu")
    network, on_gpu = pruned_by_half(name, sample, "cuda")
    assert on_gpu.counts().equals(on_cpu.counts())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(network.train()(sample[0].cuda()), sample[1].cuda()).backward()
        optimizer.step()
    parameters = dict(network.named_parameters())
    assert all((parameters[name][~kept] == 0).all() for name, kept in kept_entries(network).items())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_smaller_network_computes_the_same(name: str, sample: tuple[Tensor, Tensor]) -> None:
    network, _ = pruned_by_half(name, sample, "cuda")
    smaller = remove(network, sample[0].cuda())
    assert smaller.removed > 0
    assert smaller.after.seconds > 0
    images = sample[0].cuda()
    assert torch.allclose(smaller.network.eval()(images), network.eval()(images), atol=1e-10)


def test_single_weights_are_measured_alike(sample: tuple[Tensor, Tensor]) -> None:
    network, _ = pruned_by_half("vgg13", sample, "cpu")
    tables = [
        measure(
            copy.deepcopy(network).to(device),
            (sample[0].to(device), sample[1].to(device)),
            unit="weight",
        )
        for device in ("cpu", "cuda")
    ]
    for column in ("theta", "theta_g", "theta_hg", "g_norm2"):
        expected = tables[0][column].to_numpy()
        np.testing.assert_allclose(
            tables[1][column].to_numpy(),
            expected,
            rtol=1e-6,
            atol=1e-9 * np.nanmax(np.abs(expected)),
        )


# Rounding in float64 stays small over six epochs of this network; deep and narrow ones magnify it
# ten billion times in one.
CALM = "vgg13"
DATA = {"epochs": 6, "lr_drops": (4,), "batch_size": 48, "width": 0.25, "every": 100}
PLAN = RunPlan("tiny-s0", "test", "resnet56", "digits", 0, **DATA)  # type: ignore[arg-type]
ROUNDS = {"measure": "magnitude", "target": 0.3, "rounds": 2}


@pytest.fixture(scope="module")
def data() -> ImageData:
    # eight batches of 48 and one of 16
    return subset(load_dataset("digits", device="cuda"), 40, 10, seed=0)


class InFloat64(nn.Module):
    """Network in float64: sums of a GPU change their order, and training magnifies rounding."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.double())


def begun(plan: RunPlan, *, exactly: bool = False) -> TrainingState:
    torch.manual_seed(0)
    network = build_network(plan.network, num_classes=10, width=plan.width)
    return start((InFloat64(network) if exactly else network).cuda(), plan)


def trained(
    data: ImageData, plan: RunPlan, state: TrainingState
) -> tuple[TrainingState, list[float]]:
    """Trained state and training losses; rounds prune a third of the filters of some layers."""
    losses: list[float] = []

    def prune(epoch: int) -> None:
        convolutions = [name for name, p in state.network.named_parameters() if p.dim() == 4][1::5]
        keep = {}
        for name in convolutions:
            keep[name] = torch.ones_like(state.network.get_parameter(name), dtype=torch.bool)
            keep[name][epoch % 3 :: 3] = False
        prune_entries(state.network, keep)

    def record(epoch: int, **facts: float) -> None:
        losses.append(facts.get("train_loss", 0.0))

    train(state, data, plan, Hooks(record, prune))
    return state, losses


@contextmanager
def waits_told(how: Literal["warn", "error"]) -> Iterator[list[warnings.WarningMessage]]:
    """Make every wait of the host for the GPU an error, or collect it among the warnings.

    The warnings also say, once, that this mode is a prototype.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode(how)
        try:
            yield told
        finally:
            torch.cuda.set_sync_debug_mode("default")


@contextmanager
def uncaptured() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "best_of", lambda step: step)
        yield


@pytest.mark.parametrize(
    "change", [{}, ROUNDS, {**ROUNDS, "carry_momentum": True}, {"augment": False}], ids=str
)
def test_captured_steps_train_as_uncaptured_ones(data: ImageData, change: dict[str, Any]) -> None:
    plan = changed(PLAN, network=CALM, precision="fp32", lr=0.02, **change)
    captured, losses = trained(data, plan, begun(plan, exactly=True))
    with uncaptured():
        plain, expected = trained(data, plan, begun(plan, exactly=True))
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < losses[1]
    assert torch.equal(captured.generator.get_state(), plain.generator.get_state()), (
        "the graphs draw as many numbers"
    )
    assert kept_entries(captured.network).keys() == kept_entries(plain.network).keys()
    for name, kept in kept_entries(captured.network).items():
        assert not captured.network.get_parameter(name)[~kept].any()


def test_a_resumed_run_is_captured_anew_and_goes_on(data: ImageData, tmp_path: Path) -> None:
    plan = changed(PLAN, network=CALM, precision="fp32", lr=0.02)
    _, whole = trained(data, plan, begun(plan, exactly=True))
    half, first = trained(data, changed(plan, epochs=3), begun(plan, exactly=True))
    write_checkpoint(parts_of(half), tmp_path)
    again = begun(plan, exactly=True)
    assert restore_checkpoint(again, tmp_path)
    _, second = trained(data, plan, again)
    assert [*first, *second] == pytest.approx(whole, rel=1e-5)


def test_within_an_epoch_the_host_never_waits_for_the_gpu(data: ImageData) -> None:
    state = begun(PLAN)
    step = first_step(state, data, PLAN)
    for _ in range(5):  # until both sizes of batches are captured
        train_epoch(state, step, PLAN.batch_size)
    with step.running(), waits_told("error"):
        for chosen in torch.randperm(step.images, generator=state.generator, device="cuda").split(
            PLAN.batch_size
        ):
            step(chosen)


@pytest.mark.parametrize("precision", PRECISIONS["cuda"])
def test_every_precision_trains_and_measuring_stays_exact(
    data: ImageData, precision: Precision
) -> None:
    plan = changed(PLAN, network=CALM, precision=precision, lr=0.02)
    state, losses = trained(data, plan, begun(plan))
    assert losses[-1] < losses[1]
    sample = balanced_sample(data, 2)
    table = measure(state.network, sample, columns=("theta_g", "g_norm2"))
    exact = measure(state.network, sample, columns=("theta_g", "g_norm2"), dtype=torch.float64)
    for column in ("theta_g", "g_norm2"):
        scale = exact[column].abs().max()
        np.testing.assert_allclose(table[column], exact[column], atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize("unit", ["filter", "weight"])
def test_cheap_columns_are_read_with_one_wait(unit: str) -> None:
    network = begun(PLAN).network
    cheap = CheapColumns(
        network, find_layers(network, torch.zeros(2, 3, 32, 32, device="cuda")), unit
    )
    cheap.read()
    with waits_told("warn") as waits:
        cheap.read()
    assert len([wait for wait in waits if "called a synchronizing" in str(wait.message)]) == 1


class Heads(nn.Module):
    """Attention and concatenated convolutions, whose units are heads, neurons and filters."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        joined = torch.cat([self.left(images).relu(), self.right(images)], 1).flip(1)
        tokens = self.norm(joined).flatten(2).movedim(1, 2)[:, ::64]
        return self.head(self.block(tokens).mean(1))


@pytest.mark.parametrize("unit", ["filter", "head", "neuron"])
def test_units_are_measured_pruned_and_removed_alike(
    unit: str, sample: tuple[Tensor, Tensor]
) -> None:
    torch.manual_seed(0)
    begun_with = Heads().double()
    tables, counts = [], []
    for device in ("cpu", "cuda"):
        network = copy.deepcopy(begun_with).to(device)
        images, labels = sample[0].to(device), sample[1].to(device)
        table = measure(network, (images, labels), unit=unit)
        pruner = Pruner(network, images[:2], unit=unit)
        pruner.prune(table, "proposed", 1)
        smaller = remove(network, images[:2], unit=unit)
        expected = network.eval()(images)
        assert torch.allclose(smaller.network.eval()(images), expected, atol=1e-10)
        tables.append(table)
        counts.append(pruner.counts())
    assert counts[1].equals(counts[0])
    for column in ("theta_g", "theta_hg"):
        scale = tables[0][column].abs().max()
        np.testing.assert_allclose(tables[1][column], tables[0][column], atol=1e-10 * scale, rtol=0)
