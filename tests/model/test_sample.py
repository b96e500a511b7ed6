"""Batches of any shape: inputs as tensors, mappings and tuples."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from pruneviz.errors import DataError, MeasureError
from pruneviz.model.sample import (
    as_batches,
    call_model,
    chosen,
    examples_in,
    first_of,
    is_splittable,
    mapped,
    split,
)

CPU, X, Y = torch.device("cpu"), torch.arange(10.0).view(5, 2), torch.arange(5)


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


@dataclass
class Graphs:
    nodes: Tensor
    name: str


TREES: dict[str, Any] = {
    "tensor": X,
    "mapping": {"a": X, "flag": True, "scale": torch.tensor(2.0)},
    "ordered mapping": OrderedDict(a=X, b=Y),
    "user's mapping": UserDict(a=X, b=Y),
    "tuple": (X, (Y, None)),
    "named tuple": Pair(X, Y),
    "dataclass": Graphs(X, "molecules"),
}


@pytest.mark.parametrize("kind", TREES)
def test_a_tree_is_split_into_pieces_of_its_own_type(kind: str) -> None:
    tree = TREES[kind]
    pieces = list(split(tree, 2))
    assert [examples_in(piece) for piece in pieces] == [2, 2, 1]
    assert {type(piece) for piece in pieces} == {type(tree)}
    assert examples_in(first_of(tree, 3)) == 3
    assert examples_in(chosen(tree, torch.tensor([4, 0]))) == 2
    assert is_splittable((tree, Y))


@pytest.mark.parametrize(
    "tree", [(X, torch.eye(2)), {"x": X, "texts": ["a", "b", "c", "d", "e"]}], ids=["mask", "texts"]
)
def test_what_has_no_example_dimension_everywhere_is_not_split(tree: Any) -> None:
    assert not is_splittable((tree, Y))


def test_tensors_without_dimensions_and_other_values_stay_in_every_piece() -> None:
    piece = list(split(TREES["mapping"], 2))[-1]
    assert piece["flag"] is True and piece["scale"] == 2


class Two(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b


def test_mappings_are_keywords_and_tuples_are_positions() -> None:
    a, b = torch.tensor([3.0]), torch.tensor([1.0])
    assert call_model(Two(), {"b": b, "a": a}) == call_model(Two(), (a, b)) == 2
    assert call_model(Two(), [b, a], lambda model, inputs: model(*inputs[::-1])) == 2


@pytest.mark.parametrize(
    ("inputs", "given"),
    [(X, "one input"), ({"a": X, "c": X}, "the keywords a, c"), ((X, X, X), "3 inputs")],
)
def test_a_call_that_does_not_fit_the_signature_names_the_repair(inputs: Any, given: str) -> None:
    with pytest.raises(MeasureError, match=rf"Two.forward\(a.* with {given}: .*as a tuple of pos"):
        call_model(Two(), inputs)


SAMPLES: dict[str, tuple[Any, list[int]]] = {
    "pair": ((X, Y), [5]),
    "list as pair": ([X, Y], [5]),
    "positional inputs": (((X, X), Y), [5]),
    "mapping and targets": (({"a": X}, Y), [5]),
    "mapping of inputs and of targets": (({"a": X}, {"boxes": Y}), [5]),
    "mapping alone": ({"a": X, "labels": Y}, [5]),
    "batches": ([(X, Y), (X[:2], Y[:2])], [5, 2]),
    "two mappings": ([{"a": X}, {"a": X[:1]}], [5, 1]),
    "batches in a tuple": (((X, Y), (X[:2], Y[:2])), [5, 2]),
    "loader": (torch.utils.data.DataLoader([{"a": x} for x in X], batch_size=3), [3, 2]),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_sample_is_one_batch_or_many(kind: str) -> None:
    sample, sizes = SAMPLES[kind]
    batches = as_batches(sample, CPU, torch.float64)
    assert [examples_in(x) for x, _ in batches] == sizes
    seen: list[torch.dtype] = []
    mapped(batches[0][0], lambda leaf: seen.append(leaf.dtype))
    assert set(seen) <= {torch.float64, torch.int64}


def test_with_forward_a_batch_is_passed_on_whole() -> None:
    def forward(model: nn.Module, batch: Any) -> Any:
        return batch

    ((whole, target),) = as_batches((X, Y), CPU, X.dtype, forward)
    assert torch.equal(whole[0], X) and torch.equal(target, Y)
    ((whole, target),) = as_batches([(X, Y, Y)], CPU, X.dtype, forward)
    assert len(whole) == 3 and target is not None and len(target) == 3
    assert as_batches(X, CPU, X.dtype, forward)[0][0].shape == X.shape


def test_a_batch_of_three_asks_for_its_order() -> None:
    with pytest.raises(DataError, match=r"tuple of 3; give several inputs as \(\(x1, x2\), target"):
        as_batches([(X, X, Y)], CPU, X.dtype)
