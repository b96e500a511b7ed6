"""Work for worker processes: functions at module level, which can be pickled."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from pruneviz.console.stop_signals import Stopped
from pruneviz.errors import DataError
from pruneviz.experiment.stop import Stop
from pruneviz.experiment.workers import Report
from pruneviz.stores.spool import spool_root


def succeed(report: Report, stop: Stop) -> str:
    """Report an epoch, and end well."""
    report(1, "half way")
    return "recorded"


def miss_images(report: Report, stop: Stop) -> str:
    """Fail for a reason that other runs share."""
    raise DataError("no images; download them")


def fail_without_words(report: Report, stop: Stop) -> str:
    """Fail with an error that has no message."""
    raise NotImplementedError


def break_down(report: Report, stop: Stop) -> str:
    """Fail because of a bug."""
    raise TypeError("a bug")


def be_killed(report: Report, stop: Stop) -> str:
    """Die as if the system had no memory left."""
    report(1, "half way")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def crash(report: Report, stop: Stop) -> str:
    """Die of a fault in compiled code."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # pytest shows stacks
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def leave(report: Report, stop: Stop) -> str:
    """End the process without a word."""
    os._exit(3)


def exit_politely(report: Report, stop: Stop) -> str:
    """End the process as a library may do."""
    sys.exit(4)


def be_ended(report: Report, stop: Stop) -> str:
    """Get SIGTERM, alone of all processes, and stop at the next step."""
    stop.keep(lambda: None)
    os.kill(os.getpid(), signal.SIGTERM)
    return stopped_when_asked(stop)


def signal_the_command(report: Report, stop: Stop, numbers: tuple[int, ...]) -> str:
    """Send signals to the process that waits for this one, and stop at the next step."""
    stop.keep(lambda: None)
    report(1, "half way")
    os.kill(os.getppid(), numbers[0])
    if len(numbers) == 1:
        return stopped_when_asked(stop)
    while stop.asked is None:
        time.sleep(0.01)
    os.kill(os.getppid(), numbers[1])
    time.sleep(60)
    raise AssertionError


def wait_to_be_stopped(report: Report, stop: Stop) -> str:
    """Report, and stop at the next step once that is asked for."""
    stop.keep(lambda: None)
    report(1, "half way")
    return stopped_when_asked(stop)


def finish_when_asked(report: Report, stop: Stop) -> str:
    """Report, and end well once asked to stop: it was the last step."""
    stop.keep(lambda: None)
    report(1, "half way")
    while stop.asked is None:
        time.sleep(0.01)
    return "recorded after all"


def signal_when_asked(report: Report, stop: Stop, number: int) -> str:
    """Once asked to stop, send a signal to the process that waits for this one, and stop."""
    stop.keep(lambda: None)
    report(1, "half way")
    while stop.asked is None:
        time.sleep(0.01)
    os.kill(os.getppid(), number)
    return stopped_when_asked(stop)


def stay(report: Report, stop: Stop) -> str:
    """Report, and come to no next step."""
    report(1, "half way")
    time.sleep(60)
    raise AssertionError


def stay_until_asked(report: Report, stop: Stop, note: Path) -> str:
    """Report, leave a file that says so, and stop at the next step."""
    stop.keep(lambda: None)
    report(1, "half way")
    time.sleep(0.2)  # so that the report is read before anybody sees the file
    note.touch()
    return stopped_when_asked(stop)


def note_spool(report: Report, stop: Stop) -> str:
    """Say where this process thinks that runs of stores lie."""
    return str(spool_root())


def note_folder(report: Report, stop: Stop) -> str:
    """Report an epoch, and say which the working directory is."""
    report(1, "half way")
    return str(Path.cwd())


def stopped_when_asked(stop: Stop) -> str:
    """Stop as soon as that is asked for."""
    while stop.asked is None:
        time.sleep(0.01)
    raise Stopped(stop.asked, "stopped after step 1 of 2 of epoch 1")
