"""Pictures of any network come with the files, texts and numbers of a figure."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pruneviz import plot
from pruneviz.errors import FigureError
from pruneviz.figures.caption import LINES, WIDTH
from pruneviz.figures.own import OwnPicture, own_pictures
from pruneviz.figures.plot_kinds import KINDS
from pruneviz.figures.plot_pictures import compose_plot, save_plot
from pruneviz.log.runs import Runs
from tests.figures.test_details import KEYS
from tests.support.synthetic_runs import make_pruned_runs, make_runs, together

ARGUMENTS: dict[str, dict[str, Any]] = {
    "scatter": {"x": "theta_g", "y": "theta_hg", "scale": "linear"},
    "correlation": {"x": "sigma_change", "y": "loss_preservation"},
    "layers": {"y": "magnitude"},
    "accuracy": {},
    "heatmap": {},
    "trajectory": {"y": "theta_g"},
    "masks": {},
}


@pytest.fixture(scope="module")
def runs() -> Runs:
    unpruned = make_runs({"mine": (4, 6, 8)}, seeds=(0, 1), epochs=4, every=2)
    pruned = make_pruned_runs({"mine": (4, 6, 8)}, measures=("l1_norm",), seeds=(0,), epochs=4)
    found = together(unpruned, pruned)
    return replace(found, spec=found.spec.assign(preset=None, dataset=None))


def chosen(kind: str, runs: Runs) -> Runs:
    names = runs.spec["run"]
    pruned = names.str.contains("l1norm")
    return runs.named(names[pruned] if kind == "accuracy" else names[~pruned])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_numbers_texts_and_data(kind: str, runs: Runs) -> None:
    shown = chosen(kind, runs)
    composed = compose_plot(kind, shown, "mine", ARGUMENTS[kind], "mine")
    table = getattr(plot, KINDS[kind].function).table
    own = {name: value for name, value in ARGUMENTS[kind].items() if name != "scale"}
    pd.testing.assert_frame_equal(composed.numbers, table(shown, **own))
    assert composed.picture.axes
    lines = composed.words.text("mine.json").splitlines()
    assert lines[0].startswith("mine: ")
    assert 4 <= len(lines) <= LINES and max(map(len, lines)) <= WIDTH
    assert tuple(composed.details) == KEYS
    assert json.loads(json.dumps(composed.details, allow_nan=False)) == composed.details
    drawing = composed.details["options"]["drawing"]
    parameters = set(inspect.signature(getattr(plot, KINDS[kind].function)).parameters)
    assert set(drawing) == parameters - {"source", "runs", "ax"}
    assert ARGUMENTS[kind].items() <= drawing.items()
    assert {run["run"] for run in composed.details["runs"]} == set(shown.spec["run"])


def test_values_of_a_scatter_are_its_panels(runs: Runs) -> None:
    composed = compose_plot("scatter", chosen("scatter", runs), "mine", ARGUMENTS["scatter"], "m")
    values = pd.DataFrame(composed.details["values"])
    assert list(values["epoch"]) == sorted(set(composed.numbers["epoch"]))
    assert "pearson" in values and not {"filter", "theta_g"} & set(values)


def test_own_pictures_are_written_beside_each_other(runs: Runs, tmp_path: Path) -> None:
    for picture in own_pictures(runs.spec, "data"):
        stem = tmp_path / picture.stem
        save_plot(picture, runs.named(picture.runs), stem, ["svg"], some=True)
    found = sorted(path.name for path in tmp_path.iterdir())
    kinds = ("accuracy", "correlation", "layers", "scatter")
    assert found == [f"mine-{kind}.{e}" for kind in kinds for e in ("csv", "json", "svg", "txt")]
    assert (
        '<title id="mine-scatter-title">mine: theta_hg'
        in (tmp_path / "mine-scatter.svg").read_text()
    )


def test_arguments_are_tried_one_after_the_other(runs: Runs, tmp_path: Path) -> None:
    shown = chosen("correlation", runs)
    wrong, right = {"x": "nothing", "y": "theta_g"}, {"x": "magnitude", "y": "theta_g"}
    picture = OwnPicture("correlation", "mine", "mine", tuple(shown.spec["run"]), (wrong, right))
    *_, path = save_plot(picture, shown, tmp_path / "mine", [])
    assert json.loads(path.read_text())["options"]["drawing"]["x"] == right["x"]
    with pytest.raises(FigureError, match="nothing"):
        save_plot(replace(picture, arguments=(wrong,)), shown, tmp_path / "mine", [])


def test_a_failure_is_not_taken_for_quantities_that_are_not_held(
    runs: Runs, tmp_path: Path
) -> None:
    shown = chosen("correlation", runs)
    first = {"x": "sigma", "y": "theta_g", "epochs": 99}
    arguments = (first, {"x": "magnitude", "y": "theta_g"})
    picture = OwnPicture("correlation", "mine", "mine", tuple(shown.spec["run"]), arguments)
    with pytest.raises(FigureError, match="99"):
        save_plot(picture, shown, tmp_path / "mine", [])
    (tmp_path / "file").touch()
    good = replace(picture, arguments=({"x": "sigma", "y": "theta_g"}, {"x": "no", "y": "no"}))
    with pytest.raises(FigureError, match="file"):
        save_plot(good, shown, tmp_path / "file" / "mine", [])


def test_options_in_force_stand_in_the_data_where_none_were_given(runs: Runs) -> None:
    shown = chosen("correlation", runs)

    def drawing(kind: str, **arguments: Any) -> dict[str, Any]:
        composed = compose_plot(kind, shown, "mine", arguments, "mine")
        return composed.details["options"]["drawing"]

    pair = drawing("correlation", x="theta_g", y="theta_hg")
    assert {
        "method": "pearson",
        "mask_score": "bn_scale",
        "mask_ratio": 0.2,
    }.items() <= pair.items()
    every = drawing("correlation", y="loss_preservation")
    assert every["mask_score"] is None and {"magnitude", "random"} <= set(every["x"])
    points = drawing("scatter", x="theta_g", y="theta_hg")
    assert {"hue": "depth", "scale": "symlog", "method": "pearson"}.items() <= points.items()
    masks = drawing("masks")
    assert (masks["score"], masks["ratio"], masks["order"]) == ("bn_scale", 0.2, "kept")
    assert drawing("heatmap", against="magnitude")["over"] == "epoch"


def test_runs_that_are_not_drawn_are_not_listed(runs: Runs) -> None:
    for kind in ("scatter", "correlation"):
        composed = compose_plot(kind, runs, "mine", ARGUMENTS[kind], "mine")
        assert {run["run"] for run in composed.details["runs"]} == {
            "mine-digits-s0",
            "mine-digits-s1",
        }
        assert composed.words.made.startswith("2 runs: ")
    weights = make_runs({"mine": (4, 6, 8)}, seeds=(0,), epochs=4, every=2, unit="weight")
    both = together(chosen("layers", runs), weights)
    layers = compose_plot("layers", both, "mine", ARGUMENTS["layers"], "mine").details
    assert len(layers["runs"]) == 2 and layers["options"]["drawing"]["unit"] == "filter"
    with_accuracies = compose_plot("accuracy", chosen("accuracy", runs), "mine", {}, "mine")
    assert len(with_accuracies.details["runs"]) == 1
