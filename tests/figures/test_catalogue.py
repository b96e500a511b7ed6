"""The catalogue of figures: names, order and the runs each figure needs."""

from __future__ import annotations

import pytest

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import FIGURES, NETWORK_TITLES, file_stem, find, ordered
from pruneviz.figures.options import DrawOptions
from pruneviz.plans.needs import FIGURE_NEEDS

DEFAULT = DrawOptions()


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
