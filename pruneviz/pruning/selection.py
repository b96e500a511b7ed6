"""Which filters go when units are pruned in the order of their importance, where some take others with them.

A unit that is pruned may leave nothing that feeds a filter of a grouped convolution, which then goes too, with its own unit. So how
many units are gone is more than how many were chosen, and the choice must be made with that in view.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence

from pruneviz.coupling import Coupling
from pruneviz.errors import PruningError
from pruneviz.filters import FilterOf


class Selection:
    """The filters that are gone while units are chosen one after the other, `before` being those that were gone at first.

    A unit goes by the filter that decides for it (`Coupling.leads`). `protected` filters never go, neither chosen nor with others.
    """

    def __init__(self, coupling: Coupling, before: Collection[FilterOf], protected: Collection[FilterOf] = ()) -> None:
        self._coupling, self._protected = coupling, set(protected)
        self._before = coupling.with_dependents(before)
        self._taken: list[FilterOf] = []
        self.gone = self._before

    @property
    def more(self) -> int:
        """How many units are gone that were not at first."""
        return self._coupling.units_of(self.gone) - self._coupling.units_of(self._before)

    def take(self, units: Sequence[FilterOf], number: int) -> None:
        """Choose from `units`, first ones first, until `number` more are gone than at first, or none is left.

        A unit is passed over where more than `number` would be gone with it, or a protected filter. Errors: `PruningError` naming
        the layer, where no minimum is kept and a layer would vanish with it.
        """
        while units and self.more < number:
            most = units[: number - self.more]
            fit = len(most) if self._fits(most, number) else self._most_that_fit(most, number)
            if fit < len(most):
                self._check_layers(self._with(most[: fit + 1]))
            self._taken += most[:fit]
            self.gone, units = self._with(()), units[fit + (fit < len(most)) :]
        self._check_layers(self.gone)

    def take_all(self, units: Sequence[FilterOf]) -> None:
        """Choose all of `units`. Errors: as `take`."""
        self._taken += units
        self.gone = self._with(())
        self._check_layers(self.gone)

    def _with(self, units: Sequence[FilterOf]) -> set[FilterOf]:
        return self._coupling.with_dependents(self._before.union(self._taken, units))

    def _most_that_fit(self, units: Sequence[FilterOf], number: int) -> int:
        return bisect_left(range(1, len(units)), True, key=lambda count: not self._fits(units[:count], number))

    def _fits(self, units: Sequence[FilterOf], number: int) -> bool:
        try:
            gone = self._with(units)
        except PruningError:  # nothing would reach the output
            return False
        return self._protected.isdisjoint(gone) and self._coupling.units_of(gone - self._before) <= number

    def _check_layers(self, gone: Collection[FilterOf]) -> None:
        for layer in self._coupling.layers:
            filters = {(layer.name, p) for p in range(layer.filters)}
            if filters <= set(gone) and not filters <= self._before and filters.isdisjoint(self._protected):
                raise PruningError(
                    f"all {layer.filters} filters of layer {layer.name} would be pruned; "
                    "lower the target, keep a minimum of every layer (keep_at_least), or choose another measure"
                )
