"""Every plot function, on every recording that ships and on tables that try it.

Whatever is drawn must be readable: no text cut off or covered, in a picture of its own and as PNG,
PDF and SVG; and drawing must leave the table, the style and pyplot as they were. What the numbers
are is tested with each function.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import pruneviz.plot
from pruneviz.errors import FigureError, PrunevizError
from pruneviz.log.runs import Runs, load
from pruneviz.plot.canvas import Picture
from tests.support.crossed import crossed
from tests.support.readable import assert_readable

DATA = Path(__file__).parents[2] / "data"
SHIPPED = ("cifar-mini", "cifar-mini-batch", "cifar-mini-oracle", "paper", "short")
SIGNATURES = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}

# What each function is asked for: of a recording, and of a table with the columns a and b.
OF_RECORDINGS: dict[str, tuple[Any, ...]] = {
    "accuracy": (),
    "correlation": ("theta_g", "theta_hg"),
    "heatmap": (),
    "layer_ratios": ("magnitude",),
    "masks": (),
    "scatter": ("theta_g", "theta_hg"),
    "trajectory": ("magnitude",),
}
OF_TABLES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "accuracy": ((), {}),
    "correlation": (("a", "b"), {"mask_score": None}),
    "heatmap": ((["a", "b"],), {}),
    "layer_ratios": (("a",), {}),
    "masks": ((), {"score": "a", "ratio": 0.5}),
    "scatter": (("a", "b"), {}),
    "trajectory": (("a",), {}),
}


def draw(function: str, source: Any, *names: Any, **options: Any) -> Any:
    return getattr(pruneviz.plot, function)(source, *names, **options)


def filters(
    layers: int = 2, count: int = 6, epochs: tuple[int, ...] = (0, 1, 2), runs: int = 1
) -> pd.DataFrame:
    """A filters table with two columns that are related, and an accuracy for each epoch."""
    keys = [
        (f"r{run}", epoch, f"conv{layer}", number)
        for run in range(runs)
        for epoch in epochs
        for layer in range(layers)
        for number in range(count)
    ]
    table = pd.DataFrame(keys, columns=["run", "epoch", "layer", "filter"])
    random = np.random.default_rng(0)
    a = random.standard_normal(len(table))
    b = a + 0.5 * random.standard_normal(len(table))
    return table.assign(a=a, b=b, lr=table["run"].str[1:].astype(float), test_acc=0.5)


def renamed() -> pd.DataFrame:
    """Names with every character that mathematics, SVG or a font may stumble over."""
    names = {"conv0": r"a$x_1$ & <b> \frac{1}{2}", "conv1": "é層 {c} 100 % _d"}
    table = filters().replace({"layer": names})
    return table.assign(run="_run $1$ <&> \\")


# Tables of every kind that somebody may have, by what is special about them.
TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "plain": filters,
    "one_filter": lambda: filters(layers=1, count=1, epochs=(0,)),
    "one_layer": lambda: filters(layers=1),
    "one_epoch": lambda: filters(epochs=(0,)),
    "late_epochs": lambda: filters(epochs=(7, 20, 1000)),
    "sixty_layers": lambda: filters(layers=60, count=3),
    "twelve_runs": lambda: filters(runs=12),
    "some_nan": lambda: filters().assign(
        a=lambda table: table["a"].where(table["filter"] % 2 == 0)
    ),
    "infinite": lambda: filters().assign(
        a=lambda table: table["a"].where(table["filter"] > 0, np.inf)
    ),
    "constant": lambda: filters().assign(a=0.0),
    "huge": lambda: filters().assign(
        a=lambda table: 1e30 * table["a"], b=lambda table: 1e-30 * table["b"]
    ),
    "names": renamed,
    "weights": lambda: filters().assign(
        weight=lambda table: table["filter"] % 2, filter=lambda table: table["filter"] // 2
    ),
    "heads": lambda: filters().assign(unit="head"),
    "pruned": lambda: filters().assign(kept=lambda table: table["filter"] >= table["epoch"]),
    "no_run_or_epoch": lambda: filters(epochs=(0,)).drop(columns=["run", "epoch"]),
}


def source_for(function: str, table: pd.DataFrame) -> pd.DataFrame:
    """The table that a function draws: of filters, or of epochs."""
    if function != "accuracy":
        return table
    keys = [name for name in ("run", "epoch", "lr") if name in table]
    return table.drop_duplicates(keys)[[*keys, "test_acc"]].assign(epoch=table.get("epoch", 0))


@contextmanager
def nothing_global_changes() -> Iterator[None]:
    style, figures = dict(matplotlib.rcParams), plt.get_fignums()
    yield
    assert dict(matplotlib.rcParams) == style
    assert plt.get_fignums() == figures


def saved(picture: Picture, ending: str) -> bytes:
    if ending == "png":
        return picture._repr_png_()
    target = io.BytesIO()
    picture.savefig(target, format=ending)
    return target.getvalue()


def assert_drawn(picture: Any, ending: str) -> None:
    assert isinstance(picture, Picture)
    assert picture.axes and all(axes.has_data() for axes in picture.axes)
    assert saved(picture, ending).startswith(SIGNATURES[ending])
    assert_readable(picture, drawn=ending == "png")  # other formats are drawn at 72 dpi


@pytest.fixture(scope="module")
def recordings() -> dict[str, Runs]:
    return {name: load(DATA / name) for name in SHIPPED}


def test_every_plot_function_is_tried_here() -> None:
    # flow draws a table of its own, which no shipped recording has: tests/plot/test_flow_plot.py
    functions = {name for name in pruneviz.plot.__all__ if name not in ("Picture", "flow")}
    assert functions == set(OF_RECORDINGS) == set(OF_TABLES)


@crossed("name, function", SHIPPED, OF_RECORDINGS, share=3)
def test_every_recording_is_drawn(name: str, function: str, recordings: dict[str, Runs]) -> None:
    runs = recordings[name]
    options = {} if function == "accuracy" else {"unit": "filter"}
    if name == "paper":  # 30 settings, which are too many for most functions
        options["runs"] = list(runs.spec.loc[runs.spec["epochs"] == 160, "run"])
    elif name == "cifar-mini":  # two seeds are averaged as well as many
        options["runs"] = list(runs.spec.loc[runs.spec["seed"] < 2, "run"])
    with nothing_global_changes():
        assert_drawn(draw(function, runs, *OF_RECORDINGS[function], **options), "png")


@crossed("name, function", TABLES, OF_TABLES, share=4)
def test_every_table_is_drawn(name: str, function: str) -> None:
    table = source_for(function, TABLES[name]())
    before = table.copy(deep=True)
    names, options = OF_TABLES[function]
    ending = list(SIGNATURES)[list(TABLES).index(name) % len(SIGNATURES)]
    with nothing_global_changes():
        assert_drawn(draw(function, table, *names, **options), ending)
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("function", OF_TABLES)
def test_given_axes_are_drawn_into_and_nothing_else(function: str) -> None:
    table = source_for(function, filters(epochs=(3,)) if function == "scatter" else filters())
    names, options = OF_TABLES[function]
    figure = Figure(figsize=(5, 4), layout="constrained")
    first, second = figure.subplots(1, 2)
    with nothing_global_changes():
        assert draw(function, table, *names, **options, ax=first) is first
    assert first.has_data()
    assert not second.has_data()
    assert_readable(figure)


@pytest.mark.parametrize("function", OF_TABLES)
def test_nothing_is_cut_off_at_any_resolution(function: str) -> None:
    names, options = OF_TABLES[function]
    picture = draw(function, source_for(function, renamed()), *names, **options)
    width, height = picture.get_size_inches()
    for dpi in (100, 220):
        picture.set_dpi(dpi)
        box = picture.get_tightbbox()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= -0.01, dpi


@pytest.mark.parametrize("function", OF_TABLES)
def test_the_table_has_the_numbers_and_takes_the_same_arguments(function: str) -> None:
    names, options = OF_TABLES[function]
    found = getattr(pruneviz.plot, function).table(
        source_for(function, filters()), *names, **options
    )
    assert isinstance(found, pd.DataFrame)
    assert len(found)


@pytest.mark.parametrize("function", OF_TABLES)
def test_a_table_without_rows_is_refused(function: str) -> None:
    names, options = OF_TABLES[function]
    with pytest.raises(PrunevizError):
        draw(function, source_for(function, filters()).iloc[:0], *names, **options)


@pytest.mark.parametrize(
    "function", [name for name in OF_TABLES if name not in ("accuracy", "masks")]
)
def test_a_column_without_values_is_refused_by_name(function: str) -> None:
    names, options = OF_TABLES[function]
    with pytest.raises(PrunevizError, match=r"\ba\b"):
        draw(function, filters().assign(a=np.nan), *names, **options)


@pytest.mark.parametrize("function", OF_TABLES)
def test_epochs_are_whole_numbers_of_any_library(function: str) -> None:
    names, options = OF_TABLES[function]
    numbers = getattr(pruneviz.plot, function).table
    table, name = source_for(function, filters()), "epochs"
    accepted = [2, np.int64(2), 2.0, np.array([2]), pd.Series([2]), (at for at in (2,)), -1]
    if function == "layer_ratios":
        name, accepted = "epoch", [2, np.int64(2), 2.0, -1]
    found = [numbers(table, *names, **options, **{name: epochs}) for epochs in accepted]
    for other in found[1:]:
        pd.testing.assert_frame_equal(other, found[0])
    for wrong in ("2", 1.5, True, None if function == "layer_ratios" else [None], [0, "1"]):
        if wrong is not None:
            with pytest.raises(FigureError, match="epoch"):
                numbers(table, *names, **options, **{name: wrong})


@pytest.mark.parametrize("function", OF_TABLES)
@pytest.mark.parametrize("option", [{"runs": 0}, {"runs": [1.5]}, {"by": 3}, {"by": ["nonsense"]}])
def test_options_of_another_kind_are_refused(function: str, option: dict[str, Any]) -> None:
    names, options = OF_TABLES[function]
    if function == "scatter" and "by" in option:
        option = {"hue": "nonsense"}
    with pytest.raises(FigureError):
        draw(function, source_for(function, filters()), *names, **options, **option)


def test_repeats_of_one_seed_are_told_apart_and_runs_without_one_are_averaged() -> None:
    table = filters(runs=2).drop(columns="lr")
    for function in ("heatmap", "trajectory", "scatter", "correlation", "masks"):
        names, options = OF_TABLES[function]
        numbers = getattr(pruneviz.plot, function).table
        assert set(numbers(table, *names, **options)["seeds"]) == {2}, function
        found = numbers(table.assign(seed=0), *names, **options)
        assert set(found["group"]) == {"run r0", "run r1"}, function
        assert set(found["seeds"]) == {1}, function


def test_twelve_measures_are_compared() -> None:
    table = filters()
    random = np.random.default_rng(1)
    for place in range(12):
        table[f"measure_{place}"] = table["a"] + random.standard_normal(len(table))
    assert_drawn(draw("heatmap", table), "png")
    names = [f"measure_{place}" for place in range(12)]
    assert_drawn(draw("correlation", table, names, "a"), "png")
