"""The tables' descriptions and the frozen facts of a run: names, dtypes, units, what a spec refuses, and its file."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.vocabulary import ROW_KINDS

EVERY_COLUMN = [
    (table, name, column)
    for table, columns in schema.TABLES.items()
    for name, column in columns.items()
]


@pytest.mark.parametrize(
    ("table", "name", "column"),
    EVERY_COLUMN,
    ids=[f"{table}-{name}" for table, name, _ in EVERY_COLUMN],
)
def test_every_column_says_what_it_holds(table: str, name: str, column: schema.Column) -> None:
    assert column.meaning
    assert column.unit or not pa.types.is_floating(column.dtype), (
        "a measured number has a unit, or the unit 1"
    )
    assert column.dtype == (
        pa.float64() if name == "synflow" or table in ("epochs", "correlations") else pa.float32()
    ) or not column.unit.strip("epochs")


GROUPS = {
    "keys": schema.FILTER_KEYS,
    "measured": schema.MEASURED_COLUMNS,
    "rest": ("weight", "kept", "sigma_delta", "theta_delta"),
}
GROUPS |= {
    f"{kind} of a {unit}": of[unit]
    for unit in ROW_KINDS
    for kind, of in [("cheap", schema.CHEAP_OF_UNIT), ("measured", schema.MEASURED_OF_UNIT)]
}


@pytest.mark.parametrize("names", GROUPS.values(), ids=list(GROUPS))
def test_the_groups_of_columns_are_columns(names: tuple[str, ...]) -> None:
    assert set(names) <= set(schema.FILTERS)


TEMPERATURES = [
    (200.0, "200"),
    (200, "200"),
    (0.5, "0p5"),
    (1e6, "1000000"),
    (1e-5, "0p00001"),
    (1e16, "10000000000000000"),
]
TEMPERATURES += [(200.0001, "200p0001"), (200.0002, "200p0002")]


@pytest.mark.parametrize(("temperature", "suffix"), TEMPERATURES)
def test_a_temperature_names_its_own_column_and_back(temperature: float, suffix: str) -> None:
    name = schema.temperature_column(temperature)
    assert name == f"theta_hg_t{suffix}"
    described = schema.filter_column(name)
    assert described.dtype == pa.float32()
    assert described.unit == schema.FILTERS["theta_hg"].unit
    assert float(suffix.replace("p", ".")) == temperature


@pytest.mark.parametrize("name", ["theta_h", "theta_hg_t", "theta_hg_tx", "theta_hg_t5p", ""])
def test_an_unknown_filters_column_is_an_error_that_lists_those_that_exist(name: str) -> None:
    with pytest.raises(LogError, match=r"no column .*theta_norm2"):
        schema.filter_column(name)


def test_a_single_weight_has_its_value_and_no_standard_errors() -> None:
    weight, of_filter = (set(schema.MEASURED_OF_UNIT[unit]) for unit in ("weight", "filter"))
    assert weight ^ of_filter == {"theta", "theta_g_se", "theta_hg_se"}


def test_an_arrow_schema_has_every_column_in_order_and_further_temperatures_last() -> None:
    assert schema.arrow_schema("filters", ["theta_hg_t50", "epoch"]).names == [
        *schema.FILTERS,
        "theta_hg_t50",
    ]
    assert schema.arrow_schema("epochs", []).names == list(schema.EPOCHS)


@pytest.mark.parametrize("table", ["epochs", "rounds", "correlations"])
def test_only_filters_have_columns_of_further_temperatures(table: str) -> None:
    with pytest.raises(LogError, match=rf"table {table} has no column theta_hg_t50; it has run"):
        schema.arrow_schema(table, ["run", "theta_hg_t50"])


def test_check_columns_names_what_is_missing_what_is_there_and_the_repair() -> None:
    frame = pd.DataFrame({"run": ["a"], "epoch": [0]})
    schema.check_columns(frame, ["run", "epoch"], "the table", "-")
    with pytest.raises(
        LogError, match=r"the table has no column sigma; it has \[run, epoch\]; record it"
    ):
        schema.check_columns(frame, ["run", "sigma"], "the table", "record it")
