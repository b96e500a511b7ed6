"""Constants and unfollowed operations are noted with the filters that meet them."""

from __future__ import annotations

import torch

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
