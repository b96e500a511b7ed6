"""Contents of Python objects are put back in place."""

from __future__ import annotations

import array
import itertools
from argparse import Namespace
from collections.abc import Callable
from queue import Queue
from typing import Any

import pytest

from pruneviz.errors import UnsupportedError
from pruneviz.model.contents import content_of, lent, of_class, of_variable


class Slots:
    __slots__ = ("count", "late")

    def __init__(self) -> None:
        self.count = 0


class Counted:
    count = 0


def count(helper: Any) -> None:
    helper.count += 1
    helper.late = 1


@pytest.mark.parametrize(
    ("value", "move", "read"),
    [
        (Namespace(count=0), count, lambda n: sorted(vars(n).items())),
        (Slots(), count, lambda s: (s.count, hasattr(s, "late"))),
        (Queue(), lambda q: q.put(1), lambda q: list(q.queue)),
        (bytearray(2), lambda b: b.append(3), bytes),
        (array.array("i", [1]), lambda a: a.append(3), list),
    ],
)
def test_contents_are_put_back(
    value: Any, move: Callable[[Any], None], read: Callable[[Any], Any]
) -> None:
    before = read(value)
    held = [value, *vars(value).values()] if hasattr(value, "__dict__") else [value]
    restores = [content_of(part, "") for part in held]
    move(value)
    assert read(value) != before
    for put_back in restores:
        if put_back is not None:
            put_back()
    assert read(value) == before


def test_attributes_of_a_class_are_put_back() -> None:
    put_back = of_class(Counted)
    count(Counted)
    put_back()
    assert Counted.count == 0
    assert not hasattr(Counted, "late")


def test_global_variables_are_put_back() -> None:
    space: dict[str, Any] = {"step": 0}
    put_back = of_variable(space, "step")
    space["step"] += 1
    put_back()
    assert space == {"step": 0}


def test_iterators_are_lent_as_copies() -> None:
    own = itertools.cycle([1, 2, 3])
    next(own)
    copy = lent(own)
    assert [next(copy) for _ in range(4)] == [2, 3, 1, 2]
    assert next(own) == 2


def test_generators_refuse_to_be_read() -> None:
    with pytest.raises(UnsupportedError, match="cannot be copied"):
        next(lent(i for i in range(3)))
