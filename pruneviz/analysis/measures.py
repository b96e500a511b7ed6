"""Pruning measures by name or as callables, and measures of your own.

Wherever pruneviz takes the name of a pruning measure, it also takes the name of a registered one, a
callable of a filters table, or the text "module:function". `resolve` turns each of these into a
`Measure`. As `pruneviz.measures` this module is public.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from pruneviz.analysis.checks import columns_of
from pruneviz.analysis.formulas import NEEDS, RANDOM_WITH_SEED, SCORES, random
from pruneviz.errors import ScoreError, unknown_name
from pruneviz.log.arguments import as_tuple
from pruneviz.log.own_functions import imported
from pruneviz.log.run_spec import SPEC_FACTS
from pruneviz.log.schema import FILTERS, is_filter_column

# Facts of runs that are no columns of filters.
RUN_FACTS = frozenset(SPEC_FACTS) - set(FILTERS) - {"epochs"}

Formula: TypeAlias = Callable[[pd.DataFrame], Any]
Given = TypeVar("Given", bound=Formula)


@dataclasses.dataclass(frozen=True)
class Measure:
    """One pruning measure.

    Attributes:
        name: Name in tables and legends.
        formula: Importance of every row of a filters table.
        needs: Columns and facts of runs that the formula reads; None if it does not say, so it gets
            whole tables.
        optional: Columns that it reads if the table has them.
        own: Whether it is not one of pruneviz's.
    """

    name: str
    formula: Formula
    needs: tuple[str, ...] | None
    optional: tuple[str, ...] = ()
    own: bool = True

    @property
    def reads(self) -> tuple[str, ...]:
        """Required and optional columns; none if the formula does not say what it reads."""
        return (*(self.needs or ()), *self.optional)

    @property
    def columns(self) -> tuple[str, ...]:
        """Required columns of a filters log; none if the formula does not say what it reads."""
        return tuple(name for name in self.needs or () if name not in RUN_FACTS)

    @property
    def facts(self) -> tuple[str, ...]:
        """Required facts of the runs, such as `sample_size`."""
        return tuple(name for name in self.needs or () if name in RUN_FACTS)

    def of(self, filters: pd.DataFrame) -> pd.Series:
        """Score a table that has the needed columns.

        A formula that is not one of pruneviz's gets the rows of one run and epoch at a time.

        Returns:
            Float64 Series with the index of the table, named after the measure.

        Raises:
            ScoreError: If the formula reads a column that it does not name, or does not return one
                number per row.
        """
        if not self.own:
            return self.formula(filters).rename(self.name)
        if not len(filters):  # a formula need not be defined for no rows
            return pd.Series(index=filters.index, dtype="float64", name=self.name)
        table = self._input(filters)
        scores = np.full(len(filters), np.nan)
        for rows in _snapshots(filters):
            scores[rows] = self._of_snapshot(table.iloc[rows], filters)
        return pd.Series(scores, index=filters.index, name=self.name)

    def _of_snapshot(self, table: pd.DataFrame, filters: pd.DataFrame) -> np.ndarray:
        known, index = columns_of(table), table.index
        try:
            found = self.formula(table)
        except (KeyError, AttributeError) as error:
            column = _column_read(error)
            if column is None or column in known:
                raise
            raise ScoreError(self._not_there(column, known, filters)) from error
        return _checked(found, index, self.name)

    def _input(self, filters: pd.DataFrame) -> pd.DataFrame:
        """A table that the formula may change; needed numbers in float64."""
        if self.needs is None:
            return filters.copy()
        chosen = filters[list(self.needs)]
        # In the log's float32, a product of two small columns would underflow to 0.
        floats = [name for name in chosen if pd.api.types.is_float_dtype(chosen[name])]
        return chosen.astype(dict.fromkeys(floats, "float64"))

    def _not_there(self, column: str, known: list[str], filters: pd.DataFrame) -> str:
        if self.needs is not None:
            there = "" if column in filters.columns else ", and the table has no such column"
            return (
                f"measure {self.name} reads {column}, which its needs [{', '.join(known)}] do not "
                f"name{there}; name every column that it reads in needs"
            )
        return (
            f"measure {self.name} reads {column}, and the table has no such column; it has "
            f"[{', '.join(known)}]"
        )


AnyMeasure: TypeAlias = str | Formula | Measure


class _Registry(dict[str, Measure]):
    """Registered measures by name."""


_registered = _Registry()


def register(
    name: str, needs: str | Sequence[str] | None = None, *, replace: bool = False
) -> Callable[[Given], Given]:
    """Register a pruning measure of your own under a name, for this process.

    The name can then be used wherever pruneviz takes a pruning measure: in `pruneviz.score`, masks,
    correlations, plots, `Pruner.prune` and `Recorder(mask_score=...)`.

    The measure is a function of a filters table that returns one number per row: a Series with the
    index of the table, or an array in its order. Rows with the lowest numbers are pruned first; a
    row without a number (NaN) is not ranked. The function is called with one network at one epoch
    at a time, and its table has exactly the columns in `needs`, floating ones as float64.

    Args:
        name: Name of the measure.
        needs: Columns that the function reads.
        replace: Whether to replace a registered measure of this name. Built-in measures cannot be
            replaced.

    Returns:
        A decorator that registers a function and returns it unchanged.

    Raises:
        ScoreError: If `needs` is missing, or the name exists, as a measure or a column.

    Example:
        >>> @pv.measures.register("noise", needs=["theta_g", "theta_g_se"])
        ... def noise(filters):
        ...     return filters["theta_g"].abs() / filters["theta_g_se"]
        >>> pv.score(runs.filters, "noise")
    """
    columns = _checked_needs(name, needs)
    _check_name(name, replace)

    def decorate(function: Given) -> Given:
        if not callable(function):
            raise ScoreError(
                f"measure {name!r} is {function!r}; give a function of a filters table"
            )
        _check_name(name, replace)  # registered in between
        _registered[name] = Measure(name, function, columns)
        return function

    return decorate


def unregister(name: str) -> None:
    """Remove a registered measure.

    Args:
        name: Name of the measure.

    Raises:
        ScoreError: If it is built in, or not registered.
    """
    if name in SCORES:
        raise ScoreError(f"{name} is a measure of pruneviz, and cannot be removed")
    if name not in _registered:
        raise ScoreError(f"no measure {name!r} is registered; there are [{', '.join(_registered)}]")
    del _registered[name]


def names() -> list[str]:
    """Names of all pruning measures, the registered ones last."""
    return [*SCORES, *_registered]


def resolve(measure: AnyMeasure) -> Measure:
    """The measure that a name, a callable or the text "module:function" stands for.

    A callable says what it reads by an attribute `needs`, a sequence of column names. Without one
    it gets tables as they are, and cannot be used where columns are chosen before they are read:
    for a `Scan`, `Recorder(mask_score=...)` and `pruneviz record --measure`. A registered function
    keeps its registered name. Modules are also looked for in the working directory.

    Args:
        measure: Name, callable of a filters table, or "module:function".

    Raises:
        ScoreError: If there is no such measure.

    Example:
        >>> pv.measures.resolve("magnitude").needs
        ('theta_norm2',)
    """
    if isinstance(measure, Measure):
        return measure
    if callable(measure):
        return _of_callable(measure)
    if not isinstance(measure, str):
        raise ScoreError(
            "a pruning measure is a name, such as 'magnitude', or a function of a filters table, "
            f"not {type(measure).__name__}"
        )
    if measure in SCORES:
        return _built_in(measure)
    if measure in _registered:
        return _registered[measure]
    seed = RANDOM_WITH_SEED.fullmatch(measure)
    if seed:
        if int(seed[1]) >= 2**64:
            raise ScoreError(f"measure {measure}: give a seed from 0 to 2**64 - 1")
        of_seed = partial(random, seed=int(seed[1]))
        return Measure(measure, of_seed, NEEDS["random"], _OPTIONAL["random"], own=False)
    if ":" in measure:
        return _imported(measure)
    hint = "or register one with pruneviz.measures.register, or pass a function"
    raise ScoreError(unknown_name("pruning measure", measure, names(), hint))


def is_measure(name: object) -> bool:
    """Whether a name, text or callable stands for a measure; nothing is imported."""
    if not isinstance(name, str):
        return callable(name)
    known = name in SCORES or name in _registered or ":" in name
    return known or RANDOM_WITH_SEED.fullmatch(name) is not None


def quantity(what: AnyMeasure, columns: Sequence[str]) -> Measure:
    """A column or pruning measure as one; a column wins over a measure of the same name.

    Args:
        what: Column, or anything that `resolve` takes.
        columns: Columns of the table.

    Raises:
        ScoreError: If it is a measure that does not exist.
        KeyError: If it is neither.
    """
    if isinstance(what, str) and what in columns:
        return Measure(what, lambda filters: filters[what], (what,), own=False)
    if not is_measure(what) and not isinstance(what, Measure):
        raise KeyError(what)
    return resolve(what)


# Columns that a measure reads if the table has them.
_OPTIONAL = {"random": ("run", "epoch", "weight"), "lamp": ("run", "epoch")}


def _built_in(name: str) -> Measure:
    return Measure(name, SCORES[name], NEEDS[name], _OPTIONAL.get(name, ()), own=False)


def _of_callable(function: Formula) -> Measure:
    for name, known in SCORES.items():
        if known is function:
            return _built_in(name)
    for measure in _registered.values():
        if measure.formula == function:  # a method is a new object at every access
            return measure
    name = str(getattr(function, "__name__", type(function).__name__))
    _check_free(name)
    needs = getattr(function, "needs", None)
    return Measure(name, function, None if needs is None else _checked_needs(name, needs))


def _imported(text: str) -> Measure:
    function = imported(text, "measure", ScoreError)
    return dataclasses.replace(_of_callable(function), name=text)


def _column_read(error: KeyError | AttributeError) -> str | None:
    """The column of a table that was read and is not there; None for any other error."""
    if isinstance(error, AttributeError):
        return error.name if isinstance(error.obj, pd.DataFrame) else None
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    by_pandas = frame is not None and frame.tb_frame.f_globals["__name__"].startswith("pandas.")
    return str(error.args[0]) if by_pandas else None


def _checked_needs(name: str, needs: str | Sequence[str] | None) -> tuple[str, ...]:
    columns = as_tuple(needs)
    if not columns or not all(isinstance(column, str) and column for column in columns):
        raise ScoreError(
            f"measure {name!r} has needs={needs!r}; name the columns that it reads, such as "
            "needs=['theta_g']"
        )
    return tuple(dict.fromkeys(columns))


def _check_name(name: str, replace: bool) -> None:
    if not isinstance(name, str) or not name.strip() or ":" in name:
        raise ScoreError(f"name={name!r}; give the measure a name without ':', such as 'mine'")
    _check_free(name)
    if name in _registered and not replace:
        raise ScoreError(
            f"a measure {name!r} is registered already; give this one another name, or pass "
            "replace=True"
        )


def _check_free(name: str) -> None:
    if name in SCORES or RANDOM_WITH_SEED.fullmatch(name):
        raise ScoreError(f"{name} is a measure of pruneviz; give yours another name")
    if is_filter_column(name):
        raise ScoreError(f"{name} is a column of filters tables; give the measure another name")


def _snapshots(filters: pd.DataFrame) -> Iterable[np.ndarray | slice]:
    """Positions of the rows of each run and epoch."""
    keys = [filters[key] for key in ("run", "epoch") if key in filters.columns]
    if not keys:
        return [slice(None)]
    groups = filters.groupby(keys, observed=True, dropna=False, sort=False).indices
    return [np.asarray(rows) for rows in groups.values()]


def _checked(found: object, index: pd.Index, name: str) -> np.ndarray:
    """The result of a formula as one number per row, float64.

    Raises:
        ScoreError: If it is something else.
    """
    rows = len(index)
    if not isinstance(found, pd.Series | np.ndarray | list | tuple):
        what = f"{type(found).__name__}"
        raise ScoreError(_wrong(name, f"returned {what}", rows))
    try:
        shape = np.shape(found)
    except ValueError as error:  # lists of several lengths
        raise ScoreError(_wrong(name, "returned lists of several lengths", rows)) from error
    if shape != (rows,):
        raise ScoreError(_wrong(name, f"returned values of shape {shape}", rows))
    if isinstance(found, pd.Series) and not found.index.equals(index):
        raise ScoreError(
            _wrong(name, "returned a Series with another index or order than the table", rows)
        )
    values = pd.Series(found, index=index)
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_complex_dtype(values)
    if not numeric or pd.api.types.is_bool_dtype(values):
        raise ScoreError(_wrong(name, f"returned values of dtype {values.dtype}", rows))
    return values.to_numpy(dtype="float64", na_value=np.nan)


def _wrong(name: str, what: str, rows: int) -> str:
    return (
        f"measure {name} {what}, but a measure returns one number for each of the {rows} rows of "
        "its table: a Series with the index of the table, or an array in its order"
    )
