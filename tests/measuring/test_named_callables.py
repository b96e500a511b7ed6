"""Functions as text: equal for equal ones, and another one for another."""

from __future__ import annotations

import array
import copy
import dataclasses
import importlib.util
from collections import deque
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pruneviz as pv
from pruneviz.analysis.measures import resolve
from pruneviz.measuring.named_callables import callables_facts, described
from pruneviz.measuring.options import Options
from tests.support.short_recordings import SAMPLE, network


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


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    k: float

    def __call__(self, output: Any, target: Any) -> Any:
        return self.k * F.cross_entropy(output, target)


class Named(NamedTuple):
    k: float

    def __call__(self, output: Any, target: Any) -> Any:
        return self.k * F.cross_entropy(output, target)


class Plain:
    __slots__ = ("_moved", "k")

    def __init__(self, k: float) -> None:
        self.k, self._moved = k, object()

    def __call__(self, output: Any, target: Any) -> Any:
        return self.k * F.cross_entropy(output, target)


class Focal(nn.Module):
    gamma = 2.0

    def forward(self, output: Any, target: Any) -> Any:
        return self.gamma * F.cross_entropy(output, target)


class Helping:
    def __call__(self, output: Any, target: Any) -> Any:
        return self.helped(output, target)

    def helped(self, output: Any, target: Any) -> Any:
        return F.cross_entropy(output, target)


def _of_class(base: type, **changed: Any) -> Any:
    """An object of a class that was edited, under the same name."""
    edited = {"__module__": base.__module__, "__qualname__": base.__qualname__, **changed}
    return type(base.__name__, (base,), edited)()


def _constant(k: int) -> Any:
    if k == 1:
        return lambda output, target: len(b"1") * F.cross_entropy(output, target)
    return lambda output, target: len(b"22") * F.cross_entropy(output, target)


def _helped(k: int) -> Any:
    def helped(self: Any, output: Any, target: Any) -> Any:
        return F.cross_entropy(output, target) * k

    helped.__qualname__ = "Helping.helped"
    return helped


def _different(k: int) -> list[Any]:
    namespace = SimpleNamespace(w=torch.tensor(float(k)))
    held = [
        *(b"x" * k, bytearray(k), range(k), Fraction(k), Decimal(k), deque([k]), slice(k)),
        *(array.array("d", [k]), Path(str(k)), torch.device("cuda", k), pd.Series([1, k])),
        *(namespace, Slotted(k), Named(k), Plain(k), SimpleNamespace(inner=Plain(k))),
        *(Holder(inner=Holder(inner=Holder(k=k))), _of_class(Focal, gamma=float(k))),
        *({"w": [namespace]}, type("Config", (), {"k": k}), 10**5000 + k, {b"a": k}),
    ]

    def in_default(output: Any, target: Any, given: Any) -> Any:
        return F.cross_entropy(output, target)

    defaults = []
    for value in held:
        function = type(in_default)(in_default.__code__, {"__name__": __name__})
        function.__defaults__ = (value,)
        defaults.append(function)
    return [
        *map(_closure, held),
        *defaults,
        *(Slotted(k), Named(k), Plain(k), _constant(k), lru_cache(_constant(k))),
        *(_of_class(Focal, gamma=float(k)), _of_class(Helping, helped=_helped(k))),
        *({0, k}.__contains__, {0: k}.get, Slotted(k).__call__, partial(Focal.forward, Plain(k))),
        torch.enable_grad()(_constant(k)),
    ]


def test_functions_that_look_the_same_are_told_apart() -> None:
    one, same, other = ([described(held) for held in _different(k)] for k in (1, 1, 2))
    assert one == same
    assert [place for place, text in enumerate(one) if text == other[place]] == []


SCRIPTED = """
import torch
import torch.nn.functional as F
@torch.jit.script
def inner(output: torch.Tensor, target: torch.Tensor):
    return F.cross_entropy(output, target) * FACTOR
@torch.jit.script
def loss(output: torch.Tensor, target: torch.Tensor):
    return inner(output, target)
"""


class Scripted(nn.Module):
    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.k * F.cross_entropy(output, target)


def _scripted(folder: Path, k: int) -> list[Any]:
    file = folder / f"of_{k}.py"
    file.write_text(SCRIPTED.replace("FACTOR", f"{k}.0"))
    found = importlib.util.spec_from_file_location("of_script", file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    tensor = torch.tensor(float(k))
    traced = torch.jit.trace(lambda output: output * tensor, torch.ones(2))
    return [module.loss, torch.jit.script(Scripted(float(k))), traced]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_functions_and_modules_are_told_apart_by_their_graph(tmp_path: Path) -> None:
    one, same, other = ([described(held) for held in _scripted(tmp_path, k)] for k in (1, 1, 2))
    assert one == same
    assert [a != b for a, b in zip(one, other, strict=True)] == [True] * len(one)


def test_a_long_text_is_cut_and_still_tells_apart() -> None:
    texts = [described(partial(_with, opts=[0] * 9999 + [k])) for k in (1, 2)]
    assert texts[0] != texts[1]
    assert max(map(len, texts)) < 600


def test_what_an_own_mask_score_does_is_a_fact() -> None:
    def made(sign: int, reads: str = "theta_norm2") -> str:
        def mine(table: pd.DataFrame) -> pd.Series:
            return sign * table["theta_norm2"]

        mine.needs = [reads]  # type: ignore[attr-defined]
        return str(callables_facts(Options(), resolve(mine))["mask_score_code"])

    assert made(1) == made(1)
    assert len({made(1), made(-1), made(1, "sigma")}) == 3
    assert callables_facts(Options(), resolve("magnitude")) == {}


def test_a_trained_tensor_that_is_held_does_not_count() -> None:
    weight = torch.ones(2, requires_grad=True)
    loss = _closure({"w": weight})
    before = described(loss)
    weight.data.add_(1)
    assert described(loss) == before


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_module_measures_as_the_module_itself() -> None:
    loss = Scripted(2.0)
    tables = [pv.measure(network(), SAMPLE, loss=one) for one in (loss, torch.jit.script(loss))]
    pd.testing.assert_frame_equal(*tables)
