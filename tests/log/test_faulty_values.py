"""Values that no table can hold are named, by file and column."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from pruneviz.log import schema
from pruneviz.log.faulty_values import ImpossibleValues

INF, NAN = float("inf"), float("nan")
WRONG: list[tuple[str, str, list[Any], str]] = [
    ("epochs", "test_acc", [0.5, 97.5], "holds 97.5 in test_acc, expected numbers 0 to 1"),
    ("epochs", "test_acc", [-0.1], "holds -0.1 in test_acc, expected numbers 0 to 1"),
    ("epochs", "train_loss", [1.0, INF], "holds inf in train_loss, expected finite numbers"),
    ("filters", "theta_norm2", [1.0, -1.0], "holds -1 in theta_norm2, expected numbers from 0"),
    ("filters", "theta_g", [-INF], "holds -inf in theta_g, expected finite numbers"),
    ("filters", "filter", [-1], "holds -1 in filter, expected numbers from 0"),
    ("filters", "kept", [None, True], "has 1 rows without a value of kept"),
    ("filters", "layer", [None], "has 1 rows without a value of layer"),
    ("rounds", "layer_index", [None], "has 1 rows without a value of layer_index"),
    ("rounds", "kept", [-5], "holds -5 in kept, expected numbers from 0"),
    ("rounds", "kept", [7], "says that 7 of 4 filters of a are kept"),
    ("rounds", "layer_index", [0, 1], "has two numbers of a in the network, 0 and 1"),
    ("correlations", "r", [17.0], "holds 17 in r, expected numbers -1 to 1"),
]
RIGHT: list[tuple[str, str, list[Any]]] = [
    ("epochs", "test_acc", [0.0, 1.0, None, NAN]),
    ("epochs", "train_loss", [-3.0, None]),
    ("filters", "theta_g", [-1.0, NAN, None]),
    ("filters", "weight", [None, 3]),
    ("rounds", "kept", [0, 4]),
    ("correlations", "r", [-1.0, 1.0 + 1e-9, None]),
]
ROW = {"run": "r", "epoch": 0, "layer": "a", "filter": 0, "kept": True}
ROWS: dict[str, dict[str, Any]] = {
    "epochs": {"run": "r", "epoch": 0},
    "filters": ROW,
    "rounds": {**ROW, "round": 1, "layer_index": 0, "filters": 4, "kept": 3},
    "correlations": {"run": "r", "epoch": 0, "x": "a", "y": "b", "method": "pearson"},
}


def told(table: str, column: str, values: list[Any]) -> list[str]:
    rows = {name: [value] * len(values) for name, value in ROWS[table].items()}
    rows[column] = values
    described = schema.TABLES[table]
    found = ImpossibleValues(table)
    for place in range(len(values)):  # block by block
        block = {
            name: pa.array(held[place : place + 1], described[name].dtype)
            for name, held in rows.items()
            if name in described
        }
        found.look(pa.RecordBatch.from_pydict(block))
    return found.told()


@pytest.mark.parametrize(("table", "column", "values", "said"), WRONG)
def test_impossible_values_are_named(table: str, column: str, values: list[Any], said: str) -> None:
    (fault,) = told(table, column, values)
    assert fault.startswith(said)


@pytest.mark.parametrize(("table", "column", "values"), RIGHT)
def test_possible_ones_are_no_fault(table: str, column: str, values: list[Any]) -> None:
    assert told(table, column, values) == []
