"""A run as tables while it is recorded is what `load` reads, without a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log.live_runs import runs_at, runs_so_far
from tests.support.short_recordings import SAMPLE, assert_same_tables, at, network, train_epoch


def test_an_open_and_a_finished_run_are_read_up_to_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, model = tmp_path / "run", network()
    with pv.Recorder(model, SAMPLE, out, every=1) as recorder:
        assert len(runs_so_far(out).epochs) == 0
        recorder.after_epoch(0)
        train_epoch(model, 1)
        recorder.after_epoch(1, train_loss=0.5)
        caplog.clear()
        now, one = runs_so_far(out), runs_at(recorder.log, 1)
        assert not caplog.messages, "no warning that the run is unfinished"
    loaded = pv.load(out)
    assert_same_tables(now, loaded)
    assert_same_tables(runs_so_far(out), loaded)
    pd.testing.assert_frame_equal(one.filters.reset_index(drop=True), at(loaded, 1))
    assert one.epochs["train_loss"].tolist() == [0.5]
    assert one.spec["run"].tolist() == ["run"]
    assert pv.recorded_measures(one) == pv.recorded_measures(loaded)


@pytest.mark.parametrize(
    ("every", "held"), [(2, [0, 2]), (lambda epoch: False, [3]), (lambda epoch: epoch == 1, [1])]
)
def test_filters_are_those_of_measured_epochs_or_of_the_last(
    tmp_path: Path, every: Any, held: list[int]
) -> None:
    model, out = network(), tmp_path / "run"
    with pv.Recorder(model, SAMPLE, out, every=every, measure_last=False) as recorder:
        for epoch in range(4):
            recorder.after_epoch(epoch)
        now = runs_so_far(out)
    loaded = pv.load(out)
    for found in (now, runs_so_far(out)):
        assert found.epochs["epoch"].tolist() == [0, 1, 2, 3]
        expected = loaded.filters[loaded.filters["epoch"].isin(held)].reset_index(drop=True)
        pd.testing.assert_frame_equal(found.filters.reset_index(drop=True), expected)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"has no spec\.json"):
        runs_so_far(tmp_path)
