"""Bars per layer of any runs: the numbers against plain pandas, the picture by structure.

The paper's figures are tested in tests/figures/kinds/test_layer_ratios.py.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.image import imread

from pruneviz.errors import FigureError
from pruneviz.log.runs import Runs, load
from pruneviz.log.thinning import thin
from pruneviz.plot import style
from pruneviz.plot.layer_ratio_plot import layer_ratios
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs, save_runs, together

VGG = {"vgg13": SMALL["vgg13"]}


def pruned(**facts: Any) -> Runs:
    return make_pruned_runs(VGG, seeds=(0, 1), epochs=8, **facts)


def unpruned(**facts: Any) -> Runs:
    return make_runs(VGG, seeds=(0, 1), epochs=4, every=2, **facts)


def measured_and_pruned() -> Runs:
    """Pruned runs with filters, beside unpruned ones."""
    whole = unpruned()
    runs = whole.spec["run"].map(lambda run: f"{run}-pruned")
    spec = whole.spec.assign(run=runs, measure="mine", rounds=1, target=0.5)
    filters = whole.filters.assign(run=whole.filters["run"].astype(str) + "-pruned")
    filters = filters.assign(kept=filters["filter"] % 2 == 0)
    return together(whole, replace(whole, spec=spec, filters=filters))


def bars_of(figure: Figure, panel: int = 0) -> list[BarContainer]:
    return [each for each in figure.axes[panel].containers if isinstance(each, BarContainer)]


def own(layers: int = 3, **columns: Any) -> pd.DataFrame:
    keys = [(f"block{layer}.conv", number) for layer in range(layers) for number in range(4)]
    return pd.DataFrame(keys, columns=["layer", "filter"]).assign(**columns)


# Pruned shares


def test_shares_are_those_of_the_last_round_averaged_over_seeds() -> None:
    runs = pruned(rounds=(1, 5))
    table = layer_ratios.table(runs)
    last = runs.rounds[
        runs.rounds["round"] == runs.rounds.groupby("run", observed=True)["round"].transform("max")
    ].astype({"run": "str"})
    facts = last.merge(runs.spec[["run", "measure", "rounds"]], on="run")
    facts = facts.assign(ratio=1 - facts["kept"] / facts["filters"])
    keys = ["measure", "rounds", "layer"]
    expected = facts.groupby(keys, observed=True)["ratio"].mean()
    assert table.set_index(keys)["ratio"].to_dict() == pytest.approx(expected.to_dict())
    assert set(table["seeds"]) == {2}


def test_shares_at_an_epoch_are_those_of_the_last_round_before_it() -> None:
    runs = pruned(rounds=(5,))
    table = layer_ratios.table(runs, epoch=3, by="measure").set_index(["measure", "layer"])
    at = runs.rounds[runs.rounds["round"] == 3].astype({"run": "str", "layer": "str"})
    at = at.merge(runs.spec[["run", "measure"]], on="run")
    expected = (1 - at["kept"] / at["filters"]).groupby([at["measure"], at["layer"]]).mean()
    assert table["ratio"].to_dict() == pytest.approx(expected.to_dict())
    with pytest.raises(FigureError, match="nothing is pruned in these runs at epoch 0"):
        layer_ratios(runs, epoch=0)
    with pytest.raises(FigureError, match="epoch=-9 is before the first of 5 epochs"):
        layer_ratios(runs, epoch=-9)


def test_without_rounds_the_shares_come_from_what_is_kept() -> None:
    table = layer_ratios.table(own(kept=[True, False] + [True] * 4 + [False] * 6))
    assert table["ratio"].tolist() == [0.25, 0.5, 1.0]
    assert table["filters"].tolist() == [4, 4, 4]
    with_unpruned = layer_ratios.table(measured_and_pruned())
    assert set(with_unpruned["measure"]) == {"mine"}
    assert with_unpruned["ratio"].tolist() == pytest.approx([0.5] * len(VGG["vgg13"]), abs=0.1)


def test_a_thin_copy_without_rounds_never_shows_an_earlier_epoch_as_the_end(
    tmp_path: Path,
) -> None:
    whole = unpruned()
    gone = (whole.filters["epoch"] > 0) & (whole.filters["filter"] % 2 == 0)
    gone &= (whole.filters["epoch"] > 2) | (whole.filters["filter"] == 0)
    share = 1 - gone.groupby(whole.filters["epoch"]).mean()
    epochs = whole.epochs.assign(kept_fraction=whole.epochs["epoch"].map(share))
    save_runs(replace(whole, epochs=epochs, filters=whole.filters.assign(kept=~gone)), tmp_path)
    paths = sorted(tmp_path.iterdir())
    full = load(paths)
    for held in ([0], [0, 2]):
        copies = load([thin(path, tmp_path / f"thin{len(held)}", held).path for path in paths])
        with pytest.raises(FigureError, match=r"s0 is pruned at epoch 4, .* thin copy .*epoch="):
            layer_ratios(copies)
        with pytest.raises(FigureError, match="nothing is pruned in these runs at epoch 0"):
            layer_ratios(copies, epoch=0)
        with pytest.raises(FigureError, match="is pruned at epoch 1"):
            layer_ratios(copies, epoch=-4)
    for epoch in (2, -3):
        found = layer_ratios.table(copies, epoch=epoch)
        pd.testing.assert_frame_equal(found, layer_ratios.table(full, epoch=epoch))


def test_unpruned_thin_copies_are_left_out_beside_pruned_runs(tmp_path: Path) -> None:
    whole = unpruned()
    epochs = whole.epochs.assign(kept_fraction=1.0)
    save_runs(replace(whole, epochs=epochs), tmp_path)
    copies = load([thin(path, tmp_path / "thin", [0]).path for path in sorted(tmp_path.iterdir())])
    with pytest.raises(FigureError, match="nothing is pruned in these runs; name"):
        layer_ratios(copies)
    both = together(copies, pruned(rounds=(5,)))
    pd.testing.assert_frame_equal(
        layer_ratios.table(both), layer_ratios.table(pruned(rounds=(5,))), check_dtype=False
    )


def test_a_rounds_table_alone_is_drawn() -> None:
    rows = {"round": 1, "layer": ["a", "b"], "filters": [8, 8], "kept": [6, 2]}
    assert layer_ratios.table(pd.DataFrame(rows))["ratio"].tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "option", [{"aggregate": "bogus"}, {"aggregate": "sum"}, {"scale": "log10"}]
)
def test_options_without_an_effect_are_refused(option: dict[str, Any]) -> None:
    rows = {"round": 1, "layer": ["a", "b"], "filters": [8, 8], "kept": [6, 2]}
    with pytest.raises(FigureError, match=next(iter(option))):
        layer_ratios.table(pd.DataFrame({"run": "r", "epoch": 0, **rows}), **option)


def test_runs_that_differ_are_told_apart() -> None:
    other = pruned(keep_at_least=0.1)
    rename = {name: f"{name}-other" for name in other.spec["run"]}
    tables = {
        name: getattr(other, name).assign(run=getattr(other, name)["run"].astype(str).map(rename))
        for name in ("spec", "epochs", "rounds")
    }
    runs = together(pruned(), replace(other, **tables))
    table = layer_ratios.table(runs)
    assert set(table["keep_at_least"]) == {0.05, 0.1}
    assert set(table["seeds"]) == {2}
    assert "Magnitude, keep_at_least 0.1" in legend_of(layer_ratios(runs))


def test_runs_after_different_rounds_are_not_averaged() -> None:
    runs = pruned(rounds=(5,), measures=("magnitude",))
    first = runs.spec["run"].iloc[0]
    rounds = runs.rounds[(runs.rounds["run"] != first) | (runs.rounds["round"] < 4)]
    running = replace(runs, rounds=rounds)
    with pytest.raises(FigureError, match=rf"{first} \(round 3\) and .* \(round 5\); choose"):
        layer_ratios(running)
    assert len(layer_ratios.table(running, epoch=3))
    assert len(layer_ratios.table(running, by="run"))


def test_nothing_pruned_is_said() -> None:
    for runs in (unpruned(), together(unpruned(), unpruned(unit="weight"))):
        with pytest.raises(FigureError, match="nothing is pruned in these runs; name a column"):
            layer_ratios(runs)


# Columns and measures


@pytest.mark.parametrize("aggregate", ["mean", "median", "sum", "min", "max", "std", "count"])
def test_a_column_is_aggregated_per_layer_and_averaged_over_seeds(aggregate: str) -> None:
    runs = unpruned()
    table = layer_ratios.table(runs, "theta_g", aggregate=aggregate, epoch=2)
    rows = runs.filters[runs.filters["epoch"] == 2]
    by_run = rows.groupby(["layer", "run"], observed=True)["theta_g"].agg(aggregate)
    by_layer = by_run.groupby("layer", observed=True)
    assert table["layer"].tolist() == list(by_layer.groups)
    assert table["value"].tolist() == pytest.approx(by_layer.mean().tolist())
    assert table["value_sd"].tolist() == pytest.approx(by_layer.std().tolist())
    assert set(table["epoch"]) == {2}


def test_measures_and_functions_count_what_is_kept() -> None:
    runs = measured_and_pruned()
    named = layer_ratios.table(runs, "magnitude")
    own_measure = layer_ratios.table(runs, lambda rows: np.sqrt(rows["theta_norm2"]))
    assert own_measure["value"].tolist() == pytest.approx(named["value"].tolist())
    halves = named.groupby(named["measure"].fillna("unpruned"))["filters"].sum()
    assert halves["mine"] == pytest.approx(halves["unpruned"] / 2, abs=2)


def test_absent_values_do_not_count() -> None:
    table = layer_ratios.table(own(a=[1.0, np.nan, 3.0, np.nan] + [np.nan] * 4 + [2.0] * 4), "a")
    assert table["layer"].tolist() == ["block0.conv", "block2.conv"]
    assert table["layer_index"].tolist() == [0, 2]
    assert table["value"].tolist() == [2.0, 2.0]
    assert table["filters"].tolist() == [2, 4]


def test_what_is_not_there_is_named() -> None:
    runs = unpruned()
    with pytest.raises(FigureError, match="y: there is no column or measure 'teta_g'; did you"):
        layer_ratios(runs, "teta_g")
    with pytest.raises(FigureError, match="there is no aggregate 'average'"):
        layer_ratios(runs, "theta_g", aggregate="average")
    with pytest.raises(FigureError, match="epoch 3 holds none of these values; the epochs that do"):
        layer_ratios(runs, "theta_g", epoch=3)
    with pytest.raises(FigureError, match="scale='log' needs positive values"):
        layer_ratios(runs, "theta_g", scale="log")
    with pytest.raises(FigureError, match="there is no scale 'logarithmic'"):
        layer_ratios(runs, "theta_g", scale="logarithmic")
    with pytest.raises(FigureError, match="shares are linear"):
        layer_ratios(pruned(), scale="log")


# The picture


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_unpruned_runs_are_a_line_beside_the_bars() -> None:
    runs = measured_and_pruned()
    table = layer_ratios.table(runs, "theta_norm2", aggregate="sum")
    figure = layer_ratios(runs, "theta_norm2", aggregate="sum")
    assert legend_of(figure) == ["mine", "unpruned", "± 1 sd over runs"]
    (bars,) = bars_of(figure)
    own_rows = table[table["measure"] == "mine"]
    assert [bar.get_height() for bar in bars] == pytest.approx(own_rows["value"].tolist())
    lines = figure.axes[0].collections
    reference = next(line for line in lines if line.get_linewidth()[0] == 1.2)
    heights = [path.vertices[0][1] for path in reference.get_paths()]
    assert heights == pytest.approx(table.loc[table["measure"].isna(), "value"].tolist())
    assert_readable(figure)


def test_networks_have_panels_with_layers_of_their_own() -> None:
    runs = make_pruned_runs({"vgg13": SMALL["vgg13"], "mobilenet_v1": (4, 4)}, seeds=(0,))
    figure = layer_ratios(runs)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["(a) VGG-13", "(b) MobileNet-V1"]
    assert [len(bars_of(figure, panel)[0]) for panel in (0, 1)] == [len(VGG["vgg13"]), 2]
    assert_readable(figure)


@pytest.mark.parametrize("scale", ["linear", "symlog", "log"])
def test_values_on_every_scale_are_readable(scale: Any) -> None:
    y = "theta_g" if scale == "symlog" else "loss_preservation"
    figure = layer_ratios(unpruned(), y, scale=scale)
    label = figure.axes[0].get_ylabel()
    assert label.startswith("mean of ")
    assert label.endswith("(nats)\nepoch 4")
    assert_readable(figure)


def test_sixty_layers_and_twelve_measures_of_odd_names_are_readable() -> None:
    random = np.random.default_rng(0)
    rows = [
        {"measure": f"m_{m}$<x>", "run": f"r{m}", "network": "<net>_$", "layer": f"enc.{n}.out_ß"}
        for m in range(12)
        for n in range(60)
    ]
    table = pd.DataFrame(rows).assign(round=1, epoch=1, rounds=1, filters=64)
    figure = layer_ratios(table.assign(kept=random.integers(3, 64, len(table))))
    assert len(legend_of(figure)) == 12
    assert len([line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 60]) == 12
    assert_readable(figure)


def test_one_layer_of_one_filter_is_drawn() -> None:
    figure = layer_ratios(own(1, a=0.5).head(1), "a")
    assert [bar.get_height() for bar in bars_of(figure)[0]] == [0.5]
    assert_readable(figure)


def test_given_axes_are_drawn_into_and_hold_one_panel() -> None:
    axes = Figure().subplots()
    assert layer_ratios(pruned(), ax=axes) is axes
    assert axes.get_ylabel() == "pruned filters of the layer (%)"
    target = [line for line in axes.get_lines() if line.get_color() == style.NOTE_COLOUR]
    assert target[0].get_ydata()[0] == pytest.approx(60)
    with pytest.raises(FigureError, match="has 2: VGG-13, 1 round and VGG-13, 5 rounds; choose"):
        layer_ratios(pruned(rounds=(1, 5)), ax=axes)


@pytest.mark.parametrize(
    ("unit", "what"), [("filter", "filters"), ("head", "heads"), ("weight", "weights")]
)
def test_the_axis_names_what_is_pruned(unit: str, what: str) -> None:
    table = own(kept=[True, False] * 6, unit=unit)
    assert layer_ratios(table).axes[0].get_ylabel() == f"pruned {what}\nof the layer (%)"


def test_a_single_measure_is_named() -> None:
    figure = layer_ratios(pruned(measures=("magnitude",)))
    assert legend_of(figure) == ["Magnitude", "± 1 sd over runs", "target, 60 % of all"]


def test_error_bars_are_seen_on_dark_bars() -> None:
    runs = pruned(rounds=(5,))
    rounds = runs.rounds.assign(kept=runs.rounds["filters"] // 4)
    rounds.loc[rounds["run"].astype(str).str.endswith("s1"), "kept"] *= 2
    figure = layer_ratios(replace(runs, rounds=rounds), runs={"measure": "magnitude"})
    axes, (bar, *_) = figure.axes[0], figure.axes[0].patches
    picture = io.BytesIO()
    figure.savefig(picture, dpi=300, format="png")
    picture.seek(0)
    grey = imread(picture)[:, :, :3].mean(axis=2)
    middle = bar.get_x() + bar.get_width() / 2
    across, up = axes.transData.transform((middle, bar.get_height() - 5)) * 300 / figure.dpi
    row = grey[len(grey) - round(up), round(across) - 9 : round(across) + 10]
    white = np.flatnonzero(row > 0.9)
    assert len(white) >= 6, "white on both sides"
    assert np.sum(row[white[0] : white[-1]] < 0.4) >= 4, "the error bar, 1.2 points wide"
    assert row[0] < 0.4 and row[-1] < 0.4, "the bar"
