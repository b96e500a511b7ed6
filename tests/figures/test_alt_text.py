"""Alt text stands where readers of a picture look for it."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from pruneviz.figures.alt_text import AltText, described
from pruneviz.figures.draw import save_figure
from pruneviz.log.runs import Runs
from tests.support.synthetic_runs import SMALL, make_runs

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("figures")
    runs: Runs = make_runs({"resnet56": SMALL["resnet56"]}, seeds=(0,), epochs=4)
    save_figure("3", runs, path, formats=["pdf", "png", "svg"])
    return path


def test_an_svg_names_its_title_and_description(folder: Path) -> None:
    root = ElementTree.parse(folder / "figure03.svg").getroot()
    title, text = list(root)[:2]
    assert (title.tag, text.tag) == (f"{SVG}title", f"{SVG}desc")
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == title.get("id") == "figure03-title"
    assert root.get("aria-describedby") == text.get("id") == "figure03-desc"
    assert title.text == "Figure 3. theta_hg against theta_g of every filter of ResNet-56."
    assert text.text is not None and "Pearson r (Spearman ρ) is " in text.text


def test_a_png_carries_the_same_words(folder: Path) -> None:
    with Image.open(folder / "figure03.png") as picture:
        assert picture.info["Title"].startswith("Figure 3. theta_hg against theta_g")
        assert "Pearson r (Spearman ρ) is " in picture.info["Description"]
        assert picture.info["Keywords"] == "neural-network pruning, scatter, ResNet-56, digits"


def test_a_pdf_carries_the_same_words(folder: Path) -> None:
    content = (folder / "figure03.pdf").read_bytes()
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
        try:
            content += zlib.decompress(stream)
        except zlib.error:  # an image
            continue
    assert b"/Title (Figure 3. theta_hg against theta_g of every filter of ResNet-56.)" in content
    assert b"/Keywords (neural-network pruning, scatter, ResNet-56, digits)" in content
    assert b"/Subject" in content and "Spearman ρ".encode("utf-16-be")[:20] in content


def test_signs_of_markup_in_names_are_escaped() -> None:
    alt = AltText("a < b & c", '<svg> "x"', ())
    text = described('<?xml?><svg width="1"><g/></svg>', alt, 'odd"&<name')
    root = ElementTree.fromstring(text.removeprefix("<?xml?>"))
    assert [child.text for child in root][:2] == ["a < b & c", '<svg> "x"']
    assert root.get("aria-labelledby") == 'odd"&<name-title'
