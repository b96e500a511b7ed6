"""Columns of the table `flow`: what training did to the norms of filters, and what was predicted.

A row holds sums over the metered steps of an epoch, of a change, of its prediction, of both squares
and of their product. Slopes and R^2 over any set of filters and epochs follow from these sums, so
that no step needs to be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pruneviz.log.filter_columns import DOUBLE, INT, KEY, Column


@dataclass(frozen=True)
class Prediction:
    """A predicted change per step, and the change that it is compared with.

    Attributes:
        change: Column of the change.
        steps: Column of the number of steps.
        unit: Physical unit of both.
        meaning: Formula of the prediction.
        of: What changes, as a label in TeX.
    """

    change: str
    steps: str
    unit: str
    meaning: str
    of: str = r"$\|\theta_p\|^2$"


# η: effective learning rate; λ: weight decay; s: step; d = g + λ θ on the mini-batch of the step
PREDICTIONS: Mapping[str, Prediction] = {
    "flow": Prediction("change", "steps", "weight²", "-2 η θ^T g, gradient flow alone"),
    "gradient": Prediction(
        "change", "steps", "weight²", "-2 η θ^T d + η² norm(d)², an Euler step; SGD only"
    ),
    "momentum": Prediction(
        "change",
        "steps",
        "weight²",
        "`gradient` plus what d has in common with the momentum of earlier steps; SGD only",
    ),
    "update": Prediction(
        "change",
        "steps",
        "weight²",
        "2 θ^T s + norm(s)², with s from the learning rate and the momentum buffer; SGD only",
    ),
    "curvature": Prediction(
        "theta_g_change",
        "sample_steps",
        "nats",
        "-(g^T v + θ^T H v) on the sample before the step, v = η (g + λ θ); SGD only",
        r"$\theta_p^\top g_p$",
    ),
    "displacement": Prediction(
        "theta_g_change",
        "sample_steps",
        "nats",
        "g^T s + θ^T H s on the sample after the step, with s the step that was taken",
        r"$\theta_p^\top g_p$",
    ),
}

# Sums of parts, which tell what moves a norm.
PARTS: Mapping[str, str] = {
    "decay": "-2 η λ norm(θ)², the part of weight decay in `gradient`",
    "second": "η² norm(d)², the second-order part of `gradient`",
    "memory": "the part of `momentum` that `gradient` lacks",
    "sample_flow": "-2 η θ^T g on the sample, at sample steps",
}


def square(name: str) -> str:
    """Name of the column with the sum of squares of a change or prediction."""
    return f"{name}_squares"


def product(prediction: str) -> str:
    """Name of the column with the sum of products of a prediction and its change."""
    return f"{prediction}_by_change"


def _sums() -> Iterator[tuple[str, str, str]]:
    """Name, unit and meaning of every column with a sum, in the order of the table."""
    seen = set()
    for name, prediction in PREDICTIONS.items():
        unit, change = prediction.unit, prediction.change
        if change not in seen:
            seen.add(change)
            of_norm = change == "change"
            what = "norm(θ)²" if of_norm else "θ^T g on the sample"
            at = "metered steps" if of_norm else "sample steps"
            yield change, unit, f"change of {what}, summed over {at}"
            yield square(change), f"({unit})²", f"the same, squared at every step ({at})"
        yield name, unit, f"sum of {prediction.meaning}"
        yield square(name), f"({unit})²", f"sum of squares of `{name}` at every step"
        yield product(name), f"({unit})²", f"sum of `{name}` x `{change}` at every step"
    for name, meaning in PARTS.items():
        yield name, "weight²", f"sum of {meaning}"


FLOW: Mapping[str, Column] = {
    "run": Column(KEY, "", "name of the run"),
    "epoch": Column(INT, "epochs", "epochs trained so far, the one of these steps included"),
    "layer": Column(KEY, "", "name of the layer, as in the filters table"),
    "filter": Column(INT, "", "output channel of the unpruned layer"),
    "steps": Column(INT, "", "metered steps of the optimiser in this epoch"),
    "sample_steps": Column(INT, "", "those before which the sample was measured"),
    **{name: Column(DOUBLE, unit, meaning) for name, unit, meaning in _sums()},
}
