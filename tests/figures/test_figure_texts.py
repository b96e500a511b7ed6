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


def test_the_caption_names_the_figure_that_is_the_same_by_definition() -> None:
    runs = make_runs({name: SMALL[name] for name in ("vgg13", "resnet56")}, (0,))
    for figure, other in (("3", "15"), ("15", "3")):
        said = compose(figure, runs).caption
        assert f"The same as Figure {other} by definition." in said
    assert "by definition" not in compose("13", runs).caption
    assert "by definition" not in compose("3", runs, networks=["vgg13"]).caption
