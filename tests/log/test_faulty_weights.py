"""Kept weights and checkpoints that say anything of themselves are named, and never followed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pruneviz.log.faulty_files import damaged_checkpoints, damaged_weights

TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS: dict[str, Any] = {
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "number": 17,
    "list": [1, 2],
    "null": None,
    "metadata": {"__metadata__": [1], "a": TENSOR},
    "tensor": {"a": [1, 2]},
    "one offset": {"a": {**TENSOR, "data_offsets": [0]}},
    "negative": {"a": {**TENSOR, "data_offsets": [-1000, 4]}},
    "fraction": {"a": {**TENSOR, "data_offsets": [0.5, 4]}},
    "far": {"a": {**TENSOR, "data_offsets": [10**300, 4]}},
    "dtype": {"a": {**TENSOR, "dtype": ["F32"]}},
    "unknown": {"a": {**TENSOR, "dtype": "F4"}},
    "shape": {"a": {**TENSOR, "shape": 5}},
    "bytes": {"a": {**TENSOR, "shape": [2]}},
    "hole": {"a": {**TENSOR, "dtype": "U8", "data_offsets": [3, 4]}},
    "overlap": {f"t{place}": TENSOR for place in range(1000)},
    "no Unicode": {"\ud800": TENSOR, "__metadata__": {"sha256": "x"}},
}


def stored(file: Path, header: Any) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"abcd")
    return file


@pytest.mark.parametrize("header", HEADERS.values(), ids=list(HEADERS))
def test_any_header_of_weights_is_named(tmp_path: Path, header: Any) -> None:
    file = stored(tmp_path / "initial.safetensors", header)
    (fault,) = damaged_weights(tmp_path)
    assert fault.startswith(f"{file} is corrupt (")


def test_whole_weights_are_no_fault_also_with_empty_tensors(tmp_path: Path) -> None:
    empty = {**TENSOR, "shape": [0, 7]}
    header = {
        "z": {**empty, "data_offsets": [0, 0]},
        "a": TENSOR,
        "b": {**empty, "data_offsets": [4, 4]},
    }
    stored(tmp_path / "initial.safetensors", header)
    assert list(damaged_weights(tmp_path)) == []


def archive(tmp_path: Path, kind: int = zipfile.ZIP_STORED) -> Path:
    file = tmp_path / "checkpoint" / "state.pt"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w", kind) as opened:
        opened.writestr("state/data.pkl", b"x" * 1000)
    return file


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_checkpoint_that_would_be_unpacked_is_refused(tmp_path: Path, kind: int) -> None:
    archive(tmp_path, kind)
    assert "is packed, which torch never does" in next(damaged_checkpoints(tmp_path))


def test_a_checkpoint_whose_entries_share_their_bytes_is_refused(tmp_path: Path) -> None:
    file = archive(tmp_path)
    content = file.read_bytes()
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    many = 5000
    last = content[end : end + 8] + many.to_bytes(2, "little") * 2
    last += ((end - start) * many).to_bytes(4, "little") + content[end + 16 :]
    file.write_bytes(content[:start] + content[start:end] * many + last)
    assert "what it holds is larger than it" in next(damaged_checkpoints(tmp_path))


def test_weights_that_may_not_be_read_are_not_called_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = stored(tmp_path / "initial.safetensors", {"a": TENSOR})
    monkeypatch.setattr(Path, "open", refused)
    assert list(damaged_weights(tmp_path)) == [
        f"{file} cannot be read: permission denied; make it readable"
    ]
