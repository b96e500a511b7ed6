"""Functions of torch that are rewritten for their derivatives keep their values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pruneviz.measuring.rewritten import rewritten

HARD = [F.hardswish, F.hardsigmoid]


@pytest.mark.parametrize("function", HARD)
@pytest.mark.parametrize("in_place", [False, True])
def test_hard_activations_keep_their_values_and_gradients(
    function: Callable[..., Tensor], in_place: bool
) -> None:
    x = torch.linspace(-5, 5, 41, dtype=torch.float64, requires_grad=True)
    own = rewritten(function)
    assert own is not None
    given = x.clone()
    y = own(given, inplace=in_place)
    torch.testing.assert_close(y, function(x))
    assert (y is given) == in_place
    weights = torch.arange(41.0, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(y @ weights, x), torch.autograd.grad(function(x) @ weights, x)
    )


@pytest.mark.parametrize("function", HARD)
def test_hard_activations_have_a_second_derivative(function: Callable[..., Tensor]) -> None:
    x = torch.tensor([-4.0, -1.0, 0.5, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    own = rewritten(function)
    assert own is not None
    assert torch.autograd.gradgradcheck(own, x)


def test_other_functions_stay() -> None:
    assert rewritten(torch.sin) is None
