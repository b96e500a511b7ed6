"""Pruning by any measure: global ranking, a minimum per layer, permanent masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from pruneviz.analysis.measures import AnyMeasure, Measure, resolve
from pruneviz.analysis.scores import columns_read
from pruneviz.errors import PruningError, ScoreError
from pruneviz.log.arguments import as_tuple, is_number, is_whole
from pruneviz.log.schema import RANKED_WITHOUT_SAMPLE
from pruneviz.model.filters import FilterOf, Layer, unwrap
from pruneviz.model.network_result import AnyNetwork
from pruneviz.model.sample import Inputs
from pruneviz.model.units import Units
from pruneviz.pruning.coupling import Coupling
from pruneviz.pruning.example import check_example
from pruneviz.pruning.held_entries import prune_entries, restart_statistics
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
from pruneviz.pruning.unit_coupling import UnitCoupling, UnitKind


class Pruner:
    """Prune filters of a network in place: permanently masked to zero, with their dependents.

    A pruned filter contributes exactly as if it were removed, which `pruneviz.remove` can do.
    Coupled filters (a depthwise filter and the filter it reads) form a group: they are pruned
    together and ranked as one filter with the sums of their columns.

    Args:
        network: Network to prune. It may be wrapped (DataParallel, DDP).
        example: One or more inputs for tracing, such as images[:2]: a tensor, a mapping of keyword
            arguments or a tuple of positional ones.
        keep_at_least: Fraction of every unpruned layer that is always kept, plus one filter, by
            highest score. With 0 there is no minimum, and pruning a whole layer is an error.
        flowandprune: Imitate the paper's published code: the minimum is chosen by position, and a
            dependent filter inherits the score of the filter it depends on and counts again.
        unit: What is pruned and ranked: "filter", or a unit of several parameters, such as "head"
            or "neuron", or an explicit grouping; as for `pruneviz.measure`, which gives the table
            to rank. Where filters are named here, units are meant then.

    Attributes:
        coupling: Groups of coupled filters, and the excluded layers (`left_out`).

    Raises:
        PruningError: If no filter can be pruned, or `keep_at_least` is outside [0, 1).
        MeasureError: If the network has no filters.
        DataError: If the example is not a batch of inputs.

    References:
        Lubana and Dick, "A Gradient Flow Framework For Analyzing Network Pruning", ICLR 2021.

    Example:
        >>> pruner = pv.Pruner(network, images)
        >>> table = pv.measure(network, (images, labels))
        >>> pruner.prune(table, "magnitude", gone=pruner.groups // 2)
        >>> smaller = pv.remove(network, images)
    """

    def __init__(
        self,
        network: AnyNetwork,
        example: Inputs,
        *,
        keep_at_least: float = 0.05,
        flowandprune: bool = False,
        unit: UnitKind = "filter",
    ) -> None:
        if not (is_number(keep_at_least) and 0 <= keep_at_least < 1):
            raise PruningError(
                f"keep_at_least={keep_at_least!r}; "
                "give the fraction of every layer that always stays, from 0 to below 1"
            )
        self._network = unwrap(network)
        check_example(self._network, example)
        self._flowandprune = flowandprune
        self.coupling: Coupling | UnitCoupling = (
            Coupling(self._network, example)
            if unit == "filter"
            else UnitCoupling(self._network, example, unit)
        )
        self._minimum = {
            layer.name: kept_minimum(layer.filters, keep_at_least) for layer in self.coupling.layers
        }
        self._leads = list(self.coupling.members)  # first filter of each group
        self._group_of = {lead: group for group, lead in enumerate(self._leads)}

    @property
    def groups(self) -> int:
        """Number of groups (with `flowandprune`, filters) in the unpruned network."""
        return len(self.coupling.leads) if self._flowandprune else len(self._group_of)

    @property
    def gone(self) -> int:
        """Number of pruned `groups`."""
        if self._flowandprune:
            return len(self.coupling.pruned())
        return self.coupling.count_groups(self.coupling.pruned())

    @property
    def kept_fraction(self) -> float:
        """Fraction of `groups` that are not pruned."""
        return 1 - self.gone / self.groups

    @property
    def residual(self) -> bool:
        """Whether several filters are added into one channel, as in a residual sum."""
        return self.coupling.has_sums

    def prune(self, table: pd.DataFrame, measure: AnyMeasure, gone: int, round: int = 1) -> None:
        """Prune the least important groups until `gone` groups are pruned in total.

        Filters of a grouped convolution are pruned with their last input. A group is skipped if it
        would take too many groups with it, or a filter that its layer's minimum protects.

        Args:
            table: Filters table of the current network with the columns that the measure needs, as
                returned by `pruneviz.measure` or `Recorder.table`.
            measure: Pruning measure, as for `pruneviz.score`, such as "magnitude".
            gone: Total number of pruned groups after this call, see `pruneviz.pruned_after`.
            round: Round number for error messages.

        Raises:
            PruningError: If the target is out of reach, a layer would vanish, the measure is
                unknown, or the table is not of this network; names the round. Nothing is pruned.
            ScoreError: If the table lacks a column; names the round. Nothing is pruned.
        """
        self._check_gone(gone)
        number = gone - self.gone
        # The published code may exceed the requested number, because dependent filters go too.
        if number < 0 and not self._flowandprune:
            raise PruningError(
                f"round {round}: gone={gone}, but {self.gone} groups are already pruned; "
                "pruned groups never come back"
            )
        choose = self._chosen_entries if self._flowandprune else self._chosen_groups
        try:
            chosen = choose(self._ranked(table, measure), max(0, number))
        except (PruningError, ScoreError) as error:
            raise type(error)(f"round {round}: {error}") from error
        self._mask(chosen.gone)

    def prune_filters(self, filters: Mapping[str, int | Iterable[int]]) -> None:
        """Prune the given filters with their dependents, without a minimum per layer.

        Args:
            filters: {layer: output channels} to prune.

        Raises:
            PruningError: If a layer or filter does not exist, or nothing would reach the output.

        Example:
            >>> pruner.prune_filters({"features.0": [0, 3]})
        """
        named = {(layer, p) for layer, numbers in filters.items() for p in as_tuple(numbers)}
        unknown = sorted(named - set(self.coupling.leads))
        if unknown:
            layer, number = unknown[0]
            known = ", ".join(layer.name for layer in self.coupling.layers)
            first = self.coupling.layers[0]
            kind = first.kind if isinstance(first, Units) else "filter"
            raise PruningError(
                f"there is no {kind} {number} of layer {layer!r} to prune; the layers are {known}"
            )
        self._mask(with_dependents(self.coupling, self.coupling.pruned() | named))

    def counts(self) -> pd.DataFrame:
        """Number of unpruned and kept filters in every layer.

        Returns:
            One row per layer in execution order: layer, layer_index, filters (unpruned), kept,
            coupled_to (the layer that leads all its groups, or None).
        """
        gone = Counter(layer for layer, _ in self.coupling.pruned())
        rows = []
        layers: Sequence[Layer | Units] = self.coupling.layers
        for index, layer in enumerate(layers):
            kept = layer.filters - gone[layer.name]
            coupled_to = self.coupling.coupled_to(layer)
            rows.append((layer.name, index, layer.filters, kept, coupled_to))
        return pd.DataFrame(rows, columns=["layer", "layer_index", "filters", "kept", "coupled_to"])

    def _check_gone(self, gone: int | float) -> None:
        if is_whole(gone):
            return
        given = f"gone={gone!r}; give the total number of pruned groups"
        if is_number(gone) and 0 < gone < 1:
            raise PruningError(
                f"{given}; for this fraction of the {self.groups}, give "
                f"gone=round({gone!r} * pruner.groups), which is {round(gone * self.groups)}"
            )
        raise PruningError(f"{given}, such as {self.groups // 2} of the {self.groups}")

    def _chosen_groups(self, ranked: pd.DataFrame, number: int) -> Selection:
        """Choose the next `number` groups, including groups that go with others."""
        keys = ranked.loc[ranked["protected"], ["layer", "position"]]
        protected = set(keys.itertuples(index=False, name=None))
        chosen = Selection(self.coupling, self.coupling.pruned(), protected)
        chosen.take([self._leads[group] for group in ranked_groups(ranked)], number)
        if chosen.more < number:
            raise PruningError(out_of_reach(ranked, number, chosen.more))
        return chosen

    def _chosen_entries(self, ranked: pd.DataFrame, number: int) -> Selection:
        """Choose the groups of the `number` lowest filters, ranked individually."""
        entries = lowest_groups(ranked.assign(group=range(len(ranked))), number)
        chosen = Selection(self.coupling, self.coupling.pruned())
        chosen.take_all([self._leads[group] for group in ranked["group"].to_numpy()[entries]])
        return chosen

    def _ranked(self, table: pd.DataFrame, measure: AnyMeasure) -> pd.DataFrame:
        """Filters that are not pruned: layer, position, group, score of the group, protected."""
        known = _known(measure)
        alive = self._alive_rows(table)
        scores = (lead_scores if self._flowandprune else group_scores)(alive, known)
        found = alive[["layer", "position", "group"]].assign(score=alive["group"].map(scores))
        protect = protected_by_position if self._flowandprune else protected_by_score
        return found.assign(protected=protect(found, self._minimum))

    def _alive_rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of filters that are not pruned, with `position` (channel now) and `group`."""
        positions = {
            (layer.name, number): p
            for layer in self.coupling.layers
            for p, number in enumerate(layer.numbers)
        }
        pruned, leads = self.coupling.pruned(), self.coupling.leads
        layers = table["layer"].astype(str)
        position: list[int] = []
        group: list[int] = []
        for layer, number in zip(layers, table["filter"], strict=True):
            p = positions.get((layer, number), -1)
            alive = (layer, p) in leads and (layer, p) not in pruned
            position.append(p)
            group.append(self._group_of[leads[layer, p]] if alive else -1)
        rows = table.assign(layer=layers, position=position, group=group)
        rows = rows[rows["group"] >= 0].reset_index(drop=True)
        expected = len(leads) - len(pruned)
        if len(rows) != expected or rows.duplicated(["layer", "position"]).any():
            raise PruningError(
                f"the table has {len(rows)} rows of filters that this network still has, "
                f"which are {expected}; measure this network as it is now, with the same unit"
            )
        return rows

    def _mask(self, pruned: Collection[FilterOf]) -> None:
        prune_entries(self._network, self.coupling.kept(pruned))
        restart_statistics(self._network, self.coupling.kept_channels(pruned))


def _known(measure: AnyMeasure) -> Measure:
    try:
        return resolve(measure)
    except ScoreError as error:
        raise PruningError(str(error)) from error


def needed_columns(measure: AnyMeasure) -> tuple[str, ...]:
    """Derivative columns to measure for ranking by a measure.

    Raises:
        ScoreError: If the measure is a function that does not say which columns it reads.
    """
    found = resolve(measure)
    columns_read(found)  # raises if it does not say
    return tuple(column for column in found.needs or () if column not in RANKED_WITHOUT_SAMPLE)


def ranking_temperatures(measure: AnyMeasure, train_temperature: float) -> tuple[float, ...]:
    """Logit temperatures at which the columns of a measure are ranked.

    The training temperature for g, 1 for Hg, and 200 for GraSP with its own temperature.

    References:
        Lubana and Dick, ICLR 2021, published code.
    """
    needed = needed_columns(measure)
    if not any(column.startswith("theta_hg") for column in needed):
        return (train_temperature,)
    return (1.0, 200.0) if "theta_hg_t200" in needed else (1.0,)
