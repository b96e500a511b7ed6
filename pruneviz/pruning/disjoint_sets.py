"""Disjoint sets of filters that can be joined."""

from __future__ import annotations

from collections.abc import Collection

from pruneviz.model.filters import FilterOf


class DisjointSets:
    """Disjoint sets of items that can be joined; a set is named by its first item.

    Args:
        items: All items, in order.
    """

    def __init__(self, items: Collection[FilterOf]) -> None:
        self._place = {item: place for place, item in enumerate(items)}
        self._above: dict[FilterOf, FilterOf] = {}

    def first(self, item: FilterOf) -> FilterOf:
        """The first item of the set of an item."""
        passed = []
        while item in self._above:
            passed.append(item)
            item = self._above[item]
        for below in passed:
            self._above[below] = item
        return item

    def join(self, item: FilterOf, other: FilterOf) -> None:
        """Join two sets; no-op for unknown items."""
        if other not in self._place:
            return
        first, second = self.first(item), self.first(other)
        if first == second:
            return
        if self._place[second] < self._place[first]:
            first, second = second, first
        self._above[second] = first
