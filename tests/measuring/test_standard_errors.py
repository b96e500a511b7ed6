"""Standard errors of the sample as it was drawn: plain formulas, and fresh samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import MeasureError

EXACT: Mapping[str, Any] = {"dtype": torch.float64, "temperatures": 1.0}
ERRORS = ["theta_g_se", "theta_hg_se_given_g"]
CLASSES, N = 4, 24
torch.manual_seed(0)
X = torch.randn(N, 6, dtype=torch.float64) + 0.5
BALANCED, UNEQUAL = torch.arange(N) % CLASSES, (torch.arange(N) ** 2 // 40) % CLASSES
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES)).double()


def terms(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """theta_p^T g_n and theta_p^T H_n g of the first layer and every example, unweighted loss."""
    model = network()
    weight, parameters = model[0].weight, list(model.parameters())
    shares = torch.full((len(x),), 1 / len(x), dtype=torch.float64)
    return _terms(model, weight, parameters, x, y, shares)


def _terms(
    model: nn.Module,
    weight: Tensor,
    parameters: list[Tensor],
    x: Tensor,
    y: Tensor,
    shares: Tensor,
) -> dict[str, Tensor]:
    losses = [F.cross_entropy(model(x[n : n + 1]), y[n : n + 1]) for n in range(len(x))]
    total = sum(share * loss for share, loss in zip(shares, losses, strict=True))
    g = [part.detach() for part in torch.autograd.grad(total, parameters, retain_graph=True)]
    first, second = [], []
    for loss in losses:
        own = torch.autograd.grad(loss, parameters, create_graph=True)
        first.append((weight * own[0]).sum(1).detach())
        slope = sum((a * b).sum() for a, b in zip(own, g, strict=True))
        second.append((weight * torch.autograd.grad(slope, weight)[0]).sum(1).detach())
    return {"theta_g_se": torch.stack(first), "theta_hg_se_given_g": torch.stack(second)}


def by_class(values: Tensor, strata: Tensor, left: Mapping[int, float] | None = None) -> Tensor:
    """The root of the sum over classes of (n_c / N)^2 s_c^2 / n_c, times what is left."""
    square = torch.zeros_like(values[0])
    for c in strata.unique().tolist():
        own = values[strata == c]
        rest = 1.0 if left is None else left[c]
        square += rest * (len(own) / len(values)) ** 2 * own.var(0) / len(own)
    return square.sqrt()


def measured(x: Tensor, y: Tensor, **options: Any) -> Any:
    return pv.measure(network(), (x, y), **{**EXACT, **options})


@pytest.mark.parametrize("chunk", [None, 1, 5])
@pytest.mark.parametrize(
    ("labels", "strata", "stratified"),
    [
        (BALANCED, "auto", True),
        (BALANCED, "classes", True),
        (BALANCED, None, False),
        (UNEQUAL, "auto", False),
        (UNEQUAL, "classes", True),
    ],
    ids=["balanced", "said so", "said not", "unequal", "unequal, said so"],
)
def test_they_are_those_of_plain_autograd(
    labels: Tensor, strata: str | None, stratified: bool, chunk: int | None
) -> None:
    frame = measured(X, labels, strata=strata, chunk=chunk)
    drawn_by = labels if stratified else torch.zeros_like(labels)
    for name, values in terms(X, labels).items():
        np.testing.assert_allclose(frame[name], by_class(values, drawn_by), rtol=1e-9)
        if name == "theta_g_se":
            plain = by_class(values, torch.zeros_like(labels))
            np.testing.assert_allclose(frame["theta_g_se_iid"], plain, rtol=1e-9)
    assert frame.attrs["se_df"] == N - (CLASSES if stratified else 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_neither_order_nor_batches_nor_chunks_matter(weighted: bool) -> None:
    loss = nn.CrossEntropyLoss(weight=WEIGHTS) if weighted else None
    want = measured(X, BALANCED, loss=loss)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    x, y = X[order], BALANCED[order]
    batches = list(zip(x.split([7, 1, 16]), y.split([7, 1, 16]), strict=True))
    found = pv.measure(network(), batches, loss=loss, chunk=4, **EXACT)
    for name in (*ERRORS, *([] if weighted else ["theta_g_se_iid"])):
        np.testing.assert_allclose(found[name], want[name], rtol=1e-9, err_msg=name)
    assert found.attrs["se_df"] == want.attrs["se_df"]


def test_a_class_with_one_example_shares_a_stratum() -> None:
    labels = torch.tensor([0] * 10 + [1] * 12 + [2, 3])
    frame = measured(X, labels, strata="classes")
    together = labels.clamp(max=2)  # the two single ones
    alone = torch.tensor([0] * 10 + [1] * 13 + [2])  # joins the smaller of the others
    values = terms(X, labels)["theta_g_se"]
    np.testing.assert_allclose(frame["theta_g_se"], by_class(values, together), rtol=1e-9)
    assert frame.attrs["se_df"] == N - 3
    frame, values = measured(X, alone, strata="classes"), terms(X, alone)["theta_g_se"]
    joined = torch.where(alone == 2, 0, alone)
    np.testing.assert_allclose(frame["theta_g_se"], by_class(values, joined), rtol=1e-9)


def test_what_was_drawn_from_a_finite_population_varies_less() -> None:
    values = terms(X, BALANCED)["theta_g_se"]
    whole = by_class(values, BALANCED)
    for population, factor in ((4 * N, 0.75), (dict.fromkeys(range(4), N), 0.75)):
        frame = measured(X, BALANCED, population=population)
        np.testing.assert_allclose(frame["theta_g_se"], factor**0.5 * whole, rtol=1e-9)
        assert frame["theta_g_se_iid"].equals(measured(X, BALANCED)["theta_g_se_iid"])
    held = {0: 6, 1: 12, 2: 60, 3: 600}
    found = measured(X, BALANCED, population=held)["theta_g_se"]
    left = {c: 1 - N / CLASSES / n for c, n in held.items()}
    np.testing.assert_allclose(found, by_class(values, BALANCED, left), rtol=1e-9)
    assert (measured(X, BALANCED, population=N)["theta_g_se"] == 0).all()
    for wrong, said in (
        (N - 1, "24 examples, more than the 23 of population"),
        ({0: 5, 1: 9, 2: 9, 3: 9}, "6 examples of label 0, more than the 5"),
        ({0: 50}, "no number of examples of label 1"),
        (2.5, r"population=2\.5; give the number"),
        ({}, "population={}; give"),
    ):
        with pytest.raises(MeasureError, match=said):
            measured(X, BALANCED, population=wrong)


@pytest.mark.parametrize("strata", ["auto", "classes", None])
def test_a_population_holds_the_sample_class_by_class_however_it_was_drawn(
    strata: str | None,
) -> None:
    uneven = torch.arange(N) % CLASSES % 3  # twice as many of class 0
    with pytest.raises(MeasureError, match="12 examples of label 0, more than the 10"):
        measured(X, uneven, strata=strata, population={0: 10, 1: 300, 2: 300})


@pytest.mark.parametrize(
    ("labels", "population"),
    [
        (BALANCED, 40),
        (torch.arange(N) % CLASSES % 3, 40),  # twice as many of class 0
        (torch.arange(N) % CLASSES % 3, {0: 20, 1: 10, 2: 10}),
    ],
    ids=["even", "uneven", "uneven, by class"],
)
def test_ignored_examples_were_not_drawn_from_the_population(
    labels: torch.Tensor, population: int | dict[int, int]
) -> None:
    ignored = labels.clone()
    ignored[:CLASSES] = -100
    expected = (1 - (N - CLASSES) / 40) ** 0.5 * measured(X, ignored)["theta_g_se"]
    found = measured(X, ignored, population=population)["theta_g_se"]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_other_ways_of_drawing_are_refused_by_name() -> None:
    with pytest.raises(MeasureError, match="strata='class'; choose 'auto', 'classes'"):
        measured(X, BALANCED, strata="class")
    probabilities = torch.eye(CLASSES, dtype=torch.float64)[BALANCED] * 0.7 + 0.3 / CLASSES
    with pytest.raises(MeasureError, match=r"strata='classes' needs .* no integer labels"):
        measured(X, probabilities, strata="classes")
    with pytest.raises(MeasureError, match=r"strata='classes' needs .* own statistics"):
        measured(X, BALANCED, strata="classes", bn="batch")


# Unequal weights: a ratio of two means


def ratio_error(values: Tensor, weights: Tensor, strata: Tensor) -> Tensor:
    """Of sum of w x / sum of w: residuals w (x - ratio), within strata."""
    ratio = weights @ values / weights.sum()
    residuals = weights[:, None] * (values - ratio) / weights.mean()
    return by_class(residuals, strata)


@pytest.mark.parametrize("strata", ["auto", None])
@pytest.mark.parametrize("chunk", [None, 5])
@pytest.mark.parametrize("labels", [BALANCED, UNEQUAL], ids=["balanced", "unequal"])
def test_weighted_losses_have_the_error_of_a_ratio(
    labels: Tensor, chunk: int | None, strata: str | None
) -> None:
    loss = nn.CrossEntropyLoss(weight=WEIGHTS)
    frame = measured(X, labels, loss=loss, chunk=chunk, strata=strata)
    weights = WEIGHTS[labels]
    model = network()
    shares = weights / weights.sum()
    values = _terms(model, model[0].weight, list(model.parameters()), X, labels, shares)
    stratified = strata == "auto" and labels is BALANCED
    drawn_by = labels if stratified else torch.zeros_like(labels)
    for name in ERRORS:
        want = ratio_error(values[name], weights, drawn_by)
        np.testing.assert_allclose(frame[name], want, rtol=1e-9)
    assert frame["theta_g_se_iid"].isna().all() and pv.score(frame, "gate_fisher").isna().all()


@pytest.mark.parametrize("strata", ["auto", "classes", None])
def test_ignored_labels_are_no_observations(strata: str | None) -> None:
    labels = BALANCED.clone()
    labels[:6] = -100
    labels[6:] = torch.arange(N - 6) % 3
    frame = measured(X, labels, strata=strata)
    counted = labels != -100
    values = terms(X[counted], labels[counted])["theta_g_se"]
    classes = labels[counted]
    want = by_class(values, torch.zeros_like(classes) if strata is None else classes)
    np.testing.assert_allclose(frame["theta_g_se"], want, rtol=1e-9)
    assert frame.attrs["se_df"] == (N - 6) - (1 if strata is None else 3)


# Against the spread of fresh samples


def drawn(rng: np.random.Generator, design: str) -> tuple[Tensor, Tensor]:
    """Examples around a centre of their class, which lies far from the others'."""
    y = np.arange(60) % CLASSES if design == "balanced" else rng.integers(CLASSES, size=60)
    centres = 1.5 * np.eye(CLASSES, 6)
    x = centres[y] + rng.normal(size=(60, 6))
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize("design", ["balanced", "iid"])
def test_those_of_weighted_losses_are_the_spread_of_fresh_samples(design: str) -> None:
    rng = np.random.default_rng(0)
    loss = nn.CrossEntropyLoss(weight=WEIGHTS)
    columns = ["theta_g", "theta_g_se"]
    frames = [measured(*drawn(rng, design), loss=loss, columns=columns) for _ in range(50)]
    values, errors = (np.stack([frame[name] for frame in frames]) for name in columns)
    ratio = np.sqrt((errors**2).mean(0)) / values.std(0, ddof=1)
    assert (np.abs(ratio - 1) < 0.25).all(), ratio
