"""Sections of a scan: every row in exactly one, or an error."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log.scan import Scan
from tests.support.edited_specs import forget_sums
from tests.support.synthetic_runs import make_runs, save_runs

NETWORKS = {"vgg13": (3, 5), "resnet56": (4, 2, 3)}
AT = 123_456_789
COLUMNS = ["run", "epoch", "layer", "filter", "theta_g"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of 7 epochs of 8 or 9 rows."""
    folder = tmp_path_factory.mktemp("recorded")
    save_runs(make_runs(NETWORKS, seeds=(0,), epochs=6, every=3), folder)
    return folder


def cut_into(
    recorded: Path, folder: Path, group_rows: int, apart: int = 1, **options: object
) -> Path:
    """The runs with groups of some rows in their files."""
    shutil.copytree(recorded, folder, dirs_exist_ok=True)
    for run in folder.iterdir():
        file = run / "filters.parquet"
        rows = pq.read_table(file)
        epochs = pc.multiply(rows["epoch"], pa.scalar(apart, pa.int32()))
        rows = rows.set_column(rows.column_names.index("epoch"), "epoch", epochs)
        pq.write_table(rows, file, row_group_size=group_rows, **options)
        forget_sums(run)
    return folder


def scanned(folder: Path, block_rows: int) -> Scan:
    found = dataclasses.replace(pv.scan(folder), block_rows=block_rows)
    found.look_through()
    return found


@pytest.mark.parametrize(
    ("group_rows", "block_rows", "many"),
    [(1, 1, True), (5, 3, True), (8, 1, True), (11, 5, True), (11, 1000, False), (1000, 1, False)],
)
def test_sections_hold_every_row_once_and_whole_epochs(
    recorded: Path, tmp_path: Path, group_rows: int, block_rows: int, many: bool
) -> None:
    table = scanned(cut_into(recorded, tmp_path, group_rows), block_rows)
    sections = list(table.sections())
    assert (len(sections) > 2) == many
    assert [section.number for section in sections].count(0) == 2
    blocks = [list(one.blocks(COLUMNS, table.layers)) for one in sections]
    found = pd.concat([block for some in blocks for block in some], ignore_index=True)
    loaded = pv.load(recorded).filters[COLUMNS]
    pd.testing.assert_frame_equal(found, loaded, check_dtype=False, check_categorical=False)
    parts = [
        (section.of.run, epoch)
        for section, some in zip(sections, blocks, strict=True)
        for epoch in {epoch for block in some for epoch in block["epoch"]}
    ]
    assert len(parts) == len(set(parts)) == 14


def test_sections_depend_on_the_files_alone_and_can_be_sent(recorded: Path, tmp_path: Path) -> None:
    folder = cut_into(recorded, tmp_path, 11)
    sections = list(scanned(folder, 3).sections())
    assert sections == list(scanned(folder, 3).sections()) == pickle.loads(pickle.dumps(sections))
    names = [section.name for section in sections]
    assert len(set(names)) == len(names)
    assert names[0].startswith("run resnet56-digits-s0, epochs 0 to ")
    assert names[-1].startswith("run vgg13-digits-s0, epochs ") and names[-1].endswith(" to 6")


def test_a_file_whose_footer_says_no_epochs_is_one_section(recorded: Path, tmp_path: Path) -> None:
    folder = cut_into(recorded, tmp_path, 11, write_statistics=False)
    assert [section.cut for section in scanned(folder, 3).sections()] == [None, None]


def test_a_footer_that_says_other_epochs_is_told_and_loses_no_row(
    recorded: Path, tmp_path: Path
) -> None:
    run = next(cut_into(recorded, tmp_path, 8, apart=AT // 3).iterdir())
    file = run / "filters.parquet"
    content = file.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for other in (AT - 9, AT + 9):  # below and above what the rows are
        said, wrong = AT.to_bytes(4, "little"), other.to_bytes(4, "little")
        file.write_bytes(content[:start] + content[start:].replace(said, wrong))
        table = scanned(run, 1)
        assert len(list(table.sections())) > 1
        with pytest.raises(
            LogError, match=f"of epochs {other} to {other}, it is of {AT} to {AT}; "
        ):
            for section in table.sections():
                list(section.blocks(COLUMNS, table.layers))


def test_an_unsorted_file_is_one_section_that_is_told(recorded: Path, tmp_path: Path) -> None:
    folder = cut_into(recorded, tmp_path, 5)
    run = next(folder.iterdir())
    file = run / "filters.parquet"
    rows = pq.read_table(file)
    turned = pa.concat_tables([rows.slice(24), rows.slice(0, 24)]).unify_dictionaries()
    pq.write_table(turned, file, row_group_size=5)
    table = scanned(run, 1)
    with pytest.raises(LogError, match="is not sorted by epoch"):
        for section in table.sections():
            list(section.blocks(COLUMNS, table.layers))
