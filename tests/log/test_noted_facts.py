"""Noted facts are on disk until the run is finished, and are those that were noted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pruneviz.errors import LogError
from pruneviz.log.checkpoint_names import NOTED
from pruneviz.log.noted_facts import read_noted, write_noted


def test_facts_are_read_as_they_were_noted(tmp_path: Path) -> None:
    assert read_noted(tmp_path / "checkpoint") == {}
    write_noted(tmp_path / "checkpoint", {"size": np.int64(7), "how": "ÿ \n\ud800"})
    write_noted(tmp_path / "checkpoint", {"size": 8, "how": "ÿ \n"})
    assert read_noted(tmp_path / "checkpoint") == {"size": 8, "how": "ÿ \n"}


def test_facts_that_cannot_be_stored_leave_the_earlier_ones(tmp_path: Path) -> None:
    write_noted(tmp_path, {"size": 7})
    with pytest.raises(LogError, match="cannot be stored"):
        write_noted(tmp_path, {"size": float("nan")})
    assert read_noted(tmp_path) == {"size": 7}


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    write_noted(tmp_path, {"size": 7})
    content = (tmp_path / NOTED).read_bytes().rstrip(b"\n")
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        (tmp_path / NOTED).write_bytes(bytes(changed))
        with pytest.raises(LogError, match="is corrupt: its facts are not those that were noted"):
            read_noted(tmp_path)
