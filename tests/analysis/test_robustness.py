"""Robustness of correlations: every number in plain numpy, and cases with known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.robustness import leave_one_layer_out, robustness
from pruneviz.errors import AnalysisError

BY = ["run", "epoch"]
LAYERS = {"conv1": 7, "conv2": 12, "fc": 5}


def table(seed: int = 0, groups: int = 3) -> pd.DataFrame:
    """Three layers that differ in scale and mean, heavy tails; in the last group one x is null."""
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(groups):
        keys = {"run": f"r{group // 2}", "epoch": group}
        for place, (layer, filters) in enumerate(LAYERS.items()):
            x = rng.standard_t(2, filters) * 10**place + 3 * place
            y = 0.5 * x + rng.standard_t(2, filters) * 3.0**place
            names = {"layer": layer, "filter": range(filters)}
            rows.append(pd.DataFrame({**keys, **names, "theta_g": x, "theta_hg": y}))
    frame = pd.concat(rows, ignore_index=True)
    frame.loc[frame.index[-1], "theta_g"] = np.nan
    return frame


def groups_of(frame: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """layer, x and y of every group."""
    names = ("layer", "theta_g", "theta_hg")
    groups = frame.dropna(subset=["theta_g", "theta_hg"]).groupby(BY)
    return [tuple(rows[name].to_numpy() for name in names) for _, rows in groups]  # type: ignore[misc]


def r(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def test_leaving_out_one_layer_is_the_correlation_of_the_others() -> None:
    frame = table()
    found = leave_one_layer_out(frame, "theta_g", "theta_hg")
    expected = [
        (layer, (layers != layer).sum(), r(x[layers != layer], y[layers != layer]))
        for layers, x, y in groups_of(frame)
        for layer in LAYERS
    ]
    assert list(found.columns) == [*BY, "layer", "n", "r"]
    assert found["layer"].tolist() == [layer for layer, _, _ in expected]
    assert found["n"].tolist() == [n for _, n, _ in expected]
    assert found["r"].to_numpy() == pytest.approx([value for _, _, value in expected], abs=1e-12)


def test_groups_with_other_layers_scales_and_constants_are_as_if_each_were_alone() -> None:
    """What the layers share, or lack, moves no number: the rest is correlated by itself."""
    one, two = table(1), table(2)
    odd = [
        one,
        two.assign(run="other", layer=two["layer"] + "x", theta_g=1e200 * two["theta_g"]),
        two.assign(run="tiny", theta_hg=1e-300 * two["theta_hg"])[two["layer"] != "fc"],
        one.assign(run="single")[one["layer"] == "fc"],
        one.assign(run="constant", theta_g=one["theta_g"].where(one["layer"] == "conv2", 1.0)),
        one.assign(run="infinite", theta_g=one["theta_g"].where(one["layer"] != "conv1", np.inf)),
        one.assign(run=None),
        one.assign(run="homeless", layer=one["layer"].where(one["layer"] != "fc", None)),
    ]
    frame = pd.concat(odd, ignore_index=True).sample(frac=1, random_state=0, ignore_index=True)
    found = leave_one_layer_out(frame, "theta_g", "theta_hg")
    assert set(found["run"]) == {*frame["run"].dropna()}
    finite = frame[np.isfinite(frame[["theta_g", "theta_hg"]]).all(axis=1)]
    for row in found.itertuples():
        own = finite[(finite["run"] == row.run) & (finite["epoch"] == row.epoch)]
        rest = own[own["layer"] != row.layer]
        assert row.n == len(rest) and row.layer in set(own["layer"])
        alone = correlate(rest, "theta_g", "theta_hg", by=[], interval=None)["r"]
        expected = alone.iloc[0] if len(alone) else np.nan
        assert row.r == pytest.approx(expected, abs=1e-13, nan_ok=True), row
    assert len(found) == len(finite.groupby([*BY, "layer"]))
    assert found["r"].isna().any() and found["r"].notna().sum() > 20


@pytest.mark.parametrize("dtype", ["object", "string", "category"])
def test_filters_of_no_layer_are_in_every_rest_and_of_no_layer_at_all_are_told(dtype: str) -> None:
    frame = table(groups=1)
    lost = frame.assign(layer=frame["layer"].where(frame["layer"] != "fc").astype(dtype))
    for method in ("pearson", "spearman"):
        found = leave_one_layer_out(lost, "theta_g", "theta_hg", method=method)
        expected = leave_one_layer_out(frame, "theta_g", "theta_hg", method=method)[:2]
        np.testing.assert_allclose(found["r"], expected["r"], atol=1e-12)
        assert found["layer"].tolist() == ["conv1", "conv2"]
    none = frame.assign(layer=None)
    assert leave_one_layer_out(none, "theta_g", "theta_hg").empty
    (whole,) = robustness(none, "theta_g", "theta_hg").to_dict("records")
    assert np.isfinite(whole["pearson"]) and np.isnan(whole["within_layers"])
    assert np.isnan(whole["loo_min"])


def test_columns_to_group_by_may_be_called_anything_but_a_column_of_the_result() -> None:
    frame = table()
    expected = robustness(frame, "theta_g", "theta_hg", by=["epoch"])
    for name in ("distance", "change", "index"):
        found = robustness(frame.assign(**{name: frame["epoch"]}), "theta_g", "theta_hg", by=name)
        pd.testing.assert_frame_equal(found.rename(columns={name: "epoch"}), expected)
    with pytest.raises(AnalysisError, match="by names r, as the result has a column; rename"):
        leave_one_layer_out(frame.assign(r=0), "theta_g", "theta_hg", by=["r"])


def test_spearman_without_a_layer_is_pearson_of_the_ranks_of_the_rest() -> None:
    frame = table()
    found = leave_one_layer_out(frame, "theta_g", "theta_hg", method="spearman")
    layers, x, y = groups_of(frame)[0]
    rest = layers != "conv2"
    expected = r(stats.rankdata(x[rest]), stats.rankdata(y[rest]))
    assert found["r"][1] == pytest.approx(expected, abs=1e-12)


def test_every_number_equals_plain_numpy() -> None:
    frame, trim = table(), 0.1
    found = robustness(frame, "theta_g", "theta_hg", trim=trim)
    assert found[BY].to_numpy().tolist() == [["r0", 0], ["r0", 1], ["r1", 2]]
    for row, (layers, x, y) in zip(found.to_dict("records"), groups_of(frame), strict=True):
        assert row["n"] == len(x)
        expected = plain_robustness(layers, x, y, trim)
        assert row["loo_layer"] == expected.pop("loo_layer")
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_what_is_constant_within_each_layer_has_no_correlation_there() -> None:
    rng = np.random.default_rng(0)
    for size in range(3, 13):
        layers = np.repeat(["a", "b", "c"], size)
        frame = pd.DataFrame({"run": "r", "epoch": 0, "layer": layers})
        frame = frame.assign(x=np.repeat(rng.normal(size=3), size), y=rng.normal(size=3 * size))
        assert robustness(frame, "x", "y")["within_layers"].isna().all(), size


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e307])
def test_tiny_and_huge_values_are_as_robust(scale: float) -> None:
    frame = table()
    largest = frame[["theta_g", "theta_hg"]].abs().max().max()
    frame[["theta_g", "theta_hg"]] /= largest
    found = robustness(frame.assign(theta_g=frame["theta_g"] * scale), "theta_g", "theta_hg")
    expected = robustness(frame, "theta_g", "theta_hg")
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9)


def test_the_trimmed_share_is_counted_exactly() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 100))
    frame = pd.DataFrame({"run": "r", "epoch": 0, "layer": ["a", "b"] * 50, "x": x, "y": y})
    found = robustness(frame, "x", "y", trim=0.07)["trimmed"]  # 0.07 * 100 is above 7
    distance = ((x - x.mean()) / x.std()) ** 2 + ((y - y.mean()) / y.std()) ** 2
    near = np.argsort(distance)[:93]
    assert found.tolist() == pytest.approx([r(x[near], y[near])], abs=1e-12)


def plain_robustness(
    layers: np.ndarray, x: np.ndarray, y: np.ndarray, trim: float
) -> dict[str, float | str]:
    distance = ((x - x.mean()) / x.std()) ** 2 + ((y - y.mean()) / y.std()) ** 2
    near = np.argsort(distance)[: len(x) - int(np.ceil(trim * len(x)))]
    members = {layer: layers == layer for layer in LAYERS}
    centred = [
        np.concatenate([values[at] - values[at].mean() for at in members.values()])
        for values in (x, y)
    ]
    weighted = [r(x[at], y[at]) * at.sum() for at in members.values()]
    without = {layer: r(x[~at], y[~at]) for layer, at in members.items()}
    return {
        "pearson": r(x, y),
        "spearman": r(stats.rankdata(x), stats.rankdata(y)),
        "trimmed": r(x[near], y[near]),
        "within_layers": r(*centred),
        "layer_mean": sum(weighted) / len(x),
        "loo_min": min(without.values()),
        "loo_max": max(without.values()),
        "loo_layer": max(without, key=lambda layer: abs(without[layer] - r(x, y))),
    }


def two_layers(
    first: tuple[list[float], list[float]], second: tuple[list[float], list[float]]
) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"layer": layer, "x": x, "y": y})
        for layer, (x, y) in (("a", first), ("b", second))
    ]
    return pd.concat(parts, ignore_index=True).assign(run="r", epoch=0)


def test_a_correlation_between_layers_vanishes_within_them() -> None:
    square = ([1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0])
    apart = ([v + 10 for v in square[0]], [v + 10 for v in square[1]])
    row = robustness(two_layers(square, apart), "x", "y").iloc[0]
    assert row["pearson"] == pytest.approx(25 / 26)
    rest = row[["within_layers", "layer_mean", "loo_min", "loo_max"]].astype("float64")
    assert rest.tolist() == pytest.approx([0, 0, 0, 0], abs=1e-12)


def test_a_correlation_of_one_large_layer_shows_without_it_and_in_the_mean_of_layers() -> None:
    large = ([100.0, 200.0, 300.0], [100.0, 200.0, 300.0])
    small = ([1.0, 2.0, 3.0], [-1.0, -2.0, -3.0])
    row = robustness(two_layers(large, small), "x", "y").iloc[0]
    assert row["within_layers"] > 0.99
    assert row["layer_mean"] == pytest.approx(0.0)
    assert (row["loo_min"], row["loo_layer"]) == (pytest.approx(-1.0), "a")


def test_a_correlation_due_to_one_outlier_vanishes_without_it() -> None:
    square = ([1.0, 1.0, -1.0, -1.0] * 5, [1.0, -1.0, 1.0, -1.0] * 5)
    frame = two_layers(square, ([*square[0], 50.0], [*square[1], 50.0]))
    row = robustness(frame, "x", "y", trim=0.01).iloc[0]
    assert row["pearson"] > 0.9
    assert row["trimmed"] == pytest.approx(0.0, abs=1e-12)
    assert robustness(frame, "x", "y", trim=0.0)["trimmed"].tolist() == [row["pearson"]]


def test_measures_count_as_quantities_and_infinite_values_do_not_count() -> None:
    rng = np.random.default_rng(1)
    frame = table().assign(sigma=rng.normal(size=72), theta_norm2=rng.random(72))
    named = robustness(frame, "bn_scale", "magnitude")
    columns = frame.assign(a=frame["sigma"].abs(), b=frame["theta_norm2"] ** 0.5)
    pd.testing.assert_frame_equal(named, robustness(columns, "a", "b"))
    frame.loc[0, "theta_hg"] = np.inf
    assert robustness(frame, "theta_g", "theta_hg")["n"].tolist() == [23, 24, 23]


def test_layers_without_a_correlation_are_null_or_left_out() -> None:
    frame = two_layers(([1.0, 2.0, 4.0], [1.0, 3.0, 4.0]), ([5.0, 5.0, 5.0], [1.0, 2.0, 3.0]))
    row = robustness(frame, "x", "y").iloc[0]
    alone = r(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 4.0]))
    assert row["layer_mean"] == pytest.approx(alone)
    assert (row["loo_min"], row["loo_max"]) == pytest.approx((alone, alone))
    assert row["loo_layer"] == "b"
    one = robustness(frame[frame["layer"] == "a"], "x", "y").iloc[0]
    assert one[["loo_min", "loo_max", "loo_layer"]].isna().all()
    assert leave_one_layer_out(frame, "x", "y")["r"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f.drop(columns="layer"), {}, r"no column layer; it has \[run, epoch"),
        (lambda f: f, {"by": ["run", "layer"]}, "so that a group has several layers"),
        (lambda f: f, {"by": []}, r"by is \[\]; group by"),
        (lambda f: f, {"trim": 1.0}, "trim=1.0; give the fraction"),
        (lambda f: f, {"x": "nothing"}, "no column or measure 'nothing'"),
        (lambda f: f, {"by": ["seed"]}, r"the table has no seed, the spec of the runs has"),
    ],
)
def test_bad_arguments_are_told_with_their_repair(
    change: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(AnalysisError, match=message):
        robustness(change(table()), **{"x": "theta_g", "y": "theta_hg", **options})  # type: ignore[operator, arg-type]
