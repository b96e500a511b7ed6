"""Functions as text: equal for equal ones, and another one for another."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pruneviz.measuring.options import Options
from pruneviz.recording.named_callables import callables_facts, described


class Own(nn.Module):
    def __init__(self, factor: float, net: nn.Module | None = None) -> None:
        super().__init__()
        self.factor, self.net = factor, net

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.factor * F.cross_entropy(output, target)


class Called:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, output: Any, target: Any) -> Any:
        return self.factor * F.cross_entropy(output, target)

    def method(self, output: Any, target: Any) -> Any:
        return F.cross_entropy(output, target)


def test_defaults_are_no_facts_and_cross_entropies_have_short_names() -> None:
    assert callables_facts(Options()) == {}
    losses = {
        "cross_entropy": [F.cross_entropy, nn.CrossEntropyLoss(), partial(F.cross_entropy)],
        "cross_entropy(label_smoothing=0.1)": [
            nn.CrossEntropyLoss(label_smoothing=0.1),
            partial(F.cross_entropy, label_smoothing=0.1),
        ],
        "nll_loss": [F.nll_loss, nn.NLLLoss()],
        "torch.nn.functional.mse_loss": [F.mse_loss],
    }
    for name, same in losses.items():
        assert {callables_facts(Options(loss=loss))["loss"] for loss in same} == {name}
    assert callables_facts(Options(classifier=True, hooks=True)) == {
        "classifier": True,
        "hooks": True,
    }


def test_what_a_function_holds_counts() -> None:
    made = [lambda output, target, k=k: k * F.cross_entropy(output, target) for k in (1, 2)]
    functions: list[Any] = [
        *(Own(1.0), Own(2.0), Called(1.0), Called(2.0), Called(1.0).method, *made),
        *(partial(made[0], k=3), F.cross_entropy, F.mse_loss),
        lambda output, target: F.cross_entropy(output, target) + 1,
        lambda output, target: F.cross_entropy(output, target) - 1,
    ]
    texts = [described(function) for function in functions]
    assert len(set(texts)) == len(texts)
    assert texts == [described(copy.deepcopy(function)) for function in functions]


def test_what_training_moves_in_a_loss_does_not_count() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    loss = Own(1.0, net)
    before = described(loss)
    with torch.no_grad():
        net.get_parameter("0.weight").add_(1)
        net(torch.rand(4, 2))
    assert described(loss) == before


class Holder:
    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)

    def __call__(self, output: Any, target: Any) -> Any:
        return F.cross_entropy(output, target)

    def loss(self, output: Any, target: Any) -> Any:
        return F.cross_entropy(output, target)


class Inner(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, output: Any, target: Any) -> Any:
        return self.part(output, target)


def _closure(held: Any) -> Any:
    return lambda output, target: F.cross_entropy(output, target) * bool(held)


def _with(output: Any, target: Any, opts: Any = None) -> Any:
    return F.cross_entropy(output, target)


def _made(k: int) -> list[Any]:
    return [
        Holder(options={"alpha": k}),
        Holder(options={"alpha": [1, {"beta": k}]}),
        Holder(weights=np.array([k])),
        Holder(weight=np.float32(k)),
        Holder(inner=Holder(alpha=k)),
        Holder(alpha=k).loss,
        _closure({"alpha": k}),
        _closure(Holder(alpha=k)),
        _closure([1, [k]]),
        _closure({k}),
        _closure(nn.CrossEntropyLoss(torch.tensor([1.0, k]))),
        Inner(nn.CrossEntropyLoss(label_smoothing=k / 10)),
        partial(_with, opts={"alpha": k}),
        partial(_with, [k]),
    ]


def test_what_is_held_within_counts() -> None:
    one, same, other = ([described(held) for held in _made(k)] for k in (1, 1, 2))
    assert one == same
    assert [a != b for a, b in zip(one, other, strict=True)] == [True] * len(one)


def test_what_training_moves_in_what_is_held_does_not_count() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    owner = Holder(net=net, step=0, _moved=0, optimizer=optimizer, schedule=schedule)
    around: list[Any] = [1]
    around.append(around)
    losses = [owner, owner.loss, Inner(net), *map(_closure, (net, optimizer, schedule, around))]
    before = [described(loss) for loss in losses]
    net(torch.rand(4, 2)).sum().backward()
    optimizer.step()
    schedule.step()
    net.eval()
    owner.step, owner._moved = 1, 1
    assert [described(loss) for loss in losses] == before
