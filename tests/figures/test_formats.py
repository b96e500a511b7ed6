"""Formats are checked without loading what draws."""

from __future__ import annotations

import pytest

from pruneviz.errors import FigureError
from pruneviz.figures.formats import FORMATS, check_format


def test_known_formats_pass_and_others_are_refused_with_the_known() -> None:
    assert [check_format(name) for name in FORMATS] == ["pdf", "png", "svg"]
    with pytest.raises(FigureError, match=r"format 'gif' is unknown.*pdf, png, svg"):
        check_format("gif")
