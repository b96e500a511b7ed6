"""Standard errors from half samples, compared with dense derivatives over all splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.measuring.building import build_objective
from pruneviz.measuring.drawn_errors import DRAWN_COLUMNS, HalfSamples, Level, drawn_errors
from pruneviz.measuring.options import Options
from pruneviz.measuring.snapshot import rows_of
from pruneviz.measuring.strata import Strata
from pruneviz.model.sample import as_batches
from tests.support.influences import influences, stratified_error

Halves = tuple[Tensor, Tensor]
GROUPING = {"coupled": [[("0.weight", 0, [p]), ("2.weight", 1, [p])] for p in range(3)]}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double()


def examples(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (count,), generator=generator)


def all_splits(level: Level) -> Iterator[Halves]:
    """Every split of every stratum of a level, with either half the larger one."""
    n = level.members.shape[1]
    for size in {n // 2, n - n // 2}:
        of_strata = [list(combinations(row.tolist(), size)) for row in level.members]
        for chosen in product(*of_strata):
            first = {i for own in chosen for i in own}
            rest = [i for i in level.members.flatten().tolist() if i not in first]
            yield torch.tensor(sorted(first)), torch.tensor(rest)


def mean_square(halves: HalfSamples, levels: Sequence[Level]) -> dict[str, dict[str, Tensor]]:
    """The mean of squared differences over all draws."""
    draws = list(product(*[list(all_splits(level)) for level in levels]))
    total: dict[str, dict[str, Tensor]] = {}
    for draw in draws:
        for column, of_layers in halves.differences(draw, DRAWN_COLUMNS).items():
            own = total.setdefault(column, {})
            for layer, rows in of_layers.items():
                own[layer] = own.get(layer, 0.0) + rows.square() / len(draws)
    return total


LEVELS = {
    "one stratum": [Level(torch.arange(6)[None])],
    "two equal strata": [Level(torch.tensor([[0, 3], [1, 4]])), Level(torch.tensor([[2, 5]]))],
    "unequal strata": [Level(torch.tensor([[0, 5]])), Level(torch.tensor([[1, 2, 3, 4]]))],
    "odd strata": [Level(torch.tensor([[0, 2, 4], [1, 3, 5]]))],
    "odd and even, finite populations": [
        Level(torch.tensor([[0, 2, 4]]), 0.4),
        Level(torch.tensor([[1, 3]]), 0.7),
        Level(torch.tensor([[5, 6]])),
    ],
}


@pytest.mark.parametrize("unit", ["filter", "weight", "grouping"])
@pytest.mark.parametrize("case", LEVELS)
def test_the_mean_over_all_splits_is_the_stratified_variance(case: str, unit: str) -> None:
    levels, model = LEVELS[case], network()
    strata = stratum_of_each(levels)
    x, y = examples(len(strata))
    options = Options(unit=GROUPING if unit == "grouping" else unit, temperatures=(1.0,))
    batches = as_batches([(x[:2], y[:2]), (x[2:], y[2:])], torch.device("cpu"), torch.float64)
    layers = rows_of(model, batches, options).layers
    sample = build_objective(model, batches, options)
    found = mean_square(HalfSamples(sample, layers, levels, options.row_kind, 2), levels)
    left = {strata[int(row[0])]: level.left for level in levels for row in level.members}
    for column, entries in influences(model, x, y).items():
        (rows,) = [rows_of_entries(entries, unit)]
        expected = stratified_error(rows, strata, left)
        (actual,) = found[column].values()
        torch.testing.assert_close(actual.sqrt(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", ["one stratum", "unequal strata"])
def test_the_error_of_absolute_values_is_half_the_difference_of_the_halves(case: str) -> None:
    levels, model = LEVELS[case], network()
    x, y = examples(6)
    batches = as_batches((x, y), torch.device("cpu"), torch.float64)
    options = Options(temperatures=(1.0,))
    layers = rows_of(model, batches, options).layers
    sample = build_objective(model, batches, options)
    halves = HalfSamples(sample, layers, levels, "filter", 6)
    for draw in list(product(*[list(all_splits(level)) for level in levels]))[:10]:
        found = halves.differences(draw, ["abs_theta_g_se"])["abs_theta_g_se"]["0"]
        sizes = [len(level.members.flatten()) / 6 for level in levels]
        first, second = (
            sum(
                share * gradient(model, x[part[half]], y[part[half]])
                for share, part in zip(sizes, draw, strict=True)
            )
            for half in (0, 1)
        )
        weight = model.get_parameter("0.weight").detach().abs()
        expected = (weight * (first.abs() - second.abs())).sum(1) / 2
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    loss = nn.functional.cross_entropy(model(x), y)
    return torch.autograd.grad(loss, [model.get_parameter("0.weight")])[0]


def stratum_of_each(levels: Sequence[Level]) -> list[int]:
    rows = [row.tolist() for level in levels for row in level.members]
    places = {i: number for number, row in enumerate(rows) for i in row}
    return [places[i] for i in range(len(places))]


def rows_of_entries(entries: dict[str, Tensor], unit: str) -> Tensor:
    """Influences [examples, rows] on the rows of a table."""
    first, last = entries["0.weight"], entries["2.weight"]
    if unit == "weight":
        return first.flatten(1)
    if unit == "filter":
        return first.sum(2)
    return first.sum(2) + last.sum(1)


def test_halves_of_whole_batches_give_the_spread_of_batches() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 3)).double()
    x, y = examples(20)
    batches = as_batches(
        [(x[at : at + 5], y[at : at + 5]) for at in range(0, 20, 5)],
        torch.device("cpu"),
        torch.float64,
    )
    options = Options(temperatures=(1.0,), bn="batch")
    layers = rows_of(model, batches, options).layers
    model.train()
    sample = build_objective(model, batches, options)
    levels = [Level(torch.arange(4)[None])]
    found = mean_square(HalfSamples(sample, layers, levels, "filter", 1), levels)["theta_g_se"]
    rows = torch.stack([theta_g(model, *batch) for batch in batches])
    torch.testing.assert_close(found["0"], rows.var(0) / 4, rtol=1e-9, atol=1e-14)


def theta_g(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model.get_parameter("0.weight") * gradient(model, x, y)).detach().sum(1)


def test_many_draws_of_a_seed_approach_the_mean_over_all_splits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pruneviz.measuring.drawn_errors.DRAWS", 150)
    levels, model = LEVELS["odd and even, finite populations"], network()
    x, y = examples(7)
    batches = as_batches((x, y), torch.device("cpu"), torch.float64)
    options = Options(temperatures=(1.0,))
    layers = rows_of(model, batches, options).layers
    sample = build_objective(model, batches, options)
    strata = stratum_of_each(levels)
    left = {strata[int(row[0])]: level.left for level in levels for row in level.members}
    drawn_by = Strata(torch.tensor(strata), torch.tensor([left[i] for i in range(len(left))]))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = drawn_errors(sample, layers, drawn_by, ["theta_g_se"], unit="filter", chunk=7, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    entries = influences(model, x, y)["theta_g_se"]
    expected = stratified_error(rows_of_entries(entries, "filter"), strata, left)
    torch.testing.assert_close(found["theta_g_se"]["0"], expected, rtol=0.2, atol=0.0)


def test_weights_that_vary_between_strata_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruneviz.measuring.drawn_errors.DRAWS", 200)
    generator, sizes = torch.Generator().manual_seed(3), torch.tensor([40, 16, 8])
    labels = torch.arange(3).repeat_interleave(sizes)
    x = 2 * torch.eye(4, dtype=torch.float64)[labels] + 0.5 * examples(64)[0]
    weights = torch.randn(64, generator=generator, dtype=torch.float64).exp()
    batch = {"x": x, "labels": labels, "weights": weights}

    def weighted(output: Tensor, target: dict[str, Tensor]) -> Tensor:
        each = nn.functional.cross_entropy(output, target["labels"], reduction="none")
        return (each * target["weights"]).sum() / target["weights"].sum()

    options = {
        "forward": lambda model, given: model(given["x"]),
        "loss": weighted,
        "loss_weight": lambda given: given["weights"],
        "temperatures": 1.0,
        "strata": "classes",
    }
    filters = pv.measure(network(), batch, **options)
    unit = {"filters": [[("0.weight", 0, [p])] for p in range(3)]}
    drawn = pv.measure(network(), batch, unit=unit, columns=["theta_g_se"], **options)
    expected = filters.loc[filters["layer"] == "0", "theta_g_se"]
    np.testing.assert_allclose(drawn["theta_g_se"], expected, rtol=0.15)


def test_an_error_with_one_example_in_a_stratum_is_not_known() -> None:
    model, (x, y) = network(), examples(5)
    batches = as_batches((x, y), torch.device("cpu"), torch.float64)
    options = Options(temperatures=(1.0,))
    layers = rows_of(model, batches, options).layers
    sample = build_objective(model, batches, options)
    strata = Strata(torch.tensor([0, 0, 0, 0, 1]), torch.ones(2))
    found = drawn_errors(sample, layers, strata, DRAWN_COLUMNS, unit="filter", chunk=5, seed=0)
    assert {name: rows["0"].isnan().all().item() for name, rows in found.items()} == dict.fromkeys(
        DRAWN_COLUMNS, True
    )
