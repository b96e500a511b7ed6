"""The documentation site: every public name is in the reference, every figure in the gallery.

`make docs` builds the site with warnings as errors and checks links, alt texts and outside
addresses in what it built; here is what needs no build.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

import pruneviz as pv
from pruneviz import cli
from pruneviz.figures.catalogue import FIGURES, file_stem

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "site"
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
# Public modules, whose functions stand in the reference by name; `report` is itself called.
MODULES = {"plot", "measures", "report", "sinks"}


def module(name: str) -> ModuleType:
    """A module of docs/site, which is not on the path."""
    spec = importlib.util.spec_from_file_location(f"docs_site_{name}", SITE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # where dataclasses look up their annotations
    spec.loader.exec_module(found)
    return found


def described() -> set[str]:
    """Names that a directive of the reference describes, without `pruneviz.`."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE)
    return set(re.findall(r"^\.\. (?:auto|py:)\w+:: pruneviz\.(\S+)$", text, re.MULTILINE))


# The reference


def test_every_public_name_stands_in_the_reference() -> None:
    public = set(pv.__all__) - MODULES - {"__version__"}
    public |= {f"plot.{name}" for name in pv.plot.__all__}
    public |= {f"measures.{name}" for name in ("register", "unregister", "names")}
    public |= {"report.page.report", "sinks.Sink", "sinks.TensorBoard", "sinks.WandB"}
    absent = sorted(public - described())
    assert not absent, f"not in docs/reference: {', '.join(absent)}; add an autofunction line each"


def test_the_overview_of_the_reference_names_every_public_name() -> None:
    text = (ROOT / "docs" / "reference" / "index.md").read_text(encoding="utf-8")
    absent = [name for name in pv.__all__ if f"`pv.{name}`" not in text and name != "plot"]
    absent += [name for name in pv.plot.__all__ if f"`pv.plot.{name}`" not in text]
    assert not absent, f"docs/reference/index.md does not name {', '.join(absent)}"


def test_every_subcommand_has_its_help_in_the_reference() -> None:
    root = typer.main.get_command(cli.app)
    context = root.make_context("pruneviz", [], resilient_parsing=True)
    text = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\.\. command-help:: (\w+)$", text, re.MULTILINE)
    assert sorted(shown) == sorted(root.list_commands(context))  # type: ignore[attr-defined]


# The gallery


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    """The module that writes the pages of the gallery."""
    return module("gallery_pages")


def test_every_picture_of_a_figure_that_ships_is_in_the_gallery(gallery: ModuleType) -> None:
    pages = "\n".join(map(gallery.page, FIGURES))
    folders = {scale.name for scale in gallery.SCALES}
    shipped = [
        file.relative_to(ROOT)
        for name in sorted(folders)
        for file in sorted((ROOT / "figures" / name).glob("figure*.png"))
    ]
    assert len(shipped) > 30
    absent = [str(file) for file in shipped if f"(../../{file})" not in pages]
    assert not absent, f"not in the gallery: {', '.join(absent)}"
    assert pages.count("**These recordings:** Verdict on the claim:") >= len(shipped)


def test_pages_of_the_gallery_are_written_for_every_figure(
    gallery: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone.md").write_text("a figure that is no more")
    monkeypatch.setattr(gallery, "FOLDER", tmp_path)
    gallery.write()
    expected = {f"{file_stem(figure)}.md" for figure in FIGURES} | {"index.md"}
    assert {file.name for file in tmp_path.iterdir()} == expected
    for figure in FIGURES:
        assert f":link: {file_stem(figure)}\n" in gallery.contents()


@pytest.mark.parametrize("figure", ["2", "3", "4", "16"])  # one of each kind of picture
def test_the_lines_below_a_picture_draw_it(
    gallery: ModuleType, figure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = re.findall(r"```python\n(.*?)```", gallery.page(figure), re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    exec(compile(code, f"figure {figure}", "exec"), {})
    assert (tmp_path / f"{file_stem(figure)}.png").stat().st_size > 10_000


def test_commands_of_the_gallery_are_understood(gallery: ModuleType) -> None:
    root: Any = typer.main.get_command(cli.app)
    context = root.make_context("pruneviz", [], resilient_parsing=True)
    pages = "\n".join(map(gallery.page, FIGURES))
    lines = set(re.findall(r"^pruneviz (\w+) (.*)$", pages, re.MULTILINE))
    lines |= set(re.findall(r"`pruneviz (\w+) ([^`]*)`", pages))
    assert len(lines) > len(FIGURES)
    for name, arguments in lines:
        root.get_command(context, name).make_context(
            name, arguments.split()
        )  # fails at a wrong one


# The check of the built site


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="other.html#there">a link</a>', ""),
        ('<a href="https://example.org">an outside link</a>', ""),
        ('<img src="picture.png" alt="Points along a rising line">', ""),
        ('<a href="gone.html">a link</a>', "gone.html does not exist"),
        ('<a href="other.html#nowhere">a link</a>', "other.html#nowhere names no place"),
        ('<a href="#nowhere">a link</a>', "#nowhere names no place"),
        ('<img src="picture.png" alt="">', "picture.png has no alt text"),
        ('<img src="picture.png" alt="picture.png">', "picture.png has no alt text"),
        ('<script src="https://cdn.example.org/x.js"></script>', "loads https://cdn.example.org"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "loads //example.org/x.css"),
    ],
)
def test_the_check_of_the_site_finds_what_is_wrong(tmp_path: Path, body: str, fault: str) -> None:
    (tmp_path / "other.html").write_text('<h1 id="there">Another page</h1>')
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "page.html").write_text(body)
    found = "\n".join(module("check").faults(tmp_path))
    assert fault in found
    assert bool(found) == bool(fault)


def test_the_check_of_the_site_finds_fonts_from_outside(tmp_path: Path) -> None:
    check = module("check")
    (tmp_path / "site.css").write_text("@font-face { src: url('https://example.org/font.woff2') }")
    assert list(check.faults(tmp_path)) == ["site.css: loads https://example.org/font.woff2"]
    assert check.main(str(tmp_path)) == 1


# Pages that are read on the code host as well


def test_every_page_is_reached_from_a_list_of_contents() -> None:
    pages = [
        page
        for pattern in ("*.md", "*/*.md")
        for page in sorted((ROOT / "docs").glob(pattern))
        if page.parent.name != "gallery"  # generated, with a list of its own
    ]
    listed: set[Path] = set()
    for page in pages:
        for block in re.findall(r"```\{toctree\}(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in filter(None, map(str.strip, block.splitlines())):
                target = re.sub(r".*<(.*)>$", r"\1", line)
                if not target.startswith(":"):
                    listed.add((page.parent / target).resolve())
    listed.add(ROOT / "docs" / "index")
    wanted = {page.with_suffix("") for page in pages}
    wanted |= {note.with_suffix("") for note in (ROOT / "notebooks").glob("*.ipynb")}
    lost = sorted(str(page.relative_to(ROOT)) for page in wanted - listed)
    assert not lost, f"in no toctree: {', '.join(lost)}"
