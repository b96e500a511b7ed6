"""fisher_block against a float64 Fisher matrix; drawn labels, units, weights and refusals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import MeasureError
from tests.support.cases import BY_NAME, CASES, Case, as_pair
from tests.support.reference import Twin, sample_of

EXACT = {"dtype": torch.float64}


def class_gradients(twin: Twin, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Gradients of -log p(c | x) [examples x classes, Theta], and p(c | x) of each."""

    def surprises(theta: Tensor) -> Tensor:
        logits = torch.cat([out for out, _ in twin.outputs(theta)]) / temperature
        return -logits.log_softmax(1).flatten()

    g = torch.autograd.functional.jacobian(surprises, twin.theta)
    return g, (-surprises(twin.theta)).exp()


def fisher_blocks(twin: Twin, layer: str, temperature: float = 1.0) -> Tensor:
    """theta_p^T F_pp theta_p of every filter, from F itself."""
    g, chances = class_gradients(twin, temperature)
    examples = sum(len(y) for _, y in twin.batches)
    fisher = g.T @ (chances[:, None] * g) / examples
    at = twin.positions(f"{layer}.weight").flatten(1)
    return torch.stack([twin.theta[p] @ fisher[p][:, p] @ twin.theta[p] for p in at])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_with_few_classes_the_fisher_block_is_exact(case: Case) -> None:
    model, batches = case.model(), sample_of("eval")
    table = pv.measure(model, batches, columns="fisher_block", temperatures=(2.0,))
    twin = Twin(model, batches)
    want = torch.cat([fisher_blocks(twin, layer, 2.0) for layer in case.layers])
    np.testing.assert_allclose(table["fisher_block"], want, rtol=1e-9)
    assert (table["fisher_block"] > 0).any()  # not of dead filters


@pytest.mark.parametrize("name", ["conv_bn_relu", "residual"])
def test_drawn_labels_approach_it_and_follow_the_seed(name: str) -> None:
    model, batches = BY_NAME[name].model(), sample_of("eval")
    columns = {"columns": "fisher_block"}
    exact = pv.measure(model, batches, **columns)["fisher_block"]
    few, again, other, many = (
        _drawn(model, batches, probes, seed) for probes, seed in ((2, 0), (2, 0), (2, 1), (400, 0))
    )
    assert few.equals(again) and not few.equals(other)
    assert (many / exact - 1).abs().max() < 0.15
    assert (many / exact - 1).abs().mean() < (few / exact - 1).abs().mean()


def _drawn(model: nn.Module, batches: object, probes: int, seed: int) -> pd.Series:
    """The column with labels drawn for outputs of shape [N, C, 1], whose mean is not exact."""

    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x)[..., None]

    images, labels = as_pair(batches)  # type: ignore[arg-type]
    table = pv.measure(
        Positions(), (images, labels[:, None]), columns="fisher_block", probes=probes, seed=seed
    )
    return table["fisher_block"]


def test_rows_of_weights_and_of_units_add_other_products() -> None:
    model, batches = BY_NAME["mlp"].model(), sample_of("eval")
    twin = Twin(model, batches)
    g, chances = class_gradients(twin)
    weights = pv.measure(model, batches, columns="fisher_block", unit="weight")
    at = twin.positions("1.weight").flatten()
    want = (chances[:, None] * (twin.theta[at] * g[:, at]).square()).sum(0) / 11
    np.testing.assert_allclose(weights["fisher_block"][: len(at)], want, rtol=1e-9)
    grouping = {"both": [[("1.weight", 0, 0), ("4.weight", 1, 0)], [("4.weight", 0, [1, 2])]]}
    units = pv.measure(model, batches, columns="fisher_block", unit=grouping)
    first, second = twin.positions("1.weight"), twin.positions("4.weight")
    for row, entries in enumerate((torch.cat([first[0], second[:, 0]]), second[1:3].flatten())):
        products = g[:, entries] @ twin.theta[entries]
        want = (chances * products.square()).sum() / 11
        assert units["fisher_block"][row] == pytest.approx(float(want), rel=1e-9)


def test_half_of_it_is_the_loss_of_removing_where_the_fit_is_perfect() -> None:
    """At a small step from zero loss, theta scaled by 1 - e changes the loss by e^2/2 F."""
    model, (images, _) = BY_NAME["plain"].model(), as_pair(sample_of("eval"))
    targets = model.eval()(images).softmax(1).detach()  # the model's own distribution: g = 0
    column = pv.measure(model, (images, targets), columns="fisher_block")["fisher_block"]
    step = 1e-3
    with torch.no_grad():
        before = float(F.cross_entropy(model(images), targets))
        model[0].weight[1] *= 1 - step
        after = float(F.cross_entropy(model(images), targets))
    assert (after - before) / (step**2 / 2) == pytest.approx(column[1], rel=1e-2)


def test_ignored_labels_and_class_weights_leave_a_mean_over_counted_examples() -> None:
    model, (images, labels) = BY_NAME["plain"].model(), as_pair(sample_of("eval"))
    kept = pv.measure(model, (images[3:], labels[3:]), columns="fisher_block")
    labels = labels.clone()
    labels[:3] = 7
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), ignore_index=7)
    found = pv.measure(model, (images, labels), columns="fisher_block", loss=loss)
    np.testing.assert_allclose(found["fisher_block"], kept["fisher_block"], rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bn": "batch"}, r"fisher_block needs the gradient of every example.*use bn='eval'"),
        ({"loss": lambda out, y: F.cross_entropy(out, y)}, r"needs logits and their cross-entropy"),
    ],
)
def test_without_examples_or_logits_it_is_refused(
    options: dict[str, Callable[..., Tensor]], message: str
) -> None:
    with pytest.raises(MeasureError, match=message):
        pv.measure(
            BY_NAME["conv_bn_relu"].model(), sample_of("eval"), columns="fisher_block", **options
        )
