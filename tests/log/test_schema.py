"""The tables' descriptions and the frozen facts of a run: names, dtypes, units, what a spec refuses, and its file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.run_directory import RunLog
from pruneviz.log.runs import load
from pruneviz.log.schema import RunSpec
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


def test_a_spec_survives_json_whole() -> None:
    spec = RunSpec(
        run="vgg13-digits-s0",
        seed=3,
        temperatures=(1.0, 5.0),
        lr_drops=(80, 120),
        versions={"torch": "2.11"},
        extra={"note": "mine"},
    )
    assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_is_frozen_and_flat() -> None:
    spec = RunSpec.from_dict({"run": "a", "optimiser": "adam"})
    assert spec.extra == {"optimiser": "adam"}
    assert spec.to_dict()["optimiser"] == "adam"
    assert "extra" not in spec.to_dict()
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.seed = 1  # type: ignore[misc]


REFUSED = {
    "run": ["", "a/b", "../a", "a b", ".hidden"],
    "bn": ["train"],
    "unit": ["channel"],
    "target": [1.0, -0.1],
    "rounds": [-1],
    "lag": [0, 1.5, "1"],
    "mask_ratio": [0, 1],
    "temperatures": [(), (1.0, 0.0), (math.inf,), (math.nan,)],
    "extra": [{"seed": 1}, {"sealed": True}],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in REFUSED.items() for value in values],
    ids=str,
)
def test_a_spec_refuses_what_cannot_be_and_names_the_field(field: str, value: object) -> None:
    with pytest.raises(LogError, match=rf"run spec: {field} is .*, expected "):
        RunSpec.from_dict({"run": "a", field: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("nan")]], ids=str)
def test_a_fact_that_json_cannot_hold_is_refused_before_anything_is_made(
    tmp_path: Path, value: object
) -> None:
    with pytest.raises(LogError, match=r"cannot be stored in spec.json .*give finite numbers"):
        RunLog.create(tmp_path / "r", RunSpec("r", extra={"weird": value}))
    assert not (tmp_path / "r").exists()


def test_facts_from_numpy_stay_numbers_and_resume(tmp_path: Path) -> None:
    spec = RunSpec(
        "r", seed=np.int64(3), lr=np.float32(0.1), extra={"folder": Path("a"), "hits": np.int32(2)}
    )  # type: ignore[arg-type]
    log = RunLog.create(tmp_path / "r", spec)
    stored = json.loads((log.path / "spec.json").read_text())
    assert (stored["seed"], stored["hits"], stored["folder"]) == (3, 2, "a")
    assert RunLog.resume(log.path, spec).spec.seed == 3


SPEC_FILES = {
    "empty": (b"", "is corrupt"),
    "half": (b'{"run": "run", "sch', "is corrupt"),
    "binary": (bytes(range(256)), "is corrupt"),
    "a list": (b"[1, 2]", "is corrupt"),
    "no version": (b'{"run": "run", "sealed": true}', "is corrupt"),
    "null version": (b'{"run": "run", "schema_version": null, "sealed": true}', "is corrupt"),
    "no run": (b'{"schema_version": 1, "sealed": true}', "is corrupt"),
    "a number for a run": (b'{"run": 5, "schema_version": 1, "sealed": true}', "is corrupt"),
    "bad mode": (
        b'{"run": "run", "bn": "no", "schema_version": 1, "sealed": true}',
        r"is corrupt .*bn is 'no'",
    ),
    "newer": (
        b'{"run": "run", "schema_version": 99, "sealed": true}',
        r"has schema 99, .*install a newer pruneviz",
    ),
}


@pytest.mark.parametrize(("content", "said"), SPEC_FILES.values(), ids=list(SPEC_FILES))
def test_a_corrupt_or_newer_spec_is_an_error_that_names_the_file(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "spec.json").write_bytes(content)
    with pytest.raises(LogError, match=rf"spec.json {said}"):
        load(tmp_path)


OTHER_OPTIONS = [
    ("seed", 0, 1),
    ("bn", "eval", "batch"),
    ("temperatures", (1.0,), (5.0,)),
    ("every", "1", "2"),
]


@pytest.mark.parametrize(("field", "before", "now"), OTHER_OPTIONS)
def test_a_run_resumes_only_with_the_options_it_was_started_with(
    tmp_path: Path, field: str, before: object, now: object
) -> None:
    log = RunLog.create(tmp_path / "r", RunSpec.from_dict({"run": "r", field: before}))
    with pytest.raises(
        LogError,
        match=r"started with other options: " + field + r" was .*, now .*; use the old ones",
    ):
        RunLog.resume(log.path, RunSpec.from_dict({"run": "r", field: now}))
    assert RunLog.resume(log.path, log.spec).path == log.path
