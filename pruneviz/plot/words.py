"""Numbers, names and lists as pictures and captions print them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pruneviz.console.shown_text import short

COEFFICIENT_NAMES = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "kendall": "Kendall",
    "symlog": "symmetric-log Pearson",
}
SYMBOLS = {
    "pearson": "Pearson r",
    "spearman": "Spearman ρ",
    "kendall": "Kendall τ",
    "symlog": "symlog r",
}
SHORT = {"pearson": "r", "spearman": "ρ", "kendall": "τ", "symlog": "r of logs"}

# Networks of the paper.
NETWORK_TITLES: Mapping[str, str] = {
    "vgg13": "VGG-13",
    "mobilenet_v1": "MobileNet-V1",
    "resnet56": "ResNet-56",
}
# Pruning measures under the names in the paper's legends.
MEASURE_TITLES: Mapping[str, str] = {
    "magnitude": "Magnitude",
    "proposed": "Proposed",
    "loss_preservation": "Loss-pres.",
    "grasp_t200": "GraSP (T = 200)",
    "grasp": "GraSP (T = 1)",
    "gradient_norm_preservation": "Gradient-norm pres.",
}
# Physical units of pruning measures; others have none.
MEASURE_UNITS: Mapping[str, str] = {
    "magnitude": "weight",
    "l1_norm": "weight",
    "theta_change": "weight²",
    "loss_preservation": "nats",
    "loss_preservation_abs_of_sum": "nats",
    "snip": "nats",
    "proposed": "weight x nats",
    "grasp_t200": "nats²/weight²",
    "grasp": "nats²/weight²",
    "gradient_norm_preservation": "nats²/weight²",
    "fisher": "nats²",
}
DATASET_TITLES: Mapping[str, str] = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tiny-imagenet": "Tiny-ImageNet",
}


def named(name: object) -> str:
    """A name that others gave, on one line; of an overlong one the beginning and the end.

    What cannot be seen is written as its escape, and a name of spaces alone in quotes.
    """
    return short(name) if str(name).strip() else repr(str(name))


def network_title(network: str) -> str:
    """Title of a network; networks that are not in the paper keep their own name."""
    return NETWORK_TITLES.get(network) or named(network)


def measure_title(measure: str) -> str:
    """Title of a pruning measure; measures that are not in the paper keep their name."""
    return MEASURE_TITLES.get(measure) or named(measure)


def dataset_title(dataset: str) -> str:
    """Title of a data set."""
    return DATASET_TITLES.get(dataset) or named(dataset)


def decimal(value: float, digits: int = 2) -> str:
    """A number with a true minus sign and no negative zero; `undefined` for an absent one."""
    if value is None or math.isnan(value):
        return "undefined"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def scientific(value: float) -> str:
    """A number of any size in few characters: `0.25`, `1e−7`, `2.4e6`."""
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return (f"{mantissa}e{int(exponent)}" if exponent else mantissa).replace("-", "−")


def mean_and_sd(mean: float, sd: float, digits: int = 2) -> str:
    """`0.93 ± 0.02`, or `0.93` without a spread, as for a single seed."""
    if math.isnan(sd) or math.isnan(mean):
        return decimal(mean, digits)
    return f"{decimal(mean, digits)} ± {decimal(sd, digits)}"


def percent(fraction: float, sd: float = math.nan, digits: int = 1) -> str:
    """`65.0 %`, or with its spread `65.0 ± 0.3 %`."""
    return f"{mean_and_sd(100 * fraction, 100 * sd, digits)} %"


def interval(low: float, high: float) -> str:
    """The interval of a correlation in brackets.

    Student's t can give ends beyond -1 and 1; they are cut there.
    """
    if math.isnan(low) or math.isnan(high):
        return "[no interval]"
    return f"[{decimal(max(low, -1.0), 3)}, {decimal(min(high, 1.0), 3)}]"


def listed(items: Iterable[object]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}" if most else last
