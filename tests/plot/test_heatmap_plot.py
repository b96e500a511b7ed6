"""Correlation between all measures: the numbers, and the pictures in three directions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from pruneviz.errors import AnalysisError, FigureError
from pruneviz.log.runs import Runs
from pruneviz.plot.heatmap_plot import heatmap
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_runs


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL, epochs=4, every=2)


def random_table(
    filters: int = 30, layers: int = 3, epochs: tuple[int, ...] = (0,)
) -> pd.DataFrame:
    random = np.random.default_rng(0)
    keys = [(e, f"conv{i}", p) for e in epochs for i in range(layers) for p in range(filters)]
    table = pd.DataFrame(keys, columns=["epoch", "layer", "filter"])
    return table.assign(a=random.random(len(keys)), b=random.random(len(keys)) + table["filter"])


def test_r_is_the_mean_over_seeds_of_the_rank_correlation_of_each_run(runs: Runs) -> None:
    network = {"network": "vgg13"}
    found = heatmap.table(runs, ["theta_g", "magnitude"], runs=network, epochs=2)
    rows = runs.filters[runs.filters["epoch"] == 2]
    expected = [
        stats.spearmanr(
            rows.loc[rows["run"] == run, "theta_g"], rows.loc[rows["run"] == run, "theta_norm2"]
        )[0]
        for run in runs.spec.loc[runs.spec["network"] == "vgg13", "run"]
    ]
    row = found[(found["x"] == "theta_g") & (found["y"] == "magnitude")].iloc[0]
    assert row["r"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert row["sd"] == pytest.approx(np.std(expected, ddof=1), abs=1e-12)
    assert (row["seeds"], row["epoch"]) == (3, 2)


def test_pruned_filters_do_not_count() -> None:
    table = random_table()
    kept = table["filter"] % 2 == 0
    found = heatmap.table(table.assign(kept=kept))
    expected = stats.spearmanr(table.loc[kept, "a"], table.loc[kept, "b"])[0]
    pair = found[(found["x"] == "a") & (found["y"] == "b")].iloc[0]
    assert pair["r"] == pytest.approx(expected, abs=1e-12)
    assert pair["n"] == kept.sum()


def test_an_epoch_where_all_filters_are_pruned_has_no_picture_but_empty_cells() -> None:
    table = random_table(filters=4, epochs=(0, 2))
    table = table.assign(kept=table["epoch"] == 0)
    assert heatmap.table(table, epochs=2)["r"].isna().all()
    with pytest.raises(FigureError, match="no filter that is not pruned has two of the measures"):
        heatmap(table, epochs=2)


def test_by_layer_the_correlation_is_over_the_filters_of_the_layer() -> None:
    table = random_table()
    found = heatmap.table(table, over="layer", against="b").set_index("layer")
    for layer, rows in table.groupby("layer"):
        assert found.loc[layer, "r"] == pytest.approx(stats.spearmanr(rows["a"], rows["b"])[0])
    assert list(found["depth"]) == [1, 2, 3]
    assert set(found["x"]) == {"b"}


def test_the_default_is_all_recorded_measures_at_the_last_measured_epoch(runs: Runs) -> None:
    found = heatmap.table(runs, runs={"network": "vgg13"})
    assert set(found["epoch"]) == {4}
    assert {"magnitude", "loss_preservation", "bn_scale", "sigma_change"} <= set(found["x"])
    assert len(found) == found["x"].nunique() ** 2


def test_runs_of_several_lengths_each_have_their_last_epoch() -> None:
    short = random_table(epochs=(0, 1)).assign(run="short", network="one")
    long = random_table(epochs=(0, 5)).assign(run="long", network="two")
    both = pd.concat([short, long])
    found = heatmap.table(both)
    assert found.groupby("group")["epoch"].unique().map(list).to_dict() == {"one": [1], "two": [5]}
    assert set(heatmap.table(both, epochs=5)["group"]) == {"two"}
    with pytest.raises(FigureError, match=r"epoch 7 holds none .* 0, 1 and 5"):
        heatmap.table(both, epochs=7)


@pytest.mark.parametrize("over", ["measure", "epoch", "layer"])
def test_every_direction_can_be_read(runs: Runs, over: str) -> None:
    picture = heatmap(runs, over=over, against=None if over == "measure" else "magnitude")  # type: ignore[arg-type]
    assert_readable(picture)
    assert len(picture.axes) == len(SMALL) + 1  # the scale
    assert "Spearman" in picture.axes[-1].get_ylabel()


def test_numbers_stand_in_the_cells_and_agree_with_the_table() -> None:
    table = random_table()
    axes = Figure(figsize=(4, 4)).subplots()
    assert heatmap(table, ax=axes) is axes
    r = heatmap.table(table).set_index(["x", "y"]).loc[("a", "b"), "r"]
    written = {text.get_text() for text in axes.texts}
    assert written == {"1.00", f"{r:.2f}".replace("-", "−")}


def test_functions_without_a_name_are_numbered(runs: Runs) -> None:
    functions = [lambda rows: rows["theta_g"], lambda rows: -rows["theta_g"]]
    found = heatmap.table(runs, functions).set_index(["x", "y"])["r"]
    assert found["x1", "x2"].to_numpy() == pytest.approx(-1)


def test_narrow_negative_cells_are_hatched_to_be_told_apart_in_grey() -> None:
    table = random_table(layers=60, filters=8)
    axes = heatmap(table, over="layer").axes[0]
    assert not axes.texts
    hatches = [mesh.get_hatch() for mesh in axes.collections]
    assert any(hatch and "/" in hatch for hatch in hatches)


def test_a_cell_without_a_correlation_is_explained() -> None:
    picture = heatmap(random_table().assign(c=1.0))
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["no value"]


def test_names_are_drawn_as_they_stand() -> None:
    table = random_table().rename(columns={"a": "a$x$_<b>", "b": r"\frac{1}"})
    labels = [text.get_text() for text in heatmap(table).axes[0].get_yticklabels()]
    assert labels == [r"a\$x\$_<b>", r"\frac{1}"]


def test_what_cannot_be_drawn_is_told(runs: Runs) -> None:
    with pytest.raises(FigureError, match=r"no column or measure .*'magnitud'; did you mean"):
        heatmap(runs, ["magnitud", "theta_g"])
    with pytest.raises(
        FigureError,
        match="theta2_g2, which fisher is drawn from",
    ):
        heatmap(runs, ["fisher", "theta_g"])
    with pytest.raises(FigureError, match="give a list"):
        heatmap(runs, "magnitude")
    with pytest.raises(AnalysisError, match="needs two measures"):
        heatmap(random_table().drop(columns="b"))
    with pytest.raises(FigureError, match="choose over='epoch'"):
        heatmap(runs, over="measure", against="theta_g")
    with pytest.raises(FigureError, match=r"has 3: .* choose one with runs="):
        heatmap(runs, ax=Figure().subplots())
