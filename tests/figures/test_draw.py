"""From recordings to a figure: in memory, for other networks, and as files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.draw import compose, draw, save_figure
from pruneviz.figures.kinds import scatter
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs, load
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs, save_runs

DEFAULT = DrawOptions()
TEXTS = ("figure03.txt", "figure03.json")


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs({"resnet56": SMALL["resnet56"]})


def own_runs(**facts: object) -> Runs:
    """Runs of a person's own network, recorded with few facts."""
    runs = make_runs({"mine": (4, 6)}, seeds=(0,), epochs=2, every=1)
    return replace(runs, spec=runs.spec.assign(**facts))


# In memory


def test_draw_gives_the_picture_of_compose(runs: Runs) -> None:
    picture, composed = draw("fig3", runs), compose(3, runs)
    assert isinstance(picture, Figure)
    assert [axes.get_title("left") for axes in picture.axes[:3]] == [
        axes.get_title("left") for axes in composed.picture.axes[:3]
    ]
    assert composed.entry is FIGURES["3"]
    assert composed.caption.startswith("Figure 3. theta_hg against theta_g")
    assert composed.finding == composed.details["finding"]
    pd.testing.assert_frame_equal(composed.numbers, scatter.table(runs, FIGURES["3"], DEFAULT))


def test_draw_follows_its_options(runs: Runs) -> None:
    picture = draw("3", runs, options=DrawOptions(scale="linear", method="kendall"))
    assert picture.axes[0].get_xscale() == "linear"
    assert "τ " in picture.axes[0].texts[0].get_text()


def test_compose_gives_the_tables_beside_an_accuracy_curve() -> None:
    composed = compose("5", make_pruned_runs({"vgg13": SMALL["vgg13"]}, seeds=(0, 1)))
    assert list(composed.tables) == ["convergence", "leads"]
    assert "magnitude before proposed, points: " in composed.finding


@pytest.mark.parametrize("facts", [{}, {"dataset": None}, {"dataset": None, "seed": None}])
def test_another_network_is_drawn_whatever_facts_its_runs_have(facts: dict[str, None]) -> None:
    composed = compose("3", own_runs(**facts), networks=["mine"])
    assert set(composed.numbers["network"]) == {"mine"}
    assert len(composed.picture.axes) == 3  # two epochs and the colour bar
    assert composed.caption.startswith("As Figure 3. theta_hg against theta_g of every filter of m")
    where = "an unnamed data set" if facts else "digits"
    assert f"one filter of mine trained on {where}" in " ".join(composed.caption.split())


def test_another_network_is_drawn_from_files(tmp_path: Path) -> None:
    save_runs(own_runs(dataset=None), tmp_path)
    assert draw("2", load(tmp_path), networks="mine").axes[0].get_title("left") == "mine"


def test_several_other_networks_have_a_panel_each() -> None:
    runs = make_runs({"one": (4, 6), "two": (5,)}, seeds=(0,), epochs=2, every=1)
    picture = draw("2", runs, networks=["two", "one"])
    titles = [axes.get_title("left") for axes in picture.axes[:2]]
    assert titles == ["(a) two", "(b) one"]


def test_pruned_runs_of_another_network_are_drawn() -> None:
    runs = make_pruned_runs({"mine": (16, 24)}, rounds=(5,), seeds=(0,))
    assert "of mine pruned in 5 rounds" in compose("5", runs, networks=["mine"]).caption


def test_a_named_data_set_comes_before_runs_without_one() -> None:
    runs = make_runs({"mine": (4, 6)}, seeds=(0, 1), epochs=2, every=1)
    runs = replace(runs, spec=runs.spec.assign(dataset=["digits", None]))
    assert set(compose("3", runs, networks=["mine"]).numbers["run"]) == {"mine-digits-s0"}


def test_initialisation_alone_is_one_panel_whose_caption_says_so() -> None:
    composed = compose("3", make_runs({"resnet56": (4, 6)}, epochs=0, every=1))
    panel, bar = composed.picture.axes
    assert bar.get_ylabel() == "layer depth"
    assert panel.get_title("left") == "ResNet-56\ninitialisation"
    assert len(panel.collections[0].get_offsets()) == 10
    assert_readable(composed.picture)
    caption = " ".join(composed.caption.split())
    assert "Panel (a) of the paper alone: these runs were measured at initialisation" in caption
    assert "One point is one filter of ResNet-56 before training, measured on digits" in caption
    assert " at initialisation, over 10 filters and 3 seeds." in caption
    assert "trained on" not in caption and "epoch 0 of 0" not in caption


def test_missing_recordings_are_told_with_the_networks_that_are_there() -> None:
    with pytest.raises(FigureError, match=r"no finished run of resnet56.*networks=\['mine'\]"):
        draw("3", own_runs())
    with pytest.raises(FigureError, match=r"no finished run of yours.*which hold mine on digits"):
        draw("3", own_runs(), networks=["yours"])


@pytest.mark.parametrize("wrong", ["data/mine", Path("data/mine"), None, pd.DataFrame()])
def test_runs_that_are_not_loaded_are_refused(wrong: object) -> None:
    with pytest.raises(FigureError, match=rf"runs is a {type(wrong).__name__}.*pruneviz\.load"):
        draw("3", wrong)  # type: ignore[arg-type]


# As files


def test_files_are_whole_reproducible_and_tell_all(runs: Runs, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    folder = tmp_path / "new" / "folder"
    first = {path.name: path.read_bytes() for path in save_figure("3", runs, folder)}
    assert list(first) == ["figure03.pdf", "figure03.png", "figure03.csv", *TEXTS]
    assert {path.name for path in folder.iterdir()} == set(first)
    paths = save_figure("3", runs, tmp_path, formats=["pdf", "svg"])
    again = {path.name: path.read_bytes() for path in paths}
    for name in ("figure03.pdf", "figure03.csv", *TEXTS):
        assert again[name] == first[name]
    assert b"<dc:date>" not in again["figure03.svg"]
    assert b"CreationDate" not in first["figure03.pdf"]
    assert b"/CIDFontType2" in first["figure03.pdf"]
    assert b"/Type3" not in first["figure03.pdf"]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "figure03.csv"),
        scatter.table(runs, FIGURES["3"], DEFAULT),
        check_dtype=False,
        check_categorical=False,
        rtol=1e-12,
    )
    assert dict(matplotlib.rcParams) == before


def test_drawing_loads_neither_torch_nor_pyplot() -> None:
    modules = "pruneviz.figures, pruneviz.figures.__main__, pruneviz.figures.draw"
    code = f"import sys, {modules}; assert not {{'torch', 'matplotlib.pyplot'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
