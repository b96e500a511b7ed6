"""Pruning measures: pure functions from a filters table to one importance per row.

The rows with the lowest importance are pruned first. The same functions rank filters during pruning
and in the analysis of a log, so each measure has one formula. A null in a column that a measure
needs gives a null score, never 0: a filter that was not measured is not an unimportant one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd
import pyarrow as pa

from pruneviz.analysis.checks import columns_of
from pruneviz.errors import ScoreError, unknown_name
from pruneviz.log.parquet import write_blocks
from pruneviz.log.scan import Scan
from pruneviz.log.schema import CHEAP_COLUMNS, FILTERS, REQUEST_COLUMNS

Measure = Callable[[pd.DataFrame], pd.Series]

_KEYS = ("run", "epoch", "layer", "filter")


@overload
def score(filters: pd.DataFrame, name: str) -> pd.Series:
    """Scores of a table in memory."""


@overload
def score(filters: Scan, name: str, out: str | Path) -> Path:
    """Scores of tables on disk, written to a Parquet file."""


def score(
    filters: pd.DataFrame | Scan, name: str, out: str | Path | None = None
) -> pd.Series | Path:
    """Score every row of a filters table by one pruning measure; the lowest is pruned first.

    Args:
        filters: One row per filter, weight or unit, with the columns that the measure needs; or a
            `Scan` for tables on disk.
        name: Key in `pruneviz.SCORES`.
        out: Parquet file to write. Required for a `Scan`, not allowed for a table.

    Returns:
        For a table, a float64 Series with its index, named after the measure; null where a needed
        value is null. For a `Scan`, the path of the file: run, epoch, layer, filter, weight and the
        scores (float64, named after the measure), in the row order of `pruneviz.load`.

    Raises:
        ScoreError: If the measure is unknown; if a column is missing (says how to record it); if
            the measure is one of single weights and the rows are not; if
            `out` is missing for a `Scan` or given for a table.
        LogError: If `out` exists or cannot be written.

    References:
        Lubana and Dick, ICLR 2021. Every function in `pruneviz.SCORES` names its own source.

    Example:
        >>> table = pv.measure(model, (images, labels))
        >>> pv.score(table, "loss_preservation")
    """
    if isinstance(filters, Scan):
        return _score_on_disk(filters, name, out)
    if out is not None:
        raise ScoreError(
            f"out={str(out)!r} is for a scan; leave it out, scores of a table are returned"
        )
    if not isinstance(filters, pd.DataFrame):
        raise ScoreError(
            f"score takes a filters table, not {type(filters).__name__}; pass runs.filters, or the "
            "table that measure returns"
        )
    if name not in SCORES:
        raise ScoreError(unknown_name("pruning measure", name, SCORES))
    missing = [column for column in NEEDS[name] if column not in filters.columns]
    if missing:
        raise ScoreError(_missing_message(filters, name, missing))
    if "theta" in NEEDS[name] and len(filters) and filters["theta"].isna().all():
        raise ScoreError(
            f"measure {name} is one of single weights, and these rows have no theta; "
            f"{_how_to_record('theta')}"
        )
    return SCORES[name](filters).rename(name)


def magnitude(filters: pd.DataFrame) -> pd.Series:
    """Euclidean norm of a filter's weights, in weight units."""
    return np.sqrt(_numbers(filters, "theta_norm2"))


def loss_preservation(filters: pd.DataFrame) -> pd.Series:
    """Sum over a filter's weights of |theta_j g_j|, the first-order change of the loss, in nats.

    References:
        Lubana and Dick, ICLR 2021, Equation 3.
    """
    return _numbers(filters, "abs_theta_g")


def loss_preservation_abs_of_sum(filters: pd.DataFrame) -> pd.Series:
    """|theta^T g| of a filter, in nats: loss preservation with the absolute value after the sum.

    Terms of opposite sign cancel.
    """
    return _numbers(filters, "theta_g").abs()


def proposed(filters: pd.DataFrame) -> pd.Series:
    """Sum over a filter's weights of theta_j^2 |g_j|: loss preservation weighted by magnitude.

    References:
        Lubana and Dick, ICLR 2021, the proposed extension.
    """
    return _numbers(filters, "theta2_abs_g")


def grasp_t200(filters: pd.DataFrame) -> pd.Series:
    """Signed theta^T H g of the loss at temperature 200.

    Pruning the lowest increases the norm of the gradient.

    References:
        Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR
        2020. They state the same rule with the opposite sign and prune the highest.
    """
    return _numbers(filters, "theta_hg_t200")


def grasp(filters: pd.DataFrame) -> pd.Series:
    """Signed theta^T H g at the first temperature: GraSP without its temperature.

    Pruning the lowest increases the norm of the gradient.
    """
    return _numbers(filters, "theta_hg")


def gradient_norm_preservation(filters: pd.DataFrame) -> pd.Series:
    """|theta^T H g|: how far removing a filter moves the norm of the gradient.

    References:
        Lubana and Dick, ICLR 2021.
    """
    return _numbers(filters, "theta_hg").abs()


def bn_scale(filters: pd.DataFrame) -> pd.Series:
    """|sigma|, the scale of the batch norm that follows a filter; null without batch norm.

    References:
        Liu et al., ICCV 2017. You et al., ICLR 2020.
    """
    return _numbers(filters, "sigma").abs()


def sigma_change(filters: pd.DataFrame) -> pd.Series:
    """|sigma * delta sigma|: batch-norm scale times its change over the last `lag` epochs.

    References:
        Lubana and Dick, ICLR 2021, Figure 2.
    """
    return (_numbers(filters, "sigma") * _numbers(filters, "sigma_delta")).abs()


def theta_change(filters: pd.DataFrame) -> pd.Series:
    """|theta * delta theta| of single weights, the counterpart of `sigma_change`.

    References:
        Lubana and Dick, ICLR 2021, Appendix H.1.
    """
    return (_numbers(filters, "theta") * _numbers(filters, "theta_delta")).abs()


def l1_norm(filters: pd.DataFrame) -> pd.Series:
    """Sum of a filter's absolute weights, in weight units.

    References:
        Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.
    """
    return _numbers(filters, "theta_l1")


def snip(filters: pd.DataFrame) -> pd.Series:
    """Sum over a filter's weights of the SNIP saliencies |theta_j g_j|, in nats.

    SNIP scores single weights. Summed over a filter it equals `loss_preservation`, at
    initialisation and at every epoch.

    References:
        Lee et al., ICLR 2019.
    """
    return loss_preservation(filters)


def fisher(filters: pd.DataFrame) -> pd.Series:
    """Sum over a filter's weights of theta_j^2 E[g_j^2], with the mean over examples, in nats².

    This is twice the change of the loss under a diagonal Fisher matrix.

    References:
        Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018.
    """
    return _numbers(filters, "theta2_g2")


def synflow(filters: pd.DataFrame) -> pd.Series:
    """Synaptic flow through a filter; needs no data.

    References:
        Tanaka et al., NeurIPS 2020.
    """
    return _numbers(filters, "synflow")


def random(filters: pd.DataFrame) -> pd.Series:
    """Reproducible draw from the uniform distribution on (0, 1), the control for every measure.

    The draw is a hash of the keys that the table has among run, epoch, layer, filter and weight. It
    therefore depends neither on the order of the rows nor on other rows, and draws for two runs or
    epochs are independent if the table has these columns.
    """
    keys = [key for key in _KEYS if key in filters.columns]
    bits = pd.util.hash_pandas_object(filters[keys], index=False).to_numpy(dtype=np.uint64)
    if "weight" in filters.columns:
        # A null weight, as in a log of filters, counts as a missing column: place 0 is mixed to 0.
        weight = filters["weight"].to_numpy(dtype="float64", na_value=-1)
        place = (np.nan_to_num(weight, nan=-1) + 1).astype(np.uint64)
        bits = bits ^ _mixed(place)
    # A float64 holds 53 bits; half a step keeps both ends out.
    return pd.Series(((_mixed(bits) >> np.uint64(11)) + 0.5) * 2.0**-53, index=filters.index)


# Pruning measures by name.
SCORES: Mapping[str, Measure] = {
    "magnitude": magnitude,
    "loss_preservation": loss_preservation,
    "loss_preservation_abs_of_sum": loss_preservation_abs_of_sum,
    "proposed": proposed,
    "grasp_t200": grasp_t200,
    "grasp": grasp,
    "gradient_norm_preservation": gradient_norm_preservation,
    "bn_scale": bn_scale,
    "sigma_change": sigma_change,
    "theta_change": theta_change,
    "l1_norm": l1_norm,
    "snip": snip,
    "fisher": fisher,
    "synflow": synflow,
    "random": random,
}

# Columns that each measure needs.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "magnitude": ("theta_norm2",),
    "loss_preservation": ("abs_theta_g",),
    "loss_preservation_abs_of_sum": ("theta_g",),
    "proposed": ("theta2_abs_g",),
    "grasp_t200": ("theta_hg_t200",),
    "grasp": ("theta_hg",),
    "gradient_norm_preservation": ("theta_hg",),
    "bn_scale": ("sigma",),
    "sigma_change": ("sigma", "sigma_delta"),
    "theta_change": ("theta", "theta_delta"),
    "l1_norm": ("theta_l1",),
    "snip": ("abs_theta_g",),
    "fisher": ("theta2_g2",),
    "synflow": ("synflow",),
    "random": ("layer", "filter"),
}


def columns_read(name: str) -> tuple[str, ...]:
    """Columns that a measure reads besides run and epoch, required and optional."""
    return (*NEEDS[name], "weight") if name == "random" else NEEDS[name]


def _score_on_disk(filters: Scan, name: str, out: str | Path | None) -> Path:
    score(filters.no_rows(), name)  # raises errors about the arguments before a file is created
    if out is None:
        raise ScoreError("scores of a scan are written to disk; name the Parquet file in out")
    keys = [key for key in (*_KEYS, "weight") if key in filters.columns]
    blocks = (
        block[keys].assign(**{name: score(block, name)})
        for block in filters.blocks([*keys, *columns_read(name)])
    )
    fields = [(key, FILTERS[key].dtype) for key in keys]
    write_blocks(blocks, Path(out), pa.schema([*fields, (name, pa.float64())]))
    return Path(out)


def _numbers(filters: pd.DataFrame, column: str) -> pd.Series:
    # In the log's float32, a product of two small columns would underflow to 0 and create ties.
    return filters[column].astype("float64")


def _mixed(bits: np.ndarray) -> np.ndarray:
    """Spread a difference in any bit over all bits, so that neighbouring keys are unrelated.

    This is the finaliser of SplitMix64.
    """
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _missing_message(filters: pd.DataFrame, name: str, missing: list[str]) -> str:
    repair = " and ".join(dict.fromkeys(_how_to_record(column) for column in missing))
    return (
        f"measure {name} needs {', '.join(NEEDS[name])}; the table has no {', '.join(missing)}, it "
        f"has [{', '.join(columns_of(filters))}]; {repair}"
    )


def _how_to_record(column: str) -> str:
    if column == "sigma_delta":
        return (
            "record sigma_delta with a Recorder: it is a difference between two epochs, which one "
            "snapshot cannot hold"
        )
    if column in ("theta", "theta_delta"):
        return f"record {column}, a column of single weights, with a Recorder with unit='weight'"
    if column in REQUEST_COLUMNS:
        return f"request it with {column!r} in the argument columns of measure or Recorder"
    if column == "theta_hg_t200":
        return (
            "record it with 200.0 among the temperatures of measure or Recorder, not in first "
            "place, as in temperatures=(1.0, 200.0)"
        )
    if column in CHEAP_COLUMNS:
        return f"every table that measure or Recorder makes has {column}; pass the whole table"
    if column in ("layer", "filter"):
        return f"{column} is a key of every filters table; keep it beside the columns"
    return (
        f"measure and Recorder (at the epochs that its argument every names) write {column}, "
        "unless the argument columns leaves it out"
    )
