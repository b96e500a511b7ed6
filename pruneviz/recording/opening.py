"""Opening the log of a recorder: a new run, one that goes on, or one that is finished."""

from __future__ import annotations

import json
import logging
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pruneviz.analysis.run_facts import BATCHES
from pruneviz.errors import LogError
from pruneviz.log import limits
from pruneviz.log.arguments import is_whole
from pruneviz.log.leftovers import remove_leftovers
from pruneviz.log.reopening import reopen
from pruneviz.log.run_directory import RunLog, check_same_options, last_epoch_of
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.spec_file import SPEC_FILE, is_sealed, read_spec
from pruneviz.measuring.coverage import Coverage
from pruneviz.recording import run_facts

Resume: TypeAlias = bool | Literal["auto"]
How: TypeAlias = Literal["new", "resumed", "finished"]

# facts of where and by what a recording goes on, and of its network, which are compared elsewhere
_MAY_DIFFER = frozenset(
    {"device", "device_name", "threads", "command", "created", "versions", "schema_version"}
    | {"coverage", "left_out", "rows", "sample_digest"}
)

# what measures besides the network, and at which epochs; absent for defaults
_CALLED = (
    *("loss", "classifier", "loss_weight", "forward", "hooks", "measure_last"),
    *("oracle", "request_at"),
)

# what options meant for the network when the recorder was made, and how they mean it again
_FOUND = {
    run_facts.PARAMETERS_FOUND: (
        "freeze and unfreeze its parameters as they were at first, make the recorder, and freeze "
        "others then, or choose another folder"
    ),
    run_facts.NORMS_FOUND: (
        "its rows have the scales of other batch norms; give the network, the code of its forward "
        "pass and trace_examples as they were, or choose another folder"
    ),
    **dict.fromkeys(
        ("mask_score_code", "measure_code"),
        "give the pruning measure with its code as it was, or choose another folder",
    ),
    BATCHES: (
        "standard errors are over other pieces of the sample; give the network, its loss and the "
        "code of both as they were, or choose another folder"
    ),
}

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
        _check_same_measuring(path, log.spec, spec)
        _say_other_facts(log, spec)
        remove_leftovers([path])
        return log, "finished"
    if (path / SPEC_FILE).exists():
        _check_theta(path, read_spec(path), spec)
        if not is_sealed(path):
            _check_same_measuring(path, check_same_options(path, spec.to_dict()), spec)
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


def _check_same_measuring(path: Path, before: RunSpec, now: RunSpec) -> None:
    """Check that a run goes on with the sample, the loss and the calls that it was begun with."""
    was, given = before.extra, now.extra
    if "sample_digest" not in was:
        _logger.warning(
            "%s was begun by an older version, which kept no digest of sample and loss; they have "
            "to be the same as before",
            path,
        )
        return
    if was["sample_digest"] != given.get("sample_digest"):
        raise LogError(
            f"{path} was started with another sample: its inputs or targets differ, or their order "
            "or batches; give the sample as it was, or choose another folder"
        )
    _check_found(path, was, given)
    changed = [name for name in _CALLED if was.get(name) != given.get(name)]
    if changed:
        differing = "; ".join(
            f"{name} was {was.get(name, 'the default')!r}, now {given.get(name, 'the default')!r}"
            for name in changed
        )
        raise LogError(
            f"{path} was started with other options: {differing}; use the old ones, or another "
            "folder"
        )


def _check_found(path: Path, was: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Check that options mean for the network what they meant; older versions did not store it."""
    for name, repair in _FOUND.items():
        before, now = was.get(name), given.get(name)
        if before != now and (name in was or name == BATCHES):
            raise LogError(f"{path} was started with {name}={before!r}, now {now!r}; {repair}")


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


def check_next(
    epoch: int, last: int | None, path: Path, *, resumed: bool, gap: bool = False
) -> None:
    """Check that an epoch comes after the last one.

    Args:
        epoch: The epoch to record.
        last: The last recorded epoch.
        path: Run directory.
        resumed: Whether the run was begun before this recorder, so that a loop may start anew.
        gap: Whether epochs may be left out.

    Raises:
        LogError: If it does not; names the call that makes it possible.
    """
    if not isinstance(epoch, numbers.Integral) or isinstance(epoch, bool):
        raise LogError(
            f"epoch={epoch!r}; give the number of epochs trained so far, a whole number from 0"
        )
    if epoch > limits.MOST_EPOCH:
        raise LogError(f"epoch={epoch}; epochs are numbers up to {limits.MOST_EPOCH:,}")
    if epoch < 0 or (last is not None and epoch <= last and not resumed):
        raise LogError(
            f"epoch {epoch} comes after epoch {last}; epochs count up from 0, the initialisation"
        )
    if last is not None and epoch <= last:
        anew = f"restore the network of epoch {epoch - 1}, " if epoch else ""
        raise LogError(
            f"epoch {epoch} is already recorded, {path} goes on after epoch {last}. To record it "
            f"anew, {anew}call recorder.rewind({epoch - 1}), which drops the recorded epochs from "
            f"{epoch} on, and train from there; otherwise restore the network of epoch {last}, and "
            f"start the loop at epoch {last + 1}"
        )
    if last is not None and epoch > last + 1 and not gap:
        raise LogError(
            f"epoch {epoch} does not follow epoch {last}, the last one in {path}; record epoch "
            f"{last + 1} first, or make the recorder with gap=True, which may leave epochs out"
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
        f"recorder.rewind({keep}) before epoch {epoch} is trained, which opens the run again and "
        f"{kept}"
    )
