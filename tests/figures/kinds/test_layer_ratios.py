"""Pruned shares of layers: the numbers against plain pandas, the picture by structure, and what is said about the claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer

from pruneviz.experiment.networks.registry import build_network
from pruneviz.figures import style
from pruneviz.figures.catalogue import find
from pruneviz.figures.draw import save_figure
from pruneviz.figures.kinds import layer_ratios as picture
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.words import measure_title
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import RATIO_MEASURES
from tests.support.baselines import assert_as_before
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import LAYERS, SMALL, make_pruned_runs, with_coupled_layers

DEFAULT = DrawOptions()
TARGET = 0.65


def pruned(
    network: str = "vgg13", seeds: tuple[int, ...] = (0, 1, 2), rounds: tuple[int, ...] = (1, 5, 25)
) -> Runs:
    return make_pruned_runs(
        {network: LAYERS[network]},
        RATIO_MEASURES,
        rounds,
        seeds=seeds,
        target=TARGET,
        prune_phase_only=True,
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
        assert all(
            rows["layer_index"].is_monotonic_increasing for _, rows in panel.groupby("measure")
        )


# The picture


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["features.conv1", "features.conv2"], ["conv1", "conv2"]),
        (
            ["features.conv0", "features.block1.pointwise", "features.block2.pointwise"],
            ["conv0", "block1", "block2"],
        ),
        (
            ["f.block1.depthwise", "f.block1.pointwise", "f.block2.pointwise"],
            ["block1.depthwise", "block1.pointwise", "block2"],
        ),
        (["a.b", "a.b.c", "a.d.e.f"], ["b", "b.c", "d"]),
        (["encoder.conv"], ["conv"]),
        (["0", "3", "6"], ["0", "3", "6"]),
    ],
)
def test_names_are_cut_to_what_tells_layers_apart(names: list[str], short: list[str]) -> None:
    assert picture.short_names(names) == short


@pytest.mark.parametrize("network", ["vgg13", "mobilenet_v1", "resnet56"])
def test_short_names_of_the_networks_of_the_paper_are_unique(network: str) -> None:
    names = [
        name.removesuffix(".weight")
        for name, p in build_network(network, num_classes=4, width=0.125).named_parameters()
        if p.dim() == 4
    ]
    short = picture.short_names(names)
    assert len(set(short)) == len(names) and all(
        whole.endswith(cut) or f".{cut}." in f".{whole}."
        for whole, cut in zip(names, short, strict=True)
    )


def bars_of(axes: object) -> list[BarContainer]:
    return [each for each in axes.containers if isinstance(each, BarContainer)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("network", ["vgg13", "mobilenet_v1", "resnet56"])
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_picture_is_readable_and_shows_the_table(network: str, seeds: tuple[int, ...]) -> None:
    entry = replace(find("16"), need=replace(find("16").need, networks=(network,)))
    table = picture.table(with_coupled_layers(pruned(network, seeds)), entry, DEFAULT)
    figure = picture.draw(table, DEFAULT)
    shown = table[table["coupled_to"].isna()]
    assert figure.get_size_inches()[0] == style.TEXT_WIDTH
    assert [axes.get_title("left") for axes in figure.axes] == [
        "(a) 1 round",
        "(b) 5 rounds",
        "(c) 25 rounds",
    ]
    for axes, (_, panel) in zip(figure.axes, shown.groupby("rounds"), strict=True):
        assert axes.get_ylim() == (0, 100) and 100 * TARGET in axes.get_lines()[0].get_ydata()
        for bars, measure in zip(bars_of(axes), RATIO_MEASURES, strict=True):
            rows = panel[panel["measure"] == measure]
            assert [bar.get_height() for bar in bars] == pytest.approx(
                (100 * rows["ratio"]).tolist()
            )
            assert [round(bar.get_x() + bar.get_width() / 2) for bar in bars] == list(
                range(len(rows))
            )
        spreads = [each for each in axes.containers if not isinstance(each, BarContainer)]
        assert len(spreads) == (len(RATIO_MEASURES) if len(seeds) > 1 else 0)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *map(measure_title, RATIO_MEASURES),
        "target, 65 % of all",
    ]
    assert_readable(figure)
    assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in figure.axes)


def test_every_layer_of_mobilenet_that_decides_is_named(table: pd.DataFrame) -> None:
    names = ["features.conv0", *(f"features.block{number}.pointwise" for number in range(1, 14))]
    blocks = [
        table[table["layer_index"] == 0].assign(layer=name, layer_index=place)
        for place, name in enumerate(names)
    ]
    figure = picture.draw(pd.concat(blocks), DEFAULT)
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == [
        "conv0",
        *(f"block{number}" for number in range(1, 14)),
    ]
    assert not any(
        label.get_visible() and label.get_text()
        for axes in figure.axes[:-1]
        for label in axes.get_xticklabels()
    )
    assert_readable(figure)


def test_measures_stay_apart_in_grey(table: pd.DataFrame) -> None:
    looks = [
        (np.dot(to_rgb(bars[0].get_facecolor()), (0.299, 0.587, 0.114)), bars[0].get_hatch())
        for bars in bars_of(picture.draw(table, DEFAULT).axes[0])
    ]
    for place, (grey, hatch) in enumerate(looks):
        assert all(
            hatch != other or abs(grey - lightness) > 0.12
            for lightness, other in looks[place + 1 :]
        )


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
    assert_as_before(
        picture.draw(picture.table(runs, find("16"), DEFAULT), DEFAULT), "layer_ratios", tmp_path
    )


# The words


def with_loads(table: pd.DataFrame, grasp: float, others: float) -> pd.DataFrame:
    return table.assign(front_loading=np.where(table["measure"] == "grasp", grasp, others))


@pytest.mark.parametrize(
    ("grasp", "others", "verdict"),
    [
        (0.5, 0.1, "as the claim has it"),
        (0.15, 0.1, "more than every other, but not far more"),
        (0.1, 0.1, "against the claim"),
        (-0.3, 0.1, "against the claim"),
        (0.5, -0.1, "as the claim has it"),
    ],
)
def test_the_claim_is_judged_by_the_numbers(
    table: pd.DataFrame, grasp: float, others: float, verdict: str
) -> None:
    said = picture.finding(with_loads(table, grasp, others), DEFAULT)
    assert (
        said.count(verdict) == 2
        and "After 5 rounds" in said
        and "After 25 rounds" in said
        and "After 1 round " not in said
    )
    assert (
        f"has {grasp * 100:.1f} points".replace("-", "−") in said
        and f"{others * 100:.1f} points".replace("-", "−") in said
    )


def test_the_claim_is_not_judged_without_the_runs_it_is_about(table: pd.DataFrame) -> None:
    assert "not recorded" in picture.finding(table[table["rounds"] == 1], DEFAULT)
    for lacking in (table[table["measure"] != "grasp"], table[table["measure"] == "grasp"]):
        assert picture.finding(lacking, DEFAULT).count("is not recorded") == 2


def test_the_caption_and_the_numbers_are_written(runs: Runs, tmp_path: Path) -> None:
    paths = save_figure("16", with_coupled_layers(runs), tmp_path, formats=["png"])
    assert [path.name for path in paths] == ["figure16.png", "figure16.csv", "figure16.txt"]
    numbers, text = pd.read_csv(paths[1]), " ".join(paths[2].read_text(encoding="utf-8").split())
    grasp = numbers[(numbers["measure"] == "grasp") & (numbers["rounds"] == 25)]
    rows = runs.rounds[
        runs.rounds["run"].isin(
            runs.spec.loc[(runs.spec["measure"] == "grasp") & (runs.spec["rounds"] == 25), "run"]
        )
    ]
    plain = (
        rows[rows["round"] == 25]
        .assign(ratio=lambda last: 1 - last["kept"] / last["filters"])
        .groupby("layer", observed=True)["ratio"]
    )
    own = grasp[grasp["coupled_to"].isna()].set_index("layer")
    assert own["ratio"].to_dict() == pytest.approx(plain.mean().to_dict())
    percent = {
        name: f"{100 * grasp[name].iloc[0]:.1f} ± {100 * grasp[f'{name}_sd'].iloc[0]:.1f}%"
        for name in ("network_ratio", "first_half", "second_half")
    }
    line = f"{percent['network_ratio']} (first half {percent['first_half']}, second half {percent['second_half']})"
    assert f"{measure_title('grasp')}: {line}" in text
    most = own["ratio"].idxmax()
    assert f"most in {most.split('.')[1]}, {100 * own['ratio'].max():.1f}" in text
    assert (
        "9 further layers (such as features.0.depthwise)" in text
        and "far more aggressively" in text
    )


def test_coupled_layers_are_named_only_where_there_are_some(table: pd.DataFrame) -> None:
    assert "further" not in picture.drawn(table, DEFAULT) and "error bars" in picture.drawn(
        table, DEFAULT
    )
    single = picture.table(with_coupled_layers(pruned(seeds=(4,))), find("16"), DEFAULT)
    assert "9 further layers" in picture.drawn(
        single, DEFAULT
    ) and "error bars" not in picture.drawn(single, DEFAULT)
