"""The built-in pruning measures: pure functions from a filters table to one importance per row.

The rows with the lowest importance are pruned first. The same functions rank filters during pruning
and in the analysis of a log, so each measure has one formula. A null in a column that a measure
needs gives a null score, never 0: a filter that was not measured is not an unimportant one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

RANDOM_WITH_SEED = re.compile(r"random_s([0-9]+)")  # names of the measure `random` by its seed

_KEYS = ("run", "epoch", "layer", "filter")


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


def delta_loss(filters: pd.DataFrame) -> pd.Series:
    """What the loss gains when a filter is removed, in nats: the oracle.

    Pruning the lowest first removes filters without which the loss is lowest. Null for filters that
    were not drawn.
    """
    return _numbers(filters, "delta_loss")


def random(filters: pd.DataFrame, seed: int = 0) -> pd.Series:
    """Reproducible draw from the uniform distribution on (0, 1), the control for every measure.

    The draw is a hash of the seed and the keys that the table has among run, epoch, layer, filter
    and weight. It therefore depends neither on the order of the rows nor on other rows, and draws
    for two runs or epochs are independent if the table has these columns. Other draws are measures
    by name: `random_s1` is the one with seed 1, and `random_s0` is `random`.
    """
    keys = [key for key in _KEYS if key in filters.columns]
    bits = pd.util.hash_pandas_object(filters[keys], index=False).to_numpy(dtype=np.uint64)
    if "weight" in filters.columns:
        # A null weight, as in a log of filters, counts as a missing column: place 0 is mixed to 0.
        weight = filters["weight"].to_numpy(dtype="float64", na_value=-1)
        place = (np.nan_to_num(weight, nan=-1) + 1).astype(np.uint64)
        bits = bits ^ _mixed(place)
    bits = bits ^ _mixed(np.array([seed], dtype=np.uint64))  # seed 0 is mixed to 0
    # A float64 holds 53 bits; half a step keeps both ends out.
    return pd.Series(((_mixed(bits) >> np.uint64(11)) + 0.5) * 2.0**-53, index=filters.index)


# Pruning measures by name.
SCORES: Mapping[str, Callable[[pd.DataFrame], pd.Series]] = {
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
    "delta_loss": delta_loss,
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
    "delta_loss": ("delta_loss",),
    "random": ("layer", "filter"),
}


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
