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

from pruneviz.errors import ScoreError

RANDOM_WITH_SEED = re.compile(r"random_s([0-9]+)")  # names of the measure `random` by its seed

# Fact of a run: number of examples (or batches) whose spread gives the standard errors.
SAMPLE_SIZE = "sample_size"
LAYER_WEIGHTS = "layer_weights"  # attribute of snapshots: {layer: number of its weights}

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


def fisher_block(filters: pd.DataFrame) -> pd.Series:
    """theta_p^T F_pp theta_p, with the Fisher information F of the model's own distribution, nats².

    Half of it is the second-order change of the loss when a filter is removed from a trained
    network, with the products of its weights, but without other filters.

    References:
        Singh and Alistarh, "WoodFisher", NeurIPS 2020. Kunstner et al., "Limitations of the
        empirical Fisher approximation for natural gradient descent", NeurIPS 2019.
    """
    return _numbers(filters, "fisher_block")


def obd(filters: pd.DataFrame) -> pd.Series:
    """Half the sum over a filter's weights of theta_j^2 H_jj, in nats; signed.

    References:
        LeCun et al., "Optimal Brain Damage", NIPS 1989.
    """
    return _numbers(filters, "obd")


def delta_loss(filters: pd.DataFrame) -> pd.Series:
    """What the loss gains when a filter is removed, in nats: the oracle.

    Pruning the lowest first removes filters without which the loss is lowest. Null for filters that
    were not drawn.
    """
    return _numbers(filters, "delta_loss")


def gate_fisher(filters: pd.DataFrame) -> pd.Series:
    """E[(theta_p^T g_n)^2] over the N examples n, with g_n their own gradients, in nats².

    It equals (theta_p^T g)^2 + (N - 1) se^2: the variance over the examples, with the divisor N, is
    N - 1 times the squared standard error of independent draws, which has the divisor N - 1.

    References:
        Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018: the
        Fisher information of a gate on a filter.
        Liu et al., "Group Fisher Pruning for Practical Network Compression", ICML 2021.
    """
    mean, error = _numbers(filters, "theta_g"), _numbers(filters, "theta_g_se_iid")
    return mean**2 + (_numbers(filters, SAMPLE_SIZE) - 1) * error**2


def fpgm(filters: pd.DataFrame) -> pd.Series:
    """Sum of the distances of a filter to the other kept filters of its layer, in weight units.

    The filter with the lowest sum is the one nearest to the geometric median of the layer.

    References:
        He et al., "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
        Acceleration", CVPR 2019.
    """
    return _numbers(filters, "fpgm")


def update_size(filters: pd.DataFrame) -> pd.Series:
    """Norm of the change of a filter's weights in the last epoch, in weight units."""
    return _numbers(filters, "update_size")


def distance_from_init(filters: pd.DataFrame) -> pd.Series:
    """Norm of the change of a filter's weights since epoch 0, in weight units.

    References:
        Zhou et al., "Deconstructing Lottery Tickets", NeurIPS 2019: masks by the movement of
        weights.
    """
    return _numbers(filters, "distance_from_init")


def bn_taylor(filters: pd.DataFrame) -> pd.Series:
    """(sigma g_sigma + beta g_beta)^2 of the batch norm that follows a filter, in nats².

    It is the squared first-order change of the loss when a gate after the batch norm closes.

    References:
        Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019.
    """
    return _numbers(filters, "bn_taylor")


def wanda(filters: pd.DataFrame) -> pd.Series:
    """Sum over a filter's weights of |theta_j| times the norm of its inputs x_j over the sample.

    References:
        Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024,
        for single weights.
    """
    return _numbers(filters, "wanda")


def lamp(filters: pd.DataFrame) -> pd.Series:
    """theta_j^2 divided by the sum of all squared weights of the layer that are not smaller.

    Needs all weights of every layer, as in a snapshot with unit="weight", because the sum runs over
    them; equal weights have equal scores. 0 for a weight of 0.

    Raises:
        ScoreError: If the table has only some weights of a layer.

    References:
        Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021.
    """
    by = [key for key in ("run", "epoch", "layer") if key in filters.columns]
    group = filters.groupby(by, observed=True).ngroup().to_numpy()
    _check_whole_layers(filters, group)
    squares = _numbers(filters, "theta").to_numpy(na_value=np.nan) ** 2
    scores = np.full(len(filters), np.nan)
    for rows in pd.Series(range(len(group))).groupby(group).indices.values():
        scores[rows] = _share_of_larger(squares[rows])
    return pd.Series(scores, index=filters.index)


def random(filters: pd.DataFrame, seed: int = 0) -> pd.Series:
    """Reproducible draw from the uniform distribution on (0, 1), the control for every measure.

    The draw is a hash of the seed and the keys that the table has among run, epoch, layer, filter
    and weight. It therefore depends neither on the order of the rows nor on other rows, and draws
    for two runs or epochs are independent if the table has these columns. It changes with the name
    of a run, also if `pruneviz.load` puts a folder before it ("a/run0"). Other draws are measures
    by name: `random_s1` is the one with seed 1, and `random_s0` is `random`.
    """
    keys = [key for key in _KEYS if key in filters.columns]
    table = filters[keys].astype({k: "int64" for k in keys if _is_whole(filters[k])})
    bits = pd.util.hash_pandas_object(table, index=False).to_numpy(dtype=np.uint64)
    if "weight" in filters.columns:
        # A null weight, as in a log of filters, counts as a missing column: place 0 is mixed to 0.
        weight = filters["weight"].to_numpy(dtype="float64", na_value=-1)
        place = (np.nan_to_num(weight, nan=-1) + 1).astype(np.uint64)
        bits = bits ^ _mixed(place)
    if seed:
        # Mixed in between: else seed and weight could be exchanged for the same draw.
        bits = _mixed(bits) ^ _mixed(np.array([seed], dtype=np.uint64))
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
    "fisher_block": fisher_block,
    "obd": obd,
    "delta_loss": delta_loss,
    "random": random,
    "gate_fisher": gate_fisher,
    "fpgm": fpgm,
    "update_size": update_size,
    "distance_from_init": distance_from_init,
    "bn_taylor": bn_taylor,
    "wanda": wanda,
    "lamp": lamp,
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
    "fisher_block": ("fisher_block",),
    "obd": ("obd",),
    "delta_loss": ("delta_loss",),
    "random": ("layer", "filter"),
    "gate_fisher": ("theta_g", "theta_g_se_iid", SAMPLE_SIZE),
    "fpgm": ("fpgm",),
    "update_size": ("update_size",),
    "distance_from_init": ("distance_from_init",),
    "bn_taylor": ("bn_taylor",),
    "wanda": ("wanda",),
    "lamp": ("theta", "layer", "filter", "weight"),
}


def _share_of_larger(squares: np.ndarray) -> np.ndarray:
    """Each square divided by the sum of those that are not smaller; 0 for 0, NaN for NaN."""
    values, places, counts = np.unique(squares, return_inverse=True, return_counts=True)
    sums = np.nancumsum((values * counts)[::-1])[::-1]
    return np.divide(values, sums, out=np.where(np.isnan(values), np.nan, 0.0), where=sums > 0)[
        places
    ]


def _check_whole_layers(filters: pd.DataFrame, group: np.ndarray) -> None:
    keys = filters[["layer", "filter", "weight"]].assign(group=group).dropna(subset="weight")
    found = keys.groupby("group").agg(
        layer=("layer", "first"),
        rows=("weight", "size"),
        filters=("filter", "nunique"),
        last=("weight", "max"),
    )
    held = filters.attrs.get(LAYER_WEIGHTS, {})
    known = [held.get(str(layer), 0) for layer in found["layer"]]
    partial = found[found["rows"] < np.maximum(found["filters"] * (found["last"] + 1), known)]
    if len(partial):
        first = partial.iloc[0]
        raise ScoreError(
            f"lamp compares all weights of a layer, and the table has only {first['rows']} of "
            f"layer {first['layer']}; measure a snapshot with unit='weight', or record all weights "
            "with a Recorder with unit='weight' and a larger rows"
        )


def _is_whole(key: pd.Series) -> bool:
    """Whether all are whole numbers, in any dtype; each dtype would be hashed otherwise."""
    return pd.api.types.is_numeric_dtype(key) and bool((key == key.round()).fillna(False).all())


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
