"""Atomic writing: a file is whole or not there, and every writer goes through one function."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pruneviz
from pruneviz.errors import FigureError, LogError
from pruneviz.log import files
from pruneviz.log.files import (
    disk_errors,
    make_folder,
    remove_unfinished,
    whole_folder,
    write_named,
    write_over,
    write_whole,
)


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


def test_a_folder_whose_flush_fails_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    said = "Input/output error; check the disk, or"
    with pytest.raises(LogError, match=said), disk_errors(tmp_path):
        make_folder(tmp_path / "new")


def test_disk_errors_say_what_cannot_be_written_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    file = tmp_path / "file" / "c.txt"

    def write(path: Path) -> None:
        path.write_text("whole")

    said = r"^cannot write to .*c\.txt: Not a directory; something else is in the way; move it"
    with pytest.raises(LogError, match=said), disk_errors(file):
        write_whole(file, write)
    said = r"^cannot write to .*c\.txt: .*; move it away, or use --out$"
    with pytest.raises(FigureError, match=said), disk_errors(file, FigureError, "use --out"):
        write_whole(file, write)


REPAIRS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on the size of a file",
    errno.EACCES: "change its permissions",
    errno.EPERM: "change its permissions",
    errno.EROFS: "mount the disk for writing",
    errno.ENOENT: "put it back",
    errno.EMFILE: "close some files",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
    None: "check the disk",
}


@pytest.mark.parametrize("number", REPAIRS, ids=lambda number: errno.errorcode.get(number, "none"))
def test_the_repair_is_that_of_the_failure(number: int | None) -> None:
    failure = OSError("of a library") if number is None else OSError(number, os.strerror(number))
    with pytest.raises(LogError) as caught, disk_errors(Path("run")):
        raise failure
    what = failure.strerror or "of a library"
    assert str(caught.value).startswith(f"cannot write to run: {what}; ")
    of_space = number in (errno.ENOSPC, errno.EDQUOT)
    assert ("space" in str(caught.value).partition("; ")[2]) == of_space
    assert REPAIRS[number] in str(caught.value)


def test_a_new_folder_is_flushed_with_all_that_were_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(files, "flush_folder", flushed.append)
    make_folder(tmp_path / "a" / "b" / "c")
    assert set(flushed) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}
    flushed.clear()
    make_folder(tmp_path / "a")
    assert flushed == [tmp_path], "its process may have been killed before it was flushed"


def test_a_file_may_get_its_name_from_its_content(tmp_path: Path) -> None:
    def write(path: Path) -> str:
        return f"{path.write_text('whole')}.txt"

    assert write_named(tmp_path, "count", write) == tmp_path / "5.txt"
    assert [file.read_text() for file in tmp_path.iterdir()] == ["whole"]


def dead_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_killed_processes_left_of_a_file_is_removed_and_nothing_of_living_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left(process: int, name: str = "c.txt") -> Path:
        seen: list[Path] = []

        def write(path: Path) -> None:
            seen.append(path)
            path.write_text("half")

        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: process)
            write_whole(tmp_path / name, write)
        return (tmp_path / name).rename(seen[0])

    dead = dead_process()
    gone, kept = left(dead), {left(os.getppid()), left(dead, "d.txt"), left(dead, "c.txt.d")}
    mine = tmp_path / f".c.txt.{dead}.tmp"
    mine.write_text("of a person")
    write_over(tmp_path / "c.txt", lambda path: path.write_text("whole"))
    assert not gone.exists()
    assert {*tmp_path.iterdir()} == {tmp_path / "c.txt", mine, *kept}
    folder = gone.with_name(gone.name.replace("c.txt", "run"))
    (folder / "parts").mkdir(parents=True)
    with whole_folder(tmp_path / "run"):
        assert not folder.exists()


def test_a_link_stays_a_link_and_its_file_is_written_over(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    (tmp_path / "c.txt").write_text("before")
    link.symlink_to("c.txt")
    write_over(link, lambda path: path.write_text("after"))
    assert link.is_symlink()
    assert (tmp_path / "c.txt").read_text() == "after"
    write_over(tmp_path / "new" / "c.txt", lambda path: path.write_text("in a new folder"))
    assert (tmp_path / "new" / "c.txt").exists()


def test_half_written_files_of_killed_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / ".run.17.tmp" / "parts").mkdir(parents=True)
    weights = tmp_path / "weights"
    kept = [tmp_path / "spec.json", weights / "1.safetensors", tmp_path / "mine.tmp"]
    kept.append(weights / ".mine.tmp")
    stray = [tmp_path / ".spec.json.0123abcd-17.tmp", weights / ".1.safetensors.17.tmp"]
    for file in (*kept, *stray):
        file.write_text("x")
    remove_unfinished(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert not (tmp_path / ".run.17.tmp").exists()


def test_nothing_is_written_into_a_folder_that_is_called_like_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("s3://bucket/report.html", "oss://bucket/figures/1.png"):
        for write in (write_over, lambda path, _: make_folder(path)):
            with pytest.raises(LogError, match=rf"{url} is a URL, and results are written to a"):
                write(Path(url), lambda path: path.write_text("x"))
    assert not list(tmp_path.iterdir())


def test_no_other_module_flushes_or_renames_files() -> None:
    package = Path(pruneviz.__file__).parent
    marks = ("fsync", " os.rename", " os.replace", "getpid", '.part"')
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if any(mark in file.read_text(encoding="utf-8") for mark in marks)
    }
    # The lock of a run is a file that is written in place, by the process that its text names.
    # The mirror holds copies, which are compared with the store and fetched again, never flushed.
    assert found == {"log/files.py", "log/run_lock.py", "stores/mirror.py"}
