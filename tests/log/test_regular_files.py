"""Only regular files are opened, and no more of them is read than they may have."""

from __future__ import annotations

import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from pruneviz.errors import LogError
from pruneviz.log.regular_files import check_regular, is_something, read_regular


def test_a_file_and_a_link_to_one_are_read_up_to_their_bound(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        check_regular(tmp_path / name)
        assert read_regular(tmp_path / name, 5) == b"12345"
        with pytest.raises(LogError, match=f"{name} has more than 4 bytes"):
            read_regular(tmp_path / name, 4)


def test_a_small_file_takes_little_memory_whatever_its_bound(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    tracemalloc.start()
    try:
        assert read_regular(tmp_path / "file", 1 << 30) == b"12345"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_others_are_refused_without_waiting_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket")
        for name in ("pipe", "folder", "device", "socket"):
            with pytest.raises(LogError, match=f"{name} is a {name}, expected a regular file"):
                check_regular(Path(name))
            with pytest.raises((LogError, OSError)):  # a socket and a folder cannot be opened
                read_regular(Path(name), 10)


def test_a_link_that_leads_nowhere_is_something(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert is_something(tmp_path / "link") and not is_something(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        check_regular(tmp_path / "link")
