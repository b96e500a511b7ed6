"""Numbers and lists as pictures and captions print them."""

from __future__ import annotations

import numpy as np

from pruneviz.figures.words import interval, listed, mean_and_sd, percent, scientific


def test_words() -> None:
    assert (
        mean_and_sd(-0.004, 0.01) == "0.00 ± 0.01"
        and mean_and_sd(-0.5, np.nan) == "−0.50"
        and mean_and_sd(np.nan, np.nan) == "undefined"
    )
    assert interval(0.4, 1.3) == "[0.400, 1.000]" and interval(np.nan, np.nan) == "[no interval]"
    assert (
        scientific(-1e-7) == "−1e−7" and scientific(2.4e6) == "2.4e6" and scientific(0.25) == "0.25"
    )
    assert (
        percent(0.65) == "65.0 %"
        and percent(0.65, 0.003) == "65.0 ± 0.3 %"
        and percent(0.6, digits=0) == "60 %"
    )
    assert listed("a") == "a" and listed("abc") == "a, b and c"
