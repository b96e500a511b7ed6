"""Facts about an epoch that a training loop hands to the recorder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, SupportsFloat, TypeAlias

from pruneviz.errors import LogError, PrunevizError
from pruneviz.log import schema

Fact: TypeAlias = SupportsFloat | str | None  # also a tensor or NumPy number of one value

_OWN_FACTS = frozenset({"run", "epoch", "mask_distance", "sample_loss", "g_norm2", "ghg"})
_FRACTIONS = ("train_acc", "test_acc", "kept_fraction")
_ROUNDING = 1e-6  # a mean of ones in float32 may be a little above 1


def checked_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of an epoch as plain numbers.

    Args:
        facts: Columns of the epochs table; tensors and NumPy numbers hold one value.

    Raises:
        LogError: If a fact is unknown, or an accuracy is no fraction.
    """
    known = [name for name in schema.EPOCHS if name not in _OWN_FACTS]
    unknown = sorted(set(facts) - set(known))
    if unknown:
        raise LogError(
            f"after_epoch takes no fact {', '.join(unknown)}; it takes {', '.join(known)}"
        )
    plain = {name: _plain(value) for name, value in facts.items()}
    for name in _FRACTIONS:
        value = plain.get(name)
        # NaN stands for a value that is not known, and is neither too small nor too large.
        if isinstance(value, (int, float)) and (value < -_ROUNDING or value > 1 + _ROUNDING):
            raise LogError(
                f"{name}={value!r} is no fraction; give a number between 0 and 1, "
                "such as 0.71 for 71 %"
            )
    return plain


@contextmanager
def epoch_named(epoch: int) -> Iterator[None]:
    """Name the epoch in measuring errors."""
    try:
        yield
    except PrunevizError as error:
        raise type(error)(f"at epoch {epoch}: {error}") from error


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
