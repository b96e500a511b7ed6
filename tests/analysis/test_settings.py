"""What runs differ in, and what kinds of runs there are."""

from __future__ import annotations

import pandas as pd
import pytest

from pruneviz.analysis.settings import kinds_of, settings_of, telling_facts
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
