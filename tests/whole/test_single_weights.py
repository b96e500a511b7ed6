"""Single weights: columns against dense twins and filters; subset, correlations and masks."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.analysis.symmetric_log import linear_threshold
from pruneviz.errors import LogError, MeasureError, ScoreError
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import balanced_sample, normalise, subset
from pruneviz.experiment.networks.registry import build_network
from pruneviz.log import schema
from pruneviz.model.filters import NUMBERS
from pruneviz.pruning.held_entries import prune_entries
from tests.support.cases import (
    BY_NAME,
    CASES_AND_MODES,
    CASES_ONCE,
    Case,
    as_pair,
    digit_batches,
)
from tests.support.reference import Twin, sample_of, scale_of

SAMPLE = as_pair(digit_batches(dtype=torch.float32))
KEYS = ["layer", "filter", "weight"]
SUMMED = ["theta_norm2", "theta_l1", "theta_g", "abs_theta_g", "theta2_abs_g", "theta_hg"]
SUMMED += ["theta_hg_t200", "g_norm2", "theta2_g2", "synflow"]
COLUMNS = ["theta", "sigma", *SUMMED]


def columns_in(bn: str) -> list[str]:
    return [name for name in COLUMNS if bn != "batch" or name != "theta2_g2"]


def flow_of_weights(model: nn.Module, example: Tensor) -> dict[str, Tensor]:
    positive = copy.deepcopy(model).double().eval()
    for value in [*positive.parameters(), *positive.buffers()]:
        value.data.abs_()
    positive(torch.ones_like(example, dtype=torch.float64)).sum().backward()
    return {
        name: (value * value.grad).detach()
        for name, value in positive.named_parameters()
        if value.grad is not None
    }


def twin_table(case: Case, bn: str) -> pd.DataFrame:
    """All columns of all weights, weight by weight, from plain autograd and dense Hessians."""
    model, twin = case.model(), Twin(case.model(), sample_of(bn), bn)
    g, g200 = twin.gradient(1.0), twin.gradient(200.0)
    hg, hg200 = twin.hessian(1.0) @ g, twin.hessian(200.0) @ g200
    squares = twin.gradients_of(twin.example_losses, 1.0).square().mean(0)
    flow, rows = flow_of_weights(model, sample_of(bn)[0][0][:1]), []
    for layer, norm in case.layers.items():
        positions = twin.positions(f"{layer}.weight").flatten(1)
        scales = scale_of(model, norm, len(positions))
        for p, own in enumerate(positions.tolist()):
            for j, at in enumerate(own):
                w, dw, hw, h200 = (float(vector[at]) for vector in (twin.theta, g, hg, hg200))
                row = {
                    "layer": layer,
                    "filter": p,
                    "weight": j,
                    "theta": w,
                    "sigma": float(scales[p]),
                    "theta_norm2": w * w,
                    "theta_l1": abs(w),
                    "theta_g": w * dw,
                    "abs_theta_g": abs(w * dw),
                    "theta2_abs_g": w * w * abs(dw),
                    "theta_hg": w * hw,
                    "theta_hg_t200": w * h200,
                    "g_norm2": dw * dw,
                    "theta2_g2": w * w * float(squares[at]),
                    "synflow": float(flow[f"{layer}.weight"][p].flatten()[j]),
                }
                rows.append(row)
    return pd.DataFrame(rows)[[*KEYS, *COLUMNS]]


@CASES_ONCE
def test_every_column_of_every_weight_agrees_with_the_twin(case: Case, bn: str) -> None:
    """Every case once; all modes of all cases are compared with filters below."""
    columns, twin = columns_in(bn), twin_table(case, bn)
    frame = pv.measure(case.model(), sample_of(bn), bn=bn, unit="weight", columns=columns)
    assert list(frame.columns) == [*KEYS, "kept", *columns_in(bn)]
    assert frame[KEYS].astype({"layer": str}).to_numpy().tolist() == twin[KEYS].to_numpy().tolist()
    assert frame["kept"].all()
    for name in columns_in(bn):
        scale = np.sqrt(np.nansum(twin[name] ** 2))
        np.testing.assert_allclose(
            frame[name], twin[name], rtol=0, atol=1e-9 * scale, equal_nan=True, err_msg=name
        )


@CASES_AND_MODES
def test_weights_sum_to_their_filter(case: Case, bn: str) -> None:
    names = [name for name in SUMMED if name in columns_in(bn)]
    weights = pv.measure(
        case.model(), sample_of(bn), bn=bn, unit="weight", columns=[*names, "sigma"]
    )
    filters = pv.measure(case.model(), sample_of(bn), bn=bn, columns=[*names, "sigma"])
    groups = weights.groupby(["layer", "filter"], observed=True, sort=False)
    assert list(groups.size().index) == list(zip(filters["layer"], filters["filter"], strict=True))
    for name in names:
        apart = np.abs(groups[name].sum().to_numpy() - filters[name].to_numpy())
        assert (
            apart <= 1e-13 * groups[name].apply(lambda values: values.abs().sum()).to_numpy()
        ).all(), name
    assert groups["sigma"].nunique().le(1).all()
    np.testing.assert_array_equal(groups["sigma"].first(), filters["sigma"])


def test_by_default_all_columns_of_single_weights_are_measured() -> None:
    frame = pv.measure(
        BY_NAME["mlp"].model(), digit_batches(), unit="weight", temperatures=(1.0, 5.0)
    )
    on_request, another = ("theta2_g2", "synflow"), ("theta_hg_t200",)
    assert set(frame.columns) == {*KEYS, "kept", "theta_hg_t5", *COLUMNS} - {*on_request, *another}


@pytest.mark.parametrize(
    "columns",
    [["theta"], ["theta_hg"], ["sigma", "theta_g"], ["synflow"], ["theta2_g2"]],
    ids="+".join,
)
def test_chosen_columns_come_alone_with_the_same_numbers(columns: list[str]) -> None:
    model, sample = BY_NAME["conv_bn_relu"].model(), sample_of("eval")
    frame = pv.measure(model, sample, unit="weight", columns=columns)
    pd.testing.assert_frame_equal(
        frame, pv.measure(model, sample, unit="weight", columns=COLUMNS)[[*KEYS, "kept", *columns]]
    )


def test_pruned_weights_are_not_kept_and_have_no_derivatives() -> None:
    model = BY_NAME["conv_bn_relu"].model()
    keep = torch.ones_like(model.get_parameter("4.weight"), dtype=torch.bool)
    keep[0], keep[2, 1, 0, 1] = False, False
    prune_entries(model, {"4.weight": keep})
    frame = pv.measure(model, digit_batches(), unit="weight")
    expected = np.concatenate([np.ones(27, dtype=bool), keep.flatten().numpy()])
    assert frame["kept"].tolist() == expected.tolist()
    assert (frame.loc[~expected, ["theta", "theta_norm2", "theta_l1"]] == 0).all(axis=None)
    derived = frame.columns.drop([*KEYS, "kept", "theta", *schema.CHEAP_COLUMNS])
    assert frame.loc[~expected, derived].isna().all(axis=None) and frame.loc[
        expected, derived
    ].notna().all(axis=None)
    assert frame["sigma"].notna().all()
    filters = pv.measure(model, digit_batches(), columns=["theta_g", "sigma"])
    assert (
        filters["theta_g"].isna().tolist()
        == [False] * 3 + [True, False, False, False]
        == (~filters["kept"]).tolist()
    )


def test_weights_of_a_layer_whose_filters_were_removed_keep_the_original_numbers() -> None:
    model = BY_NAME["plain"].model()
    model.get_submodule("0").register_buffer(NUMBERS, torch.tensor([1, 4, 6]))
    frame = pv.measure(model, digit_batches(), unit="weight", columns=["theta"])
    assert frame.loc[frame["layer"] == "0", "filter"].tolist() == [1] * 9 + [4] * 9 + [6] * 9


def test_scores_and_masks_rank_single_weights() -> None:
    table = pv.measure(BY_NAME["conv_bn_relu"].model(), digit_batches(), unit="weight")
    np.testing.assert_allclose(pv.score(table, "magnitude"), table["theta"].abs())
    assert pv.score(table, "snip").tolist() == table["theta_g"].abs().tolist()
    assert pv.score(table, "random").is_unique
    keep = pv.keep_mask(pv.score(table, "proposed"), 0.3)
    lowest = np.argsort(table["theta2_abs_g"].to_numpy(), kind="stable")[: round(0.3 * len(table))]
    assert sorted(np.flatnonzero(~keep)) == sorted(lowest)
    with pytest.raises(
        ScoreError,
        match=r"theta_change needs theta, theta_delta; .*with a Recorder with unit='weight'",
    ):
        pv.score(table, "theta_change")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"unit": "chanel"},
            "unit='chanel'; choose one of 'filter', 'weight', 'head', .*'channel'",
        ),
        (
            {"unit": "weight", "columns": ["sigma_delta"]},
            "no weight column 'sigma_delta'.*hoose one of theta, theta_norm2",
        ),
        (
            {"columns": ["theta"]},
            "no filter column 'theta'.*hoose one of theta_norm2",
        ),
        (
            {"unit": "weight", "columns": ["theta2_g2"], "bn": "batch"},
            "theta2_g2.*bn='batch'.*use bn=",
        ),
    ],
    ids=str,
)
def test_columns_that_single_weights_do_not_have_raise(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(MeasureError, match=said):
        pv.measure(BY_NAME["conv_bn_relu"].model(), digit_batches(), **options)
    if "theta2_g2" not in options.get("columns", ()):  # which is refused when it is measured
        with pytest.raises(MeasureError, match=said):
            pv.Recorder(
                BY_NAME["conv_bn_relu"].model(), digit_batches(), tmp_path / "run", **options
            )
        assert not (tmp_path / "run").exists()


# Recording


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    return BY_NAME["conv_bn_relu"].model(dtype=dtype)  # 27 + 48 weights


def train_epoch(model: nn.Module, seed: int, sample: tuple[Tensor, Tensor] = SAMPLE) -> None:
    torch.manual_seed(seed)
    for _ in range(3):
        loss = F.cross_entropy(model.train()(sample[0]), sample[1])
        for parameter, g in zip(
            model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
        ):
            parameter.data -= 0.5 * g


def record(
    model: nn.Module, out: Path, epochs: int = 4, **options: Any
) -> tuple[pv.Runs, list[pd.DataFrame]]:
    """A recording of single weights, and the full table of `measure` at every epoch."""
    tables = []
    with pv.Recorder(model, SAMPLE, out, **{"every": 2, "unit": "weight", **options}) as recorder:
        for epoch in range(epochs + 1):
            if epoch:
                train_epoch(model, epoch)
            recorder.after_epoch(epoch)
            tables.append(pv.measure(model, SAMPLE, unit="weight"))
    return pv.load(out), tables


def stored_at(runs: pv.Runs, epoch: int) -> pd.DataFrame:
    return runs.filters[runs.filters["epoch"] == epoch].reset_index(drop=True)


@pytest.mark.parametrize("rows", [20, 75, 2000])
def test_the_log_holds_a_fixed_subset_of_the_measured_rows(tmp_path: Path, rows: int) -> None:
    runs, tables = record(network(), tmp_path / "run", rows=rows)
    fixed = stored_at(runs, 0)[KEYS].astype({"layer": str})
    assert len(fixed) == min(rows, 75) and not fixed.duplicated().any()
    for epoch, table in enumerate(tables):
        stored, keyed = stored_at(runs, epoch), table.astype({"layer": str}).set_index(KEYS)
        pd.testing.assert_frame_equal(stored[KEYS].astype({"layer": str}), fixed)
        expected = keyed.loc[pd.MultiIndex.from_frame(fixed)].reset_index(drop=True)
        derived = [
            name for name in expected if name not in ("kept", "theta", *schema.CHEAP_COLUMNS)
        ]
        for name in (
            expected.columns if epoch % 2 == 0 else ["kept", "theta", *schema.CHEAP_COLUMNS]
        ):
            assert stored[name].tolist() == expected[name].astype(stored[name].dtype).tolist(), name
        assert stored[derived].notna().all(axis=None) == (epoch % 2 == 0)
    assert runs.filters[[*schema.STANDARD_ERRORS, "theta2_g2", "synflow"]].isna().all(axis=None)
    spec = runs.spec.iloc[0]
    assert (
        spec["unit"],
        spec["weight_rows"],
        spec["weight_rows_seed"],
        spec["weights"],
        spec["mask_score"],
    ) == (
        "weight",
        rows,
        0,
        75,
        "magnitude",
    )


@pytest.mark.parametrize("lag", [1, 2])
def test_changes_are_plain_differences_of_values_lag_epochs_apart(tmp_path: Path, lag: int) -> None:
    runs, _ = record(network(), tmp_path / "run", rows=20, lag=lag)
    for name in ("theta", "sigma"):
        values, deltas = (
            np.stack([stored_at(runs, epoch)[column] for epoch in range(5)])
            for column in (name, f"{name}_delta")
        )
        assert np.array_equal(deltas[lag:], values[lag:] - values[:-lag])
        assert np.isnan(deltas[:lag]).all() and np.abs(deltas[lag:]).min() > 0
    change = pv.score(runs.filters, "theta_change")
    np.testing.assert_allclose(
        change,
        np.abs(runs.filters["theta"].astype("f8") * runs.filters["theta_delta"].astype("f8")),
        rtol=1e-15,
    )


def test_the_seed_alone_chooses_the_stored_weights(tmp_path: Path) -> None:
    chosen = []
    for number, seed in enumerate((5, 5, 6)):
        torch.manual_seed(number)  # the global generator has no part in it
        runs, _ = record(network(), tmp_path / str(number), epochs=0, rows=20, rows_seed=seed)
        chosen.append(runs.filters[KEYS].astype({"layer": str}).to_numpy().tolist())
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(
    ("option", "value"),
    [("rows", 0), ("rows", 2.5), ("rows", True), ("rows_seed", -1), ("rows_seed", "a")],
    ids=str,
)
def test_an_invalid_subset_raises_and_writes_nothing(
    tmp_path: Path, option: str, value: object
) -> None:
    with pytest.raises(LogError, match=rf"{option}={value!r}; give a whole number from"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", unit="weight", **{option: value})  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_spec_that_contradicts_the_unit_raises(tmp_path: Path) -> None:
    with pytest.raises(
        LogError, match="spec says unit='weight', but the recorder measures with 'filter'"
    ):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", spec={"unit": "weight"})
    with pytest.raises(
        LogError,
        match="mask_score='sigma_change' is not known at every epoch; choose one of magnitude",
    ):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", unit="weight", mask_score="sigma_change")


def plain_correlations(
    before: pd.DataFrame | None, table: pd.DataFrame
) -> list[tuple[str, str, str, int, float]]:
    """Correlations of all kept weights by scipy in float64, from full tables of two epochs."""
    kept = table["kept"].to_numpy()
    change = (
        np.full(len(table), np.nan)
        if before is None
        else np.abs(table["theta"] * (table["theta"] - before["theta"])).to_numpy()
    )
    pairs = {
        ("theta_g", "theta_hg"): (table["theta_g"], table["theta_hg"]),
        ("theta_change", "loss_preservation"): (change, table["abs_theta_g"]),
    }
    found = []
    for (x, y), (xs, ys) in pairs.items():
        chosen = kept & ~np.isnan(xs) & ~np.isnan(ys)
        a, b = np.asarray(xs, "float64")[chosen], np.asarray(ys, "float64")[chosen]
        for method, function in (
            ("pearson", stats.pearsonr),
            ("spearman", stats.spearmanr),
            ("symlog", symlog_correlation),
        ):
            r = function(a, b).statistic if chosen.any() else np.nan
            found.append((x, y, method, int(chosen.sum()), float(r)))
    return found


def symlog_correlation(a: np.ndarray, b: np.ndarray) -> Any:
    """Pearson's r of sign(v) log(1 + |v| / threshold), a threshold for each axis."""
    drawn = [
        np.sign(values) * np.log(1 + np.abs(values) / linear_threshold(values)) for values in (a, b)
    ]
    return stats.pearsonr(*drawn)


def assert_correlations(
    runs: pv.Runs, tables: list[pd.DataFrame], every: int, lag: int = 1
) -> None:
    found = runs.correlations.set_index("epoch")
    assert sorted(found.index.unique()) == list(range(0, len(tables), every))
    for epoch in found.index.unique():
        expected = plain_correlations(tables[epoch - lag] if epoch >= lag else None, tables[epoch])
        rows = found.loc[[epoch]]
        assert rows[["x", "y", "method", "n"]].astype(str).to_numpy().tolist() == [
            list(map(str, row[:4])) for row in expected
        ]
        np.testing.assert_allclose(rows["r"], [row[4] for row in expected], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(rows["r"].iloc[:2], [row[4] for row in expected[:2]], rtol=1e-12)


@pytest.mark.parametrize("lag", [1, 2])
def test_correlations_are_over_all_weights(tmp_path: Path, lag: int) -> None:
    runs, tables = record(network(), tmp_path / "run", rows=10, lag=lag)
    assert_correlations(runs, tables, every=2, lag=lag)
    assert runs.correlations["r"].isna().tolist() == [False] * 3 + [True] * 3 + [False] * 12
    stored = pv.correlate(runs.filters[runs.filters["epoch"] == 4], "theta_g", "theta_hg")[
        "r"
    ].iloc[0]
    assert (
        abs(
            stored
            - runs.correlations.query("epoch == 4 and x == 'theta_g' and method == 'pearson'")[
                "r"
            ].iloc[0]
        )
        > 1e-3
    )


def test_pruned_weights_are_left_out_of_correlations_and_are_masked_out(tmp_path: Path) -> None:
    model, tables = network(), []
    with pv.Recorder(model, SAMPLE, tmp_path / "run", 1, unit="weight", mask_ratio=0.3) as recorder:
        for epoch in range(3):
            train_epoch(model, epoch)
            if epoch:
                keep = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(epoch)) > 0.4
                prune_entries(model, {"4.weight": keep})
                # a zero without a mask has derivatives
                model.get_parameter("0.weight").data[0, 0, 0, epoch] = 0.0
            recorder.after_epoch(epoch)
            tables.append(pv.measure(model, SAMPLE, unit="weight"))
    runs = pv.load(tmp_path / "run")
    assert_correlations(runs, tables, every=1)
    assert runs.correlations.query("x == 'theta_g'")["n"].tolist() == [
        n for t in tables for n in [int(t["kept"].sum())] * 3
    ]
    assert (
        runs.epochs["kept_fraction"].tolist() == [t["kept"].mean() for t in tables]
        and tables[2]["kept"].mean() < 0.8
    )
    pd.testing.assert_series_equal(  # all weights are stored here
        runs.epochs["mask_distance"].iloc[1:],
        pv.mask_distance(runs.filters, "magnitude", 0.3)["distance"],
        check_names=False,
        check_index=False,
    )


def test_a_column_that_is_not_measured_has_null_correlations(tmp_path: Path) -> None:
    runs, _ = record(network(), tmp_path / "run", epochs=2, columns=("theta_g",))
    assert (
        runs.correlations["n"].eq(0).all()
        and runs.correlations["r"].isna().all()
        and len(runs.correlations) == 12
    )


def test_a_recording_of_theta_alone_has_the_facts_of_the_network(tmp_path: Path) -> None:
    runs, _ = record(network(), tmp_path / "run", epochs=0, columns=("theta",))
    assert runs.epochs[["sample_loss", "g_norm2"]].notna().all(axis=None)
    assert runs.filters[["theta_g", "theta_hg"]].isna().all(axis=None)


def plain_mask_distance(before: np.ndarray, now: np.ndarray, ratio: float) -> float:
    kept = []
    for values in (before, now):
        mask = np.ones(len(values), dtype=bool)
        mask[np.argsort(values, kind="stable")[: round(ratio * len(values))]] = False
        kept.append(mask)
    return float(np.mean(kept[0] != kept[1]))


@pytest.mark.parametrize(("score", "ratio"), [(None, 0.2), ("l1_norm", 0.5), ("bn_scale", 0.3)])
def test_the_mask_distance_is_over_all_weights(
    tmp_path: Path, score: str | None, ratio: float
) -> None:
    runs, tables = record(network(), tmp_path / "run", rows=10, mask_score=score, mask_ratio=ratio)
    values = [
        np.abs(table["sigma" if score == "bn_scale" else "theta"].to_numpy()) for table in tables
    ]
    expected = [plain_mask_distance(before, now, ratio) for before, now in pairwise(values)]
    assert np.isnan(runs.epochs["mask_distance"][0]) and max(expected) > 0
    assert runs.epochs["mask_distance"].tolist()[1:] == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rewind", [True, False])
def test_a_resumed_recording_equals_one_that_was_never_cut_off(
    tmp_path: Path, rewind: bool, dtype: torch.dtype
) -> None:
    options: dict[str, Any] = {
        "every": 1,
        "unit": "weight",
        "rows": 10,
        "rows_seed": 4,
        "dtype": dtype,
    }
    whole, _ = record(network(), tmp_path / "whole", **options)
    model, checkpoint = network(), {}
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "cut", **options)
    for epoch in range(4 if rewind else 3):
        if epoch:
            train_epoch(model, epoch)
        recorder.after_epoch(epoch)
        checkpoint[epoch] = copy.deepcopy(model.state_dict())
    fresh = BY_NAME["conv_bn_relu"].model(seed=9, dtype=torch.float32)
    if not rewind:
        fresh.load_state_dict(checkpoint[2])
    with pv.Recorder(fresh, SAMPLE, tmp_path / "cut", resume=True, **options) as resumed:
        if rewind:
            fresh.load_state_dict(checkpoint[2])
            resumed.rewind(2)
        assert resumed.last_epoch == 2
        for epoch in (3, 4):
            train_epoch(fresh, epoch)
            resumed.after_epoch(epoch)
    runs = pv.load(tmp_path / "cut")
    for table in ("filters", "epochs", "correlations"):
        pd.testing.assert_frame_equal(
            getattr(runs, table).drop(columns="run"),
            getattr(whole, table).drop(columns="run"),
            check_exact=True,
        )
    assert (
        runs.epochs["mask_distance"].iloc[1:].notna().all()
        and runs.correlations["r"].iloc[6:].notna().all()
    )


def test_after_a_resume_changes_over_several_epochs_are_null_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"every": 1, "unit": "weight", "rows": 10, "lag": 2}
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run", **options)
    for epoch in range(3):
        recorder.after_epoch(epoch)
        if epoch < 2:
            train_epoch(model, epoch)
    with pytest.raises(LogError, match="weight_rows was 10, now 11"):
        pv.Recorder(model, SAMPLE, tmp_path / "run", resume=True, **{**options, "rows": 11})
    with pv.Recorder(model, SAMPLE, tmp_path / "run", resume=True, **options) as resumed:
        for epoch in (3, 4, 5):
            train_epoch(model, epoch)
            resumed.after_epoch(epoch)
    assert "changes of single weights over 2 epochs are null before epoch 4" in caplog.text
    runs = pv.load(tmp_path / "run")
    known = runs.filters.groupby("epoch")[["theta_delta", "sigma_delta"]].count()
    assert known.to_numpy().tolist() == [[0, 0], [0, 0], [10, 10], [0, 0], [10, 10], [10, 10]]
    assert runs.epochs["mask_distance"].isna().tolist() == [True] + [False] * 5


def test_recording_weights_does_not_move_training(tmp_path: Path) -> None:
    ends = []
    for recording in (False, True):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        model = network()
        recorder = (
            pv.Recorder(model, SAMPLE, tmp_path / "run", 1, unit="weight", rows=10)
            if recording
            else None
        )
        for epoch in range(4):
            # with dropout from the global generator
            loss = F.cross_entropy(model.train()(SAMPLE[0]), SAMPLE[1])
            for parameter, g in zip(
                model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                parameter.data -= 0.1 * g
            if recorder:
                recorder.after_epoch(epoch)
        ends.append((model.state_dict(), torch.rand(3), np.random.rand()))  # noqa: NPY002
    assert all(
        torch.equal(a, b) for a, b in zip(ends[0][0].values(), ends[1][0].values(), strict=True)
    )
    assert torch.equal(ends[0][1], ends[1][1]) and ends[0][2] == ends[1][2]


def test_a_narrow_vgg13_on_real_digits(tmp_path: Path) -> None:
    data = subset(load_dataset("digits"), 4, 2, seed=0)
    sample, images = (
        balanced_sample(data, 2, seed=0),
        (normalise(data.train_images), data.train_labels),
    )
    torch.manual_seed(0)
    model = build_network("vgg13", num_classes=10, width=0.0625)
    tables = []
    with pv.Recorder(
        model, sample, tmp_path / "run", 1, unit="weight", rows=500, dtype=torch.float64
    ) as recorder:
        for epoch in range(3):
            if epoch:
                train_epoch(model, epoch, images)
            recorder.after_epoch(epoch)
            tables.append(
                pv.measure(
                    model,
                    sample,
                    unit="weight",
                    dtype=torch.float64,
                    columns=["theta", "theta_g", "theta_hg", "abs_theta_g"],
                )
            )
    runs = pv.load(tmp_path / "run")
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d))
    assert (
        runs.spec["weights"].tolist() == [weights]
        and len(tables[0]) == weights
        and len(runs.filters) == 3 * 500
    )
    for epoch, table in enumerate(tables):
        expected = plain_correlations(tables[epoch - 1] if epoch else None, table)
        np.testing.assert_allclose(
            runs.correlations.query(f"epoch == {epoch}")["r"],
            [row[4] for row in expected],
            rtol=1e-6,
        )
        assert set(runs.correlations.query(f"epoch == {epoch} and x == 'theta_g'")["n"]) == {
            weights
        }
    distances = [
        plain_mask_distance(*(t["theta"].abs().to_numpy() for t in pair), 0.2)
        for pair in pairwise(tables)
    ]
    assert runs.epochs["mask_distance"].tolist()[1:] == distances and min(distances) > 0
