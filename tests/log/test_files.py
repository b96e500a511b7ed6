"""Atomic writing: a file is whole or not there, and every writer goes through one function."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import pruneviz
from pruneviz.errors import FigureError, LogError
from pruneviz.log.files import disk_errors, remove_unfinished, write_whole


def test_a_file_replaces_the_one_before_and_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "c.txt"
    for text in ("first", "second"):
        write_whole(file, lambda path, text=text: path.write_text(text))
        assert file.read_text() == text
        file.chmod(0o640)
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.rglob("*.txt*")) == [file]


def test_a_folder_that_was_deleted_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "gone" / "c.txt", lambda path: path.write_text("text"))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_file_before_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "c.txt"
    write_whole(file, lambda path: path.write_text("whole"))

    def fail(path: Path) -> None:
        path.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(file, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["c.txt"]
    assert file.read_text() == "whole"


def test_the_file_is_flushed_before_it_has_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    flush, rename = os.fsync, Path.replace

    def seen_flush(handle: int) -> None:
        steps.append("folder" if os.path.sameopenfile(handle, folder) else "file")
        flush(handle)

    def seen_rename(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", seen_flush)
    monkeypatch.setattr(Path, "replace", seen_rename)
    folder = os.open(tmp_path, os.O_RDONLY)
    write_whole(tmp_path / "c.txt", lambda path: path.write_text("whole"))
    assert steps == ["file", "rename", "folder"]
    write_whole(tmp_path / "c.txt", lambda path: path.write_text("whole"), flush=False)
    os.close(folder)
    assert steps[3:] == ["rename"]


def test_a_folder_that_cannot_be_flushed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def refuse_folders(handle: int) -> None:
        if os.path.sameopenfile(handle, folder):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(handle)

    folder = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_whole(tmp_path / "c.txt", lambda path: path.write_text("whole"))
    os.close(folder)
    assert (tmp_path / "c.txt").read_text() == "whole"


def test_disk_errors_say_what_cannot_be_written_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    file = tmp_path / "file" / "c.txt"

    def write(path: Path) -> None:
        path.write_text("whole")

    said = r"^cannot write to .*c\.txt: .*; free some space, or choose"
    with pytest.raises(LogError, match=said), disk_errors(file):
        write_whole(file, write)
    said = r"^cannot write to .*c\.txt: .*; use --out$"
    with pytest.raises(FigureError, match=said), disk_errors(file, FigureError, "use --out"):
        write_whole(file, write)


def test_half_written_files_of_killed_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    kept = [tmp_path / "spec.json", tmp_path / "weights" / "1.safetensors", tmp_path / "mine.tmp"]
    stray = [tmp_path / ".spec.json.17.tmp", tmp_path / "weights" / ".1.safetensors.17.tmp"]
    for file in (*kept, *stray):
        file.write_text("x")
    remove_unfinished(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_no_other_module_flushes_or_renames_files() -> None:
    package = Path(pruneviz.__file__).parent
    marks = ("fsync", " os.rename", " os.replace", "getpid", '.part"')
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if any(mark in file.read_text(encoding="utf-8") for mark in marks)
    }
    # the lock of a run is a file that is written in place, by the process that its text names
    assert found == {"log/files.py", "log/run_lock.py"}
