"""The page without a pointer, and by the rules of accessibility (axe-core), in every look."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from pruneviz.log.runs import Runs
from tests.support import page_twins as twin
from tests.support.browser import Shown, as_numbers

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = ("scatter", "layers", "over-epochs", "trajectories", "side-a", "side-b", "overlap")
EVAL = "resnet56-cifar100-unpruned-s0"


@pytest.fixture
def page(shown: Shown, shipped_page: Path) -> Shown:
    """The page of two shipped recordings, as it opens."""
    shown.open(shipped_page)
    shown.run(  # Tab begins at the start of the page
        "document.body.tabIndex = -1; document.body.focus();"
        "document.body.removeAttribute('tabindex'); scrollTo(0, 0)"
    )
    return shown


@pytest.fixture(scope="module")
def run(shipped: Runs) -> Runs:
    """The first run of the page."""
    return shipped.named(EVAL)


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    if not AXE.is_file():
        why = "axe-core is missing; `make setup` installs it where there is npm"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    return AXE.read_text(encoding="utf-8")


def violations(page: Shown, axe: str) -> list[str]:
    """What axe-core finds wrong: rule, what it asks for, and where."""
    page.run(f"if (!window.axe) {{ {axe} }}")
    found = page.run_async("axe.run(document, {resultTypes: ['violations', 'incomplete']})")
    told = [
        f"{rule['id']} ({rule['help']}): {node['html'][:120]} {node['failureSummary'][:300]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
    assert len(found["passes"]) > 20
    return told


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_rules_of_accessibility_are_kept(page: Shown, axe: str, theme: str, width: int) -> None:
    page.prefer(theme)
    page.resize(width, 900)
    page.choose("#choose", "x highest")  # legends, a caption with numbers, bars that are chosen
    details = "document.querySelectorAll('#trajectories details, #layers details')"
    page.run(f"{details}.forEach((each) => {{ each.open = true; }})")
    page.settle()
    found = violations(page, axe)
    page.run(f"{details}.forEach((each) => {{ each.open = false; }})")
    assert found == []


def test_they_are_kept_with_a_tooltip_and_an_empty_picture(page: Shown, axe: str) -> None:
    page.view(curve="masks", bars="correlation", b=EVAL)
    box = page.plot("layers")
    assert page.hover("layers", box.width / 2, box.height / 2)
    assert violations(page, axe) == []


def contrast(one: str, other: str) -> float:
    """Contrast of two colours by WCAG 2."""

    def lightness(colour: str) -> float:
        channels = [int(part) / 255 for part in colour.strip("rgba()").split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((lightness(one), lightness(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_drawn_stands_out(page: Shown, theme: str) -> None:
    page.prefer(theme)
    script = """
        const probe = document.createElement("i");
        document.body.append(probe);
        const named = (colour) => {
          probe.style.color = colour;
          return getComputedStyle(probe).color;
        };
        const found = Object.fromEntries(
          ["panel", "text", "soft", "line", "accent", "second", "pruned", "chosen"]
            .map((name) => [name, named(themed(name))]));
        found.ramp = Array.from({length: BINS}, (_, bin) => named(rampColour((bin + 0.5) / BINS)));
        probe.remove();
        return found;
    """
    found: dict[str, Any] = page.run(script)
    for name in ("text", "soft"):  # words on axes
        assert contrast(found[name], found["panel"]) >= 4.5, name
    for name in ("line", "accent", "second", "pruned", "chosen"):  # lines and marks
        assert contrast(found[name], found["panel"]) >= 3, name
    steps = [contrast(colour, "rgb(0, 0, 0)") for colour in found["ramp"]]
    assert steps == sorted(steps)  # told apart in grey
    assert steps[-1] / steps[0] > 4


def walk(page: Shown) -> list[dict[str, Any]]:
    """Every element that Tab reaches, from the start of the page to its end."""
    found: list[dict[str, Any]] = []
    for _ in range(200):
        page.press(Keys.TAB)
        here = page.focused()
        if here["tag"] == "body" or (found and here == found[0]):
            return found
        found.append(here)
    raise AssertionError("Tab never leaves the page")


def test_tab_reaches_everything_and_shows_where_it_is(page: Shown) -> None:
    found = walk(page)
    ids = [each["id"] for each in found]
    for name in (
        *("theme", "run", "play", "epoch", "layer", "x", "y", "colour", "scale", "choose"),
        *("bars", "measure", "ratio", "curve", "method", "run-a", "run-b", "x-b", "y-b"),
        *("measure-a", "measure-b", "ratio-overlap"),
        *(f"{picture}-plot" for picture in PICTURES),
    ):
        assert ids.count(name) == 1, name
    for picture in PICTURES:
        mine = [each for each in found if each["picture"] == picture]
        assert [e["tag"] for e in mine].count("summary") == 1, picture
        assert any(e["text"] == "Download CSV" for e in mine), picture
    assert found[0]["text"] == "To the pictures"
    for each in found:
        assert each["outline"] >= 2, each
    assert ids.index("epoch") < ids.index("scatter-plot") < ids.index("layers-plot")


def test_the_focus_is_in_the_window_and_not_below_the_bar(page: Shown) -> None:
    for _ in range(60):
        page.press(Keys.TAB)
        here = page.focused()
        if here["tag"] == "body":
            break
        bar = page.run(
            "const bar = document.getElementById('controls');"
            "return document.activeElement.closest('#controls') ? 0 : "
            "bar.getBoundingClientRect().bottom * (bar.getBoundingClientRect().top <= 0)"
        )
        assert here["bottom"] > bar + 8 and here["top"] < 900, here


def focus(page: Shown, name: str) -> None:
    """Go to an element by Tab alone."""
    for _ in range(120):
        if page.focused()["id"] == name:
            return
        page.press(Keys.TAB)
    raise AssertionError(f"Tab does not reach {name}")


def test_every_interaction_has_keys(page: Shown, run: Runs) -> None:
    # the skip link leads to the pictures
    page.press(Keys.TAB)
    assert page.focused()["text"] == "To the pictures" and page.focused()["left"] >= 0
    focus(page, "epoch")
    page.redraws(lambda: page.press(Keys.HOME))
    assert page.text("#epoch-shown") == "0 of 16"
    page.redraws(lambda: page.press(*[Keys.ARROW_RIGHT] * 3))
    page.wait(lambda: page.text("#epoch-shown") == "3 of 16")
    # lists
    focus(page, "x")
    page.redraws(lambda: page.press(*"abs"))
    page.wait(lambda: "against Σ|θg| of" in page.caption("scatter"))
    # the ten lowest, from a list, with arrow keys alone
    focus(page, "choose")
    for _ in range(3):
        page.redraws(lambda: page.press(Keys.ARROW_DOWN))
    assert page.text("#choose option:checked") == "10 lowest in x"
    rows = run.filters[run.filters["epoch"] == 3]
    lowest = rows.nsmallest(10, "abs_theta_g")
    chosen = {f"{row['layer']}, filter {row['filter']}" for _, row in lowest.iterrows()}
    assert set(page.table("trajectories")["curve"]) == chosen
    page.run("document.getElementById('choose').focus()")
    page.redraws(lambda: page.press(Keys.ARROW_UP, Keys.ARROW_UP))  # none
    page.wait(lambda: "chosen" not in page.caption("scatter"))
    # rows of the scatter: to the lowest, choose it, go on ten, choose that too
    focus(page, "scatter-plot")
    page.press(Keys.HOME)
    ordered = rows.sort_values("abs_theta_g", kind="stable")
    first, tenth = ordered.iloc[0], ordered.iloc[10]
    assert page.tooltip().startswith(f"{first['layer']}, filter {first['filter']}\n")
    page.redraws(lambda: page.press(Keys.ENTER))
    page.press(Keys.ARROW_UP)
    page.redraws(lambda: page.press(Keys.ENTER))
    names = {f"{row['layer']}, filter {row['filter']}" for row in (first, tenth)}
    assert set(page.table("trajectories")["curve"]) == names
    assert page.text("#live").endswith(" chosen")
    # bars: to the second layer, and that alone
    focus(page, "layers-plot")
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    layer = twin.layers_of(run)[1]
    assert page.tooltip().splitlines()[0] == layer and page.text("#live").startswith(layer)
    page.redraws(lambda: page.press(Keys.ENTER))
    assert f"of layer {layer} at epoch 3" in page.caption("scatter")
    page.redraws(lambda: page.press(Keys.ESCAPE))
    assert "of layer" not in page.caption("scatter")
    # curves: to the epoch after
    focus(page, "over-epochs-plot")
    page.redraws(lambda: page.press(Keys.ARROW_RIGHT))
    assert page.text("#epoch-shown") == "4 of 16" and page.text("#live") == "epoch 4"
    # a table is opened by Enter, and its page turned
    summary = page.element("#scatter summary")
    page.run("arguments[0].focus()", summary)
    page.press(Keys.ENTER)
    page.wait(lambda: page.run("return document.querySelectorAll('#scatter tbody tr').length"))
    before = page.text("#scatter tbody tr")
    for _ in range(3):
        page.press(Keys.TAB)
        if page.focused()["text"] == "Next":
            break
    page.press(Keys.ENTER)
    assert page.text("#scatter tbody tr") != before
    assert "rows 101 to 200 of 1,064" in page.text("#scatter .pages")
    page.run("document.querySelector('#scatter details').open = false")
    # play and stop
    page.run("document.getElementById('epoch').focus()")
    page.press(Keys.SHIFT)
    play = page.element("#play")
    page.run("arguments[0].focus()", play)
    page.press(Keys.ENTER)
    assert play.text == "Stop"
    page.press(Keys.SPACE)
    assert play.text == "Play"


def test_keys_of_both_sides_and_of_the_overlap(page: Shown) -> None:
    focus(page, "side-a-plot")
    page.press(Keys.END)
    assert page.tooltip().count("\n") >= 2
    focus(page, "side-b-plot")
    assert page.tooltip() == ""  # it goes with the focus
    page.press(Keys.END, Keys.ARROW_LEFT)
    assert page.tooltip().count("\n") >= 2
    focus(page, "ratio-overlap")
    page.redraws(lambda: page.press(Keys.ARROW_RIGHT))
    assert "at 21 %" in page.caption("overlap") and "at 21 %" in page.caption("layers")
    focus(page, "overlap-plot")
    page.redraws(lambda: page.press(Keys.HOME))
    assert page.text("#epoch-shown") == "0 of 16"


def test_tables_are_tables_for_readers_of_screens(page: Shown) -> None:
    page.table("layers")
    page.run("document.querySelector('#layers details').open = true")
    page.wait(lambda: page.run("return document.querySelectorAll('#layers tbody tr').length"))
    heads = page.run(
        "return [...document.querySelectorAll('#layers thead th')].map((each) => each.scope)"
    )
    assert set(heads) == {"col"} and len(heads) == 5
    assert as_numbers(page.table("layers")["depth"]).tolist() == list(range(57))
