"""Which columns are measured on request only, and which are standard errors of half samples."""

from __future__ import annotations

from collections.abc import Sequence

from pruneviz.log.schema import REQUEST_COLUMNS

# Standard errors of `errors="full"`. Those of theta_g of filters come from single examples, all
# others from random half samples (`pruneviz.measuring.drawn_errors`).
FULL_ERRORS = ("theta_g_se", "abs_theta_g_se", "theta_hg_se")
DRAWS = 8  # half samples; an error from them has 8 degrees of freedom at most


def request_columns(unit: str) -> tuple[str, ...]:
    """Columns that are measured on request only, of rows of a kind."""
    return REQUEST_COLUMNS if unit == "filter" else (*REQUEST_COLUMNS, "theta_g_se")


def full_errors(columns: Sequence[str]) -> list[str]:
    """The standard errors of those columns that have any."""
    return [name for name in FULL_ERRORS if name.removesuffix("_se") in columns]


def drawn_columns(columns: Sequence[str], unit: str) -> list[str]:
    """Those of some columns, of rows of a kind, that come from random half samples."""
    return [name for name in FULL_ERRORS if name in columns and name in request_columns(unit)]
