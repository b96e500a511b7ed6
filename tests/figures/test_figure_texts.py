"""The texts of a figure agree with one another."""

from __future__ import annotations

from pruneviz.figures.draw import compose
from tests.support.synthetic_runs import SMALL, make_runs


def test_title_alt_text_and_details_agree() -> None:
    composed = compose("2", make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,)))
    assert composed.details["title"] == composed.alt.title == composed.words.title
    assert composed.details["alt"] == composed.alt.text
    assert composed.alt.text.startswith(composed.details["description"])
    assert composed.details["missing"] == composed.words.absent
    assert composed.words.absent.startswith("Not recorded, so not drawn: MobileNet-V1 and ResNet")
    assert composed.details["options"]["drawing"]["mask_score"] == "bn_scale"
    assert composed.long_caption.startswith(f"{composed.alt.title[:60]}")
