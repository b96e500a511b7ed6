"""Networks that differentiate in their own forward pass equal plain double backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from tests.support.plain_autograd import assert_as_plain

torch.manual_seed(0)
X, Y = torch.randn(12, 6, dtype=torch.float64), torch.arange(12) % 3
SLOPES = torch.randn(12, 6, dtype=torch.float64)


class OfInput(nn.Module):
    """The gradient of a function by its input, as a network of physics has it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        value = self.last(torch.tanh(self.first(x))).sum()
        return torch.autograd.grad(value, x, create_graph=True)[0]


class OfParameter(nn.Module):
    """Takes a step of its own down a loss of its own before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.inner.weight, self.first.bias
        loss = (F.linear(bias[None], weight) - bias).square().sum()
        (step,) = torch.autograd.grad(loss, weight, create_graph=True)
        return self.last(torch.tanh(F.linear(torch.tanh(self.first(x)), weight - 0.1 * step)))


def penalised(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """The output, and its slope by the input."""
    x = batch[0].clone().requires_grad_()
    output = model(x)
    return output, torch.autograd.grad(output.logsumexp(1).sum(), x, create_graph=True)[0]


def penalty(output: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
    return F.cross_entropy(output[0], target) + output[1].square().sum(1).mean()


@pytest.mark.parametrize("chunk", [None, 5])
def test_gradients_by_the_input(chunk: int | None) -> None:
    model = OfInput().double()
    table = pv.measure(
        model,
        (X, SLOPES),
        loss=F.mse_loss,
        chunk=chunk,
        layers=["first.weight", "last.weight"],
    )
    assert_as_plain(table, model, lambda twin: F.mse_loss(twin(X), SLOPES))


@pytest.mark.parametrize("chunk", [None, 5])
def test_gradients_by_a_parameter(chunk: int | None) -> None:
    model = OfParameter().double()
    table = pv.measure(model, (X, Y), chunk=chunk)
    assert_as_plain(table, model, lambda twin: F.cross_entropy(twin(X), Y))


@pytest.mark.parametrize("chunk", [None, 5])
def test_penalty_on_the_gradient_by_the_input(chunk: int | None) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    table = pv.measure(
        model, (X, Y), forward=penalised, loss=penalty, temperatures=1.0, chunk=chunk
    )
    assert_as_plain(table, model, lambda twin: penalty(penalised(twin, (X, Y)), Y))
