"""Scatter plots of any table: numbers against plain pandas, panels, colours, refusals."""

from __future__ import annotations

import inspect
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pruneviz import plot
from pruneviz.errors import AnalysisError, FigureError
from pruneviz.log.runs import Runs
from pruneviz.plot.deciding import deciding
from pruneviz.plot.words import decimal, mean_and_sd
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_runs, together

X, Y = "theta_g", "theta_hg"


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs({name: SMALL[name] for name in ("vgg13", "mobilenet_v1")}, (0, 1), 8, 2)


def snapshot(rows: int = 30, **columns: Any) -> pd.DataFrame:
    random = np.random.default_rng(0)
    layers = np.repeat(["a", "b_$x$", "层<"], rows)[: 3 * rows]
    known = {"layer": layers, "filter": np.tile(np.arange(rows), 3)}
    values = {X: random.standard_normal(3 * rows), Y: random.standard_normal(3 * rows)}
    return pd.DataFrame({**known, **values, **columns})


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_a_snapshot_is_one_panel_of_all_its_points() -> None:
    table, picture = plot.scatter.table(snapshot(), X, Y), plot.scatter(snapshot(), X, Y)
    assert table[X].tolist() == snapshot()[X].tolist()
    assert table["pearson"].unique() == pytest.approx([snapshot()[X].corr(snapshot()[Y])])
    assert list(dict.fromkeys(table["depth"])) == [1, 2, 3]
    panel, bar = picture.axes
    assert panel.collections[0].get_offsets().shape == (90, 2)
    assert bar.get_ylabel() == "layer depth"
    assert_readable(picture)


def test_settings_have_panels_of_their_own_and_seeds_are_averaged(runs: Runs) -> None:
    table = plot.scatter.table(runs, X, Y, method="spearman")
    assert list(dict.fromkeys(table["group"])) == ["VGG-13", "MobileNet-V1"]
    filters = runs.filters
    for (network, epoch), panel in table.groupby(["network", "epoch"]):
        mine = filters[filters["run"].astype(str).str.startswith(network)]
        mine = mine[mine["epoch"] == epoch].groupby("run", observed=True)
        each = [rows[X].corr(rows[Y], method="spearman") for _, rows in mine]
        assert panel["spearman"].unique() == pytest.approx([np.mean(each)])
        assert set(panel["seeds"]) == {2}
        assert set(panel["seed"]) == {0}
    picture = plot.scatter(runs, X, Y)
    assert len(picture.axes) == 2 * 3 + 1
    assert_readable(picture)


def test_a_fact_as_colour_puts_settings_into_one_panel(runs: Runs) -> None:
    table = plot.scatter.table(runs, X, Y, hue="network", epochs=-1)
    assert "group" not in table
    assert set(table["network"]) == {"vgg13", "mobilenet_v1"}
    picture = plot.scatter(runs, X, Y, hue="network", epochs=-1)
    assert [text.get_text() for text in picture.legends[0].get_texts()] == [
        "VGG-13",
        "MobileNet-V1",
    ]
    low, high = (f"{table['pearson'].agg(end):.2f}" for end in ("min", "max"))
    assert f"r {low} to {high}" in words(picture)
    by_run = plot.scatter.table(runs, X, Y, hue="run", epochs=-1, runs={"network": "vgg13"})
    assert by_run["run"].nunique() == 2
    assert set(by_run["seeds"]) == {1}


def test_quantities_are_columns_measures_and_functions(runs: Runs) -> None:
    def doubled(filters: pd.DataFrame) -> pd.Series:
        return 2 * filters["theta_norm2"]

    table = plot.scatter.table(runs, "magnitude", doubled, runs={"network": "vgg13"}, epochs=8)
    assert table["doubled"].tolist() == pytest.approx((2 * table["magnitude"] ** 2).tolist())
    nameless = plot.scatter.table(runs, X, lambda filters: -filters[X], hue=None, epochs=8)
    assert nameless["y"].tolist() == (-nameless[X]).tolist()
    picture = plot.scatter(runs, "magnitude", doubled, runs={"network": "vgg13"}, epochs=8)
    assert picture.axes[0].get_xlabel() == "Magnitude (weight)"
    assert picture.axes[0].get_ylabel() == "doubled"


@pytest.mark.parametrize(
    ("columns", "options", "shown"),
    [
        ({"kept": [True, False] * 45}, {"hue": "kept"}, ["kept", "pruned"]),
        ({"kind": ["_a", "$b$", None] * 30}, {"hue": "kind"}, ["_a", r"\$b\$", "no kind"]),
        ({}, {"hue": None}, None),
    ],
    ids=["kept", "text", "none"],
)
def test_colours_by_name_are_explained(
    columns: dict[str, Any], options: dict[str, Any], shown: list[str] | None
) -> None:
    picture = plot.scatter(snapshot(**columns), X, Y, **options)
    names = [text.get_text() for found in picture.legends for text in found.get_texts()]
    assert names == (shown or [])
    assert len(picture.axes) == 1
    drawn = sum(len(points.get_offsets()) for points in picture.axes[0].collections)
    assert drawn == 90
    assert_readable(picture)


@pytest.mark.parametrize("hue", ["layer", "mine"])
def test_colours_by_number_have_a_bar_and_absent_ones_are_drawn(hue: str) -> None:
    mine = np.where(np.arange(90) < 9, np.nan, np.logspace(-5, 5, 90))
    picture = plot.scatter(snapshot(mine=mine), X, Y, hue=hue)
    panel, bar = picture.axes
    assert bar.get_ylabel() == hue
    assert len(panel.collections[0].get_offsets()) == 90
    assert_readable(picture)


@pytest.mark.parametrize(
    "table",
    [
        snapshot(1)[:1],
        snapshot().assign(theta_g=0.5),
        snapshot().assign(theta_g=np.where(np.arange(90) % 2, np.nan, snapshot()[X])),
        snapshot().assign(theta_g=snapshot()[X].astype("Float64").mask(snapshot()["filter"] == 1)),
        pd.concat([snapshot().assign(layer=f"layer.{place}") for place in range(20)]),
    ],
    ids=["one point", "constant", "NaN", "nullable", "20 layers"],
)
def test_poor_tables_are_drawn(table: pd.DataFrame) -> None:
    picture = plot.scatter(table, X, Y, scale="symlog")
    numbers = plot.scatter.table(table, X, Y)
    assert len(numbers) == table[X].notna().sum()
    undefined = numbers["pearson"].isna().all()
    assert ("undefined" in words(picture)) == undefined
    assert_readable(picture)


def test_given_axes_are_drawn_into(runs: Runs) -> None:
    axes = Figure().subplots()
    one = {"runs": {"network": "vgg13"}, "epochs": 8}
    assert plot.scatter(runs, X, Y, **one, ax=axes) is axes
    assert "nats" in axes.get_xlabel()
    assert "epoch 8 of 8" in axes.get_title("left")
    panels = r"has 3: initialisation, epoch 2 of 8 and epoch 8 of 8; choose one with epochs"
    with pytest.raises(FigureError, match=panels):
        plot.scatter(runs, X, Y, runs={"network": "vgg13"}, ax=axes)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("theta_gg", Y), {}, "x: there is no column or measure 'theta_gg'; did you mean"),
        ((X, "fisher"), {}, "y is fisher, which needs theta2_g2, .* they have .*theta_hg"),
        ((X, X), {}, "x and y are both theta_g"),
        ((X, Y), {"hue": "nothing"}, "hue: there is no column or measure 'nothing'"),
        ((X, Y), {"epochs": 3}, "epoch 3 .* 0, 2, 4, 6 and 8"),
        ((X, Y), {"seed": 9}, "seed 9 is not recorded; recorded are seeds 0 and 1"),
        ((X, Y), {"scale": "log"}, "scale is 'log', expected one of symlog, linear"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    runs: Runs, arguments: tuple[str, str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FigureError, match=message):
        plot.scatter(runs, *arguments, **options)


def test_text_is_no_axis() -> None:
    with pytest.raises(AnalysisError, match="column 'kind' holds"):
        plot.scatter(snapshot(kind="text"), "kind", Y)


def test_runs_without_values_are_left_out_unless_they_are_named(runs: Runs) -> None:
    filters = runs.filters
    gone = filters["run"] == "vgg13-digits-s1"
    lacking = replace(runs, filters=filters.assign(theta_g=filters[X].mask(gone)))
    table = plot.scatter.table(lacking, X, Y, runs=None)
    assert set(table.loc[table["network"] == "vgg13", "seeds"]) == {1}
    with pytest.raises(
        FigureError,
        match="no theta_g and theta_hg in vgg13-digits-s1; choose among vgg13-digits-s0",
    ):
        plot.scatter(lacking, X, Y, runs={"network": "vgg13"})


def test_a_run_twice_is_not_averaged(runs: Runs) -> None:
    vgg = runs.select(network="vgg13", seed=0)
    copy = {name: getattr(vgg, name) for name in ("spec", "epochs", "filters")}
    copies = {name: table.assign(run="copy") for name, table in copy.items()}
    twice = together(vgg, replace(vgg, **copies))
    table = plot.scatter.table(twice, X, Y)
    assert set(table["group"]) == {"run copy", "run vgg13-digits-s0"}
    assert set(table["seeds"]) == {1}
    assert plot.scatter.table(twice, X, Y, hue="run")["run"].nunique() == 2


def test_pruned_filters_are_shown_by_their_colour_alone_and_never_correlated() -> None:
    kept = [True] * 60 + [False] * 29 + [None]  # a null counts as kept
    whole = snapshot(kept=kept)
    standing = whole[whole["kept"].ne(False)]
    table = plot.scatter.table(whole, X, Y)
    assert table[X].tolist() == standing[X].tolist()
    assert table["pearson"].unique() == pytest.approx([standing[X].corr(standing[Y])])
    coloured = plot.scatter.table(whole, X, Y, hue="kept")
    assert coloured[X].tolist() == whole[X].tolist()
    assert set(coloured["filters"]) == {61}
    assert coloured["pearson"].unique() == pytest.approx([standing[X].corr(standing[Y])])


@pytest.mark.parametrize("hue", ["temperatures", "columns", "versions"])
def test_facts_that_are_collections_colour_points(runs: Runs, hue: str) -> None:
    facts = {"temperatures": (1.0, 20.0), "columns": ["a"], "versions": {"torch": "2", "a": "1"}}
    spec = runs.spec.assign(**{hue: [facts[hue]] * len(runs.spec)})
    table = plot.scatter.table(replace(runs, spec=spec), X, Y, hue=hue)
    text = {"temperatures": "1/20", "columns": "a", "versions": "a 1/torch 2"}[hue]
    assert set(table[hue]) == {text}


def test_the_heading_has_the_run_drawn_and_the_mean(runs: Runs) -> None:
    one = {"network": "vgg13"}
    table = plot.scatter.table(runs, X, Y, runs=one, epochs=8, seed=1)
    drawn = table[X].corr(table[Y])
    assert table["pearson_drawn"].unique() == pytest.approx([drawn])
    assert abs(table["pearson"].iloc[0] - drawn) > 0.01
    picture = plot.scatter(runs, X, Y, runs=one, epochs=8, seed=1)
    mean = mean_and_sd(table["pearson"].iloc[0], table["pearson_sd"].iloc[0])
    assert f"Pearson r {decimal(drawn)}, mean {mean}" in words(picture)
    alone = plot.scatter.table(runs.select(seed=1), X, Y, runs=one, epochs=8)
    assert (alone["pearson_drawn"] == alone["pearson"]).all()


def test_labels_beside_each_other_are_as_many_as_fit(runs: Runs) -> None:
    picture = plot.scatter(runs, X, Y)
    for axes in picture.axes[:-1]:
        ticks = axes.get_xticks()
        assert 0 in ticks and len(ticks) >= 3
        every = {*ticks, *axes.get_xticks(minor=True)}
        assert sum(axes.viewLim.x0 <= tick <= axes.viewLim.x1 for tick in every) >= 4
    assert_readable(picture)


def test_deciding_points_are_as_many_as_the_effective_number() -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 500)) ** 3
    w = np.abs((x - x.mean()) * (y - y.mean()))
    chosen = deciding(x, y)
    assert 1 < chosen.sum() == round(w.sum() ** 2 / (w**2).sum()) < 100
    assert w[chosen].min() > w[~chosen].max()
    outlier = np.append(random.standard_normal(40), 50.0)
    assert np.flatnonzero(deciding(outlier, outlier)).tolist() == [40]
    assert not deciding(np.ones(41), outlier).any()
    assert deciding(np.zeros(0), np.zeros(0)).size == 0


@pytest.mark.parametrize("options", [{"epochs": 8}, {}])
def test_deciding_points_are_shown_on_linear_axes(runs: Runs, options: dict[str, Any]) -> None:
    picture = plot.scatter(runs, X, Y, runs={"network": "vgg13"}, inset=True, **options)
    panels = (len(picture.axes) - 1) // 2
    for upper, lower in zip(picture.axes[:panels], picture.axes[panels:-1], strict=True):
        assert (upper.get_xscale(), lower.get_xscale()) == ("symlog", "linear")
        others, decide = (len(points.get_offsets()) for points in lower.collections)
        assert lower.get_title("left") in (f"{decide} filters decide r", "one filter decides r")
        assert others + decide == len(upper.collections[0].get_offsets())
        assert upper.get_position().y0 > lower.get_position().y1
    assert_readable(picture)


def test_deciding_points_stand_inside_given_axes(runs: Runs) -> None:
    axes = Figure(figsize=(4, 4)).subplots()
    plot.scatter(runs, X, Y, runs={"network": "vgg13"}, epochs=8, inset=True, ax=axes)
    (inside,) = axes.child_axes
    assert "decide" in inside.get_title("left") and inside.get_xscale() == "linear"


def test_too_many_panels_are_refused(runs: Runs) -> None:
    spec = runs.spec
    many = [
        replace(
            runs.select(network="vgg13", seed=0),
            spec=spec[spec["run"] == "vgg13-digits-s0"].assign(run=f"r{lr}", lr=float(lr)),
            filters=runs.filters[runs.filters["run"] == "vgg13-digits-s0"].assign(run=f"r{lr}"),
        )
        for lr in range(1, 22)
    ]
    with pytest.raises(FigureError, match="63 panels, for 21 settings"):
        plot.scatter(together(*many), X, Y)


def test_table_takes_the_arguments_of_the_plot() -> None:
    drawn, numbers = map(inspect.signature, (plot.scatter, plot.scatter.table))
    assert [name for name in drawn.parameters if name != "ax"] == list(numbers.parameters)


def test_names_beside_a_colour_bar_take_no_room_from_the_panels(runs: Runs) -> None:
    filters = runs.select(network="vgg13", seed=0).filters
    table = filters.assign(layer="features.block." + filters["layer"].astype(str))
    plain, named = (
        plot.scatter(table, "theta_g", "theta_hg", epochs=[0, 4, 8], hue=hue)
        for hue in ("depth", "layer")
    )
    widths = [figure.axes[0].get_window_extent().width for figure in (plain, named)]
    assert widths[1] > 0.9 * widths[0]
    boxes = [axes.texts[0].get_window_extent() for axes in named.axes[:3]]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize("scale", ["symlog", "linear"])
@pytest.mark.parametrize("panels", [2, 5, 7])
def test_labels_of_narrow_axes_do_not_touch(runs: Runs, scale: Any, panels: int) -> None:
    figure = Figure(figsize=(5.5, 2.5))
    given = figure.subplots(1, panels)
    for axes in given:
        plot.scatter(runs, X, Y, runs={"network": "vgg13"}, epochs=8, scale=scale, ax=axes)
    figure.draw_without_rendering()
    for axis in (axis for axes in given for axis in (axes.xaxis, axes.yaxis)):
        labels = [tick.label1 for tick in axis.get_major_ticks()]
        boxes = [label.get_window_extent() for label in labels if label.get_text()]
        assert boxes
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
