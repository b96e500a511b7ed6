"""Colours stay apart in grey, and the style leaves rcParams as they were."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pruneviz.plans.needs import CURVE_MEASURES, RATIO_MEASURES
from pruneviz.plot import style
from tests.support.colour_blind import difference

GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue in the lightness


def grey(colour: str) -> float:
    return float(np.dot(matplotlib.colors.to_rgb(colour), GREY))


@pytest.mark.parametrize(
    "colours",
    [
        (style.LEFT_COLOUR, style.RIGHT_COLOUR, style.GUIDE_COLOUR),
        tuple(style.MEASURE_COLOURS[measure] for measure in CURVE_MEASURES),
    ],
    ids=["axes", "accuracy curves"],
)
def test_colours_stay_apart_in_grey(colours: tuple[str, ...]) -> None:
    assert min(np.diff(sorted(map(grey, colours)))) > 0.12


def test_measures_differ_by_colour_or_hatch_and_by_marker() -> None:
    looks = {
        (style.MEASURE_COLOURS[measure], style.MEASURE_HATCHES[measure])
        for measure in RATIO_MEASURES
    }
    markers = {style.MEASURE_MARKERS[measure] for measure in RATIO_MEASURES}
    assert len(looks) == len(markers) == len(RATIO_MEASURES)


def test_deeper_layers_are_lighter() -> None:
    lightness = style.depth_colours()(np.linspace(0, 1, 20))[:, :3] @ GREY
    assert (np.diff(lightness) > 0).all()


def test_the_style_is_left_behind() -> None:
    before = dict(matplotlib.rcParams)
    with style.paper():
        assert matplotlib.rcParams["font.size"] == 8
    assert dict(matplotlib.rcParams) == before


# Names that the style does not know

MANY = [f"layers.{number}.conv" for number in range(60)]


def test_the_measures_of_the_paper_keep_their_looks_beside_any_other() -> None:
    alone = style.styles_of(RATIO_MEASURES)
    beside = style.styles_of([*MANY, *RATIO_MEASURES])
    for measure in RATIO_MEASURES:
        assert alone[measure] == beside[measure]
        assert alone[measure].colour == style.MEASURE_COLOURS[measure]
        assert alone[measure].hatch == style.MEASURE_HATCHES[measure]


def test_a_name_looks_the_same_alone_in_every_picture() -> None:
    look = style.styles_of(["mine"])["mine"]
    assert [look.colour, look.marker] == ["#7A2BE0", "<"]
    assert style.styles_of([7])["7"] == style.styles_of(["7"])["7"]


def test_the_looks_of_names_do_not_depend_on_their_order() -> None:
    assert style.styles_of(MANY) == style.styles_of(MANY[::-1])
    assert list(style.styles_of(MANY[::-1])) == MANY[::-1]


@pytest.mark.parametrize("names", [MANY, [*RATIO_MEASURES, *MANY]], ids=["others", "with paper's"])
@pytest.mark.parametrize("part", ["marker", "hatch", "line"])
def test_no_two_of_sixty_names_look_alike(names: list[str], part: str) -> None:
    looks = [(look.colour, getattr(look, part)) for look in style.styles_of(names).values()]
    assert len(set(looks)) == len(names)


def test_thirteen_names_differ_in_colour_for_all_who_see_colours_differently() -> None:
    colours = [look.colour for look in style.styles_of(MANY[:13]).values()]
    assert set(style.MEASURE_COLOURS.values()) < set(colours)
    assert min(difference(*pair) for pair in itertools.combinations(colours, 2)) > 18


def test_thin_lines_of_other_names_stand_out_from_paper() -> None:
    others = {look.colour for look in style.styles_of(MANY[:13]).values()}
    for colour in others - set(style.MEASURE_COLOURS.values()):
        linear = [
            part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
            for part in matplotlib.colors.to_rgb(colour)
        ]
        # contrast with white as WCAG 2.1 defines it; 3 is its least for graphics
        assert 1.05 / (0.05 + np.dot(linear, (0.2126, 0.7152, 0.0722))) >= 3, colour


@pytest.mark.parametrize("start", range(0, 60, 4))
def test_the_first_names_differ_in_grey(start: int) -> None:
    colours = [look.colour for look in style.styles_of(MANY[start : start + 4]).values()]
    assert min(np.diff(sorted(map(grey, colours)))) >= 0.099


def test_settings_of_a_measure_keep_its_colour() -> None:
    looks = style.variants_of("loss_preservation", 7)
    assert looks[0] == style.styles_of(["loss_preservation"])["loss_preservation"]
    assert {look.colour for look in looks} == {style.MEASURE_COLOURS["loss_preservation"]}
    assert len({(look.marker, look.hatch, str(look.line)) for look in looks}) == 7
    assert len({str(look.line) for look in looks}) == 7


def test_curves_of_the_paper_are_seen_in_grey_on_shaded_rounds() -> None:
    shade = 0.93
    for measure in ("magnitude", "proposed", "loss_preservation"):
        line = style.MEASURE_LINES[measure]
        dashes = (1, 0) if isinstance(line, str) else line[1]
        drawn = sum(dashes[::2]) / sum(dashes)
        weights = (0.299, 0.587, 0.114)
        grey = sum(
            w * c for w, c in zip(weights, to_rgb(style.MEASURE_COLOURS[measure]), strict=True)
        )
        assert style.line_width(line) * drawn * (shade - grey) > 0.2, measure
