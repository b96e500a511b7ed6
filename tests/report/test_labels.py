from __future__ import annotations

import pytest

from pruneviz.log.filter_columns import FILTERS, ON_REQUEST
from pruneviz.plot.row_kind import FILTER
from pruneviz.report.labels import described, plain_symbol


@pytest.mark.parametrize(
    ("column", "symbol"),
    [
        ("theta_g", "θᵀg"),
        ("theta_hg", "θᵀHg"),
        ("theta_hg_t50", "θᵀHg\N{NO-BREAK SPACE}(T=50)"),
        ("theta_norm2", "‖θ‖²"),
        ("theta2_abs_g", "Σθ²|g|"),
        ("theta_g_se", "SE(θᵀg)"),
        ("sigma_delta", "Δσ"),
    ],
)
def test_symbols_are_written_without_tex(column: str, symbol: str) -> None:
    assert described(column, FILTER)["symbol"] == symbol


def test_every_column_has_a_symbol_without_tex_or_keeps_its_name() -> None:
    for name, column in {**FILTERS, **ON_REQUEST}.items():
        symbol = described(name, FILTER)["symbol"]
        assert symbol and not set(symbol) & set("\\{}$^"), name
        assert symbol == name or "_" not in symbol
        assert bool(column.symbol) == (symbol != name) or plain_symbol(column.symbol) == ""


def test_measures_have_their_title_and_unit() -> None:
    assert described("magnitude", FILTER)["symbol"] == "Magnitude"
    assert described("magnitude", FILTER)["unit"] == "weight"
    assert described("bn_scale", FILTER)["symbol"] == "bn_scale"
