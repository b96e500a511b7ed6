"""Work for worker processes, which import it by name."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

from pruneviz.errors import FigureError


def wait(seconds: float) -> list[Path]:
    """Wait, and name a file after the process that waited."""
    time.sleep(seconds)
    return [Path(str(os.getpid()))]


def refuse() -> list[Path]:
    """Fail in an expected way."""
    raise FigureError("there is nothing to draw")


def fail() -> list[Path]:
    """Fail in an unexpected way."""
    raise ZeroDivisionError("a fault")


def end() -> list[Path]:
    """End the process at once, as the system does for lack of memory."""
    os._exit(1)


def interrupt_the_command() -> list[Path]:
    """Do what Ctrl-C does to the command that started this worker, and work on."""
    os.kill(int(os.environ["PRUNEVIZ_TEST_COMMAND"]), signal.SIGINT)
    return wait(60)


brief = partial(wait, 0.0)
long = partial(wait, 0.3)
minute = partial(wait, 60.0)
