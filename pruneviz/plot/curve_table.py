"""The numbers of curves over epochs: columns of the epochs table, averaged over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from pruneviz.analysis.settings import training_facts
from pruneviz.errors import FigureError, unknown_name
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import is_accuracy
from pruneviz.plot.groups import facts_apart, with_groups
from pruneviz.plot.looks import keys_of
from pruneviz.plot.source import only_epochs
from pruneviz.plot.words import listed

MOST_SINGLE = 3  # runs of a setting that are drawn each by itself
_ALWAYS = ("network", "dataset")  # facts that a table names even if runs do not differ in them
_TESTED = ("test_", "val_", "valid_", "validation_", "eval_", "dev_")
_KEYS = ("run", "epoch")
_COLUMNS = ("line", "epoch", "seeds", "kept_fraction", "pruned")  # beside those that are shown


def curves(
    runs: Runs,
    spec: pd.DataFrame,
    y: str | Sequence[str] | None = None,
    by: str | Sequence[str] | None = None,
    epochs: int | Iterable[int] | None = None,
) -> pd.DataFrame:
    """Columns of the epochs table, averaged over the runs of every setting.

    Args:
        runs: Recordings.
        spec: Facts about the runs to show, in the order of panels and legend where that does not
            follow from the facts.
        y: As for `pruneviz.plot.accuracy`.
        by: As for `pruneviz.plot.accuracy`.
        epochs: As for `pruneviz.plot.accuracy`.

    Returns:
        The table of `pruneviz.plot.accuracy.table`.

    Raises:
        FigureError: If a column, fact or epoch is not there; names what is.
    """
    rows = runs.named(spec["run"]).epochs.astype({"run": "str"})
    columns = _chosen(rows, spec, y)
    rows = rows[rows["epoch"].isin(only_epochs(_with_values(rows, columns), epochs))]
    taken = [*_COLUMNS, *columns, *(str(name) for name in spec if str(name).endswith("_sd"))]
    spec, facts = told_apart(facts_apart(spec, taken, by), by)
    line = numbers_of(spec, facts)
    means = _means(rows.assign(line=rows["run"].map(line)), columns)
    settings = spec.assign(line=spec["run"].map(line)).drop_duplicates("line")
    found = settings[["line", *facts]].merge(means, on="line").sort_values(["line", "epoch"])
    return _with_rounds(found, runs, line).drop(columns="line").reset_index(drop=True)


def epoch_columns(table: pd.DataFrame) -> list[str]:
    """The columns that a table of `curves` shows, the main one first."""
    return [str(name) for name in table.columns[::-1] if f"{name}_sd" in table]


def one_per_training(spec: pd.DataFrame) -> pd.DataFrame:
    """The runs without those of single weights whose training another run holds as well."""
    weights = spec["unit"].eq("weight").to_numpy(dtype=bool)
    keys = keys_of(spec, training_facts(spec))
    others = {key for key, is_weight in zip(keys, weights, strict=True) if not is_weight}
    twice = [key in others and flag for key, flag in zip(keys, weights, strict=True)]
    return spec[~np.array(twice, dtype=bool)]


def told_apart(
    spec: pd.DataFrame, by: str | Sequence[str] | None, always: Sequence[str] = _ALWAYS
) -> tuple[pd.DataFrame, list[str]]:
    """Runs in the order of their settings, and the facts that tell settings apart.

    These are those of `with_groups`. Those in `always` are named even if runs do not differ in
    them, unless `by` asks otherwise.
    """
    if by is not None:
        return with_groups(spec, by)
    ordered, facts = with_groups(spec)
    first = [name for name in always if name in spec]
    return ordered, [*first, *(name for name in facts if name not in first)]


def numbers_of(spec: pd.DataFrame, facts: Sequence[str]) -> dict[str, int]:
    """The number of every run's setting, in order, by run."""
    keys = keys_of(spec, facts)
    order = list(dict.fromkeys(keys))
    return {str(run): order.index(key) for run, key in zip(spec["run"], keys, strict=True)}


def _chosen(rows: pd.DataFrame, spec: pd.DataFrame, y: str | Sequence[str] | None) -> list[str]:
    """The columns to show, the main one last.

    Raises:
        FigureError: If one is not there; names those that are.
    """
    held = _held(rows)
    names = _accuracies(rows, spec, held) if y is None else [y] if isinstance(y, str) else list(y)
    if not names:
        raise FigureError(f"y names no column; the epochs table holds {_listed(held)}")
    for name in names:
        _check(name, rows, held)
    main, *beside = dict.fromkeys(names)
    bare = _bare(main, rows, spec)
    if bare:
        what = "test accuracy" if main == "test_acc" else main
        raise FigureError(
            f"no {what} is recorded of {_listed(bare)}; pass {main} to after_epoch, leave these "
            f"runs out, or choose y from {_listed(held)}"
        )
    trained = _trained(main)
    if not isinstance(y, (list, tuple)) and trained in held:
        beside = [trained]
    return [*beside[::-1], main]


def _held(rows: pd.DataFrame) -> list[str]:
    """Columns with numbers."""
    names = [str(name) for name in rows.columns if name not in _KEYS]
    return [
        name
        for name in names
        if is_numeric_dtype(rows[name])
        and not is_bool_dtype(rows[name])
        and rows[name].notna().any()
    ]


def _accuracies(rows: pd.DataFrame, spec: pd.DataFrame, held: Sequence[str]) -> list[str]:
    """`test_acc`, or the first accuracy that all runs have; training comes last."""
    known = sorted(filter(is_accuracy, held), key=lambda name: name.startswith("train"))
    known = [name for name in ("test_acc",) if name in held] + known
    whole = [name for name in known if not _bare(name, rows, spec)]
    if not known:
        raise FigureError(
            f"no accuracy is recorded of {_listed(map(str, spec['run']))}; pass test_acc to "
            f"after_epoch, or choose y from {_listed(held)}"
        )
    return [*whole, *known][:1]


def _check(name: str, rows: pd.DataFrame, held: Sequence[str]) -> None:
    if name in held:
        return
    if name in rows and name not in _KEYS:
        what = "no numbers" if rows[name].notna().any() else "no value"
        raise FigureError(f"y is {name}, which holds {what}; numbers hold {_listed(held)}")
    raise FigureError(unknown_name("column of the epochs table", name, held))


def _bare(name: str, rows: pd.DataFrame, spec: pd.DataFrame) -> list[str]:
    """Runs without a value in a column."""
    held = set(rows.dropna(subset=[name])["run"])
    return [str(run) for run in spec["run"] if run not in held]


def _trained(name: str) -> str:
    """The name that the same fact has on training images."""
    tested = next((start for start in _TESTED if name.startswith(start)), None)
    return f"train_{name.removeprefix(tested)}" if tested else ""


def _with_values(rows: pd.DataFrame, columns: Sequence[str]) -> list[int]:
    """Epochs at which a column has a value, or all of the first one's line if it is absent."""
    return list(rows.loc[rows[list(columns)].notna().any(axis="columns"), "epoch"])


def _means(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    named = {"seeds": (columns[-1], "count")}  # runs with a value of the main column
    for name in columns:
        named |= {name: (name, "mean"), f"{name}_sd": (name, "std")}
    if "kept_fraction" in rows and "kept_fraction" not in columns:
        named["kept_fraction"] = ("kept_fraction", "mean")
    means = rows.groupby(["line", "epoch"]).agg(**named)
    return means.join(_single_runs(rows, columns)).reset_index()


def _single_runs(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Values of each run of a line of few runs: `_run1`, `_run2`, ... by line and epoch."""
    by_line = rows.groupby("line")["run"]
    few = rows[by_line.transform("nunique").between(2, MOST_SINGLE)]
    place = few.groupby("line")["run"].transform(lambda run: pd.factorize(run)[0] + 1)
    wide = few.assign(place=place).pivot_table(
        index=["line", "epoch"], columns="place", values=list(columns), dropna=False
    )
    names, places = (wide.columns.get_level_values(level) for level in (0, 1))
    wide.columns = pd.Index([f"{a}_run{b}" for a, b in zip(names, places, strict=True)])
    return wide


def single_runs(table: pd.DataFrame, name: str) -> list[str]:
    """Columns with the values of single runs of a column of a table of `curves`."""
    found = [f"{name}_run{number}" for number in range(1, MOST_SINGLE + 1)]
    return [column for column in found if column in table and table[column].notna().any()]


def _with_rounds(table: pd.DataFrame, runs: Runs, line: dict[str, int]) -> pd.DataFrame:
    """Add `pruned`: whether a round pruned after the epoch."""
    rounds = runs.named(line).rounds[["run", "epoch"]].drop_duplicates()
    pruned = set(zip(rounds["run"].astype("str").map(line), rounds["epoch"], strict=True))
    at = zip(table["line"], table["epoch"], strict=True)
    return table.assign(pruned=[place in pruned for place in at])


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    shown = found if len(found) <= 12 else [*found[:12], f"{len(found) - 12} more"]
    return listed(shown) if shown else "nothing"
