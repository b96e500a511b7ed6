"""The rows of a table whose removal is measured: all, some by name, or a seeded draw."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pruneviz.errors import MeasureError, PruningError, unknown_name
from pruneviz.log.arguments import as_tuple, is_whole
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.options import Options
from pruneviz.measuring.removal_losses import Group, removal_losses
from pruneviz.measuring.rows import AnyLayer
from pruneviz.model.filters import FilterOf
from pruneviz.pruning.removals import Removals

_logger = logging.getLogger("pruneviz")

# all filters, a number to draw, or {layer: filters}
Filters = int | Mapping[str, int | Iterable[int]] | None


@dataclass(frozen=True)
class RemovedRows:
    """The loss without single rows.

    Attributes:
        losses: {(layer, position): loss without the row minus loss with it}, of the rows that can
            be removed.
        reasons: {layer: why rows of it cannot be removed}.
    """

    losses: Mapping[FilterOf, float]
    reasons: Mapping[str, str]


def removals_of(sample: Objective, options: Options) -> Removals:
    """Which rows can be removed.

    Raises:
        MeasureError: If the rows are single weights.
        PruningError: If nothing can be pruned.
    """
    if options.row_kind == "weight":
        raise MeasureError(
            "delta_loss is of filters or units, which can be taken out of a network, not of single "
            "weights; leave out unit='weight', or the column delta_loss"
        )
    return Removals(sample.model, sample.batches[0][0], options.unit, options.forward)


def chosen_rows(
    layers: Sequence[AnyLayer], removals: Removals, filters: Filters, seed: int
) -> list[FilterOf]:
    """The rows whose removal is measured: (layer, position in the layer as it is now), in order.

    Args:
        layers: Layers of the table.
        removals: The network's removals.
        filters, seed: As for `delta_loss`.

    Raises:
        MeasureError: If `filters` is no number from 1, or names what does not exist.
    """
    if isinstance(filters, Mapping):
        return _named_rows(layers, filters)
    if filters is None:
        return [(layer.name, p) for layer in layers for p in range(layer.filters)]
    sizes = {
        layer.name: layer.filters for layer in layers if not removals.reason_against(layer.name)
    }
    drawn = draw(sizes, filters, seed)
    return [(name, p) for name in sizes for p in drawn[name]]


def draw(sizes: Mapping[str, int], number: int, seed: int) -> dict[str, list[int]]:
    """Draw filters, about as many from every layer.

    Layers that are too small are taken whole, and the others share the rest. The filters of a layer
    are the first ones of an order that depends on the seed and the layer's name alone.

    Args:
        sizes: {layer: number of filters}.
        number: Filters to draw; all if there are not as many.
        seed: Seed of the draw.

    Returns:
        {layer: positions of the drawn filters, ascending}.

    Raises:
        MeasureError: If the number is not a whole one from 1.
    """
    if not is_whole(number) or number < 1:
        raise MeasureError(
            f"filters={number!r}; give the number of filters to draw, 1 or more, None for all, or "
            "{layer: filters}"
        )
    counts = _shares(sizes, int(number), seed)
    found = {}
    for name, size in sizes.items():
        order = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(size)
        found[name] = sorted(order[: counts[name]].tolist())
    return found


def row_losses(
    sample: Objective,
    removals: Removals,
    rows: Sequence[FilterOf],
    chunk: int,
    options: Options,
) -> RemovedRows:
    """Remove rows, each by itself; rows that are pruned already are left out."""
    groups: dict[FilterOf, Group] = {}
    reasons: dict[str, str] = {}
    for row in rows:
        try:
            going = removals.going_with(row)
        except PruningError as error:
            reasons.setdefault(row[0], str(error))
            continue
        if going:
            groups[row] = going
    known = list(dict.fromkeys(groups.values()))
    found = removal_losses(sample, removals, known, chunk, anew=options.bn == "calibrated")
    return RemovedRows({row: found[group] for row, group in groups.items()}, reasons)


def delta_loss_column(
    sample: Objective,
    layers: Sequence[AnyLayer],
    chunk: int,
    options: Options,
) -> NamedTensors:
    """The column `delta_loss`, {layer: one number per row}; NaN for rows that were not drawn."""
    removals = removals_of(sample, options)
    rows = chosen_rows(layers, removals, options.oracle, options.seed)
    began = time.monotonic()
    removed = row_losses(sample, removals, rows, chunk, options)
    took = time.monotonic() - began
    _logger.info(
        "delta_loss: %d of %d filters removed in %.1f s", len(removed.losses), len(rows), took
    )
    found = {
        layer.name: torch.full((layer.filters,), float("nan"), dtype=torch.float64)
        for layer in layers
    }
    for (name, p), value in removed.losses.items():
        found[name][p] = value
    return found


def _shares(sizes: Mapping[str, int], number: int, seed: int) -> dict[str, int]:
    """How many filters are drawn from each layer."""
    counts = dict.fromkeys(sizes, 0)
    left = min(number, sum(sizes.values()))
    while left:
        open_ = [name for name, size in sizes.items() if counts[name] < size]
        each = max(1, left // len(open_))
        if left < len(open_):  # too few for all: layers spread over the depth of the network
            at = np.linspace(0, len(open_), left, endpoint=False)
            offset = np.random.default_rng(seed).random() * len(open_) / left
            open_ = [open_[int(place + offset) % len(open_)] for place in at]
        for name in open_:
            more = min(each, sizes[name] - counts[name], left)
            counts[name] += more
            left -= more
    return counts


def _named_rows(
    layers: Sequence[AnyLayer], filters: Mapping[str, int | Iterable[int]]
) -> list[FilterOf]:
    places = {layer.name: {n: p for p, n in enumerate(layer.numbers)} for layer in layers}
    for name in filters:
        if name not in places:
            raise MeasureError(unknown_name("layer", name, list(places)))
    named = {name: dict.fromkeys(_numbers(name, own)) for name, own in filters.items()}
    for name, own in named.items():
        missing = [n for n in own if n not in places[name]]
        if missing:
            raise MeasureError(
                f"layer {name} has no filter {missing[0]}; its filters are 0 to "
                f"{max(places[name])}, as in the unpruned network"
            )
    if not any(named.values()):
        raise MeasureError(
            f"filters names no filter: {dict(filters)!r}; give some, or None for all"
        )
    return [
        (layer.name, places[layer.name][n]) for layer in layers for n in named.get(layer.name, ())
    ]


def _numbers(layer: str, given: int | Iterable[int]) -> list[int]:
    """The filters of a layer that were asked for.

    Raises:
        MeasureError: If they are no whole numbers.
    """
    found = as_tuple(given)
    for number in found:
        if not is_whole(number):
            raise MeasureError(
                f"filters={{{layer!r}: {number!r}}}; give whole numbers, such as "
                f"filters={{{layer!r}: [0, 1]}}"
            )
    return [int(number) for number in found]
