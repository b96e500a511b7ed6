"""Options of a measurement: single values stand for tuples of one, and wrong ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pruneviz as pv
from pruneviz.errors import MeasureError
from pruneviz.log.schema import CHANGE_COLUMNS, REQUEST_COLUMNS
from pruneviz.measuring.options import Options, as_tuple
from tests.support.cases import BY_NAME, digit_batches

KEYS = ["layer", "filter", "kept"]
CHEAP = {"theta_norm2", "theta_l1"}


def test_one_value_stands_for_a_tuple_of_one() -> None:
    assert as_tuple("theta_g") == ("theta_g",)
    assert as_tuple(1.0) == (1.0,)
    assert as_tuple(np.float64(2.0)) == (2.0,)
    assert as_tuple(torch.tensor(2.0)) == (torch.tensor(2.0),)
    assert as_tuple(["theta_g", "sigma"]) == ("theta_g", "sigma")
    assert as_tuple(np.array([1.0, 200.0])) == (1.0, 200.0)


def test_measure_takes_one_temperature_and_one_column() -> None:
    model, sample = BY_NAME["mlp"].model(), digit_batches()
    one = pv.measure(model, sample, temperatures=2.0, columns="theta_hg")
    assert list(one.columns) == [*KEYS, "theta_hg"]
    listed = pv.measure(model, sample, temperatures=(2.0,), columns=["theta_hg"])
    pd.testing.assert_frame_equal(one, listed, check_exact=True)


def test_a_recorder_takes_one_temperature_and_one_column(tmp_path: Path) -> None:
    model, sample = BY_NAME["mlp"].model(), digit_batches()
    run = tmp_path / "run"
    with pv.Recorder(model, sample, run, temperatures=2.0, columns="theta_g") as recorder:
        recorder.after_epoch(0)
        assert "theta_hg" in recorder.table(1, "theta_hg")
    runs = pv.load(run)
    measured = runs.filters.columns[runs.filters.notna().all()]
    assert {name for name in measured if name.startswith("theta")} == {*CHEAP, "theta_g"}
    assert runs.spec["temperatures"].tolist() == [(2.0,)]


def test_by_default_all_but_the_columns_on_request_are_wanted() -> None:
    options = Options()
    assert set(options.available()) - set(options.wanted()) == {*REQUEST_COLUMNS, *CHANGE_COLUMNS}
    assert "theta_hg_t5" in Options((1.0, 5.0)).available()
    assert "theta_hg_t200" not in Options((1.0, 5.0)).available()


def test_default_among_columns_stands_for_the_default_ones() -> None:
    default = Options().wanted()
    assert Options.of(columns=["wanda", "default"]).wanted() == ("wanda", *default)
    assert Options.of(columns=["theta_g", "default"]).wanted()[0] == "theta_g"
    assert Options.of(columns="default").wanted() == default


def test_full_errors_are_those_of_the_wanted_columns_by_name() -> None:
    default = Options().wanted()
    assert Options(errors="full").wanted() == (*default, "abs_theta_g_se", "theta_hg_se")
    assert Options.of(columns="theta_hg", errors="full").wanted() == ("theta_hg", "theta_hg_se")
    assert "theta_g_se" in Options(unit="weight", errors="full").wanted()
    assert "theta_g_se" not in Options(unit="weight").wanted()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"temperatures": None}, r"temperatures=\(None,\); give one or more positive numbers"),
        ({"temperatures": "1.0"}, r"temperatures=\('1.0',\); give one or more positive numbers"),
        ({"temperatures": 0.0}, "give one or more positive numbers"),
        ({"columns": 3}, "no filter column 3"),
        ({"columns": "theta_gg"}, "no filter column 'theta_gg'; did you mean 'theta_g'"),
        ({"chunk": "auto"}, "chunk='auto'; give the number of examples"),
        ({"chunk": 2.5}, "chunk=2.5; give the number of examples"),
        ({"dtype": "float64"}, "dtype='float64'; give a torch.dtype"),
        ({"loss": "mse"}, "loss='mse'; give a callable"),
        ({"errors": "all"}, "errors='all'; choose 'default', .* or 'full'"),
        ({"bn": ["eval"]}, "is not a batch-norm mode; choose one of eval"),
    ],
    ids=str,
)
def test_values_of_a_wrong_kind_are_refused_with_the_repair(
    options: dict[str, Any], match: str
) -> None:
    with pytest.raises(MeasureError, match=match):
        pv.measure(BY_NAME["mlp"].model(), digit_batches(), **options)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"forward": 3}, r"forward=3; give a callable of \(model, batch\)"),
        ({"loss_weight": 2.0, "loss": max}, "loss_weight=2.0; give a callable of a target"),
        ({"loss_weight": abs}, "loss_weight belongs to a loss of your own"),
        ({"parameters": ()}, r"parameters=\(\); give 'all', 'trainable', or names"),
        ({"parameters": [1]}, r"parameters=\(1,\); give 'all'"),
    ],
)
def test_options_of_losses_and_theta_are_checked(given: dict[str, object], match: str) -> None:
    with pytest.raises(MeasureError, match=match):
        Options.of(**given)
