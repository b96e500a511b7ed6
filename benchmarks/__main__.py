"""Every benchmark in one run: `python -m benchmarks`.

Each module runs in a process of its own. What it finds replaces its figures in the JSON file of this machine, and the tables of the page
are written anew from the files of all machines. With --quick everything is small, to see that it works, and nothing is written unless
asked for.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.common import machine
from benchmarks.gathered import (
    Measured,
    file_name,
    read_machine,
    run_modules,
    updated,
    write_machine,
)
from benchmarks.table import write_table

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
MODULES = ("measuring", "memory", "training", "recording", "drawing", "analysis")


def main() -> int:
    """Run, write, and answer 1 where a module failed."""
    given = parser().parse_args()
    names = given.only or MODULES
    found = run_modules(
        [f"benchmarks.{name}" for name in names], {name: options_of(name, given) for name in names}
    )
    write(found, given)
    return int(len(found) < len(names))


def options_of(module: str, given: argparse.Namespace) -> list[str]:
    """What a module is called with."""
    checkout = (
        ["--flowandprune", str(given.flowandprune)]
        if given.flowandprune and module == "measuring"
        else []
    )
    return [*(["--quick"] if given.quick else []), *checkout]


def write(fresh: list[Measured], given: argparse.Namespace) -> None:
    """The JSON file of this machine and the page; a quick run writes only where it was told to."""
    facts = machine()
    file = given.json or (None if given.quick else DOCS / "benchmarks" / file_name(facts))
    page = given.table or (None if given.quick else DOCS / "benchmarks.md")
    if not file or not fresh:
        return
    write_machine(updated(file, facts, fresh), file)
    if page:
        write_table(page, map(read_machine, sorted(file.parent.glob("*.json"))))


def parser() -> argparse.ArgumentParser:
    """The command."""
    built = argparse.ArgumentParser(
        "python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    built.add_argument(
        "--only",
        nargs="+",
        choices=MODULES,
        help="these modules; the others keep the figures they have",
    )
    built.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, to see within a minute that everything works",
    )
    built.add_argument(
        "--json",
        type=Path,
        help="the file of this machine; by default docs/benchmarks/<machine>.json",
    )
    built.add_argument(
        "--table",
        type=Path,
        help="the page, by default docs/benchmarks.md; its tables are of all JSON files beside --json",
    )
    built.add_argument(
        "--flowandprune",
        type=Path,
        metavar="PATH",
        help="a checkout of the published code, to be timed too",
    )
    return built


if __name__ == "__main__":
    sys.exit(main())
