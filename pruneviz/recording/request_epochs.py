"""What a recorder measures at an epoch: derivatives, columns on request, both or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, TypeAlias

from pruneviz.errors import LogError
from pruneviz.log.request_columns import drawn_columns, request_columns
from pruneviz.measuring.options import Options
from pruneviz.recording.measured_epochs import (
    AtEpochs,
    Every,
    chosen_epochs,
    in_spec,
    measured_at,
)

RequestAt: TypeAlias = AtEpochs | None

_COLUMN = "delta_loss"


def options_at(
    options: Options, every: Every, request_at: RequestAt
) -> Callable[[int], Options | None]:
    """The measuring options of each epoch; None where nothing is measured.

    Args:
        options: Measuring options of the recorder.
        every: Epochs at which derivatives are measured.
        request_at: Epochs at which columns on request are measured, `delta_loss` among them; at
            epochs of `every` or at others. A list, a number of epochs between two, or a function
            epoch -> bool. Default: wherever `every` measures.

    Raises:
        LogError: If one of them is invalid, or `request_at` is given without such a column.
    """
    is_measured = measured_at(every)
    of_request = request_columns(options.row_kind)
    asked = tuple(name for name in options.wanted() if name in of_request)
    if not asked and request_at is not None:
        raise LogError(
            f"request_at={request_at!r} says when columns on request are measured, but there are "
            "none; add oracle=200, the number of filters to remove, columns, or errors='full'"
        )
    if request_at is None:
        return lambda epoch: options if is_measured(epoch) else None
    has_request = chosen_epochs(request_at, "request_at")
    without = _without_request(options)
    alone = replace(options, columns=asked, errors="default")

    def found(epoch: int) -> Options | None:
        if has_request(epoch):
            return options if is_measured(epoch) else alone
        return without if is_measured(epoch) and without.columns else None

    return found


def options_of_last(options: Options, request_at: RequestAt) -> Options:
    """The options by which the last epoch is measured where `every` leaves it out.

    Args:
        options: Measuring options of the recorder.
        request_at: As for `options_at`; columns on request are measured at no other epochs.
    """
    return options if request_at is None else _without_request(options)


def request_facts(options: Options, request_at: RequestAt) -> dict[str, Any]:
    """Facts about draws, under their names in the spec; none if nothing is drawn."""
    facts: dict[str, Any] = {}
    if _COLUMN in options.wanted():
        facts["oracle"] = "all" if options.oracle is None else options.oracle
    if {*options.wanted()} & {_COLUMN, "fisher_block", "obd"}:
        facts |= {"draw_seed": options.seed, "probes": options.probes}
    if drawn_columns(options.wanted(), options.row_kind):
        facts["draw_seed"] = options.seed
    if request_at is not None:
        facts["request_at"] = _text(request_at)
    return facts


def _without_request(options: Options) -> Options:
    of_request = request_columns(options.row_kind)
    others = tuple(name for name in options.wanted() if name not in of_request)
    return replace(options, columns=others, oracle=None, errors="default")


def _text(request_at: Any) -> str:
    if isinstance(request_at, Collection):
        return " ".join(str(int(epoch)) for epoch in sorted(request_at))
    return in_spec(request_at)
