"""Figures 16 and 17: the table in order, the picture by structure, the words."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.container import BarContainer

from pruneviz.figures.catalogue import find
from pruneviz.figures.draw import compose, save_figure
from pruneviz.figures.kinds import layer_ratios as picture
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import RATIO_MEASURES
from pruneviz.plot import style
from pruneviz.plot.words import measure_title, network_title
from tests.support.baselines import assert_as_before
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import LAYERS, SMALL, make_pruned_runs, with_coupled_layers

DEFAULT = DrawOptions()
TARGET = 0.65


def pruned(network: str = "vgg13", seeds: tuple[int, ...] = (0, 1, 2)) -> Runs:
    layers = {network: LAYERS[network]}
    return make_pruned_runs(
        layers, RATIO_MEASURES, (1, 5, 25), seeds=seeds, target=TARGET, prune_phase_only=True
    )


@pytest.fixture(scope="module")
def runs() -> Runs:
    return pruned()


@pytest.fixture(scope="module")
def table(runs: Runs) -> pd.DataFrame:
    return picture.table(runs, find("16"), DEFAULT)


# The table


def test_the_table_is_in_the_order_of_the_picture(table: pd.DataFrame) -> None:
    assert list(dict.fromkeys(table["rounds"])) == [1, 5, 25]
    for _, panel in table.groupby("rounds"):
        assert tuple(dict.fromkeys(panel["measure"])) == RATIO_MEASURES
        for _, rows in panel.groupby("measure"):
            assert rows["layer_index"].is_monotonic_increasing


# The picture


def bars_of(axes: Axes) -> list[BarContainer]:
    return [each for each in axes.containers if isinstance(each, BarContainer)]


@pytest.mark.parametrize(
    ("network", "seeds"),
    [("vgg13", (0,)), ("mobilenet_v1", (0,)), ("vgg13", (0, 1, 2)), ("resnet56", (0, 1))],
)
def test_picture_is_readable_and_shows_the_table(network: str, seeds: tuple[int, ...]) -> None:
    entry = find("16").with_networks(network)
    table = picture.table(with_coupled_layers(pruned(network, seeds)), entry, DEFAULT)
    figure = picture.draw(table, DEFAULT)
    shown = table[table["coupled_to"].isna()]
    assert figure.get_size_inches()[0] == style.TEXT_WIDTH
    titles = [axes.get_title("left") for axes in figure.axes]
    name = network_title(network)
    assert titles == [f"(a) {name}, 1 round", f"(b) {name}, 5 rounds", f"(c) {name}, 25 rounds"]
    for axes, (_, panel) in zip(figure.axes, shown.groupby("rounds"), strict=True):
        assert axes.get_ylim() == (0, 100)
        assert 100 * TARGET in axes.get_lines()[0].get_ydata()
        for bars, measure in zip(bars_of(axes), RATIO_MEASURES, strict=True):
            ratios = 100 * panel.loc[panel["measure"] == measure, "ratio"]
            assert [bar.get_height() for bar in bars] == pytest.approx(ratios.tolist())
            places = [round(bar.get_x() + bar.get_width() / 2) for bar in bars]
            assert places == list(range(len(ratios)))
        spreads = len(axes.containers) - len(bars_of(axes))
        assert spreads == (2 * len(RATIO_MEASURES) if len(seeds) > 1 else 0)  # white below dark
    (legend,) = figure.legends
    shown_titles = [text.get_text() for text in legend.get_texts()]
    assert ("± 1 sd over runs" in shown_titles) == (len(seeds) > 1)
    named = [text for text in shown_titles if text not in ("0 %", "± 1 sd over runs")]
    assert named == [*map(measure_title, RATIO_MEASURES), "target, 65 % of all"]
    assert_readable(figure)
    assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in figure.axes)


def test_every_layer_of_mobilenet_that_decides_is_named(table: pd.DataFrame) -> None:
    blocks = [f"block{number}" for number in range(1, 14)]
    names = ["features.conv0", *(f"features.{block}.pointwise" for block in blocks)]
    first = table[table["layer_index"] == 0]
    layers = [first.assign(layer=name, layer_index=place) for place, name in enumerate(names)]
    figure = picture.draw(pd.concat(layers), DEFAULT)
    *upper, lowest = figure.axes
    assert [label.get_text() for label in lowest.get_xticklabels()] == ["conv0", *blocks]
    for axes in upper:
        labels = axes.get_xticklabels()
        assert not any(label.get_visible() and label.get_text() for label in labels)
    assert_readable(figure)


def test_measures_stay_apart_in_grey_by_more_than_the_direction_of_hatches(
    table: pd.DataFrame,
) -> None:
    """Measured on rendered pixels: the kind of a hatch, or the grey of the whole bar, differs."""
    figure = picture.draw(table.assign(ratio=1.0), DEFAULT)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3] @ (0.299, 0.587, 0.114) / 255
    looks = []
    for bars in bars_of(figure.axes[0]):
        left, low, right, high = (round(end) for end in bars[0].get_window_extent().extents)
        inside = pixels[len(pixels) - high + 2 : len(pixels) - low - 2, left + 2 : right - 2]
        kinds = {"": "plain", ".": "dots", "x": "cross"}
        looks.append((float(inside.mean()), kinds.get((bars[0].get_hatch() or "")[:1], "lines")))
    assert len({kind for _, kind in looks}) == 4
    for (grey, kind), (other_grey, other_kind) in itertools.combinations(looks, 2):
        assert kind != other_kind or abs(grey - other_grey) > 0.1


def test_nothing_pruned_is_told_apart_from_nothing_recorded(table: pd.DataFrame) -> None:
    lacking = table[(table["rounds"] != 5) | (table["measure"] != "grasp")]
    none = lacking["ratio"].where(lacking["measure"] != "magnitude", 0.0)
    figure = picture.draw(lacking.assign(ratio=none), DEFAULT)
    colour = to_rgba(style.MEASURE_COLOURS["magnitude"])
    layers = table[table["coupled_to"].isna()]["layer"].nunique()
    for axes in figure.axes:
        (strokes,) = (each for each in axes.collections if tuple(each.get_color()[0]) == colour)
        assert len(strokes.get_segments()) == layers
        assert {y for segment in strokes.get_segments() for _, y in segment} == {0}
        assert strokes.get_linewidth()[0] > 2 and not strokes.get_clip_on()
    notes = [axes.get_title("right") for axes in figure.axes]
    assert notes == ["", "not recorded: GraSP (T = 1)", ""]
    assert "0 %" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "A stroke on the axis: 0 % of the layer" in picture.drawn(lacking, DEFAULT)
    assert_readable(figure)


def test_a_layer_of_which_little_is_pruned_has_a_bar_that_is_seen(table: pd.DataFrame) -> None:
    figure = picture.draw(table.assign(ratio=0.0078), DEFAULT)
    for bars in bars_of(figure.axes[0]):
        assert all(bar.get_hatch() in ("", None) and bar.get_linewidth() == 0 for bar in bars)
    assert "0 %" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_measure_that_one_panel_lacks_leaves_its_place_empty(table: pd.DataFrame) -> None:
    figure = picture.draw(table[(table["rounds"] != 5) | (table["measure"] != "grasp")], DEFAULT)
    first, second = (bars_of(axes) for axes in figure.axes[:2])
    assert len(second[RATIO_MEASURES.index("grasp")]) == 0
    assert [bar.get_x() for bar in second[-1]] == [bar.get_x() for bar in first[-1]]


def test_picture_is_as_its_baseline(tmp_path: Path) -> None:
    runs = make_pruned_runs(
        {"vgg13": SMALL["vgg13"]},
        RATIO_MEASURES,
        (1, 5, 25),
        seeds=(0, 1),
        target=TARGET,
        prune_phase_only=True,
    )
    table = picture.table(runs, find("16"), DEFAULT)
    assert_as_before(picture.draw(table, DEFAULT), "layer_ratios", tmp_path)


# The words


def test_the_numbers_are_those_of_the_last_round(runs: Runs) -> None:
    numbers = compose("16", with_coupled_layers(runs)).numbers
    grasp = numbers[(numbers["measure"] == "grasp") & (numbers["rounds"] == 25)]
    names = runs.spec.loc[(runs.spec["measure"] == "grasp") & (runs.spec["rounds"] == 25), "run"]
    last = runs.rounds[runs.rounds["run"].isin(names) & (runs.rounds["round"] == 25)]
    ratios = (1 - last["kept"] / last["filters"]).groupby(last["layer"], observed=True).mean()
    own = grasp[grasp["coupled_to"].isna()].set_index("layer")
    assert own["ratio"].to_dict() == pytest.approx(ratios.to_dict())


def test_the_caption_holds_the_numbers(runs: Runs) -> None:
    composed = compose("16", with_coupled_layers(runs))
    text, numbers = " ".join(composed.long_caption.split()), composed.numbers
    grasp = numbers[(numbers["measure"] == "grasp") & (numbers["rounds"] == 25)]
    whole, third, first, second = (
        f"{100 * grasp[name].iloc[0]:.1f} ± {100 * grasp[f'{name}_sd'].iloc[0]:.1f}%"
        for name in ("network_ratio", "first_third", "first_half", "second_half")
    )
    line = f"{whole} (first third {third}; first half {first}, second half {second})"
    assert f"{measure_title('grasp')}: {line}" in text
    own = grasp[grasp["coupled_to"].isna()].set_index("layer")
    most = own["ratio"].idxmax()
    assert f"most in layer {most.split('.')[1]}, {100 * own['ratio'].max():.1f}" in text
    assert "9 further layers (such as features.0.depthwise)" in text
    assert "far more aggressively" in text


def test_the_figure_is_written(runs: Runs, tmp_path: Path) -> None:
    paths = save_figure("16", runs, tmp_path, formats=["png"])
    assert [path.suffix for path in paths] == [".png", ".csv", ".txt", ".json"]


def test_coupled_layers_are_named_only_where_there_are_some(table: pd.DataFrame) -> None:
    words = picture.drawn(table, DEFAULT)
    assert "further" not in words
    assert "error bars" in words
    single = picture.table(with_coupled_layers(pruned(seeds=(4,))), find("16"), DEFAULT)
    words = picture.drawn(single, DEFAULT)
    assert "9 further layers" in words
    assert "error bars" not in words
