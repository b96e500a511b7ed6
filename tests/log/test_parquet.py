"""Parts of tables on disk equal the parts of the whole table, and nothing else is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pruneviz.log.parquet
from pruneviz.errors import LogError
from pruneviz.log.parquet import (
    arrow_table,
    columns_with_values,
    corrupt,
    read_file,
    write_blocks,
)
from pruneviz.log.runs import Runs, finished, load
from pruneviz.log.schema import FILTERS, TABLES
from pruneviz.log.spec_file import stored_facts
from tests.support.edited_specs import forget_sums
from tests.support.synthetic_runs import make_pruned_runs, make_runs, save_runs, together

KEYS = ["run", "epoch", "layer", "filter"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two unpruned runs whose files hold each epoch in a row group of its own, and a pruned one."""
    path = tmp_path_factory.mktemp("saved") / "data"
    runs = together(
        make_runs({"vgg13": (4, 6)}, seeds=(0, 1), epochs=4, every=2),
        make_pruned_runs({"vgg13": (4, 6)}, measures=("magnitude",), seeds=(0,)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruneviz.log.parquet, "_GROUP_ROWS", 10)
        save_runs(runs, path)
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved runs, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "data"))


PARTS: dict[str, tuple[dict[str, object], Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "columns": (
        {"columns": ["filter", "run", "sigma"]},
        lambda rows: rows[["filter", "run", "sigma"]],
    ),
    "epochs": (
        {"epochs": [4, 0, 99]},
        lambda rows: rows[(rows["epoch"] == 0) | (rows["epoch"] == 4)],
    ),
    "complete": (
        {"complete": ["theta_g", "sigma_delta"]},
        lambda rows: rows[rows["theta_g"].notna() & rows["sigma_delta"].notna()],
    ),
    "all": (
        {"columns": [*KEYS, "theta_hg"], "epochs": range(2, 4), "complete": ["theta_g"]},
        lambda rows: rows[rows["epoch"].isin([2, 3]) & rows["theta_g"].notna()][
            [*KEYS, "theta_hg"]
        ],
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_what_the_whole_table_holds_of_it(folder: Path, name: str) -> None:
    wanted, of = PARTS[name]
    runs = load(folder)
    from_disk = runs.read("filters", **wanted)  # type: ignore[arg-type]
    expected = of(runs.filters).reset_index(drop=True)
    assert "filters" in vars(runs), "the whole table is in memory from here on"
    in_memory = runs.read("filters", **wanted)  # type: ignore[arg-type]
    plain = {"run": str, "layer": str} if "layer" in expected else {"run": str}
    pd.testing.assert_frame_equal(from_disk.astype(plain), expected.astype(plain))
    pd.testing.assert_frame_equal(from_disk, in_memory)


def damage(file: Path, column: str, group: int) -> None:
    """Flip bits in the values of one column in one row group, and no others."""
    groups = pq.ParquetFile(file).metadata.row_group(group)
    (found,) = (
        c for c in map(groups.column, range(groups.num_columns)) if c.path_in_schema == column
    )
    content = bytearray(file.read_bytes())
    content[found.data_page_offset + found.total_compressed_size - 1] ^= 0x15
    file.write_bytes(content)


def test_neither_columns_nor_epochs_that_are_not_wanted_are_read(folder: Path) -> None:
    file = folder / "vgg13-digits-s1" / "filters.parquet"
    assert pq.ParquetFile(file).num_row_groups == 5
    damage(file, "theta_g", group=4)
    damage(file, "sigma", group=0)
    forget_sums(file.parent)
    runs = load(folder)
    assert len(runs.read("filters", [*KEYS, "theta_g"], epochs=[0, 2])) == 40
    assert len(runs.read("filters", [*KEYS, "sigma"], epochs=[4])) == 20
    assert len(runs.read("filters", [*KEYS, "theta_hg"], complete=["theta_hg"])) == 60
    for columns, epochs in ((["theta_g"], None), (["theta_g"], [4]), (["sigma"], [0]), (None, [0])):
        with pytest.raises(LogError, match=r"vgg13-digits-s1/filters\.parquet is corrupt"):
            runs.read("filters", columns, epochs)


def test_a_corrupt_run_is_an_error_for_what_reads_it_alone(folder: Path) -> None:
    damage(folder / "vgg13-digits-s1" / "filters.parquet", "theta_g", group=2)
    (folder / "vgg13-digits-s0" / "rounds.parquet").unlink()
    with pytest.raises(LogError, match=r"s0/rounds\.parquet is missing"):
        load(folder)
    runs = finished(folder)
    assert len(runs.epochs) == 2 * 5 + 17
    assert len(runs.select(seed=0, rounds=0).filters) == 50
    with pytest.raises(LogError, match=r"s1/filters\.parquet is corrupt"):
        runs.select(seed=1).filters  # noqa: B018
    with pytest.raises(LogError, match=r"rounds\.parquet is missing"):
        runs.rounds  # noqa: B018


def test_selecting_before_reading_and_after_it_give_the_same(folder: Path) -> None:
    unread, read = load(folder), load(folder)
    for table in TABLES:
        getattr(read, table)
    for table in TABLES:
        pd.testing.assert_frame_equal(
            getattr(unread.select(seed=0), table), getattr(read.select(seed=0), table)
        )
    assert list(unread.named(["vgg13-digits-s1"]).spec["run"]) == ["vgg13-digits-s1"]
    assert not set(TABLES) & set(vars(unread)), "selecting reads nothing"


def test_a_table_is_read_once_and_can_be_replaced(folder: Path) -> None:
    runs = load(folder)
    assert runs.filters is runs.filters
    changed = replace(runs, filters=runs.filters[:3])
    assert isinstance(changed, Runs) and len(changed.filters) == 3
    pd.testing.assert_frame_equal(changed.rounds, runs.rounds)
    assert len(changed.select(seed=0).filters) == 3


def test_what_there_is_not_is_named(folder: Path) -> None:
    runs = load(folder)
    for _ in ("on disk", "in memory"):
        for wanted in ({"columns": ["guess"]}, {"complete": ["guess"]}):
            with pytest.raises(
                LogError, match="no column 'guess' in the filters table; it has run, epoch"
            ):
                runs.read("filters", **wanted)
        with pytest.raises(
            LogError,
            match=r"the filters table.* has no column theta_hg_t50; .*record the runs with",
        ):
            runs.read("filters", ["theta_hg_t50"])
        assert list(runs.filters) == list(FILTERS)
    with pytest.raises(AttributeError, match="no attribute 'layers'; it has spec, epochs, filters"):
        runs.layers  # noqa: B018
    names = "vgg13-digits-magnitude-r5-s0, vgg13-digits-s0, vgg13-digits-s1"
    assert repr(runs) == f"<3 runs of vgg13 on digits: {names}>"


def test_a_column_that_some_runs_lack_is_null_there_and_complete_in_none_of_their_rows(
    folder: Path,
) -> None:
    file = folder / "vgg13-digits-s0" / "filters.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["theta_g"]), file)
    forget_sums(file.parent)
    runs = load(folder)
    found = runs.read("filters", ["run", "theta_g"], epochs=[0])
    assert found.groupby("run", observed=True)["theta_g"].count().to_dict() == {
        "vgg13-digits-s0": 0,
        "vgg13-digits-s1": 10,
    }
    assert set(runs.read("filters", ["run"], complete=["theta_g"])["run"]) == {"vgg13-digits-s1"}


def test_what_is_written_block_by_block_is_whole_or_absent(tmp_path: Path) -> None:
    described = pa.schema([("epoch", pa.int32())])
    parts = [pd.DataFrame({"epoch": [0, 1]}), pd.DataFrame({"epoch": [2]})]
    write_blocks(parts, tmp_path / "new" / "table.parquet", described)
    assert pd.read_parquet(tmp_path / "new" / "table.parquet")["epoch"].tolist() == [0, 1, 2]
    with pytest.raises(LogError, match=r"already exists; name another file"):
        write_blocks(parts, tmp_path / "new" / "table.parquet", described)
    with pytest.raises(ZeroDivisionError):
        write_blocks((part for part in [*parts, 1 / 0]), tmp_path / "cut.parquet", described)
    with pytest.raises(LogError, match="cannot write to"):
        write_blocks(parts, tmp_path / "new" / "table.parquet" / "below.parquet", described)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_file_is_named_once_with_one_repair(tmp_path: Path) -> None:
    spec, table = (tmp_path / name for name in ("spec.json", "epochs.parquet"))
    for file in (spec, table):
        file.symlink_to("/dev/zero")
    for read in (lambda: stored_facts(tmp_path), lambda: read_file(table, "epochs")):
        with pytest.raises(LogError) as error:
            read()
        assert str(error.value).count(str(tmp_path)) == str(error.value).count(";") == 1
        assert str(error.value).endswith(
            "is a device, expected a regular file; put the recorded file back"
        )
    why = str(corrupt(spec, LogError(f"{spec} has more than 9 bytes")))
    assert why.startswith(f"{spec} is corrupt (it has more than 9 bytes); restore it")


def test_columns_without_statistics_are_read_to_know_whether_they_have_values(
    tmp_path: Path,
) -> None:
    file = tmp_path / "epochs.parquet"
    rows = pd.DataFrame(
        {"run": "r", "epoch": [0, 1], "test_acc": [None, 0.5], "mine": [None, None]}
    )
    table = arrow_table("epochs", rows.astype({"mine": "float64"}))
    names = []
    for statistics in (True, False, ["test_acc"]):
        pq.write_table(table, file, row_group_size=1, write_statistics=statistics)
        names.append(columns_with_values(file, "epochs"))
    assert names == [["run", "epoch", "test_acc"]] * 3
