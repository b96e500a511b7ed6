"""Futures of tasks that an engine can withdraw, also after it has begun them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any


class TaskFuture(Future[Any]):
    """A future of a task elsewhere, whose `cancel` withdraws the task.

    Attributes:
        withdraw: Withdraws the task; set by the engine once it has it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.withdraw: Callable[[], object] | None = None

    def cancel(self) -> bool:
        """Cancel the task, wherever it stands; False if it has ended."""
        if self.cancelled():
            return True
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()  # tells those who wait
        if self.withdraw is not None:
            with suppress(Exception):  # the engine may be gone
                self.withdraw()
        return True

    def settle(self, result: Any = None, error: BaseException | None = None) -> None:
        """Set the result or the error, unless the task was cancelled."""
        with suppress(InvalidStateError):
            if error is None:
                self.set_result(result)
            else:
                self.set_exception(error)
