"""Columns of units are sums over their entries, equal to plain double backward in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import FigureError, LogError, MeasureError
from pruneviz.log.request_columns import FULL_ERRORS
from pruneviz.pruning.held_entries import prune_entries
from tests.model.test_unit_kinds import Block, Fused, Separate, Torch
from tests.support.entries import entry_columns

SUMS = [
    "theta_norm2", "theta_l1", "theta_g", "abs_theta_g", "theta2_abs_g", "g_norm2", "theta_hg",
]  # fmt: skip
IMAGES, TARGET = (
    torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(3)),
    torch.arange(6) % 3,
)
SAMPLE = (IMAGES, TARGET)


def network(kind: str = "grouped") -> nn.Module:
    torch.manual_seed(0)
    parts = {
        "grouped": lambda: Separate(2),
        "fused": lambda: Fused(True),
        "torch": lambda: Torch(8, 4),
    }
    return Block(parts[kind]()).eval()


def summed(values: dict[str, torch.Tensor], parts: list[tuple[str, int, slice]]) -> float:
    """Sum over slices of parameters, entry by entry."""
    seen = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in values.items()}
    for name, dim, index in parts:
        seen[name].movedim(dim, 0)[index] = True
    return float(sum(values[name][mask].sum() for name, mask in seen.items()))


def grouped_head(unit: int) -> list[tuple[str, int, slice]]:
    queries, keys = slice(4 * unit, 4 * unit + 4), slice(2 * unit, 2 * unit + 2)
    return [
        *((f"attention.a.{kind}", 0, queries) for kind in ("weight", "bias")),
        *((f"attention.{n}.{kind}", 0, keys) for n in "bc" for kind in ("weight", "bias")),
        ("attention.o.weight", 1, queries),
    ]


def fused_head(unit: int) -> list[tuple[str, int, slice]]:
    rows = slice(6 * unit, 6 * unit + 6)
    made = [(f"attention.qkv.{kind}", 0, rows) for kind in ("weight", "bias")]
    return [*made, ("attention.proj.weight", 1, slice(2 * unit, 2 * unit + 2))]


def neuron(unit: int) -> list[tuple[str, int, slice]]:
    one = slice(unit, unit + 1)
    made = [(f"{n}.{kind}", 0, one) for n in ("up", "gate") for kind in ("weight", "bias")]
    return [*made, ("down.weight", 1, one)]


EXPECTED = {
    ("grouped", "head"): (2, grouped_head),
    ("fused", "head"): (4, fused_head),
    ("grouped", "neuron"): (6, neuron),
}


@pytest.mark.parametrize(("kind", "unit"), EXPECTED)
def test_columns_are_sums_over_all_entries_of_a_unit(kind: str, unit: str) -> None:
    model, (count, entries) = network(kind), EXPECTED[kind, unit]
    table = pv.measure(model, SAMPLE, unit=unit, dtype=torch.float64, columns=SUMS)
    twin = entry_columns(model, IMAGES.double(), TARGET)
    assert len(table) == count
    for column in SUMS:
        want = [summed(twin[column], entries(n)) for n in range(count)]
        np.testing.assert_allclose(table[column], want, rtol=1e-8, err_msg=column)


def test_a_grouping_over_overlapping_slices_counts_an_entry_once() -> None:
    model = network()
    parts = [("attention.o.weight", 0, slice(0, 2)), ("attention.o.weight", 1, slice(1, 3))]
    grouping = {"cross": [(n, d, range(i.start, i.stop)) for n, d, i in parts]}
    table = pv.measure(model, SAMPLE, unit=grouping, dtype=torch.float64, columns=SUMS)
    twin = entry_columns(model, IMAGES.double(), TARGET)
    assert table[["layer", "filter"]].to_numpy().tolist() == [["cross", 0]]
    for column in SUMS:
        np.testing.assert_allclose(table[column], [summed(twin[column], parts)], rtol=1e-8)


def test_columns_on_request_and_other_temperatures_are_sums_too() -> None:
    model = network("fused")
    columns = ["theta2_g2", "synflow", "theta_hg_t200"]
    options = {"columns": columns, "dtype": torch.float64, "temperatures": (1.0, 200.0)}
    table = pv.measure(model, SAMPLE, unit="head", **options)
    names = ["attention.qkv", "attention.qkv.bias", "attention.proj"]
    weights = pv.measure(model, SAMPLE, unit="weight", layers=names, **options)
    cells = dict(iter(weights.groupby("layer", observed=True)))
    for column in columns:
        by_row = cells["attention.qkv"][column].to_numpy().reshape(4, -1).sum(1)
        by_bias = cells["attention.qkv.bias"][column].to_numpy().reshape(4, -1).sum(1)
        by_column = cells["attention.proj"][column].to_numpy().reshape(8, 4, 2).sum((0, 2))
        np.testing.assert_allclose(table[column], by_row + by_bias + by_column, rtol=1e-9)


def test_layers_and_skip_choose_by_the_names_of_units() -> None:
    model = network()
    assert set(pv.measure(model, SAMPLE, unit="head", layers="att*")["layer"]) == {"attention"}
    with pytest.raises(
        MeasureError, match=r"there is no layer of units for layers 'atention'; did"
    ):
        pv.measure(model, SAMPLE, unit="head", layers="atention")
    with pytest.raises(MeasureError, match="leave no head; there are those of attention"):
        pv.measure(model, SAMPLE, unit="head", skip="*")


@pytest.mark.parametrize("column", ["theta_g_se_iid", "theta_hg_se_given_g"])
def test_standard_errors_by_example_are_no_columns_of_units(column: str) -> None:
    with pytest.raises(MeasureError, match=rf"no head column '{column}'"):
        pv.measure(network(), SAMPLE, unit="head", columns=column)


def test_units_have_the_standard_errors_of_half_samples() -> None:
    full = pv.measure(network(), SAMPLE, unit="head", errors="full", seed=3)
    named = pv.measure(network(), SAMPLE, unit="head", columns=["default", *FULL_ERRORS], seed=3)
    pd.testing.assert_frame_equal(full, named, check_exact=True)
    assert (full[list(FULL_ERRORS)] > 0).all(axis=None)
    assert full.attrs["se_df"] == full.attrs["se_df_drawn"] < 8


def test_heads_are_recorded_scored_and_compared_like_filters(tmp_path: Path) -> None:
    model = network("fused")
    with pv.Recorder(model, SAMPLE, tmp_path / "run", every=1, unit="head") as recorder:
        recorder.after_epoch(0)
        kept: dict[str, torch.Tensor] = {}
        for name, dim, index in fused_head(1):
            keep = kept.setdefault(
                name, torch.ones_like(model.get_parameter(name), dtype=torch.bool)
            )
            keep.movedim(dim, 0)[index] = False
        prune_entries(model, kept)
        recorder.after_epoch(1)
        ranked = recorder.table(1, columns="theta_g")
    runs = pv.load(tmp_path)
    assert runs.spec["unit"].tolist() == ["head"]
    assert runs.epochs["kept_fraction"].tolist() == [1.0, 0.75]
    last = runs.filters[runs.filters["epoch"] == 1]
    assert last["kept"].tolist() == ranked["kept"].tolist() == [True, False, True, True]
    assert last["theta_g"].isna().tolist() == [False, True, False, False]
    assert pv.score(runs.filters, "magnitude").notna().all()
    distances = pv.mask_distance(runs.filters, score="magnitude", ratio=0.5)
    assert distances["distance"].notna().all()
    pd.testing.assert_series_equal(
        runs.filters[runs.filters["epoch"] == 0]["theta_g"].reset_index(drop=True),
        pv.measure(network("fused"), SAMPLE, unit="head")["theta_g"].astype("float32"),
    )


def test_a_recording_of_heads_is_drawn_with_its_own_words(tmp_path: Path) -> None:
    model = network("fused")
    spec = {"network": "mine", "dataset": "digits", "seed": 0}
    with pv.Recorder(model, SAMPLE, tmp_path / "run", 1, spec, unit="head") as recorder:
        for epoch in range(3):
            recorder.after_epoch(epoch)
            with torch.no_grad():
                model.attention.qkv.weight.mul_(1.1)
    composed = pv.compose("13", pv.load(tmp_path), networks=["mine"])
    assert "One point is one attention head" in composed.caption
    assert composed.numbers["heads"].eq(4).all()
    assert len(composed.numbers) == 2 * 4


def test_recordings_of_several_units_are_told_apart(tmp_path: Path) -> None:
    for unit in ("head", "neuron"):
        spec = {"network": "mine", "dataset": "digits", "seed": 0}
        with pv.Recorder(network(), SAMPLE, tmp_path / unit, 1, spec, unit=unit) as recorder:
            recorder.after_epoch(0)
    with pytest.raises(FigureError, match=r"choose one kind first, .* runs.select\(unit='head'\)"):
        pv.draw("13", pv.load(tmp_path), networks=["mine"])


def test_a_recording_of_units_is_not_resumed_with_others(tmp_path: Path) -> None:
    one = {"a": [("up.weight", 0, [0, 1])]}
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run", 1, unit=one)
    recorder.after_epoch(0)  # and not closed
    other = {"a": [("up.weight", 0, [0, 2])]}
    with pytest.raises(LogError, match=r"rows was '1 x group in 1 layers .*, now"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", 1, unit=other, resume=True)
    with pytest.raises(LogError, match="kept was 'masks', now 'nonzero'"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", 1, unit=one, kept="nonzero", resume=True)
    with pv.Recorder(network(), SAMPLE, tmp_path / "run", 1, unit=one, resume=True) as recorder:
        recorder.after_epoch(1)
    assert len(pv.load(tmp_path).filters) == 2
