"""How a run in a worker process stops: at its next step, or with what it last held."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

from pruneviz.console.stop_signals import exit_code

# Seconds that a run has to reach its next step and to write its checkpoint there.
GRACE = 4.0


class Stop:
    """A request to stop, which a run looks at after every step.

    Attributes:
        asked: The signal that asks to stop; None as long as none does.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._save: Callable[[], object] | None = None

    def agreed(self) -> int | None:
        """The signal that asks all processes of the run to stop; None as long as none does.

        They all call it at the same places, and get the same answer.
        """
        return self.asked

    def leave(self, number: int) -> None:
        """End the process at once.

        Args:
            number: The signal that asks.
        """
        os._exit(exit_code(number))

    def keep(self, save: Callable[[], object] | None) -> None:
        """Say how a run that does not come to its next step in time is saved.

        Args:
            save: Writes a checkpoint of what the run last held; called in another thread, right
                before the process ends. None if there is nothing to save, so that the process may
                end at once: only whole files are on disk.
        """
        self._save = save

    def ask(self, number: int) -> None:
        """Ask the run to stop; called in another thread than that of the run.

        Args:
            number: The signal that asks.
        """
        if self.asked is not None:
            return
        self.asked = number
        if self._save is None:
            self.leave(number)
        timer = threading.Timer(GRACE, self._end, [number])
        timer.daemon = True
        timer.start()

    def _end(self, number: int) -> None:
        save = self._save
        with suppress(Exception):  # the checkpoint before stays
            if save is not None:
                save()
        self.leave(number)
