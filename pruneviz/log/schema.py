"""Columns of the four tables of the log: their types, units and meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from pruneviz.errors import LogError
from pruneviz.log.vocabulary import ROW_KINDS

SCHEMA_VERSION = 2  # 2 added the table `correlations` and the columns of single weights


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        dtype: Type on disk.
        unit: Physical unit; "1" for plain numbers, "" for names, counts and flags.
        meaning: Description.
        symbol: Axis label in TeX; "" if never drawn.
    """

    dtype: pa.DataType
    unit: str
    meaning: str
    symbol: str = ""


_KEY, _INT, _FLAG = pa.dictionary(pa.int32(), pa.string()), pa.int32(), pa.bool_()
_SINGLE, _DOUBLE, _TEXT = pa.float32(), pa.float64(), pa.string()

FILTERS: Mapping[str, Column] = {
    "run": Column(_KEY, "", "name of the run"),
    "epoch": Column(_INT, "epochs", "epochs trained so far; 0 is the initialisation"),
    "layer": Column(
        _KEY, "", "name of the layer in named_modules(), of a parameter, or of a group of units"
    ),
    "filter": Column(_INT, "", "output channel of the unpruned layer, or number of the unit in it"),
    "weight": Column(
        _INT, "", "position in the filter's flattened weights, from 0; null where a row is a filter"
    ),
    "kept": Column(_FLAG, "", "whether the filter, weight or unit is still in the network"),
    "theta": Column(_SINGLE, "weight", "the weight, signed; of single weights", r"$\theta_j$"),
    "theta_delta": Column(
        _SINGLE,
        "weight",
        "theta now minus theta `lag` epochs ago; of single weights",
        r"$\Delta\theta_j$",
    ),
    "theta_norm2": Column(_SINGLE, "weight²", "sum of squared weights", r"$\|\theta_p\|^2$"),
    "theta_l1": Column(_SINGLE, "weight", "sum of absolute weights", r"$\|\theta_p\|_1$"),
    "sigma": Column(_SINGLE, "1", "scale of the batch norm that follows, signed", r"$\sigma_p$"),
    "sigma_delta": Column(
        _SINGLE, "1", "sigma now minus sigma `lag` epochs ago", r"$\Delta\sigma_p$"
    ),
    "theta_g": Column(
        _SINGLE, "nats", "inner product of weights and gradient, signed", r"$\theta_p^\top g_p$"
    ),
    "abs_theta_g": Column(_SINGLE, "nats", "sum of |weight x gradient|", r"$\sum_j|\theta_j g_j|$"),
    "theta2_abs_g": Column(
        _SINGLE, "weight x nats", "sum of weight² x |gradient|", r"$\sum_j\theta_j^2|g_j|$"
    ),
    "theta_hg": Column(
        _SINGLE,
        "nats²/weight²",
        "inner product of weights and Hessian-gradient product, signed",
        r"$\theta_p^\top H g_p$",
    ),
    "theta_hg_t200": Column(
        _SINGLE,
        "nats²/weight²",
        "theta_hg of the loss at temperature 200",
        r"$\theta_p^\top H g_p\ (T=200)$",
    ),
    "g_norm2": Column(_SINGLE, "nats²/weight²", "sum of squared gradients", r"$\|g_p\|^2$"),
    "theta_g_se": Column(
        _SINGLE,
        "nats",
        "standard error of theta_g over the sample",
        r"$\mathrm{SE}(\theta_p^\top g_p)$",
    ),
    "theta_hg_se": Column(
        _SINGLE,
        "nats²/weight²",
        "standard error of theta_hg over the sample, g held fixed",
        r"$\mathrm{SE}(\theta_p^\top H g_p)$",
    ),
    "theta2_g2": Column(
        _SINGLE,
        "nats²",
        "sum of weight² x mean squared per-example gradient (on request)",
        r"$\sum_j\theta_j^2\,\mathrm{E}[g_j^2]$",
    ),
    "synflow": Column(
        _DOUBLE, "1", "synaptic flow through the filter, data-free (on request)", "SynFlow"
    ),
}

# Columns that a filters table has only if they were requested.
ON_REQUEST: Mapping[str, Column] = {
    "fisher_block": Column(
        _SINGLE,
        "nats²",
        "mean squared inner product of weights and an example's gradient, with labels of the "
        "model's own distribution (on request)",
        r"$\theta_p^\top F_{pp}\,\theta_p$",
    ),
    "obd": Column(
        _SINGLE,
        "nats",
        "half the sum of weight² x diagonal of the Hessian, estimated by probes (on request)",
        r"$\frac{1}{2}\sum_j\theta_j^2 H_{jj}$",
    ),
    "obd_se": Column(
        _SINGLE,
        "nats",
        "standard error of obd over its probes (on request)",
        r"$\mathrm{SE}(\frac{1}{2}\sum_j\theta_j^2 H_{jj})$",
    ),
    "delta_loss": Column(
        _SINGLE,
        "nats",
        "loss without the filter and its coupled group, minus the loss with it (on request)",
        r"$\Delta L_p$",
    ),
    "bn_taylor": Column(
        _DOUBLE,
        "nats²",
        "squared derivative of the loss by a gate after the batch norm that follows: "
        "(scale x its gradient + shift x its gradient)²",
        r"$(\sigma g_\sigma+\beta g_\beta)^2$",
    ),
    "hg_norm2": Column(
        _SINGLE,
        "nats⁴/weight⁶",
        "sum of squares of the Hessian-gradient product (on request)",
        r"$\|(Hg)_p\|^2$",
    ),
    "wanda": Column(
        _SINGLE,
        "weight x input",
        "sum of |weight| x norm over the sample of the inputs that it multiplies",
        r"$\sum_j|\theta_j|\,\|x_j\|$",
    ),
    "fpgm": Column(
        _SINGLE,
        "weight",
        "sum of the distances to the other kept filters of the layer",
        r"$\sum_q\|\theta_p-\theta_q\|$",
    ),
    "update_size": Column(
        _SINGLE,
        "weight",
        "norm of the change of the weights in the last epoch",
        r"$\|\theta_p(t)-\theta_p(t-1)\|$",
    ),
    "distance_from_init": Column(
        _SINGLE,
        "weight",
        "norm of the change of the weights since epoch 0",
        r"$\|\theta_p(t)-\theta_p(0)\|$",
    ),
}

FILTER_KEYS = ("run", "epoch", "layer", "filter")
CHEAP_COLUMNS = ("theta_norm2", "theta_l1", "sigma")
STANDARD_ERRORS = ("theta_g_se", "theta_hg_se")
DERIVATIVE_COLUMNS = (
    *("theta_g", "abs_theta_g", "theta2_abs_g", "theta_hg", "theta_hg_t200", "g_norm2"),
    *STANDARD_ERRORS,
)
REQUEST_COLUMNS = (
    *("theta2_g2", "synflow", "fisher_block", "obd", "obd_se", "delta_loss"),
    *("bn_taylor", "wanda", "fpgm", "hg_norm2"),
)
CHANGE_COLUMNS = ("update_size", "distance_from_init")  # between epochs, only in recordings
MEASURED_COLUMNS = CHEAP_COLUMNS + DERIVATIVE_COLUMNS + REQUEST_COLUMNS

# Columns of a table for ranking filters that are not measured on the sample.
RANKED_WITHOUT_SAMPLE = (
    *(*FILTER_KEYS, "kept", *CHEAP_COLUMNS, "sigma_delta", *CHANGE_COLUMNS),
    "sample_size",  # a fact of the run
)

# Columns by row kind. Standard errors of single weights and of units over several parameters would
# need the gradient of every example.
# The last two compare whole filters or belong to their batch norms.
_OF_FILTERS = (*STANDARD_ERRORS, "fpgm", "bn_taylor")
_OF_ALL = tuple(name for name in MEASURED_COLUMNS if name not in _OF_FILTERS)
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
    "run": Column(_KEY, "", "name of the run"),
    "epoch": Column(_INT, "epochs", "epochs trained so far; 0 is the initialisation"),
    "phase": Column(_KEY, "", "init, train, prune or finetune"),
    "lr": Column(_DOUBLE, "1", "learning rate of the epoch just trained"),
    "train_loss": Column(
        _DOUBLE, "nats", "mean training loss over the epoch, at the training temperature"
    ),
    "train_acc": Column(
        _DOUBLE,
        "fraction",
        "training accuracy over the epoch, on augmented images as they were trained on",
    ),
    "test_loss": Column(_DOUBLE, "nats", "mean test loss after the epoch, at temperature 1"),
    "test_acc": Column(_DOUBLE, "fraction", "test accuracy after the epoch"),
    "kept_fraction": Column(
        _DOUBLE, "fraction", "filters, or single weights, still in the network, of all"
    ),
    "mask_distance": Column(
        _DOUBLE,
        "fraction",
        "share of positions in which the masks of this and the previous epoch differ",
    ),
    "seconds": Column(_DOUBLE, "s", "wall-clock time of training the epoch, without recording"),
    "sample_loss": Column(
        _DOUBLE, "nats", "loss on the measurement sample at the first temperature"
    ),
    "g_norm2": Column(_DOUBLE, "nats²/weight²", "squared norm of the whole gradient"),
    "ghg": Column(_DOUBLE, "nats³/weight⁴", "g^T H g over all parameters"),
    "hg_norm2": Column(
        _DOUBLE,
        "nats⁴/weight⁶",
        "squared norm of the whole Hessian-gradient product; null where it was not formed in full, "
        "which the column of this name requests",
    ),
}

ROUNDS: Mapping[str, Column] = {
    "run": Column(_KEY, "", "name of the run"),
    "round": Column(_INT, "", "pruning round, from 1"),
    "epoch": Column(_INT, "epochs", "epoch after which the round pruned"),
    "layer": Column(_KEY, "", "name of the layer"),
    "layer_index": Column(_INT, "", "depth order of the layer, from 0"),
    "filters": Column(_INT, "", "filters of the unpruned layer"),
    "kept": Column(_INT, "", "filters kept after the round"),
    "coupled_to": Column(
        _KEY,
        "",
        "the earlier layer that decides for this layer's filters, such as the one that feeds a "
        "depthwise layer; else null",
    ),
}

CORRELATIONS: Mapping[str, Column] = {
    "run": Column(_KEY, "", "name of the run"),
    "epoch": Column(_INT, "epochs", "epochs trained so far; 0 is the initialisation"),
    "x": Column(_KEY, "", "column or measure"),
    "y": Column(_KEY, "", "column or measure"),
    "method": Column(_KEY, "", "pearson, spearman or symlog"),
    "n": Column(pa.int64(), "", "weights that have both x and y"),
    "n_eff": Column(_DOUBLE, "", "effective number of weights that carry r"),
    "r": Column(
        _DOUBLE,
        "1",
        "correlation over all weights of the network that are not pruned; null where there is none",
    ),
}

TABLES: Mapping[str, Mapping[str, Column]] = {
    "epochs": EPOCHS,
    "filters": FILTERS,
    "rounds": ROUNDS,
    "correlations": CORRELATIONS,
}
SORT_KEYS: Mapping[str, tuple[str, ...]] = {
    "epochs": ("run", "epoch"),
    "filters": ("run", "epoch"),  # within an epoch the layers stay in the order of the network
    "rounds": ("run", "round", "layer_index"),
    "correlations": ("run", "epoch"),
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
            _SINGLE, "nats²/weight²", f"theta_hg of the loss at temperature {temperature}", symbol
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
    if extra and table not in ("filters", "epochs"):
        raise LogError(
            f"table {table} has no column {', '.join(extra)}; it has {', '.join(described)}"
        )
    types = {name: column.dtype for name, column in described.items()}
    if table == "filters":
        types |= {name: filter_column(name).dtype for name in extra}
    else:
        types |= {name: (own or {}).get(name, _DOUBLE) for name in extra}
    return pa.schema(list(types.items()))


def own_type(values: pd.Series) -> pa.DataType:
    """Type on disk of a person's own fact: number or text."""
    return _DOUBLE if pd.api.types.is_numeric_dtype(values) else _TEXT


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
