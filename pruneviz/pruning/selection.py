"""Selection of groups to prune, one after another, with their dependents.

Pruning a group may remove all inputs of a filter in a grouped convolution, which is then pruned
too, with its own group. The selection takes such further groups into account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from pruneviz.errors import PruningError
from pruneviz.model.filters import FilterOf
from pruneviz.pruning.coupling import Coupling
from pruneviz.pruning.unit_coupling import UnitCoupling


def with_dependents(
    coupling: Coupling | UnitCoupling, pruned: Collection[FilterOf]
) -> set[FilterOf]:
    """Add all members of the filters' groups, and all filters that read nothing else.

    Raises:
        PruningError: If nothing would reach the network's output.
    """
    return Gone(coupling, pruned).filters


class Gone:
    """The set of pruned filters while groups are pruned one after another.

    Args:
        coupling: The network's coupling.
        pruned: Initially pruned filters.

    Attributes:
        filters: All pruned filters, including dependents.
    """

    def __init__(self, coupling: Coupling | UnitCoupling, pruned: Collection[FilterOf]) -> None:
        self.filters: set[FilterOf] = set()
        self._coupling = coupling
        self._left = [len(feed.sources) for feed in coupling.feeds]
        self.add(self.going_with(pruned))

    def going_with(self, pruned: Collection[FilterOf]) -> set[FilterOf]:
        """Filters that would be pruned in addition if these were pruned too.

        Raises:
            PruningError: If nothing would reach the network's output.
        """
        new: set[FilterOf] = set()
        lost: Counter[int] = Counter()
        waiting = list(pruned)
        while waiting:
            for member in self._group_of(waiting.pop()):
                if member not in new and member not in self.filters:
                    new.add(member)
                    waiting += self._starved(member, lost)
        return new

    def add(self, new: Collection[FilterOf]) -> None:
        """Prune filters returned by `going_with`."""
        self.filters.update(new)
        for own in new:
            for feed in self._coupling.feeds_of.get(own, ()):
                self._left[feed] -= 1

    def _group_of(self, own: FilterOf) -> list[FilterOf]:
        lead = self._coupling.leads.get(own, own)
        return self._coupling.members.get(lead, [own])

    def _starved(self, own: FilterOf, lost: Counter[int]) -> Iterator[FilterOf]:
        """Filters that lose their last input with a filter; updates the losses per feed."""
        for index in self._coupling.feeds_of.get(own, ()):
            lost[index] += 1
            if lost[index] == self._left[index]:
                feed = self._coupling.feeds[index]
                self._coupling.check_output(feed.layer)
                yield from ((feed.layer, p) for p in feed.filters)


class Selection:
    """Choose groups to prune, one after another, counting those that go with others.

    A group is named by its first filter (`Coupling.leads`).

    Args:
        coupling: The network's coupling.
        before: Initially pruned filters.
        protected: Filters that must stay; they are neither chosen nor pruned with others.

    Attributes:
        more: Number of groups pruned in addition to the initial ones.
    """

    def __init__(
        self,
        coupling: Coupling | UnitCoupling,
        before: Collection[FilterOf],
        protected: Collection[FilterOf] = (),
    ) -> None:
        self._coupling, self._protected = coupling, set(protected)
        self._gone = Gone(coupling, before)
        self._before = set(self._gone.filters)
        self.more = 0

    @property
    def gone(self) -> set[FilterOf]:
        """All pruned filters."""
        return self._gone.filters

    def take(self, groups: Iterable[FilterOf], number: int) -> None:
        """Choose groups in order until exactly `number` more are pruned, or none is left.

        A group is skipped if it would exceed `number` or prune a protected filter.

        Raises:
            PruningError: If a layer would vanish; names it.
        """
        for group in groups:
            if self.more == number:
                break
            new = self._going_with([group])
            if not self._protected.isdisjoint(new):
                continue
            if self.more + self._coupling.count_groups(new) <= number:
                self._add(new)
            else:
                self._check_layers(self.gone | new)
        self._check_layers(self.gone)

    def take_all(self, groups: Iterable[FilterOf]) -> None:
        """Choose all of these groups.

        Raises:
            PruningError: If a layer would vanish; names it.
        """
        self._add(self._going_with(list(groups)))
        self._check_layers(self.gone)

    def _going_with(self, groups: Sequence[FilterOf]) -> set[FilterOf]:
        try:
            return self._gone.going_with(groups)
        except PruningError:
            # A vanished layer is a more specific reason why nothing reaches the output.
            self._check_layers(self.gone | set(groups))
            raise

    def _add(self, new: Collection[FilterOf]) -> None:
        self._gone.add(new)
        self.more += self._coupling.count_groups(new)

    def _check_layers(self, gone: set[FilterOf]) -> None:
        for layer in self._coupling.layers:
            filters = {(layer.name, p) for p in range(layer.filters)}
            if filters <= gone and not filters <= self._before:
                raise PruningError(
                    f"all {layer.filters} filters of layer {layer.name} would be pruned; "
                    "lower the target, keep a minimum of every layer (keep_at_least), "
                    "or choose another measure"
                )
