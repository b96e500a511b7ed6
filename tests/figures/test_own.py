"""What a folder allows beside the paper's figures."""

from __future__ import annotations

import pandas as pd
import pytest

from pruneviz.errors import FigureError
from pruneviz.figures.own import ALIKE, in_figures, own_pictures, pictures_of_kind, selected
from pruneviz.figures.plot_kinds import ALIKE_KINDS, usual_arguments
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs, together

FOUR = ["scatter", "correlation", "accuracy", "layers"]


@pytest.fixture(scope="module")
def spec() -> pd.DataFrame:
    """Runs of the paper and of a person's own, pruned and not."""
    own = together(
        make_runs({"mine": (4, 6)}, seeds=(0, 1), epochs=2, every=1),
        make_pruned_runs({"mine": (4, 6)}, measures=("l1_norm",), rounds=(3,), seeds=(0,)),
    )
    paper = {"vgg13": SMALL["vgg13"]}
    more = make_pruned_runs(paper, measures=("fisher",), rounds=(2,), seeds=(0,))
    return together(own, together(make_runs(paper, seeds=(0,)), more)).spec


def test_another_network_has_four_pictures_with_pruned_runs_beside_unpruned(
    spec: pd.DataFrame,
) -> None:
    found = {p.stem: p for p in own_pictures(spec, "data") if p.network == "mine"}
    assert sorted(found) == sorted(f"mine-{kind}" for kind in FOUR)
    unpruned = {"mine-digits-s0", "mine-digits-s1"}
    assert set(found["mine-scatter"].runs) == set(found["mine-correlation"].runs) == unpruned
    for kind in ("accuracy", "layers"):
        assert set(found[f"mine-{kind}"].runs) == {*unpruned, "mine-digits-l1norm-r3-s0"}
    assert found["mine-layers"].arguments == ({},)


def test_own_runs_of_a_network_of_the_paper_are_drawn_beside_its_unpruned_ones(
    spec: pd.DataFrame,
) -> None:
    found = {p.stem: p for p in own_pictures(spec, "data") if p.network == "VGG-13"}
    assert sorted(found) == ["vgg13-accuracy", "vgg13-layers"]
    assert set(found["vgg13-layers"].runs) == {"vgg13-digits-fisher-r2-s0", "vgg13-digits-s0"}


def test_runs_that_a_figure_of_the_paper_shows_have_no_pictures_of_their_own() -> None:
    runs = together(make_runs(SMALL, seeds=(0,)), make_pruned_runs(SMALL, seeds=(0,)))
    assert in_figures(runs.spec).all()
    assert own_pictures(runs.spec, "data") == []
    apart = own_pictures(runs.spec, "data", [("vgg13", "scatter")])
    assert [(picture.stem, picture.kind) for picture in apart] == [("vgg13-scatter", "scatter")]


def test_runs_without_names_are_called_after_their_folder() -> None:
    spec = make_runs({"mine": (4, 6)}, seeds=(0,)).spec.assign(network=None, dataset=None)
    pictures = own_pictures(spec, "my data")
    assert [picture.stem for picture in pictures] == [f"my-data-{kind}" for kind in FOUR]
    assert {picture.network for picture in pictures} == {"my data"}
    (layers,) = (picture for picture in pictures if picture.kind == "layers")
    assert layers.arguments == ({"y": "magnitude"},)


def test_several_units_have_pictures_of_their_own() -> None:
    spec = make_runs({"mine": (4, 6)}, seeds=(0, 1)).spec.assign(unit=["filter", "head"])
    stems = [picture.stem for picture in own_pictures(spec, "data")]
    assert {"mine-scatter", "mine-head-scatter"} <= set(stems)


def test_a_kind_is_drawn_of_every_network_or_of_all_at_once(spec: pd.DataFrame) -> None:
    usual = usual_arguments("scatter", {})
    each = pictures_of_kind("scatter", spec, "data", usual)
    assert [picture.stem for picture in each] == ["mine-scatter", "vgg13-scatter"]
    (one,) = pictures_of_kind("scatter", spec, "data", ({**usual[0], "hue": "network"},))
    assert one.stem == "data-scatter" and set(one.runs) == set(spec["run"])
    named = pictures_of_kind("scatter", spec, "data", ({"x": "sigma", "y": "theta_g"},))
    assert named[0].stem == "mine-scatter-theta_g-sigma"
    with pytest.raises(FigureError, match="head"):
        pictures_of_kind("scatter", spec, "data", ({"unit": "head"},))


def test_runs_are_selected_by_network_name_and_data_set(spec: pd.DataFrame) -> None:
    assert set(selected(spec, ["mine"], [], None)["network"]) == {"mine"}
    assert list(selected(spec, [], ["vgg13-digits-s0"], "digits")["run"]) == ["vgg13-digits-s0"]
    with pytest.raises(FigureError, match=r"no network 'mien'; did you mean 'mine'"):
        selected(spec, ["mien"], [], None)
    with pytest.raises(FigureError, match="leave one out"):
        selected(spec, ["mine"], ["vgg13-digits-s0"], None)


def test_kinds_that_are_drawn_without_being_named_are_those_of_the_paper() -> None:
    assert set(ALIKE_KINDS) == set(ALIKE.values())
