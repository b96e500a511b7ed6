"""Sets of runs: several folders, equal names, runs in progress, and what notebooks show."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log import live_tables
from pruneviz.log.reopening import reopen
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.schema import EPOCHS, TABLES
from pruneviz.log.thinning import thin
from tests.support.edited_specs import edit_spec, forget_sums


def filter_rows(epoch: int, theta_g: float | None) -> pd.DataFrame:
    keys = {"epoch": epoch, "layer": ["stem", "stem", "head"], "filter": [0, 1, 0], "kept": True}
    derived = {} if theta_g is None else {"theta_g": theta_g}
    return pd.DataFrame({**keys, "sigma": epoch + 0.5, **derived})


def epoch_of(log: RunLog, epoch: int, theta_g: float | None = None) -> None:
    row = pd.DataFrame({"epoch": [epoch], "phase": "train", "test_acc": 0.1 * epoch})
    log.append(epoch, epochs=row, filters=filter_rows(epoch, theta_g))


def record(path: Path, epochs: int = 3, *, seal: bool = True, **facts: object) -> Path:
    log = RunLog.create(path, RunSpec.from_dict({"run": path.name, **facts}))
    for epoch in range(epochs):
        epoch_of(log, epoch, theta_g=float(epoch) if epoch % 2 == 0 else None)
    if seal:
        log.seal()
    return path


def test_runs_of_one_name_keep_their_rows_apart_in_every_table(tmp_path: Path) -> None:
    record(tmp_path / "a" / "run0", 1, seed=0)
    record(tmp_path / "b" / "run0", 2, seed=1)
    record(tmp_path / "b" / "run1", 3, seed=2, seal=False)
    record(tmp_path / "a" / "run1", 1, seed=3)
    runs = pv.load([tmp_path / "b", tmp_path / "a"])
    rows = {"b/run0": 2, "b/run1": 3, "a/run0": 1, "a/run1": 1}
    assert list(runs.spec["run"]) == list(rows)
    assert list(runs.spec["seed"]) == [1, 2, 0, 3]
    for table, per_epoch in (("epochs", 1), ("filters", 3)):
        frame = getattr(runs, table)
        assert list(frame["run"].cat.categories) == list(rows)
        assert frame["run"].value_counts().to_dict() == {r: n * per_epoch for r, n in rows.items()}
    facts = runs.with_spec("epochs", "seed")
    assert dict(zip(facts["run"], facts["seed"], strict=True))["a/run0"] == 0
    one = runs.select(seed=1)
    assert set(one.filters["run"]) == {"b/run0"}
    alone = pv.load(tmp_path / "b" / "run0")
    pd.testing.assert_frame_equal(
        one.filters.drop(columns="run"), alone.filters.drop(columns="run")
    )
    assert set(alone.filters["run"]) == {"run0"}
    assert runs.read("filters", ["run"], epochs=[2])["run"].unique().tolist() == ["b/run1"]


def test_an_unfinished_run_is_included_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path / "done", 3)
    record(tmp_path / "open", 2, seal=False)
    record(tmp_path / "empty", 0, seal=False)
    runs = pv.load(tmp_path)
    assert caplog.messages == [
        "unfinished runs are included: empty without an epoch, open up to epoch 1; "
        "pass unfinished='skip' to leave them out"
    ]
    assert runs.unfinished == ("empty", "open")
    assert runs.epochs.groupby("run", observed=True).size().to_dict() == {"done": 3, "open": 2}
    assert runs.named(["done"]).unfinished == ()
    assert runs.named(["open"]).unfinished == ("open",)
    skipped = pv.load(tmp_path, unfinished="skip")
    assert (list(skipped.spec["run"]), skipped.unfinished) == (["done"], ("empty", "open"))
    assert skipped.named(["done"]).unfinished == ("empty", "open")
    assert len(caplog.messages) == 1


def test_finished_runs_stay_unread_beside_an_unfinished_one(tmp_path: Path) -> None:
    done = record(tmp_path / "done", 3)
    record(tmp_path / "open", 2, seal=False)
    runs = pv.load(tmp_path)
    assert not set(TABLES) & set(vars(runs))
    assert runs.files("filters") == [done / "filters.parquet"]
    found = runs.read("filters", ["epoch", "theta_g"], epochs=[0, 1, 2], complete=["theta_g"])
    assert list(found["epoch"]) == [0, 0, 0, 2, 2, 2, 0, 0, 0]


def test_an_unfinished_run_stays_as_it_was_when_it_was_loaded(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "open", RunSpec("open"))
    epoch_of(log, 0)
    runs = pv.load(tmp_path)
    epoch_of(log, 1)
    log.seal()
    assert list(runs.epochs["epoch"]) == [0]
    assert list(runs.filters["epoch"]) == [0, 0, 0]


def test_a_run_that_is_finished_while_it_is_read_is_a_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RunLog.create(tmp_path / "open", RunSpec("open"))
    epoch_of(log, 0)
    read_file = live_tables.read_file

    def late(file: Path, table: str) -> pa.Table:
        log.seal()
        return read_file(file, table)

    monkeypatch.setattr(live_tables, "read_file", late)
    runs = pv.load(tmp_path)
    assert runs.unfinished == ()
    assert list(runs.epochs["epoch"]) == [0]


def test_the_filters_of_one_epoch(tmp_path: Path) -> None:
    for name, epochs in (("a", 3), ("b", 1)):
        record(tmp_path / name, epochs)
    runs = pv.load(tmp_path)
    found = runs.filters_at(2)
    assert "filters" not in vars(runs)
    whole = runs.filters
    pd.testing.assert_frame_equal(found, runs.filters_at(2))
    assert found["sigma"].tolist() == whole.loc[whole["epoch"] == 2, "sigma"].tolist()
    assert list(found["run"].cat.categories) == ["a"]
    pd.testing.assert_frame_equal(found, runs.filters_at(-1))
    assert list(runs.filters_at(-3)["run"].cat.categories) == ["a", "b"]
    for absent in (7, -4):
        words = f"no run has filters of epoch {absent}; the epochs are 0, 1, 2"
        with pytest.raises(LogError, match=words):
            runs.filters_at(absent)


@pytest.mark.parametrize("epoch", ["2", 2.0, [2], None, True])
def test_filters_at_takes_one_whole_number(tmp_path: Path, epoch: Any) -> None:
    record(tmp_path / "a", 1)
    with pytest.raises(LogError, match="give one epoch, a whole number, such as 16"):
        pv.load(tmp_path).filters_at(epoch)


def test_what_is_recorded_is_known_without_reading_rows(tmp_path: Path) -> None:
    record(tmp_path / "a", 2)
    record(tmp_path / "b", 1, seal=False)
    runs = pv.load(tmp_path)
    found = {table: runs.recorded(table) for table in TABLES}
    assert not set(TABLES) & set(vars(runs))
    for table, names in found.items():
        frame = getattr(runs, table)
        assert names == [name for name in frame if frame[name].notna().any()]
        assert names == runs.recorded(table), "from memory too"
    assert "theta_g" in found["filters"] and "theta_hg" not in found["filters"]


def test_columns_without_statistics_are_recorded_if_they_have_values(tmp_path: Path) -> None:
    file = record(tmp_path / "a", 1) / "filters.parquet"
    before = pv.load(tmp_path).recorded()
    assert "theta_hg" not in before and "sigma" in before
    pq.write_table(pq.read_table(file), file, write_statistics=False)
    forget_sums(file.parent)
    assert pv.load(tmp_path).recorded() == before


def test_a_set_of_runs_is_shown_as_what_it_holds(tmp_path: Path) -> None:
    network = "<b>net</b> & $x_1$"
    record(tmp_path / "a", 3, network=network, dataset="mine", seed=0)
    record(tmp_path / "b", 0, network="other", dataset="mine", seed=1, seal=False)
    runs = pv.load(tmp_path)
    assert repr(runs) == f"<2 runs of {network}, other on mine: a, b; unfinished: b>"
    html = runs._repr_html_()
    assert "<b>" not in html and "&lt;b&gt;net&lt;/b&gt; &amp; $x_1$" in html
    columns = ("run", "network", "dataset", "seed", "epochs")
    assert "".join(f"<th>{name}</th>" for name in columns) in html
    assert "<td>0 to 2</td>" in html and "<td>none, unfinished</td>" in html
    assert "<code>theta_g</code>" in html and "<code>test_acc</code>" in html
    assert "theta_hg" not in html and "<code>layer</code>" not in html
    assert not set(TABLES) & set(vars(runs))


def test_many_runs_are_shown_shortly(tmp_path: Path) -> None:
    for seed in range(14):
        record(tmp_path / f"run{seed:02}", 1, seed=seed)
    runs = pv.load(tmp_path)
    assert repr(runs) == "<14 runs: run00, run01, run02, ...>"
    html = runs._repr_html_()
    assert html.count("<tr>") == 1 + 10 + 1 and "and 4 more" in html
    assert "<td>0</td>" in html, "one epoch is no range"


def test_runs_made_by_hand_and_empty_ones_are_shown_too(tmp_path: Path) -> None:
    record(tmp_path / "a", 2)
    loaded = pv.load(tmp_path)
    made = pv.Runs(loaded.spec, loaded.epochs[::2], loaded.filters, loaded.rounds)
    assert repr(made) == "<1 run: a>" and "<td>0</td>" in made._repr_html_()
    none = loaded.select(unit="head")
    assert repr(none) == "<0 runs>" and "filters: nothing" in none._repr_html_()
    bare = pd.DataFrame({"run": ["x"]})
    empty = pd.DataFrame({"run": ["x"], "epoch": [3], "value": [np.nan]})
    assert "<td>3</td>" in pv.Runs(bare, empty, empty, empty)._repr_html_()


def test_a_spec_that_is_renamed_on_disk_is_not_changed(tmp_path: Path) -> None:
    for folder in "ab":
        record(tmp_path / folder / "run0", 1)
    pv.load(tmp_path)
    stored = [json.loads((tmp_path / f / "run0" / "spec.json").read_text())["run"] for f in "ab"]
    assert stored == ["run0", "run0"]


def with_facts(path: Path, rows: list[dict[str, object]], *, seal: bool = True) -> None:
    log = RunLog.create(path, RunSpec(path.name))
    for epoch, facts in enumerate(rows):
        log.append(epoch, epochs=pd.DataFrame([{"epoch": epoch, **facts}]))
    if seal:
        log.seal()


def test_runs_with_facts_of_their_own_load_together_and_with_older_ones(tmp_path: Path) -> None:
    record(tmp_path / "old", 1)
    with_facts(tmp_path / "a", [{}, {"val.acc": 0.5, "note": "warm"}])
    with_facts(tmp_path / "b", [{"loss/aux": 2, "note": "cold"}], seal=False)
    runs = pv.load(tmp_path)
    own = ["loss/aux", "note", "val.acc"]
    assert runs.columns("epochs")[-3:] == own and runs.recorded("epochs")[-3:] == own
    part = runs.read("epochs", ["run", "val.acc"], complete=["val.acc"])
    assert part.astype(object).to_numpy().tolist() == [["a", 0.5]]
    epochs = runs.epochs
    assert [str(epochs[name].dtype) for name in own] == ["float64", "str", "float64"]
    found = epochs[["run", "epoch", *own]].astype(object)
    assert found.where(found.notna(), None).to_numpy().tolist() == [
        ["a", 0, None, None, None],
        ["a", 1, None, "warm", 0.5],
        ["b", 0, 2.0, "cold", None],
        ["old", 0, None, None, None],
    ]
    assert list(pv.load(tmp_path / "old").epochs) == list(EPOCHS)
    with pytest.raises(LogError, match=r"no column of the epochs table 'val_acc'; did you mean"):
        runs.read("epochs", ["val_acc"])


def test_a_fact_that_is_text_in_one_run_and_a_number_in_another_is_told(tmp_path: Path) -> None:
    with_facts(tmp_path / "a", [{"phase2": "warm"}])
    with_facts(tmp_path / "b", [{"phase2": 1.0}])
    runs = pv.load(tmp_path)
    said = "column phase2 of the epochs table holds text in a and numbers in b; load these runs"
    with pytest.raises(LogError, match=said):
        runs.epochs  # noqa: B018
    assert len(runs.read("epochs", ["run", "epoch"])) == 2
    assert "phase2" in runs._repr_html_()


def test_facts_of_ones_own_survive_thinning_and_being_reopened(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "a", RunSpec("a"))
    for epoch, note in enumerate([None, "warm", None]):
        facts = {"epoch": epoch, "val_acc": 0.5 if note else np.nan, "note": note}
        rows = pd.DataFrame([facts]).astype({"note": "str"})
        log.append(epoch, epochs=rows, filters=filter_rows(epoch, 1.0))
    log.seal()
    before = pv.load(tmp_path / "a").epochs
    assert before["note"].notna().tolist() == [False, True, False]
    reopen(tmp_path / "a")
    pd.testing.assert_frame_equal(pv.load(tmp_path / "a").epochs, before)
    RunLog.resume(tmp_path / "a", RunSpec("a")).seal()
    thin(tmp_path / "a", tmp_path / "thin")
    pd.testing.assert_frame_equal(pv.load(tmp_path / "thin").epochs, before)


def test_rows_take_the_name_that_the_spec_gives_to_a_copied_run(tmp_path: Path) -> None:
    record(tmp_path / "a", 1)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    edit_spec(tmp_path / "b", run="b")
    runs = pv.load(tmp_path)
    assert set(runs.filters["run"]) == set(runs.epochs["run"]) == {"a", "b"}
    assert len(runs.named("b").filters) == len(pv.load(tmp_path).named("b").filters) > 0


def test_tables_are_read_after_the_working_directory_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "a", 1)
    monkeypatch.chdir(tmp_path)
    runs, scan = pv.load("a"), pv.scan("a")
    monkeypatch.chdir(tmp_path / "a")
    assert len(runs.filters) == sum(map(len, scan.blocks("sigma"))) > 0


@pytest.mark.parametrize("epochs", ["0", [0, 1.5], [True]])
def test_epochs_to_read_are_whole_numbers(tmp_path: Path, epochs: Any) -> None:
    record(tmp_path / "a", 1)
    with pytest.raises(LogError, match="give epochs, whole numbers"):
        pv.load(tmp_path).read("filters", epochs=epochs)
