"""Correlations against scipy and by hand, intervals by simulation, and means over seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pruneviz.analysis.correlation import Interval, correlate, over_seeds
from pruneviz.analysis.scores import score
from pruneviz.errors import AnalysisError, ScoreError
from pruneviz.log.vocabulary import CorrelationMethod, with_companion
from tests.support.plain_statistics import (
    effective_number,
    interval_over_seeds,
    jackknife,
    nested_bootstrap,
    symmetric_bootstrap,
    symmetric_log,
)

METHODS: Mapping[CorrelationMethod, Callable[..., Any]] = {
    "pearson": stats.pearsonr,
    "spearman": stats.spearmanr,
    "kendall": stats.kendalltau,
}


def filters_table(runs: int = 2, epochs: int = 3, filters: int = 30, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = [[f"r{i}" for i in range(runs)], range(epochs), ["a", "b"], range(filters // 2)]
    keys = pd.MultiIndex.from_product(names, names=["run", "epoch", "layer", "filter"])
    table = keys.to_frame(index=False)
    theta_g = rng.normal(size=len(table))
    return table.assign(
        theta_g=theta_g,
        theta_hg=theta_g + rng.normal(size=len(table)),
        theta_norm2=rng.random(len(table)),
    )


def one_group(x: object, y: object) -> pd.DataFrame:
    return pd.DataFrame({"x": x, "y": y})


def groups_of(x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    """One group for each row of two arrays [group, pair]."""
    run = np.repeat(np.arange(len(x)), x.shape[1])
    return pd.DataFrame({"run": run, "x": x.ravel(), "y": y.ravel()})


def r_of(table: pd.DataFrame, x: str = "x", y: str = "y", **options: Any) -> float:
    """The r of a table that is a single group."""
    return correlate(table, x, y, by=[], **options)["r"].item()


def normal_pairs(rho: float, groups: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, groups, n))
    return x, rho * x + np.sqrt(1 - rho**2) * noise


def coverage(found: pd.DataFrame, true: float) -> float:
    return float(((found["low"] <= true) & (true <= found["high"])).mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "by", [["run", "epoch"], ["run", "epoch", "layer"], ["layer"], ["epoch", "run"]]
)
def test_coefficients_equal_scipy_group_by_group(method: CorrelationMethod, by: list[str]) -> None:
    filters = filters_table()
    found = correlate(filters, "theta_g", "theta_hg", by=by, method=method)
    groups = filters.groupby(by)
    expected = [METHODS[method](rows["theta_g"], rows["theta_hg"]).statistic for _, rows in groups]
    assert found.columns.tolist() == [*by, "n", "n_eff", "r", "low", "high"]
    assert found[by].to_numpy().tolist() == [list(key) for key, _ in groups]
    assert found["n"].tolist() == groups.size().tolist()
    np.testing.assert_allclose(found["r"], expected, rtol=1e-12)


def test_coefficients_by_hand() -> None:
    table = one_group([1, 2, 3, 4, 5], [2, 1, 4, 3, 50])
    # Deviations are -2 -1 0 1 2 and -10 -11 -8 -9 38. Ranks differ by two swaps. Two of 10 pairs
    # are discordant.
    expected = {
        "pearson": 98 / np.sqrt(10 * 1810),
        "spearman": 1 - 6 * 4 / 120,
        "kendall": (8 - 2) / 10,
    }
    found = {method: r_of(table, method=method) for method in METHODS}
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_invariances(method: CorrelationMethod) -> None:
    x, y = normal_pairs(0.5, 8, 40)
    r = correlate(groups_of(x, y), "x", "y", by=["run"], method=method)["r"]
    variants = [
        (groups_of(y, x), 1),
        (groups_of(3 * x + 2, y), 1),
        (groups_of(-x, y), -1),
        (groups_of(x[:, ::-1], y[:, ::-1]), 1),
    ]
    for other, sign in variants:
        found = correlate(other, "x", "y", by=["run"], method=method)["r"]
        np.testing.assert_allclose(found, sign * r, rtol=1e-10)


def test_a_monotone_transform_does_not_change_rank_correlations() -> None:
    x, y = normal_pairs(0.5, 8, 40)
    rank_methods: tuple[CorrelationMethod, ...] = ("spearman", "kendall")
    for method in rank_methods:
        plain = correlate(groups_of(x, y), "x", "y", by=["run"], method=method)
        transformed = groups_of(np.exp(5 * x), y)
        found = correlate(transformed, "x", "y", by=["run"], method=method)
        pd.testing.assert_frame_equal(found, plain)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-30, 1e30, 1e160, 1e300])
def test_pearson_of_tiny_and_huge_values_neither_underflows_nor_overflows(scale: float) -> None:
    x, y = normal_pairs(0.5, 1, 200)
    expected = pytest.approx(np.corrcoef(x[0], y[0])[0, 1], rel=1e-10)
    assert r_of(one_group(x[0] * scale, y[0])) == expected
    assert r_of(one_group(x[0], y[0] * scale)) == expected


def test_pearson_over_ten_decades_equals_exact_arithmetic() -> None:
    rng = np.random.default_rng(0)
    x = (rng.choice([-1, 1], 300) * 10 ** rng.uniform(-12, -2, 300)).astype("float32")
    y = (x * rng.uniform(0.5, 2, 300)).astype("float32")
    a, b = (exact_deviations(values) for values in (x, y))
    sab, saa, sbb = (exact_sum(one, other) for one, other in ((a, b), (a, a), (b, b)))
    exact = float(sab) / np.sqrt(float(saa)) / np.sqrt(float(sbb))
    assert r_of(one_group(x, y)) == pytest.approx(exact, rel=1e-12)


def exact_deviations(values: np.ndarray) -> list[Fraction]:
    exact = [Fraction(float(value)) for value in values]
    mean = sum(exact, Fraction(0)) / len(exact)
    return [value - mean for value in exact]


def exact_sum(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum((p * q for p, q in zip(a, b, strict=True)), Fraction(0))


def test_float32_columns_are_correlated_in_float64() -> None:
    x = np.float32(1000) + np.arange(2000, dtype="float32") / 1024
    expected = np.corrcoef(x.astype(float), (x**2).astype(float))[0, 1]
    assert r_of(one_group(x, x**2)) == pytest.approx(expected, rel=1e-9)


def test_rows_with_a_null_in_either_are_left_out() -> None:
    x, y = [1.0, 2, 3, 4, 5, 6, None], [2.0, 1, 4, None, 3, 7, 8]
    expected = np.corrcoef([1, 2, 3, 5, 6], [2, 1, 4, 3, 7])[0, 1]
    for dtype in ("float32", "Float64", "object"):
        table = one_group(x, y).astype(dtype).infer_objects()
        found = correlate(table, "x", "y", by=[])
        assert found["n"].item() == 5
        assert found["r"].item() == pytest.approx(expected, rel=1e-6)


def test_epochs_without_derivative_columns_give_no_row() -> None:
    filters = filters_table()
    filters["theta_hg"] = filters["theta_hg"].where(filters["epoch"] != 1)
    assert correlate(filters, "theta_g", "theta_hg")["epoch"].tolist() == [0, 2, 0, 2]


def test_nothing_to_correlate_gives_an_empty_table() -> None:
    for by in (["run", "epoch"], []):
        found = correlate(filters_table().assign(theta_g=np.nan), "theta_g", "theta_hg", by=by)
        assert found.empty and found.columns.tolist() == [*by, "n", "n_eff", "r", "low", "high"]


@pytest.mark.parametrize("by", [["run", "epoch"], ["layer"], []])
def test_effective_numbers_equal_plain_loops(by: list[str]) -> None:
    filters = filters_table()
    groups = [rows for _, rows in filters.groupby(by)] if by else [filters]
    changes: Mapping[CorrelationMethod, Callable[[pd.Series], Any]] = {
        "pearson": lambda values: values,
        "spearman": stats.rankdata,
        "symlog": symmetric_log,
    }
    for method, change in changes.items():
        found = correlate(filters, "theta_g", "theta_hg", by=by, method=method)
        pairs = [(list(change(g["theta_g"])), list(change(g["theta_hg"]))) for g in groups]
        expected = [effective_number(x, y) for x, y in pairs]
        np.testing.assert_allclose(found["n_eff"], expected, rtol=1e-10)
        r = [np.corrcoef(x, y)[0, 1] for x, y in pairs]
        np.testing.assert_allclose(found["r"], r, rtol=1e-10)
    assert correlate(filters, "theta_g", "theta_hg", by=by, method="kendall")["n_eff"].isna().all()


def test_effective_number_of_known_cases() -> None:
    signs = np.tile([-1.0, 1.0], 50)
    one = np.append(np.zeros(9999), 1.0)
    rng = np.random.default_rng(0)
    known = {
        "all filters alike": (signs, 3 * signs, 100.0),
        "one filter alone": (one, one, 1.0),  # up to 1 / n, the share of the others
        "cancelled": (signs, np.repeat([-1.0, 1.0], 50), 0.0),
    }
    for x, y, expected in known.values():
        found = correlate(one_group(x, y), "x", "y", by=[])["n_eff"].item()
        assert found == pytest.approx(expected, abs=1e-3)
    # Below 4, |r| is within two of its standard errors, whose squares sum w^2 estimates.
    x, y = rng.normal(size=(2, 400, 200))
    unrelated = correlate(groups_of(x, y), "x", "y", by=["run"], interval=None)["n_eff"]
    assert (unrelated > 3.84).mean() == pytest.approx(0.05, abs=0.025)


def test_the_effective_number_does_not_depend_on_scale() -> None:
    x, y = normal_pairs(0.5, 3, 40)
    plain = correlate(groups_of(x, y), "x", "y", by=["run"])["n_eff"]
    scaled = correlate(groups_of(x * 1e-200, 5 - y * 1e30), "x", "y", by=["run"])["n_eff"]
    np.testing.assert_allclose(scaled, plain, rtol=1e-8)


def test_symlog_is_between_values_and_ranks_for_heavy_tails() -> None:
    rng = np.random.default_rng(0)
    x = np.append(rng.normal(size=200), 1e6)
    table = one_group(x, np.append(rng.normal(size=200), 1e6))
    r = {method: r_of(table, method=method) for method in ("pearson", "symlog", "spearman")}
    assert r["pearson"] > 0.99 > 0.9 > r["symlog"] > abs(r["spearman"])


def test_what_stands_beside_a_coefficient() -> None:
    assert with_companion("pearson") == ("pearson", "spearman", "symlog")
    assert with_companion("spearman") == ("spearman", "pearson", "symlog")
    assert with_companion("symlog") == ("symlog", "spearman", "pearson")
    assert with_companion("kendall") == ("kendall", "spearman", "pearson", "symlog")


@pytest.mark.parametrize("interval", ["fisher", "filters"])
@pytest.mark.parametrize("method", METHODS)
def test_small_and_constant_groups_are_null_without_a_warning(
    method: CorrelationMethod, interval: Interval
) -> None:
    options: dict[str, Any] = {"method": method, "interval": interval, "resamples": 50}
    sizes = np.repeat([0, 1, 2, 3, 4], [1, 2, 3, 4, 5])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=15), rng.normal(size=15)
    table = pd.DataFrame({"run": sizes, "x": x, "y": y, "zero": 0.0, "ten": 0.1})
    found = correlate(table, "x", "y", by=["run"], **options)
    assert found["n"].tolist() == [1, 2, 3, 4, 5]
    assert found["r"].isna().tolist() == [True, True, False, False, False]
    enough = found["n"] >= (5 if (method, interval) == ("kendall", "fisher") else 4)
    assert found["low"].notna().tolist() == found["high"].notna().tolist() == enough.tolist()
    for constant in ("zero", "ten"):
        found = correlate(table, constant, "y", by=["run"], **options)
        assert found[["r", "low", "high"]].isna().all(axis=None)


def test_a_spread_that_is_rounding_error_has_no_pearson() -> None:
    x = 1.0 + np.arange(20) * 2.0**-52
    table = one_group(x, np.arange(20))
    assert np.isnan(r_of(table))
    assert r_of(table, method="spearman") == pytest.approx(1)


def test_infinite_values_have_ranks_but_no_pearson() -> None:
    table = one_group([1, 2, 3, 4, np.inf], [1, 2, 3, 4, 5])
    assert correlate(table, "x", "y", by=[])[["r", "low", "high"]].isna().all(axis=None)
    assert r_of(table, method="spearman") == pytest.approx(1)


def test_categoricals_keep_their_dtype_and_unused_categories_give_no_row() -> None:
    filters = filters_table()
    plain = correlate(filters, "theta_g", "theta_hg", by=["run", "layer"])
    kinds = {
        "run": pd.CategoricalDtype(["r0", "r1", "r9"]),
        "layer": pd.CategoricalDtype(["b", "a"]),
    }
    found = correlate(filters.astype(kinds), "theta_g", "theta_hg", by=["run", "layer"])
    assert found["layer"].tolist() == ["b", "a", "b", "a"]  # the order of the categories
    assert found.dtypes[["run", "layer"]].tolist() == list(kinds.values())
    as_text = found.astype({"run": "str", "layer": "str"})
    merged = plain.merge(as_text, on=["run", "layer"], suffixes=("", "_found"))
    np.testing.assert_allclose(merged["r_found"], merged["r"])


def test_rows_with_a_null_key_belong_to_no_group() -> None:
    filters = filters_table()
    first = filters["layer"] == "a"
    nulls = filters.assign(layer=filters["layer"].where(first))
    found = correlate(nulls, "theta_g", "theta_hg", by=["layer"])
    expected = correlate(filters[first], "theta_g", "theta_hg", by=["layer"])
    pd.testing.assert_frame_equal(found, expected)


def test_order_and_index_of_the_rows_do_not_matter() -> None:
    filters = filters_table()
    found = correlate(filters.sample(frac=1, random_state=0), "theta_g", "theta_hg")
    pd.testing.assert_frame_equal(found, correlate(filters, "theta_g", "theta_hg"))


def test_x_and_y_may_be_measures_and_a_column_wins() -> None:
    filters = filters_table()
    by_measure = correlate(filters, "magnitude", "gradient_norm_preservation")
    columns = filters.assign(m=score(filters, "magnitude"), p=filters["theta_hg"].abs())
    pd.testing.assert_frame_equal(by_measure, correlate(columns, "m", "p"))
    same = filters.assign(magnitude=filters["theta_hg"])
    assert (correlate(same, "magnitude", "theta_hg")["r"] > 1 - 1e-12).all()


def test_by_takes_a_single_name() -> None:
    filters = filters_table()
    pd.testing.assert_frame_equal(
        correlate(filters, "theta_g", "theta_hg", by="epoch"),
        correlate(filters, "theta_g", "theta_hg", by=["epoch"]),
    )


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_fisher_interval_of_pearson_equals_scipy(level: float) -> None:
    filters = filters_table()
    found = correlate(filters, "theta_g", "theta_hg", level=level, interval="fisher")
    expected = [
        stats.pearsonr(rows["theta_g"], rows["theta_hg"]).confidence_interval(level)
        for _, rows in filters.groupby(["run", "epoch"])
    ]
    np.testing.assert_allclose(found[["low", "high"]], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("spearman", lambda r: np.sqrt((1 + r**2 / 2) / 27)),
        ("kendall", lambda r: np.sqrt(0.437 / 26)),
    ],
)
def test_fisher_interval_of_ranks_is_as_published(
    method: CorrelationMethod, error: Callable[[float], float]
) -> None:
    found = correlate(filters_table(), "theta_g", "theta_hg", method=method, interval="fisher")
    assert (found["n"] == 30).all()
    for r, low, high in found[["r", "low", "high"]].to_numpy():
        half = 1.959964 * error(r)
        expected = np.arctanh(r) + half * np.array([-1, 1])
        assert np.arctanh([low, high]) == pytest.approx(expected, rel=1e-6)


def test_a_perfect_correlation_is_its_own_interval() -> None:
    x = np.arange(10.0)
    for method in METHODS:
        for sign in (1, -1):
            found = correlate(one_group(x, sign * x), "x", "y", by=[], method=method)
            np.testing.assert_allclose(found[["r", "low", "high"]].to_numpy()[0], sign, rtol=1e-7)


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_intervals_cover_the_truth_as_often_as_they_claim(rho: float) -> None:
    table = groups_of(*normal_pairs(rho, 800, 40, seed=1))
    # The coefficients of a bivariate normal distribution.
    truths: Mapping[CorrelationMethod, float] = {
        "pearson": rho,
        "spearman": 6 / np.pi * np.arcsin(rho / 2),
        "kendall": 2 / np.pi * np.arcsin(rho),
    }
    for method, truth in truths.items():
        found = correlate(table, "x", "y", by=["run"], method=method, interval="fisher")
        assert coverage(found, truth) == pytest.approx(0.95, abs=0.02)


def test_heavy_tails_make_fisher_too_narrow_and_the_bootstrap_wider() -> None:
    rho, n = 0.7, 200
    x, y = (np.exp(values) for values in normal_pairs(rho, 50, n, seed=2))
    truth = (np.exp(rho) - 1) / (np.e - 1)  # Pearson's r of two log-normal variables
    fisher = correlate(groups_of(x, y), "x", "y", by=["run"], interval="fisher")
    bootstrap = correlate(groups_of(x, y), "x", "y", by=["run"], interval="filters", resamples=50)
    pd.testing.assert_series_equal(fisher["r"], bootstrap["r"])
    assert coverage(fisher, truth) < 0.8 < coverage(bootstrap, truth)


def test_bootstrap_equals_fisher_where_fisher_holds() -> None:
    table = groups_of(*normal_pairs(0.6, 3, 400))
    for method in METHODS:
        fisher = correlate(table, "x", "y", by=["run"], method=method, interval="fisher")
        bootstrap = correlate(
            table, "x", "y", by=["run"], method=method, interval="filters", resamples=200
        )
        np.testing.assert_allclose(bootstrap[["low", "high"]], fisher[["low", "high"]], atol=0.03)
        assert (bootstrap["low"] < bootstrap["r"]).all()
        assert (bootstrap["r"] < bootstrap["high"]).all()


def test_bootstrap_is_repeatable_and_does_not_depend_on_other_groups() -> None:
    table = groups_of(*normal_pairs(0.6, 3, 40))
    options: dict[str, Any] = {"by": ["run"], "interval": "filters", "resamples": 50}
    found = correlate(table, "x", "y", **options)
    alone = correlate(table[table["run"] == 2], "x", "y", **options)
    pd.testing.assert_frame_equal(found[found["run"] == 2].reset_index(drop=True), alone)
    other = correlate(table, "x", "y", **options, seed=1)
    assert (other["low"] != found["low"]).all()


# Intervals of layers and runs


def layered(
    runs: int = 3, layers: int = 6, filters: int = 12, seed: int = 0, spread: float = 0.5
) -> pd.DataFrame:
    """Filters of layers that differ in size, scale and slope, with heavy tails."""
    rng = np.random.default_rng(seed)
    parts = []
    for run in range(runs):
        for layer in range(layers):
            n = filters + 3 * layer
            scale, slope = np.exp(rng.normal(size=2) * spread)
            x = scale * rng.standard_t(4, size=n)
            y = slope * x + scale * rng.normal(size=n)
            keys = {"run": f"r{run}", "epoch": 0, "layer": f"l{layer}"}
            parts.append(pd.DataFrame({**keys, "x": x, "y": y}))
    return pd.concat(parts, ignore_index=True)


def in_units(table: pd.DataFrame, names: list[str], method: CorrelationMethod) -> list[Any]:
    """Pairs of each unit as a method takes them: values, ranks or logarithms of the whole."""
    change: Callable[[pd.Series], Any] = {
        "spearman": stats.rankdata,
        "symlog": symmetric_log,
    }.get(method, np.asarray)
    values = table.assign(x=change(table["x"]), y=change(table["y"]))
    groups = {tuple(map(hashed, key)): rows for key, rows in values.groupby(names)}
    return [groups[key][["x", "y"]].to_numpy() for key in sorted(groups)]


def hashed(name: str) -> int:
    """The number that orders units, so that no order of rows matters."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@pytest.mark.parametrize("method", ["pearson", "spearman", "symlog", "kendall"])
def test_the_layer_bootstrap_equals_plain_loops(method: CorrelationMethod) -> None:
    table = layered(runs=1)
    found = correlate(table, "x", "y", method=method, resamples=40, seed=3).iloc[0]
    plain = symmetric_bootstrap(in_units(table, ["layer"], method), 40, 3, method == "kendall")
    assert tuple(found[["low", "high"]]) == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("method", ["pearson", "spearman", "symlog", "kendall"])
def test_intervals_over_runs_equal_plain_loops(method: CorrelationMethod) -> None:
    table = layered(runs=3, layers=4)
    of_tau = method == "kendall"
    by_run = correlate(table, "x", "y", by="epoch", method=method, interval="seeds").iloc[0]
    plain = jackknife(in_units(table, ["run"], method), of_tau)
    assert tuple(by_run[["low", "high"]]) == pytest.approx(plain, rel=1e-9)
    options: dict[str, Any] = {"interval": "hierarchical", "resamples": 40, "seed": 3}
    both = correlate(table, "x", "y", by="epoch", method=method, **options).iloc[0]
    cells = in_units(table, ["run", "layer"], method)
    plain = nested_bootstrap(cells, [run for run in range(3) for _ in range(4)], 40, 3, of_tau)
    assert tuple(both[["low", "high"]]) == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("scale", [1e6, 1e8, 1e12])
def test_one_layer_of_far_larger_values_leaves_the_others_exact(scale: float) -> None:
    table = layered(runs=1, layers=8)
    table.loc[table["layer"] == "l3", ["x", "y"]] *= scale
    found = correlate(table, "x", "y", resamples=60, seed=3).iloc[0]
    units = in_units(table, ["layer"], "pearson")
    assert tuple(found[["low", "high"]]) == pytest.approx(symmetric_bootstrap(units, 60, 3))


@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall"])
def test_an_r_that_one_layer_makes_could_be_anything(method: CorrelationMethod) -> None:
    table = layered(runs=1)
    table["x"] = table["x"].where(table["layer"] == "l3", 0.0)
    found = correlate(table, "x", "y", method=method).iloc[0]
    assert -1 < found["r"] < 1 and tuple(found[["low", "high"]]) == (-1, 1)


def test_draws_without_a_coefficient_count_as_beyond_the_ends() -> None:
    # Of 5 layers of one filter each, a jackknifed draw needs 4 different ones to have an error.
    random = np.random.default_rng(3)
    x, y = random.normal(size=(2, 1500))
    table = pd.DataFrame(
        {"run": np.arange(1500) // 5, "layer": np.arange(1500) % 5, "x": x, "y": y}
    )
    found = correlate(table, "x", "y", by="run", resamples=99)
    assert ((found["low"] <= 0) & (found["high"] >= 0)).mean() > 0.93  # 0.73 if they are dropped


@pytest.mark.parametrize("interval", ["layers", "filters"])
@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall"])
def test_intervals_do_not_depend_on_the_order_of_rows(
    method: CorrelationMethod, interval: Interval
) -> None:
    table = layered(runs=1)
    mixed = table.sample(frac=1, random_state=1)
    options: dict[str, Any] = {"method": method, "interval": interval, "resamples": 50}
    one, other = (correlate(rows, "x", "y", **options) for rows in (table, mixed))
    pd.testing.assert_frame_equal(one, other, rtol=1e-9)


def test_a_group_too_large_for_kendall_is_told() -> None:
    x = np.arange(60_000) % 11.0
    table = pd.DataFrame({"run": "a", "layer": x, "x": x, "y": np.arange(60_000) % 7.0})
    for options in ({"interval": "layers"}, {"interval": "filters"}):
        with pytest.raises(AnalysisError, match=r"60,000 pairs, .* choose interval='fisher'"):
            correlate(table, "x", "y", by="run", method="kendall", **options)  # type: ignore[arg-type]
    with pytest.raises(AnalysisError, match="choose resamples=1000, interval='fisher' or None"):
        few = table.head(200).merge(pd.Series(range(1000), name="z"), how="cross").head(50_000)
        correlate(few, "x", "y", by="run", method="kendall", interval="filters", resamples=1001)


def test_what_auto_resamples() -> None:
    table = layered(layers=6)
    options: dict[str, Any] = {"resamples": 30}
    by_layer = ["run", "layer"]
    cases = [
        ({}, {"interval": "layers"}),
        ({"by": by_layer}, {"by": by_layer, "interval": "filters"}),
    ]
    for auto, named in cases:
        found = correlate(table, "x", "y", **auto, **options)
        pd.testing.assert_frame_equal(found, correlate(table, "x", "y", **named, **options))
    bare = table.drop(columns="layer")
    found = correlate(bare, "x", "y", **options)
    pd.testing.assert_frame_equal(found, correlate(bare, "x", "y", interval="filters", **options))
    none = correlate(table, "x", "y", interval=None)
    assert none[["low", "high"]].isna().all(axis=None) and none["r"].notna().all()


def test_few_layers_say_nothing_and_more_say_more() -> None:
    four = correlate(layered(layers=4), "x", "y")
    assert (four["low"] == -1).all() and (four["high"] == 1).all()
    found = correlate(layered(layers=20), "x", "y", resamples=99)
    assert (found["high"] - found["low"]).between(0.01, 1.5).all()
    assert ((found["low"] < found["r"]) & (found["r"] < found["high"])).all()


def test_one_layer_that_decides_makes_the_interval_wide() -> None:
    even = layered(runs=1, layers=20, spread=0.1)
    first = even["layer"] == "l0"
    loud = even.assign(x=even["x"] * np.where(first, 100, 1), y=even["y"] * np.where(first, 100, 1))
    widths = [
        (found["high"] - found["low"]).item()
        for found in (correlate(table, "x", "y", resamples=199) for table in (even, loud))
    ]
    assert widths[1] > 3 * widths[0]
    fisher = correlate(loud, "x", "y", interval="fisher")
    assert widths[1] > 3 * (fisher["high"] - fisher["low"]).item()


@pytest.mark.parametrize("interval", ["layers", "seeds", "hierarchical"])
def test_perfect_correlations_are_their_own_interval(interval: Interval) -> None:
    table = layered().assign(y=lambda rows: -rows["x"])
    found = correlate(table, "x", "y", by="epoch", interval=interval, resamples=20).iloc[0]
    np.testing.assert_allclose(found[["r", "low", "high"]].astype(float), -1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"interval": "layers", "by": ["run", "layer"]}, "resamples layer, and by=.* leave layer"),
        ({"interval": "seeds"}, "resamples run, and by=.* leave run out of by"),
        ({"interval": "hierarchical", "by": ["layer"]}, "run and layer, and by=.* leave layer"),
        ({"interval": "seeds", "by": ["network"]}, "a group holds a single one; .*several runs"),
        ({"interval": "hierarchical", "by": ["network"]}, "a group holds a single one"),
    ],
)
def test_units_that_are_not_there_are_told(options: dict[str, Any], told: str) -> None:
    table = layered().assign(network=lambda rows: rows["run"])
    with pytest.raises(AnalysisError, match=told):
        correlate(table, "x", "y", **options)
    with pytest.raises(AnalysisError, match="the table has no column layer; add it, or choose"):
        correlate(table.drop(columns="layer"), "x", "y", interval="layers")


def test_an_unknown_quantity_lists_columns_and_measures() -> None:
    with pytest.raises(
        AnalysisError,
        match=r"no column or measure 'theta_gg'; did you mean 'theta_g'\? Choose one of run, "
        r".*theta_hg, .*magnitude, ",
    ):
        correlate(filters_table(), "theta_gg", "theta_hg")


def test_a_measure_without_its_column_is_told_as_by_score() -> None:
    with pytest.raises(ScoreError, match="measure bn_scale needs sigma"):
        correlate(filters_table(), "theta_g", "bn_scale")


def test_a_column_of_text_is_refused() -> None:
    for text in ("str", "category"):
        with pytest.raises(AnalysisError, match=r"column 'layer' holds .*, not numbers"):
            correlate(filters_table().astype({"layer": text}), "theta_g", "layer")


def test_an_unknown_group_is_told_with_its_repair() -> None:
    with pytest.raises(
        AnalysisError, match=r"the table has no network.*runs\.with_spec\('filters', 'network'\)"
    ):
        correlate(filters_table(), "theta_g", "theta_hg", by=["network", "epoch"])
    with pytest.raises(
        AnalysisError,
        match=r"by=\['colour'\]: there is no column 'colour'; choose one of run, epoch",
    ):
        correlate(filters_table(), "theta_g", "theta_hg", by=["colour"])
    with pytest.raises(
        AnalysisError, match=r"by=\['run', 'epoch'\]: there is no column 'run'; .*by=\[\]"
    ):
        correlate(filters_table().drop(columns=["run", "epoch"]), "theta_g", "theta_hg")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "cosine"}, "choose one of pearson, spearman, kendall, symlog"),
        ({"interval": "exact"}, "choose one of auto, layers, seeds, hierarchical, filters, fisher"),
        ({"level": 95}, "confidence between 0 and 1"),
        ({"resamples": 0}, "resamples=0; give a whole number"),
        ({"resamples": 1.5}, "resamples=1.5; give a whole number"),
        ({"resamples": "a"}, "resamples='a'; give a whole number"),
        ({"seed": -1}, "seed=-1; give a whole number"),
        ({"seed": None}, "seed=None; give a whole number"),
        ({"level": float("nan")}, "confidence between 0 and 1"),
    ],
)
def test_unknown_choices_list_what_exists(options: dict[str, object], told: str) -> None:
    with pytest.raises(AnalysisError, match=told):
        correlate(filters_table(), "theta_g", "theta_hg", **options)  # type: ignore[arg-type]


# Means over seeds

AVERAGES = ["seeds", "r", "sd", "low", "high", "r_min", "r_max"]
SPEC = pd.DataFrame(
    {
        "run": ["a0", "a1", "a2", "b0"],
        "network": ["a", "a", "a", "b"],
        "dataset": "digits",
        "seed": [0, 1, 2, 0],
    }
)


def correlations(r: list[float], runs: list[str] | None = None, epoch: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"run": runs or SPEC["run"].tolist(), "epoch": epoch, "n": 10, "r": r})


def test_mean_over_seeds_by_hand() -> None:
    found = over_seeds(correlations([0.1, 0.2, 0.6, 0.5]), SPEC).set_index("network")
    assert found.columns.tolist() == ["dataset", "epoch", *AVERAGES]
    # Deviations are -0.2 -0.1 0.3, the variance 0.14 / 2. atanh(r) is 0.1003 0.2027 0.6931, with
    # mean 0.3321 and standard deviation 0.3168; 4.302653 is the 97.5 % quantile of Student's t with
    # 2 degrees of freedom.
    low, high = interval_over_seeds([0.1, 0.2, 0.6])
    assert (low, high) == pytest.approx(
        (np.tanh(0.3321 - 0.7870), np.tanh(0.3321 + 0.7870)), abs=1e-3
    )
    expected = {
        "seeds": 3,
        "r": 0.3,
        "sd": np.sqrt(0.07),
        "low": low,
        "high": high,
        "r_min": 0.1,
        "r_max": 0.6,
    }
    numbers = found.loc["a", list(expected)].astype("float64")
    assert numbers.to_dict() == pytest.approx(expected, rel=1e-6)
    assert (found.loc["b", ["seeds", "r", "r_min", "r_max"]] == [1, 0.5, 0.5, 0.5]).all()
    assert found.loc["b", ["sd", "low", "high"]].isna().all()


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_interval_over_seeds_equals_scipy(level: float) -> None:
    r = [0.1, 0.2, 0.6, 0.5]
    found = over_seeds(correlations(r), SPEC, by=["dataset"], level=level).iloc[0]
    assert tuple(found[["low", "high"]]) == pytest.approx(interval_over_seeds(r, level))


def test_intervals_over_seeds_stay_in_range_and_two_seeds_say_little() -> None:
    spec = SPEC.assign(network=["a", "a", "b", "b"])
    found = over_seeds(correlations([0.5, 0.6, 0.99, 0.9999]), spec, by=["network"])
    np.testing.assert_allclose(
        found.loc[0, ["low", "high"]].astype(float), [-0.28, 0.91], atol=0.01
    )
    assert 0.99 < found.loc[1, "high"] <= 1 and found.loc[1, "low"] < 0.5


@pytest.mark.parametrize(
    ("r", "ends"),
    [
        ([1.0, 1.0, 1.0, 1.0], (1, 1)),
        ([-1.0, -1.0, -1.0, -1.0], (-1, -1)),
        ([1 - 1e-16, 1 - 2e-16, 1.0, 1.0], (1, 1)),
        ([-1 + 1e-16] * 4, (-1, -1)),
        # atanh(1) is infinite: Student's t of r itself, mean 0.75, error 0.25 / sqrt(3), cut at 1
        ([0.5, 0.5, 1.0, 1.0], (0.75 - 3.182446 * 0.25 / np.sqrt(3), 1)),
    ],
)
def test_perfect_correlations_over_seeds_have_an_interval(
    r: list[float], ends: tuple[float, float]
) -> None:
    found = over_seeds(correlations(r), SPEC, by=["dataset"]).iloc[0]
    assert tuple(found[["low", "high"]]) == pytest.approx(ends)


def test_runs_without_a_correlation_do_not_count_as_seeds() -> None:
    found = over_seeds(correlations([0.1, np.nan, 0.6, np.nan]), SPEC).set_index("network")
    assert found["seeds"].to_dict() == {"a": 2, "b": 0}
    assert found.loc["a", "r"] == pytest.approx(0.35)
    assert found.loc["b"].drop(["seeds", "dataset", "epoch"]).isna().all()


def test_categoricals_do_not_change_the_means() -> None:
    filters, by = filters_table(runs=3), ["network", "epoch", "layer"]
    spec = pd.DataFrame({"run": ["r0", "r1", "r2"], "network": ["a", "a", "b"]})
    groups = ["run", "epoch", "layer"]
    each = correlate(filters, "theta_g", "theta_hg", by=groups)
    coded = correlate(filters.astype({"run": "category"}), "theta_g", "theta_hg", by=groups)
    expected = each.merge(spec, on="run").groupby(by)["r"].mean()
    combinations = [
        (each, spec),
        (coded, spec),
        (coded, spec.astype({"network": "category"})),
        (each.astype({"run": "category"}), spec),
    ]
    for correlated, facts in combinations:
        found = over_seeds(correlated, facts, by=by)
        assert found[by].to_numpy().tolist() == [list(key) for key in expected.index]
        np.testing.assert_allclose(found["r"], expected)


def test_unused_categories_of_networks_give_no_row() -> None:
    spec = SPEC.astype({"network": "category"}).iloc[:3]
    of_a = correlations([0.1, 0.2, 0.6], ["a0", "a1", "a2"]).astype({"run": "category"})
    found = over_seeds(of_a, spec, by=["network"])
    assert found["network"].tolist() == ["a"] and found["seeds"].tolist() == [3]


def test_runs_without_a_network_are_a_group() -> None:
    spec = SPEC.assign(network=pd.Series(["a", None, None, None], dtype="object"))
    found = over_seeds(correlations([0.1, 0.2, 0.6, 0.5]), spec)
    assert found["seeds"].tolist() == [1, 3]


def test_no_correlations_give_no_rows() -> None:
    found = over_seeds(correlations([0.1, 0.2, 0.6, 0.5]).iloc[:0], SPEC)
    assert found.empty
    assert found.columns.tolist() == ["network", "dataset", "epoch", *AVERAGES]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"spec": SPEC.iloc[:3]}, "spec lacks b0"),
        ({"spec": pd.concat([SPEC, SPEC])}, "names a run twice"),
        ({"spec": SPEC.drop(columns="run")}, "spec has no column run; .* one row per run"),
        (
            {"correlations": correlations([0, 0, 0, 0]).drop(columns="run")},
            r"no column run; .* correlate with 'run' among by",
        ),
        (
            {"by": ["colour"]},
            r"by=\['colour'\]: there is no column 'colour'; choose one of run, epoch, n, r, net",
        ),
        ({"by": []}, "by is empty"),
        ({"level": 1.0}, "confidence between 0 and 1"),
        (
            {
                "correlations": pd.concat([correlations([0, 0, 0, 0], epoch=e) for e in (0, 1)]),
                "by": ["network"],
            },
            "run a0 has several correlations",
        ),
    ],
)
def test_bad_arguments_of_a_mean_are_told(change: dict[str, Any], told: str) -> None:
    arguments = {"correlations": correlations([0.1, 0.2, 0.6, 0.5]), "spec": SPEC, **change}
    with pytest.raises(AnalysisError, match=told):
        over_seeds(**arguments)
