"""The picture of a run that is being recorded draws what there is, and says what there is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import pruneviz as pv
from pruneviz.log.live_runs import runs_so_far
from pruneviz.log.runs import Runs
from pruneviz.plot.progress import PAIRS, epoch_scatter, progress
from tests.support.short_recordings import SAMPLE, network, train_epoch


def so_far(out: Path, epochs: int, **options: Any) -> Runs:
    """A run that is open after some epochs."""
    facts = options.pop("facts", {})
    model = network()
    recorder = pv.Recorder(model, SAMPLE, out, **options)
    for epoch in range(epochs):
        if epoch:
            train_epoch(model, epoch)
        recorder.after_epoch(epoch, **facts)
    return runs_so_far(out)


def words(axes: Axes) -> str:
    """What a panel says instead of drawing."""
    return " ".join(" ".join(text.get_text().split()) for text in axes.texts)


def test_before_the_first_epoch_every_panel_says_what_is_missing(tmp_path: Path) -> None:
    figure = progress(so_far(tmp_path / "run", 0))
    found = [words(axes) for axes in figure.axes]
    assert found == [
        "no epoch with two quantities of the filters is recorded yet",
        "no correlation is recorded yet",
        "no two epochs are recorded yet whose masks can be compared",
        "no accuracy and no loss is recorded yet; give them to after_epoch",
    ]
    assert figure.get_suptitle() == "run, before the first epoch"


def test_before_the_first_measured_epoch_cheap_columns_are_drawn(tmp_path: Path) -> None:
    never = so_far(tmp_path / "mine.a_b", 3, every=lambda epoch: False, facts={"val_acc": 0.5})
    figure = progress(never)
    scattered, _, masks, fact = figure.axes[:4]
    assert len(scattered.collections) > 0
    assert "noise" not in words(scattered)
    assert "accuracy" in fact.get_ylabel()
    assert masks.get_ylabel() == "distance between consecutive masks"
    assert figure.get_suptitle() == "mine.a_b, epoch 2"


def test_the_last_measured_epoch_and_the_course_so_far_are_drawn(tmp_path: Path) -> None:
    runs = so_far(tmp_path / "run", 4, every=2, facts={"train_loss": 1.0})
    figure = progress(runs)
    scattered, course, masks, fact = figure.axes[:4]
    expected = pv.plot.scatter.table(runs, *PAIRS[0], epochs=2)
    assert "epoch 2" in scattered.get_title(loc="left")
    drawn = sum(len(each.get_offsets()) for each in scattered.collections)
    assert drawn == len(expected)
    r = pv.correlate(runs, *PAIRS[0])
    lines = [list(line.get_ydata()) for line in course.lines]
    assert [value for value in lines if value == pytest.approx(list(r["r"]))]
    distances = list(runs.epochs["mask_distance"].dropna())
    assert [
        value for value in (list(line.get_ydata()) for line in masks.lines) if value == distances
    ]
    assert "loss" in fact.get_ylabel()


@pytest.mark.parametrize("unit", ["weight", "filter"])
def test_drawing_moves_nothing_global(tmp_path: Path, unit: str) -> None:
    runs = so_far(tmp_path / "run", 2, every=1, unit=unit)
    matplotlib.get_backend()  # chosen when first asked for
    before, figures = matplotlib.rcParams.copy(), plt.get_fignums()
    assert progress(runs)._repr_png_().startswith(b"\x89PNG")
    assert matplotlib.rcParams == before
    assert plt.get_fignums() == figures


def test_an_epoch_is_drawn_by_the_first_pair_that_it_holds(tmp_path: Path) -> None:
    runs = so_far(tmp_path / "run", 1, every=lambda epoch: False)
    one = Runs(spec=runs.spec, epochs=runs.epochs, filters=runs.filters_at(0), rounds=runs.rounds)
    first = epoch_scatter(one)
    assert first is not None
    assert first.axes[0].get_ylabel() == "bn_scale"
    bare = one.filters[["run", "epoch", "layer", "filter", "kept", "sigma"]]
    assert epoch_scatter(Runs(one.spec, one.epochs, bare, one.rounds)) is None
