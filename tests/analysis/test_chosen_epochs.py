"""Which epochs a panel shows."""

from __future__ import annotations

import pytest

from pruneviz.analysis.chosen_epochs import nearest_epochs


@pytest.mark.parametrize(
    ("epochs", "schedule", "nearest"),
    [
        (range(0, 161, 10), 160, [0, 40, 160]),
        (range(17), 16, [0, 4, 16]),
        ([0, 3, 6, 9, 10], 10, [0, 3, 10]),
        ([0, 1], 1, [0, 1]),
    ],
)
def test_epochs_keep_the_fractions_of_the_schedule(
    epochs: list[int], schedule: int, nearest: list[int]
) -> None:
    assert nearest_epochs(epochs, schedule) == nearest
