"""The registry of picture kinds."""

from __future__ import annotations

from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.pictures import COMPANIONS, PICTURES
from pruneviz.log.schema import EPOCHS, FILTERS, ROUNDS

TABLES = {
    "accuracy_curve": EPOCHS,
    "layer_ratios": ROUNDS,
    "scatter": FILTERS,
    "correlation_curve": FILTERS,
}


def test_every_picture_names_columns_and_options_that_exist() -> None:
    assert {entry.kind for entry in FIGURES.values()} == set(PICTURES)
    assert set(COMPANIONS) <= set(PICTURES)
    for kind, picture in PICTURES.items():
        assert set(picture.NEEDS) <= set(TABLES[kind]), kind
        assert all(hasattr(DrawOptions(), name) for name in picture.OPTIONS), kind
