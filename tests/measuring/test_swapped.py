"""Weights that a network swaps during forward are refused; new weights that stay are measured."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import UnsupportedError
from pruneviz.measuring.directional import Followed
from tests.support.plain_autograd import assert_as_plain


class Swapping(nn.Linear):
    """Computes with doubled weights, and puts its own back."""

    def forward(self, x: Tensor) -> Tensor:
        own = self.weight.data
        self.weight.data = own * 2
        output = super().forward(x)
        self.weight.data = own
        return output


class Writing(nn.Linear):
    """Computes with the signs of its weights, written in place, and puts its own back."""

    def forward(self, x: Tensor) -> Tensor:
        own = self.weight.data.clone()
        self.weight.data.copy_(own.sign())
        output = super().forward(x)
        self.weight.data.copy_(own)
        return output


class Bounded(nn.Linear):
    """Replaces its weights by bounded ones that stay."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = torch.renorm(self.weight.data, 2, 0, 0.5)
        return super().forward(x)


def network(kind: type[nn.Linear]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), kind(5, 5), nn.Tanh(), nn.Linear(5, 3))


def sample() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(12, 6), torch.arange(12) % 3


@pytest.mark.parametrize("kind", [Swapping, Writing])
def test_weights_that_are_put_back_are_refused_by_name(kind: type[nn.Linear]) -> None:
    with pytest.raises(UnsupportedError, match=r"other values of 2\.weight"):
        pv.measure(network(kind), sample())


def test_a_swap_is_noticed_in_the_backward_pass() -> None:
    model, (x, y) = network(Swapping), sample()
    parameters = dict(model.named_parameters())
    with Followed(parameters) as followed:
        loss = F.cross_entropy(model(x), y)
        with pytest.raises(UnsupportedError, match=r"2\.weight"):
            followed.gradient(loss)


def test_new_weights_that_stay_are_measured() -> None:
    model, (x, y) = network(Bounded).double(), sample()
    x = x.double()
    model(x)
    assert_as_plain(
        pv.measure(model, (x, y)),
        model,
        lambda twin: F.cross_entropy(twin(x), y),
    )
