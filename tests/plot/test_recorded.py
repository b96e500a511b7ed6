"""Values of columns and measures at single filters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pruneviz.analysis.matrix import recorded_measures
from pruneviz.analysis.scores import score
from pruneviz.errors import FigureError, ScoreError
from pruneviz.log.runs import Runs
from pruneviz.plot.recorded import (
    check_held,
    epochs_of_group,
    groups_of,
    lowest_seed,
    measured_epochs,
    measures_to_compare,
    recorded_names,
    values_of,
)
from pruneviz.plot.source import runs_of
from tests.support.synthetic_runs import SMALL, make_runs


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL, epochs=3, every=2)


def snapshot() -> pd.DataFrame:
    return pd.DataFrame({"layer": ["a", "a", "b"], "filter": [0, 1, 0], "mine": [0.1, 0.2, np.inf]})


def test_columns_and_measures_are_read_alike(runs: Runs) -> None:
    found = values_of(runs, ["theta_g", "magnitude"], [2])
    rows = runs.filters[runs.filters["epoch"] == 2]
    assert np.array_equal(found["theta_g"], rows["theta_g"].astype("float64"))
    assert np.array_equal(found["magnitude"], score(rows, "magnitude"))


def test_a_function_of_the_table_is_a_measure(runs: Runs) -> None:
    def twice(filters: pd.DataFrame) -> pd.Series:
        return 2 * filters["theta_norm2"]

    found = values_of(runs, [twice, "theta_norm2"])
    assert np.array_equal(found["twice"], 2 * found["theta_norm2"])


def test_pruned_filters_have_no_value() -> None:
    found = values_of(runs_of(snapshot().assign(kept=[True, False, None])), ["mine"])
    assert found["kept"].tolist() == [True, False, True]
    assert found["mine"].isna().tolist() == [False, True, False]


def test_what_has_no_values_is_told_with_what_there_is(runs: Runs) -> None:
    assert values_of(runs, ["fisher"])["fisher"].isna().all()
    with pytest.raises(
        FigureError, match=r"no run holds values of theta2_g2.*they hold .magnitude"
    ):
        check_held(runs, ["theta_g", "fisher"])
    with pytest.raises(FigureError, match="'mien'; did you mean 'mine'"):
        values_of(runs_of(snapshot()), ["mien"])
    with pytest.raises(FigureError, match=r"column layer holds .*expected numbers"):
        values_of(runs_of(snapshot()), ["layer"])


def test_names_are_those_with_values() -> None:
    table = runs_of(snapshot().assign(sigma=1.0, empty=np.nan, words="x"))
    assert recorded_names(table) == ["bn_scale", "mine", "sigma", "words"]
    assert measures_to_compare(table, 0) == ["bn_scale", "mine"]


def test_measures_that_need_a_fact_of_the_runs_are_compared_where_it_is_known(runs: Runs) -> None:
    known = {"theta_g": 1.0, "theta_g_se_iid": 0.1}
    filters = runs.filters.assign(**known)
    whole = replace(runs, filters=filters)
    assert ("gate_fisher" in recorded_measures(whole)) is True
    assert "gate_fisher" in measures_to_compare(whole, 2)
    none = replace(whole, spec=whole.spec.assign(bn="batch"))
    assert "gate_fisher" not in measures_to_compare(none, 2)
    with pytest.raises(ScoreError, match="over batches"):
        check_held(none, ["gate_fisher"])
    first = whole.spec["run"].iloc[0]
    mixed = whole.spec.assign(bn=["eval", *["batch"] * (len(whole.spec) - 1)])
    found = values_of(replace(whole, spec=mixed), ["gate_fisher"], [2])
    assert set(found.loc[found["gate_fisher"].notna(), "run"]) == {first}


def test_measured_epochs_are_those_with_derivatives(runs: Runs) -> None:
    assert measured_epochs(runs) == [0, 2, 3]
    assert measured_epochs(runs_of(snapshot())) == [0]


def test_groups_are_runs_that_their_seed_tells_apart(runs: Runs) -> None:
    found = dict(groups_of(runs))
    assert [len(group) for group in found.values()] == [3] * len(SMALL)
    assert lowest_seed(found["VGG-13"]).spec["seed"].tolist() == [0]


def test_epochs_of_a_group_are_those_it_has() -> None:
    assert epochs_of_group([0, 4], [0, 4, 9], None) == [0, 4]
    assert epochs_of_group([0, 4], [0, 4, 9], [-1, 9]) == [4]
    assert epochs_of_group([0, 4], [0, 4, 9], 9) == []
    with pytest.raises(FigureError, match="0, 4 and 9"):
        epochs_of_group([0, 4], [0, 4, 9], 5)
