"""Constants and unfollowed operations are noted with the filters that meet them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pruneviz.pruning.silence import Silence


def test_what_is_left_in_sums_products_and_other_operations_is_noted_by_origin() -> None:
    tracer = Silence()
    tracer.begin({})
    left, zero, other = torch.full((2, 3), 0.5), torch.zeros(2, 3), torch.zeros(2, 3)
    for tensor, start in ((left, 0), (zero, 3), (other, 6)):
        tracer.mark(tensor, torch.arange(start, start + 3).expand(2, 3))
    with tracer:
        left + other
        zero + other
        left * zero
        torch.maximum(zero, other)
        zero.sort(1)
    assert set(tracer.left) == {0, 1, 2}
    assert tracer.left[0][1] == "the operation add"
    assert tracer.gates == {0: {3}, 1: {4}, 2: {5}}
    assert set(tracer.unknown) == {3, 4, 5, 6, 7, 8}
    assert tracer.unknown[6][1] == "the operation maximum"
    assert len(list(tracer.unions())) == 9


def test_operations_inside_a_module_with_rules_of_its_own_are_passed_over() -> None:
    tracer = Silence()
    tracer.begin({})
    left, other = torch.ones(2), torch.ones(2)
    tracer.mark(left, 0)
    tracer.mark(other, 1)
    tracer.inside += 1
    with tracer:
        left + other
    assert not tracer.left
    assert tracer.known(left) == [0]


def test_a_parameter_with_an_entry_for_each_channel_is_noted() -> None:
    scale, number, x = torch.ones(3), torch.ones(1), torch.zeros(2, 3)
    tracer = Silence()
    tracer.begin({"scale": scale, "number": number})
    tracer.mark(x, torch.arange(3).expand(2, 3))
    with tracer:
        x * scale * number
    assert tracer.scaled == {(0, "scale"), (1, "scale"), (2, "scale")}


def test_positions_comparisons_and_choices_carry_no_zero_of_a_filter() -> None:
    shape, filters = (2, 3), torch.arange(3).expand(2, 3)
    table = torch.nn.Embedding(8, 2)
    uses: dict[str, Callable[[Tensor, Tensor], object]] = {
        "argmax": lambda x, other: table(x.argmax(1)),
        "sum": lambda x, other: (x >= 0).sum(1),
        "bucketize": lambda x, other: torch.bucketize(x, torch.tensor([-1.0, 1.0])),
        "where": lambda x, other: torch.where(x > 0, other, 1.0),
        "masked_fill": lambda x, other: other.masked_fill(x > 0, 1.0),
        "index": lambda x, other: other[x >= 0],
    }
    for name, use in uses.items():
        tracer = Silence()
        tracer.begin({})
        x, other = torch.zeros(shape), torch.zeros(shape)
        tracer.mark(x, filters)
        tracer.mark(other, filters + 3)
        with tracer:
            use(x, other)
        noted = {**tracer.unknown, **tracer.left}
        assert set(noted) == {0, 1, 2}, name
        assert noted[0][1].endswith(name)


def test_what_reads_only_the_shape_and_a_test_for_nan_note_nothing() -> None:
    tracer = Silence()
    tracer.begin({})
    x = torch.zeros(2, 3)
    tracer.mark(x, torch.arange(3).expand(2, 3))
    with tracer:
        torch.zeros_like(x), torch.rand_like(x), torch.empty_like(x), x.new_full((4,), 2.0)
        torch.nn.functional.rrelu(x)
        x.isnan().any()
    assert not tracer.unknown
    assert not tracer.left
