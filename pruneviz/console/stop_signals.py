"""Signals that ask a command to stop: Ctrl-C, and those of systems and schedulers.

Exit codes are 128 and the number of the signal, as shells have it: SIGINT 130, SIGTERM 143, SIGHUP
129, SIGUSR1 138 (on Linux), which schedulers of clusters send before the time of a job is over.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)
GO_ON = "Finished work is kept; repeat the command to go on."


class Stopped(KeyboardInterrupt):
    """A signal, or the end of the time, asked to stop; what was done is kept.

    Args:
        number: The signal; None at the end of the time.
        words: What was stopped, and how to go on.
    """

    def __init__(self, number: int | None, words: str) -> None:
        super().__init__(words)
        self.number = number

    @property
    def code(self) -> int:
        """Exit code of the process; 1, for work that is not complete, at the end of the time."""
        return 1 if self.number is None else exit_code(self.number)


def exit_code(number: int) -> int:
    """Exit code of a process that a signal has stopped."""
    return 128 + number


def named(number: int) -> str:
    """Name of a signal, such as SIGTERM."""
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def reason(number: int) -> str:
    """Beginning of the sentence on why a command ends."""
    return "Interrupted" if number == signal.SIGINT else f"Ended by {named(number)}"


def end_at_once() -> dict[int, Any]:
    """From now on a stop signal ends this process at once, with one line on stderr.

    Only for the process of a command, while it may end at any moment. Imports are such a time: an
    exception would arise in the middle of other people's modules. Signals that are ignored stay so,
    as `nohup` asks.

    Returns:
        The handlers so far, for `put_back`.
    """
    return _handled(_end)


def put_back(handlers: dict[int, Any]) -> None:
    """Put back the handlers that were there before."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def raise_stopped() -> None:
    """From now on a signal that would end the process at once raises `Stopped` instead.

    Only after `end_at_once`; other handlers stay.
    """
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is _end:
            signal.signal(number, _raise)


def ignore_stops() -> None:
    """Ignore stop signals from now on, as a command does on its last way out."""
    _handled(signal.SIG_IGN)


def leave_if_stopped(code: object) -> None:
    """End the process of a command at once if its exit code says that a signal stopped it.

    All is written by then, and to unload torch may take seconds.
    """
    if code in [exit_code(number) for number in STOP_SIGNALS]:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(str(code)))


@contextmanager
def ended_at_once() -> Iterator[None]:
    """Context in which a stop signal ends the process, see `end_at_once`."""
    before = end_at_once()
    try:
        yield
    finally:
        put_back(before)


class Received:
    """Stop signals that come in from now on, in their order; they do nothing else.

    They are also received while the main thread is in a long call. Outside of the main thread,
    which alone can handle signals, none is.

    Attributes:
        source: Socket that is readable once a signal has come.
    """

    def __init__(self) -> None:
        self.source, self._sink = socket.socketpair()
        self._sink.setblocking(False)
        self._handlers, self._before = _handled(_nothing), -1
        if threading.current_thread() is threading.main_thread():
            self._before = signal.set_wakeup_fd(self._sink.fileno(), warn_on_full_buffer=False)

    def next(self, seconds: float = 0.0) -> int | None:
        """The next stop signal, or None.

        Args:
            seconds: How long to wait for one.
        """
        self.source.settimeout(seconds)
        with suppress(BlockingIOError, TimeoutError):
            while got := self.source.recv(1):
                if got[0] in STOP_SIGNALS:
                    return got[0]
        return None

    def __enter__(self) -> Received:
        return self

    def __exit__(self, *exception: object) -> None:
        """Put back what handled the signals before."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._before)
        put_back(self._handlers)
        self.source.close()
        self._sink.close()


@contextmanager
def blocked() -> Iterator[None]:
    """Context in which stop signals wait, also in processes that are started in it.

    Those call `unblock` once they can handle them, so that no signal hits their imports.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Let stop signals through that this process was started without."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _handled(handler: Any) -> dict[int, Any]:
    """Set a handler for all stop signals that are not ignored; returns those before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    # None is a handler that was not set by Python, which could not be put back
    before = {n: was for n, was in before.items() if was not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    return before


def _nothing(number: int, frame: object) -> None:
    """No-op: the number is read elsewhere."""


def _raise(number: int, frame: object) -> None:
    raise Stopped(number, f"{reason(number)}. {GO_ON}")


def _end(number: int, frame: object) -> None:
    with suppress(OSError):  # the terminal may be gone
        start = "\n" if os.isatty(2) else ""  # behind a bar, or the ^C of the terminal
        os.write(2, f"{start}{reason(number)}. {GO_ON}\n".encode())
    os._exit(exit_code(number))
