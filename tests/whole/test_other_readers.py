"""The log as other programs read it: their numbers are pruneviz's, and the columns as described."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pruneviz as pv
from pruneviz.log import schema

pytest.importorskip("duckdb")
pytest.importorskip("polars")

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TYPES = {
    pa.int32(): "int32",
    pa.int64(): "int64",
    pa.float32(): "float32",
    pa.float64(): "float64",
    pa.bool_(): "bool",
}
KEYS = {
    "epochs": ["run", "epoch"],
    "filters": ["run", "epoch", "layer", "filter", "weight"],
    "rounds": ["run", "round", "layer"],
    "correlations": ["run", "epoch", "x", "y", "method"],
    "halves": ["run", "epoch", "half", "layer", "filter", "weight"],
    "flow": ["run", "epoch", "layer", "filter"],
}


# Examples


@pytest.fixture(scope="module")
def examples() -> dict[str, Any]:
    """What the examples of the page compute, on the shipped recordings."""
    page = (ROOT / "docs" / "howto" / "tables.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for code in FENCE.findall(page):
        exec(compile(code.replace("data/", f"{ROOT}/data/"), "tables.md", "exec"), names)
    return names


@pytest.fixture(scope="module")
def runs() -> pv.Runs:
    return pv.load(ROOT / "data" / "cifar-mini")


def alike(found: pd.DataFrame, expected: pd.DataFrame, by: list[str], name: str = "r") -> None:
    """Check that both have the same rows, and equal numbers, or none, in a column."""
    tables = [
        table.astype({"run": "str"} if "run" in by else {}).set_index(by)[name].sort_index()
        for table in (found, expected)
    ]
    pd.testing.assert_series_equal(
        tables[0].astype("float64"), tables[1].astype("float64"), check_index_type=False
    )
    assert len(tables[0]) and tables[0].notna().any()


def test_correlations_of_duckdb_are_those_of_pruneviz(
    examples: dict[str, Any], runs: pv.Runs
) -> None:
    expected = pv.correlate(runs, "theta_g", "theta_hg", method="spearman", interval=None)
    alike(examples["spearman"], expected, ["run", "epoch"])
    alike(examples["spearman"], expected, ["run", "epoch"], "n")
    kept = runs.filters[runs.filters["kept"] & runs.filters["weight"].isna()]
    each = pv.correlate(kept, "theta_g", "theta_hg", interval=None)
    expected = pv.over_seeds(each, runs, by=["network", "epoch"])
    found = examples["over_seeds"].rename(columns={"mean": "r"})
    alike(found, expected, ["network", "epoch"])
    alike(found, expected, ["network", "epoch"], "sd")


def test_correlations_of_polars_are_those_of_pruneviz(
    examples: dict[str, Any], runs: pv.Runs
) -> None:
    by = ["run", "epoch", "layer"]
    found = examples["by_layer"].to_pandas()
    several = found[found["filters"] > 2].rename(columns={"rho": "r"})
    kept = runs.filters[runs.filters["kept"]]
    expected = pv.correlate(kept, "theta_g", "theta_hg", by, "spearman", interval=None)
    alike(several, expected[expected["n"] > 2], by)


def test_masks_of_both_are_those_of_pruneviz(examples: dict[str, Any], runs: pv.Runs) -> None:
    of_filters = runs.select(unit="filter")
    expected = pv.mask_distance(of_filters, "bn_scale", ratio=0.2)
    by = ["run", "epoch", "ref_epoch"]
    alike(examples["distances"], expected, by, "distance")
    alike(examples["same_distances"].to_pandas(), expected, by, "distance")


def test_joined_tables_are_those_of_pruneviz(examples: dict[str, Any], runs: pv.Runs) -> None:
    found = examples["beside"]
    kept = runs.filters[runs.filters["kept"] & runs.filters["weight"].isna()]
    sums = kept[kept["theta_g"].notna()].astype({"abs_theta_g": "float64"})
    sums = sums.groupby(["run", "epoch"], observed=True)["abs_theta_g"].sum().reset_index()
    alike(found, sums, ["run", "epoch"], "abs_theta_g")
    assert len(found) < len(runs.epochs)
    both = found.merge(runs.epochs.astype({"run": "str"}), on=["run", "epoch"])
    assert len(both) == len(found) and (both["test_acc_x"] == both["test_acc_y"]).all()
    best = examples["best"].to_pandas().astype({"run": "str"})
    expected = runs.epochs.astype({"run": "str"}).groupby("run")["test_acc"].max()
    assert best.set_index("run")["test_acc"].to_dict() == expected.to_dict()


# Columns


def described() -> Iterator[tuple[str, str, str, str, str]]:
    """Table, column, type, unit and nulls of every line of the page."""
    page = (ROOT / "docs" / "reference" / "columns.md").read_text(encoding="utf-8")
    table = ""
    for line in page.splitlines():
        heading = re.fullmatch(r"### `(\w+)\.parquet`", line)
        table = heading[1] if heading else table
        row = re.match(r"\| `(\w+)`(?: \\\*)? \| (\w+) \| ([^|]*) \| ([^|]+) \| ", line)
        if row and table:
            yield table, row[1], row[2], row[3].strip(), row[4].strip()


def test_the_page_of_columns_is_the_schema() -> None:
    columns = {**schema.TABLES, "filters": {**schema.FILTERS, **schema.ON_REQUEST}}
    expected = [
        (table, name, TYPES.get(column.dtype, "text"), column.unit)
        for table, described_columns in columns.items()
        for name, column in described_columns.items()
    ]
    assert [row[:4] for row in described()] == expected


def test_shipped_recordings_keep_to_the_page() -> None:
    never = {(table, name) for table, name, _, _, nulls in described() if nulls == "never"}
    assert len(never) > 20
    wrong = []
    for file in sorted((ROOT / "data").glob("*/*/*.parquet"))[::5]:  # four tables a run, so all
        table = file.stem
        held = [name for name in pq.read_schema(file).names if (table, name) in never]
        rows = pq.read_table(file, columns=held)
        wrong += [f"{file}: {name} has nulls" for name in held if rows[name].null_count]
        keys = pq.read_table(file, columns=KEYS[table])
        if keys.group_by(KEYS[table]).aggregate([]).num_rows != len(keys):
            wrong.append(f"{file}: rows with the same keys")
        if len(keys) and rows["run"].unique().to_pylist() != [file.parent.name]:
            wrong.append(f"{file}: run is not {file.parent.name}")
        order = keys.column("round" if table == "rounds" else "epoch").to_numpy()
        if (order[1:] < order[:-1]).any():
            wrong.append(f"{file}: not sorted")
    assert not wrong, "\n".join(wrong[:20])
