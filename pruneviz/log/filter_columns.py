"""Columns of the filters table: their types, units and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa


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


# types on disk
KEY, INT, FLAG = pa.dictionary(pa.int32(), pa.string()), pa.int32(), pa.bool_()
SINGLE, DOUBLE, TEXT = pa.float32(), pa.float64(), pa.string()

FILTERS: Mapping[str, Column] = {
    "run": Column(KEY, "", "name of the run"),
    "epoch": Column(INT, "epochs", "epochs trained so far; 0 is the initialisation"),
    "layer": Column(
        KEY, "", "name of the layer in named_modules(), of a parameter, or of a group of units"
    ),
    "filter": Column(INT, "", "output channel of the unpruned layer, or number of the unit in it"),
    "weight": Column(
        INT, "", "position in the filter's flattened weights, from 0; null where a row is a filter"
    ),
    "kept": Column(FLAG, "", "whether the filter, weight or unit is still in the network"),
    "theta": Column(SINGLE, "weight", "the weight, signed; of single weights", r"$\theta_j$"),
    "theta_delta": Column(
        SINGLE,
        "weight",
        "theta now minus theta `lag` epochs ago; of single weights",
        r"$\Delta\theta_j$",
    ),
    "theta_norm2": Column(SINGLE, "weight²", "sum of squared weights", r"$\|\theta_p\|^2$"),
    "theta_l1": Column(SINGLE, "weight", "sum of absolute weights", r"$\|\theta_p\|_1$"),
    "sigma": Column(SINGLE, "1", "scale of the batch norm that follows, signed", r"$\sigma_p$"),
    "sigma_delta": Column(
        SINGLE, "1", "sigma now minus sigma `lag` epochs ago", r"$\Delta\sigma_p$"
    ),
    "theta_g": Column(
        SINGLE, "nats", "inner product of weights and gradient, signed", r"$\theta_p^\top g_p$"
    ),
    "abs_theta_g": Column(SINGLE, "nats", "sum of |weight x gradient|", r"$\sum_j|\theta_j g_j|$"),
    "theta2_abs_g": Column(
        SINGLE, "weight x nats", "sum of weight² x |gradient|", r"$\sum_j\theta_j^2|g_j|$"
    ),
    "theta_hg": Column(
        SINGLE,
        "nats²/weight²",
        "inner product of weights and Hessian-gradient product, signed",
        r"$\theta_p^\top H g_p$",
    ),
    "theta_hg_t200": Column(
        SINGLE,
        "nats²/weight²",
        "theta_hg of the loss at temperature 200",
        r"$\theta_p^\top H g_p\ (T=200)$",
    ),
    "g_norm2": Column(SINGLE, "nats²/weight²", "sum of squared gradients", r"$\|g_p\|^2$"),
    "theta_g_se": Column(
        SINGLE,
        "nats",
        "standard error of theta_g over the sample as it was drawn",
        r"$\mathrm{SE}(\theta_p^\top g_p)$",
    ),
    "theta_g_se_iid": Column(
        SINGLE,
        "nats",
        "standard error of theta_g if every example was drawn independently of the others",
        r"$\mathrm{SE}_\mathrm{iid}(\theta_p^\top g_p)$",
    ),
    "theta_hg_se_given_g": Column(
        SINGLE,
        "nats²/weight²",
        "standard error of theta_hg over the sample as it was drawn, g held fixed",
        r"$\mathrm{SE}(\theta_p^\top H g_p\mid g)$",
    ),
    "theta2_g2": Column(
        SINGLE,
        "nats²",
        "sum of weight² x mean squared per-example gradient (on request)",
        r"$\sum_j\theta_j^2\,\mathrm{E}[g_j^2]$",
    ),
    "synflow": Column(
        DOUBLE, "1", "synaptic flow through the filter, data-free (on request)", "SynFlow"
    ),
}

# Columns that a filters table has only if they were requested, or if its recording is an older one.
ON_REQUEST: Mapping[str, Column] = {
    "theta_hg_se": Column(
        SINGLE,
        "nats²/weight²",
        "standard error of theta_hg over the sample as it was drawn, with the variation of g "
        "(on request)",
        r"$\mathrm{SE}(\theta_p^\top H g_p)$",
    ),
    "abs_theta_g_se": Column(
        SINGLE,
        "nats",
        "standard error of abs_theta_g over the sample as it was drawn (on request)",
        r"$\mathrm{SE}(\sum_j|\theta_j g_j|)$",
    ),
    "theta_hg_se_given_g_iid": Column(
        SINGLE,
        "nats²/weight²",
        "standard error of theta_hg if every example was drawn independently of the others, g held "
        "fixed; in recordings of schema 1 and 2",
        r"$\mathrm{SE}_\mathrm{iid}(\theta_p^\top H g_p\mid g)$",
    ),
    "fisher_block": Column(
        SINGLE,
        "nats²",
        "mean squared inner product of weights and an example's gradient, with labels of the "
        "model's own distribution (on request)",
        r"$\theta_p^\top F_{pp}\,\theta_p$",
    ),
    "obd": Column(
        SINGLE,
        "nats",
        "half the sum of weight² x diagonal of the Hessian, estimated by probes (on request)",
        r"$\frac{1}{2}\sum_j\theta_j^2 H_{jj}$",
    ),
    "obd_se": Column(
        SINGLE,
        "nats",
        "standard error of obd over its probes (on request)",
        r"$\mathrm{SE}(\frac{1}{2}\sum_j\theta_j^2 H_{jj})$",
    ),
    "delta_loss": Column(
        SINGLE,
        "nats",
        "loss without the filter and its coupled group, minus the loss with it (on request)",
        r"$\Delta L_p$",
    ),
    "bn_taylor": Column(
        DOUBLE,
        "nats²",
        "squared derivative of the loss by a gate after the batch norm that follows: "
        "(scale x its gradient + shift x its gradient)²",
        r"$(\sigma g_\sigma+\beta g_\beta)^2$",
    ),
    "hg_norm2": Column(
        SINGLE,
        "nats⁴/weight⁶",
        "sum of squares of the Hessian-gradient product (on request)",
        r"$\|(Hg)_p\|^2$",
    ),
    "wanda": Column(
        SINGLE,
        "weight x input",
        "sum of |weight| x norm over the sample of the inputs that it multiplies",
        r"$\sum_j|\theta_j|\,\|x_j\|$",
    ),
    "fpgm": Column(
        SINGLE,
        "weight",
        "sum of the distances to the other kept filters of the layer",
        r"$\sum_q\|\theta_p-\theta_q\|$",
    ),
    "update_size": Column(
        SINGLE,
        "weight",
        "norm of the change of the weights in the last epoch",
        r"$\|\theta_p(t)-\theta_p(t-1)\|$",
    ),
    "distance_from_init": Column(
        SINGLE,
        "weight",
        "norm of the change of the weights since epoch 0",
        r"$\|\theta_p(t)-\theta_p(0)\|$",
    ),
}
