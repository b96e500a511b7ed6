"""Arguments as people give them: one value where several may stand, numbers of any library."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis.strategies import floats, integers

import pruneviz as pv
from pruneviz.errors import PrunevizError
from pruneviz.log.arguments import as_tuple, exactly, is_number, is_whole
from tests.support.properties import for_all
from tests.support.synthetic_runs import make_runs, save_runs


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("theta_g", ("theta_g",)),
        (1.0, (1.0,)),
        (["a", "b"], ("a", "b")),
        (range(2), (0, 1)),
        (np.array(3), (np.array(3),)),
        (torch.tensor(2.0), (torch.tensor(2.0),)),
        ((), ()),
    ],
)
def test_one_value_counts_as_several(given: Any, expected: tuple[Any, ...]) -> None:
    assert as_tuple(given) == expected


def test_numbers_are_of_any_library_and_truth_values_are_none() -> None:
    whole, real = [3, np.int64(3)], [0.5, np.float32(0.5), Fraction(1, 2)]
    assert all(map(is_whole, whole)) and not any(map(is_whole, [*real, True, "3", None]))
    assert all(map(is_number, whole + real)) and not any(map(is_number, [True, "3", None]))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (0.29, Fraction(29, 100)),
        (1 / 3, Fraction(1, 3)),
        (2 / 7, Fraction(2, 7)),
        (np.float64(0.29), Fraction(29, 100)),
        (np.float32(0.29), Fraction(29, 100)),
        (np.float32(0.7), Fraction(7, 10)),
        (np.float16(0.1), Fraction(1, 10)),
        (0.123456789012, Fraction(123456789012, 10**12)),
        (1e-30, Fraction(1, 10**30)),
        (5e-324, Fraction(5, 10**324)),
        (0, Fraction(0)),
        (np.int64(3), Fraction(3)),
        (Fraction(1, 3), Fraction(1, 3)),
    ],
)
def test_a_float_means_the_fraction_that_a_person_wrote(given: Any, meant: Fraction) -> None:
    assert exactly(given) == meant


@for_all(few=50, many=5_000, decimals=integers(0, 7), digits=integers(0, 10**7))
def test_every_decimal_of_seven_digits_means_itself(decimals: int, digits: int) -> None:
    assert exactly(digits / 10**decimals) == Fraction(digits, 10**decimals)


@for_all(few=50, many=5_000, value=floats(0, 1))
def test_what_a_float_means_is_that_float(value: float) -> None:
    assert float(exactly(value)) == value


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> pv.Runs:
    folder: Path = tmp_path_factory.mktemp("runs")
    save_runs(make_runs({"vgg13": (4, 6)}, seeds=(0, 1), epochs=2, every=1), folder)
    return pv.load(folder)


def test_every_argument_that_takes_names_takes_one_name(runs: pv.Runs) -> None:
    """A single name is never read letter by letter."""
    filters, first = runs.filters, str(runs.spec["run"][0])
    pairs = {
        "read": lambda one: runs.read("filters", columns=one("theta_g"), complete=one("theta_g")),
        "named": lambda one: runs.named(one(first)).spec,
        "correlate": lambda one: pv.correlate(filters, "theta_g", "theta_hg", by=one("epoch")),
        "matrix": lambda one: pv.correlation_matrix(
            filters, ["magnitude", "bn_scale"], by=one("epoch")
        ),
        "robustness": lambda one: pv.robustness(filters, "theta_g", "theta_hg", by=one("epoch")),
        "convergence": lambda one: pv.convergence(
            runs.epochs.assign(test_acc=0.5), runs.spec, thresholds=one(0.1), by=one("network")
        ),
    }
    for name, call in pairs.items():
        assert call(lambda x: x).equals(call(lambda x: [x])), name
    with pytest.raises(PrunevizError, match=r"two measures, this has \[magnitude\]"):
        pv.correlation_matrix(filters, "magnitude")
    spec = pv.RunSpec(run="r", temperatures=1.0, columns="theta_g", lr_drops=80)  # type: ignore[arg-type]
    assert (spec.temperatures, spec.columns, spec.lr_drops) == ((1.0,), ("theta_g",), (80,))


WRONG = {
    "keep_mask": lambda: pv.keep_mask(pd.Series([1.0, 2.0]), "half"),
    "target": lambda: pv.pruned_after(10, target="half", rounds=2),
    "rounds": lambda: pv.pruned_after(10, target=0.5, rounds=2.5),
    "options": lambda: pv.PruningOptions("magnitude", target="half"),
    "rounds of options": lambda: pv.PruningOptions("magnitude", rounds="two"),
    "mask_ratio": lambda: pv.DrawOptions(mask_ratio="half"),
    "temperatures": lambda: pv.RunSpec(run="r", temperatures="warm"),
    "mask_ratio of a spec": lambda: pv.RunSpec(run="r", mask_ratio=None),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_number_is_refused_by_name(name: str) -> None:
    with pytest.raises(PrunevizError, match=r"half|2\.5|two|warm|None"):
        WRONG[name]()
