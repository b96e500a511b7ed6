"""Figures: their numbers against plain pandas, and their structure on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest

from pruneviz.errors import FigureError, LogError
from pruneviz.figures import style
from pruneviz.figures.catalogue import FIGURES, NETWORK_TITLES, Entry, file_stem, find, ordered
from pruneviz.figures.chosen_runs import (
    RunGroup,
    chosen_datasets,
    chosen_spec,
    is_recorded,
    kinds_of,
    missing_runs,
    nearest_epochs,
)
from pruneviz.figures.kinds import correlation_curve, scatter
from pruneviz.figures.missing import commands, in_words, status
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.pictures import PICTURES
from pruneviz.figures.signed_log import SignedLog, linear_threshold
from pruneviz.figures.words import interval, listed, mean_and_sd, percent, scientific
from pruneviz.log.runs import Runs
from pruneviz.log.schema import EPOCHS, FILTERS, ROUNDS
from pruneviz.plans.needs import CURVE_MEASURES, FIGURE_NEEDS, RATIO_MEASURES
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import (
    MOBILENET_FILTERS,
    SMALL,
    make_pruned_runs,
    make_runs,
    together,
)

DEFAULT = DrawOptions()


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL)


# The catalogue and the options


def test_figures_are_ordered_as_in_the_paper() -> None:
    assert ordered(["13", "H1b", "3", "03", "2", "h1A", "15"]) == [
        "2",
        "3",
        "13",
        "15",
        "H1a",
        "H1b",
    ]
    assert list(FIGURES) == ordered(FIGURES) == [*map(str, range(1, 18)), "H1a", "H1b", "I1"]
    assert [file_stem(name) for name in ("2", "13", "h1a")] == ["figure02", "figure13", "figureH1a"]
    assert find("i1") is FIGURES["I1"] and FIGURES["I1"].dataset == "tiny-imagenet"


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_draws_the_runs_that_are_recorded_for_it(figure: str) -> None:
    entry, need = FIGURES[figure], FIGURE_NEEDS[figure]
    kinds = {"pruned": "accuracy_curve", "prune_phase": "layer_ratios"}
    assert entry.need is need and entry.networks == need.networks
    assert entry.kind == kinds.get(
        need.kind, "scatter" if figure in ("3", "13", "14", "15", "H1a") else "correlation_curve"
    )
    assert entry.kind == "correlation_curve" or all(
        NETWORK_TITLES[network] in entry.title for network in need.networks
    )
    assert need.rounds == (0,) or len(need.rounds) > 1 or f"{need.rounds[0]} round" in entry.title


def test_unknown_figure_lists_those_that_exist() -> None:
    with pytest.raises(FigureError, match=r"no figure '99'.*1, 2, 3, .*17, H1a, H1b, I1"):
        find("99")


@pytest.mark.parametrize("entry", FIGURES.values(), ids=FIGURES)
def test_every_picture_names_columns_that_are_recorded(entry: Entry) -> None:
    picture = PICTURES[entry.kind]
    columns = {"accuracy_curve": EPOCHS, "layer_ratios": ROUNDS}.get(entry.kind, FILTERS)
    assert set(picture.NEEDS) <= set(columns)
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
    assert list(chosen_spec(spec, FIGURES["3"], DrawOptions(dataset="digits"))["run"]) == [
        f"resnet56-digits-s{seed}" for seed in range(3)
    ]
    with pytest.raises(FigureError, match=r"cifar10 and digits.*--dataset"):
        chosen_spec(spec.replace({"dataset": {"cifar100": "cifar10"}}), FIGURES["3"], DEFAULT)


def test_runs_that_cannot_be_averaged_are_refused(runs: Runs) -> None:
    spec = runs.spec.copy()
    spec.loc[spec["run"] == "resnet56-digits-s1", "bn"] = "batch"
    with pytest.raises(
        FigureError, match=r"differ in bn \(resnet56-digits-s0: eval; resnet56-digits-s1: batch"
    ):
        chosen_spec(spec, FIGURES["3"], DEFAULT)
    with pytest.raises(FigureError, match="share network, data set and seed"):
        chosen_spec(runs.spec.assign(seed=0), FIGURES["3"], DEFAULT)


def test_missing_networks_are_told_apart(runs: Runs) -> None:
    spec = runs.spec[runs.spec["network"] != "vgg13"]
    assert missing_runs(spec, FIGURES["2"], DEFAULT) == (RunGroup("vgg13", None, 0, "digits"),)
    assert [
        run.network for run in missing_runs(spec, FIGURES["2"], DrawOptions(dataset="cifar10"))
    ] == list(FIGURES["2"].networks)
    with pytest.raises(
        FigureError,
        match=r"no finished run of vgg13 \(unpruned\) is among .*resnet56 on digits \(unpruned\)",
    ):
        chosen_spec(spec, FIGURES["13"], DEFAULT)


def everything() -> Runs:
    """Runs of every kind, on several data sets."""
    return together(
        make_runs(SMALL, seeds=(0,), epochs=4),
        make_runs(SMALL, seeds=(0,), epochs=4, unit="weight"),
        make_pruned_runs(rounds=(1, 5), datasets=("mine", "cifar100", "cifar10"), seeds=(0,)),
        make_pruned_runs(
            measures=RATIO_MEASURES, rounds=(1, 5, 25), seeds=(0,), prune_phase_only=True
        ),
    )


def test_every_figure_takes_runs_of_its_own_kind_alone() -> None:
    spec = everything().spec
    assert kinds_of(spec).value_counts().to_dict() == {
        "unpruned": 3,
        "weights": 3,
        "pruned": 54,
        "prune_phase": 54,
    }
    for figure, count in {"3": 1, "2": 3, "H1a": 1, "H1b": 3, "5": 9, "10": 9, "16": 18}.items():
        chosen = chosen_spec(spec, FIGURES[figure], DEFAULT)
        assert len(chosen) == count and not missing_runs(spec, FIGURES[figure], DEFAULT)
        assert set(kinds_of(chosen)) == {FIGURES[figure].need.kind}
        assert set(chosen["rounds"]) == set(FIGURES[figure].need.rounds)
    for figure in ("6", "I1"):
        assert not is_recorded(spec, FIGURES[figure], DEFAULT) and missing_runs(
            spec, FIGURES[figure], DEFAULT
        )
    half = spec.assign(target=np.where(spec["run"].eq("resnet56-digits-s0"), 0.5, spec["target"]))
    assert missing_runs(half, FIGURES["3"], DEFAULT) == (RunGroup("resnet56", None, 0, None),)


def test_accuracy_curves_take_every_data_set_and_other_figures_one() -> None:
    spec = everything().spec
    panels = chosen_spec(spec, FIGURES["5"], DEFAULT)
    assert list(dict.fromkeys(panels["dataset"])) == ["cifar10", "cifar100", "mine"]
    assert list(panels["measure"]) == list(CURVE_MEASURES) * 3
    assert set(chosen_spec(spec, FIGURES["5"], DrawOptions(dataset="mine"))["dataset"]) == {"mine"}
    assert chosen_datasets(spec, FIGURES["I1"], DrawOptions(dataset="mine")) == ("tiny-imagenet",)
    tiny = together(
        make_runs(SMALL, seeds=(0,), epochs=4),
        make_runs(SMALL, seeds=(0,), epochs=4, dataset="tiny-imagenet"),
    ).spec
    assert chosen_datasets(tiny, FIGURES["2"], DEFAULT) == ("digits",) and chosen_datasets(
        tiny, FIGURES["I1"], DEFAULT
    ) == ("tiny-imagenet",)


@pytest.mark.parametrize(
    ("fact", "value"), [("target", 0.7), ("carry_momentum", True), ("flowandprune", True)]
)
def test_pruned_runs_of_other_recipes_are_not_averaged(fact: str, value: object) -> None:
    spec = make_pruned_runs({"vgg13": SMALL["vgg13"]}, carry_momentum=False).spec
    other = spec.astype({fact: object})
    other.loc[other["run"] == "vgg13-digits-proposed-r5-s1", fact] = value
    with pytest.raises(
        FigureError, match=rf"averaged over seeds differ in {fact} .*proposed-r5-s1: {value}"
    ):
        chosen_spec(other, FIGURES["5"], DEFAULT)
    other.loc[other["measure"] == "proposed", fact] = value
    with pytest.raises(FigureError, match=f"compared in one panel differ in {fact}"):
        chosen_spec(other, FIGURES["5"], DEFAULT)
    assert len(chosen_spec(spec, FIGURES["5"], DEFAULT)) == 9


def test_missing_runs_are_named_and_their_commands_are_exact() -> None:
    runs = everything()
    bare = runs.spec[~runs.spec["run"].str.contains("cifar100-proposed|magnitude-r1|grasp-r25")]
    absent = missing_runs(bare, FIGURES["5"], DEFAULT)
    assert absent == (RunGroup("vgg13", "proposed", 5, "cifar100"),)
    assert in_words(absent) == "VGG-13 pruned by Proposed in 5 rounds on CIFAR-100"
    assert commands("5", FIGURES["5"], absent, bare, "data/x y", "x y") == [
        "python -m pruneviz.record --preset digits --figures 5 --dataset cifar100 --out 'data/x y'"
    ]
    paper = bare.assign(preset="paper")
    assert commands("5", FIGURES["5"], absent, paper, "d", "d") == [
        "python -m pruneviz.record --preset paper --figures 5 --out d"
    ]
    absent = missing_runs(bare, FIGURES["16"], DEFAULT)
    assert (
        in_words(absent)
        == "VGG-13 pruned by Magnitude in 1 round on digits, by GraSP (T = 1) in 25 rounds on digits"
    )
    assert (
        status(bare, FIGURES["16"], DEFAULT)
        == f"recorded on digits, 1 seed; lacks {in_words(absent)} (pruning rounds alone)"
    )
    several = missing_runs(bare, FIGURES["4"], DEFAULT)
    assert [run.dataset for run in several] == ["cifar10", "cifar100", "cifar100", "mine"]
    assert len(commands("4", FIGURES["4"], several, bare, "d", "d")) == 3
    two = missing_runs(bare[bare["network"] != "vgg13"], FIGURES["2"], DEFAULT)
    (command,) = commands("2", FIGURES["2"], two, bare, "d", "d")
    assert (
        command == "python -m pruneviz.record --preset digits --figures 2 --network vgg13 --out d"
    )


def test_absent_columns_seeds_and_epochs_are_named(runs: Runs) -> None:
    with pytest.raises(LogError, match="no column theta_hg"):
        scatter.table(
            replace(runs, filters=runs.filters.drop(columns="theta_hg")), FIGURES["3"], DEFAULT
        )
    with pytest.raises(FigureError, match="seed 9 is not recorded; recorded are seeds 0, 1 and 2"):
        scatter.table(runs, FIGURES["3"], DrawOptions(seed=9))
    with pytest.raises(FigureError, match="no epoch at which all of"):
        scatter.table(
            replace(runs, filters=runs.filters.assign(theta_hg=np.nan)), FIGURES["3"], DEFAULT
        )
    with pytest.raises(FigureError, match="holds both sigma_change and loss_preservation"):
        correlation_curve.table(
            replace(runs, filters=runs.filters.assign(sigma_delta=np.nan)), FIGURES["2"], DEFAULT
        )
    with pytest.raises(FigureError, match=r"no two epochs .* have masks by magnitude"):
        correlation_curve.table(
            replace(runs, filters=runs.filters.assign(theta_norm2=np.nan)),
            FIGURES["2"],
            DrawOptions(mask_score="magnitude"),
        )


# The numbers, recomputed in plain pandas


@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall"])
def test_scatter_numbers(runs: Runs, method: str) -> None:
    table = scatter.table(runs, FIGURES["13"], DrawOptions(method=method))  # type: ignore[arg-type]
    mine = runs.filters[runs.filters["run"].astype(str).str.startswith("vgg13")]
    assert list(dict.fromkeys(table["epoch"])) == [0, 4, 16]
    for epoch, panel in table.groupby("epoch"):
        each = [
            rows["theta_g"].corr(rows["theta_hg"], method=method)
            for _, rows in mine[mine["epoch"] == epoch].groupby("run", observed=True)
        ]
        assert panel[method].unique() == pytest.approx([np.mean(each)])
        assert panel[f"{method}_sd"].unique() == pytest.approx([np.std(each, ddof=1)])
        assert set(panel["seeds"]) == {3} and set(panel["filters"]) == {len(panel)} == {
            sum(SMALL["vgg13"])
        }
        shown = mine[(mine["epoch"] == epoch) & (mine["run"] == "vgg13-digits-s0")]
        assert panel["theta_hg"].tolist() == shown["theta_hg"].tolist()
        assert (
            panel["depth"].tolist()
            == np.repeat(range(1, len(SMALL["vgg13"]) + 1), SMALL["vgg13"]).tolist()
        )


def test_scatter_shows_the_seed_asked_for_and_averages_all(runs: Runs) -> None:
    lowest, other = (
        scatter.table(runs, FIGURES["13"], DrawOptions(seed=seed)) for seed in (None, 2)
    )
    assert set(lowest["seed"]) == {0} and set(other["seed"]) == {2}
    assert lowest["pearson"].unique().tolist() == other["pearson"].unique().tolist()


def test_one_seed_has_an_interval_but_no_spread() -> None:
    table = scatter.table(make_runs({"vgg13": SMALL["vgg13"]}, seeds=(4,)), FIGURES["13"], DEFAULT)
    assert table["pearson_sd"].isna().all() and table[["pearson_low", "pearson_high"]].notna().all(
        axis=None
    )
    assert "± " not in scatter.draw(table, DEFAULT).axes[0].texts[0].get_text()


def test_correlation_curve_numbers(runs: Runs) -> None:
    table = correlation_curve.table(runs, FIGURES["2"], DEFAULT).set_index(["network", "epoch"])
    filters = runs.filters.assign(
        change=(runs.filters["sigma"] * runs.filters["sigma_delta"]).abs()
    )
    for network in FIGURES["2"].networks:
        each = filters[filters["run"].astype(str).str.startswith(network)].groupby(
            ["run", "epoch"], observed=True
        )
        pairs = (
            each[["change", "abs_theta_g"]]
            .corr()
            .xs("change", level=2)["abs_theta_g"]
            .dropna()
            .reset_index()
        )
        correlations = pairs.pivot_table(
            index="epoch", columns="run", values="abs_theta_g", observed=True
        )
        mine = table.loc[network]
        assert mine["pearson"].dropna().to_dict() == pytest.approx(
            correlations.mean(axis="columns").to_dict()
        )
        assert mine["pearson_sd"].dropna().to_dict() == pytest.approx(
            correlations.std(axis="columns").to_dict()
        )
        assert mine["band_high"].dropna().to_dict() == pytest.approx(
            (correlations.mean(axis=1) + correlations.std(axis=1)).to_dict()
        )
        assert mine["mask_distance"].dropna().to_dict() == pytest.approx(
            _plain_distances(each["sigma"].apply(np.array))
        )


def _plain_distances(sigma: pd.Series) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for run, epoch in sigma.index:
        before, now = sigma.get((run, epoch - 1)), sigma[(run, epoch)]
        if (
            before is not None and np.ptp(before) > 0
        ):  # scales that are all equal, as at initialisation, give no mask
            masks = [
                np.argsort(np.argsort(abs(values))) >= round(0.2 * len(values))
                for values in (before, now)
            ]
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
    before, after = (
        correlation_curve.table(runs, FIGURES["2"], chosen).dropna(subset=[column])[column]
        for chosen in (DEFAULT, options)
    )
    assert before.tolist() != after.tolist()


# The pictures


CASES: Mapping[str, tuple[dict[str, object], DrawOptions]] = {
    "16 epochs": ({}, DEFAULT),
    "one seed": ({"seeds": (3,)}, DEFAULT),
    "linear, Kendall": ({}, DrawOptions(scale="linear", method="kendall")),
    "two epochs": ({"epochs": 2, "every": 2}, DEFAULT),
    "160 epochs": ({"epochs": 160, "every": 20, "seeds": (0, 1)}, DEFAULT),
}


@pytest.mark.parametrize(("facts", "options"), CASES.values(), ids=CASES)
def test_scatter_is_readable(facts: dict[str, object], options: DrawOptions) -> None:
    table = scatter.table(
        make_runs({"resnet56": SMALL["resnet56"]}, **facts), FIGURES["3"], options
    )  # type: ignore[arg-type]
    figure = scatter.draw(table, options)
    *panels, bar = figure.axes
    assert figure.get_size_inches()[0] == style.TEXT_WIDTH
    assert len(panels) == table["epoch"].nunique() and bar.get_ylabel() == "layer depth"
    for axes, (epoch, rows) in zip(panels, table.groupby("epoch"), strict=True):
        assert axes.get_title("left").startswith(f"({'abc'[panels.index(axes)]}) ") and (
            epoch == 0 or str(epoch) in axes.get_title("left")
        )
        assert (
            axes.collections[0].get_offsets().shape == (len(rows), 2)
            and axes.collections[0].get_rasterized()
        )
        assert (
            axes.get_xscale() == options.scale
            and "nats" in axes.get_xlabel()
            and "nats²/weight²" in panels[0].get_ylabel()
        )
        (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert (
            rows["theta_g"].between(low, high).all() and rows["theta_hg"].between(bottom, top).all()
        )
        heading = axes.texts[0].get_text()
        assert (
            mean_and_sd(rows[options.method].iloc[0], rows[f"{options.method}_sd"].iloc[0])
            in heading
            and f"{len(rows)} filters" in heading
        )
    assert_readable(figure)


def test_scatter_holds_eleven_thousand_points_and_the_longest_numbers() -> None:
    runs = make_runs(
        {"mobilenet_v1": MOBILENET_FILTERS}, seeds=(0,), epochs=4, every=1, dataset="cifar100"
    )
    table = scatter.table(runs, FIGURES["14"], DEFAULT)
    assert (table["epoch"].value_counts() == sum(MOBILENET_FILTERS)).all() and sum(
        MOBILENET_FILTERS
    ) > 10_000
    spread = table.loc[table["epoch"] == 0, "theta_hg"].abs().loc[lambda sizes: sizes > 0]
    assert np.log10(spread.max() / spread.min()) > 10
    assert_readable(scatter.draw(table.assign(spearman=-0.88, spearman_sd=0.88, seeds=3), DEFAULT))


@pytest.mark.parametrize(("facts", "options"), CASES.values(), ids=CASES)
def test_correlation_curve_is_readable(facts: dict[str, object], options: DrawOptions) -> None:
    table = correlation_curve.table(make_runs(SMALL, **facts), FIGURES["2"], options)  # type: ignore[arg-type]
    figure = correlation_curve.draw(table, options)
    left, right = figure.axes[:3], figure.axes[3:]
    assert [axes.get_title("left") for axes in left] == [
        "(a) VGG-13",
        "(b) MobileNet-V1",
        "(c) ResNet-56",
    ]
    assert (
        "loss preservation" in left[0].get_ylabel()
        and "fraction of filters" in right[-1].get_ylabel()
    )
    for axes, twin, (_, rows) in zip(
        left, right, table.groupby("network", sort=False), strict=True
    ):
        assert axes.get_xlabel() == "epochs trained"
        (_, curve), (masks, chance) = axes.get_lines(), twin.get_lines()
        assert curve.get_ydata().tolist() == rows[options.method].dropna().tolist()
        assert masks.get_ydata().tolist() == rows["mask_distance"].dropna().tolist()
        assert set(chance.get_ydata()) == set(rows["chance"].dropna())
        assert (
            len({curve.get_color(), masks.get_color()})
            == len({curve.get_linestyle(), masks.get_linestyle()})
            == 2
        )
    assert_readable(figure)
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3
    assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in left)


def test_correlation_curve_of_one_network_is_readable() -> None:
    table = correlation_curve.table(
        make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,)), FIGURES["2"], DEFAULT
    )
    figure = correlation_curve.draw(table, DEFAULT)
    assert [axes.get_title("left") for axes in figure.axes] == ["VGG-13", ""]
    assert_readable(figure)


@pytest.mark.parametrize(
    "ends", [(-1.0, 1.0), (0.0, 2.5e6), (-3e-14, 4e-14), (-7.8, 1.3), (0.9, 1.1)]
)
@pytest.mark.parametrize("most", [3, 6])
def test_linear_axis_has_a_few_ticks(ends: tuple[float, float], most: int) -> None:
    ticks = scatter._linear_ticks(*ends, most)
    assert 2 <= len(ticks) <= most and ends[0] < min(ticks) and max(ticks) < ends[1]


def _grey(colour: str) -> float:
    return float(np.dot(matplotlib.colors.to_rgb(colour), (0.299, 0.587, 0.114)))


def test_colours_stay_apart_in_grey() -> None:
    grey = sorted(
        _grey(name) for name in (style.LEFT_COLOUR, style.RIGHT_COLOUR, style.GUIDE_COLOUR)
    )
    assert min(np.diff(grey)) > 0.12
    curves = sorted(_grey(style.MEASURE_COLOURS[measure]) for measure in CURVE_MEASURES)
    assert min(np.diff(curves)) > 0.12
    looks = {
        (style.MEASURE_COLOURS[measure], style.MEASURE_HATCHES[measure])
        for measure in RATIO_MEASURES
    }
    assert (
        len(looks)
        == len(RATIO_MEASURES)
        == len({style.MEASURE_MARKERS[measure] for measure in RATIO_MEASURES})
    )
    lightness = style.depth_colours()(np.linspace(0, 1, 20))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(lightness) > 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_signed_log_axis_suits_any_values(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = (
        10 ** random.uniform(-random.integers(1, 12), 2, 200)
        * random.choice([-1, 1], 200) ** random.integers(0, 2)
        * (-1) ** seed
    )
    axis = SignedLog.fit(values)
    assert ((values >= axis.low) & (values <= axis.high)).all() and axis.low <= 0 <= axis.high
    labels = axis.labelled(0.2)
    assert 0 in labels and len(labels) >= 2 and (np.diff(axis.fraction(labels)) >= 0.2).all()
    assert set(labels) <= set(axis.decades())


def test_signed_log_axis_of_next_to_nothing() -> None:
    for values in ([], [0.0], [np.nan], [0.0, 0.0]):
        axis = SignedLog.fit(np.array(values))
        assert (
            axis.threshold == 1
            and axis.low < 0 < axis.high
            and axis.labelled(0.2).tolist() == [-1, 0, 1]
        )
    assert linear_threshold(np.array([3e-5])) == pytest.approx(1e-5)
    assert linear_threshold(np.array([1e-20] * 9 + [1.0])) == pytest.approx(1e-10)


def test_words() -> None:
    assert (
        mean_and_sd(-0.004, 0.01) == "0.00 ± 0.01"
        and mean_and_sd(-0.5, np.nan) == "−0.50"
        and mean_and_sd(np.nan, np.nan) == "undefined"
    )
    assert interval(0.4, 1.3) == "[0.400, 1.000]" and interval(np.nan, np.nan) == "[no interval]"
    assert (
        scientific(-1e-7) == "−1e−7" and scientific(2.4e6) == "2.4e6" and scientific(0.25) == "0.25"
    )
    assert (
        percent(0.65) == "65.0 %"
        and percent(0.65, 0.003) == "65.0 ± 0.3 %"
        and percent(0.6, digits=0) == "60 %"
    )
    assert listed("a") == "a" and listed("abc") == "a, b and c"
