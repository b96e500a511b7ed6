"""Calls without gradients are repeated with them where a network needs them, and only there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pruneviz.model.own_gradients import retried_with_gradients


def test_a_call_that_needs_gradients_is_repeated_with_them() -> None:
    model = nn.Linear(3, 1)

    @retried_with_gradients
    def call(model: nn.Linear, state: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.autograd.grad((x @ state["weight"].T).square().sum(), state["weight"])[0]

    state = {name: p.detach() for name, p in model.named_parameters()}
    x = torch.ones(2, 3)
    with torch.no_grad():
        found = call(model, state, x)
    assert not found.requires_grad
    torch.testing.assert_close(found, 4 * state["weight"].sum() * torch.ones(1, 3))


def test_other_errors_pass() -> None:
    calls = []

    @retried_with_gradients
    def call(model: nn.Module, state: dict[str, Tensor]) -> Tensor:
        calls.append(torch.is_grad_enabled())
        raise RuntimeError("sizes differ")

    with torch.no_grad(), pytest.raises(RuntimeError, match="sizes differ"):
        call(nn.Linear(1, 1), {})
    assert calls == [False]
