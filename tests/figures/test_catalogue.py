"""The catalogue of figures: names, order, titles and the runs that each figure needs."""

from __future__ import annotations

import pytest

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import FIGURES, file_stem, find, ordered, same_figures
from pruneviz.plans.needs import FIGURE_NEEDS
from pruneviz.plot.words import NETWORK_TITLES

SCATTERS = ("3", "13", "14", "15", "H1a")


def test_figures_are_ordered_as_in_the_paper() -> None:
    asked = ["13", "H1b", "3", "03", "2", "h1A", "15"]
    assert ordered(asked) == ["2", "3", "13", "15", "H1a", "H1b"]
    assert list(FIGURES) == [*map(str, range(1, 18)), "H1a", "H1b", "I1"]
    assert ordered(FIGURES) == list(FIGURES)


def test_files_sort_as_the_figures_do() -> None:
    stems = [file_stem(name) for name in ("2", "13", "h1a", "fig3")]
    assert stems == ["figure02", "figure13", "figureH1a", "figure03"]


@pytest.mark.parametrize("name", ["3", "03", "fig3", "fig. 3", "figure03", "Figure 3", " 3 ", 3])
def test_a_figure_is_found_by_every_common_spelling(name: str | int) -> None:
    assert find(name) is FIGURES["3"]


def test_figures_of_the_appendix_are_found_without_regard_to_case() -> None:
    assert find("h1a") is find("figureH1a") is FIGURES["H1a"]
    assert find("i1") is FIGURES["I1"]
    assert FIGURES["I1"].dataset == "tiny-imagenet"


@pytest.mark.parametrize(
    ("figure", "same"), [("3", ["3", "15"]), ("12", ["1", "12"]), ("14", ["14"]), ("2", ["2"])]
)
def test_figures_of_the_same_runs_and_kind_are_the_same(figure: str, same: list[str]) -> None:
    assert same_figures(FIGURES[figure]) == same


@pytest.mark.parametrize("name", ["99", "", "0", "figure", "fig99", "2b"])
def test_an_unknown_figure_is_named_with_those_that_exist(name: str) -> None:
    with pytest.raises(FigureError, match=rf"no figure '{name}'.*1, 2, 3, .*17, H1a, H1b, I1"):
        find(name)


def test_a_misspelt_figure_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(FigureError, match="did you mean 'H1a'"):
        find("H-1-aa")


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_draws_the_runs_that_are_recorded_for_it(figure: str) -> None:
    entry, need = FIGURES[figure], FIGURE_NEEDS[figure]
    assert entry.need is need
    assert entry.networks == need.networks
    unpruned = "scatter" if figure in SCATTERS else "correlation_curve"
    kinds = {"pruned": "accuracy_curve", "prune_phase": "layer_ratios"}
    assert entry.kind == kinds.get(need.kind, unpruned)
    if entry.kind != "correlation_curve":
        assert all(NETWORK_TITLES[network] in entry.title for network in need.networks)
    if need.kind == "pruned":
        assert f"{need.rounds[0]} round" in entry.title


def test_a_figure_of_another_network_says_for_which_the_claim_was_stated() -> None:
    entry = find("3").with_networks(["mine"])
    assert entry.networks == ("mine",)
    assert entry.title == "theta_hg against theta_g of every filter of mine"
    assert entry.claim.endswith("after 160 epochs (stated for ResNet-56)")
    assert find("5").with_networks("mine").claim == find("5").claim  # which already says it
    assert find("2").with_networks(["a", "b", "a"]).networks == ("a", "b")


def test_networks_that_a_figure_cannot_show_are_refused() -> None:
    with pytest.raises(FigureError, match="networks is empty"):
        find("3").with_networks([])
    with pytest.raises(FigureError, match=r"networks is \['a', 'b'\], but this figure shows one"):
        find("3").with_networks(["a", "b"])
