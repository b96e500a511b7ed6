"""The picture of a run in a notebook, drawn anew after each epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pruneviz.log.live_runs import runs_so_far
from pruneviz.recording.unmoved import unmoved

_logger = logging.getLogger("pruneviz")


class Showing:
    """What `Recorder.show` has put into a notebook.

    Args:
        path: Run directory.
        device: Returns the device that trains.
    """

    def __init__(self, path: Path, device: Callable[[], torch.device]) -> None:
        self._path, self._device = path, device
        self._handle: Any = None  # of IPython's display
        self._failed = False

    def show(self) -> Any:
        """Display the picture and keep it current; outside of a notebook return it."""
        from pruneviz.plot.canvas import in_notebook  # takes time to load

        with unmoved(self._device()):
            picture = self._picture()
            if not in_notebook():
                return picture
            from IPython.display import display

            self._handle = display(picture, display_id=True)
            return None

    def refresh(self) -> None:
        """Draw the picture anew where it is displayed; a failure is a warning, once."""
        if self._handle is None:
            return
        try:
            with unmoved(self._device()):
                self._handle.update(self._picture())
        except Exception as error:
            if not self._failed:
                reason = f"{type(error).__name__}: {str(error)[:200]}"
                _logger.warning("the picture of %s is not current: %s", self._path.name, reason)
            self._failed = True

    def _picture(self) -> Any:
        from pruneviz.plot.progress import progress

        return progress(runs_so_far(self._path))
