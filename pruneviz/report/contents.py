"""What the page holds of each run: facts and names as JSON, columns as compressed arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.analysis.masks import mask_scores
from pruneviz.analysis.matrix import recorded_measures
from pruneviz.analysis.noise import error_columns, quantile_behind, with_degrees
from pruneviz.analysis.run_facts import with_facts_needed
from pruneviz.errors import ReportError, ScoreError, unknown_name
from pruneviz.log.runs import Runs
from pruneviz.log.schema import EPOCHS, FILTER_KEYS
from pruneviz.plot.row_kind import RowKind, row_kind_of
from pruneviz.report.blocks import Block, block_of
from pruneviz.report.facts import facts_of
from pruneviz.report.labels import described
from pruneviz.report.rankings import ABSENT, column_alike, in_order, is_flat, ranks_of
from pruneviz.report.sentences import sentences_on
from pruneviz.report.shown_rows import ShownRows, shown_rows

NOT_QUANTITIES = (*FILTER_KEYS, "weight", "kept")
# Errors are shown to two digits.
_SUFFIXES_ROUNDED = ("_se", "_se_iid", "_se_given_g", "_se_given_g_iid")


@dataclass
class RunContents:
    """What a page holds of one run.

    Attributes:
        facts: Everything but the arrays, as JSON can hold it; an array is named by its place in
            `blocks`.
        blocks: The arrays.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    def hold(self, values: np.ndarray, *, rounded: bool = False) -> int:
        """Add an array; returns its place."""
        self.blocks.append(block_of(values, rounded=rounded))
        return len(self.blocks) - 1


def contents_of(
    runs: Runs,
    columns: Sequence[str] | None = None,
    told: Callable[[str], None] | None = None,
) -> list[RunContents]:
    """What a page holds of some runs.

    Args:
        runs: Recordings.
        columns: Columns of the filters that the page can show. Default: all that are recorded.
        told: Called with the name of every run before it is read; for progress.

    Raises:
        ReportError: If there are no runs, a column is not recorded, or a run cannot be shown.
        LogError: If a file is corrupt.
    """
    if not len(runs):
        raise ReportError("there are no runs to report; name a folder with recordings")
    recorded = [name for name in runs.recorded("filters") if name not in NOT_QUANTITIES]
    for name in columns or ():
        if name not in recorded:
            raise ReportError(unknown_name("recorded column", name, recorded))
    chosen = [name for name in recorded if columns is None or name in columns]
    found = []
    for name in map(str, runs.spec["run"]):
        if told is not None:
            told(name)
        found.append(run_contents(runs.named(name), chosen))
    return found


def run_contents(run: Runs, columns: Sequence[str] | None = None) -> RunContents:
    """What a page holds of one run.

    Args:
        run: The run.
        columns: Columns of the filters that the page can show. Default: all that are recorded.

    Raises:
        ReportError: If the run has no rows or columns, or more rows than a browser can draw.
        LogError: If a file is corrupt.
    """
    contents = RunContents()
    kind = row_kind_of(run.spec)
    recorded = [name for name in run.recorded("filters") if name not in NOT_QUANTITIES]
    own = [name for name in recorded if columns is None or name in columns]
    rows = shown_rows(run, own)
    name = str(run.spec["run"].iloc[0])
    if not own:
        raise ReportError(
            f"run {name} has no column that the page could show"
            + (f"; it has {', '.join(recorded)}" if recorded else ", only names of its rows")
        )
    contents.facts = {
        "name": name,
        "id": name,
        "finished": name not in run.unfinished,
        "noun": kind.noun,
        "sampled": kind.sampled,
        "facts": facts_of(run),
        "epochs": list(rows.epochs),
        "count": len(rows.names),
        **_names(rows, contents),
        "kept": contents.hold(_kept(rows)),
        "columns": [_column(each, run, rows, kind, own, contents) for each in own],
        "measures": _measures(run, rows, kind, own, contents),
        "sentences": sentences_on(run, rows, kind),
        "curves": _curves(run),
    }
    blocks = [{"kind": block.kind, "length": block.length} for block in contents.blocks]
    contents.facts["blocks"] = blocks
    return contents


def _names(rows: ShownRows, contents: RunContents) -> dict[str, Any]:
    """Layer, filter and weight of every position."""
    layers = list(dict.fromkeys(rows.names["layer"].astype("str")))
    places = {layer: place for place, layer in enumerate(layers)}
    layer_of = rows.names["layer"].astype("str").map(places).to_numpy(dtype="uint32")
    weight = contents.hold(_whole(rows.names["weight"])) if "weight" in rows.names else None
    return {
        "layers": layers,
        "layerOf": contents.hold(layer_of),
        "filter": contents.hold(_whole(rows.names["filter"])),
        "weight": weight,
    }


def _column(
    name: str, run: Runs, rows: ShownRows, kind: RowKind, own: Sequence[str], contents: RunContents
) -> dict[str, Any]:
    values = _numbers(name, rows)
    rounded = _is_rounded(name)
    errors = (*error_columns(name), *error_columns(name, given_g=True))
    error = next((held for held in errors if held in own), None)
    given_g = error in error_columns(name, given_g=True)
    block = contents.hold(rows.spread(values, np.nan), rounded=rounded)
    told = {"name": name, **described(name, kind), "block": block, "rounded": rounded}
    # Errors with g held fixed miss most of the spread, so they say of no value that it is noise.
    known = error is not None and not given_g
    quantile = quantile_behind(with_degrees(rows.table, run.spec), str(error)) if known else None
    return told | {
        "error": error,
        "given_g": given_g,
        "quantile": None if quantile is None else _known(quantile),
    }


def _measures(
    run: Runs, rows: ShownRows, kind: RowKind, held: Sequence[str], contents: RunContents
) -> list[dict[str, Any]]:
    """Ranks by every recorded measure, and its values; of one that is a column, just its name."""
    known = Runs(run.spec, run.epochs.iloc[:0], rows.table, run.rounds.iloc[:0])
    exact = [name for name in held if not _is_rounded(name)]
    columns = {name: rows.spread(_numbers(name, rows), np.nan) for name in exact}
    kept = _kept(rows)
    found = []
    for measure in recorded_measures(known):
        try:
            table = with_facts_needed(rows.table, run.spec, [measure])
            scores = mask_scores(table, measure).to_numpy(dtype="float64", na_value=np.nan)
        except ScoreError:
            continue  # one that these rows cannot have, such as one of single weights
        spread = rows.spread(scores, np.nan)
        ranks = ranks_of(spread)
        told: dict[str, Any] = {"name": measure, **described(measure, kind)}
        told["like"] = like = column_alike(spread, ranks, columns, kept)
        told["ranks"] = contents.hold(ranks) if like is None else None
        told["ordered"] = _held_in_order(spread, ranks, contents) if like is None else None
        told["absent"] = ABSENT[ranks.dtype]
        told["flat"] = [step for step, own in enumerate(spread) if is_flat(own)]
        found.append(told)
    return found


def _held_in_order(scores: np.ndarray, ranks: np.ndarray, contents: RunContents) -> int:
    ordered = in_order(scores, ranks)
    return contents.hold(ordered, rounded=ordered.dtype == np.float64)


def _is_rounded(name: str) -> bool:
    return name.endswith(_SUFFIXES_ROUNDED)


def _numbers(name: str, rows: ShownRows) -> np.ndarray:
    """Values of a column in the precision of the recording.

    Raises:
        ReportError: If they are no numbers.
    """
    values = rows.table[name]
    if not pd.api.types.is_numeric_dtype(values):
        raise ReportError(f"column {name} holds no numbers; leave it out of columns")
    numbers = values.to_numpy(dtype="float64", na_value=np.nan)
    return numbers if values.dtype == np.float64 else numbers.astype(np.float32)


def _kept(rows: ShownRows) -> np.ndarray:
    """1 kept, 0 pruned, 2 without a row [epoch, position]; a null counts as kept."""
    if "kept" not in rows.table:
        return rows.spread(np.ones(len(rows.table), "uint8"), 2)
    gone = rows.table["kept"].eq(False).fillna(False).to_numpy(dtype=bool)
    return rows.spread((~gone).astype("uint8"), 2)


def _whole(values: pd.Series) -> np.ndarray:
    return values.fillna(0).to_numpy(dtype="uint32")


def _curves(run: Runs) -> dict[str, Any]:
    """The epochs table, column by column, numbers alone."""
    table = run.epochs.sort_values("epoch", ignore_index=True)
    found = {}
    for name in map(str, table.columns):
        values = table[name]
        if name == "run" or not pd.api.types.is_numeric_dtype(values) or values.isna().all():
            continue
        described_as = EPOCHS.get(name)
        found[name] = {
            "unit": described_as.unit if described_as else "",
            "meaning": described_as.meaning if described_as else "a fact of one's own",
            "values": [_known(value) for value in values.astype("float64")],
        }
    return found


def _known(value: float) -> float | None:
    """A number for JSON, which has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None
