"""Cost of a network, counted by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pruneviz.pruning.cost import cost
from tests.support.cases import as_pair, digit_batches, head

IMAGES, _ = as_pair(digit_batches((6, 6)))


def test_cost_counts_one_example_and_shared_parameters_once_and_changes_nothing() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3, groups=1),
        nn.Conv2d(6, 6, 2, groups=6, bias=False),
        nn.Dropout(0.5),
        *head(6),
    ).double()
    tied = nn.Linear(6, 6, bias=False, dtype=torch.float64)
    both = nn.Sequential(*network[:3], nn.AdaptiveAvgPool2d(1), nn.Flatten(), tied, tied)
    before = torch.get_rng_state()
    counted = cost(both, IMAGES)
    assert counted.parameters == 60 + 24 + 36
    assert counted.macs == 2 * 2 * 54 + 1 * 24 + 2 * 36
    assert counted.macs == cost(both, IMAGES[:1]).macs
    assert both.training and torch.is_grad_enabled() and torch.equal(torch.get_rng_state(), before)


class Token(nn.Module):
    """A network that gives a parameter to a module, as a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.fc = nn.Parameter(torch.ones(1, 4)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.token.expand(len(x), -1)) + self.fc(x)


def test_a_network_that_gives_parameters_to_its_modules_can_be_counted() -> None:
    network = Token()
    assert cost(network, torch.ones(1, 4)).macs == 2 * 12
    assert network.token.requires_grad
