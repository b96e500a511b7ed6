"""The log on disk comes back unchanged; no failure of a process or disk loses or invents a row."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.epoch_parts import last_dropped
from pruneviz.log.reopening import reopen
from pruneviz.log.run_directory import RunLog, check_same_options, last_epoch_of
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import Runs, load
from tests.support.edited_specs import edit_spec, forget_sums, remove_facts

LAYERS = ("stem", "block.conv10", "block.conv2")  # neither sorted nor in the order of the alphabet
EXACT = np.array([1e-30, -2.5, 3.0e30, 0.0, -0.0, 0.1], dtype="float32")


def filter_rows(epoch: int, **further: object) -> pd.DataFrame:
    """Two filters of every layer; theta_g only at even epochs, sigma never in the last layer."""
    keys = {
        "epoch": epoch,
        "layer": np.repeat(LAYERS, 2),
        "filter": [0, 1] * 3,
        "kept": [True, False] * 3,
    }
    sigma = np.where(np.repeat(LAYERS, 2) == LAYERS[-1], np.nan, epoch + 0.5)
    derived = {"theta_g": EXACT.astype("float64")} if epoch % 2 == 0 else {}
    return pd.DataFrame({**keys, "sigma": sigma, **derived, **further})


def epoch_row(epoch: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"epoch": [epoch], "phase": ["train" if epoch else "init"], "test_acc": [0.1 * epoch]}
    )


def append(log: RunLog, *epochs: int, **further: object) -> None:
    for epoch in epochs:
        log.append(epoch, epochs=epoch_row(epoch), filters=filter_rows(epoch, **further))


def record(path: Path, epochs: int = 3, **spec: object) -> Path:
    log = RunLog.create(path, RunSpec.from_dict({"run": path.name, **spec}))
    append(log, *range(epochs))
    log.seal()
    return path


def listing(path: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return record(tmp_path / "run", seed=0)


@pytest.fixture
def unfinished(tmp_path: Path) -> Iterator[RunLog]:
    log = RunLog.create(tmp_path / "open", RunSpec("open"))
    append(log, 0, 1)
    yield log


def test_a_round_trip_keeps_dtypes_order_and_values(run: Path) -> None:
    runs = load(run)
    assert list(runs.filters) == list(schema.FILTERS)
    kinds = {
        "layer": "category",
        "run": "category",
        "epoch": "int32",
        "filter": "int32",
        "kept": "bool",
        "theta_g": "float32",
    }
    assert {name: str(runs.filters[name].dtype) for name in kinds} == kinds
    assert list(runs.filters["layer"].cat.categories) == list(LAYERS)
    assert list(runs.filters["layer"][:6]) == list(np.repeat(LAYERS, 2)), (
        "the layers keep the order of the network"
    )
    assert np.array_equal(
        runs.filters.query("epoch == 2")["theta_g"].to_numpy().view("int32"), EXACT.view("int32")
    )
    assert list(runs.filters["kept"]) == [True, False] * 9
    assert runs.epochs["test_acc"].dtype == "float64"
    assert list(runs.epochs["test_acc"]) == [0.0, 0.1, 0.2]
    assert list(runs.epochs["phase"]) == ["init", "train", "train"]
    assert len(runs.rounds) == 0
    assert list(runs.rounds) == list(schema.ROUNDS)


def test_what_was_not_measured_is_null_and_never_zero(run: Path) -> None:
    filters = load(run).filters
    assert filters.query("epoch == 1")["theta_g"].isna().all()
    assert filters.query("epoch == 0")["theta_g"].notna().all()
    assert filters[filters["layer"] == LAYERS[-1]]["sigma"].isna().all()
    assert filters["theta_hg"].isna().all()
    on_disk = pq.read_table(run / "filters.parquet")
    assert on_disk["theta_hg"].null_count == len(filters), "null on disk too, not NaN"
    assert on_disk["sigma"].null_count == 6


def test_a_sealed_run_is_five_files(run: Path) -> None:
    assert sorted(listing(run)) == [
        "correlations.parquet",
        "epochs.parquet",
        "filters.parquet",
        "rounds.parquet",
        "spec.json",
    ]


def correlation_rows(epoch: int) -> pd.DataFrame:
    keys = {"epoch": epoch, "x": "theta_g", "y": "theta_hg", "method": ["pearson", "spearman"]}
    return pd.DataFrame({**keys, "n": 9_000_000_000, "r": [0.1 + 1e-15, np.nan]})


def test_correlations_come_back_as_they_were_and_are_selected_with_their_run(
    tmp_path: Path,
) -> None:
    for seed, name in enumerate("ab"):
        log = RunLog.create(tmp_path / name, RunSpec(name, seed=seed))
        log.append(0, epochs=epoch_row(0), filters=filter_rows(0), correlations=correlation_rows(0))
        append(log, 1)
        assert len(log.read("correlations")) == 2
        log.seal()
    found = load(tmp_path).select(seed=1).correlations
    assert list(found) == list(schema.CORRELATIONS)
    assert list(found["run"]) == ["b", "b"]
    assert list(found["method"]) == ["pearson", "spearman"]
    assert list(found["n"]) == [9_000_000_000] * 2 and found["n"].dtype == "int64"
    assert found["r"][0] == 0.1 + 1e-15 and np.isnan(found["r"][1])


def test_a_run_sealed_before_there_were_correlations_has_none_and_a_later_one_misses_them(
    run: Path, tmp_path: Path
) -> None:
    (run / "correlations.parquet").unlink()
    with pytest.raises(LogError, match=r"correlations\.parquet is missing"):
        load(run)
    edit_spec(run, schema_version=1)
    runs = load(run)
    assert len(runs.correlations) == 0 and list(runs.correlations) == list(schema.CORRELATIONS)
    assert len(runs.filters) == 18
    record(tmp_path / "later", seed=1)
    assert len(load(tmp_path).select(seed=0).correlations) == 0


def test_a_set_of_runs_made_by_hand_has_an_empty_correlations_table(run: Path) -> None:
    runs = load(run)
    assert list(Runs(runs.spec, runs.epochs, runs.filters, runs.rounds).correlations) == list(
        schema.CORRELATIONS
    )


def test_notes_stand_in_the_spec_once_the_run_is_sealed(unfinished: RunLog) -> None:
    unfinished.note({"parameters": 10, "seed": 3})
    unfinished.note({"parameters": np.int64(7), "speed": [1.5, 2.5]})
    assert "parameters" not in json.loads((unfinished.path / "spec.json").read_text())
    for facts, said in [
        ({"run": "x"}, "already holds run"),
        ({"rounds": 2}, "already holds rounds"),
        ({"sealed": True}, "extra is"),
        ({"a": np.nan}, "stored"),
    ]:
        with pytest.raises(LogError, match=said):
            unfinished.note(facts)
    unfinished.seal()
    spec = load(unfinished.path).spec.iloc[0]
    assert (spec["parameters"], spec["seed"], spec["speed"]) == (7, 3, (1.5, 2.5))
    assert "a" not in spec
    with pytest.raises(LogError, match="is closed; note facts before"):
        unfinished.note({"late": 1})


def test_options_that_an_older_pruneviz_did_not_know_do_not_differ(run: Path) -> None:
    remove_facts(run, "schedule", "keep_at_least")
    options = {"seed": 0, "schedule": "published", "keep_at_least": 0.05}
    assert check_same_options(run, options).run == "run"
    with pytest.raises(LogError, match="seed was 0, now 1"):
        check_same_options(run, {**options, "seed": 1})


def test_rounds_come_back_by_round_and_depth(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "r", RunSpec("r"))
    rows = {
        "round": 1,
        "epoch": 1,
        "layer": LAYERS[::-1],
        "layer_index": [2, 1, 0],
        "filters": 4,
        "kept": [3, 4, 1],
    }
    log.append(1, epochs=epoch_row(1), rounds=pd.DataFrame(rows))
    log.seal()
    rounds = load(tmp_path / "r").rounds
    assert list(rounds["layer"]) == list(LAYERS)
    assert list(rounds["kept"]) == [1, 4, 3]
    assert rounds["kept"].dtype == "int32"


def test_runs_of_different_columns_load_together(tmp_path: Path) -> None:
    record(tmp_path / "set" / "a", seed=0, note="mine")
    log = RunLog.create(tmp_path / "set" / "deep" / "b", RunSpec("b", seed=1))
    append(log, 0, theta_hg_t50=7.0)
    log.seal()
    runs = load(tmp_path / "set")
    assert list(runs.spec["run"]) == ["a", "b"]
    assert len(runs) == 2
    assert runs.filters.groupby("run", observed=True)["theta_hg_t50"].agg(["count", "max"]).loc[
        "b"
    ].tolist() == [6, 7.0]
    assert runs.filters[runs.filters["run"] == "a"]["theta_hg_t50"].isna().all()
    assert runs.filters["theta_hg_t50"].dtype == "float32"
    assert runs.spec["note"].isna().tolist() == [False, True]


def test_a_table_gets_facts_of_its_run_beside_every_row(tmp_path: Path) -> None:
    for seed, name in enumerate("ba"):
        record(tmp_path / name, epochs=1, seed=seed, network=f"net-{name}")
    table = load(tmp_path).with_spec("filters", "seed", "network")
    assert list(table["seed"]) == [1] * 6 + [0] * 6
    assert set(zip(table["run"], table["network"], strict=True)) == {("a", "net-a"), ("b", "net-b")}
    with pytest.raises(LogError, match=r"no column sed; it has \[run, network"):
        load(tmp_path).with_spec("filters", "sed")


SELECTED = [
    ({"seed": 1}, "b"),
    ({"network": "x"}, "ab"),
    ({"network": "x", "seed": 0}, "a"),
    ({"seed": 9}, ""),
]
SELECTED += [({"temperatures": (1.0, 200.0)}, "ab"), ({"temperatures": (1.0,)}, "")]
SELECTED += [({"seed": several}, "ab") for several in ([0, 1], (0, 1), range(2), {0, 1, 7})]
SELECTED += [({"seed": np.array([0, 1])}, "ab"), ({"temperatures": [1.0, 200.0]}, "ab")]
SELECTED += [({"measure": None}, "ab"), ({"rounds": None}, "")]
SELECTED += [({"seed": (1,)}, "b"), ({"seed": []}, ""), ({"temperatures": [(1.0, 200.0)]}, "ab")]


@pytest.mark.parametrize(("facts", "names"), SELECTED, ids=str)
def test_select_keeps_the_runs_of_some_facts_in_all_tables(
    tmp_path: Path, facts: dict[str, object], names: str
) -> None:
    record(tmp_path / "a", epochs=1, seed=0, network="x")
    record(tmp_path / "b", epochs=2, seed=1, network="x")
    chosen = load(tmp_path).select(**facts)
    assert list(chosen.spec["run"]) == list(names)
    assert list(chosen.filters["run"].cat.categories) == list(names)
    assert sorted(chosen.epochs["run"].unique()) == list(names)
    assert len(chosen.filters) == 6 * len(chosen.epochs)


@pytest.mark.parametrize(
    ("how", "runs", "epochs", "left_out"),
    [("skip", ["run"], 3, ("open",)), ("include", ["open", "run"], 5, ("open",))],
)
def test_unfinished_runs_are_skipped_or_included_when_asked(
    run: Path, unfinished: RunLog, how: str, runs: list[str], epochs: int, left_out: tuple[str, ...]
) -> None:
    loaded = load(run.parent, unfinished=how)
    assert sorted(loaded.spec["run"]) == runs
    assert len(loaded.epochs) == epochs
    assert loaded.unfinished == left_out


def test_an_unfinished_run_is_an_error_when_asked(run: Path, unfinished: RunLog) -> None:
    with pytest.raises(LogError, match=r"open is unfinished; .*unfinished='include'"):
        load(run.parent, unfinished="error")
    with pytest.raises(LogError, match=r"unfinished='all'; choose 'error', 'skip' or 'include'"):
        load(run.parent, unfinished="all")


def test_an_epoch_without_its_epochs_part_was_cut_off_and_its_leftovers_never_count(
    unfinished: RunLog,
) -> None:
    parts = unfinished.path / "parts"
    shutil.copy(parts / "filters-00001.parquet", parts / "filters-00002.parquet")
    (parts / ".epochs-00002.parquet.17.tmp").write_bytes(b"half")
    resumed = RunLog.resume(unfinished.path, unfinished.spec)
    assert resumed.epochs == [0, 1]
    assert len(resumed.read("filters")) == 12
    resumed.append(
        2, epochs=epoch_row(2)
    )  # without filters: those of the process that was killed are not its own
    resumed.seal()
    assert len(load(unfinished.path).filters) == 12
    assert list(load(unfinished.path).epochs["epoch"]) == [0, 1, 2]


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.log import test_run_directory as t
log = t.RunLog.create(sys.argv[1], t.RunSpec("killed"))
for epoch in range(10_000):
    t.append(log, epoch)
    print(epoch, flush=True)
"""


@pytest.mark.parametrize("after", [0.003, 0.011])  # seconds; appending an epoch takes about 0.01
def test_a_process_killed_while_appending_leaves_whole_epochs(tmp_path: Path, after: float) -> None:
    path = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parents[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)] == [b"0\n", b"1\n", b"2\n"]
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
    runs = load(path, unfinished="include")
    count = len(runs.epochs)
    assert 3 <= count < 10_000
    assert list(runs.epochs["epoch"]) == list(range(count))
    assert len(runs.filters) == 6 * count
    log = RunLog.resume(path, RunSpec("killed"))
    append(log, count)
    log.seal()
    assert len(load(path).epochs) == count + 1
    assert len(listing(path)) == 5, "no part and no half-written file stays"


FULL = OSError(errno.ENOSPC, "No space left on device")


def fail_at(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int, error: Exception = FULL
) -> None:
    """Let the `call`-th call (from 0) of a function fail."""
    whole, calls = getattr(owner, name), iter(range(10_000))

    def failing(*args: object, **options: object) -> object:
        if next(calls) == call:
            raise error
        return whole(*args, **options)

    monkeypatch.setattr(owner, name, failing)


def test_a_run_whose_parts_lie_elsewhere_is_sealed(unfinished: RunLog, tmp_path: Path) -> None:
    parts = unfinished.path / "parts"
    parts.rename(tmp_path / "scratch")
    parts.symlink_to(tmp_path / "scratch")
    unfinished.seal()
    unfinished.seal()
    assert load(unfinished.path).epochs["epoch"].tolist() == [0, 1]
    assert not any((tmp_path / "scratch").iterdir())


def test_a_seal_leaves_files_of_a_person_in_folders_of_the_recording(unfinished: RunLog) -> None:
    mine = {"checkpoint/best.pt", "parts/notes.txt", "notes.txt"}
    (unfinished.path / "checkpoint").mkdir()
    for name in mine:
        (unfinished.path / name).write_text("mine")
    unfinished.seal()
    tables = {f"{name}.parquet" for name in unfinished.spec.tables}
    assert set(listing(unfinished.path)) == mine | tables | {"spec.json"}


SEAL_STEPS = [(os, "fsync", call) for call in range(0, 10, 2)] + [
    (Path, "replace", call) for call in range(5)
]
SEAL_STEPS += [(pq, "write_table", 1), (Path, "unlink", 0)]


@pytest.mark.parametrize(
    ("owner", "name", "call"), SEAL_STEPS, ids=[f"{name}-{call}" for _, name, call in SEAL_STEPS]
)
def test_a_seal_cut_off_at_any_step_can_be_repeated(
    unfinished: RunLog, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int
) -> None:
    before = load(unfinished.path, unfinished="include")
    with monkeypatch.context() as patch:
        fail_at(patch, owner, name, call)
        with pytest.raises(LogError, match="No space left on device; free some space"):
            unfinished.seal()
    pd.testing.assert_frame_equal(
        load(unfinished.path, unfinished="include").filters, before.filters
    )
    unfinished.seal()
    pd.testing.assert_frame_equal(load(unfinished.path).filters, before.filters)
    pd.testing.assert_frame_equal(load(unfinished.path).epochs, before.epochs)
    assert len(listing(unfinished.path)) == 5


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (os, "fsync", 0),
        (os, "fsync", 2),  # between these the folder is flushed
        (Path, "replace", 0),
        (Path, "replace", 1),
        (pq, "write_table", 0),
        (pq, "write_table", 1),
    ],
)
def test_a_full_disk_loses_no_earlier_epoch_and_leaves_no_half_epoch(
    unfinished: RunLog, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int
) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, owner, name, call)
        said = r"cannot write to .*open: No space left on device; free some space, or choose"
        with pytest.raises(LogError, match=said):
            append(unfinished, 2)
    assert not list(unfinished.path.rglob("*.tmp"))
    assert list(load(unfinished.path, unfinished="include").epochs["epoch"]) == [0, 1]
    append(unfinished, 2)
    assert len(unfinished.read("filters")) == 18


@pytest.mark.parametrize(
    ("owner", "name"), [(os, "fsync"), (Path, "replace"), (Path, "write_text"), (Path, "mkdir")]
)
def test_a_run_that_a_full_disk_kept_from_starting_can_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, owner, name, 0)
        with pytest.raises(LogError, match="No space left"):
            RunLog.create(tmp_path / "r", RunSpec("r"))
    assert not listing(tmp_path)
    record(tmp_path / "r")


def test_a_run_killed_between_its_spec_and_its_parts_can_go_on(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "r", RunSpec("r"))
    (log.path / "parts").rmdir()
    resumed = RunLog.resume(log.path, log.spec)
    append(resumed, 0)
    assert resumed.epochs == [0]


def test_a_file_in_the_place_of_a_folder_is_an_error_with_its_repair(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        LogError,
        match=r"cannot write to .*file/set/run: .*; move it away, or choose another folder",
    ):
        RunLog.create(tmp_path / "file" / "set" / "run", RunSpec("run"))
    with pytest.raises(LogError, match="file already holds a file; choose another folder"):
        RunLog.create(tmp_path / "file", RunSpec("run"))
    assert listing(tmp_path) == {"file": b"mine"}


HELD: dict[str, Callable[[Path], object]] = {
    "the finished run r": lambda path: record(path, 1),
    r"the unfinished run r \(continue it with resume=True, or 'auto'\)": lambda path: RunLog.create(
        path, RunSpec("r")
    ),
    "other files": lambda path: (path / ".notes.tmp").mkdir(parents=True),
}


@pytest.mark.parametrize("said", HELD)
def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path, said: str) -> None:
    HELD[said](tmp_path / "r")
    before = listing(tmp_path)
    with pytest.raises(
        LogError, match=rf"r already holds {said}; choose another folder, or delete it first"
    ):
        RunLog.create(tmp_path / "r", RunSpec("r"))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("table", RunSpec("r").tables)
def test_a_missing_or_truncated_table_is_an_error_that_names_it(run: Path, table: str) -> None:
    file = run / f"{table}.parquet"
    for content in (file.read_bytes()[:-20], b"", b"PAR1 and then something else PAR1"):
        file.write_bytes(content)
        said = rf"{table}.parquet is corrupt .*restore it from a backup, or delete the run and"
        with pytest.raises(LogError, match=said):
            load(run)
    file.unlink()
    with pytest.raises(LogError, match=rf"{table}.parquet is missing; restore it"):
        load(run)


def test_no_flipped_byte_of_a_column_changes_a_number(run: Path) -> None:
    file = run / "filters.parquet"
    whole, good, group = (
        file.read_bytes(),
        load(run).filters,
        pq.ParquetFile(file).metadata.row_group(0),
    )
    (column,) = (
        c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "theta_g"
    )
    for position in range(
        column.data_page_offset, column.data_page_offset + column.total_compressed_size, 2
    ):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
        try:
            pd.testing.assert_frame_equal(load(run).filters, good)
        except LogError as error:
            assert "filters.parquet is corrupt" in str(error)


RESHAPED: dict[str, Callable[[pa.Table], pa.Table]] = {
    "no key": lambda table: table.drop_columns(["epoch"]),
    "unknown column": lambda table: table.append_column(
        "guess", pa.nulls(len(table), pa.float32())
    ),
    "other type": lambda table: table.set_column(1, "epoch", pa.array(["one"] * len(table))),
}


@pytest.mark.parametrize("how", RESHAPED)
def test_a_table_of_another_shape_is_corrupt(run: Path, how: str) -> None:
    file = run / "filters.parquet"
    pq.write_table(RESHAPED[how](pq.read_table(file)), file)
    with pytest.raises(LogError, match=r"filters\.parquet is corrupt"):
        load(run)


def test_a_table_written_before_a_column_was_thought_of_has_it_null(run: Path) -> None:
    file = run / "filters.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["synflow"]), file)
    forget_sums(run)
    assert load(run).filters["synflow"].isna().all()


def test_a_folder_without_runs_says_how_to_record(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "holds no recordings"), (tmp_path / "x", "there is no folder")):
        with pytest.raises(LogError, match=rf"{said}.*pruneviz record"):
            load(path)


def test_what_is_closed_or_written_stays_as_it_is(run: Path, unfinished: RunLog) -> None:
    sealed = RunLog(run, RunSpec("run"))
    before = listing(run)
    with pytest.raises(LogError, match="is closed; start a new run"):
        append(sealed, 3)
    with pytest.raises(LogError, match="is a finished run; there is nothing to resume"):
        RunLog.resume(run, RunSpec("run"))
    with pytest.raises(LogError, match="already holds epoch 1"):
        append(unfinished, 1)
    with pytest.raises(LogError, match="no run directory"):
        RunLog.resume(run.parent / "nowhere", RunSpec("run"))
    sealed.seal()
    assert listing(run) == before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"epoch": "late"}, "column epoch"), ({"test_acc": "good"}, "column test_acc")],
)
def test_rows_that_fit_no_column_are_refused_whole(
    unfinished: RunLog, wrong: dict[str, object], said: str
) -> None:
    before = listing(unfinished.path)
    with pytest.raises(LogError, match=said):
        unfinished.append(2, epochs=epoch_row(2).assign(**wrong), filters=filter_rows(2))
    assert listing(unfinished.path) == before


@pytest.mark.parametrize(("epoch", "left"), [(1, [0, 1]), (0, [0]), (-1, []), (7, [0, 1, 2])])
def test_epochs_after_a_checkpoint_are_forgotten(
    tmp_path: Path, epoch: int, left: list[int]
) -> None:
    log = RunLog.create(tmp_path / "r", RunSpec("r"))
    append(log, 0, 1, 2)
    log.drop_after(epoch)
    assert log.epochs == left
    assert sorted(log.read("filters")["epoch"].unique()) == left
    mark = [] if left == [0, 1, 2] else ["dropped.txt"]
    assert len(listing(log.path / "parts")) == 2 * len(left) + len(mark)
    assert last_dropped(log.path) == (2 if mark else -1)


def test_a_run_whose_folder_was_deleted_cannot_go_on_without_its_first_epochs(
    tmp_path: Path,
) -> None:
    log = RunLog.create(tmp_path / "run", RunSpec("run"))
    append(log, 0, 1)
    shutil.rmtree(tmp_path / "run")
    for work in (lambda: append(log, 2), log.seal):
        with pytest.raises(LogError, match="cannot write to"):
            work()
    assert not (tmp_path / "run").exists()


def test_a_finished_run_that_is_reopened_goes_on_as_if_it_had_never_been_sealed(
    tmp_path: Path,
) -> None:
    path, spec = record(tmp_path / "run"), RunSpec("run")
    reopen(path)
    reopen(path)  # nothing to do
    assert last_epoch_of(path) == 2
    assert not list(path.glob("*.parquet"))
    log = RunLog.resume(path, spec)
    append(log, 3)
    log.seal()
    expected = load(record(tmp_path / "at_once" / "run", epochs=4))
    for table in schema.TABLES:
        pd.testing.assert_frame_equal(getattr(load(path), table), getattr(expected, table))


def test_select_refuses_a_name_that_no_run_has(tmp_path: Path) -> None:
    record(tmp_path / "a", epochs=1, seed=0, network="mine")
    with pytest.raises(LogError, match=r"no run with the network 'min'; did you mean 'mine'\?"):
        load(tmp_path).select(network="min")
    with pytest.raises(LogError, match=r"no run with the network 'min'; did you mean 'mine'\?"):
        load(tmp_path).select(network=["mine", "min"])
    assert len(load(tmp_path).select(unit="weight").spec) == 0
