"""Which columns are on request, by row kind, and the errors that errors="full" adds."""

from __future__ import annotations

from pruneviz.log.on_request import OnRequest
from pruneviz.log.request_columns import FULL_ERRORS, drawn_columns, full_errors, request_columns
from pruneviz.log.schema import FILTERS, ON_REQUEST


def test_the_error_of_theta_g_is_on_request_only_where_it_needs_half_samples() -> None:
    assert "theta_g_se" not in request_columns("filter")
    assert "theta_g_se" in request_columns("weight") and "theta_g_se" in request_columns("head")
    assert {*request_columns("weight")} <= {*FILTERS, *ON_REQUEST}


def test_full_errors_are_those_of_the_columns_that_are_measured() -> None:
    assert full_errors(["theta_g", "g_norm2"]) == ["theta_g_se"]
    assert full_errors(["theta_hg", "theta_hg_t200"]) == ["theta_hg_se"]
    assert full_errors(["theta_g", "abs_theta_g", "theta_hg"]) == list(FULL_ERRORS)


def test_filters_draw_all_errors_but_that_of_theta_g() -> None:
    assert drawn_columns([*FULL_ERRORS, "theta_g"], "filter") == ["abs_theta_g_se", "theta_hg_se"]
    assert drawn_columns(["theta_g_se"], "weight") == ["theta_g_se"]


def test_commands_ask_for_full_errors_by_their_names() -> None:
    of_filter, of_weight = (
        OnRequest(FULL_ERRORS).of_unit(unit)["columns"] for unit in ("filter", "weight")
    )
    assert {*FULL_ERRORS} <= {*of_filter} and {*FULL_ERRORS} <= {*of_weight}
    assert len(of_filter) == len({*of_filter})
