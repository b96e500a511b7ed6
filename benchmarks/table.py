"""Results of all machines as Markdown tables, between two markers of a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.common import Result
from benchmarks.gathered import Facts, Machine

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
HEADER = ["| what | value | goal | met | note |", "|---|---|---|---|---|"]
MET = {None: "", True: "yes", False: "**no**"}


def write_table(page: Path, machines: Iterable[Machine]) -> None:
    """Replace the tables between the markers of the page.

    Raises:
        ValueError: If the page has no markers.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"{page} lacks the lines {BEGIN} and {END}; add them where the tables belong"
        )
    tables = "\n\n".join(map(section, machines))
    page.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}", encoding="utf-8")


def section(machine: Machine) -> str:
    """Heading of a machine and one table per part."""
    results = [result for measured in machine.modules for result in measured.results]
    dates = sorted({measured.date for measured in machine.modules})
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    lines = [f"### {title(machine.facts)}", "", f"{versions(machine.facts)}; measured {when}."]
    for part in dict.fromkeys(result.part for result in results):
        lines += [
            "",
            f"#### {part.capitalize()}",
            "",
            *HEADER,
            *(row(result) for result in results if result.part == part),
        ]
    return "\n".join(lines)


def title(facts: Facts) -> str:
    """The machine in words."""
    gpu = "no GPU" if facts["gpu"] == "none" else facts["gpu"]
    return f"{gpu}, {facts['cores']} cores of {facts['processor']}, {facts['memory_gb']:.0f} GB"


def versions(facts: Facts) -> str:
    """The system and all versions."""
    hardware = ("system", "processor", "cores", "memory_gb", "gpu")
    named = [f"{name} {fact}" for name, fact in facts.items() if name not in hardware]
    return f"{facts['system']}, {', '.join(named)}"


def row(result: Result) -> str:
    """One row of a table. A `|` in a text is escaped, it would end the cell."""
    value = f"{number(result.value)} {result.unit}{spread(result.samples)}"
    value = "–" if math.isnan(result.value) else value
    cells = [result.what, value, result.goal, MET[result.met], result.note]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float) -> str:
    """Three significant digits; thousands in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def spread(samples: Sequence[float]) -> str:
    """Minimum and maximum of several samples."""
    return f" ({number(min(samples))} to {number(max(samples))})" if len(samples) > 1 else ""
