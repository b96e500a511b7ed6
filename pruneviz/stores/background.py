"""Work that one thread repeats in the background until it succeeds: uploads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pruneviz.errors import LogError, PrunevizError

_FIRST, _LONGEST = 0.5, 30.0  # seconds between two tries; doubled each time

_logger = logging.getLogger("pruneviz")


class Background:
    """A thread that does some work after each `ask`, and again after a failure.

    The thread never keeps a process alive.

    Args:
        work: Brings everything up to date. Raises `PrunevizError` for what may pass, which is tried
            again; returns an error for what will not, and the thread ends.
        meanwhile: What holds while the work fails, for the one warning of a series of failures.
        renew: Called after each failure, before the next try.
    """

    def __init__(
        self,
        work: Callable[[], LogError | None],
        meanwhile: str,
        renew: Callable[[], object] = lambda: None,
    ) -> None:
        self._work, self._meanwhile, self._renew = work, meanwhile, renew
        self._changed = threading.Condition()
        self._asked = self._done = 0
        self._failure: PrunevizError | None = None
        self._refused: LogError | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="pruneviz-upload", daemon=True)
        self._thread.start()

    @property
    def refused(self) -> LogError | None:
        """Why the work ended for good; None while it goes on."""
        return self._refused

    @property
    def failure(self) -> PrunevizError | None:
        """Why the last try failed; None if it succeeded, or none ended yet."""
        return self._failure

    def ask(self) -> None:
        """Have the work done, after what is under way; returns at once."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until all that was asked for is done, at most for some time.

        Returns:
            Whether it is done.
        """
        with self._changed:
            asked = self._asked
            self._changed.wait_for(lambda: self._done >= asked or self._refused, seconds)
            return self._done >= asked and self._refused is None

    def end(self) -> None:
        """Let the thread end; work that is under way is not waited for."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _run(self) -> None:
        pause = _FIRST
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._asked > self._done)
                if self._ended:
                    return
                asked = self._asked
            try:
                refused = self._work()
            except PrunevizError as error:
                self._tell(error)
                self._renew()
                pause = self._paused(pause)
                continue
            except Exception as error:  # a thread that dies silently would upload nothing more
                refused = LogError(f"uploading ended: {type(error).__name__}: {error}")
            self._settle(asked, refused)
            if refused is not None:
                return
            pause = _FIRST

    def _tell(self, error: PrunevizError) -> None:
        if self._failure is None:
            _logger.warning("%s. %s", error, self._meanwhile)
        self._failure = error

    def _paused(self, seconds: float) -> float:
        """Wait between two tries, and return how long to wait after the next one."""
        until = time.monotonic() + seconds
        with self._changed:
            self._changed.wait_for(lambda: self._ended, until - time.monotonic())
        return min(2 * seconds, _LONGEST)

    def _settle(self, asked: int, refused: LogError | None) -> None:
        with self._changed:
            if self._failure is not None and refused is None:
                _logger.warning("uploads go on")
            self._done, self._refused, self._failure = asked, refused, None
            self._changed.notify_all()
