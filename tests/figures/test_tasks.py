"""Which pictures are drawn of a folder, and what each lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pruneviz.figures.options import DrawOptions
from pruneviz.figures.tasks import Place, all_tasks, figure_task
from pruneviz.log.runs import Runs
from tests.support.synthetic_runs import SMALL, make_runs, together

PLACE = Place(Path("data/x y"), Path("figures/x"), ("pdf",))


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), epochs=2, every=1)


def test_recorded_folders_are_told_what_to_record_and_others_never(runs: Runs) -> None:
    tasks = {task.name: task for task in all_tasks(runs, PLACE, DrawOptions())}
    assert "figure I1" not in tasks and len(tasks) == 19
    assert tasks["figure 3"].work is None and "record with" in tasks["figure 3"].lacks[1]
    assert tasks["figure 13"].work is not None and not tasks["figure 13"].lacks
    foreign = replace(runs, spec=runs.spec.assign(preset=None))
    names = [task.name for task in all_tasks(foreign, PLACE, DrawOptions())]
    assert names == ["figure 2", "figure 13"]
    task = figure_task("3", foreign, PLACE, DrawOptions())
    assert task.lacks[1].endswith("pruneviz figures --kind scatter --data 'data/x y'")


def test_runs_that_no_figure_can_show_are_left_to_pictures_that_tell_them_apart() -> None:
    one, two = (
        make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), epochs=2, every=1, dataset=name)
        for name in ("one", "two")
    )
    runs = together(one, two)
    foreign = replace(runs, spec=runs.spec.assign(preset=None))
    tasks = all_tasks(foreign, PLACE, DrawOptions())
    assert [task.name for task in tasks if task.work] == ["vgg13-scatter", "vgg13-correlation"]
    assert [len(task.notes) for task in tasks] == [1, 1, 0, 0]
    assert "choose one with the option dataset" in tasks[0].notes[0]
    assert not any(task.lacks for task in tasks)
