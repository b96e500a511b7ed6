"""Results in the order of the pieces, few tasks at once, and failures that name their piece."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from pruneviz.errors import AnalysisError, LogError
from pruneviz.log import pieces
from pruneviz.log.pieces import results_of
from tests.support import piece_work
from tests.support.piece_work import Step

STEPS = [Step(number) for number in range(10)]


class Here(Executor):
    """Works at once, in this thread, and counts tasks."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        found: Future[Any] = Future()
        self.sizes.append(len(args[1]))
        found.set_result(fn(*args, **kwargs))
        return found


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


def test_results_come_in_the_order_of_the_pieces() -> None:
    with ThreadPoolExecutor(3) as threads:
        for executor in (None, threads):
            found = results_of(piece_work.slow_at_first, STEPS, executor, rows=1)
            assert list(found) == list(range(10))


@pytest.mark.parametrize(
    ("rows", "sizes"), [(1, [1] * 10), (4, [4, 4, 2]), (100, [10]), (0, [1] * 10)]
)
def test_a_task_has_consecutive_pieces_of_some_rows(rows: int, sizes: list[int]) -> None:
    here = Here()
    assert list(results_of(piece_work.square, STEPS, here, rows)) == [n**2 for n in range(10)]
    assert here.sizes == sizes


def test_few_tasks_are_under_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MOST_TASKS", 3)
    drawn: list[int] = []

    def steps() -> Iterator[Step]:
        for step in STEPS:
            drawn.append(step.number)
            yield step

    found = results_of(piece_work.square, steps(), Here(), rows=1)
    for number in range(10):
        assert next(found) == number**2
        assert len(drawn) <= number + 3 + 2  # one piece more tells that a task is full


@pytest.mark.parametrize(
    ("work", "kind", "message"),
    [
        (piece_work.damaged_at_three, LogError, "run r, epoch 3: its file is corrupt; restore it"),
        (
            piece_work.divides_at_three,
            AnalysisError,
            "run r, epoch 3: a worker failed with ZeroDivisionError: division by zero; the note",
        ),
        (
            piece_work.missing_at_three,
            LogError,
            "epoch 3: /no/such/file is missing; restore it; workers have to see the same folders",
        ),
    ],
)
def test_a_failure_names_its_piece(work: Any, kind: type[Exception], message: str) -> None:
    with (
        ThreadPoolExecutor(2) as threads,
        pytest.raises(kind, match=message) as caught,
    ):
        list(results_of(work, STEPS, threads, rows=2))
    assert type(caught.value) is kind
    assert f"in {work.__name__}" in caught.value.__notes__[0]


def test_work_in_this_process_raises_its_errors_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError):
        list(results_of(piece_work.divides_at_three, STEPS, None, rows=1))


def test_a_worker_that_dies_is_told_with_what_it_worked_on() -> None:
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor,
        pytest.raises(AnalysisError, match=r"worker died .* on run r, epoch \d+.*fewer workers"),
    ):
        list(results_of(piece_work.dies_at_three, STEPS, executor, rows=1))


def test_work_that_cannot_be_sent_is_told(processes: ProcessPoolExecutor) -> None:
    with pytest.raises(AnalysisError, match=r"cannot be sent .* name it as 'module:function'"):
        list(results_of(lambda step: 1, STEPS, processes, rows=1))
    assert list(results_of(piece_work.square, STEPS[:2], processes, rows=1)) == [0, 1]


def test_an_executor_that_is_shut_down_is_told() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(AnalysisError, match=r"takes no more work .* at run r, epoch 0; give one"):
        list(results_of(piece_work.square, STEPS, executor, rows=1))


def test_nothing_runs_after_a_failure_or_an_early_end() -> None:
    done: list[int] = []

    def work(step: Step) -> int:
        done.append(step.number)
        return 1 // (step.number - 1)

    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(AnalysisError, match="epoch 1: a worker failed"):
            list(results_of(work, STEPS, executor, rows=1))
        after = len(done)
        assert executor.submit(len, done).result() == after
        early = results_of(piece_work.slow_at_first, STEPS, executor, rows=1)
        next(early)
        early.close()
        assert executor._work_queue.qsize() == 0 or executor.submit(int).result() == 0
