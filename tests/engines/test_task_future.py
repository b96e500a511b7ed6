"""Futures of tasks elsewhere: they can be withdrawn at any time, once."""

from __future__ import annotations

from concurrent.futures import CancelledError, wait

import pytest

from pruneviz.engines.task_future import TaskFuture


def test_a_task_is_withdrawn_once_and_those_who_wait_are_told() -> None:
    withdrawn: list[bool] = []
    future = TaskFuture()
    future.withdraw = lambda: withdrawn.append(True)
    assert future.cancel() and future.cancel()
    assert withdrawn == [True]
    assert wait([future], timeout=5).done == {future}
    future.settle(3)  # what comes too late is dropped
    with pytest.raises(CancelledError):
        future.result()


def test_a_task_that_has_ended_stays_so() -> None:
    ended, failed = TaskFuture(), TaskFuture()
    ended.settle(3)
    failed.settle(error=OSError("no disk"))
    assert not ended.cancel() and ended.result() == 3
    with pytest.raises(OSError, match="no disk"):
        failed.result()


def test_an_engine_that_is_gone_does_not_matter() -> None:
    future = TaskFuture()

    def fail() -> None:
        raise ConnectionError

    future.withdraw = fail
    assert future.cancel()
