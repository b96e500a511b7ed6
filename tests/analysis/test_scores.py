"""Pruning measures against plain numpy and values by hand, and tables that lack columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.matrix import recorded_measures
from pruneviz.analysis.scores import NEEDS, SCORES, score
from pruneviz.errors import ScoreError
from pruneviz.log.runs import Runs, load
from pruneviz.log.schema import FILTERS, ON_REQUEST

KEYS = {"layer", "filter", "weight"}
COLUMNS = sorted({column for needed in NEEDS.values() for column in needed} - KEYS)

PLAIN = {
    "magnitude": lambda row: np.sqrt(row["theta_norm2"]),
    "loss_preservation": lambda row: row["abs_theta_g"],
    "loss_preservation_abs_of_sum": lambda row: abs(row["theta_g"]),
    "proposed": lambda row: row["theta2_abs_g"],
    "grasp_t200": lambda row: row["theta_hg_t200"],
    "grasp": lambda row: row["theta_hg"],
    "gradient_norm_preservation": lambda row: abs(row["theta_hg"]),
    "bn_scale": lambda row: abs(row["sigma"]),
    "sigma_change": lambda row: abs(row["sigma"] * row["sigma_delta"]),
    "theta_change": lambda row: abs(row["theta"] * row["theta_delta"]),
    "l1_norm": lambda row: row["theta_l1"],
    "snip": lambda row: row["abs_theta_g"],
    "fisher": lambda row: row["theta2_g2"],
    "synflow": lambda row: row["synflow"],
    "gate_fisher": lambda row: (
        row["theta_g"] ** 2 + (row["sample_size"] - 1) * row["theta_g_se_iid"] ** 2
    ),
    "fpgm": lambda row: row["fpgm"],
    "update_size": lambda row: row["update_size"],
    "distance_from_init": lambda row: row["distance_from_init"],
    "bn_taylor": lambda row: row["bn_taylor"],
    "wanda": lambda row: row["wanda"],
    "fisher_block": lambda row: row["fisher_block"],
    "obd": lambda row: row["obd"],
    "delta_loss": lambda row: row["delta_loss"],
}


def filters_table(rows: int = 12, seed: int = 0, dtype: str = "float32") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values = {column: rng.normal(size=rows).astype(dtype) for column in COLUMNS}
    values["theta_norm2"] = np.abs(values["theta_norm2"])
    keys = {
        "run": "r0",
        "epoch": 0,
        "layer": [f"conv{i % 3}" for i in range(rows)],
        "filter": np.arange(rows) // 3,
    }
    return pd.DataFrame({**keys, "weight": 0, **values})


def raw_weights(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(6, 9)), rng.normal(size=(6, 9))


def test_every_measure_is_named_and_says_what_it_needs() -> None:
    assert set(SCORES) == set(NEEDS) == set(PLAIN) | {"random", "lamp"}
    assert set(COLUMNS) <= {*FILTERS, *ON_REQUEST, "sample_size"}


@pytest.mark.parametrize("dtype", ["float32", "float64", "Float64"])
def test_measures_equal_plain_numpy(dtype: str) -> None:
    filters = filters_table().astype(dict.fromkeys(COLUMNS, dtype)).set_index(np.arange(100, 112))
    rows = filters[COLUMNS].astype("float64").to_dict("records")
    offenders = []
    for name, plain in PLAIN.items():
        found = score(filters, name)
        assert found.name == name and found.dtype == "float64"
        pd.testing.assert_index_equal(found.index, filters.index)
        if not np.allclose(found, [plain(row) for row in rows], rtol=1e-12, atol=0):
            offenders.append(name)
    assert not offenders


def test_measures_of_a_small_table_by_hand() -> None:
    filters = pd.DataFrame(
        {
            "theta_norm2": [4.0, 0.0],
            "theta_g": [-3.0, 2.0],
            "theta_hg": [-5.0, 1.0],
            "sigma": [-2.0, 0.5],
            "sigma_delta": [0.25, -4.0],
        }
    )
    expected = {
        "magnitude": [2, 0],
        "loss_preservation_abs_of_sum": [3, 2],
        "grasp": [-5, 1],
        "gradient_norm_preservation": [5, 1],
        "bn_scale": [2, 0.5],
        "sigma_change": [0.5, 2],
    }
    assert {name: score(filters, name).tolist() for name in expected} == expected


@pytest.mark.parametrize("seed", range(5))
def test_relations_between_the_measures_of_one_filter(seed: int) -> None:
    theta, g = raw_weights(seed)
    filters = pd.DataFrame(
        {
            "theta_norm2": (theta**2).sum(1),
            "theta_l1": np.abs(theta).sum(1),
            "theta_g": (theta * g).sum(1),
            "abs_theta_g": np.abs(theta * g).sum(1),
        }
    )
    of_sum = score(filters, "loss_preservation_abs_of_sum")
    assert (of_sum <= score(filters, "loss_preservation")).all()
    assert (score(filters, "magnitude") <= score(filters, "l1_norm")).all()
    assert score(filters, "snip").tolist() == score(filters, "loss_preservation").tolist()


@pytest.mark.parametrize("dtype", ["float32", "Float32", "object"])
def test_null_in_null_out(dtype: str) -> None:
    offenders = []
    for name in PLAIN:
        filters = filters_table().astype(dict.fromkeys(COLUMNS, dtype))
        filters.loc[[2, 5], NEEDS[name][-1]] = None
        if np.flatnonzero(score(filters, name).isna()).tolist() != [2, 5]:
            offenders.append(name)
    assert not offenders


def test_a_product_of_small_float32_columns_does_not_underflow() -> None:
    filters = pd.DataFrame(
        {"sigma": [1e-30, 2e-30], "sigma_delta": [1e-30, 1e-30]}, dtype="float32"
    )
    np.testing.assert_allclose(score(filters, "sigma_change"), [1e-60, 2e-60], rtol=1e-6)


def test_the_table_is_left_unchanged_and_may_be_empty() -> None:
    filters = filters_table()
    before = filters.copy()
    for name in SCORES:
        score(filters, name)
        assert score(filters.iloc[:0], name).empty
    pd.testing.assert_frame_equal(filters, before)


def weights_table(seed: int = 0) -> pd.DataFrame:
    """All weights of layers with 6 and 4 filters of 5 and 3 weights, some equal, at two epochs."""
    rng = np.random.default_rng(seed)
    shapes = {"a": (6, 5), "b": (4, 3)}
    keys = [
        (epoch, layer, p, j)
        for epoch in range(2)
        for layer, (filters, weights) in shapes.items()
        for p in range(filters)
        for j in range(weights)
    ]
    table = pd.DataFrame(keys, columns=["epoch", "layer", "filter", "weight"])
    return table.assign(theta=rng.integers(-4, 5, len(table)) / 8)


def test_lamp_is_the_share_of_a_weight_in_those_that_are_not_smaller() -> None:
    weights = weights_table().sample(frac=1, random_state=1)
    expected = []
    for row in weights.itertuples():
        same = weights[(weights["layer"] == row.layer) & (weights["epoch"] == row.epoch)]
        squares = same["theta"] ** 2
        larger = squares[squares >= row.theta**2].sum()
        expected.append(row.theta**2 / larger)
    np.testing.assert_allclose(score(weights, "lamp"), expected, rtol=1e-12)
    assert score(weights.assign(theta=0.0), "lamp").eq(0).all()


def test_lamp_refuses_a_table_with_some_weights_of_a_layer() -> None:
    with pytest.raises(ScoreError, match=r"has only 29 of layer a; .*unit='weight'"):
        score(weights_table().iloc[1:], "lamp")
    some = load(Path(__file__).parents[2] / "data" / "paper").filters
    with pytest.raises(ScoreError, match="lamp"):
        score(some, "lamp")


def test_the_sample_size_comes_from_the_runs_the_table_or_what_it_carries() -> None:
    runs = load(Path(__file__).parents[2] / "data" / "short")
    size = int(runs.spec["sample_size"].iloc[0])
    rows = runs.filters
    mean, error = (rows[name].astype("float64") for name in ("theta_g", "theta_g_se_iid"))
    plain = mean**2 + (size - 1) * error**2
    found = score(runs, "gate_fisher")
    assert found.notna().any()
    np.testing.assert_allclose(found, plain, rtol=1e-12)
    np.testing.assert_array_equal(score(rows.assign(sample_size=size), "gate_fisher"), found)
    carrying = rows.copy()
    carrying.attrs["sample_size"] = size
    np.testing.assert_array_equal(score(carrying, "gate_fisher"), found)
    with pytest.raises(ScoreError, match=r"pass the runs .*table\.assign\(sample_size=\.\.\.\)"):
        score(rows, "gate_fisher")


def test_standard_errors_over_unknown_numbers_of_batches_give_no_gate_fisher() -> None:
    stored = load(Path(__file__).parents[2] / "data" / "cifar-mini-batch")
    assert (stored.spec["bn"] == "batch").all()
    runs = _without_batch_size(stored)
    with pytest.raises(ScoreError, match=r"over batches \(bn='batch'\).*over how many"):
        score(runs, "gate_fisher")
    told = replace(runs, spec=runs.spec.assign(sample_batches=8))
    by_eight = score(runs.filters.assign(sample_size=8), "gate_fisher")
    np.testing.assert_array_equal(score(told, "gate_fisher"), by_eight)


def test_the_number_of_batches_follows_from_their_size_where_runs_were_measured_again() -> None:
    runs = load(Path(__file__).parents[2] / "data" / "cifar-mini-batch")
    assert set(runs.spec["sample_size"]) == {500} and set(runs.spec["sample_batch_size"]) == {100}
    by_five = score(runs.filters.assign(sample_size=5), "gate_fisher")
    np.testing.assert_array_equal(score(runs, "gate_fisher"), by_five)


def _without_batch_size(runs: Runs) -> Runs:
    tables = {name: getattr(runs, name) for name in ("epochs", "filters", "rounds")}
    return Runs(**tables, spec=runs.spec.drop(columns="sample_batch_size"))


def test_one_run_without_its_number_of_batches_leaves_gate_fisher_to_the_others() -> None:
    data = Path(__file__).parents[2] / "data"
    runs = _without_batch_size(load([data / "short", data / "cifar-mini-batch"]))
    found, run = score(runs, "gate_fisher"), runs.filters["run"].astype(str)
    old = run.isin(runs.spec.loc[runs.spec["bn"] == "batch", "run"].astype(str))
    assert 0 < old.sum() < len(old) and found[old].isna().all()
    alone = score(load(data / "short"), "gate_fisher")
    np.testing.assert_array_equal(found[~old], alone)
    assert "gate_fisher" in recorded_measures(runs)
    assert len(correlate(runs, "gate_fisher", "magnitude")) == len(
        correlate(load(data / "short"), "gate_fisher", "magnitude")
    )


def many_filters(epochs: int = 2, rows: int = 5000) -> pd.DataFrame:
    layers = [f"conv{i // 500}" for i in range(rows)]
    filters = pd.DataFrame({"run": "r0", "layer": layers, "filter": np.arange(rows) % 500})
    return pd.concat([filters.assign(epoch=epoch) for epoch in range(epochs)], ignore_index=True)


def test_random_scores_are_uniform_and_all_different() -> None:
    found = score(many_filters(), "random")
    assert found.between(0, 1, inclusive="neither").all() and found.is_unique
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_random_scores_of_single_weights_differ_and_a_null_weight_counts_as_no_column() -> None:
    weights = many_filters(epochs=1).assign(filter=0)
    weights = weights.assign(weight=np.arange(len(weights)) % 9).drop_duplicates()
    found = score(weights, "random")
    assert found.is_unique and found.between(0, 1, inclusive="neither").all()
    for kind in ("int32", "float64", "Int32"):
        pd.testing.assert_series_equal(score(weights.astype({"weight": kind}), "random"), found)
    filters = many_filters()
    for null in (np.nan, pd.array([None] * len(filters), dtype="Int32")):
        found = score(filters.assign(weight=null), "random")
        pd.testing.assert_series_equal(found, score(filters, "random"))


@pytest.mark.parametrize("key", ["run", "epoch", "layer", "filter"])
def test_random_scores_of_different_keys_are_independent(key: str) -> None:
    filters = many_filters(epochs=1)
    other = filters.assign(**{key: filters[key] + ("x" if key in ("run", "layer") else 1000)})
    assert stats.spearmanr(score(filters, "random"), score(other, "random")).pvalue > 0.01


def test_draws_of_single_weights_with_other_seeds_are_not_those_of_other_weights() -> None:
    weights = pd.DataFrame({"layer": "conv1", "filter": 0, "weight": np.arange(40)})
    draws = np.stack([score(weights, "random", seed=seed) for seed in range(40)])
    assert len(np.unique(draws)) == draws.size
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 0.01


def test_random_scores_of_single_weights_stay_what_they_were() -> None:
    weights = pd.DataFrame({"layer": "conv1", "filter": [0, 0, 1], "weight": [0, 8, 0]})
    expected = [0.1702068373311762, 0.45710667656827036, 0.1513449929437382]
    np.testing.assert_allclose(score(weights, "random"), expected, rtol=1e-15)


def test_random_scores_depend_only_on_the_keys() -> None:
    filters = many_filters()
    found = score(filters, "random")
    shuffled = filters.sample(frac=1, random_state=0)
    kinds = {"run": "category", "layer": "category", "epoch": "int32", "filter": "int16"}
    pd.testing.assert_series_equal(score(shuffled, "random").sort_index(), found)
    pd.testing.assert_series_equal(score(filters.astype(kinds).assign(sigma=1.0), "random"), found)
    merged = filters.astype({"epoch": "float64", "filter": "float32"})
    pd.testing.assert_series_equal(score(merged, "random"), found)
    late = filters["epoch"] == 1
    pd.testing.assert_series_equal(score(filters[late], "random"), found[late])


def test_random_scores_stay_what_they_were() -> None:
    filters = pd.DataFrame(
        {"run": "r0", "epoch": 3, "layer": ["conv1", "conv1", "conv2"], "filter": [0, 1, 0]}
    )
    expected = [0.8097181611612219, 0.4702561211057423, 0.7977194545499633]
    np.testing.assert_allclose(score(filters, "random"), expected, rtol=1e-15)


def test_an_unknown_measure_is_told_with_those_that_exist() -> None:
    with pytest.raises(ScoreError, match=r"'magnitud'; did you mean 'magnitude'\?") as error:
        score(filters_table(), "magnitud")
    assert all(name in str(error.value) for name in SCORES)


def test_a_missing_column_is_named_with_the_columns_of_the_table_and_a_repair() -> None:
    for name, needed in NEEDS.items():
        for column in needed:
            with pytest.raises(ScoreError) as error:
                score(filters_table().drop(columns=column), name)
            told = str(error.value)
            assert f"measure {name} needs" in told
            assert f"has no {column}" in told and "it has [run, epoch" in told
            assert told.count(column) >= 2


@pytest.mark.parametrize(
    ("name", "repair"),
    [
        ("fisher", "'theta2_g2' in the argument columns"),
        ("grasp_t200", "200.0 among the temperatures"),
        ("sigma_change", "with a Recorder"),
        ("theta_change", "with unit='weight'"),
        ("grasp", "that its argument every names"),
        ("magnitude", "pass the whole table"),
    ],
)
def test_the_repair_fits_the_column(name: str, repair: str) -> None:
    with pytest.raises(ScoreError, match=repair):
        score(pd.DataFrame({"layer": ["a"], "sigma": [1.0]}), name)


def test_anything_but_a_table_is_refused() -> None:
    with pytest.raises(ScoreError, match=r"not str; pass runs\.filters"):
        score("magnitude", filters_table())  # type: ignore[arg-type]


def test_a_measure_of_single_weights_refuses_rows_that_are_filters() -> None:
    rows = pd.DataFrame({"theta": [None, None], "theta_delta": [None, None]}, dtype="float32")
    with pytest.raises(ScoreError, match=r"theta_change is one of single weights.*unit='weight'"):
        score(rows, "theta_change")
