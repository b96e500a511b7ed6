"""Names that mean harm in pictures, files, tables and terminals: shown as text, and nothing else.

What is drawn of them is compared with a twin whose names are plain: the numbers are equal, and so
is all mathematics in the picture.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.text import Text

import pruneviz.plot
from pruneviz.analysis.claim_tables import all_tables
from pruneviz.analysis.claim_texts import verdicts_in_words
from pruneviz.analysis.claims import claims
from pruneviz.console.shown_text import LONGEST_NAME, visible
from pruneviz.figures.alt_text import AltText, described
from pruneviz.figures.caption import LINES, WIDTH, Caption
from pruneviz.figures.own import own_pictures
from pruneviz.figures.plot_pictures import compose_plot, save_plot
from pruneviz.figures.write import write_facts, write_picture, write_table
from pruneviz.log.runs import Runs
from tests.support.hostile_names import LONG, NAMES
from tests.support.odd_runs import beside, one_run
from tests.support.synthetic_runs import make_runs

Renamed = Callable[[str], str]

# What has a lone surrogate stands in no table; test_shown_text.py and test_runs.py have them.
HARM = tuple(name for name in NAMES if not re.search("[\ud800-\udfff]", name))
COUNT = 2  # filters of a layer

HUGE = ("a" * 50_000 + "b" + "a" * 50_000, "a" * 50_000 + "c" + "a" * 50_000)  # differ inside

PLOTS: Mapping[str, dict[str, Any]] = {
    "scatter": {"x": "theta_g", "y": "theta_hg"},
    "correlation": {"x": "theta_g", "y": "theta_hg"},
    "layer_ratios": {"y": "theta_g"},
    "accuracy": {},
    "heatmap": {"measures": ["theta_g", "theta_hg"], "over": "layer", "against": "theta_g"},
    "trajectory": {"y": "theta_g"},
    "masks": {},
}


def plain(name: str) -> str:
    """A harmless name in the place of one that is not."""
    return f"plain{[*HARM, *LONG, *HUGE].index(name)}"


def recording(names: tuple[str, ...], renamed: Renamed = str, seed: int = 0) -> Runs:
    """A run whose layers, network, data set, facts and columns have some names."""
    random = np.random.default_rng(seed)
    shape = (3, COUNT * len(names))
    columns = {name: random.standard_normal(shape) for name in ("theta_g", "theta_hg")}
    columns |= dict.fromkeys(("theta_norm2", "abs_theta_g", "g_norm2"), columns["theta_g"] ** 2)
    first = renamed(names[0])
    return one_run(
        {renamed(name): COUNT for name in names},
        columns,
        name=f"run{seed}",
        curves={"test_acc": [0.1, 0.2, 0.3], f"own {first}": [1.0, 2.0, 3.0]},
        network=first,
        dataset=renamed(names[-1]),
        seed=seed % 2,
        note=first if seed < 2 else renamed(names[1]),
        **{f"fact {first}": first},
    )


def texts(figure: Figure) -> list[str]:
    return [found.get_text() for found in figure.findobj(Text)]


def mathematics(figure: Figure) -> list[str]:
    return sorted(text for text in texts(figure) if is_math_text(text))


def tables_equal(found: pd.DataFrame, twin: pd.DataFrame) -> bool:
    """Whether the numbers of two tables are equal."""
    mine, other = (table.select_dtypes("number").to_numpy("float64") for table in (found, twin))
    return mine.shape == other.shape and np.array_equal(mine, other, equal_nan=True)


@pytest.mark.parametrize("function", PLOTS)
def test_names_in_pictures_are_text_and_change_no_number(function: str) -> None:
    draw, arguments = getattr(pruneviz.plot, function), PLOTS[function]
    runs, twin = (
        beside(*(recording(HARM[:40], renamed, seed) for seed in (0, 1)))
        for renamed in (str, plain)
    )
    assert tables_equal(draw.table(runs, **arguments), draw.table(twin, **arguments))
    picture = draw(runs, **arguments)
    assert mathematics(picture) == mathematics(draw(twin, **arguments))
    assert all(text.replace("\n", "").isprintable() for text in texts(picture))


@pytest.mark.parametrize("function", ["scatter", "masks", "heatmap"])
def test_overlong_names_are_cut_and_leave_pictures_their_size(function: str) -> None:
    draw, arguments = getattr(pruneviz.plot, function), PLOTS[function]
    if function == "scatter":
        arguments = {**arguments, "hue": "layer"}
    runs = beside(*(recording((*LONG, *HUGE), seed=seed) for seed in (0, 1)))
    picture = draw(runs, **arguments)
    assert max(picture.get_size_inches()) < 12
    shown = texts(picture)
    assert max(map(len, shown)) < 400
    inside = [text for text in shown if text.startswith("aaa")]
    assert len(set(inside)) == 2


def test_facts_and_columns_are_text_in_legends_and_labels() -> None:
    for name in ("$\\frac{$", "conv$1$"):
        runs = beside(*(recording((name, "other"), seed=seed) for seed in (0, 1, 2)))
        twin = [
            pruneviz.plot.scatter(runs, "theta_g", "theta_hg", hue="note"),
            pruneviz.plot.accuracy(runs, f"own {name}", by=f"fact {name}"),
            pruneviz.plot.correlation(runs, "theta_g", "theta_hg", by="note"),
        ]
        drawn = "\n".join(text for picture in twin for text in texts(picture))
        assert visible(name).replace("$", "\\$") in drawn
        assert not any("frac" in text or "conv" in text for p in twin for text in mathematics(p))


def test_every_name_is_written_into_files_that_are_whole(tmp_path: Path) -> None:
    figure = Figure(figsize=(1, 1))
    for place, name in enumerate((*NAMES, *LONG, *HUGE)):
        alt = AltText(f"Title {name}.", f"Text {name}", ("kind", name))
        for ending in ("pdf", "png"):
            held = alt.metadata(ending).values()
            assert all(one.isprintable() and len(one) < 25_000 for one in held)
        ET.fromstring(described("<svg>\n</svg>", alt, "figure"))
        caption = Caption(f"{name}: title.", f"Drawn {name}.", f"Found {name}.", made=f"By {name}")
        lines = caption.text("file.json").splitlines()
        assert len(lines) <= LINES and max(map(len, lines)) <= WIDTH
        assert all(line.isprintable() for line in lines)
        if place < 2 or "surrogate" in name:
            for ending in ("pdf", "png", "svg"):
                write_picture(figure, tmp_path / f"{place}.{ending}", alt)
    facts = {"names": list(NAMES), NAMES[0]: 1}
    found = write_facts(facts, tmp_path / "facts.json").read_text(encoding="utf-8")
    assert json.loads(found) == facts


def test_csv_files_have_a_line_for_each_row_and_no_formula(tmp_path: Path) -> None:
    numbers = np.linspace(-1, 1, len(NAMES))
    table = pd.DataFrame({"name": pd.Series(NAMES, dtype=object), "=own": numbers})
    layers = pd.DataFrame({"name": HARM}).astype("category")
    assert write_table(layers, tmp_path / "layers.csv").read_bytes().count(b"\n") == len(HARM) + 1
    assert write_table(table, tmp_path / "names.csv").read_bytes().count(b"\n") == len(NAMES) + 1
    read = pd.read_csv(tmp_path / "names.csv", keep_default_na=False)
    assert list(read) == ["name", "'=own"] and np.array_equal(read["'=own"], numbers)
    assert not read["name"].str.startswith(("=", "+", "-", "@")).any()
    assert read["name"].iloc[0] == NAMES[0]


def test_overlong_names_are_cut_in_csv_files_and_stay_apart(tmp_path: Path) -> None:
    table = pd.DataFrame({"network": [*LONG, *HUGE], "=" + HUGE[0]: range(len(LONG) + len(HUGE))})
    read = pd.read_csv(write_table(table, tmp_path / "names.csv"))
    assert read["network"].str.len().max() == LONGEST_NAME
    assert read["network"].nunique() == len(table) and len(read.columns[1]) == LONGEST_NAME + 1


def test_networks_of_any_name_have_files_of_their_own(tmp_path: Path) -> None:
    names = ("a/b", "a b", "A?b", "..", "", *LONG, *HUGE)
    runs = beside(*(recording((name, "x"), seed=2 * i) for i, name in enumerate(names)))
    pictures = own_pictures(runs.spec, "folder")
    stems = [picture.stem for picture in pictures]
    assert len({stem.casefold() for stem in stems}) == len(stems) >= 4 * len(names)
    assert all(Path(stem).name == stem and len(stem.encode()) < 240 for stem in stems)
    layers = next(one for one in pictures if one.kind == "layers" and "a-b" in one.stem)
    for file in save_plot(layers, runs.named(layers.runs), tmp_path / layers.stem, ("svg",)):
        assert file.is_file()


def test_words_about_a_picture_are_plain() -> None:
    for name in ("\x1b[2J\nnext", LONG[1]):
        runs = beside(*(recording((name, "other"), seed=seed) for seed in (0, 1)))
        found = compose_plot("layers", runs, name, {"y": "theta_g"}, "file")
        caption = found.caption
        assert caption.isascii() or caption.replace("\n", "").isprintable()
        assert visible(name)[:12] in caption and len(caption) < LINES * (WIDTH + 1)


def test_tables_of_claims_and_findings_hold_names_as_text() -> None:
    harm = (
        "a|b<script>x</script>",
        "[a](javascript:x)",
        "<!-- end of table -->",
        "\x1b[2J",
        "z\ny",
    )
    runs = make_runs({f"n{place}": (3, 4) for place in range(len(harm))}, (0,), 4, 2)
    networks = runs.spec["network"].map(lambda name: harm[int(name[1:])])
    runs = replace(runs, spec=runs.spec.assign(network=networks, dataset=harm))
    found = claims(runs)
    for text in (all_tables(runs), verdicts_in_words(found, markdown=True)):
        assert "<" not in text.replace("n_eff <", "") and "](" not in text.replace(r"\](", "")
        assert text.replace("\n", "").isprintable()
        for line in text.splitlines():
            if line.startswith("| ---"):
                width = line.count("|")
            elif line.startswith("| ") and "a\\|b" in line:
                assert line.replace(r"\|", "").count("|") == width
    assert verdicts_in_words(found).replace("\n", "").isprintable()


def test_runs_are_described_as_text() -> None:
    runs = recording(("\x1b[2J<b>$x$", "x"))
    assert r"\x1b[2J<b>$x$" in repr(runs) and repr(runs).isprintable()
    html = runs._repr_html_()
    assert "<b>" not in html and r"\x1b[2J&lt;b&gt;$x$" in html
    assert html.startswith('<div class="tex2jax_ignore mathjax_ignore">')
