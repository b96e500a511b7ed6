"""Runs are found below folders, by patterns and in mixes of them; equal names are told apart."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pruneviz.errors import LogError
from pruneviz.log import found_runs
from pruneviz.log.found_runs import folders_beside, names_apart, run_paths

RUNS = ("a/run0", "a/run1", "b/run0", "b/deep/er/run2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for run in RUNS:
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "spec.json").touch()
    (tmp_path / "a" / "notes.txt").touch()
    return tmp_path


FOUND = {
    "all": (".", sorted(RUNS)),
    "one": ("a/run1", ["a/run1"]),
    "several": (["b", "a"], ["b/deep/er/run2", "b/run0", "a/run0", "a/run1"]),
    "a pattern": ("*/run0", ["a/run0", "b/run0"]),
    "a pattern that matches files too": ("a/*", ["a/run0", "a/run1"]),
    "any depth": ("**/run[12]", ["a/run1", "b/deep/er/run2"]),
    "a mix names each run once": (("a", "*/run0", "a/run0"), ["a/run0", "a/run1", "b/run0"]),
}


@pytest.mark.parametrize(("where", "runs"), FOUND.values(), ids=list(FOUND))
@pytest.mark.parametrize("kind", [str, Path])
def test_runs_are_found_wherever_they_are(
    folder: Path, where: str | list[str], runs: list[str], kind: type
) -> None:
    given = [kind(folder / one) for one in ([where] if isinstance(where, str) else where)]
    found = run_paths(given[0] if isinstance(where, str) else iter(given))
    assert found == [folder / run for run in runs]


def test_a_relative_pattern_starts_where_python_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert run_paths("b/*") == [Path("b/deep/er/run2"), Path("b/run0")]


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(tmp_path: Path) -> None:
    run = tmp_path / "lr[0.1]" / "run"
    run.mkdir(parents=True)
    (run / "spec.json").touch()
    assert run_paths(tmp_path / "lr[0.1]") == [run]


def test_a_link_to_a_run_is_the_same_run(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "a", target_is_directory=True)
    assert run_paths([folder / "link", folder / "a"]) == [
        folder / "link" / "run0",
        folder / "link" / "run1",
    ]


WRONG: dict[str, tuple[object, str]] = {
    "nothing": ([], "no folder was given"),
    "a number": (5, "int is no folder; give a path"),
    "a number in a list": (["a", 5], "5 is no folder; give paths"),
    "nowhere": ("c", "there is no folder .*c; there are recordings in .*a, .*b; record others"),
    "one of two nowhere": (["a", "c"], "there is no folder"),
    "a file": ("a/notes.txt", "notes.txt is a file; there are recordings in .*run0"),
    "no match": ("c*", r"the pattern c\* matches no recordings; check it"),
    "no run": ("*/notes*", "matches 1 files and folders, none with recordings"),
}


@pytest.mark.parametrize(("where", "said"), WRONG.values(), ids=list(WRONG))
def test_what_is_not_there_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: object, said: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(LogError, match=said):
        run_paths(where)  # type: ignore[arg-type]


def test_folders_that_may_not_be_read_are_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.is_file

    def is_file(path: Path) -> bool:
        if path.parent.name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    assert [Path(name).name for name in folders_beside(folder / "c")] == ["b"]
    monkeypatch.setattr(Path, "iterdir", lambda path: (_ for _ in ()).throw(PermissionError(13)))
    assert folders_beside(folder / "c") == []


APART = {
    "two folders": ({"m/a/run0": "run0", "m/b/run0": "run0"}, ["a/run0", "b/run0"]),
    "the folder above": ({"m/a/s/run0": "run0", "m/b/s/run0": "run0"}, ["a/run0", "b/run0"]),
    "only equal names": ({"a/x": "x", "b/x": "x", "b/y": "y"}, ["a/x", "b/x", "y"]),
    "folders of other names": ({"m/one": "x", "m/two": "x"}, ["one/x", "two/x"]),
    "one above the other": ({"m/x": "x", "m/old/x": "x"}, ["m/x", "old/x"]),
    "as much as it takes": (
        {"a/b/x": "x", "c/b/x": "x", "c/d/x": "x"},
        ["a/b/x", "c/b/x", "c/d/x"],
    ),
}


@pytest.mark.parametrize(("runs", "names"), APART.values(), ids=list(APART))
def test_equal_names_get_the_part_of_the_path_that_differs(
    runs: dict[str, str], names: list[str]
) -> None:
    assert names_apart([Path(path) for path in runs], list(runs.values())) == names


def _run_at(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "spec.json").write_text("{}")
    return path


def test_linked_runs_are_found_once_and_cycles_end(tmp_path: Path) -> None:
    stored, mine = _run_at(tmp_path / "store" / "run0"), _run_at(tmp_path / "mine" / "run1")
    (tmp_path / "mine" / "run0").symlink_to(stored)
    (tmp_path / "mine" / "again").symlink_to(tmp_path / "mine")
    assert run_paths(tmp_path / "mine") == [tmp_path / "mine" / "run0", mine]
    assert run_paths(tmp_path) == [mine, stored]


def test_half_written_folders_and_copies_inside_a_run_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = _run_at(tmp_path / "run0")
    _run_at(tmp_path / ".run1.123.tmp")
    inside = _run_at(run / "backup" / "run0")
    assert run_paths(tmp_path) == [run]
    mine = _run_at(tmp_path / ".mine.tmp")
    assert run_paths(tmp_path) == [mine, run]
    shutil.rmtree(mine)
    caplog.clear()
    assert run_paths(tmp_path) == [run]
    told = f"{inside} lies inside another run and is left out; move it out of there"
    assert caplog.messages == [told]
    assert run_paths(inside) == [inside]


def test_bytes_of_folders_that_are_no_unicode_become_escapes_in_names() -> None:
    paths = [Path("a\udcff/run0"), Path("b/run0")]
    assert names_apart(paths, ["run0", "run0"]) == [r"a\udcff/run0", "b/run0"]


def test_runs_whose_spec_is_lost_or_no_file_are_found(folder: Path) -> None:
    (folder / "a/run0/spec.json").rename(folder / "a/run0/epochs.parquet")
    (folder / "a/run1/spec.json").unlink()
    (folder / "a/run1/spec.json").symlink_to("nowhere")
    (folder / "b/run0/spec.json").unlink()
    os.mkfifo(folder / "b/run0/spec.json")
    assert [str(run.relative_to(folder)) for run in run_paths(folder)] == sorted(RUNS)


def test_a_folder_that_cannot_be_listed_stops_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut, plain = folder / "shut", Path.iterdir
    shut.mkdir()

    def iterdir(path: Path) -> Iterator[Path]:
        if path == shut:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    before = run_paths(folder)
    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(LogError, match="cannot be searched"):
        run_paths(folder)
    unlisted: list[str] = []
    assert run_paths(folder, unlisted) == before
    (told,) = unlisted
    assert told.startswith(f"{shut} cannot be searched for recordings (Permission denied)")


def test_links_to_very_many_folders_end_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(12):
        (tmp_path / "above" / str(place)).mkdir(parents=True)
    _run_at(tmp_path / "mine" / "run0")
    (tmp_path / "mine" / "root").symlink_to(tmp_path)
    monkeypatch.setattr(found_runs, "_MOST_FOLDERS", 10)
    with pytest.raises(LogError, match="more than 10 folders below it"):
        run_paths(tmp_path / "mine")
