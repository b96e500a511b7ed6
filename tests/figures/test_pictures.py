"""The registry of picture kinds."""

from __future__ import annotations

import pytest

from pruneviz.figures.catalogue import FIGURES, Entry
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.pictures import PICTURES
from pruneviz.log.schema import EPOCHS, FILTERS, ROUNDS

DEFAULT = DrawOptions()


@pytest.mark.parametrize("entry", FIGURES.values(), ids=FIGURES)
def test_every_picture_names_columns_that_are_recorded(entry: Entry) -> None:
    picture = PICTURES[entry.kind]
    columns = {"accuracy_curve": EPOCHS, "layer_ratios": ROUNDS}.get(entry.kind, FILTERS)
    assert set(picture.NEEDS) <= set(columns)
    assert all(hasattr(DEFAULT, name) for name in picture.OPTIONS)
