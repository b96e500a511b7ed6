"""The epochs at which derivatives are measured, as a number or a function."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from pruneviz.errors import LogError
from pruneviz.measuring.named_callables import described
from pruneviz.recording.measured_epochs import Every, in_spec, measured_at


def early(epoch: int) -> bool:
    return epoch < 2


@pytest.mark.parametrize(
    ("every", "epochs", "text"),
    [
        (1, [0, 1, 2, 3, 4, 5, 6], "1"),
        (3, [0, 3, 6], "3"),
        (np.int64(2), [0, 2, 4, 6], "2"),
        (early, [0, 1], described(early)),
    ],
)
def test_epochs_are_multiples_or_those_of_the_function(
    every: Every, epochs: list[int], text: str
) -> None:
    is_measured = measured_at(every)
    assert [epoch for epoch in range(7) if is_measured(epoch)] == epochs
    assert in_spec(every) == text


@pytest.mark.parametrize("every", [0, -1, True, 2.5, "10", None])
def test_a_distance_that_is_not_a_whole_number_from_1_is_refused(every: object) -> None:
    with pytest.raises(LogError, match=rf"every={every!r}; give the number of epochs between"):
        measured_at(every)  # type: ignore[arg-type]


def test_functions_of_equal_names_are_told_apart() -> None:
    def at(k: int, epoch: int) -> bool:
        return epoch % k == 0

    functions: list[Every] = [
        *(lambda epoch: epoch % 2 == 0, lambda epoch: epoch % 3 == 0),
        *(partial(at, 2), partial(at, 3)),
    ]
    texts = [in_spec(every) for every in functions]
    assert len(set(texts)) == len(texts)
    assert in_spec(partial(at, 2)) == texts[2], "not by where they lie in memory"
