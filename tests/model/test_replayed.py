"""Partial forward passes: what is taken over, what is computed, and what is noticed."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruneviz.model.isolation import copied_tensors, isolated
from pruneviz.model.replayed import DivergedError, Replay
from pruneviz.model.sample import call_with

X = torch.linspace(-1, 1, 12).view(3, 4)


class Counted(nn.Linear):
    """A linear layer that counts its calls in the seed, which nobody puts back in between."""

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(torch.initial_seed() + 1)
        return super().forward(x)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    inner = nn.Sequential(Counted(4, 4), nn.ReLU(inplace=True), nn.Dropout())
    return nn.Sequential(inner, Counted(4, 4), nn.Tanh(), Counted(4, 2)).eval()


def replay_of(model: nn.Module) -> tuple[Replay, Any, dict[str, Tensor]]:
    state = copied_tensors(model)

    def run(tensors: Mapping[str, Tensor]) -> Any:
        return call_with(model, tensors, X)

    return Replay(model, state, run), run, state


def calls_in(work: Any) -> int:
    """How many counted layers a piece of work calls."""
    torch.manual_seed(0)
    work()
    return torch.initial_seed()


def test_calls_before_the_change_are_taken_over_and_the_others_computed() -> None:
    model = network()
    with isolated(model), torch.no_grad():
        replay, run, state = replay_of(model)
        assert torch.equal(replay.output, model(X))
        for name, computed in (("0.0.bias", 3), ("1.weight", 2), ("3.weight", 1)):
            cut, first = replay.cut([name])
            assert first == name
            replay.record(state, [cut])
            changed = {**state, name: state[name] + 1}
            found = replay.output_from(cut, changed)
            assert torch.equal(found, run(changed))
            assert not torch.equal(found, replay.output)
            assert calls_in(partial(replay.output_from, cut, changed)) == computed


def test_a_change_is_read_first_where_its_first_tensor_is() -> None:
    model = network()
    with isolated(model), torch.no_grad():
        replay, _, _ = replay_of(model)
        assert replay.cut(["3.weight", "1.bias"])[1] == "1.bias"
        assert replay.cut(["unknown"]) == (0, "")


def test_a_pass_that_calls_other_modules_is_noticed() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            self.last, self.turn = nn.Linear(4, 2), nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            first, second = (self.one, self.two) if self.turn > 0 else (self.two, self.one)
            return self.last(second(first(x)))

    model = Turned()
    with isolated(model), torch.no_grad():
        replay, _, state = replay_of(model)
        cut, _ = replay.cut(["last.weight"])
        replay.record(state, [cut])
        with pytest.raises(DivergedError):
            replay.output_from(cut, {**state, "turn": -state["turn"]})


def test_modules_are_called_as_before_afterwards_even_after_an_error() -> None:
    call = nn.Module.__call__
    with pytest.raises(ZeroDivisionError):
        Replay(network(), {}, lambda state: 1 / 0)
    assert nn.Module.__call__ is call


def test_passes_that_overlap_in_threads_leave_modules_as_they_were() -> None:
    call, started, both, first_ended = nn.Module.__call__, Event(), Event(), Event()

    def first(state: Mapping[str, Tensor]) -> None:
        started.set()
        both.wait(0.2)

    def second(state: Mapping[str, Tensor]) -> None:
        both.set()
        first_ended.wait(0.2)

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(Replay, network(), {}, first)
        started.wait()
        other = pool.submit(Replay, network(), {}, second)
        one.result()
        first_ended.set()
        other.result()
    assert nn.Module.__call__ is call
