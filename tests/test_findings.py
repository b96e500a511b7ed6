"""`pruneviz findings`: prints the tables, or puts them into a Markdown file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import pruneviz
from pruneviz import findings

ROOT = Path(pruneviz.__file__).parent.parent
RUN = "vgg13-cifar100-unpruned-bnbatch-s0"
PLACE = "<!-- table: recordings -->\nold\n<!-- end of table -->\n"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(findings.app, arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of the runs that ship."""
    path = tmp_path_factory.mktemp("data")
    shutil.copytree(ROOT / "data" / "cifar-mini-batch" / RUN, path / RUN)
    return path


def test_a_file_gets_the_same_tables_that_are_printed(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "findings.md"
    file.write_text(f"before\n{PLACE}after\n", encoding="utf-8")
    done = invoke(str(folder), "--into", str(file))
    assert (done.exit_code, done.output) == (0, "")
    filled = file.read_text(encoding="utf-8")
    assert filled.startswith("before\n") and filled.endswith("after\n") and "old" not in filled
    printed = invoke(str(folder)).stdout
    table = [line for line in filled.splitlines() if line.startswith("| ")]
    assert RUN in table[-1]
    assert all(line in printed.splitlines() for line in table)
    assert list(tmp_path.iterdir()) == [file], "no temporary file is left"


def test_a_link_to_a_file_stays_a_link(folder: Path, tmp_path: Path) -> None:
    file, link = tmp_path / "findings.md", tmp_path / "link.md"
    file.write_text(PLACE, encoding="utf-8")
    link.symlink_to(file)
    assert invoke(str(folder), "--into", str(link)).exit_code == 0
    assert link.is_symlink()
    assert RUN in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "findings.md; create it with a line `<!-- table: NAME -->`"),
        ("nothing", "the text has no place for a table"),
        (PLACE.replace("recordings", "recordngs"), "no table 'recordngs'"),
    ],
)
def test_a_file_that_cannot_be_filled_in_is_told_and_stays(
    folder: Path, tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "findings.md"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    result = invoke(str(folder), "--into", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and message in result.stderr
    assert text is None or file.read_text(encoding="utf-8") == text


def test_a_folder_without_recordings_is_told(tmp_path: Path) -> None:
    result = invoke(str(tmp_path))
    assert result.exit_code == 2
    assert "holds no recordings" in result.stderr


def test_a_run_that_cannot_be_read_is_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(folder, tmp_path / "data"))
    (data / "bad").mkdir()
    (data / "bad" / "spec.json").write_text("{")
    file = tmp_path / "findings.md"
    file.write_text(PLACE, encoding="utf-8")
    done = invoke(str(data), "--table", "recordings")
    assert done.exit_code == 1 and RUN in done.stdout
    assert done.stderr.startswith(f"left out: {data / 'bad' / 'spec.json'} is corrupt (")
    assert invoke(str(data), "--into", str(file)).exit_code == 2
    assert file.read_text(encoding="utf-8") == PLACE
