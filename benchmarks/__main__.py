"""Run all benchmarks: `python -m benchmarks`.

Each module runs in its own process. Its results replace its previous ones in the JSON file of this
machine, and the tables of docs/benchmarks.md are rebuilt from the files of all machines. With
--quick all sizes are small, to check that everything works; it writes only to given paths.
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
MODULES = ("measuring", "memory", "ranks", "training", "recording", "drawing", "analysis")


def main() -> int:
    """Run the modules and write the results; returns 1 if a module failed."""
    given = parser().parse_args()
    names = given.only or MODULES
    options = {name: options_of(name, given) for name in names}
    found = run_modules([f"benchmarks.{name}" for name in names], options)
    write(found, given)
    return int(len(found) < len(names))


def options_of(module: str, given: argparse.Namespace) -> list[str]:
    """Command-line options for one module."""
    options = ["--quick"] if given.quick else []
    if given.flowandprune and module == "measuring":
        options += ["--flowandprune", str(given.flowandprune)]
    return options


def write(fresh: list[Measured], given: argparse.Namespace) -> None:
    """Write the JSON file of this machine and the page; a quick run writes only to given paths."""
    facts = machine()
    file = given.json or (None if given.quick else DOCS / "benchmarks" / file_name(facts))
    page = given.table or (None if given.quick else DOCS / "benchmarks.md")
    if not file or not fresh:
        return
    write_machine(updated(file, facts, fresh), file)
    if page:
        write_table(page, map(read_machine, sorted(file.parent.glob("*.json"))))


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    built = argparse.ArgumentParser(
        "python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    built.add_argument(
        "--only",
        nargs="+",
        choices=MODULES,
        help="Run only these modules; the others keep their results.",
    )
    built.add_argument(
        "--quick",
        action="store_true",
        help="Small sizes, to check within a minute that everything works.",
    )
    built.add_argument(
        "--json",
        type=Path,
        help="File for the results of this machine. Default: docs/benchmarks/<machine>.json.",
    )
    built.add_argument(
        "--table",
        type=Path,
        help="Page whose tables are rebuilt from all JSON files beside --json. "
        "Default: docs/benchmarks.md.",
    )
    built.add_argument(
        "--flowandprune",
        type=Path,
        metavar="PATH",
        help="Checkout of the published code, to be timed as well.",
    )
    return built


if __name__ == "__main__":
    sys.exit(main())
