"""What runs differ in, and what kinds of runs there are."""

from __future__ import annotations

import pandas as pd
import pytest

from pruneviz.analysis.settings import kinds_of, results_of, settings_of, telling_facts
from tests.support.synthetic_runs import runs_of_every_kind


def spec(**facts: list[object]) -> pd.DataFrame:
    count = len(next(iter(facts.values())))
    return pd.DataFrame({"run": [f"r{i}" for i in range(count)], **facts})


def test_what_was_stored_besides_makes_no_setting() -> None:
    seeds = spec(seed=[0, 1], network=["a", "a"])
    more = {"samples": [1, 2], "half_size": [None, 250], "flow": [None, True]}
    more |= {"se_df": [None, 400.0], "schema_version": [2, 3]}
    more |= {"oracle": ["all", None], "draw_seed": [0, 3], "probes": [None, 8]}
    more |= {"population": [None, 50000], "request_at": ["0 4", None], "errors": ["full", None]}
    assert settings_of(seeds.assign(**more)) == telling_facts(seeds.assign(**more)) == []
    assert settings_of(seeds.assign(sample_size=[250, 500])) == ["sample_size"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mask_ratio", [0.2, 0.5]),
        ("num_classes", [10, 100]),
        ("optimizer", [{"name": "sgd"}, {"name": "adam"}]),
    ],
)
def test_what_changes_values_makes_a_setting(name: str, values: list[object]) -> None:
    assert settings_of(spec(seed=[0, 1], network=["a", "a"], **{name: values})) == [name]


def test_the_kind_of_a_run_follows_from_its_facts() -> None:
    runs = runs_of_every_kind().spec
    kinds = kinds_of(runs)
    assert set(kinds) == {"unpruned", "weights", "pruned", "prune_phase"}
    assert (kinds == "weights").equals(runs["unit"] == "weight")
    assert (kinds == "prune_phase").equals(runs["prune_phase_only"].eq(True))
    assert (kinds == "pruned").equals(runs["rounds"].gt(0) & ~runs["prune_phase_only"].eq(True))
    both = runs[kinds == "pruned"].assign(unit="weight")
    assert set(kinds_of(both)) == {"pruned weights"}


THREE = [0, 1, 2]

RESULTS: dict[str, tuple[dict[str, list[object]], list[str], list[str]]] = {
    "a number of each seed": ({"seed": THREE, "best": [0.1, 0.2, 0.3]}, ["best"], []),
    "shared by seeds": ({"seed": THREE, "drop": [0.1, 0.1, 0.3]}, [], ["drop"]),
    "several of one seed": ({"seed": [0, 0, 0], "drop": [0.1, 0.2, 0.3]}, [], ["drop"]),
    "known facts never": ({"seed": THREE, "lr": [0.1, 0.2, 0.3]}, [], ["lr"]),
    "words never": ({"seed": THREE, "opt": ["a", "b", "c"]}, [], ["opt"]),
    "recorded in one setting only": (
        {
            "seed": [*THREE, *THREE],
            "lr": [0.1] * 3 + [0.2] * 3,
            "best": [1, 2, 3, None, None, None],
        },
        ["best"],
        ["lr"],
    ),
    "equal numbers in two settings": (
        {"seed": [*THREE, *THREE], "lr": [0.1] * 3 + [0.2] * 3, "best": [1, 2, 3, 3, 4, 5]},
        ["best"],
        ["lr"],
    ),
    "beside an own setting": (
        {"seed": [*THREE, *THREE], "drop": [0.1] * 3 + [0.2] * 3, "best": [1, 2, 3, 3, 4, 5]},
        ["best"],
        ["drop"],
    ),
    "of repeats": ({"seed": [0, 1, 0, 1], "best": [1, 2, 1, 2]}, ["best"], []),
    "of runs without a seed": ({"seed": [None, None], "best": [1, 2]}, ["best"], []),
    "one seed of each setting": (
        {"seed": [0, 1], "opt": ["a", "b"], "best": [1, 2]},
        ["best"],
        ["opt"],
    ),
    "beside a baseline without it": (
        {"seed": [*THREE, 0, 1, 2], "drop": [None, None, None, 0.1, 0.2, 0.3]},
        [],
        ["drop"],
    ),
    "with fewer values than the setting": (
        {
            "seed": THREE * 5,
            "drop": [value for value in (0.1, 0.2, 0.3, 0.4, 0.5) for _ in THREE],
            "best_epoch": [12, 14, 16, 14, 16, 12, 16, 12, 14, 12, 16, 14, 14, 12, 16],
        },
        ["best_epoch"],
        ["drop"],
    ),
    "each explains the other": (
        {
            "seed": THREE * 3,
            "drop": [value for value in (0.1, 0.2, 0.3) for _ in THREE],
            "best_epoch": [12, 14, 16, 14, 16, 12, 16, 12, 14],
        },
        [],
        ["best_epoch", "drop"],
    ),
}


@pytest.mark.parametrize("case", RESULTS)
def test_a_result_is_told_from_a_setting_in_any_order(case: str) -> None:
    facts, results, settings = RESULTS[case]
    table = spec(network=["a"] * len(facts["seed"]), **facts)
    for runs in (table, table[::-1], table[[*table.columns[::-1]]]):
        assert results_of(runs) == results
        assert settings_of(runs) == settings


def test_settings_do_not_depend_on_the_order_of_facts() -> None:
    both = {
        "score": [0.1, 0.2, 0.3, 0.4],
        "opt": ["adam", "adam", "sgd", "sgd"],
        "seed": [0, 1, 2, 3],
    }
    for names in (both, dict(reversed(both.items()))):
        assert settings_of(spec(**names)) == ["opt"]
    together = {"beta": ["u", "v"], "alpha": ["p", "q"], "seed": [0, 0]}
    for names in (together, dict(reversed(together.items()))):
        assert settings_of(spec(**names)) == ["alpha"]
