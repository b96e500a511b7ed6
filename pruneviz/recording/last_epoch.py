"""Whether the network is still the one of the last epoch, so that it can be measured at the end."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from pruneviz.errors import PrunevizError
from pruneviz.measuring.bits import all_tensors, bit_sums, printed_modules
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.sample import as_batches
from pruneviz.recording.measured_epochs import Every, in_words

_logger = logging.getLogger("pruneviz")

_NOT_SEEN = (
    "no epoch was recorded since the run was resumed or rewound, so its network is not known"
)
_UNSEEN = "it cannot be seen whether the network has changed"


class LastEpoch:
    """Recognises the network of the last recorded epoch.

    Its tensors are compared by sums of their bits, which take two passes over the weights and no
    memory, and its modules by what they print, such as `eps` of a norm. What they do not print,
    such as hooks, is not compared.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] | None = None
        self._modules: list[str] = []
        self._unknown = _NOT_SEEN

    def note(self, model: nn.Module) -> None:
        """Remember the network as it is, if all its tensors can be read."""
        try:
            self._sums, self._modules = bit_sums(all_tensors(model)), printed_modules(model)
        except Exception as error:  # never a reason to stop a training
            self._sums, self._unknown = None, f"{_UNSEEN}: {_first_line(error)}"

    def forget(self) -> None:
        """Remember no network."""
        self._sums, self._unknown = None, _NOT_SEEN

    def reason_against(self, model: nn.Module) -> str | None:
        """Why the network cannot be measured as that of the last epoch; None if it can."""
        if self._sums is None:
            return self._unknown
        try:
            now, modules = bit_sums(all_tensors(model)), printed_modules(model)
            same = (
                modules == self._modules
                and now.keys() == self._sums.keys()
                and all(bool((now[names] == before).all()) for names, before in self._sums.items())
            )
        except Exception as error:  # nor to leave a run unfinished
            return f"{_UNSEEN}: {_first_line(error)}"
        return None if same else "the network has changed since it was recorded"


def failure_of(measure: Callable[[], None]) -> str | None:
    """Why a measurement failed; None if it did not. A finished training is sealed without it.

    Args:
        measure: Measures and writes. Errors of pruneviz, of memory and of reading the sample are
            caught, others are not.
    """
    try:
        measure()
    except (PrunevizError, MemoryError) as error:
        return str(error) or type(error).__name__
    except Exception as error:
        if is_out_of_memory(error):
            return _first_line(error)
        if not _is_of_sample(error):
            raise
        return f"the sample cannot be read: {type(error).__name__}: {_first_line(error)}"
    return None


def _is_of_sample(error: Exception) -> bool:
    """Whether an error was raised while the sample was read, such as by a data loader."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is as_batches.__code__ for frame, _ in frames)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def say_measured(epoch: int, run: Path, every: Every, reason: str | None) -> None:
    """Log whether the last epoch of a run was measured although `every` leaves it out.

    Args:
        epoch: The last epoch.
        run: Run directory.
        every: As given to the recorder.
        reason: Why it was not measured; None if it was.
    """
    which = f"epoch {epoch} of {run}, the last one, which every={in_words(every)} leaves out"
    if reason is None:
        _logger.warning("measured %s (pass measure_last=False to leave it out)", which)
    else:
        _logger.warning("did not measure %s: %s", which, reason)
