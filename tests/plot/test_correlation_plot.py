"""Correlations by epoch of any table: numbers against plain pandas, lines, masks, refusals."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pruneviz import plot
from pruneviz.analysis.masks import mask_distance
from pruneviz.errors import FigureError
from pruneviz.log.runs import Runs
from pruneviz.plot import style
from pruneviz.plot.correlation_plot import draw_curves
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_runs

X, Y = "sigma_change", "loss_preservation"


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs({name: SMALL[name] for name in ("vgg13", "mobilenet_v1")}, (0, 1), 8, 2)


@pytest.fixture(scope="module")
def vgg(runs: Runs) -> Runs:
    return runs.select(network="vgg13")


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def plain(filters: pd.DataFrame, x: str, y: str, method: Any = "pearson") -> dict[int, float]:
    """Mean over runs of the correlation at each epoch."""
    found: dict[int, list[float]] = {}
    for (epoch, _), rows in filters.dropna(subset=[x, y]).groupby(["epoch", "run"], observed=True):
        found.setdefault(int(epoch), []).append(rows[x].corr(rows[y], method=method))
    return {epoch: float(np.mean(values)) for epoch, values in found.items()}


def test_settings_have_panels_and_seeds_are_averaged(runs: Runs) -> None:
    table = plot.correlation.table(runs, "theta_g", "theta_hg")
    assert list(dict.fromkeys(table["group"])) == ["VGG-13", "MobileNet-V1"]
    for network, rows in table.groupby("network"):
        mine = runs.filters[runs.filters["run"].astype(str).str.startswith(network)]
        by_epoch = rows.dropna(subset=["pearson"]).set_index("epoch")["pearson"].to_dict()
        assert by_epoch == pytest.approx(plain(mine, "theta_g", "theta_hg"))
    picture = plot.correlation(runs, "theta_g", "theta_hg")
    assert [axes.get_title("left") for axes in picture.axes[:2]] == [
        "(a) VGG-13",
        "(b) MobileNet-V1",
    ]
    assert_readable(picture)


@pytest.mark.parametrize(
    ("by", "lines", "facts"),
    [
        ("network", 2, None),
        ("run", 2, {"network": "vgg13"}),
        ("seed", 2, {"network": "vgg13"}),
        ("layer", len(SMALL["vgg13"]), {"network": "vgg13"}),
    ],
)
def test_lines_differ_in_what_is_asked_for(
    runs: Runs, by: str, lines: int, facts: dict[str, str] | None
) -> None:
    table = plot.correlation.table(runs, "theta_g", "theta_hg", by=by, runs=facts)
    assert table[by].nunique() == lines
    picture = plot.correlation(runs, "theta_g", "theta_hg", by=by, runs=facts)
    drawn = [line for line in picture.axes[0].get_lines() if len(line.get_xdata()) > 2]
    assert len(drawn) == lines
    assert_readable(picture)


def test_a_layer_is_correlated_over_its_filters(vgg: Runs) -> None:
    table = plot.correlation.table(vgg, "theta_g", "theta_hg", by="layer", mask_score=None)
    for layer, rows in table.groupby("layer"):
        mine = vgg.filters[vgg.filters["layer"] == layer]
        assert rows.set_index("epoch")["pearson"].to_dict() == pytest.approx(
            plain(mine, "theta_g", "theta_hg")
        )
    assert table["depth"].drop_duplicates().tolist() == [1, 2, 3, 4]
    assert "mask_distance" not in table


def test_many_layers_have_a_colour_bar() -> None:
    runs = make_runs({"mine": (4,) * 30}, (0,), 4, 1)
    picture = plot.correlation(runs, "theta_g", "theta_hg", by="layer")
    assert picture.axes[-1].get_ylabel() == "layer"
    assert_readable(picture)


def test_a_list_is_judged_beside_random_and_chance(vgg: Runs) -> None:
    measures = ["magnitude", "gradient_norm_preservation"]
    table = plot.correlation.table(vgg, measures, Y, method="spearman")
    assert list(dict.fromkeys(table["x"])) == [*measures, "random"]
    magnitude = table[table["x"] == "magnitude"].set_index("epoch")
    expected = plain(vgg.filters, "theta_norm2", "abs_theta_g", "spearman")
    assert magnitude["spearman"].to_dict() == pytest.approx(expected)
    n = magnitude["filters"].iloc[0]
    assert table["unrelated"].unique() == pytest.approx([1.96 / np.sqrt(2 * (n - 1))])
    picture = plot.correlation(vgg, measures, Y)
    assert labels(picture)[2:] == ["random", "unrelated values: 95 %", "± 1 sd over seeds"]
    assert_readable(picture)


def test_without_x_all_measures_are_judged(vgg: Runs) -> None:
    oracle = vgg.filters["theta_g"].mask(vgg.filters["filter"] > 1)
    known = replace(vgg, filters=vgg.filters.assign(delta_loss=oracle))
    table = plot.correlation.table(known, y="delta_loss")
    xs = set(table["x"])
    assert {"magnitude", "loss_preservation", "bn_scale", "random"} <= xs
    assert not {"delta_loss", "snip", "fisher"} & xs
    assert (table["filters"].dropna() <= 2 * len(SMALL["vgg13"])).all()
    exact = table[table["x"] == "grasp"]
    assert exact["pearson"].notna().all()


@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall"])
def test_unrelated_values_stay_below_their_bound(method: Any) -> None:
    random = np.random.default_rng(0)
    values = pd.DataFrame(random.standard_normal((40, 60)))
    rows = pd.DataFrame({"epoch": 0, "layer": "a", "filter": range(40), "mine": values[0]})
    table = plot.correlation.table(rows.assign(other=values[1]), ["mine"], "other", method=method)
    each = values.corr(method=method).to_numpy()[np.triu_indices(60, 1)]
    assert np.mean(np.abs(each) < table["unrelated"].iloc[0]) == pytest.approx(0.95, abs=0.02)


def test_masks_are_of_each_line_of_runs(runs: Runs, vgg: Runs) -> None:
    table = plot.correlation.table(runs, X, Y, by="network", mask_ratio=0.5)
    mine = table[table["network"] == "vgg13"].dropna(subset=["mask_distance"])
    each = mask_distance(vgg.filters, score="bn_scale", ratio=0.5).groupby("epoch")["distance"]
    expected = each.mean().dropna().to_dict()
    assert mine.set_index("epoch")["mask_distance"].to_dict() == pytest.approx(expected)
    assert set(mine["mask_score"]) == {"bn_scale"}


def test_networks_without_batch_norm_have_masks_by_magnitude(vgg: Runs) -> None:
    bare = replace(vgg, filters=vgg.filters.drop(columns=["sigma", "sigma_delta"]))
    table = plot.correlation.table(bare, "theta_g", Y)
    assert set(table["mask_score"].dropna()) == {"magnitude"}
    picture = plot.correlation(bare, "theta_g", Y)
    assert "by magnitude" in picture.axes[1].get_ylabel()
    nothing = replace(bare, filters=bare.filters.drop(columns="theta_norm2"))
    assert "mask_distance" not in plot.correlation.table(nothing, "theta_g", Y)
    assert len(plot.correlation(nothing, "theta_g", Y).axes) == 1


def test_epochs_are_chosen(vgg: Runs) -> None:
    table = plot.correlation.table(vgg, X, Y, epochs=[2, -1])
    assert table["epoch"].tolist() == [2, 8]


def test_what_is_undefined_is_said() -> None:
    table = pd.DataFrame({"epoch": [0, 1], "layer": "a", "filter": 0, "a": [1.0, 2], "b": 3.0})
    picture = plot.correlation(table, "a", "b")
    assert "undefined" in picture.axes[0].texts[0].get_text()
    assert_readable(picture)


def test_given_axes_are_drawn_into(runs: Runs) -> None:
    axes = Figure().subplots()
    assert plot.correlation(runs, X, Y, by="network", ax=axes) is axes
    assert axes.get_legend() is not None
    (_, twin) = axes.figure.axes
    zeros = [each.transData.transform((0, 0))[1] for each in (axes, twin)]
    assert zeros[0] == pytest.approx(zeros[1]) and min(twin.get_yticks()) == 0
    with pytest.raises(FigureError, match=r"has 2: VGG-13 and MobileNet-V1; choose one with runs"):
        plot.correlation(runs, X, Y, ax=axes)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X,), {}, "y is missing"),
        ((X, X), {}, "x and y are both sigma_change"),
        ((["magnitude", "magnitude"], Y), {}, "x names magnitude twice"),
        ((None, Y), {"by": "layer"}, "by='layer' tells lines apart, and so does x"),
        ((X, Y), {"by": "netwrok"}, "by: there is no fact .*did you mean 'network'"),
        ((X, Y), {"by": "filter", "mask_score": None}, "has 3[0-9]* values|choose a column"),
        ((X, Y), {"mask_score": "fisher"}, "no two epochs .* by fisher; choose another mask_score"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    vgg: Runs, arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    if options.get("by") == "filter":
        numbered = vgg.filters.assign(place=np.arange(len(vgg.filters)))
        vgg, options = replace(vgg, filters=numbered), {**options, "by": "place"}
    with pytest.raises(ValueError, match=message):
        plot.correlation(vgg, *arguments, **options)


def test_table_takes_the_arguments_of_the_plot() -> None:
    drawn, numbers = map(inspect.signature, (plot.correlation, plot.correlation.table))
    assert [name for name in drawn.parameters if name != "ax"] == list(numbers.parameters)


def test_pruned_filters_do_not_count(runs: Runs) -> None:
    table = runs.filters.assign(kept=runs.filters["filter"] > 1)
    found = plot.correlation.table(replace(runs, filters=table), "theta_g", "theta_hg")
    pd.testing.assert_frame_equal(
        found[["epoch", "filters", "pearson", "spearman"]],
        plot.correlation.table(replace(runs, filters=table[table["kept"]]), "theta_g", "theta_hg")[
            ["epoch", "filters", "pearson", "spearman"]
        ],
    )


@pytest.mark.parametrize("by", ["kept", "epoch", ["layer"], 3])
def test_lines_are_told_apart_by_one_fact_or_column_that_is_not_drawn_anyway(
    runs: Runs, by: Any
) -> None:
    with pytest.raises(FigureError, match="by="):
        plot.correlation.table(runs, "theta_g", "theta_hg", by=by)


@pytest.fixture
def mixed(vgg: Runs) -> Runs:
    """A run of each measure and an unpruned one, with masks that differ in their chance level."""
    measures = ["magnitude", None]
    spec = vgg.spec.assign(measure=measures, rounds=[1, 0], target=[0.5, None])
    first = vgg.filters["run"].astype(str) == str(spec["run"].iloc[0])
    gone = first & (vgg.filters["epoch"] > 3) & (vgg.filters["filter"] < 10)
    return replace(vgg, spec=spec, filters=vgg.filters.assign(kept=~gone))


def test_unpruned_runs_are_a_line_beside_pruned_ones(mixed: Runs) -> None:
    picture = plot.correlation(mixed, X, Y, by="measure")
    assert set(labels(picture)[:2]) == {"Magnitude", "unpruned"}
    assert len([line for line in picture.axes[0].lines if len(line.get_xdata()) > 2]) == 2


def test_the_chance_level_of_every_line_is_drawn(mixed: Runs) -> None:
    picture = plot.correlation(mixed, X, Y, by="measure")
    table = plot.correlation.table(mixed, X, Y, by="measure").dropna(subset=["chance"])
    assert len(set(table["chance"])) > 1
    drawn = {
        float(value)
        for line in picture.axes[1].lines
        if line.get_linestyle() == ":"
        for value in np.asarray(line.get_ydata())
    }
    assert drawn == set(table["chance"])


def test_measures_look_alike_in_every_kind_of_picture(mixed: Runs) -> None:
    colour = style.MEASURE_COLOURS["magnitude"]
    lines = plot.correlation(mixed, X, Y, by="measure").axes[0].lines
    assert colour in [line.get_color() for line in lines]
    legend = plot.scatter(mixed, X, Y, hue="measure", epochs=-1).legends[0]
    names = [text.get_text() for text in legend.get_texts()]
    colours = [handle.get_color() for handle in legend.legend_handles]
    known = {"Magnitude": colour, "unpruned": style.REFERENCE_COLOUR}
    assert dict(zip(names, colours, strict=True)) == known


def test_of_many_measures_the_best_are_drawn_and_all_are_in_the_table(vgg: Runs) -> None:
    square = vgg.filters["theta_g"] ** 2
    filters = vgg.filters.assign(theta2_g2=square, delta_loss=vgg.filters["theta_g"])
    runs = replace(vgg, filters=filters)
    table = plot.correlation.table(runs, y="delta_loss")
    picture = plot.correlation(runs, y="delta_loss")
    sizes = table[table["x"] != "random"].groupby("x")["pearson"].apply(lambda r: r.abs().mean())
    text = labels(picture)
    assert len(sizes) == 9
    assert "(1 weaker measure in the table)" in text
    assert len(text) == 8 + 3  # with random, the rest and the range of unrelated values
    assert_readable(picture)


def test_lines_without_bands_lie_inside_their_panel(vgg: Runs) -> None:
    # The correlations of single weights that a log holds have no interval.
    table = plot.correlation.table(vgg, X, Y).assign(band_low=np.nan, band_high=np.nan)
    for value in (0.58, -0.9):
        axes = draw_curves(table.assign(pearson=value)).axes[0]
        low, high = axes.get_ylim()
        assert low < min(value, 0) and max(value, 0) < high


def test_a_single_epoch_has_its_interval(vgg: Runs) -> None:
    (axes,) = plot.correlation(vgg, X, Y, epochs=-1, mask_score=None).axes
    table = plot.correlation.table(vgg, X, Y, epochs=-1, mask_score=None)
    (segment,) = axes.collections[-1].get_segments()
    assert segment[:, 1].tolist() == table[["band_low", "band_high"]].iloc[0].tolist()
    assert axes.get_xticks().tolist() == [8]


@pytest.mark.parametrize(
    ("x", "y", "options"),
    [
        (X, Y, {}),
        (X, Y, {"method": "spearman", "mask_score": "gradient_norm_preservation"}),
        ("gradient_norm_preservation", "theta_hg", {"method": "spearman"}),
    ],
)
def test_labels_beside_panels_are_no_longer_than_these(
    runs: Runs, vgg: Runs, x: str, y: str, options: dict[str, Any]
) -> None:
    for shown in (runs, vgg):
        picture = plot.correlation(shown, x, y, **options)
        picture.draw_without_rendering()
        labelled = [axes for axes in picture.axes if axes.get_ylabel()]
        boxes = [axes.yaxis.label.get_window_extent() for axes in labelled]
        for axes, box in zip(labelled, boxes, strict=True):
            assert box.height <= axes.bbox.height + 0.2 * picture.dpi, axes.get_ylabel()
        assert boxes[0].y0 - boxes[1].y1 >= 0.05 * picture.dpi


def test_bands_that_are_not_drawn_need_no_room(vgg: Runs) -> None:
    measures = ["magnitude", "bn_scale", "gradient_norm_preservation", "grasp"]
    table = plot.correlation.table(vgg, measures, Y).assign(band_low=-1.0, pearson=0.4)
    assert draw_curves(table).axes[0].get_ylim()[0] > -0.2
