"""Opening the log of a recorder: a new run, one that goes on, or one that is finished."""

from __future__ import annotations

import json
import logging
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pruneviz.errors import LogError
from pruneviz.log.arguments import is_whole
from pruneviz.log.reopening import reopen
from pruneviz.log.run_directory import RunLog, check_same_options, last_epoch_of
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.spec_file import SPEC_FILE, is_sealed, read_spec
from pruneviz.measuring.coverage import Coverage

Resume: TypeAlias = bool | Literal["auto"]
How: TypeAlias = Literal["new", "resumed", "finished"]

# facts of where and by what a recording goes on, and of its network, which are compared elsewhere
_MAY_DIFFER = frozenset(
    {"device", "device_name", "threads", "command", "created", "versions", "schema_version"}
    | {"coverage", "left_out", "rows"}
)

_logger = logging.getLogger("pruneviz")


def check_resume(resume: object, measure_last: object = None) -> None:
    """Check the options `resume` and `measure_last` of a recorder.

    Raises:
        LogError: If one is none of True, False and "auto" (resume) or None (measure_last).
    """
    if measure_last is not None and not isinstance(measure_last, bool):
        raise LogError(
            f"measure_last={measure_last!r}; give True or False, or None for the default"
        )
    if not isinstance(resume, bool) and resume != "auto":
        raise LogError(
            f"resume={resume!r}; give False (a new run), True (an unfinished one) or 'auto' "
            "(whatever the folder holds)"
        )


def check_rewind(epoch: object) -> None:
    """Check the last epoch to keep, before anything is dropped.

    Raises:
        LogError: If it is no whole number.
    """
    if not is_whole(epoch):
        raise LogError(
            f"rewind({epoch!r}): give the last epoch to keep, a whole number; -1 drops all"
        )


def open_log(out: str | Path, spec: RunSpec, resume: Resume) -> tuple[RunLog, How]:
    """Open a run directory for a recorder, and log what it holds.

    Args:
        out: Run directory.
        spec: Facts of the run.
        resume: Whether the run is an unfinished one; "auto" takes the folder as it is.

    Raises:
        LogError: If the folder is not what `resume` says, or holds a run of other options.
    """
    path = Path(out)
    if not resume or (resume == "auto" and not (path / SPEC_FILE).exists()):
        return RunLog.create(path, spec), "new"
    if resume == "auto" and is_sealed(path):
        last = last_epoch_of(path)
        _logger.warning(
            "%s is a finished run, up to epoch %s; to train it further, call recorder.rewind(%s) "
            "before the next epoch",
            *(path, last, last),
        )
        log = RunLog(path, check_same_options(path, spec.to_dict()))
        _say_other_facts(log, spec)
        return log, "finished"
    if (path / SPEC_FILE).exists():
        _check_theta(path, read_spec(path), spec)
    log = RunLog.resume(path, spec)
    _say_other_facts(log, spec)
    last = max(log.epochs, default=None)
    if resume == "auto" and last is not None:
        _logger.warning(
            "continuing %s after epoch %s; the network has to be the one of that epoch", path, last
        )
    else:
        _logger.info("continuing %s after epoch %s", path, last)
    return log, "resumed"


def _check_theta(path: Path, before: RunSpec, now: RunSpec) -> None:
    was, given = (spec.extra.get("parameters", "all") for spec in (before, now))
    if was != given:
        raise LogError(
            f"{path} was started with parameters={was!r}, now {given!r}; give the old ones, or "
            "choose another folder"
        )


def _say_other_facts(log: RunLog, spec: RunSpec) -> None:
    """Warn of facts that a run keeps although other ones are given now."""
    before = _plain(log.spec.to_dict())
    other = [
        f"{name} is {before.get(name)!r}, not {value!r}"
        for name, value in _plain(spec.to_dict()).items()
        if name not in _MAY_DIFFER and value is not None and before.get(name) != value
    ]
    if other:
        _logger.warning("%s keeps the facts in its spec: %s", log.path, "; ".join(other))


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as `spec.json` holds them."""
    text = json.dumps(
        dict(facts), default=lambda value: value.item() if hasattr(value, "item") else str(value)
    )
    found: dict[str, Any] = json.loads(text)
    return found


def say_coverage(coverage: Coverage, how: How) -> None:
    """Log what a run measures of its network, if it is new."""
    if how != "new":
        return
    # a gap that nobody asked for must be seen
    level = logging.INFO if coverage.is_as_chosen else logging.WARNING
    _logger.log(level, "%s", coverage.line())


def reopened(log: RunLog) -> RunLog:
    """A finished run, open for further epochs."""
    reopen(log.path)
    return RunLog.resume(log.path, log.spec)


def check_next(epoch: int, last: int | None, path: Path, *, resumed: bool) -> None:
    """Check that an epoch comes after the last one.

    Args:
        epoch: The epoch to record.
        last: The last recorded epoch.
        path: Run directory.
        resumed: Whether the run was begun before this recorder, so that a loop may start anew.

    Raises:
        LogError: If it does not; names the call that makes it possible.
    """
    if not isinstance(epoch, numbers.Integral) or isinstance(epoch, bool):
        raise LogError(
            f"epoch={epoch!r}; give the number of epochs trained so far, a whole number from 0"
        )
    if epoch < 0 or (last is not None and epoch <= last and not resumed):
        raise LogError(
            f"epoch {epoch} comes after epoch {last}; epochs count up from 0, the initialisation"
        )
    if last is not None and epoch <= last:
        raise LogError(
            f"epoch {epoch} is already recorded, {path} goes on after epoch {last}. If the network "
            f"is the one of epoch {epoch}, call recorder.rewind({epoch - 1}) first, which drops "
            f"the recorded epochs from {epoch} on; otherwise restore the network of epoch {last}, "
            f"and start the loop at epoch {last + 1}"
        )


def finished_error(path: Path, epoch: int, last: int | None, *, closed: bool) -> LogError:
    """The error for an epoch of a run that is finished.

    Args:
        path: Run directory.
        epoch: The epoch to record.
        last: The last recorded epoch.
        closed: Whether the recorder itself has finished the run.
    """
    if closed:
        return LogError(f"the recorder of {path} is closed; make a new one in another folder")
    keep = epoch - 1 if last is None or epoch <= last else last
    kept = "drops all its epochs" if keep < 0 else f"keeps its epochs up to {keep}"
    return LogError(
        f"{path} is a finished run, up to epoch {last}, and epoch {epoch} is not recorded. Leave "
        "the training out where recorder.finished is true, choose another folder, or call "
        f"recorder.rewind({keep}) first, which opens the run again and {kept}"
    )
