"""Training with a Recorder equals training without one, wherever a network keeps its state."""

from __future__ import annotations

import argparse
import array
import functools
import itertools
import queue
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import UnsupportedError

NUMBERS, OLD_NUMBERS, NEW_NUMBERS = (
    random.Random(0),
    np.random.RandomState(0),
    np.random.default_rng(0),
)
NOISE = torch.Generator()
CALLS = 0


class Settings:
    step = 0


class Slots:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def next(self) -> int:
        self.count += 1
        return self.count


class Stepping(nn.Module):
    """Scales its inputs by a number that changes at every call, in training only."""

    def __init__(self, step: Callable[[Any], float], **state: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
        self.step = step
        for name, value in state.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        scale = 1 + 0.1 * self.step(self)
        return self.layers(x * scale if self.training else x)


def of_namespace(model: Any) -> float:
    model.args.step += 1
    return model.args.step


def of_queue(model: Any) -> float:
    model.queue.put(1)
    return model.queue.qsize()


def of_bytes(model: Any) -> float:
    model.held[0] += 1
    return model.held[0]


def of_keywords(model: Any) -> float:
    model.partial.keywords["n"] += 1
    return model.partial.keywords["n"]


def of_class(model: Any) -> float:
    Settings.step += 1
    return Settings.step


def of_global(model: Any) -> float:
    global CALLS
    CALLS += 1
    return CALLS


def of_itself(model: Any) -> float:
    of_itself.count += 1  # type: ignore[attr-defined]
    return of_itself.count  # type: ignore[attr-defined]


def of_default(model: Any, calls: list[int] = [0]) -> float:  # noqa: B006
    calls[0] += 1
    return calls[0]


def closure(numbers: itertools.count[int]) -> Callable[[Any], float]:
    return lambda model: next(numbers)


def reset() -> None:
    global CALLS
    CALLS = Settings.step = 0
    of_itself.count = 0  # type: ignore[attr-defined]
    of_default.__defaults__[0][0] = 0  # type: ignore[index]
    NUMBERS.seed(0)
    OLD_NUMBERS.seed(0)
    NEW_NUMBERS.bit_generator.state = np.random.default_rng(0).bit_generator.state
    NOISE.manual_seed(0)


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "namespace": lambda: Stepping(of_namespace, args=argparse.Namespace(step=0)),
    "queue": lambda: Stepping(of_queue, queue=queue.Queue()),
    "bytearray": lambda: Stepping(of_bytes, held=bytearray(1)),
    "array": lambda: Stepping(of_bytes, held=array.array("i", [0])),
    "partial": lambda: Stepping(of_keywords, partial=functools.partial(dict, n=0)),
    "slots": lambda: Stepping(lambda model: model.slots.next(), slots=Slots()),
    "class": lambda: Stepping(of_class),
    "global": lambda: Stepping(of_global),
    "function": lambda: Stepping(of_itself),
    "default": lambda: Stepping(of_default),
    "count": lambda: Stepping(lambda model: next(model.numbers), numbers=itertools.count()),
    "cycle": lambda: Stepping(
        lambda model: next(model.numbers), numbers=itertools.cycle([1, 2, 3])
    ),
    "count in a list": lambda: Stepping(lambda model: next(model.all[0]), all=[itertools.count()]),
    "count in a closure": lambda: Stepping(closure(itertools.count())),
    "random": lambda: Stepping(lambda model: NUMBERS.random()),
    "RandomState": lambda: Stepping(lambda model: OLD_NUMBERS.rand()),
    "Generator": lambda: Stepping(lambda model: NEW_NUMBERS.random()),
    "torch.Generator": lambda: Stepping(lambda model: float(torch.rand(1, generator=NOISE))),
}


def trained(model: nn.Module, folder: Path | None) -> list[Tensor]:
    """Weights after three steps, recorded before each of them if a folder is given."""
    x, y = torch.randn(9, 6, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 3
    run = {"network": "stepping", "seed": 0}
    recorder = None if folder is None else pv.Recorder(model, (x, y), folder / "run", spec=run)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for epoch in range(3):
        if recorder is not None:
            recorder.after_epoch(epoch)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("name", MAKERS)
def test_training_is_bit_equal(name: str, tmp_path: Path) -> None:
    results = []
    for folder in (None, tmp_path):
        reset()
        torch.manual_seed(0)
        results.append(trained(MAKERS[name](), folder))
    assert all(map(torch.equal, *results))


def test_a_generator_that_is_read_is_refused() -> None:
    model = Stepping(lambda model: next(model.numbers), numbers=(i for i in range(99)))
    with pytest.raises(UnsupportedError, match="cannot be copied"):
        pv.measure(model, (torch.randn(9, 6), torch.arange(9) % 3))
    assert next(model.numbers) == 0  # type: ignore[arg-type]
