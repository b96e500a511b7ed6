"""The training loop follows the protocol of the paper, and repeats to the bit."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz.errors import TrainingError
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, normalise, subset
from pruneviz.experiment.training import (
    evaluate,
    first_step,
    put_back_best,
    set_learning_rate,
    settle_optimizer,
    start,
    train,
    train_epoch,
)
from pruneviz.plans.run_plan import RunPlan
from tests.support.hooks import Hooks
from tests.support.scarce_memory import ERRORS

PLAN = RunPlan(
    "tiny-s0", "test", "tiny", "digits", 0, epochs=3, lr_drops=(2,), batch_size=16, augment=True
)
PAPER = RunPlan("r", "paper", "resnet56", "cifar100", 0)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return subset(load_dataset("digits"), 8, 4, seed=0)


def network(seed: int = 0, norm: bool = True) -> nn.Module:
    torch.manual_seed(seed)
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 10)]
    return nn.Sequential(
        nn.AvgPool2d(4),
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6) if norm else nn.Identity(),
        *head,
    )


def trained(data: ImageData, plan: RunPlan = PLAN) -> tuple[nn.Module, pd.DataFrame]:
    state, rows = start(network(), plan), []
    train(state, data, plan, Hooks(lambda epoch, **facts: rows.append({"epoch": epoch, **facts})))
    return state.network, pd.DataFrame(rows)


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(1, 0.1), (80, 0.1), (81, 0.01), (120, 0.01), (121, 0.001), (160, 0.001)],
    ids=lambda value: str(value),
)
def test_the_learning_rate_falls_tenfold_after_epochs_80_and_120(epoch: int, rate: float) -> None:
    optimizer = start(network(), PAPER).optimizer
    assert set_learning_rate(optimizer, PAPER, epoch) == pytest.approx(rate, rel=1e-12)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(rate, rel=1e-12)]


def test_the_defaults_are_the_protocol_of_the_paper() -> None:
    (group,) = start(network(), PAPER).optimizer.param_groups
    assert (group["momentum"], group["weight_decay"], group["nesterov"], group["dampening"]) == (
        0.9,
        1e-4,
        False,
        0,
    )
    assert (
        PAPER.epochs,
        PAPER.batch_size,
        PAPER.train_temperature,
        PAPER.augment,
        PAPER.sample_per_class,
    ) == (160, 128, 5.0, True, 25)


def test_an_epoch_is_plain_gradient_descent_on_logits_divided_by_the_temperature(
    data: ImageData,
) -> None:
    plan = replace(PLAN, batch_size=32, augment=False, train_temperature=5.0)
    state, twin = start(network(), plan), network()
    loss, accuracy = train_epoch(state, first_step(state, data, plan), plan.batch_size)

    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    parameters, losses, hits = list(twin.parameters()), 0.0, 0
    velocity = [torch.zeros_like(p) for p in parameters]
    for chosen in order.split(32):
        output = twin.train()(normalise(data.train_images[chosen]))
        mean = F.cross_entropy(output / 5.0, data.train_labels[chosen])
        losses, hits = (
            losses + mean.item() * len(chosen),
            hits + int((output.argmax(1) == data.train_labels[chosen]).sum()),
        )
        for p, v, g in zip(
            parameters, velocity, torch.autograd.grad(mean, parameters), strict=True
        ):
            v.mul_(0.9).add_(g + 1e-4 * p.data)
            p.data -= 0.1 * v

    for name, p in twin.named_parameters():
        torch.testing.assert_close(
            state.network.get_parameter(name), p, rtol=1e-5, atol=1e-7, msg=name
        )
    assert loss == pytest.approx(losses / 80, rel=1e-5)
    assert accuracy == pytest.approx(hits / 80, rel=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"augment": False}, {"train_temperature": 1.0}, {"weight_decay": 0.0}],
    ids=str,
)
def test_a_plan_fixes_the_weights_to_the_bit_and_another_plan_gives_others(
    data: ImageData, change: dict[str, float]
) -> None:
    first, _ = trained(data)
    assert same_weights(first, trained(data)[0])
    assert not same_weights(first, trained(data, replace(PLAN, **change))[0])


def test_training_reports_its_facts_after_every_epoch(data: ImageData) -> None:
    model, facts = trained(data)
    assert list(facts["epoch"]) == [0, 1, 2, 3]
    assert list(facts["phase"]) == ["init", "train", "train", "train"]
    assert facts["lr"].tolist()[1:] == pytest.approx([0.1, 0.1, 0.01])
    assert facts.loc[0, ["lr", "train_loss", "train_acc", "seconds"]].isna().all()
    assert facts[["test_loss", "test_acc"]].notna().all(axis=None)
    assert (facts["seconds"][1:] > 0).all()
    with torch.no_grad():
        output = model.eval()(normalise(data.test_images))
    assert facts["test_acc"].iloc[-1] == pytest.approx(
        (output.argmax(1) == data.test_labels).float().mean().item(), rel=1e-6
    )
    assert facts["test_loss"].iloc[-1] == pytest.approx(
        F.cross_entropy(output, data.test_labels).item(), rel=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_evaluation_does_not_depend_on_its_batches_and_changes_nothing(
    data: ImageData, batch_size: int
) -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert evaluate(model, data, batch_size) == pytest.approx(evaluate(model, data), rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_evaluation_is_halved_if_memory_runs_out(data: ImageData) -> None:
    class Scarce(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 6:
                raise ERRORS["oneDNN"]()
            return x

    model = network()
    found = evaluate(nn.Sequential(Scarce(), model), data, 40)
    assert found == evaluate(model, data, 5)


def test_real_digits_are_learnt() -> None:
    whole = load_dataset("digits")
    plan = replace(PLAN, epochs=6, lr_drops=(5,), batch_size=64, augment=False)
    _, facts = trained(whole, plan)
    assert facts["test_acc"].iloc[0] < 0.3
    assert facts["test_acc"].iloc[-1] > 0.5
    assert facts["train_loss"].iloc[-1] < facts["train_loss"].iloc[1]


def test_no_global_generator_moves(data: ImageData) -> None:
    state = start(network(), PLAN)
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]  # noqa: NPY002
    train(state, data, PLAN, Hooks())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]  # noqa: NPY002
    assert random.getstate() == before[2]


DIVERGED = (
    r"the training loss of epoch \d is (nan|inf)"
    r"(; layer \d is the first with values that are not finite)?; "
    r"lower the learning rate \(now 1e\+06\)"
)


def test_divergence_is_an_error_that_names_the_epoch_and_the_rate(data: ImageData) -> None:
    plan = replace(PLAN, lr=1e6)
    state = start(network(norm=False), plan)
    seen: list[int] = []
    with pytest.raises(TrainingError, match=DIVERGED) as error:
        train(state, data, plan, Hooks(lambda epoch, **facts: seen.append(epoch)))
    assert f"epoch {seen[-1] + 1} " in str(error.value)


def test_progress_is_told_of_every_epoch_and_within_slow_ones(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pruneviz.experiment.training._SECONDS_BETWEEN_REPORTS", 0.0)
    told: list[float] = []
    hooks = Hooks(report=lambda epochs, note: told.append(epochs))
    train(start(network(), PLAN), data, PLAN, hooks)
    assert told == sorted(told)
    assert {1.0, 2.0, 3.0} <= set(told)
    assert any(0 < epochs < 1 for epochs in told)


@pytest.mark.parametrize("what", ["lacks", "foreign", "twice"])
def test_an_optimiser_of_other_parameters_is_refused(what: str) -> None:
    state = start(network(), PLAN)
    group = state.optimizer.param_groups[0]
    if what == "lacks":
        del group["params"][0]
    else:
        group["params"].append(
            nn.Parameter(torch.zeros(1)) if what == "foreign" else group["params"][0]
        )
    said = r"lacks 1 \(1\.weight\) and holds 0" if what == "lacks" else r"lacks 0 \(\) and holds 1"
    with pytest.raises(TrainingError, match=said):
        settle_optimizer(state, carry_momentum=False)


def test_the_best_network_is_put_back_whole() -> None:
    state, other = start(network(), PLAN), start(network(seed=1), PLAN)
    assert put_back_best(state) is None
    state.best = {"epoch": 4, "test_acc": 0.9, "network": other.network.state_dict()}
    assert put_back_best(state) == 4
    assert all(
        torch.equal(value, other.network.state_dict()[name])
        for name, value in state.network.state_dict().items()
    )
