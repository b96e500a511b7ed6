"""What runs differ in."""

from __future__ import annotations

import pandas as pd
import pytest

from pruneviz.errors import FigureError
from pruneviz.plot.groups import settings_of, with_groups


def spec(**facts: list[object]) -> pd.DataFrame:
    count = len(next(iter(facts.values())))
    return pd.DataFrame({"run": [f"r{i}" for i in range(count)], **facts})


def test_a_seed_makes_no_group() -> None:
    found, facts = with_groups(spec(seed=[1, 0], network=["mine", "mine"], created=["a", "b"]))
    assert facts == []
    assert list(found["group"]) == ["", ""]
    assert list(found["seed"]) == [0, 1]


def test_runs_that_differ_are_told_apart_in_words() -> None:
    table = spec(
        network=["vgg13", "mine", "mine"], bn=["eval", "eval", "batch"], mine=[0.1, 0.1, 0.1]
    )
    found, facts = with_groups(table)
    assert facts == ["network", "bn"]
    assert set(found["group"]) == {"VGG-13, bn eval", "mine, bn eval", "mine, bn batch"}


def test_an_unpruned_run_differs_from_a_pruned_one() -> None:
    found, facts = with_groups(spec(measure=[None, "magnitude"], rounds=[0, 5]))
    assert facts == ["measure"]
    assert list(found["group"]) == ["unpruned", "Magnitude"]


def test_numbers_are_sorted_by_size() -> None:
    found, _ = with_groups(spec(lr=[0.3, 0.03, 0.1]))
    assert list(found["lr"]) == [0.03, 0.1, 0.3]


def test_an_unknown_fact_is_refused() -> None:
    with pytest.raises(FigureError, match="netwrok"):
        with_groups(spec(network=["a", "b"]), by="netwrok")
    assert settings_of(spec(network=["a", "a"])) == []
