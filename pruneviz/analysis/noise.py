"""Which values are clear of the noise of their sample, and which standard error says so.

A value is clear of noise if it is more than Student's 97.5 % quantile of standard errors away from
0. By noise alone 5 % of the values are. The quantile is 1.96 for thousands of examples and 2.78 for
five batches: an error from few terms is itself uncertain. So is one that is drawn from 8 half
samples: 1/df is then up to 1/8 more than that of all terms, and the quantile 2.31 for thousands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pruneviz.analysis.run_facts import check_not_left_out, terms_behind_errors
from pruneviz.errors import AnalysisError
from pruneviz.log.request_columns import DRAWS, drawn_columns
from pruneviz.log.runs import Runs
from pruneviz.log.schema import REQUEST_COLUMNS, filter_column
from pruneviz.log.thin_copies import left_out

# Facts of a run, and attributes of a measured table: degrees of freedom of theta_g_se and
# theta_hg_se_given_g, and of errors that are drawn from half samples.
DEGREES = "se_df"
DRAWN_DEGREES = "se_df_drawn"
CONFIDENCE = 0.95

# Columns of standard errors of each quantity, the best one first: that of the sample as drawn; then
# as if all examples were independent draws, which is too large where every class has a fixed number
# of them.
_ERRORS: Mapping[str, tuple[str, ...]] = {
    "theta_g": ("theta_g_se", "theta_g_se_iid"),
    "theta_hg": ("theta_hg_se",),
    "abs_theta_g": ("abs_theta_g_se",),
}
# Those with g held fixed, which miss most of the spread of theta_hg: only where they are asked for.
_GIVEN_G: Mapping[str, tuple[str, ...]] = {
    "theta_hg": ("theta_hg_se_given_g", "theta_hg_se_given_g_iid"),
}


@dataclass(frozen=True)
class ErrorColumn:
    """A column of standard errors.

    Attributes:
        name: Its name.
        meaning: What it is the error of, in words.
    """

    name: str
    meaning: str


def error_columns(quantity: str, *, given_g: bool = False) -> tuple[str, ...]:
    """Columns that can hold standard errors of a quantity, the best one first; none for others.

    Args:
        quantity: A column, such as "theta_g".
        given_g: Those with g held fixed instead.
    """
    return (_GIVEN_G if given_g else _ERRORS).get(quantity, ())


def errors_of(table: pd.DataFrame, quantity: str, *, given_g: bool = False) -> list[ErrorColumn]:
    """The columns that `clear_of_noise` takes the errors of a quantity from.

    Args:
        table: A filters table.
        quantity: A column, such as "theta_g".
        given_g: Those with g held fixed instead.

    Returns:
        Several if runs have other columns, best first; none where no error is recorded.
    """
    left = pd.Series(True, index=table.index)
    if quantity in table:
        left &= table[quantity].notna()
    found = []
    for name in error_columns(quantity, given_g=given_g):
        if name in table and bool((left & table[name].notna()).any()):
            found.append(ErrorColumn(name, filter_column(name).meaning))
            left &= table[name].isna()
    return found


def errors_lost(
    table: pd.DataFrame, spec: pd.DataFrame, quantity: str, *, given_g: bool = False
) -> list[str]:
    """Thin copies that left out the errors of a quantity which their full runs are judged by.

    Args:
        table: Filters table with a column `run`.
        spec: One row per run.
        quantity: A column, such as "theta_g".
        given_g: Those with g held fixed instead.
    """
    names = error_columns(quantity, given_g=given_g)
    found = []
    for name, runs in left_out(spec, names).items():
        better = [other for other in names[: names.index(name)] if other in table]
        for run in runs:
            known = table.loc[table["run"].astype(str) == run, better].notna()
            if not better or not known.all(axis="columns").all():
                found.append(run)
    return list(dict.fromkeys(found))


def degrees_of_freedom(spec: pd.DataFrame) -> pd.Series:
    """Degrees of freedom of the standard errors of each run.

    Args:
        spec: One row per run. Runs of schema 1 and 2 do not store them; theirs are the number of
            examples, or of batches that cannot be split, minus 1.

    Returns:
        Float64, by run name; NaN where they are not known.
    """
    by_run = spec.set_index("run")
    stored = pd.to_numeric(by_run.get(DEGREES, pd.Series(np.nan, index=by_run.index)))
    return stored.astype("float64").fillna(terms_behind_errors(by_run) - 1).rename(DEGREES)


def stated_degrees(terms: int, columns: Sequence[str], unit: str) -> dict[str, float]:
    """The degrees of freedom of the standard errors of a measurement, by the names of its facts.

    Args:
        terms: Degrees of freedom of all terms: examples, or batches that cannot be split, minus
            strata.
        columns: The columns that are measured.
        unit: Row kind.
    """
    drawn = drawn_columns(columns, unit)
    found: dict[str, float] = {DEGREES: terms}
    if "theta_g_se" in drawn:
        found[DEGREES] = _of_half_samples(terms)
    return found | ({DRAWN_DEGREES: _of_half_samples(terms)} if drawn else {})


def _of_half_samples(terms: Any) -> Any:
    """Degrees of freedom of an error from half samples.

    Squares of halves of normal terms vary by (terms - 1) / (terms + 2) of what squares of normal
    numbers do: two batches can be halved in one way only.
    """
    return terms / (1 + terms * (terms - 1) / (terms + 2) / DRAWS)


def with_degrees(table: pd.DataFrame, spec: pd.DataFrame) -> pd.DataFrame:
    """A filters table of runs with the degrees of freedom of their errors as columns.

    They are `se_df`, and `se_df_drawn` where errors are drawn.

    Args:
        table: Filters table with a column `run`.
        spec: One row per run.
    """
    if DEGREES in table:
        return table
    runs = table["run"].astype("str")
    facts = {DEGREES: degrees_of_freedom(spec)}
    if DRAWN_DEGREES in spec:
        facts[DRAWN_DEGREES] = pd.to_numeric(spec.set_index("run")[DRAWN_DEGREES])
    found = {name: runs.map(by_run).astype("float64") for name, by_run in facts.items()}
    return table.assign(**found)


def noise_quantile(df: float | pd.Series) -> np.ndarray:
    """Number of standard errors beyond which a value is clear of noise; NaN where df is not known.

    Args:
        df: Degrees of freedom of the standard errors.
    """
    degrees = np.asarray(df, dtype="float64")
    known = degrees >= 1
    found = stdtrit(np.where(known, np.minimum(degrees, 1e9), np.nan), (1 + CONFIDENCE) / 2)
    return np.asarray(found, dtype="float64")


def quantile_behind(table: pd.DataFrame, error: str) -> float:
    """Number of a column's standard errors that are noise, in the rows of one run.

    Args:
        table: Filters table with the degrees of freedom, as `with_degrees` gives it.
        error: Column of standard errors.

    Returns:
        The quantile of `noise_quantile`; NaN where the degrees of freedom are not known.
    """
    if not len(table):
        return float("nan")
    return float(np.median(noise_quantile(_degrees_of(table, error, None))))


def clear_of_noise(
    source: pd.DataFrame | Runs,
    column: str,
    df: float | pd.Series | None = None,
    *,
    given_g: bool = False,
) -> pd.Series:
    """Whether values are clear of the noise of their sample.

    Args:
        source: A filters table, or runs.
        column: The quantity, such as "theta_g".
        df: Degrees of freedom of its standard errors, one number or one per row, taken as they are.
            Default: the columns `se_df` and `se_df_drawn`, what `pruneviz.measure` left in `attrs`,
            or the facts of the runs.
        given_g: Use the errors of `theta_hg` with g held fixed, which miss most of its spread. The
            result is then named "theta_hg_clear (g held fixed)".

    Returns:
        Nullable booleans with the index of the filters table: whether abs(value) is more than
        Student's quantile of standard errors; null where the value, its error (for `theta_hg`,
        measured with errors="full") or df is not known.

    Raises:
        AnalysisError: If there are no standard errors of such a quantity, or df is nowhere; if a
            thin copy left out the quantity or its errors.

    Example:
        >>> table = pv.measure(model, (images, labels))
        >>> pv.clear_of_noise(table, "theta_g").mean()
    """
    table = with_degrees(source.filters, source.spec) if isinstance(source, Runs) else source
    if isinstance(source, Runs):
        check_not_left_out(source, [column])
        if errors_lost(table, source.spec, column, given_g=given_g):
            check_not_left_out(source, error_columns(column, given_g=given_g))
    bound = _bounds(table, column, df, given_g)
    value = table[column].astype("float64").abs()
    clear = (value > bound).astype("boolean")
    return clear.mask(value.isna() | bound.isna()).rename(
        f"{clear_name(column)} (g held fixed)" if given_g else clear_name(column)
    )


def clear_name(quantity: str) -> str:
    """Column of a table that says whether values of a quantity are clear of noise."""
    return f"{quantity}_clear"


def _bounds(
    table: pd.DataFrame, column: str, df: float | pd.Series | None, given_g: bool
) -> pd.Series:
    """The best standard error that each row has, times its quantile."""
    known = error_columns(column, given_g=given_g)
    if not known:
        there, how = (_GIVEN_G, " with g held fixed") if given_g else (_ERRORS, "")
        raise AnalysisError(
            f"no column holds standard errors of {column}{how}; there are those of "
            f"{', '.join(there)}"
        )
    error, bound = (pd.Series(np.nan, index=table.index) for _ in range(2))
    for name in known:
        if name not in table:
            continue
        own = table[name].astype("float64").where(error.isna())
        bound = bound.fillna(own * noise_quantile(_degrees_of(table, name, df)))
        error = error.fillna(own)
    return bound


def _degrees(table: pd.DataFrame, df: float | pd.Series | None) -> float | pd.Series:
    found = table.get(DEGREES, table.attrs.get(DEGREES)) if df is None else df
    if found is None:
        raise AnalysisError(
            "the table does not say how many degrees of freedom its standard errors have; pass the "
            "runs themselves instead of runs.filters, or df=, such as the number of examples minus "
            "that of classes"
        )
    return found


def _degrees_of(table: pd.DataFrame, error: str, df: float | pd.Series | None) -> Any:
    """Degrees of freedom of a column of errors."""
    if df is not None or error not in REQUEST_COLUMNS:
        return _degrees(table, df)
    stored = table.get(DRAWN_DEGREES, table.attrs.get(DRAWN_DEGREES))
    return _of_half_samples(_degrees(table, df)) if stored is None else stored
