"""Which filters go when groups are pruned in the order of their importance, where some take others with them.

A group that is pruned may leave nothing that feeds a filter of a grouped convolution, which then goes too, with its own group. So how
many groups are gone is more than how many were chosen, and the choice must be made with that in view.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from pruneviz.errors import PruningError
from pruneviz.model.filters import FilterOf
from pruneviz.pruning.coupling import Coupling, Gone


class Selection:
    """The filters that are gone while groups are chosen one after the other, `before` being those that were gone at first.

    A group goes by the filter that decides for it (`Coupling.leads`). `protected` filters never go, neither chosen nor with others.
    """

    def __init__(
        self, coupling: Coupling, before: Collection[FilterOf], protected: Collection[FilterOf] = ()
    ) -> None:
        self._coupling, self._protected = coupling, set(protected)
        self._gone = Gone(coupling, before)
        self._before = set(self._gone.filters)
        self.more = 0

    @property
    def gone(self) -> set[FilterOf]:
        """All filters that are gone."""
        return self._gone.filters

    def take(self, groups: Iterable[FilterOf], number: int) -> None:
        """Choose from `groups`, first ones first, until `number` more (`more`) are gone than at first, or none is left.

        A group is passed over where more than `number` would be gone with it, or a protected filter. Errors: `PruningError` naming
        the layer, where no minimum is kept and a layer would vanish with it.
        """
        for group in groups:
            if self.more == number:
                break
            new = self._with_them([group])
            if self.more + self._coupling.count_groups(
                new
            ) <= number and self._protected.isdisjoint(new):
                self._add(new)
            elif self._protected.isdisjoint(new):
                self._check_layers(self.gone | new)
        self._check_layers(self.gone)

    def take_all(self, groups: Iterable[FilterOf]) -> None:
        """Choose all of `groups`. Errors: as `take`."""
        self._add(self._with_them(list(groups)))
        self._check_layers(self.gone)

    def _with_them(self, groups: Sequence[FilterOf]) -> set[FilterOf]:
        """These groups and all that goes with them."""
        try:
            return self._gone.with_them(groups)
        except PruningError:
            self._check_layers(
                self.gone | set(groups)
            )  # a layer that vanishes is why nothing reaches the output, and says more
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
                    "lower the target, keep a minimum of every layer (keep_at_least), or choose another measure"
                )
