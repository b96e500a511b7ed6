"""Every error that pruneviz raises on purpose, and the wording of errors about unknown names.

Each message names the given value, the expected one and the repair.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from pruneviz.console.shown_text import LONGEST_NAME, visible_line

# What the extra `measure` installs, as it is imported.
MEASURE_PACKAGES = frozenset({"torch", "torchvision", "safetensors", "sklearn"})


class PrunevizError(ValueError):
    """Base class of all errors that pruneviz raises on purpose.

    A message may hold names from recordings, so `str` shows control characters and line breaks as
    their escapes. A message of several lines is given as several arguments.
    """

    def __str__(self) -> str:
        return "\n".join(map(visible_line, self.args))


class DataError(PrunevizError):
    """A data set or a measurement sample is missing, damaged, empty or too small."""


class MeasureError(PrunevizError):
    """A model or sample cannot be measured.

    Examples: no filters, labels out of range, a loss that is not finite, a model that answers
    differently when evaluated twice.
    """


class UnsupportedError(MeasureError):
    """A part of a network cannot be differentiated, traced or read; names the layer.

    Examples: an operation without second derivative, parameters without values, a scripted or
    sharded network.
    """


class LogError(PrunevizError):
    """A run directory is missing, unfinished, corrupt, too new, or holds another run."""


class ScoreError(PrunevizError):
    """A pruning measure is unknown, or the table lacks a column it needs."""


class AnalysisError(PrunevizError):
    """Data or arguments do not fit an analysis, such as a correlation or a mask distance."""


class FigureError(PrunevizError):
    """A figure is unknown, or the recordings it needs are missing."""


class ReportError(PrunevizError):
    """Recordings cannot be shown on a page, or a page cannot be served."""


class PresetError(PrunevizError):
    """A preset, network or data set is unknown."""


class PruningError(PrunevizError):
    """A network cannot be pruned as asked.

    Examples: the target is out of reach, a layer would vanish, a filter has no score.
    """


class TrainingError(PrunevizError):
    """A training run cannot continue.

    Examples: its loss is no longer finite, a training function of a sweep raised an exception.
    """


class MissingExtraError(PrunevizError, ImportError):
    """A part of pruneviz needs packages of an extra that is not installed; names the extra."""


@contextmanager
def names_extra(part: str, extra: str = "measure") -> Iterator[None]:
    """Make an import of torch, or of another package for measuring, name the extra if it fails.

    Args:
        part: The part of pruneviz that imports, such as "pruneviz.measure".
        extra: The extra to name; it includes `measure`.

    Raises:
        MissingExtraError: In place of a `ModuleNotFoundError` about one of `MEASURE_PACKAGES`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in MEASURE_PACKAGES:
            raise
        raise MissingExtraError(
            f"{part} needs {package}, which is not installed: pip install 'pruneviz[{extra}]'"
        ) from None


def unknown_name(what: str, name: str, known: Collection[str], hint: str = "") -> str:
    """Message for a name that does not exist, with the closest known name as a suggestion.

    Args:
        what: What the name stands for, such as "network".
        name: The given name.
        known: Names that exist.
        hint: Further advice, appended after a semicolon.

    Returns:
        For example "there is no network 'vgg31'; did you mean 'vgg13'? Choose one of vgg13, vgg16".
    """
    close = closest(str(name), known)
    suggestion = f"did you mean {close!r}? Choose" if close else "choose"
    message = f"there is no {what} {name!r}; {suggestion} one of {', '.join(known)}"
    return f"{message}; {hint}" if hint else message


def closest(name: str, known: Collection[str], likeness: float = 0.65) -> str | None:
    """The known name most similar to `name`, ignoring case, '-' and '_'; None if none is.

    Args:
        name: The given name.
        known: Names that exist.
        likeness: Least similarity, from 0 to 1 for equal names.
    """
    if len(name) > LONGEST_NAME:  # the time to compare grows with the square of the length
        return None
    plain = {_plain(candidate): candidate for candidate in known}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=likeness)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")
