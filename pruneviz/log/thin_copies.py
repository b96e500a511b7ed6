"""What thin copies of runs hold and lack: epochs of the filters table, and columns of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pruneviz.log import schema

THINNED = "thinned"  # fact in the spec of a thin copy
# Columns of every recorded epoch; all others need derivatives, so only measured epochs have them.
CHEAP = frozenset(
    {*schema.FILTER_KEYS, "weight", "kept", "theta", "theta_delta", "sigma_delta"}
    | {*schema.CHEAP_COLUMNS, *schema.CHANGE_COLUMNS}
)


@dataclass(frozen=True)
class ThinCopy:
    """What one thin copy holds of the filters of its full run.

    Attributes:
        run: Its name.
        recorded: Epochs of the full run, ascending.
        measured: Epochs at which the full run may have derivatives.
        held: Epochs whose filters the copy holds.
        pruned: Recorded epochs at which something is pruned, or may be.
        columns_left_out: Columns that it lacks.
    """

    run: str
    recorded: tuple[int, ...]
    measured: tuple[int, ...]
    held: tuple[int, ...]
    pruned: tuple[int, ...]
    columns_left_out: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """Which epochs it holds, as the end of a sentence on the run."""
        return (
            f"is a thin copy with the filters of {len(self.held)} of {len(self.recorded)} epochs "
            f"({', '.join(map(str, self.held)) or 'none'})"
        )


def lacks_epochs(spec: pd.DataFrame) -> bool:
    """Whether some runs are thin copies without the filters of some epochs.

    Args:
        spec: One row per run.
    """
    facts: Any = thin_rows(spec).get(THINNED, [])
    return any(own["epochs"] < own["of_epochs"] for own in facts)


def thin_copy(facts: Mapping[Any, Any], epochs: pd.DataFrame, held: Sequence[int]) -> ThinCopy:
    """What a thin copy holds.

    Args:
        facts: The facts in its spec.
        epochs: Its epochs table: epoch and kept_fraction.
        held: Epochs of its filters table.
    """
    recorded = sorted(map(int, epochs["epoch"].unique()))
    says = bool(facts.get("pruned")) or (facts.get("rounds") or 0) > 0
    kept = epochs["kept_fraction"].astype("float64").fillna(0.0 if says else 1.0)
    gone = epochs.loc[kept < 1, "epoch"]
    mine = sorted(set(map(int, held)))
    found = measured_epochs(facts, recorded, mine)
    return ThinCopy(
        run=str(facts["run"]),
        recorded=tuple(recorded),
        measured=tuple(found),
        held=tuple(mine),
        pruned=tuple(map(int, gone)),
        columns_left_out=tuple(facts[THINNED].get("columns_left_out", ())),
    )


def measured_epochs(
    facts: Mapping[Any, Any], recorded: Sequence[int], held: Sequence[int]
) -> list[int]:
    """Epochs at which the full run of a thin copy may have derivatives, ascending.

    Copies of earlier versions do not name them. They follow from the interval `every`; where that
    is none, any recorded epoch may be one.

    Args:
        facts: The facts in its spec.
        recorded: Epochs of the run.
        held: Epochs of its filters table.
    """
    named = facts[THINNED].get("measured_epochs")
    if named is not None:
        return sorted(map(int, named))
    every = str(facts.get("every"))
    if not every.isdecimal() or int(every) < 1:
        return sorted(recorded)
    return sorted({epoch for epoch in recorded if epoch % int(every) == 0} | set(held))


def left_out(spec: pd.DataFrame, columns: Sequence[str]) -> dict[str, list[str]]:
    """Columns that thin copies left out, each with the copies that did.

    Args:
        spec: One row per run.
        columns: The columns in question, in this order.
    """
    rows = thin_rows(spec)
    found = {
        name: [
            str(run)
            for run, facts in zip(rows["run"], rows.get(THINNED, []), strict=True)
            if name in facts.get("columns_left_out", ())
        ]
        for name in columns
    }
    return {name: runs for name, runs in found.items() if runs}


def why_left_out(spec: pd.DataFrame, columns: Sequence[str]) -> str:
    """A sentence without a full stop on columns that thin copies left out; "" if there are none.

    Args:
        spec: One row per run.
        columns: The columns in question.
    """
    found = left_out(spec, columns)
    if not found:
        return ""
    runs = list(dict.fromkeys(run for names in found.values() for run in names))
    who = f"the thin copy {runs[0]}" if len(runs) == 1 else f"{len(runs)} thin copies"
    return f"{who} left out {', '.join(found)}"


def thin_rows(spec: pd.DataFrame) -> pd.DataFrame:
    """The rows of a spec that are of thin copies.

    Args:
        spec: One row per run.
    """
    return spec[spec[THINNED].notna()] if THINNED in spec else spec.iloc[:0]
