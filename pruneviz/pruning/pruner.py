"""Pruning a network by any measure: ranking over all layers, the minimum that every layer keeps, and masks that hold for good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import pandas as pd
from torch import Tensor, nn

from pruneviz.analysis.scores import NEEDS, SCORES
from pruneviz.errors import PruningError, ScoreError
from pruneviz.log.schema import CHEAP_COLUMNS
from pruneviz.model.filters import FilterOf, unwrap
from pruneviz.model.sample import check_example
from pruneviz.pruning.coupling import Coupling
from pruneviz.pruning.held_entries import prune_entries, pruned_rows, restart_statistics
from pruneviz.pruning.rounds import (
    group_scores,
    kept_minimum,
    lead_scores,
    lowest_groups,
    out_of_reach,
    protected_by_position,
    protected_by_score,
    ranked_groups,
)
from pruneviz.pruning.selection import Selection, with_dependents


class Pruner:
    """Prunes filters of one network, in the place they have: masked to zero for good, with all that depends on them alone.

    What a pruned filter adds to the network is what it would add if it were removed, which `pruneviz.pruning.remove` then can do.
    Filters that depend on another alone (a depthwise one) are pruned with it and rank as one group with it, the sum of both.

    Args: `network`; `example`, one or more of its inputs; `keep_at_least`, the fraction of every unpruned layer that always
    stays, plus one filter, those of the highest score (0: no minimum, and a layer that would vanish is an error); `flowandprune`
    imitates the published code: the minimum is chosen by position, and a dependent filter inherits the score of the one it
    depends on and counts a second time.
    Errors: `MeasureError` and `PruningError` for a network without filters that can be pruned, `DataError` for an example that is none.
    Source: Lubana and Dick, ICLR 2021.
    """

    def __init__(
        self,
        network: nn.Module,
        example: Tensor,
        *,
        keep_at_least: float = 0.05,
        flowandprune: bool = False,
    ) -> None:
        if not 0 <= keep_at_least < 1:
            raise PruningError(
                f"keep_at_least={keep_at_least!r}; give the fraction of every layer that always stays, from 0 to below 1"
            )
        check_example(example)
        self._network = unwrap(network)
        self._flowandprune = flowandprune
        self.coupling = Coupling(self._network, example)
        self._minimum = {
            layer.name: kept_minimum(layer.filters, keep_at_least) for layer in self.coupling.layers
        }
        self._leads = list(self.coupling.members)  # group -> the filter that decides for it
        self._group_of = {lead: group for group, lead in enumerate(self._leads)}

    @property
    def groups(self) -> int:
        """How many groups the network had unpruned; in the published code's counting, how many filters."""
        return len(self.coupling.leads) if self._flowandprune else len(self._group_of)

    @property
    def gone(self) -> int:
        """How many of `groups` are pruned."""
        if self._flowandprune:
            return len(self._pruned())
        return self.coupling.count_groups(self._pruned())

    @property
    def kept_fraction(self) -> float:
        """The fraction of groups that is still there."""
        return 1 - self.gone / self.groups

    @property
    def residual(self) -> bool:
        """Whether several filters are added into one channel somewhere."""
        return self.coupling.has_sums

    def prune(self, table: pd.DataFrame, measure: str, gone: int, round: int = 1) -> None:
        """Prune the groups of the lowest importance until `gone` groups are gone in all.

        Args: `table`, the filters table of this network now, with the columns that the measure needs (`needed_columns`); `measure`, a
        key of `pruneviz.analysis.scores.SCORES`; `round`, for messages.
        A group is passed over where more would go with it than are to go, or a filter that its layer's minimum protects: that of a grouped
        convolution, whose filters go when nothing feeds them.
        Errors: `PruningError` naming the round when the target is out of reach, a layer would vanish (it is named) or the measure is
        unknown; `ScoreError` for a missing column. Then nothing is pruned.
        """
        number = gone - self.gone
        if (
            number < 0 and not self._flowandprune
        ):  # there a filter more than asked goes, where it depends on one that was chosen
            raise PruningError(
                f"round {round}: {gone} groups are to be gone, but {self.gone} are already; groups never come back"
            )
        try:
            ranked = self._ranked(table, measure)
            chosen = (
                self._chosen_entries(ranked, max(0, number))
                if self._flowandprune
                else self._chosen_groups(ranked, number)
            )
        except (PruningError, ScoreError) as error:
            raise type(error)(f"round {round}: {error}") from error
        self._mask(chosen.gone)

    def prune_filters(self, filters: Mapping[str, Iterable[int]]) -> None:
        """Prune these filters, {layer: output channels}, with all that depends on them alone; no minimum is kept.

        Errors: `PruningError` for layers or filters that are not there, and when nothing would reach the output.
        """
        named = {(layer, p) for layer, numbers in filters.items() for p in numbers}
        unknown = sorted(named - set(self.coupling.leads))
        if unknown:
            known = ", ".join(layer.name for layer in self.coupling.layers)
            raise PruningError(
                f"there is no filter {unknown[0][1]} of layer {unknown[0][0]!r} to prune; the layers are {known}"
            )
        self._mask(with_dependents(self.coupling, self._pruned() | named))

    def counts(self) -> pd.DataFrame:
        """One row per layer in the order of execution: layer, layer_index, filters (unpruned), kept, coupled_to."""
        gone = Counter(layer for layer, _ in self._pruned())
        rows = [
            (
                layer.name,
                index,
                layer.filters,
                layer.filters - gone[layer.name],
                self.coupling.coupled_to(layer),
            )
            for index, layer in enumerate(self.coupling.layers)
        ]
        return pd.DataFrame(rows, columns=["layer", "layer_index", "filters", "kept", "coupled_to"])

    def _chosen_groups(self, ranked: pd.DataFrame, number: int) -> Selection:
        """The `number` groups that are next, those among them that go with others."""
        protected = ranked.loc[ranked["protected"], ["layer", "position"]].itertuples(
            index=False, name=None
        )
        chosen = Selection(self.coupling, self._pruned(), set(protected))
        chosen.take([self._leads[group] for group in ranked_groups(ranked)], number)
        if chosen.more < number:
            raise PruningError(out_of_reach(ranked, number, chosen.more))
        return chosen

    def _chosen_entries(self, ranked: pd.DataFrame, number: int) -> Selection:
        """The groups of the `number` lowest filters, each an entry of the ranking of its own."""
        entries = lowest_groups(ranked.assign(group=range(len(ranked))), number)
        chosen = Selection(self.coupling, self._pruned())
        chosen.take_all([self._leads[group] for group in ranked["group"].to_numpy()[entries]])
        return chosen

    def _ranked(self, table: pd.DataFrame, measure: str) -> pd.DataFrame:
        """The filters that are still there: layer, position, group, its score, and whether the minimum of the layer protects them."""
        if measure not in SCORES:
            raise PruningError(f"no pruning measure {measure!r}; choose one of {', '.join(SCORES)}")
        numbered = self._numbered(table)
        scores = (lead_scores if self._flowandprune else group_scores)(numbered, measure)
        found = numbered[["layer", "position", "group"]].assign(score=numbered["group"].map(scores))
        protect = protected_by_position if self._flowandprune else protected_by_score
        return found.assign(protected=protect(found, self._minimum))

    def _numbered(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of the filters that are still there, with the channel that each has in this network now and the number of its group."""
        places = {
            (layer.name, number): p
            for layer in self.coupling.layers
            for p, number in enumerate(layer.numbers)
        }
        layers = table["layer"].astype(str)
        at = [
            (layer, places.get((layer, number), -1))
            for layer, number in zip(layers, table["filter"], strict=True)
        ]
        pruned, leads = self._pruned(), self.coupling.leads
        group = [
            -1 if key in pruned or key not in leads else self._group_of[leads[key]] for key in at
        ]
        there = table.assign(layer=layers, position=[p for _, p in at], group=group)
        there = there[there["group"] >= 0].reset_index(drop=True)
        if len(there) != len(leads) - len(pruned) or there.duplicated(["layer", "position"]).any():
            raise PruningError(
                f"the table has {len(there)} rows of filters that are still there in this network, which are {len(leads) - len(pruned)}; "
                "measure this network as it is now"
            )
        return there

    def _pruned(self) -> set[FilterOf]:
        """The filters that are pruned, as the network's own masks say."""
        found = set()
        for layer in self.coupling.layers:
            rows = pruned_rows(self._network, layer.weight)
            found |= {
                (layer.name, p) for p in ([] if rows is None else rows.nonzero().flatten().tolist())
            }
        return found

    def _mask(self, pruned: Collection[FilterOf]) -> None:
        prune_entries(self._network, self.coupling.kept(pruned))
        restart_statistics(self._network, self.coupling.kept_channels(pruned))


def needed_columns(measure: str) -> tuple[str, ...]:
    """The columns that must be measured, beside the cheap ones and sigma_delta, to rank filters by a measure."""
    return tuple(
        column
        for column in NEEDS[measure]
        if column not in (*CHEAP_COLUMNS, "sigma_delta", "layer", "filter")
    )


def ranking_temperatures(measure: str, train_temperature: float) -> tuple[float, ...]:
    """The logits temperatures at which the columns of a measure are ranked: g at that of training, Hg at 1, and at 200 for GraSP's own.

    Source: protocol of the code of Lubana and Dick, ICLR 2021.
    """
    needed = needed_columns(measure)
    if not any(column.startswith("theta_hg") for column in needed):
        return (train_temperature,)
    return (1.0, 200.0) if "theta_hg_t200" in needed else (1.0,)
