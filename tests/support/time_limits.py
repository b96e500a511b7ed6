"""A limit on the time that a piece of work may take."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_most(seconds: int, error: type[BaseException] = TimeoutError) -> Iterator[None]:
    """Raise an error in the main thread after some seconds; 0 waits for ever."""

    def stop(*signal_and_frame: object) -> None:
        raise error(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
