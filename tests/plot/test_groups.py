"""What runs differ in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pruneviz.analysis.settings import settings_of, telling_facts
from pruneviz.errors import FigureError
from pruneviz.plot.groups import scales_apart, with_groups


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


def test_another_scale_is_named_where_it_follows_from_the_measure() -> None:
    runs = spec(network=["a", "a", "b"], measure=[None, "magnitude", None])
    found, facts = with_groups(runs.assign(train_images=[10_000, 5_000, 10_000], width=[1, 1, 0.5]))
    assert facts == ["network", "measure", "train_images"]
    assert list(found["group"]) == [
        "a, unpruned, 10,000 training images",
        "a, Magnitude, 5,000 training images",
        "b, unpruned, 10,000 training images",
    ]
    assert scales_apart(runs.assign(width=[1, 1, 0.5])) == []
    assert scales_apart(runs.assign(width=[1, None, 0.5])) == []


def test_numbers_are_sorted_by_size() -> None:
    found, _ = with_groups(spec(lr=[0.3, 0.03, 0.1]))
    assert list(found["lr"]) == [0.03, 0.1, 0.3]


def test_a_number_of_every_run_is_no_setting_where_seeds_tell_the_runs_apart() -> None:
    best = {"best_acc": [0.1, 0.2, 0.3]}
    assert settings_of(spec(seed=[0, 1, 2], **best)) == []
    assert settings_of(spec(network=["a", "a", "b"], seed=[0, 1, 0], **best)) == ["network"]
    assert settings_of(spec(seed=[0, 0, 0], **best)) == ["best_acc"]
    assert settings_of(spec(seed=[0, 1, 0], dropout=[0.1, 0.1, 0.3])) == ["dropout"]
    assert settings_of(spec(seed=[0, 1, 2], lr=[0.1, 0.2, 0.3])) == ["lr"]


def test_runs_of_one_setting_and_seed_are_told_apart_by_their_name() -> None:
    assert telling_facts(spec(seed=[0, 1], network=["a", "a"])) == []
    assert telling_facts(spec(seed=[0, 0, 1], network=["a", "a", "a"])) == ["run"]
    assert telling_facts(spec(seed=[None, None])) == []  # repeats
    assert telling_facts(spec(network=["a", "a"])) == []
    assert telling_facts(spec(seed=[0, None, 0])) == ["run"]
    found, _ = with_groups(spec(seed=[0, 0]), by=[])
    assert set(found["group"]) == {""}


@pytest.mark.parametrize("fact", ["dict", "list", "array", "set"])
def test_facts_that_are_collections_are_compared_and_named(fact: str) -> None:
    values = {
        "dict": [{"b": 1, "a": 2}, {"a": 2, "b": 1}, {"a": 3}],
        "list": [[1.0, 2.5], (1.0, 2.5), [1.0]],
        "array": [np.array([1, 2]), np.array([1, 2]), np.array([3])],
        "set": [{"x"}, {"x"}, {"y"}],
    }[fact]
    found, _ = with_groups(spec(fact=values), by="fact")
    assert found.groupby("group", sort=False).size().tolist() == [2, 1]
    words = {"dict": "a 2/b 1", "list": "1/2.5", "array": "1/2", "set": "x"}[fact]
    assert found["fact"][0] == words


def test_an_unknown_fact_is_refused() -> None:
    with pytest.raises(FigureError, match="fact of these runs '3'"):
        with_groups(spec(network=["a", "b"]), by=3)  # type: ignore[arg-type]
    with pytest.raises(FigureError, match="netwrok"):
        with_groups(spec(network=["a", "b"]), by="netwrok")
    assert settings_of(spec(network=["a", "a"])) == []
