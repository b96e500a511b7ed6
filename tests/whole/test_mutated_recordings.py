"""Mutated recordings are read with the numbers that they had, or refused; nothing else happens.

A reader that gives other numbers, raises another error than its own, or does not answer, is wrong,
and so is `pruneviz check` where it calls whole what cannot be loaded.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.support.mutated_recordings import (
    Mutation,
    make_recordings,
    numbers_of,
    wrongly_read,
)

Recordings = tuple[Path, dict[str, dict[str, pd.DataFrame]]]

# Seeds of mutations that were read wrongly once.
FOUND: tuple[int, ...] = (13, 14, 31, 33, 48, 49, 314, 323, 434, 516, 528, 737, 2783, 3000, 4525)
USUAL, SOAK, FIRST = 100, 10_000, 1_000_000


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    folder = make_recordings(tmp_path_factory.mktemp("whole"))
    return folder, numbers_of(folder)


def wrong(recordings: Recordings, work: Path, seed: int) -> str:
    """What readers get wrong of one mutation; "" if nothing."""
    folder, expected = recordings
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder, work, symlinks=True)
    mutation = Mutation(seed, work)
    found = wrongly_read(work / mutation.run, expected[mutation.run], listing=seed % 50 == 0)
    return "\n    ".join([repr(mutation), *found]) if found else ""


def test_unchanged_ones_are_read(recordings: Recordings) -> None:
    folder, expected = recordings
    assert [wrongly_read(folder / run, tables) for run, tables in expected.items()] == [[]] * 4


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once(recordings: Recordings, tmp_path: Path, seed: int) -> None:
    assert not wrong(recordings, tmp_path / "work", seed)


def test_some_of_any_kind(recordings: Recordings, tmp_path: Path) -> None:
    found = [wrong(recordings, tmp_path / "work", seed) for seed in range(FIRST, FIRST + USUAL)]
    assert not any(found), "\n".join(filter(None, found))


@pytest.mark.soak
def test_many_of_any_kind(recordings: Recordings, tmp_path: Path) -> None:
    found = [wrong(recordings, tmp_path / "work", seed) for seed in range(SOAK)]
    assert not any(found), "\n".join(filter(None, found))
