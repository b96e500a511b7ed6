"""Functions of torch that are replaced while measuring, and put back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from pruneviz.model.replaced import (
    without_autocast,
    without_checkpointing,
    without_cudnn_recurrence,
    without_sparse_gradients,
)


class Spy(TorchFunctionMode):
    """Notes whether cuDNN is enabled where a recurrent layer runs."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled: list[bool] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("lstm", "gru"):
            self.enabled.append(torch.backends.cudnn.enabled)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_run_without_cudnn(kind: type[nn.Module]) -> None:
    layer, x = kind(3, 4), torch.randn(2, 5, 3)
    with Spy() as spy, without_cudnn_recurrence():
        output = layer(x)[0]
    assert spy.enabled == [False]
    with Spy() as spy:
        assert torch.equal(output, layer(x)[0])
    assert spy.enabled == [torch.backends.cudnn.enabled]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_functions_run_once(reentrant: bool) -> None:
    calls = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return x.sin()

    for context, times in ((without_checkpointing, 1), (torch.enable_grad, 2)):
        calls.clear()
        x = torch.ones(3, requires_grad=True)
        with context():
            checkpoint(counted, x, use_reentrant=reentrant).sum().backward()
        assert len(calls) == times


def test_autocast_does_nothing_and_is_back() -> None:
    layer, x = nn.Linear(3, 3), torch.ones(2, 3)
    mine = torch.autocast("cpu", torch.bfloat16)
    with without_autocast(), mine:
        assert layer(x).dtype == torch.float32
    with mine:
        assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize("bag", [False, True])
def test_lookups_have_dense_gradients(bag: bool) -> None:
    table = (nn.EmbeddingBag if bag else nn.Embedding)(5, 3, sparse=True)
    words = torch.tensor([[0, 2], [2, 4]])

    def gradient() -> Tensor:
        return torch.autograd.grad(table(words).square().sum(), table.weight)[0]

    with without_sparse_gradients():
        dense = gradient()
    assert gradient().is_sparse
    assert torch.equal(dense, gradient().to_dense())
