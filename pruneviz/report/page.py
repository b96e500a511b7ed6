"""One HTML file that shows recordings, put together of its parts; it loads nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from pruneviz.console.words import counted
from pruneviz.errors import ReportError
from pruneviz.log.arguments import as_tuple
from pruneviz.log.files import disk_errors, write_over
from pruneviz.log.found_runs import Where
from pruneviz.log.runs import Runs, load
from pruneviz.plot.words import dataset_title, network_title
from pruneviz.report.blocks import ROUNDING
from pruneviz.report.contents import RunContents, contents_of

# In this order: each uses what is above it.
_SCRIPTS = (
    *("uPlot.iife.min.js", "unpack.js", "numbers.js", "scales.js", "view.js", "axes.js"),
    *("frame.js", "scatter.js", "layers.js", "epochs.js", "compare.js", "head.js", "main.js"),
)
_STYLES = ("uPlot.min.css", "page.css")
_LICENCE = "uPlot.LICENSE"

_NAMED = 3  # networks and data sets that a title names


def report(
    runs: Runs | Where,
    path: str | Path = "report.html",
    *,
    columns: str | Sequence[str] | None = None,
    title: str | None = None,
    told: Callable[[str], None] | None = None,
) -> Path:
    """Write one HTML file in which recordings can be looked into, without a network or a server.

    Args:
        runs: What `pruneviz.load` returns, or what it takes: run directories, folders, patterns.
        path: The file to write; one that is there is replaced.
        columns: Columns of the filters that the page can show. Default: all that are recorded.
        title: Title of the page. Default: the networks and data sets.
        told: Called with the name of every run before it is read; for progress.

    Returns:
        The path of the file.

    Raises:
        ReportError: If there are no runs, a column is not recorded, or a run has more rows than a
            browser can draw.
        LogError: If a recording is missing or corrupt, or the file cannot be written.

    Example:
        >>> pv.report(pv.load("data/cifar-mini"), "report.html")
    """
    out = Path(path)
    if out.is_dir():
        raise ReportError(
            f"{out} is a folder; name the file to write, such as {out / 'report.html'}"
        )
    _check_replaceable(out)
    held = runs if isinstance(runs, Runs) else load(runs)
    chosen = None if columns is None else as_tuple(columns)
    text = page_of(contents_of(held, chosen, told), title or title_of(held.spec))
    with disk_errors(out):
        write_over(out, lambda file: file.write_bytes(in_bytes(text)))
    return out


def _check_replaceable(out: Path) -> None:
    """Check that a file which is there is a page: a recording could not be got back."""
    if out.exists() and not out.read_bytes()[:32].lstrip().lower().startswith(b"<!doctype html"):
        raise ReportError(f"{out} is there and no page; name another file, such as report.html")


def title_of(spec: pd.DataFrame) -> str:
    """Title of a page: how many runs of which networks on which data sets.

    Args:
        spec: One row per run.
    """
    parts = [counted(len(spec), "run")]
    for word, fact, named in (("of", "network", network_title), ("on", "dataset", dataset_title)):
        if fact in spec and spec[fact].notna().any():
            found = [named(str(name)) for name in spec[fact].dropna().unique()]
            more = " and others" if len(found) > _NAMED else ""
            parts.append(f"{word} {', '.join(found[:_NAMED])}{more}")
    return " ".join(parts)


def page_of(
    contents: Sequence[RunContents], title: str, *, version: str | None = None, trouble: str = ""
) -> str:
    """The page as text.

    Args:
        contents: What it holds.
        title: Its title.
        version: Version of its contents, if a server tells it of others.
        trouble: What the server could not read.
    """
    scripts = [_asset(name) for name in _SCRIPTS]
    licence = _asset(_LICENCE)
    scripts[0] = f"/*\n{licence}\n*/\n{scripts[0]}"
    styles = [_asset(name) for name in _STYLES]
    held = [
        f'<script type="text/plain" id="block-{place}-{number}">{block.text}</script>'
        for place, run in enumerate(contents)
        for number, block in enumerate(run.blocks)
    ]
    facts = json_of(facts_of_page(contents, title, version=version, trouble=trouble))
    held.append(f'<script type="application/json" id="facts-held">{facts}</script>')
    return Template(_asset("page.html")).substitute(
        policy=_policy(scripts, styles, live=version is not None),
        title=escape(title),
        styles="\n".join(f"<style>{style}</style>" for style in styles),
        contents="\n".join(held),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def facts_of_page(
    contents: Sequence[RunContents], title: str, *, version: str | None = None, trouble: str = ""
) -> dict[str, Any]:
    """The facts of the page with its title and the notes at its foot; arguments as `page_of`."""
    runs = [run.facts for run in contents]
    served = {"version": version, "trouble": trouble}
    return {"runs": runs, "title": title, "notes": _notes(runs), **served}


def in_bytes(text: str) -> bytes:
    """A page as it is written or sent; a lone surrogate in its title becomes its escape."""
    return text.encode("utf-8", "backslashreplace")


def json_of(value: Any) -> str:
    """JSON that cannot end the element that holds it: names of layers may hold anything."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _notes(runs: Sequence[dict[str, Any]]) -> list[str]:
    columns = [column for run in runs for column in run["columns"]]
    rounded = list(dict.fromkeys(column["name"] for column in columns if column["rounded"]))
    near = f"; {', '.join(rounded)} to {100 * ROUNDING:.4f} % of their size" if rounded else ""
    return [
        f"Columns are held as they were recorded (float32){near}. Which rows a measure prunes is "
        "exact.",
        "θ are the weights of a row, g the gradient of the loss on the sample, H its Hessian; "
        "losses are in nats. Where θᵀg is positive, removing the row lowers the loss to first "
        "order.",
        "Signed-log axes are linear around 0, up to the first tick, and logarithmic beyond.",
        "Correlations and means are over the rows that are not pruned at that epoch, in float64.",
        "The slider has the epochs at which derivatives were measured. Curves of accuracy, loss "
        "and the logged mask distance have all epochs.",
        "A mask prunes the lowest share of all rows together, over all layers; equal scores in the "
        "order of the rows.",
        "The address holds the view: copy it to show a colleague, who has the same file, the same.",
        "Charts: uPlot, MIT licence, embedded with its licence.",
    ]


def _policy(scripts: Sequence[str], styles: Sequence[str], *, live: bool) -> str:
    """What a browser lets the page do: run its own scripts, and reach nothing outside."""
    parts = {
        "default-src": "'none'",
        "script-src": " ".join(map(_digest, scripts)),
        "style-src": " ".join(map(_digest, styles)),
        "img-src": "data:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _asset(name: str) -> str:
    return (resources.files("pruneviz.report") / "assets" / name).read_text(encoding="utf-8")
