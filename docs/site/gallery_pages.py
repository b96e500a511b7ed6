"""Pages of the gallery: one for each figure of the paper, written into docs/gallery before a build.

Pictures and captions are those that `pruneviz figures` wrote into figures/; nothing is drawn here.
sphinx-gallery runs a script for each picture: the 38 that ship take about 45 s of one core, twice
the rest of the build, and CI draws most of them already. So the lines of code stand beside the
pictures that they made, and tests run some of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pruneviz.figures.catalogue import FIGURES, Entry, file_stem, same_figures

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "gallery"


@dataclass(frozen=True)
class Scale:
    """One scale of the recordings.

    Attributes:
        name: Folder of its pictures in figures/.
        title: Heading of its section.
        told: What was recorded, in a sentence.
        pruned: Folder in data/ of the runs that prune; that of all others is `name`.
    """

    name: str
    title: str
    told: str
    pruned: str


SCALES = (
    Scale(
        "cifar-mini",
        "Narrow networks",
        "CIFAR-100, a fifth of the images or less, 16 to 32 epochs, recorded on two CPU cores.",
        "cifar-mini-pruned",
    ),
    Scale(
        "cifar-half",
        "Half the paper's width",
        "CIFAR-100, all images, 30 epochs, one seed.",
        "cifar-half",
    ),
    Scale(
        "paper",
        "The paper's width and schedule",
        "CIFAR-100, all images, 160 epochs, one seed, recorded on a GPU.",
        "paper",
    ),
    Scale(
        "paper-init",
        "The paper's width before any training, evaluation mode",
        "CIFAR-100, 2,500 images measured, three seeds. Panel (a) alone.",
        "paper-init",
    ),
    Scale(
        "paper-init-calibrated",
        "The same with re-estimated batch-norm statistics",
        "CIFAR-100, 2,500 images measured, three seeds. Panel (a) alone.",
        "paper-init-calibrated",
    ),
    Scale("short", "The paper's width, 40 epochs", "CIFAR-100, one seed.", "short"),
)
DIGITS = Scale(
    "digits",
    "Handwritten digits",
    "Very narrow networks on scikit-learn's 1,797 digits: they show how to draw, and no more. "
    "These recordings do not ship; `pruneviz record --figures {figure}` makes those of this figure "
    "on a laptop, in minutes.",
    "digits",
)
NO_DIGITS = "I1"  # is about another data set by definition


def picture(scale: Scale, figure: str) -> Path:
    """The PNG file of a figure at a scale, which need not exist."""
    return ROOT / "figures" / scale.name / f"{file_stem(figure)}.png"


def recordings(scale: Scale, entry: Entry) -> str:
    """The folder that a figure is drawn from."""
    prunes = entry.need.kind in ("pruned", "prune_phase")
    return f"data/{scale.pruned if prunes else scale.name}"


def shown(figure: str) -> list[Scale]:
    """The scales at which a figure ships."""
    return [scale for scale in SCALES if picture(scale, figure).exists()]


def lines_of_code(figure: str, folder: str) -> Iterator[str]:
    """The lines that draw a figure, in Python and as a command."""
    yield from ("```python", "import pruneviz as pv", "")
    yield f'runs = pv.load("{folder}")'
    yield f'pv.draw("{figure}", runs).savefig("{file_stem(figure)}.png")'
    yield from ("```", "", "or, with its caption and numbers:", "")
    yield from ("```bash", f"pruneviz figures {figure} --data {folder}", "```", "")


def finding(file: Path) -> Iterator[str]:
    """What the recordings say, from the caption that lies beside a picture."""
    text = file.with_suffix(".txt").read_text(encoding="utf-8")
    told = re.search(r"^(These recordings): (.*?)\n[\d,]+ runs?:", text, re.MULTILINE | re.DOTALL)
    if told:
        yield from (f"**{told[1]}:** {told[2]} ([What is a verdict?](../claims.md))", "")


def caption(file: Path) -> Iterator[str]:
    """The caption that lies beside a picture, folded in."""
    yield from (":::{dropdown} Caption with numbers, verdict and runs", "```text")
    yield file.with_suffix(".txt").read_text(encoding="utf-8").strip()
    yield from ("```", ":::", "")


def section(scale: Scale, figure: str) -> Iterator[str]:
    """A scale: what was recorded, the picture, how to draw it, its caption."""
    file = picture(scale, figure)
    yield from (f"## {scale.title}", "", scale.told.format(figure=figure), "")
    if file.exists():
        yield from (f"![Figure {figure}](../../{file.relative_to(ROOT)})", "")
        yield from finding(file)
    yield from lines_of_code(figure, recordings(scale, FIGURES[figure]))
    if file.exists():
        yield from caption(file)


def page(figure: str) -> str:
    """The page of a figure as Markdown."""
    entry = FIGURES[figure]
    lines = [f"# Figure {figure}: {entry.title}", ""]
    lines += [f"The paper claims: {entry.claim}.", ""]
    twins = [name for name in same_figures(entry) if name != figure]
    if twins:
        links = ", ".join(f"[Figure {name}]({file_stem(name)}.md)" for name in twins)
        lines += [f"By definition the same as {links}.", ""]
    if not shown(figure):
        lines += ["No recording of this figure ships.", ""]
    if figure == "H1b":
        lines += [
            "The paper shows three networks. Single weights of two of them are not recorded: the "
            "picture has ResNet-56 alone, and the command names the others.",
            "",
        ]
    scales = shown(figure) + ([DIGITS] if figure != NO_DIGITS else [])
    for scale in scales:
        lines += section(scale, figure)
    if figure == NO_DIGITS:
        lines += tiny_imagenet()
    return "\n".join(lines)


def tiny_imagenet() -> Iterator[str]:
    """How to record the figure about another data set."""
    yield from ("## Record it", "", "Unpack Tiny-ImageNet as `images/tiny-imagenet-200`, then:", "")
    yield from ("```bash", "pruneviz record --preset paper --figures I1", "```", "")
    yield from lines_of_code("I1", "data/paper")


def card(figure: str) -> Iterator[str]:
    """A small picture that leads to the page of a figure."""
    yield f":::{{grid-item-card}} Figure {figure}"
    scales = shown(figure)
    if scales:
        file = picture(scales[0], figure).relative_to(ROOT)
        yield from (f":img-bottom: ../../{file}", f":img-alt: Figure {figure}")
    yield from (f":link: {file_stem(figure)}", ":link-type: doc", "", FIGURES[figure].title)
    yield from (":::", "")


def contents() -> str:
    """The page that leads to all figures."""
    lines = ["# Figures one by one", ""]
    lines += [
        "Each with what the paper claims, what the recordings say, at every scale that ships,"
    ]
    lines += ["and the lines that draw it.", ""]
    lines += ["::::{grid} 1 2 2 3", ":gutter: 3", ":class-container: thumbnails", ""]
    for figure in FIGURES:
        lines += card(figure)
    titles = [f"Figure {figure} <{file_stem(figure)}>" for figure in FIGURES]
    return "\n".join([*lines, "::::", "", "```{toctree}", ":hidden:", "", *titles, "```", ""])


def write() -> None:
    """Write all pages; leave those that do not change as they are."""
    FOLDER.mkdir(exist_ok=True)
    pages = {f"{file_stem(figure)}.md": page(figure) for figure in FIGURES}
    pages["index.md"] = contents()
    for old in FOLDER.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        file = FOLDER / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
