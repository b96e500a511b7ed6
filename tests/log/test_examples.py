"""Example recordings: small, and the values of the shipped runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log.examples import EXAMPLES, FOLDER
from pruneviz.log.schema import TABLES
from pruneviz.log.thinning import thin

DATA = Path(__file__).parents[2] / "data"


def test_every_example_is_small_and_says_how_it_was_recorded() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(EXAMPLES)
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {file.suffix for file in files} == {".md", ".json", ".parquet"}
    assert sum(file.stat().st_size for file in files) < 400_000
    for name in EXAMPLES:
        spec = pv.load_example(name).spec
        assert spec["command"].str.startswith("pruneviz record").all()
        assert set(spec["dataset"]) == {"cifar100"}


def test_an_example_is_what_thin_makes_of_the_shipped_runs(tmp_path: Path) -> None:
    example = pv.load_example("cifar-mini")
    assert list(example.spec["network"]) == ["resnet56", "vgg13"]
    epochs = sorted(set(example.filters["epoch"]))
    columns = [name for name in example.recorded() if name not in ("run", "epoch", "layer")]
    for run in example.spec["run"]:
        thin(DATA / "cifar-mini" / run, tmp_path, epochs, columns)
    again = pv.load(tmp_path)
    old = "schema_version"  # an example of an older schema loads as well
    pd.testing.assert_frame_equal(again.spec.drop(columns=old), example.spec.drop(columns=old))
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(again, table), getattr(example, table))


def test_an_unknown_example_is_told_with_those_that_there_are() -> None:
    with pytest.raises(LogError, match=r"no example 'cifar'; did you mean 'cifar-mini'\?"):
        pv.load_example("cifar")
    with pytest.raises(LogError, match=r"choose one of cifar-mini; .* with pruneviz\.load$"):
        pv.load_example("imagenet")
