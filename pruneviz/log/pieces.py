"""Work on many pieces, here or by any `concurrent.futures.Executor`: processes, Dask, Ray, MPI.

Results come in the order of the pieces, whoever finishes first, so what is put together from them
does not depend on the number of workers. Few tasks are under way at once, and a failure names its
piece.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pruneviz.errors import AnalysisError, PrunevizError

MOST_TASKS = 1024  # under way at once; further workers have nothing to do


class Piece(Protocol):
    """A piece of work that can be sent to another process."""

    @property
    def name(self) -> str:
        """What it is, for messages."""

    @property
    def rows(self) -> int:
        """Number of rows that are read for it."""


P = TypeVar("P", bound=Piece)
T = TypeVar("T")


@dataclass(frozen=True)
class _Failed:
    """What a worker tells of an error: as a value, because executors wrap what is raised."""

    error: PrunevizError
    where: str


@dataclass(frozen=True)
class _Task(Generic[P]):
    """Some consecutive pieces, and the result that a worker owes for them."""

    pieces: Sequence[P]
    future: Future[Any]

    @property
    def name(self) -> str:
        first, last = self.pieces[0].name, self.pieces[-1].name
        return first if len(self.pieces) == 1 else f"{first} up to {last}"


def results_of(
    work: Callable[[P], T], pieces: Iterable[P], executor: Executor | None, rows: int
) -> Iterator[T]:
    """The result of each piece, in order.

    Args:
        work: Function of one piece. For another process it can be pickled, as its pieces can.
        pieces: The pieces; read as far as tasks are submitted.
        executor: Who works; None works here, piece after piece.
        rows: A task has consecutive pieces until it has this number of rows.

    Raises:
        PrunevizError: What a piece raises; an executor's names the piece. An error of another kind
            becomes an `AnalysisError` with the worker's traceback as a note.
        AnalysisError: If a worker dies, or the work cannot be sent to it.
    """
    if executor is None:
        yield from map(work, pieces)
        return
    tasks = _tasks(pieces, rows)
    running: deque[_Task[P]] = deque()
    try:
        while True:
            while len(running) < MOST_TASKS and (some := next(tasks, None)):
                running.append(_Task(some, _submitted(executor, work, some)))
            if not running:
                return
            yield from _answers(running)
            running.popleft()
    finally:
        # What still runs writes into folders that are about to go.
        wait([task.future for task in running if not task.future.cancel()])


def _tasks(pieces: Iterable[P], rows: int) -> Iterator[Sequence[P]]:
    some: list[P] = []
    held = 0
    for piece in pieces:
        if some and held + piece.rows > rows:
            yield some
            some, held = [], 0
        some.append(piece)
        held += piece.rows
    if some:
        yield some


def _submitted(executor: Executor, work: Callable[[P], T], pieces: Sequence[P]) -> Future[Any]:
    try:
        return executor.submit(_worked, work, pieces)
    except RuntimeError as error:  # it is shut down or broken
        raise AnalysisError(
            f"the executor takes no more work ({error}), at {pieces[0].name}; give one that runs, "
            "and keep it open until the call returns"
        ) from error


def _worked(work: Callable[[P], T], pieces: Sequence[P]) -> list[T] | _Failed:
    """Work on the pieces of one task, in the worker."""
    found = []
    for piece in pieces:
        try:
            found.append(work(piece))
        except PrunevizError as error:
            missing = isinstance(error.__context__, FileNotFoundError)
            shared = "; workers have to see the same folders as this process" if missing else ""
            named = type(error)(f"{piece.name}: {error.args[0]}{shared}", *error.args[1:])
            return _Failed(named, traceback.format_exc())
        except Exception as error:
            told = AnalysisError(
                f"{piece.name}: a worker failed with {type(error).__name__}: {error}; the note has "
                "its traceback, and executor=None repeats it in this process"
            )
            return _Failed(told, traceback.format_exc())
    return found


def _answers(running: Sequence[_Task[P]]) -> list[Any]:
    """The results of the first task."""
    task = running[0]
    try:
        found = task.future.result()
    except Exception as error:
        raise _lost(running, error) from error
    if isinstance(found, _Failed):
        found.error.add_note(found.where)
        raise found.error
    return list(found)


def _lost(running: Sequence[_Task[P]], error: Exception) -> AnalysisError:
    """The error of a first task that has no answer."""
    if "pickle" in str(error).lower():
        return AnalysisError(
            f"the work cannot be sent to another process ({error}); define a measure of your own "
            "at the top of a module that workers can import, and name it as 'module:function'"
        )
    others = sum(_has_no_answer(task.future) for task in running) - 1
    also = f", or on one of the {others} tasks after it" if others else ""
    return AnalysisError(
        f"a worker died or was lost while it worked on {running[0].name}{also} "
        f"({type(error).__name__}: {error}); if memory ran out, use fewer workers or open the scan "
        "with fewer block_rows; a measure of your own has to be in a module that workers can import"
    )


def _has_no_answer(future: Future[Any]) -> bool:
    return not future.done() or future.cancelled() or future.exception() is not None
