"""Three sentences on a run, made from its numbers: noise, correlation, accuracy and masks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.noise import (
    clear_of_noise,
    error_columns,
    quantile_behind,
    with_degrees,
)
from pruneviz.errors import AnalysisError
from pruneviz.log.runs import Runs
from pruneviz.plot.row_kind import RowKind
from pruneviz.plot.words import decimal, interval, percent, scientific
from pruneviz.report.labels import described
from pruneviz.report.shown_rows import ShownRows

_X, _Y = "theta_g", "theta_hg"
_ABOUT = 0.05  # from 2, of a number of standard errors that is called two


def sentences_on(run: Runs, rows: ShownRows, kind: RowKind) -> list[str]:
    """Findings of a run in words; those that its columns do not allow are left out.

    Args:
        run: One run.
        rows: Its rows at the epochs that the page shows.
        kind: Kind of its rows.
    """
    return [*_noise(run, rows, kind), *_correlation(rows, kind), *_course(run, kind)]


def _noise(run: Runs, rows: ShownRows, kind: RowKind) -> Iterator[str]:
    """The share of rows that noise alone explains, at the first and last epoch with errors."""
    quantity = next((name for name in (_Y, _X) if _has_errors(rows.table, name)), None)
    if quantity is None:
        return
    table = with_degrees(rows.table, run.spec)
    try:
        clear = clear_of_noise(table, quantity)
    except AnalysisError:
        return
    known = clear.notna()
    if not known.any():
        return
    width = _width(table[known], quantity)
    which = "kept " if _pruned(table[known]) else ""
    shares = 1 - clear[known].astype("float64").groupby(table.loc[known, "epoch"]).mean()
    symbol = described(quantity, kind)["symbol"]
    first, last = int(shares.index[0]), int(shares.index[-1])
    later = f" ({_whole(shares.loc[last])} at epoch {last})" if last != first else ""
    yield (
        f"Noise: {_whole(shares.loc[first])} of the {which}{kind.noun}s lie within {width} "
        f"standard errors of zero in {symbol} at epoch {first}{later}: this sample cannot tell "
        "their sign."
    )


def _width(table: pd.DataFrame, quantity: str) -> str:
    """The number of standard errors that are noise, in words: more of errors from few terms."""
    error = next(name for name in error_columns(quantity) if name in table)
    quantile = quantile_behind(table, error)
    return "two" if abs(quantile - 2) < _ABOUT else decimal(quantile, 1)


def _pruned(table: pd.DataFrame) -> bool:
    return "kept" in table and bool(table["kept"].eq(False).fillna(False).any())


def _has_errors(table: pd.DataFrame, quantity: str) -> bool:
    if quantity not in table or table[quantity].isna().all():
        return False
    return any(name in table and table[name].notna().any() for name in error_columns(quantity))


def _correlation(rows: ShownRows, kind: RowKind) -> Iterator[str]:
    table = rows.table
    if not {_X, _Y} <= set(table):
        return
    whole = table[table[_X].notna() & table[_Y].notna()]
    if "kept" in whole:
        whole = whole[~whole["kept"].eq(False).fillna(False).to_numpy(dtype=bool)]
    epochs = sorted(whole["epoch"].unique())
    if not epochs:
        return
    ends = whole[whole["epoch"].isin([epochs[0], epochs[-1]])]
    if not np.isfinite(ends[[_X, _Y]].to_numpy(dtype="float64")).all():
        return
    found = correlate(ends, _X, _Y, by=["epoch"])
    told = [
        f"{decimal(float(row['r']))} {interval(float(row['low']), float(row['high']))} at epoch "
        f"{int(row['epoch'])}"
        for _, row in found.iterrows()
        if pd.notna(row["r"])
    ]
    if told:
        number = "the kept" if _pruned(table[table["epoch"].isin(ends["epoch"])]) else "all"
        number = f"a sample of {rows.shape[1]:,}" if kind.sampled else number
        over = f"{number} {kind.noun}s"
        symbols = " and ".join(described(name, kind)["symbol"] for name in (_Y, _X))
        yield (
            f"Correlation: Pearson's r of {symbols} over {over} is {', and '.join(told)} "
            "(95 % intervals, layers resampled)."
        )


def _course(run: Runs, kind: RowKind) -> Iterator[str]:
    """Where accuracy ends and how far the masks still move."""
    epochs = run.epochs.sort_values("epoch")
    parts = []
    if "test_acc" in epochs and epochs["test_acc"].notna().any():
        last = epochs.dropna(subset=["test_acc"]).iloc[-1]
        parts.append(
            f"test accuracy is {percent(float(last['test_acc']))} after epoch {int(last['epoch'])}"
        )
    if "mask_distance" in epochs and epochs["mask_distance"].notna().any():
        known = epochs.dropna(subset=["mask_distance"])
        most, last = known.iloc[int(known["mask_distance"].argmax())], known.iloc[-1]
        spec = run.spec.iloc[0]
        ratio = spec.get("mask_ratio")
        of = f"by {spec.get('mask_score')}" if pd.notna(spec.get("mask_score")) else "logged"
        share = f" {percent(float(ratio), digits=0)}" if pd.notna(ratio) else ""
        parts.append(
            f"masks that prune the lowest{share} {of} differ from those of the epoch before in "
            f"{_share(last['mask_distance'])} of the {kind.noun}s at epoch {int(last['epoch'])}, "
            f"and in {_share(most['mask_distance'])} at most (epoch {int(most['epoch'])})"
        )
    if parts:
        yield f"Course: {'; '.join(parts)}."


def _whole(fraction: float) -> str:
    return percent(float(fraction), digits=0)


def _share(fraction: float) -> str:
    return f"{scientific(100 * float(fraction))} %"
