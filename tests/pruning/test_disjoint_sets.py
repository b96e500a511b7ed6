"""Sets that are joined are named by their first item."""

from __future__ import annotations

from pruneviz.pruning.disjoint_sets import DisjointSets


def test_joined_sets_go_by_their_first_item_and_unknown_items_are_passed_over() -> None:
    items = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    sets = DisjointSets(items)
    sets.join(("b", 1), ("a", 1))
    sets.join(("b", 0), ("b", 1))
    sets.join(("a", 0), ("c", 0))
    assert [sets.first(item) for item in items] == [("a", 0), ("a", 1), ("a", 1), ("a", 1)]
