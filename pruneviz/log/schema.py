"""Columns of the tables of the log: their types, units and meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from pruneviz.errors import LogError
from pruneviz.log.filter_columns import DOUBLE, INT, KEY, SINGLE, TEXT, Column
from pruneviz.log.filter_columns import FILTERS as FILTERS
from pruneviz.log.filter_columns import ON_REQUEST as ON_REQUEST
from pruneviz.log.flow_columns import FLOW
from pruneviz.log.vocabulary import ROW_KINDS

# 2 added the table `correlations` and the columns of single weights, 3 the standard errors of the
# sample as drawn (`pruneviz.log.older_columns` names those of before), 4 the sums of tables in the
# spec and the records in parts
SCHEMA_VERSION = 4
# first versions with the table of correlations in finished runs, with the errors of the sample as
# drawn, with the sums of tables in the spec, and with records in parts
CORRELATIONS_SINCE, DRAWN_ERRORS_SINCE, SUMS_SINCE, RECORDS_SINCE = 2, 3, 4, 4

FILTER_KEYS = ("run", "epoch", "layer", "filter")
CHEAP_COLUMNS = ("theta_norm2", "theta_l1", "sigma")
STANDARD_ERRORS = ("theta_g_se", "theta_g_se_iid", "theta_hg_se_given_g")
DERIVATIVE_COLUMNS = (
    *("theta_g", "abs_theta_g", "theta2_abs_g", "theta_hg", "theta_hg_t200", "g_norm2"),
    *STANDARD_ERRORS,
)
REQUEST_COLUMNS = (
    *("theta2_g2", "synflow", "fisher_block", "obd", "obd_se", "delta_loss"),
    *("bn_taylor", "wanda", "fpgm", "hg_norm2", "theta_hg_se", "abs_theta_g_se"),
)
CHANGE_COLUMNS = ("update_size", "distance_from_init")  # between epochs, only in recordings
MEASURED_COLUMNS = CHEAP_COLUMNS + DERIVATIVE_COLUMNS + REQUEST_COLUMNS

# Columns of a table for ranking filters that are not measured on the sample.
RANKED_WITHOUT_SAMPLE = (
    *(*FILTER_KEYS, "kept", *CHEAP_COLUMNS, "sigma_delta", *CHANGE_COLUMNS),
    "sample_size",  # a fact of the run
)

# Columns by row kind. Other standard errors of single weights and of units over several parameters
# would need the gradient of every example.
# The last two compare whole filters or belong to their batch norms.
_OF_FILTERS = (*STANDARD_ERRORS, "fpgm", "bn_taylor")
_OF_ALL = (*(name for name in MEASURED_COLUMNS if name not in _OF_FILTERS), "theta_g_se")
CHEAP_OF_UNIT: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(ROW_KINDS, CHEAP_COLUMNS),
    "weight": ("theta", *CHEAP_COLUMNS),
}
MEASURED_OF_UNIT: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(ROW_KINDS, _OF_ALL),
    "filter": MEASURED_COLUMNS,
    # a single weight cannot be removed from a network
    "weight": ("theta", *(name for name in _OF_ALL if name != "delta_loss")),
}

# Columns that are sums over the weights of a row, so that they add up over several filters.
_SUMS = frozenset(
    (
        *("theta_norm2", "theta_l1", "theta_g", "abs_theta_g", "theta2_abs_g", "theta_hg"),
        *("g_norm2", "hg_norm2", "theta2_g2", "synflow", "obd", "wanda"),
    )
)

EPOCHS: Mapping[str, Column] = {
    "run": Column(KEY, "", "name of the run"),
    "epoch": Column(INT, "epochs", "epochs trained so far; 0 is the initialisation"),
    "phase": Column(KEY, "", "init, train, prune or finetune"),
    "lr": Column(DOUBLE, "1", "learning rate of the epoch just trained"),
    "train_loss": Column(
        DOUBLE, "nats", "mean training loss over the epoch, at the training temperature"
    ),
    "train_acc": Column(
        DOUBLE,
        "fraction",
        "training accuracy over the epoch, on augmented images as they were trained on",
    ),
    "test_loss": Column(DOUBLE, "nats", "mean test loss after the epoch, at temperature 1"),
    "test_acc": Column(DOUBLE, "fraction", "test accuracy after the epoch"),
    "kept_fraction": Column(
        DOUBLE, "fraction", "filters, or single weights, still in the network, of all"
    ),
    "mask_distance": Column(
        DOUBLE,
        "fraction",
        "share of positions in which the masks of this and the previous epoch differ",
    ),
    "seconds": Column(DOUBLE, "s", "wall-clock time of training the epoch, without recording"),
    "sample_loss": Column(
        DOUBLE, "nats", "loss on the measurement sample at the first temperature"
    ),
    "g_norm2": Column(DOUBLE, "nats²/weight²", "squared norm of the whole gradient"),
    "ghg": Column(DOUBLE, "nats³/weight⁴", "g^T H g over all parameters"),
    "hg_norm2": Column(
        DOUBLE,
        "nats⁴/weight⁶",
        "squared norm of the whole Hessian-gradient product; null where it was not formed in full, "
        "which the column of this name requests",
    ),
    "not_finite": Column(
        TEXT, "", "facts of the epoch that were no finite numbers, and are null, as name=value"
    ),
    "network_digest": Column(
        TEXT, "", "digests of parameters, of saved buffers and masks, and of modules, for a resume"
    ),
}

ROUNDS: Mapping[str, Column] = {
    "run": Column(KEY, "", "name of the run"),
    "round": Column(INT, "", "pruning round, from 1"),
    "epoch": Column(INT, "epochs", "epoch after which the round pruned"),
    "layer": Column(KEY, "", "name of the layer"),
    "layer_index": Column(INT, "", "depth order of the layer, from 0"),
    "filters": Column(INT, "", "filters of the unpruned layer"),
    "kept": Column(INT, "", "filters kept after the round"),
    "coupled_to": Column(
        KEY,
        "",
        "the earlier layer that decides for this layer's filters, such as the one that feeds a "
        "depthwise layer; else null",
    ),
}

CORRELATIONS: Mapping[str, Column] = {
    "run": Column(KEY, "", "name of the run"),
    "epoch": Column(INT, "epochs", "epochs trained so far; 0 is the initialisation"),
    "x": Column(KEY, "", "column or measure"),
    "y": Column(KEY, "", "column or measure"),
    "method": Column(KEY, "", "pearson, spearman or symlog"),
    "n": Column(pa.int64(), "", "weights that have both x and y"),
    "n_eff": Column(DOUBLE, "1", "effective number of weights that carry r"),
    "r": Column(
        DOUBLE,
        "1",
        "correlation over all weights of the network that are not pruned; null where there is none",
    ),
    "low": Column(DOUBLE, "1", "lower end of its 95 % interval, by resampling layers"),
    "high": Column(DOUBLE, "1", "upper end"),
}

HALVES: Mapping[str, Column] = {
    "run": Column(KEY, "", "name of the run"),
    "epoch": FILTERS["epoch"],
    "half": Column(KEY, "", "half of the measurement sample, A or B"),
    "layer": FILTERS["layer"],
    "filter": FILTERS["filter"],
    "weight": FILTERS["weight"],
}

TABLES: Mapping[str, Mapping[str, Column]] = {
    "epochs": EPOCHS,
    "filters": FILTERS,
    "rounds": ROUNDS,
    "correlations": CORRELATIONS,
    "halves": HALVES,
    "flow": FLOW,
}
SORT_KEYS: Mapping[str, tuple[str, ...]] = {
    "epochs": ("run", "epoch"),
    "filters": ("run", "epoch"),  # within an epoch the layers stay in the order of the network
    "rounds": ("run", "round", "layer_index"),
    "correlations": ("run", "epoch"),
    "halves": ("run", "epoch"),  # within an epoch one half after the other, each as filters
    "flow": ("run", "epoch"),
}

_TEMPERATURE_COLUMN = re.compile(r"theta_hg_t[0-9]+(p[0-9]+)?")


def temperature_column(temperature: float) -> str:
    """Name of the `theta_hg` column at another temperature.

    For example `theta_hg_t200` at 200.0 and `theta_hg_t0p5` at 0.5.
    """
    return "theta_hg_t" + np.format_float_positional(temperature, trim="-").replace(".", "p")


def filter_column(name: str) -> Column:
    """The description of a filters column, including those on request and further temperatures.

    Raises:
        LogError: If the column is unknown; lists the known ones.
    """
    if name in FILTERS or name in ON_REQUEST:
        return FILTERS.get(name) or ON_REQUEST[name]
    if _TEMPERATURE_COLUMN.fullmatch(name):
        temperature = name.removeprefix("theta_hg_t").replace("p", ".")
        symbol = rf"$\theta_p^\top H g_p\ (T={temperature})$"
        return Column(
            SINGLE, "nats²/weight²", f"theta_hg of the loss at temperature {temperature}", symbol
        )
    known = ", ".join([*FILTERS, *ON_REQUEST])
    raise LogError(f"no column {name!r} in the filters table; it has {known}")


def is_sum(name: str) -> bool:
    """Whether a column of filters is a sum over their weights."""
    return name in _SUMS or _TEMPERATURE_COLUMN.fullmatch(name) is not None


def is_norm(name: str) -> bool:
    """Whether a column of filters is the root of a sum of squares over their weights."""
    return name in CHANGE_COLUMNS


def is_filter_column(name: str) -> bool:
    """Whether a filters table can have a column of this name."""
    return name in FILTERS or name in ON_REQUEST or _TEMPERATURE_COLUMN.fullmatch(name) is not None


def arrow_schema(
    table: str, columns: Sequence[str], own: Mapping[str, pa.DataType] | None = None
) -> pa.Schema:
    """The Arrow schema of a table, in the table's own order.

    Args:
        table: Table name.
        columns: Columns besides the standard ones, such as `theta_hg` at further temperatures.
        own: Types of a person's own facts in the epochs table. Default: numbers.

    Raises:
        LogError: If the table cannot have one of the columns.
    """
    described = TABLES[table]
    extra = sorted(set(columns) - set(described))
    if extra and table not in ("filters", "epochs", "halves"):
        raise LogError(
            f"table {table} has no column {', '.join(extra)}; it has {', '.join(described)}"
        )
    types = {name: column.dtype for name, column in described.items()}
    if table in ("filters", "halves"):
        types |= {name: filter_column(name).dtype for name in extra}
    else:
        types |= {name: (own or {}).get(name, DOUBLE) for name in extra}
    return pa.schema(list(types.items()))


def own_type(values: pd.Series) -> pa.DataType:
    """Type on disk of a person's own fact: number or text."""
    return DOUBLE if pd.api.types.is_numeric_dtype(values) else TEXT


def is_text(dtype: pa.DataType) -> bool:
    """Whether a column holds text."""
    return bool(pa.types.is_string(dtype) or pa.types.is_dictionary(dtype))


def check_columns(frame: pd.DataFrame, needed: list[str], what: str, repair: str) -> None:
    """Check that a frame has some columns.

    Args:
        frame: The table.
        needed: Columns that it must have.
        what: Table name at the start of the message.
        repair: What to do, at the end of the message.

    Raises:
        LogError: If columns are missing; names them and the existing ones.
    """
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise LogError(
            f"{what} has no column {', '.join(missing)}; "
            f"it has [{', '.join(map(str, frame.columns))}]; {repair}"
        )
