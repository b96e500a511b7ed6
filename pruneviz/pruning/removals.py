"""What changes in a network when one more filter is removed: masks, as `Pruner` would set them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from torch import Tensor, nn

from pruneviz.errors import PruningError
from pruneviz.model.filters import FilterOf
from pruneviz.model.sample import Forward, Inputs
from pruneviz.pruning.coupling import Coupling
from pruneviz.pruning.held_entries import kept_entries
from pruneviz.pruning.selection import with_dependents
from pruneviz.pruning.unit_coupling import UnitCoupling, UnitKind

Change = tuple[Tensor, float]  # boolean mask of entries, and their new value

_NO_FILTERS = "its rows are no filters that a Pruner prunes; units of several parameters are"
_NOT_A_UNIT = "it has no such unit"


class Removals:
    """Which filters of a network can be removed, and what each removal changes.

    A removed filter takes its coupled group along, and all that reads nothing else: weights and
    biases, norm channels with their statistics, columns of later layers. The smaller network of
    `pruneviz.remove` computes the same.

    Args:
        network: Network to trace; it does not change. Filters may be pruned already.
        example: Inputs as in `pruneviz.model.sample`.
        unit: "filter", a kind of units, or an explicit grouping.
        forward: Callable of (network, example) that calls the network.

    Raises:
        PruningError: If nothing can be pruned.
        MeasureError: If the network has no filters, or no such units.
    """

    def __init__(
        self,
        network: nn.Module,
        example: Inputs,
        unit: UnitKind = "filter",
        forward: Forward | None = None,
    ) -> None:
        self._coupling: Coupling | UnitCoupling = (
            Coupling(network, example, forward)
            if unit == "filter"
            else UnitCoupling(network, example, unit, forward)
        )
        self._otherwise = _NO_FILTERS if unit == "filter" else _NOT_A_UNIT
        self._kept = kept_entries(network)
        self._before = self._coupling.pruned()
        self._statistics = self._coupling.kept_channels(self._before)
        self._buffers = {name for name, _ in network.named_buffers()}

    @property
    def layers(self) -> dict[str, int]:
        """{layer: number of its filters}, for layers whose filters can be removed."""
        return {layer.name: layer.filters for layer in self._coupling.layers if layer.filters > 1}

    def reason_against(self, layer: str) -> str:
        """Why no filter of a layer can be removed; "" if some can."""
        if layer in self.layers:
            return ""
        if layer in {own.name for own in self._coupling.layers}:
            return f"{layer} would be left without a filter"
        return self._coupling.left_out.get(layer, self._otherwise)

    def going_with(self, own: FilterOf) -> frozenset[FilterOf]:
        """The filters that go when one is removed: its group, and what reads nothing else.

        Args:
            own: Layer, and position of the filter in it as it is now.

        Returns:
            Empty if the filter is pruned already.

        Raises:
            PruningError: If it cannot be removed.
        """
        if own in self._before:
            return frozenset()
        reason = self.reason_against(own[0])
        if reason:
            raise PruningError(reason)
        more = with_dependents(self._coupling, self._before | {own}) - self._before
        emptied = self._emptied(more)
        if emptied:
            raise PruningError(f"{emptied} would be left without a filter")
        return frozenset(more)

    def changes(self, filters: Collection[FilterOf]) -> dict[str, Change]:
        """What removing filters changes in parameters and buffers.

        Args:
            filters: From `going_with`.

        Returns:
            {parameter or buffer: (boolean mask of the entries that change, their new value)}.
        """
        pruned, found = self._before | set(filters), {}
        for name, keep in self._coupling.kept(pruned).items():
            gone = ~keep
            if name in self._kept:
                gone &= self._kept[name].to(gone.device)
            if gone.any():
                found[name] = gone, 0.0
        for norm, alive in self._coupling.kept_channels(pruned).items():
            gone = self._statistics[norm] & ~alive
            for own, value in (("running_mean", 0.0), ("running_var", 1.0)):
                name = f"{norm}.{own}" if norm else own
                if gone.any() and name in self._buffers:
                    found[name] = gone, value
        return found

    def _emptied(self, more: Collection[FilterOf]) -> str:
        """The first layer that would have no filter left when these are removed too; "" if none."""
        gone = Counter(layer for layer, _ in {*self._before, *more})
        new = {layer for layer, _ in more}
        sizes = {layer.name: layer.filters for layer in self._coupling.layers}
        return next((name for name in sizes if name in new and gone[name] == sizes[name]), "")
