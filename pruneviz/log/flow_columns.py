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


# η: learning rate, effective where marked; λ: weight decay; s: step; on the mini-batch of the step
# unless the sample is named
PREDICTIONS: Mapping[str, Prediction] = {
    "flow": Prediction(
        "change", "steps", "weight²", "-2 η θ^T g, gradient flow alone, at the effective rate η"
    ),
    "gradient": Prediction(
        "change",
        "steps",
        "weight²",
        "-2 η θ^T (g + λ θ) + η² norm(g + λ θ)², an Euler step at the effective rate η; SGD only",
    ),
    "update": Prediction(
        "change",
        "steps",
        "weight²",
        "2 θ^T s + norm(s)², with s from the learning rate and the momentum buffer; SGD only",
    ),
    "sample": Prediction(
        "sample_change",
        "sample_steps",
        "weight²",
        "`gradient` with θ^T g on the measurement sample in place of the mini-batch; SGD only",
    ),
    "curvature": Prediction(
        "theta_g_change",
        "sample_steps",
        "nats",
        "-(g^T v + θ^T H v) on the measurement sample, v = η (g + λ θ) at the effective rate η; "
        "SGD only",
        r"$\theta_p^\top g_p$",
    ),
}

# Sums of parts of `gradient`, which tell what moves a norm.
PARTS: Mapping[str, str] = {
    "decay": "-2 η λ norm(θ)², the part of weight decay in `gradient`",
    "second": "η² norm(g + λ θ)², the second-order part of `gradient`",
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
            what = "θ^T g on the sample" if change == "theta_g_change" else "norm(θ)²"
            at = "sample steps" if prediction.steps == "sample_steps" else "metered steps"
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
