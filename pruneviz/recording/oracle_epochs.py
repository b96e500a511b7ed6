"""What a recorder measures at an epoch: derivatives, the removal of filters, both or nothing."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, TypeAlias

from pruneviz.errors import LogError
from pruneviz.measuring.options import Options
from pruneviz.recording.measured_epochs import Every, in_spec, measured_at

OracleAt: TypeAlias = Every | Collection[int] | None

_COLUMN = "delta_loss"


def options_at(
    options: Options, every: Every, oracle_at: OracleAt
) -> Callable[[int], Options | None]:
    """The measuring options of each epoch; None where nothing is measured.

    Args:
        options: Measuring options of the recorder.
        every: Epochs at which all columns are measured.
        oracle_at: Epochs at which `delta_loss` is measured, among these or not: a list, a number of
            epochs between two, or a function epoch -> bool. Default: wherever `every` measures.

    Raises:
        LogError: If one of them is invalid, or `oracle_at` is given without `delta_loss`.
    """
    is_measured = measured_at(every)
    if _COLUMN not in options.wanted():
        if oracle_at is not None:
            raise LogError(
                f"oracle_at={oracle_at!r} says when filters are removed, but delta_loss is not "
                "measured; add oracle=200, the number of filters, or leave it out"
            )
        return lambda epoch: options if is_measured(epoch) else None
    has_oracle = is_measured if oracle_at is None else _chosen(oracle_at)
    without = _without_oracle(options)
    alone = replace(options, columns=(_COLUMN,))

    def found(epoch: int) -> Options | None:
        if has_oracle(epoch):
            return options if is_measured(epoch) else alone
        return without if is_measured(epoch) else None

    return found


def options_of_last(options: Options, oracle_at: OracleAt) -> Options:
    """The options by which the last epoch is measured where `every` leaves it out.

    Args:
        options: Measuring options of the recorder.
        oracle_at: As for `options_at`; filters are removed at no other epochs than these.
    """
    return options if oracle_at is None else _without_oracle(options)


def oracle_facts(options: Options, oracle_at: OracleAt) -> dict[str, Any]:
    """Facts about draws, under their names in the spec; none if nothing is drawn."""
    facts: dict[str, Any] = {}
    if _COLUMN in options.wanted():
        facts["oracle"] = "all" if options.oracle is None else options.oracle
        if oracle_at is not None:
            facts["oracle_at"] = _text(oracle_at)
    if {*options.wanted()} & {_COLUMN, "fisher_block", "obd"}:
        facts |= {"draw_seed": options.seed, "probes": options.probes}
    return facts


def _without_oracle(options: Options) -> Options:
    others = tuple(name for name in options.wanted() if name != _COLUMN)
    return replace(options, columns=others, oracle=None)


def _chosen(oracle_at: Any) -> Callable[[int], bool]:
    if callable(oracle_at) or (isinstance(oracle_at, int) and oracle_at >= 1):
        return measured_at(oracle_at)
    epochs = set(oracle_at) if isinstance(oracle_at, Collection) else {None}
    if not all(isinstance(epoch, numbers.Integral) and int(epoch) >= 0 for epoch in epochs):
        raise LogError(
            f"oracle_at={oracle_at!r}; give epochs, whole numbers from 0, the number of epochs "
            "between two measurements, or a function epoch -> bool"
        )
    return epochs.__contains__


def _text(oracle_at: Any) -> str:
    if isinstance(oracle_at, Collection):
        return " ".join(str(int(epoch)) for epoch in sorted(oracle_at))
    return in_spec(oracle_at)
