"""Runs that a training function of a person records, in a worker process."""

from __future__ import annotations

import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pruneviz.console.beside import beside
from pruneviz.console.words import counted
from pruneviz.errors import LogError, PresetError, PrunevizError, TrainingError
from pruneviz.experiment.parallel import resumed_spec
from pruneviz.experiment.stop import Stop
from pruneviz.experiment.workers import Report
from pruneviz.log.arguments import is_whole
from pruneviz.log.files import make_folder
from pruneviz.log.own_functions import imported
from pruneviz.log.run_directory import last_epoch_of
from pruneviz.log.run_lock import recorded_so_far
from pruneviz.log.spec_file import SPEC_FILE, is_sealed
from pruneviz.log.sweep_notes import trace_file
from pruneviz.plans.own_runs import OwnRun

_INTERVAL = 0.5  # seconds between two looks at how far a run is


def check_call(run: OwnRun) -> None:
    """Check that the function of a run exists and takes its arguments.

    Raises:
        PresetError: If not.
    """
    function = imported(run.function, "function", PresetError)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled, without a signature
        return
    try:
        signature.bind(Path(), **run.arguments)
    except TypeError as error:
        given = ", ".join(["the run directory", *run.arguments])
        raise PresetError(
            f"{run.function}{signature} cannot be called with {given}: {error}; change arguments, "
            "or the function"
        ) from error


def own_epochs(run: OwnRun) -> int:
    """Number of epochs of a run, for its progress; 1 if its arguments do not say it."""
    epochs: Any = run.arguments.get("epochs")
    return int(epochs) if is_whole(epochs) and epochs >= 1 else 1


def train_own(
    run: OwnRun, out: Path, threads: int | None, home: str, report: Report, stop: Stop
) -> str:
    """Call the function of a run with its run directory and arguments, in a process of its own.

    Args:
        run: The run.
        out: Folder for the run directories.
        threads: Number of CPU threads of a new run. Default: PyTorch's.
        home: Folder in which modules are looked for, too.
        report: Called with the epochs done and a note.
        stop: Ends the process at once: only whole files are on disk.

    Returns:
        A sentence about the result.

    Raises:
        TrainingError: If the function raises an exception; says where.
        LogError: If it returns without a finished run.
    """
    path = out / run.run
    if not is_sealed(path):
        resumed_spec(path, threads)
        if home not in sys.path:  # also for what the function imports later
            sys.path.insert(0, home)
        function = imported(run.function, "function", PresetError)
        make_folder(out)
        report(0, "")
        with _followed(path, own_epochs(run), report):
            _call(function, path, run.arguments, trace_file(out, run.run))
    if not is_sealed(path):
        state = "is unfinished" if (path / SPEC_FILE).exists() else "is no recording"
        raise LogError(
            f"{run.function} has returned, but {path} {state}; record into the folder that it gets "
            "first, and close the recorder, as a with statement does"
        )
    return f"recorded {counted(last_epoch_of(path) or 0, 'epoch')}"


def _call(
    function: Callable[..., Any], path: Path, arguments: Mapping[str, Any], trace: Path
) -> None:
    """Call a function; what it raises becomes one sentence, and its stack trace a file.

    It leaves the settings of the process as they were, for the next run of this worker.
    """
    import torch

    from pruneviz.recording.unmoved import unmoved

    trace.unlink(missing_ok=True)
    try:
        with unmoved(torch.device("cpu")):
            function(path, **arguments)
    except Exception as error:
        with suppress(OSError):
            trace.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        if isinstance(error, PrunevizError):
            raise
        words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise TrainingError(f"{words} ({_place(error, function)})") from error


def _place(error: Exception, function: Callable[..., Any]) -> str:
    """Where an exception comes from: the last line in the file of a function, if it is in one."""
    frames = traceback.extract_tb(error.__traceback__)
    own = getattr(getattr(function, "__code__", None), "co_filename", "")
    last = [frame for frame in frames if frame.filename == own][-1:] or frames[-1:]
    return f"{last[0].filename}, line {last[0].lineno}"


@contextmanager
def _followed(path: Path, epochs: int, report: Report) -> Iterator[None]:
    """Report how far a run is, from its lock file, while something else records it."""

    def follow(over: threading.Event) -> None:
        while not over.wait(_INTERVAL):
            _, last = recorded_so_far(path)
            if last is not None and last >= 0:
                report(min(last, epochs), f"epoch {last}" if epochs == 1 else "")

    with beside(follow):
        yield
