"""Every fault of recordings, by name: `pv.faults`, and what `pruneviz check` tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pruneviz.console.shown_text import visible
from pruneviz.errors import LogError
from pruneviz.log.epoch_parts import PARTS, complete_epochs
from pruneviz.log.faulty_files import (
    damaged_checkpoints,
    damaged_weights,
    left_behind,
    not_regular,
    unknown_parts,
)
from pruneviz.log.faulty_parts import faults_of_parts
from pruneviz.log.faulty_tables import faults_of_tables
from pruneviz.log.found_runs import Where, run_paths
from pruneviz.log.regular_files import is_something
from pruneviz.log.run_lock import recorded_so_far
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.spec_file import is_sealed, read_spec
from pruneviz.stores.mirror import copy_at, whole_copy

_TRIES = 5  # of a run that another process records meanwhile


@dataclass(frozen=True)
class Checked:
    """What was found in one run directory.

    Attributes:
        path: The run directory.
        sealed: Whether the run is finished; None if its spec cannot be read.
        epochs: Number of complete epochs; None if that cannot be read.
        faults: What is wrong, each in a sentence.
    """

    path: Path
    sealed: bool | None
    epochs: int | None
    faults: tuple[str, ...]


def faults(where: Where) -> pd.DataFrame:
    """All faults of recordings: damaged, lost, doubled or foreign files, and tables that disagree.

    Every file is read to its end, and nothing is changed. A run that is not finished is no fault.

    Args:
        where: Run directory, folder with run directories, glob pattern, or several of these, as for
            `pruneviz.load`.

    Returns:
        One row per fault: `path`, the run directory, and `fault`, what is wrong in a sentence.
        Empty if all are whole. A folder that cannot be listed is a fault without a `path`.

    Raises:
        LogError: If there are no runs.

    Example:
        >>> pv.faults("data/cifar-mini")
    """
    unlisted: list[str] = []
    paths = run_paths(where, unlisted)
    found: list[dict[str, str | None]] = [
        {"path": visible(path), "fault": fault}
        for path in paths
        for fault in checked_run(path).faults
    ]
    found += [{"path": None, "fault": visible(folder)} for folder in unlisted]
    return pd.DataFrame(found, columns=["path", "fault"])


def checked_run(path: Path) -> Checked:
    """Look for faults in one run directory; nothing in it is changed.

    Args:
        path: The run directory.
    """
    try:
        with whole_copy(path):
            return _checked(path)
    except LogError as error:
        if copy_at(path) is None:
            raise
        return Checked(path, None, None, (visible(error),))


def _checked(path: Path) -> Checked:
    for _ in range(_TRIES):
        before, found = _state(path), _looked_at(path)
        if not found.faults or _state(path) == before:
            break  # else it was recorded meanwhile
    return found


def _state(path: Path) -> tuple[bool | None, list[int], int | None]:
    try:
        return is_sealed(path), complete_epochs(path), recorded_so_far(path)[1]
    except LogError:
        return None, [], None


def _looked_at(path: Path) -> Checked:
    irregular = not_regular(path)
    try:
        spec, sealed = read_spec(path), is_sealed(path)
    except LogError as error:
        return Checked(path, None, None, _once([str(error), *irregular]))
    about = _of_finished(path, spec) if sealed else _of_unfinished(path, spec)
    weights = [*damaged_checkpoints(path), *damaged_weights(path)]
    return Checked(path, sealed, about.epochs, _once([*irregular, *about.faults, *weights]))


@dataclass(frozen=True)
class _Rows:
    """What was found in the tables of a run."""

    epochs: int | None
    faults: Sequence[str]


def _of_finished(path: Path, spec: RunSpec) -> _Rows:
    epochs, wrong = faults_of_tables(path, spec)
    return _Rows(epochs, [*wrong, *left_behind(path, sealed=True)])


def _of_unfinished(path: Path, spec: RunSpec) -> _Rows:
    epochs = len(complete_epochs(path))
    wrong = [*faults_of_parts(path, spec), *unknown_parts(path), *left_behind(path, sealed=False)]
    if not epochs and is_something(path / "epochs.parquet"):
        wrong.append(
            f"{path / PARTS} holds no epoch, while the spec says that the run is unfinished and "
            "there are whole tables; restore the folder, or the spec, from a backup"
        )
    return _Rows(epochs, wrong)


def _once(found: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(visible, found)))
