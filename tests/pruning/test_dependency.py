"""Reasons why filters stay, in words, and channels of several removals together."""

from __future__ import annotations

from pruneviz.pruning.dependency import READ, WHOLE, WRITTEN, Removal, explain, union
from pruneviz.pruning.slicing import IN, OUT


def test_reasons_are_told_once_in_a_fixed_order_with_three_names_at_most() -> None:
    readers = [(READ, f"layer{i}") for i in (4, 2, 2, 5, 1, 3)]
    told = explain([(WHOLE, "fc"), *readers, (WRITTEN, "stem"), (WHOLE, "fc")])
    assert told == (
        "other layers meet them in a sum or product and are alive there (stem)",
        "layers that read the channels are alive there (layer1, layer2, layer3 and 2 more)",
        "single channels cannot be taken out of fc",
    )
    assert explain([]) == ()


def test_channels_of_several_removals_add_up_by_module_and_side() -> None:
    first = Removal("a", {("a", OUT): frozenset({1}), ("b", IN): frozenset({1})}, {})
    second = Removal("b", {("b", OUT): frozenset({0}), ("b", IN): frozenset({2})}, {})
    assert union([first, second]) == {("a", OUT): {1}, ("b", IN): {1, 2}, ("b", OUT): {0}}
    assert union([]) == {}
