"""The table of docs/networks.md as Markdown, between two markers of the page."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tests.networks.checks import CHECKS, Cell, Row

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
LIBRARIES = ("torch", "torchvision", "timm", "transformers")
ERRORS = ("theta_g", "theta_hg", "float32")


def write_page(page: Path, rows: Sequence[Row], cores: int) -> None:
    """Replace the tables between the markers of the page.

    Raises:
        ValueError: If the page has no markers.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the lines {BEGIN} and {END}; add them around the tables")
    page.write_text(f"{before}{BEGIN}\n{tables(rows, cores)}\n{END}{after}", encoding="utf-8")


def tables(rows: Sequence[Row], cores: int) -> str:
    """How they were made, one table per library, and the reasons of refusals."""
    reasons = reasons_of(rows)
    lines = [made(rows, cores), "", worst(rows)]
    for library in dict.fromkeys(row.library for row in rows):
        own = [row for row in rows if row.library == library]
        lines += ["", f"### {library}", "", *header(), *(line(row, reasons) for row in own)]
    if reasons:
        lines += ["", "### Why not", ""]
        lines += [f"{number}. {why}" for why, number in reasons.items()]
    return "\n".join(lines)


def made(rows: Sequence[Row], cores: int) -> str:
    """One sentence on the run."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{len(rows)} networks, checked in {sum(row.seconds for row in rows) / 60:.0f} minutes of "
        f"processor time on {cores} {platform.machine()} cores without a GPU, with {versions}."
    )


def worst(rows: Sequence[Row]) -> str:
    """One sentence on the worst errors of the whole table."""
    found = {name: max((c for c in numbers(rows, name)), default=0.0) for name in ERRORS}
    told = ", ".join(f"`{name}` {error:.0e}" for name, error in found.items())
    return f"Worst errors of all networks: {told}."


def numbers(rows: Sequence[Row], column: str) -> list[float]:
    """The errors of a column, where there is one."""
    texts = [row.cells[column].text for row in rows]
    return [float(text) for text in texts if re.fullmatch(r"[\d.]+e[+-]\d+", text)]


def header() -> list[str]:
    """The first two lines of a table."""
    names = ["network", *CHECKS]
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]


def line(row: Row, reasons: dict[str, int]) -> str:
    """One line of a table; a bad cell is bold, a refused one names its reason by number."""
    cells = [row.name, *(shown(row.cells[name], reasons) for name in CHECKS)]
    return f"| {' | '.join(cells)} |"


def shown(cell: Cell, reasons: dict[str, int]) -> str:
    """A cell in Markdown."""
    if not cell.good:
        return f"**{cell.text}**"
    return f"{cell.text} ({reasons[reason(cell)]})" if cell.text == "refused" else cell.text


def reasons_of(rows: Sequence[Row]) -> dict[str, int]:
    """All reasons of refusals, numbered from 1."""
    refused = [cell for row in rows for cell in row.cells.values() if cell.text == "refused"]
    return {why: n for n, why in enumerate(dict.fromkeys(map(reason, refused)), 1)}


def reason(cell: Cell) -> str:
    """The message of a refusal on one line."""
    return " ".join(cell.why.split())
