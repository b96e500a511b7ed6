"""Columns on request, as commands pass them on: options of a recorder and facts of its spec."""

from __future__ import annotations

from typing import Any

import pytest

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.on_request import OnRequest

DEFAULT = tuple(c for c in schema.MEASURED_COLUMNS if c not in schema.REQUEST_COLUMNS)


def test_nothing_asked_for_changes_no_option() -> None:
    assert OnRequest().of_unit("filter") == OnRequest().facts("filter") == {}


def test_columns_come_besides_the_default_ones() -> None:
    asked = OnRequest(("synflow",), 20, (0, 4))
    columns = (*DEFAULT, "synflow")
    assert asked.of_unit("filter") == {"columns": columns, "oracle": 20, "request_at": (0, 4)}
    assert asked.facts("filter") == {
        "columns": (*columns, "delta_loss"),
        "oracle": 20,
        "request_at": "0 4",
    }


def test_changes_between_epochs_can_be_asked_for() -> None:
    asked = OnRequest(("update_size",))
    assert asked.of_unit("weight")["columns"][-1] == asked.of_unit("filter")["columns"][-1]
    assert asked.facts("filter") == {"columns": (*DEFAULT, "update_size")}


def test_single_weights_are_never_removed() -> None:
    assert OnRequest((), 20).of_unit("weight") == {}
    columns = OnRequest(("synflow", "delta_loss")).of_unit("weight")["columns"]
    assert "synflow" in columns and "delta_loss" not in columns


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"columns": ("synflo",)}, r"no column on request 'synflo'; did you mean 'synflow'"),
        ({"columns": ("theta_g",)}, r"all other columns are measured anyway"),
        ({"request_at": (0, 1)}, r"there are none; add some, such as --oracle 200"),
    ],
)
def test_what_cannot_be_is_refused(given: Any, message: str) -> None:
    with pytest.raises(LogError, match=message):
        OnRequest(**given)
