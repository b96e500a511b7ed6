"""Check all networks of the table: `python -m tests.networks`.

Prints one line per network, and exits with 1 if a number is wrong or an error is not pruneviz's
own. With --write, the tables of docs/networks.md are rebuilt.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tests.networks.checks import Row
from tests.networks.processes import checked
from tests.networks.registry import BY_NAME
from tests.networks.table import write_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "networks.md"


def main() -> int:
    """Check the networks; returns 1 if a cell is bad."""
    given = parser().parse_args()
    names = [name for name in BY_NAME if not given.only or any(o in name for o in given.only)]
    start, rows = time.perf_counter(), []
    for row in checked(names, given.jobs):
        rows.append(row)
        sys.stdout.write(report(row))
        sys.stdout.flush()
    bad = [row for row in rows if not row.good]
    took = time.perf_counter() - start
    sys.stdout.write(f"{len(rows)} networks in {took:.0f} s, {len(bad)} with a bad cell\n")
    if given.write:
        write_page(PAGE, rows, given.jobs)
    return int(bool(bad))


def report(row: Row) -> str:
    """A line on a network, and one on every cell that is not a number."""
    cells = "  ".join(f"{name} {cell.text}" for name, cell in row.cells.items())
    lines = [f"{row.library}: {row.name} ({row.seconds:.1f} s)  {cells}"]
    for name, cell in row.cells.items():
        if not cell.good or cell.text == "refused":
            lines.append(f"    {'' if cell.good else 'BAD '}{name}: {cell.why}")
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    built = argparse.ArgumentParser("python -m tests.networks", description=__doc__)
    built.add_argument("--only", nargs="+", metavar="PART", help="Networks with such names alone.")
    built.add_argument("--write", action="store_true", help="Rebuild the tables of the page.")
    built.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="Processes. Default: all cores."
    )
    return built


if __name__ == "__main__":
    sys.exit(main())
