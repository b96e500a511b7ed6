"""Words above panels."""

from __future__ import annotations

import pandas as pd

from pruneviz.plot.panels import seeds_in_words, wrapped


def test_a_title_is_broken_where_its_panel_ends_and_drawn_as_it_stands() -> None:
    assert wrapped("one two", 5) == "one two"
    assert wrapped("a first half, a second half", 1) == "a first half,\na second half"
    assert wrapped("cost in $", 5) == r"cost in \$"


def test_seeds_are_counted_where_there_is_a_value() -> None:
    def words(*seeds: int) -> str:
        return seeds_in_words(pd.DataFrame({"seeds": seeds}))

    assert words(1, 1) == words(0, 1) == words() == ""
    assert words(0, 3, 3) == "mean of 3 seeds"
    assert words(2, 3) == "mean of 2 to 3 seeds"
