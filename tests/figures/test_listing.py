"""What is listed of a folder."""

from __future__ import annotations

from pathlib import Path

from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.listing import lines_about
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.tasks import Place
from tests.support.synthetic_runs import SMALL, make_runs

PLACE = Place(Path("data/x"), Path("figures/x"), ("pdf",))


def test_figures_without_runs_are_listed_only_where_they_may_be_recorded() -> None:
    recorded = make_runs(SMALL, seeds=(0,)).spec
    assert len(lines_about(recorded, PLACE, DrawOptions(), [])) == len(FIGURES)
    foreign = recorded.assign(preset=None)
    lines = lines_about(foreign, PLACE, DrawOptions(), [])
    assert [line.split()[0] for line in lines] == ["2", "3", "13", "14", "15"]
    (asked,) = lines_about(foreign, PLACE, DrawOptions(), ["5"])
    assert asked.split()[0] == "5" and "[not recorded: " in asked
