"""What a file held when it was written: its rows, bytes and SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pruneviz.log.arguments import is_whole
from pruneviz.log.parquet import corrupt, read_errors
from pruneviz.log.regular_files import check_regular
from pruneviz.log.table_files import footer_of


@dataclass(frozen=True)
class FileSum:
    """Rows, bytes and SHA-256 of a table's file.

    Attributes:
        rows: Number of rows.
        size: Its bytes.
        sha256: Digest of its bytes, in hexadecimal digits.
    """

    rows: int
    size: int
    sha256: str

    @classmethod
    def of_content(cls, content: bytes, rows: int) -> FileSum:
        """The sum of a file that will have this content."""
        return cls(rows, len(content), hashlib.sha256(content).hexdigest())

    @classmethod
    def of_file(cls, file: Path) -> FileSum:
        """The sum of a file as it is.

        Raises:
            LogError: If it is missing or cannot be read.
        """
        with read_errors(file):
            rows = footer_of(file).num_rows
            return cls(rows, file.stat().st_size, sha256_of(file))

    def to_facts(self) -> dict[str, Any]:
        """The sum as JSON holds it."""
        return {"rows": self.rows, "bytes": self.size, "sha256": self.sha256}

    @classmethod
    def from_facts(cls, facts: Any) -> FileSum:
        """A sum as JSON holds it.

        Raises:
            ValueError: If it is none.
        """
        if isinstance(facts, Mapping) and {*facts} == {"rows", "bytes", "sha256"}:
            found = cls(facts["rows"], facts["bytes"], facts["sha256"])
            if is_whole(found.rows) and is_whole(found.size) and isinstance(found.sha256, str):
                return found
        raise ValueError(f"{facts!r} is no rows, bytes and sha256 of a file")


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's bytes.

    Raises:
        LogError: If it is no regular file.
        OSError: If it cannot be read.
    """
    check_regular(file)
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def check_size(file: Path, expected: FileSum) -> None:
    """Check the size and the number of rows of a file, without reading its rows.

    Raises:
        LogError: If they are not those that were written.
    """
    with read_errors(file):
        rows, size = footer_of(file).num_rows, file.stat().st_size
    if rows != expected.rows:
        raise _other(file, f"it holds {rows} rows, and {expected.rows} were written")
    if size != expected.size:
        raise _other(file, f"it has {size} bytes, and {expected.size} were written")


def check_digest(file: Path, expected: FileSum) -> None:
    """Check every byte of a file.

    Raises:
        LogError: If it is not the file that was written.
    """
    with read_errors(file):
        found = sha256_of(file)
    if found != expected.sha256:
        raise _other(file, "its SHA-256 is not the one that was written down")


def _other(file: Path, why: str) -> Exception:
    return corrupt(file, ValueError(why))
