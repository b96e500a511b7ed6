"""Sends recorded epochs to sinks, which can neither stop nor change a training."""

from __future__ import annotations

import inspect
import logging
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch

from pruneviz.analysis.epoch_aggregates import aggregates
from pruneviz.errors import LogError
from pruneviz.log.epoch_parts import last_dropped
from pruneviz.log.live_runs import runs_at
from pruneviz.log.run_directory import RunLog
from pruneviz.log.runs import Runs
from pruneviz.recording.measured_epochs import AtEpochs, chosen_epochs
from pruneviz.recording.sinks import Sinks
from pruneviz.recording.unmoved import unmoved

_MOST_FAILURES = 3
_LONGEST = 200  # characters of a name or a reason in a warning

_logger = logging.getLogger("pruneviz")


class Sending:
    """The sinks of a recorder, and what they have got.

    What a sink raises becomes one warning for each sink; KeyboardInterrupt and SystemExit pass.
    After three failures in a row it gets nothing more, as each may take a timeout. What it moves is
    put back, as far as `pruneviz.recording.unmoved` reaches. Aggregates and figures are its own.

    Args:
        sinks: One sink or several, as `pruneviz.sinks.Sink` says.
        figures_at: Epochs at which sinks get a figure. Default: none.
        device: Returns the device that trains.

    Raises:
        LogError: If something is no sink, or no sink takes a figure that is asked for.
    """

    def __init__(
        self, sinks: Sinks, figures_at: AtEpochs | None, device: Callable[[], torch.device]
    ) -> None:
        self._sinks: list[Any] = list(sinks) if isinstance(sinks, (list, tuple)) else [sinks]
        for sink in self._sinks:
            _check(sink)
        self._drawing = [sink for sink in self._sinks if _method(sink, "figure") is not None]
        if figures_at is not None and not self._drawing:
            raise LogError(
                f"figures_at={figures_at!r} says when sinks get a figure, and no sink takes one; "
                "add pruneviz.sinks.TensorBoard or WandB, or a sink with a method figure"
            )
        self._figures_at = None if figures_at is None else chosen_epochs(figures_at, "figures_at")
        self._device = device
        self._busy_in: int | None = None  # the thread in which a sink is called
        self._failures: dict[object, int] = {}  # in a row
        self._told: set[object] = set()  # what there was a warning of
        self._until = -math.inf  # the last epoch that sinks may have got
        self._sent: set[str] = set()  # names of its numbers

    @property
    def is_calling(self) -> bool:
        """Whether the caller is a sink."""
        return self._busy_in == threading.get_ident()

    def continues(self, last: int | None) -> None:
        """Take the epochs that a run already holds for sent.

        Args:
            last: The last epoch on disk; None before the first.
        """
        self._until = max(self._until, -math.inf if last is None else last)

    def send(self, log: RunLog, epoch: int, *, again: bool = False) -> None:
        """Send an epoch that is on disk; one that was sent before is not.

        Args:
            log: Open run directory.
            epoch: Number of epochs trained.
            again: Whether the epoch was sent, and has been measured since; then what is new.
        """
        if not self._sinks or (again and epoch != self._until):
            return
        # also those that a process before this one rewound
        self._until = max(self._until, last_dropped(log.path))
        if not again and epoch <= self._until:
            self._say_kept(log, epoch)
            return
        if not again:
            self._until, self._sent = epoch, set()
        found = self._made("the aggregates for sinks", log, epoch, lambda: _read(log, epoch))
        if found is None:
            return
        runs, values = found
        new = {name: value for name, value in values.items() if name not in self._sent}
        self._sent |= set(new)
        if not new:
            return
        for sink in self._sinks:
            self._call(sink, "epoch", log, epoch, dict(new))
        self._send_figures(runs, log, epoch)

    def close(self, log: RunLog) -> None:
        """Close the sinks that can be closed.

        Args:
            log: Run directory.
        """
        for sink in self._sinks:
            self._made(sink, log, None, lambda sink=sink: _closed(sink))  # type: ignore[misc]

    def _send_figures(self, runs: Runs, log: RunLog, epoch: int) -> None:
        chosen = self._figures_at
        if chosen is None or not self._made("figures_at", log, epoch, lambda: chosen(epoch)):
            return
        for sink in self._drawing:
            if not self._is_asked(sink, "figure"):
                continue
            figure = self._made("the figure for sinks", log, epoch, lambda: _drawn(runs))
            if figure is not None:
                self._call(sink, "figure", log, epoch, figure)

    def _call(self, sink: Any, method: str, log: RunLog, epoch: int, given: Any) -> None:
        if self._is_asked(sink, method):
            run = log.spec.run
            self._made(
                sink, log, epoch, lambda: _method(sink, method, sink)(run, epoch, given), method
            )

    def _is_asked(self, sink: Any, method: str) -> bool:
        return self._failures.get((_key(sink), method), 0) < _MOST_FAILURES

    def _made(
        self, who: Any, log: RunLog, epoch: int | None, do: Callable[[], Any], method: str = ""
    ) -> Any:
        """What a function returns; None if it fails, which there is one warning of.

        Args:
            who: Who fails then: a sink, or words.
            log: Run directory.
            epoch: Number of epochs trained; None after the last one.
            do: The function.
            method: The method of a sink that it is; each has failures of its own.
        """
        key = (_key(who), method)
        self._busy_in = threading.get_ident()
        try:
            with unmoved(self._device()):
                found = do()
        except (KeyboardInterrupt, SystemExit):
            raise
        # Also what is no Exception: a cancelled task of asyncio, or a panic of another language.
        except BaseException as error:
            self._failures[key] = self._failures.get(key, 0) + 1
            self._warn(who, log, epoch, error)
            return None
        finally:
            self._busy_in = None
        self._failures[key] = 0
        return found

    def _warn(self, who: Any, log: RunLog, epoch: int | None, error: BaseException) -> None:
        if _key(who) in self._told:
            return
        self._told.add(_key(who))
        named = who if isinstance(who, str) else f"sink {_name(who)}"
        when = "when it was closed" if epoch is None else f"at epoch {epoch}"
        _say(
            f"{named} of {log.spec.run} failed {when}: {_reason(error)}; training goes on, further "
            f"failures are not told, and after {_MOST_FAILURES} in a row a sink gets nothing more"
        )

    def _say_kept(self, log: RunLog, epoch: int) -> None:
        if "again" not in self._told:
            self._told.add("again")
            _say(
                f"{log.spec.run} records epoch {epoch} again; sinks keep what they were sent "
                f"before, and get the epochs after {self._until}"
            )


def _read(log: RunLog, epoch: int) -> tuple[Runs, Mapping[str, float]]:
    runs = runs_at(log, epoch)
    return runs, aggregates(runs)


def _drawn(runs: Runs) -> Any:
    from pruneviz.plot.progress import epoch_scatter  # takes time to load

    return epoch_scatter(runs)


def _check(sink: Any) -> None:
    take = None if isinstance(sink, type) else _method(sink, "epoch", sink)
    if not callable(take) or inspect.iscoroutinefunction(take):
        what = f"the class {sink.__name__}" if isinstance(sink, type) else repr(sink)
        raise LogError(
            f"sinks holds {what}; give functions of (run, epoch, aggregates), objects with such a "
            "method epoch, or pruneviz.sinks.TensorBoard(folder or SummaryWriter); not async ones"
        )


def _method(sink: Any, name: str, otherwise: Any = None) -> Any:
    found = getattr(sink, name, None)
    return found if callable(found) else otherwise


def _closed(sink: Any) -> None:
    close = _method(sink, "close")
    if close is not None:
        close()


def _key(who: object) -> object:
    return who if isinstance(who, str) else id(who)


def _say(text: str) -> None:
    with suppress(Exception):  # a handler of one's own may fail, like a sink
        _logger.warning("%s", text)


def _name(sink: Any) -> str:
    """A sink in a warning, whatever its code says of itself."""
    try:
        named = getattr(sink, "__qualname__", None)
        if named is None and type(sink).__repr__ is not object.__repr__:
            named = repr(sink)
        return str(named or type(sink).__qualname__)[:_LONGEST]
    except Exception:
        return type(sink).__name__


def _reason(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:_LONGEST]}".rstrip(": ")
    except Exception:
        return type(error).__name__
