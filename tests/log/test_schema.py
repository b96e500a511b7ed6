"""Descriptions of the tables: names, types, units and groups of columns."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.vocabulary import CNN_ROW_KINDS

EVERY_COLUMN = [
    (table, name, column)
    for table, columns in [*schema.TABLES.items(), ("filters", schema.ON_REQUEST)]
    for name, column in columns.items()
]


def test_every_column_says_what_it_holds() -> None:
    for table, name, column in EVERY_COLUMN:
        what = f"{name} of {table}"
        assert column.meaning, what
        is_number = pa.types.is_floating(column.dtype)
        assert column.unit or not is_number, f"{what}: a number has a unit, or the unit 1"
        if not column.unit.strip("epochs"):
            continue
        double = name in ("synflow", "bn_taylor") or table not in ("filters", "rounds")
        assert column.dtype == (pa.float64() if double else pa.float32()), what


GROUPS = {
    "keys": schema.FILTER_KEYS,
    "measured": schema.MEASURED_COLUMNS,
    "rest": ("weight", "kept", "sigma_delta", "theta_delta"),
}
GROUPS |= {
    f"{group} of a {kind}": of[kind]
    for kind in CNN_ROW_KINDS
    for group, of in [("cheap", schema.CHEAP_OF_UNIT), ("measured", schema.MEASURED_OF_UNIT)]
}


def test_the_groups_of_columns_are_columns() -> None:
    unknown = {
        group: set(names) - {*schema.FILTERS, *schema.ON_REQUEST} for group, names in GROUPS.items()
    }
    assert not any(unknown.values()), unknown


TEMPERATURES = [
    (200.0, "200"),
    (200, "200"),
    (0.5, "0p5"),
    (1e6, "1000000"),
    (1e-5, "0p00001"),
    (1e16, "10000000000000000"),
]
TEMPERATURES += [(200.0001, "200p0001"), (200.0002, "200p0002")]


def test_a_temperature_names_its_own_column_and_back() -> None:
    for temperature, suffix in TEMPERATURES:
        name = schema.temperature_column(temperature)
        assert name == f"theta_hg_t{suffix}"
        described = schema.filter_column(name)
        assert described.dtype == pa.float32(), name
        assert described.unit == schema.FILTERS["theta_hg"].unit, name
        assert float(suffix.replace("p", ".")) == temperature


def test_an_unknown_filters_column_is_an_error_that_lists_those_that_exist() -> None:
    for name in ("theta_h", "theta_hg_t", "theta_hg_tx", "theta_hg_t5p", ""):
        with pytest.raises(LogError, match=rf"no column '{name}'.*theta_norm2"):
            schema.filter_column(name)


OF_FILTERS = (*schema.STANDARD_ERRORS, "delta_loss", "bn_taylor", "fpgm")


def test_a_single_weight_has_its_value_and_only_errors_of_half_samples() -> None:
    weight, of_filter = (set(schema.MEASURED_OF_UNIT[unit]) for unit in ("weight", "filter"))
    assert weight ^ of_filter == {"theta", *OF_FILTERS} - {"theta_g_se"}


def test_an_arrow_schema_has_every_column_in_order_and_further_temperatures_last() -> None:
    assert schema.arrow_schema("filters", ["theta_hg_t50", "epoch"]).names == [
        *schema.FILTERS,
        "theta_hg_t50",
    ]
    assert schema.arrow_schema("epochs", []).names == list(schema.EPOCHS)


def test_only_filters_have_columns_of_further_temperatures() -> None:
    for table in ("rounds", "correlations"):
        said = rf"table {table} has no column theta_hg_t50; it has run"
        with pytest.raises(LogError, match=said):
            schema.arrow_schema(table, ["run", "theta_hg_t50"])


def test_check_columns_names_what_is_missing_what_is_there_and_the_repair() -> None:
    frame = pd.DataFrame({"run": ["a"], "epoch": [0]})
    schema.check_columns(frame, ["run", "epoch"], "the table", "-")
    with pytest.raises(
        LogError, match=r"the table has no column sigma; it has \[run, epoch\]; record it"
    ):
        schema.check_columns(frame, ["run", "sigma"], "the table", "record it")
