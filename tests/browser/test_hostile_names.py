"""Names that mean harm: the page shows them as text, runs nothing of them, and works."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.log.runs import Runs
from tests.browser.conftest import Written
from tests.support.browser import Shown, as_numbers
from tests.support.odd_runs import beside, one_run

HARM = (
    "</script><script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<!--<script>window.hit=1",
    "]]><svg/onload=window.hit=1>",
    "\"'><b onmouseover=window.hit=1>",
    "'; window.hit=1; '",
    '"; window.hit=1; "',
    "`${window.hit=1}`",
    "${title} $title $$ $policy",
    "$\\frac{x}{y}$ $x_1^2$",
    "\\u003cscript\\u003e \\n \\",
    "javascript:window.hit=1",
    "{{constructor.constructor('window.hit=1')()}}",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "=cmd|'/c calc'!A1",
    "+1+1",
    "-2-3",
    "@SUM(A1)",
    "a,b;c\td",
    "two\nlines\r\nand a third",
    "&amp;&lt;&#x3c;",
    "zero\0byte",
    "line\u2028separator\u2029s",
    "right \u202eto left\u202c \u200f\u200b",
    "\N{SNOWMAN}\N{COMBINING ACUTE ACCENT} \U0001f9e8\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "long" * 75,
    "0",
    "12",
    "1e5",
    "null",
    "undefined",
    "NaN",
    "true",
    " spaces ",
    "-1",
    "all",
    "#x=sigma&run=no%20such",
    "%3Cscript%3E%00%zz",
    "c:\\windows\\..\\..",
)


def layers_of_harm() -> tuple[str, ...]:
    """Names that PyTorch takes for a module: any without a dot."""
    taken = [name for name in HARM if "." not in name and not hasattr(nn.Module, name)]
    return tuple(taken)


class Hostile(nn.Module):
    """Convolutions in a row, one for every name."""

    def __init__(self) -> None:
        super().__init__()
        for name in layers_of_harm():
            self.add_module(name, nn.Conv2d(2, 2, 1))
        self.add_module("head", nn.Linear(2, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores of images."""
        *convolutions, head = self.children()
        for layer in convolutions:
            images = images + layer(images) / 8
        return head(images.mean((2, 3)))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A recording of a network with such names, by the public way."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("hostile") / "run0"
    sample = (torch.randn(8, 2, 4, 4), torch.arange(8) % 2)
    spec = {"network": HARM[0], "dataset": HARM[1], "device_name": HARM[7]}
    with pv.Recorder(Hostile(), sample, out=out, spec=spec) as recorder:
        for epoch in (0, 1):
            facts = {name: epoch + place / 8 for place, name in enumerate(HARM)}
            recorder.after_epoch(epoch, **facts)
    return pv.load(out)


@pytest.fixture(scope="module")
def page_of_names(recorded: Runs, written: Written) -> Path:
    """Its page, beside runs that are called so themselves."""

    def runs() -> Runs:
        count = len(HARM)
        named = [
            one_run({"a": 2, "b": 3}, {"theta_g": np.arange(5.0) + place}, name=name)
            for place, name in enumerate(HARM[: count // 2])
        ]
        return beside(recorded, *named)

    return written("names", runs)


@pytest.fixture
def page(shown: Shown, page_of_names: Path) -> Shown:
    """The page; whatever a name did to it shows afterwards."""
    shown.open(page_of_names)
    yield shown
    assert shown.run("return window.hit === undefined && Object.prototype.hit === undefined")
    assert shown.run("return document.querySelectorAll('main img, main svg, main b').length") == 0
    assert shown.run("return document.scripts.length") == shown.run(
        "return document.querySelectorAll('body > script').length"
    )


def options(page: Shown, css: str) -> dict[str, str]:
    """Values of a list by their texts."""
    script = (
        "return [...document.querySelector(arguments[0]).options]"
        ".map((option) => [option.textContent, option.value])"
    )
    return dict(page.run(script, css))


def select(page: Shown, name: str, value: str) -> None:
    """Choose from a list; the driver finds no options by such values."""
    page.run(
        "const list = document.getElementById(arguments[0]); list.value = arguments[1];"
        "list.dispatchEvent(new Event('change'))",
        name,
        value,
    )


def test_there_are_enough_of_them() -> None:
    assert len(set(HARM)) == len(HARM) >= 30 and len(layers_of_harm()) >= 28


def test_layers_are_shown_as_they_are_called(page: Shown, recorded: Runs) -> None:
    names = list(dict.fromkeys(recorded.filters["layer"].astype(str)))
    assert set(layers_of_harm()) <= set(names)
    listed = options(page, "#layer")
    assert list(listed) == ["all", *[name for name in names if name != "all"]] or list(
        listed
    ) == list(dict.fromkeys(["all", *names]))
    assert page.table("layers")["layer"].tolist() == names
    for place, name in enumerate(names):
        page.view(layer=place)
        rows = recorded.filters[(recorded.filters["layer"] == name)]
        count = len(rows[rows["epoch"] == 1])
        said = page.run("return document.getElementById('scatter-caption').textContent")
        assert f"of {count} filters of layer {name} at epoch 1" in said, name
        assert f"The scatter shows {name} alone." in page.run(
            "return document.getElementById('layers-caption').textContent"
        )
    assert set(page.table("scatter")["layer"]) == {names[-1]}


def test_tooltips_and_curves_of_rows_name_them(page: Shown, recorded: Runs) -> None:
    page.choose("#choose", "all")
    names = set(page.table("trajectories")["curve"])
    layer = recorded.filters["layer"].iloc[0]
    assert f"{layer}, filter 0" in names
    box = page.plot("layers")
    layers = list(dict.fromkeys(recorded.filters["layer"].astype(str)))
    for place in (0, 2, 7):
        left = (place + 0.6) / (len(layers) + 0.2) * box.width
        page.hover("layers", left, 40)
        told = page.run("return document.getElementById('tooltip').textContent")
        assert told.startswith(layers[place] + "\n"), told


def test_own_facts_are_shown_as_they_are_called(page: Shown) -> None:
    page.view()
    listed = options(page, "#curve")
    assert set(HARM) <= set(listed)
    for place, name in enumerate(HARM):
        page.redraws(lambda name=name: select(page, "curve", listed[name]))
        table = page.table("over-epochs")
        np.testing.assert_allclose(
            as_numbers(table.iloc[:, 2]), [place / 8, 1 + place / 8], rtol=1e-4, err_msg=name
        )
        assert table.columns[2] == name and set(table["curve"]) == {name}


@pytest.mark.parametrize(
    "name", [name for name in HARM if set(name) & set("#%&+=,\0\u2028\u202e ")]
)
def test_an_address_leads_back_to_a_name(page: Shown, name: str) -> None:
    page.view()
    listed = options(page, "#curve")
    page.redraws(lambda: select(page, "curve", listed[name]))
    address = page.run("return location.hash")
    page.redraws(lambda: select(page, "curve", "masks"))
    page.redraws(lambda: page.run("location.hash = arguments[0]", address))
    assert page.element("#curve").get_property("value") == listed[name]


def test_runs_are_shown_as_they_are_called(page: Shown) -> None:
    names = HARM[: len(HARM) // 2]
    listed = options(page, "#run")
    assert set(names) <= set(listed)
    for place, name in enumerate(names):
        select(page, "run", listed[name])
        page.wait(
            lambda name=name: (
                page.run("return document.querySelector('#facts dd').textContent") == name
            )
        )
        page.settle()
        assert as_numbers(page.table("scatter")["theta_g"]).tolist() == [
            place + i for i in range(5)
        ]
        assert page.element("#run").get_property("value") == listed[name]


def test_facts_of_the_run_are_text(page: Shown) -> None:
    told = page.run("return document.getElementById('facts').textContent")
    for name in (HARM[0], HARM[1], HARM[7]):
        assert name in told


def test_saved_numbers_can_be_read_and_hold_no_formula(page: Shown, recorded: Runs) -> None:
    with page.csv("layers").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    names = list(dict.fromkeys(recorded.filters["layer"].astype(str)))
    assert header[0] == "layer" and len(rows) == len(names)
    for row, name in zip(rows, names, strict=True):
        formula = name.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert row[0] == ("'" + name if formula else name)


def test_long_names_do_not_widen_the_page(page: Shown) -> None:
    layer = options(page, "#layer")["long" * 75]
    page.resize(390, 900)
    page.view(layer=layer, curve="log:" + "long" * 75)
    page.choose("#choose", "all")
    wide = page.run(
        "return [...document.querySelectorAll('body *:not(.scrolled *)')]"
        ".filter((each) => Math.max(each.getBoundingClientRect().right, each.scrollWidth) > 390"
        " && !each.matches('.scrolled'))"
        ".map((each) => each.outerHTML.slice(0, 80))"
    )
    assert not wide and page.run("return document.documentElement.scrollWidth") <= 390
    page.hover("layers", (int(layer) + 0.6) / 45 * page.plot("layers").width, 30)
    assert page.run("return document.getElementById('tooltip').offsetWidth") <= 390


def test_a_title_is_text(shown: Shown, tmp_path: Path) -> None:
    title = "".join(name for name in HARM if "\0" not in name and "\r" not in name)
    run = one_run({"a": 3}, {"theta_g": np.arange(3.0)})
    shown.open(pv.report(run, tmp_path / "title.html", title=title))
    assert shown.run("return document.getElementById('title').textContent") == title
    assert shown.run("return window.hit") is None
