"""Networks in half precision, mixed precision and with casts of their own."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from tests.support.plain_autograd import assert_as_plain

torch.manual_seed(0)
X, Y = torch.randn(9, 2, 6, 6), torch.arange(9) % 3


class WithHead(nn.Module):
    """A body, and a head that casts its features to its own precision."""

    def __init__(self, *, cast: bool = True) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh())
        self.hidden, self.fc = nn.Linear(4, 5), nn.Linear(5, 3)
        self.cast = cast

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x.to(self.body[0].weight.dtype)).mean((2, 3))
        features = features.float() if self.cast else features
        return self.fc(self.hidden(features).tanh())


def loss(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(X.double()), Y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_measured_in_float32(dtype: torch.dtype) -> None:
    """Plain autograd on the same weights, not the same arithmetic, is what is measured."""
    model = WithHead(cast=False).to(dtype)
    before = copy.deepcopy(model.state_dict())
    frame = pv.measure(model, (X, Y), temperatures=1.0)
    assert_as_plain(frame, model, loss, 1e-5)
    in_float32 = pv.measure(copy.deepcopy(model).float(), (X, Y), temperatures=1.0)
    np.testing.assert_array_equal(frame["theta_hg"], in_float32["theta_hg"])
    after = model.state_dict()
    assert all(torch.equal(after[k], v) and after[k].dtype == v.dtype for k, v in before.items())


def test_a_half_precision_body_with_a_float32_head_is_measured_in_float32() -> None:
    model = WithHead()
    model.body.to(torch.bfloat16)
    exact = WithHead(cast=False)
    exact.load_state_dict(model.state_dict())
    assert_as_plain(pv.measure(model, (X, Y), temperatures=1.0), exact, loss, 1e-5)


def test_a_head_that_casts_to_float32_is_measured_in_float64() -> None:
    exact = WithHead(cast=False)
    for model in (WithHead(), WithHead().double()):
        chosen: dict[str, Any] = {} if model.fc.weight.dtype == torch.float64 else EXACT
        frame = pv.measure(model, (X, Y), temperatures=1.0, columns=COLUMNS, **chosen)
        assert_as_plain(frame, exact, loss, 1e-10)
        assert (frame["theta2_g2"] > 0).all()


EXACT = {"dtype": torch.float64}
COLUMNS = ("theta_g", "theta_hg", "theta2_g2")


def test_a_loss_that_casts_or_keeps_float32_weights_is_measured_in_float64() -> None:
    weights = torch.tensor([1.0, 2.0, 0.5])

    def cast(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output.float(), target, weight=weights)

    frame = pv.measure(WithHead(), (X, Y), temperatures=1.0, loss=cast, **EXACT)
    exact = WithHead(cast=False)
    assert_as_plain(
        frame,
        exact,
        lambda net: F.cross_entropy(net(X.double()), Y, weight=weights.double()),
        1e-10,
    )


@pytest.mark.parametrize(
    ("built", "asked", "said"),
    [
        (torch.bfloat16, None, "float32"),
        (torch.float32, None, "float32"),
        (torch.float64, None, "float64"),
        (torch.bfloat16, torch.float64, "float64"),
    ],
)
def test_the_spec_says_the_dtype_of_the_arithmetic(
    built: torch.dtype, asked: torch.dtype | None, said: str, tmp_path: Any
) -> None:
    model = WithHead(cast=False).to(built)
    with pv.Recorder(model, (X, Y), tmp_path / "run", dtype=asked) as recorder:
        recorder.after_epoch(0)
        assert recorder.spec.dtype == said
