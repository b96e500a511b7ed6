"""Facts about an epoch that a training loop hands to the recorder, known ones and its own."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, SupportsFloat, TypeAlias

import pandas as pd
from pyarrow.types import is_dictionary

from pruneviz.errors import LogError, PrunevizError, closest
from pruneviz.log import limits, schema
from pruneviz.log.vocabulary import is_accuracy

Fact: TypeAlias = SupportsFloat | str | None  # also a tensor or NumPy number of one value

_MARKS = "not_finite"
_MEASURED = (
    *("run", "epoch", "mask_distance", "sample_loss", "g_norm2", "ghg"),
    *(_MARKS, "network_digest"),
)
_TIMES = re.compile(r"(.*[^a-z])?seconds", re.IGNORECASE)  # seconds, eval_seconds
_KNOWN = {
    name: schema.is_text(column.dtype)
    for name, column in schema.EPOCHS.items()
    if name not in _MEASURED
}
_NAMES = [name for name, column in schema.EPOCHS.items() if is_dictionary(column.dtype)]
_ROUNDING = 1e-6  # a mean of ones in float32 may be a little above 1
_ALMOST = 0.85  # similarity of a misspelt name: "tset_acc" and "test_acc"

_logger = logging.getLogger("pruneviz")


class EpochFacts:
    """Checks the facts of every epoch of a run, and remembers which are numbers and which text.

    Args:
        taken: Names of run facts, which an epoch cannot have too.
        epochs: Epochs that were recorded before.
    """

    def __init__(self, taken: Collection[str], epochs: pd.DataFrame | None = None) -> None:
        self._taken = set(taken) - set(_KNOWN)
        self._is_text: dict[str, bool] = {}
        self._told: set[str] = set()
        self._bytes = 0 if epochs is None else _bytes_of(epochs)
        for name, values in () if epochs is None else epochs.items():
            if name not in schema.EPOCHS:
                self._is_text[str(name)] = schema.is_text(schema.own_type(values))

    def checked(
        self, facts: Mapping[str, Fact], of_run: Collection[str] = ()
    ) -> dict[str, float | str | None]:
        """The facts as numbers, text and None.

        Args:
            facts: The facts of an epoch.
            of_run: Further names of facts of the run, as it was begun and noted.

        Raises:
            LogError: As `checked_facts`; if a name is a fact of the run; if a fact was text before
                and is now a number, or the reverse.
        """
        for name in facts:
            if name in self._taken or (name in of_run and name not in _KNOWN):
                raise LogError(
                    f"after_epoch takes no fact {name}: it is a fact of the whole run; give it in "
                    "spec, or give the fact of the epoch another name"
                )
        plain = checked_facts(facts)
        for name, value in plain.items():
            was_text = self._is_text.get(name)
            if was_text is not None and value is not None and was_text != isinstance(value, str):
                kinds = ("text", "a number") if was_text else ("a number", "text")
                raise LogError(
                    f"{name}={value!r} is {kinds[1]}, and was {kinds[0]} at earlier epochs; "
                    "give it as before, or under another name"
                )
        self._check_room(plain)
        return plain

    def check_note(self, facts: Collection[str]) -> None:
        """Check that no epoch has a fact of these names.

        Raises:
            LogError: If one has.
        """
        if taken := [name for name in facts if name in self._is_text]:
            raise LogError(
                f"note: {', '.join(taken)} is a fact of epochs already; note it under another name"
            )

    def _check_room(self, facts: Mapping[str, float | str | None], marks: str = "") -> None:
        """Check that the epochs table can be read with some further facts."""
        own = self._is_text.keys() | {name for name in facts if name not in _KNOWN}
        texts = [marks, *(value for value in facts.values() if isinstance(value, str))]
        for number, most, what in (
            (len(own) + len(schema.EPOCHS), limits.MOST_COLUMNS, "columns"),
            (sum(map(len, own)), limits.MOST_NAMES, "letters in names of facts"),
            (self._bytes + sum(map(_bytes_in, texts)), limits.MOST_TEXT, "bytes of text"),
        ):
            if number > most:
                raise LogError(
                    f"the epochs table would have {number:,} {what}, at most {most:,} can be read; "
                    "keep such facts in a file of your own, and give its name"
                )

    def marked(
        self, epoch: int, facts: Mapping[str, float | str | None]
    ) -> dict[str, float | str | None]:
        """The facts as they are stored: null where a number is not finite, with a mark.

        Warns of every such fact once.

        Args:
            epoch: Number of epochs trained.
            facts: Facts from `checked`.
        """
        odd = {
            name: value
            for name, value in facts.items()
            if isinstance(value, float) and not math.isfinite(value)
        }
        marks = ", ".join(f"{name}={value}" for name, value in odd.items())
        self._check_room(facts, marks)
        if not odd:
            return dict(facts)
        new = [f"{name} is {value}" for name, value in odd.items() if name not in self._told]
        self._told |= odd.keys()
        if new:
            _logger.warning(
                "at epoch %s %s, no finite number: stored as null and named in the column %s, as "
                "in later epochs",
                *(epoch, " and ".join(new), _MARKS),
            )
        self._bytes += _bytes_in(marks)
        return {**facts, **dict.fromkeys(odd, math.nan), _MARKS: marks}

    def remember(self, facts: Mapping[str, float | str | None]) -> None:
        """Note which facts of a written epoch are text, and warn of misspelt names, once each."""
        for name, value in facts.items():
            self._bytes += _bytes_in(value) if isinstance(value, str) else 0
            if name in _KNOWN or value is None:
                continue
            known = closest(name, _KNOWN, _ALMOST)
            if name not in self._is_text and known and known not in name:
                _logger.warning(
                    "after_epoch records %r as a fact of its own; did you mean %r?", name, known
                )
            self._is_text[name] = isinstance(value, str)


def checked_facts(facts: Mapping[str, Fact]) -> dict[str, float | str | None]:
    """The facts of an epoch as numbers, text and None; an own fact that is None is left out.

    Args:
        facts: Columns of the epochs table, known ones and others; tensors and NumPy numbers hold
            one value.

    Raises:
        LogError: If a name is one of a column that is measured; if a value is neither a number nor
            text, or not of the kind of its column; if an accuracy is no fraction, or a time or
            learning rate is negative.
    """
    for name in facts:
        if not name or name in _MEASURED or schema.is_filter_column(name):
            raise LogError(
                f"after_epoch takes no fact {name}: the recorder writes a column of this name; "
                "give the fact another name"
            )
    plain = {limits.readable(name): _plain(name, value) for name, value in facts.items()}
    if len(plain) < len(facts):
        raise LogError(f"the facts {', '.join(map(ascii, facts))} have names that are stored alike")
    for name, value in plain.items():
        _check_length(name, value)
        _check_kind(name, value)
        _check_fraction(name, value)
        _check_sign(name, value)
    return {name: value for name, value in plain.items() if value is not None or name in _KNOWN}


@contextmanager
def epoch_named(epoch: int) -> Iterator[None]:
    """Name the epoch in measuring errors."""
    try:
        yield
    except PrunevizError as error:
        raise type(error)(f"at epoch {epoch}: {error}") from error


def _plain(name: str, value: Any) -> float | str | None:
    if hasattr(value, "item"):
        try:
            value = value.item()
        except (ValueError, RuntimeError) as error:
            shape = tuple(getattr(value, "shape", ()))
            raise LogError(
                f"{name} has shape {shape}; give one number, such as its mean"
            ) from error
    if isinstance(value, str):
        return limits.readable(value)
    if value is None:
        return None
    if not hasattr(value, "__float__"):
        raise LogError(f"{name} is a {type(value).__name__}; give a number or text")
    try:
        number = float(value)
    except OverflowError as error:
        raise LogError(f"{name} is too large for a number; give it as text") from error
    if isinstance(value, int) and int(number) != value:
        raise LogError(f"{name}={value} is too large to be stored exactly; give it as text")
    return number


def _check_length(name: str, value: float | str | None) -> None:
    named = value if name in _NAMES and isinstance(value, str) else ""
    for text, what in ((name, "the name of a fact"), (named, name)):
        if len(text) > limits.MOST_LETTERS:
            raise LogError(
                f"{text[:60]}... is {what} of {len(text):,} letters, at most "
                f"{limits.MOST_LETTERS:,} can be read; give a shorter one"
            )


def _bytes_in(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))


def _bytes_of(epochs: pd.DataFrame) -> int:
    """Bytes of the texts in an epochs table."""
    texts = epochs.select_dtypes(include=["object", "string"])
    held = (text for name in texts for text in texts[name] if isinstance(text, str))
    return sum(map(_bytes_in, held))


def _check_kind(name: str, value: float | str | None) -> None:
    if value is None or name not in _KNOWN:
        return
    if _KNOWN[name] and not isinstance(value, str):
        raise LogError(f"{name}={value!r} is a number, and column {name} holds text; give text")
    if not _KNOWN[name] and isinstance(value, str):
        raise LogError(f"{name}={value!r} is text, and column {name} holds numbers; give a number")


def _check_fraction(name: str, value: float | str | None) -> None:
    if name != "kept_fraction" and not is_accuracy(name):
        return
    if isinstance(value, str):
        raise LogError(f"{name}={value!r} is text; give an accuracy as a fraction, such as 0.71")
    # NaN stands for a value that is not known, and is neither too small nor too large.
    if value is None or not (value < -_ROUNDING or value > 1 + _ROUNDING):
        return
    repair = "give a number between 0 and 1, such as 0.71 for 71 %"
    if 1 < value <= 100:
        repair = f"divide it by 100, such as {value / 100:g} for {value:g} %"
    raise LogError(f"{name}={value:g} is no fraction; {repair}")


def _check_sign(name: str, value: float | str | None) -> None:
    if isinstance(value, float) and value < 0 and (name == "lr" or _TIMES.fullmatch(name)):
        what = "a learning rate" if name == "lr" else "a time"
        raise LogError(f"{name}={value:g} is negative; give {what} of 0 or more, or leave it out")
