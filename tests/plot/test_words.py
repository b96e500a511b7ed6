"""Numbers and lists as pictures and captions print them."""

from __future__ import annotations

import numpy as np
import pytest

from pruneviz.plot.words import interval, listed, mean_and_sd, percent, scientific


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (mean_and_sd(-0.004, 0.01), "0.00 ± 0.01"),
        (mean_and_sd(-0.5, np.nan), "−0.50"),
        (mean_and_sd(np.nan, np.nan), "undefined"),
        (interval(0.4, 1.3), "[0.400, 1.000]"),
        (interval(np.nan, np.nan), "[no interval]"),
        (scientific(-1e-7), "−1e−7"),
        (scientific(2.4e6), "2.4e6"),
        (scientific(0.25), "0.25"),
        (percent(0.65), "65.0 %"),
        (percent(0.65, 0.003), "65.0 ± 0.3 %"),
        (percent(0.6, digits=0), "60 %"),
        (listed("a"), "a"),
        (listed("abc"), "a, b and c"),
    ],
)
def test_words(written: str, expected: str) -> None:
    assert written == expected
