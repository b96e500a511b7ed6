"""Pruning measures: pure functions from a filters table to one importance per row; the lowest is pruned first.

The same functions rank filters while a network is pruned and in the analysis of a log, so each measure has one formula. A null
in a column that a measure needs gives a null score, never 0: a filter that was not measured is not an unimportant one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd
import pyarrow as pa

from pruneviz.errors import ScoreError
from pruneviz.log.scan import Scan, write_blocks
from pruneviz.log.schema import CHEAP_COLUMNS, FILTERS, REQUEST_COLUMNS

Measure = Callable[[pd.DataFrame], pd.Series]


@overload
def score(filters: pd.DataFrame, name: str) -> pd.Series:
    """The scores of a table in memory, as a Series."""


@overload
def score(filters: Scan, name: str, out: str | Path) -> Path:
    """Those of tables on disk, as a Parquet file."""


def score(
    filters: pd.DataFrame | Scan, name: str, out: str | Path | None = None
) -> pd.Series | Path:
    """The importance of every row of a filters table under one pruning measure; the lowest is pruned first.

    Args: `filters`, one row per filter or per single weight, with the columns in `NEEDS[name]`, or a `Scan` of such tables on disk;
    `name`, a key of `SCORES`; `out`, of a `Scan` alone, the Parquet file to write.
    Returns: float64 Series with the index of the table and the measure as its name; null where a needed value is null. Of a `Scan` the
    file: run, epoch, layer, filter, weight and, named as the measure, its float64 values, rows as `pv.load` has them.
    Errors: `ScoreError` for an unknown measure (lists those that exist), for a missing column (says how to record it), and for a `Scan`
    without `out`; `LogError` where `out` exists already or cannot be written.
    Source: Lubana and Dick, ICLR 2021, and the papers that the single measures name.
    """
    if isinstance(filters, Scan):
        return _score_on_disk(filters, name, out)
    if out is not None:
        raise ScoreError(
            f"out={str(out)!r} is for a scan; the scores of a table in memory are returned, leave it out"
        )
    if not isinstance(filters, pd.DataFrame):
        raise ScoreError(
            f"score takes a filters table, not {type(filters).__name__}; pass runs.filters, or the table that measure returns"
        )
    if name not in SCORES:
        raise ScoreError(f"no pruning measure {name!r}; choose one of {', '.join(SCORES)}")
    missing = [column for column in NEEDS[name] if column not in filters.columns]
    if missing:
        raise ScoreError(_missing_message(filters, name, missing))
    return SCORES[name](filters).rename(name)


def magnitude(filters: pd.DataFrame) -> pd.Series:
    """Euclidean norm of a filter's weights, in units of a weight."""
    return np.sqrt(_numbers(filters, "theta_norm2"))


def loss_preservation(filters: pd.DataFrame) -> pd.Series:
    """Sum over a filter's weights of |theta_j g_j|, the first-order loss change, in nats (Lubana and Dick, ICLR 2021, Equation 3)."""
    return _numbers(filters, "abs_theta_g")


def loss_preservation_abs_of_sum(filters: pd.DataFrame) -> pd.Series:
    """|theta^T g| of a filter: loss preservation with the absolute value after the sum, so that terms of two signs cancel, in nats."""
    return _numbers(filters, "theta_g").abs()


def proposed(filters: pd.DataFrame) -> pd.Series:
    """Sum of theta_j^2 |g_j|: loss preservation weighted by magnitude (Lubana and Dick, ICLR 2021, the proposed extension)."""
    return _numbers(filters, "theta2_abs_g")


def grasp_t200(filters: pd.DataFrame) -> pd.Series:
    """Signed theta^T H g of the loss at temperature 200; pruning the lowest increases the norm of the gradient.

    Source: Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR 2020, which states the same rule
    with the opposite sign and prunes the highest.
    """
    return _numbers(filters, "theta_hg_t200")


def grasp(filters: pd.DataFrame) -> pd.Series:
    """Signed theta^T H g at the first temperature: GraSP without its temperature; pruning the lowest increases the norm of the gradient."""
    return _numbers(filters, "theta_hg")


def gradient_norm_preservation(filters: pd.DataFrame) -> pd.Series:
    """|theta^T H g|: how far removing a filter moves the norm of the gradient (Lubana and Dick, ICLR 2021)."""
    return _numbers(filters, "theta_hg").abs()


def bn_scale(filters: pd.DataFrame) -> pd.Series:
    """|sigma|, the scale of the batch norm that follows; null where none does (Liu et al., ICCV 2017; You et al., ICLR 2020)."""
    return _numbers(filters, "sigma").abs()


def sigma_change(filters: pd.DataFrame) -> pd.Series:
    """|sigma * delta sigma|, the scale times its change since `lag` epochs ago (Lubana and Dick, ICLR 2021, Figure 2)."""
    return (_numbers(filters, "sigma") * _numbers(filters, "sigma_delta")).abs()


def theta_change(filters: pd.DataFrame) -> pd.Series:
    """|theta * delta theta| of single weights: what `sigma_change` is of filters (Lubana and Dick, ICLR 2021, Appendix H.1)."""
    return (_numbers(filters, "theta") * _numbers(filters, "theta_delta")).abs()


def l1_norm(filters: pd.DataFrame) -> pd.Series:
    """Sum of a filter's absolute weights, in units of a weight (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017)."""
    return _numbers(filters, "theta_l1")


def snip(filters: pd.DataFrame) -> pd.Series:
    """Sum of the SNIP saliencies |theta_j g_j| of a filter's weights, in nats (Lee et al., ICLR 2019).

    SNIP scores single weights; summed over a filter it coincides with `loss_preservation`, at initialisation and at every epoch.
    """
    return loss_preservation(filters)


def fisher(filters: pd.DataFrame) -> pd.Series:
    """Sum of theta_j^2 E[g_j^2], the mean being over examples, in nats²: the loss change under a diagonal Fisher matrix, times two.

    Source: Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018.
    """
    return _numbers(filters, "theta2_g2")


def synflow(filters: pd.DataFrame) -> pd.Series:
    """Synaptic flow through a filter, without data (Tanaka et al., NeurIPS 2020)."""
    return _numbers(filters, "synflow")


def random(filters: pd.DataFrame) -> pd.Series:
    """A reproducible draw from the uniform distribution on (0, 1) for every filter or weight: the control that any measure must beat.

    The draw is a hash of those of the keys run, epoch, layer, filter and weight that the table has. So it depends neither on the order
    of the rows nor on other rows, and draws of two runs or two epochs are independent if the table has these columns.
    """
    keys = [key for key in ("run", "epoch", "layer", "filter") if key in filters.columns]
    bits = pd.util.hash_pandas_object(filters[keys], index=False).to_numpy(dtype=np.uint64)
    if "weight" in filters.columns:
        place = filters["weight"].to_numpy(
            dtype="float64", na_value=-1
        )  # null, as in a log of filters, is as if there were no such column
        bits = bits ^ _mixed(
            (np.nan_to_num(place, nan=-1) + 1).astype(np.uint64)
        )  # which maps 0 to 0
    # A float64 holds 53 bits; half a step keeps the ends out.
    return pd.Series(((_mixed(bits) >> np.uint64(11)) + 0.5) * 2.0**-53, index=filters.index)


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
    """The columns besides run and epoch that a measure uses where a table has them: those it needs, and for `random` weight too."""
    return (*NEEDS[name], "weight") if name == "random" else NEEDS[name]


def _score_on_disk(filters: Scan, name: str, out: str | Path | None) -> Path:
    score(filters.no_rows(), name)  # tells what is wrong before a file is begun
    if out is None:
        raise ScoreError(
            "the scores of a scan are written, not returned; name the Parquet file in out"
        )
    keys = [key for key in ("run", "epoch", "layer", "filter", "weight") if key in filters.columns]
    blocks = (
        block[keys].assign(**{name: score(block, name)})
        for block in filters.blocks([*keys, *columns_read(name)])
    )
    write_blocks(
        blocks,
        Path(out),
        pa.schema([*((key, FILTERS[key].dtype) for key in keys), (name, pa.float64())]),
    )
    return Path(out)


def _numbers(filters: pd.DataFrame, column: str) -> pd.Series:
    # The log holds float32, in which a product of two small columns would underflow to 0 and tie filters that differ.
    return filters[column].astype("float64")


def _mixed(bits: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64, which spreads a difference in any bit over all bits, so that neighbouring keys are unrelated."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _missing_message(filters: pd.DataFrame, name: str, missing: list[str]) -> str:
    repair = " and ".join(dict.fromkeys(_how_to_record(column) for column in missing))
    had = ", ".join(map(str, filters.columns))
    return f"measure {name} needs {', '.join(NEEDS[name])}; the table has no {', '.join(missing)}, it has [{had}]; {repair}"


def _how_to_record(column: str) -> str:
    if column == "sigma_delta":
        return "record sigma_delta with a Recorder: it is a difference of two epochs, which one snapshot cannot hold"
    if column in ("theta", "theta_delta"):
        return (
            f"{column} is a column of single weights, which a Recorder with unit='weight' records"
        )
    if column in REQUEST_COLUMNS:
        return (
            f"record it on request, with {column!r} in the argument columns of measure or Recorder"
        )
    if column == "theta_hg_t200":
        return "record it with 200.0 among the temperatures of measure or Recorder, behind the first, as in temperatures=(1.0, 200.0)"
    if column in CHEAP_COLUMNS:
        return f"{column} stands in every table that measure or a Recorder makes; pass such a table whole"
    if column in ("layer", "filter"):
        return f"{column} is a key of every filters table; keep it beside the columns"
    return f"measure writes {column}, and a Recorder at the epochs that its argument every names, unless the argument columns leaves it out"
