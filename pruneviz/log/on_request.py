"""Columns that a recording has on request, as commands pass them on to recorders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pruneviz.errors import LogError, unknown_name
from pruneviz.log import schema
from pruneviz.log.request_columns import request_columns

DELTA_LOSS = "delta_loss"
REQUESTABLE = (*request_columns("weight"), *schema.CHANGE_COLUMNS)


@dataclass(frozen=True)
class OnRequest:
    """What is measured besides the default columns; checked on construction.

    Attributes:
        columns: Further columns, among `REQUESTABLE`.
        oracle: Number of drawn filters for which `delta_loss` is measured; None for none, or, if
            `columns` names it, for all.
        request_at: Epochs at which these are measured; None for all measured ones.

    Raises:
        LogError: If a column is unknown, or there are epochs without filters.
    """

    columns: tuple[str, ...] = ()
    oracle: int | None = None
    request_at: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in self.columns:
            if name not in REQUESTABLE:
                hint = "all other columns are measured anyway"
                raise LogError(unknown_name("column on request", name, REQUESTABLE, hint))
        if self.request_at is not None and self.oracle is None and not self.columns:
            raise LogError(
                f"request_at={self.request_at!r} says when columns on request are measured, but "
                "there are none; add some, such as --oracle 200"
            )

    def of_unit(self, unit: str) -> dict[str, Any]:
        """Options of a `Recorder` whose rows are of a kind; single weights cannot be removed."""
        available = _available(unit)
        further = [name for name in self.columns if name in available]
        options: dict[str, Any] = {}
        if further:
            options["columns"] = tuple(dict.fromkeys((*_default(unit), *further)))
        if DELTA_LOSS in available and self.oracle is not None:
            options["oracle"] = self.oracle
        if options and self.request_at is not None:
            options["request_at"] = self.request_at
        return options

    def facts(self, unit: str) -> dict[str, Any]:
        """What a spec says of this request, to compare with a recorded run; empty for none."""
        options = self.of_unit(unit)
        if not options:
            return {}
        columns = dict.fromkeys(options.get("columns", _default(unit)))
        if "oracle" in options:
            columns[DELTA_LOSS] = None
        facts: dict[str, Any] = {"columns": tuple(columns)}
        if "oracle" in options:
            facts["oracle"] = options["oracle"]
        if "request_at" in options:
            facts["request_at"] = " ".join(map(str, sorted(options["request_at"])))
        return facts


def _default(unit: str) -> list[str]:
    requested = (*request_columns(unit), *schema.CHANGE_COLUMNS)
    return [name for name in _available(unit) if name not in requested]


def _available(unit: str) -> tuple[str, ...]:
    return (*schema.MEASURED_OF_UNIT[unit], *schema.CHANGE_COLUMNS)
