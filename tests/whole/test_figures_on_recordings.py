"""Every figure's CSV from the embedded recordings equals plain pandas on the Parquet files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pruneviz.figures.draw import save_figure
from pruneviz.log.runs import Runs, load
from tests.support.recomputed import (
    ERRORS,
    Facts,
    accuracy_tables,
    correlation_tables,
    ratio_tables,
    recorded,
    scatter_tables,
)

THREE = ("vgg13", "mobilenet_v1", "resnet56")
# Columns that are float32 on disk and drawn unchanged.
SINGLE = ("theta_g", "theta_hg", *ERRORS)

Expected = Callable[[list[Facts]], dict[str, pd.DataFrame]]

FIGURES: dict[str, Expected] = {
    "1": lambda runs: accuracy_tables(runs, "resnet56", 25),
    "2": lambda runs: correlation_tables(runs, THREE, "unpruned"),
    "3": lambda runs: scatter_tables(runs, "resnet56", "unpruned"),
    "4": lambda runs: accuracy_tables(runs, "vgg13", 1),
    "5": lambda runs: accuracy_tables(runs, "vgg13", 5),
    "6": lambda runs: accuracy_tables(runs, "vgg13", 25),
    "7": lambda runs: accuracy_tables(runs, "mobilenet_v1", 1),
    "8": lambda runs: accuracy_tables(runs, "mobilenet_v1", 5),
    "9": lambda runs: accuracy_tables(runs, "mobilenet_v1", 25),
    "10": lambda runs: accuracy_tables(runs, "resnet56", 1),
    "11": lambda runs: accuracy_tables(runs, "resnet56", 5),
    "12": lambda runs: accuracy_tables(runs, "resnet56", 25),
    "13": lambda runs: scatter_tables(runs, "vgg13", "unpruned"),
    "14": lambda runs: scatter_tables(runs, "mobilenet_v1", "unpruned"),
    "15": lambda runs: scatter_tables(runs, "resnet56", "unpruned"),
    "16": lambda runs: ratio_tables(runs, "vgg13"),
    "17": lambda runs: ratio_tables(runs, "mobilenet_v1"),
    "H1a": lambda runs: scatter_tables(runs, "resnet56", "weights"),
    "H1b": lambda runs: correlation_tables(runs, THREE, "weights"),
}


@pytest.fixture(scope="module")
def runs(embedded_recordings: Path) -> Runs:
    return load(embedded_recordings)


@pytest.mark.parametrize("figure", FIGURES)
def test_numbers_beside_a_figure_are_those_of_the_files(
    figure: str, runs: Runs, embedded_recordings: Path, tmp_path: Path
) -> None:
    stem = f"figure{figure:0>2}" if figure.isdigit() else f"figure{figure}"
    save_figure(figure, runs, tmp_path, formats=())
    expected = {
        f"{stem}{end}.csv": table
        for end, table in FIGURES[figure](recorded(embedded_recordings)).items()
    }
    assert {path.name for path in tmp_path.glob("*.csv")} == set(expected)
    for name, table in expected.items():
        assert_same(pd.read_csv(tmp_path / name), table)


def test_curves_of_several_seeds_are_those_of_the_files(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "data" / "cifar-mini-pruned"
    save_figure("1", load(shipped), tmp_path, formats=())
    expected = FIGURES["1"](recorded(shipped))
    assert set(expected[""]["seeds"]) == {3}
    for end, table in expected.items():
        assert_same(pd.read_csv(tmp_path / f"figure01{end}.csv"), table)


def assert_same(written: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Assert equal rows and columns in order: float32 columns exactly, computed ones to 1e-9."""
    single = [name for name in SINGLE if name in expected]
    for name in single:
        np.testing.assert_array_equal(
            written[name].to_numpy("float32"), expected[name].to_numpy("float32"), err_msg=name
        )
    plain = pd.read_csv(io.StringIO(expected.to_csv(index=False)))
    pd.testing.assert_frame_equal(
        written.drop(columns=single),
        plain.drop(columns=single),
        check_dtype=False,
        rtol=1e-9,
        atol=1e-12,
    )
    assert list(written) == list(expected)
