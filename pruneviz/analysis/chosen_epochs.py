"""Which of the measured epochs a panel or table shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FRACTIONS = (0.0, 0.25, 1.0)  # of the schedule: epochs 0, 40 and 160 of 160


def shown_epochs(epochs: Sequence[int]) -> list[int]:
    """Epochs to show: the first, 1, those nearest to a quarter and a half of training, the last.

    Epoch 1 only if it is measured. The quarter is that of the panels of a scatter plot.

    Args:
        epochs: Measured epochs, at least one.
    """
    wanted = nearest_epochs(sorted(epochs), max(epochs), (0.0, 0.25, 0.5, 1.0))
    return sorted({*wanted, *({1} & set(epochs))})


def nearest_epochs(
    epochs: Sequence[int], schedule: int, fractions: Sequence[float] = FRACTIONS
) -> list[int]:
    """The epochs nearest to fractions of a schedule, without repeats.

    Of 160 epochs, the fractions 0, 1/4 and 1 are epochs 0, 40 and 160.
    """
    known = np.asarray(epochs)
    nearest = [int(known[np.argmin(np.abs(known - share * schedule))]) for share in fractions]
    return list(dict.fromkeys(nearest))
