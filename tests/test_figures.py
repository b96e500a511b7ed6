"""Figures: their numbers against plain pandas, and their structure on the page."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from synthetic_runs import MOBILENET_FILTERS, SMALL, make_runs

from pruneviz.errors import FigureError, LogError
from pruneviz.figures import correlation_curve, scatter, style
from pruneviz.figures.catalogue import FIGURES, Entry, file_stem, find, ordered
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.pictures import PICTURES
from pruneviz.figures.selection import chosen_spec, missing_networks, nearest_epochs
from pruneviz.figures.signed_log import SignedLog, linear_threshold
from pruneviz.figures.words import interval, listed, mean_and_sd, scientific
from pruneviz.runlog import Runs
from pruneviz.schema import FILTERS

DEFAULT = DrawOptions()


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL)


# The catalogue and the options


def test_figures_are_ordered_as_in_the_paper() -> None:
    assert ordered(["13", "H1b", "3", "03", "2", "H1a", "15"]) == ["2", "3", "13", "15", "H1a", "H1b"]
    assert list(FIGURES) == ordered(FIGURES)
    assert [file_stem(name) for name in ("2", "13", "H1a")] == ["figure02", "figure13", "figureH1a"]


def test_unknown_figure_lists_those_that_exist() -> None:
    with pytest.raises(FigureError, match=r"no figure '99'.*2, 3, 13, 14, 15"):
        find("99")


@pytest.mark.parametrize("entry", FIGURES.values(), ids=FIGURES)
def test_every_picture_names_columns_that_are_recorded(entry: Entry) -> None:
    picture = PICTURES[entry.kind]
    assert set(picture.NEEDS) <= set(FILTERS)
    assert all(hasattr(DEFAULT, name) for name in picture.OPTIONS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "cosine"},
        {"loss_preservation": "sum"},
        {"mask_score": "size"},
        {"mask_ratio": 0.0},
        {"mask_ratio": 1.0},
        {"scale": "log"},
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed(wrong: dict[str, object]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(FigureError, match=rf"{name} is {value!r}, expected"):
        DrawOptions(**wrong)  # type: ignore[arg-type]


# Which runs and epochs


def test_epochs_keep_the_fractions_of_the_schedule() -> None:
    assert nearest_epochs(range(0, 161, 10), 160, scatter.FRACTIONS) == [0, 40, 160]
    assert nearest_epochs(range(17), 16, scatter.FRACTIONS) == [0, 4, 16]
    assert nearest_epochs([0, 3, 6, 9, 10], 10, scatter.FRACTIONS) == [0, 3, 10]
    assert nearest_epochs([0, 1], 1, scatter.FRACTIONS) == [0, 1]


def test_pruned_runs_and_other_data_sets_are_left_out(runs: Runs) -> None:
    pruned = runs.spec.assign(run="p-" + runs.spec["run"], rounds=5, target=0.6)
    other = runs.spec.assign(run="c-" + runs.spec["run"], dataset="cifar100")
    spec = pd.concat([runs.spec, pruned, other], ignore_index=True)
    assert set(chosen_spec(spec, FIGURES["3"], DEFAULT)["dataset"]) == {"cifar100"}
    assert list(chosen_spec(spec, FIGURES["3"], DrawOptions(dataset="digits"))["run"]) == [f"resnet56-digits-s{seed}" for seed in range(3)]
    with pytest.raises(FigureError, match=r"cifar10 and digits.*--dataset"):
        chosen_spec(spec.replace({"dataset": {"cifar100": "cifar10"}}), FIGURES["3"], DEFAULT)


def test_runs_that_cannot_be_averaged_are_refused(runs: Runs) -> None:
    spec = runs.spec.copy()
    spec.loc[spec["run"] == "resnet56-digits-s1", "bn"] = "batch"
    with pytest.raises(FigureError, match=r"differ in bn \(resnet56-digits-s0: eval; resnet56-digits-s1: batch"):
        chosen_spec(spec, FIGURES["3"], DEFAULT)
    with pytest.raises(FigureError, match="share network, data set and seed"):
        chosen_spec(runs.spec.assign(seed=0), FIGURES["3"], DEFAULT)


def test_missing_networks_are_told_apart(runs: Runs) -> None:
    spec = runs.spec[runs.spec["network"] != "vgg13"]
    assert missing_networks(spec, FIGURES["2"], DEFAULT) == ("vgg13",)
    assert missing_networks(spec, FIGURES["2"], DrawOptions(dataset="cifar10")) == FIGURES["2"].networks
    with pytest.raises(FigureError, match="no finished, unpruned run of vgg13"):
        chosen_spec(spec, FIGURES["13"], DEFAULT)


def test_absent_columns_seeds_and_epochs_are_named(runs: Runs) -> None:
    with pytest.raises(LogError, match="no column theta_hg"):
        scatter.table(replace(runs, filters=runs.filters.drop(columns="theta_hg")), FIGURES["3"], DEFAULT)
    with pytest.raises(FigureError, match="seed 9 is not recorded; recorded are seeds 0, 1 and 2"):
        scatter.table(runs, FIGURES["3"], DrawOptions(seed=9))
    with pytest.raises(FigureError, match="no epoch at which all of"):
        scatter.table(replace(runs, filters=runs.filters.assign(theta_hg=np.nan)), FIGURES["3"], DEFAULT)
    with pytest.raises(FigureError, match="holds both sigma_change and loss_preservation"):
        correlation_curve.table(replace(runs, filters=runs.filters.assign(sigma_delta=np.nan)), FIGURES["2"], DEFAULT)
    with pytest.raises(FigureError, match=r"no two epochs .* have masks by magnitude"):
        correlation_curve.table(
            replace(runs, filters=runs.filters.assign(theta_norm2=np.nan)), FIGURES["2"], DrawOptions(mask_score="magnitude")
        )


# The numbers, recomputed in plain pandas


@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall"])
def test_scatter_numbers(runs: Runs, method: str) -> None:
    table = scatter.table(runs, FIGURES["13"], DrawOptions(method=method))  # type: ignore[arg-type]
    mine = runs.filters[runs.filters["run"].astype(str).str.startswith("vgg13")]
    assert list(dict.fromkeys(table["epoch"])) == [0, 4, 16]
    for epoch, panel in table.groupby("epoch"):
        each = [
            rows["theta_g"].corr(rows["theta_hg"], method=method) for _, rows in mine[mine["epoch"] == epoch].groupby("run", observed=True)
        ]
        assert panel[method].unique() == pytest.approx([np.mean(each)])
        assert panel[f"{method}_sd"].unique() == pytest.approx([np.std(each, ddof=1)])
        assert set(panel["seeds"]) == {3} and set(panel["filters"]) == {len(panel)} == {sum(SMALL["vgg13"])}
        shown = mine[(mine["epoch"] == epoch) & (mine["run"] == "vgg13-digits-s0")]
        assert panel["theta_hg"].tolist() == shown["theta_hg"].tolist()
        assert panel["depth"].tolist() == np.repeat(range(1, len(SMALL["vgg13"]) + 1), SMALL["vgg13"]).tolist()


def test_scatter_shows_the_seed_asked_for_and_averages_all(runs: Runs) -> None:
    lowest, other = (scatter.table(runs, FIGURES["13"], DrawOptions(seed=seed)) for seed in (None, 2))
    assert set(lowest["seed"]) == {0} and set(other["seed"]) == {2}
    assert lowest["pearson"].unique().tolist() == other["pearson"].unique().tolist()


def test_one_seed_has_an_interval_but_no_spread() -> None:
    table = scatter.table(make_runs({"vgg13": SMALL["vgg13"]}, seeds=(4,)), FIGURES["13"], DEFAULT)
    assert table["pearson_sd"].isna().all() and table[["pearson_low", "pearson_high"]].notna().all(axis=None)
    assert "± " not in scatter.draw(table, DEFAULT).axes[0].texts[0].get_text()


def test_correlation_curve_numbers(runs: Runs) -> None:
    table = correlation_curve.table(runs, FIGURES["2"], DEFAULT).set_index(["network", "epoch"])
    filters = runs.filters.assign(change=(runs.filters["sigma"] * runs.filters["sigma_delta"]).abs())
    for network in FIGURES["2"].networks:
        each = filters[filters["run"].astype(str).str.startswith(network)].groupby(["run", "epoch"], observed=True)
        pairs = each[["change", "abs_theta_g"]].corr().xs("change", level=2)["abs_theta_g"].dropna().reset_index()
        correlations = pairs.pivot_table(index="epoch", columns="run", values="abs_theta_g", observed=True)
        mine = table.loc[network]
        assert mine["pearson"].dropna().to_dict() == pytest.approx(correlations.mean(axis="columns").to_dict())
        assert mine["pearson_sd"].dropna().to_dict() == pytest.approx(correlations.std(axis="columns").to_dict())
        assert mine["band_high"].dropna().to_dict() == pytest.approx((correlations.mean(axis=1) + correlations.std(axis=1)).to_dict())
        assert mine["mask_distance"].dropna().to_dict() == pytest.approx(_plain_distances(each["sigma"].apply(np.array)))


def _plain_distances(sigma: pd.Series) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for run, epoch in sigma.index:
        before, now = sigma.get((run, epoch - 1)), sigma[(run, epoch)]
        if before is not None and np.ptp(before) > 0:  # scales that are all equal, as at initialisation, give no mask
            masks = [np.argsort(np.argsort(abs(values))) >= round(0.2 * len(values)) for values in (before, now)]
            found.setdefault(epoch, []).append(float(np.mean(masks[0] != masks[1])))
    return {epoch: float(np.mean(values)) for epoch, values in found.items()}


@pytest.mark.parametrize(
    ("options", "column"),
    [
        (DrawOptions(loss_preservation="abs_of_sum"), "pearson"),
        (DrawOptions(mask_ratio=0.5), "mask_distance"),
        (DrawOptions(mask_score="loss_preservation"), "mask_distance"),
        (DrawOptions(method="kendall"), "band_high"),
    ],
)
def test_options_change_the_numbers(runs: Runs, options: DrawOptions, column: str) -> None:
    before, after = (correlation_curve.table(runs, FIGURES["2"], chosen).dropna(subset=[column])[column] for chosen in (DEFAULT, options))
    assert before.tolist() != after.tolist()


# The pictures


def texts(figure: Figure) -> list[Text]:
    """Every text that is drawn; ticks outside the limits of their axis exist but are not."""
    hidden = {
        label
        for axes, axis in ((axes, axis) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis))
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in hidden]


def assert_readable(figure: Figure) -> None:
    """Every text is at least 7 points high, inside the canvas, and touches no other text."""
    figure.draw_without_rendering()
    found = texts(figure)
    boxes = [text.get_window_extent() for text in found]
    for text, box in zip(found, boxes, strict=True):
        assert text.get_fontsize() >= 7, text
        assert box.x0 >= -0.5 and box.y0 >= -0.5 and box.x1 <= figure.bbox.x1 + 0.5 and box.y1 <= figure.bbox.y1 + 0.5, (text, box)
    for (one, a), (other, b) in itertools.combinations(zip(found, boxes, strict=True), 2):
        assert min(a.x1, b.x1) - max(a.x0, b.x0) <= 0 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 0, (one, other)


CASES: Mapping[str, tuple[dict[str, object], DrawOptions]] = {
    "16 epochs": ({}, DEFAULT),
    "one seed": ({"seeds": (3,)}, DEFAULT),
    "linear, Kendall": ({}, DrawOptions(scale="linear", method="kendall")),
    "two epochs": ({"epochs": 2, "every": 2}, DEFAULT),
    "160 epochs": ({"epochs": 160, "every": 20, "seeds": (0, 1)}, DEFAULT),
}


@pytest.mark.parametrize(("facts", "options"), CASES.values(), ids=CASES)
def test_scatter_is_readable(facts: dict[str, object], options: DrawOptions) -> None:
    table = scatter.table(make_runs({"resnet56": SMALL["resnet56"]}, **facts), FIGURES["3"], options)  # type: ignore[arg-type]
    figure = scatter.draw(table, options)
    *panels, bar = figure.axes
    assert figure.get_size_inches()[0] == style.TEXT_WIDTH
    assert len(panels) == table["epoch"].nunique() and bar.get_ylabel() == "layer depth"
    for axes, (epoch, rows) in zip(panels, table.groupby("epoch"), strict=True):
        assert axes.get_title("left").startswith(f"({'abc'[panels.index(axes)]}) ") and (epoch == 0 or str(epoch) in axes.get_title("left"))
        assert axes.collections[0].get_offsets().shape == (len(rows), 2) and axes.collections[0].get_rasterized()
        assert axes.get_xscale() == options.scale and "nats" in axes.get_xlabel() and "nats²/weight²" in panels[0].get_ylabel()
        (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert rows["theta_g"].between(low, high).all() and rows["theta_hg"].between(bottom, top).all()
        heading = axes.texts[0].get_text()
        assert (
            mean_and_sd(rows[options.method].iloc[0], rows[f"{options.method}_sd"].iloc[0]) in heading and f"{len(rows)} filters" in heading
        )
    assert_readable(figure)


def test_scatter_holds_eleven_thousand_points_and_the_longest_numbers() -> None:
    runs = make_runs({"mobilenet_v1": MOBILENET_FILTERS}, seeds=(0,), epochs=4, every=1, dataset="cifar100")
    table = scatter.table(runs, FIGURES["14"], DEFAULT)
    assert (table["epoch"].value_counts() == sum(MOBILENET_FILTERS)).all() and sum(MOBILENET_FILTERS) > 10_000
    spread = table.loc[table["epoch"] == 0, "theta_hg"].abs().loc[lambda sizes: sizes > 0]
    assert np.log10(spread.max() / spread.min()) > 10
    assert_readable(scatter.draw(table.assign(spearman=-0.88, spearman_sd=0.88, seeds=3), DEFAULT))


@pytest.mark.parametrize(("facts", "options"), CASES.values(), ids=CASES)
def test_correlation_curve_is_readable(facts: dict[str, object], options: DrawOptions) -> None:
    table = correlation_curve.table(make_runs(SMALL, **facts), FIGURES["2"], options)  # type: ignore[arg-type]
    figure = correlation_curve.draw(table, options)
    left, right = figure.axes[:3], figure.axes[3:]
    assert [axes.get_title("left") for axes in left] == ["(a) VGG-13", "(b) MobileNet-V1", "(c) ResNet-56"]
    assert "loss preservation" in left[0].get_ylabel() and "fraction of filters" in right[-1].get_ylabel()
    for axes, twin, (_, rows) in zip(left, right, table.groupby("network", sort=False), strict=True):
        assert axes.get_xlabel() == "epochs trained"
        (_, curve), (masks, chance) = axes.get_lines(), twin.get_lines()
        assert curve.get_ydata().tolist() == rows[options.method].dropna().tolist()
        assert masks.get_ydata().tolist() == rows["mask_distance"].dropna().tolist()
        assert set(chance.get_ydata()) == set(rows["chance"].dropna())
        assert len({curve.get_color(), masks.get_color()}) == len({curve.get_linestyle(), masks.get_linestyle()}) == 2
    assert_readable(figure)
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3
    assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in left)


def test_correlation_curve_of_one_network_is_readable() -> None:
    table = correlation_curve.table(make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,)), FIGURES["2"], DEFAULT)
    figure = correlation_curve.draw(table, DEFAULT)
    assert [axes.get_title("left") for axes in figure.axes] == ["VGG-13", ""]
    assert_readable(figure)


@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.0, 2.5e6), (-3e-14, 4e-14), (-7.8, 1.3), (0.9, 1.1)])
@pytest.mark.parametrize("most", [3, 6])
def test_linear_axis_has_a_few_ticks(ends: tuple[float, float], most: int) -> None:
    ticks = scatter._linear_ticks(*ends, most)
    assert 2 <= len(ticks) <= most and ends[0] < min(ticks) and max(ticks) < ends[1]


def test_colours_stay_apart_in_grey() -> None:
    colours = [matplotlib.colors.to_rgb(name) for name in (style.LEFT_COLOUR, style.RIGHT_COLOUR, style.GUIDE_COLOUR)]
    grey = sorted(float(np.dot(colour, (0.299, 0.587, 0.114))) for colour in colours)
    assert min(np.diff(grey)) > 0.12
    lightness = style.depth_colours()(np.linspace(0, 1, 20))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(lightness) > 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_signed_log_axis_suits_any_values(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = 10 ** random.uniform(-random.integers(1, 12), 2, 200) * random.choice([-1, 1], 200) ** random.integers(0, 2) * (-1) ** seed
    axis = SignedLog.fit(values)
    assert ((values >= axis.low) & (values <= axis.high)).all() and axis.low <= 0 <= axis.high
    labels = axis.labelled(0.2)
    assert 0 in labels and len(labels) >= 2 and (np.diff(axis.fraction(labels)) >= 0.2).all()
    assert set(labels) <= set(axis.decades())


def test_signed_log_axis_of_next_to_nothing() -> None:
    for values in ([], [0.0], [np.nan], [0.0, 0.0]):
        axis = SignedLog.fit(np.array(values))
        assert axis.threshold == 1 and axis.low < 0 < axis.high and axis.labelled(0.2).tolist() == [-1, 0, 1]
    assert linear_threshold(np.array([3e-5])) == pytest.approx(1e-5)
    assert linear_threshold(np.array([1e-20] * 9 + [1.0])) == pytest.approx(1e-10)


def test_words() -> None:
    assert (
        mean_and_sd(-0.004, 0.01) == "0.00 ± 0.01" and mean_and_sd(-0.5, np.nan) == "−0.50" and mean_and_sd(np.nan, np.nan) == "undefined"
    )
    assert interval(0.4, 1.3) == "[0.400, 1.000]" and interval(np.nan, np.nan) == "[no interval]"
    assert scientific(-1e-7) == "−1e−7" and scientific(2.4e6) == "2.4e6" and scientific(0.25) == "0.25"
    assert listed("a") == "a" and listed("abc") == "a, b and c"
