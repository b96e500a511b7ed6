"""Drawing options are checked on construction and fill in what depends on the kind of runs."""

from __future__ import annotations

import pytest

from pruneviz.errors import FigureError
from pruneviz.figures.options import DrawOptions


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "cosine"},
        {"loss_preservation": "sum"},
        {"mask_score": "size"},
        {"mask_ratio": 0.0},
        {"mask_ratio": 1.0},
        {"scale": "log"},
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed(wrong: dict[str, object]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(FigureError, match=rf"{name} is {value!r}, expected"):
        DrawOptions(**wrong)  # type: ignore[arg-type]


def test_masks_are_those_of_the_kind_of_runs_unless_named() -> None:
    assert DrawOptions().for_unit("filter").mask_score == "bn_scale"
    assert DrawOptions().for_unit("weight").mask_score == "magnitude"
    assert DrawOptions(mask_score="l1_norm").for_unit("weight").mask_score == "l1_norm"
