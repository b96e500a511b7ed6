"""Every column of `pruneviz.measure` against its slow twin, for any chunk and kind of sample."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pruneviz as pv
from pruneviz.errors import MeasureError, ScoreError
from tests.support.cases import (
    BY_NAME,
    CASES_AND_MODES,
    CASES_ONCE,
    CLASSES,
    Batches,
    Case,
    as_pair,
    digit_batches,
)
from tests.support.reference import Twin, columns_of, reference_columns, sample_of

DEFAULT = ("theta_norm2", "theta_l1", "sigma", "theta_g", "abs_theta_g", "theta2_abs_g")
DEFAULT += ("theta_hg", "theta_hg_t200", "g_norm2", "theta_g_se", "theta_g_se_iid")
DEFAULT += ("theta_hg_se_given_g",)
BOTH_ERRORS = ("theta_g_se", "theta_g_se_iid")
ALL = (*DEFAULT, "theta2_g2", "synflow", "bn_taylor", "wanda", "fpgm", "hg_norm2")
PER_EXAMPLE = "theta2_g2"  # needs the gradient of every example, which bn="batch" does not have
KEYS = ["layer", "filter", "kept"]
Twins = Mapping[str, Mapping[str, Tensor]]


def assert_column(name: str, got: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    """Equal within `tolerance` of the norm of the column, with nulls at the same places."""
    assert np.array_equal(np.isnan(got), np.isnan(want)), f"{name}: null at other places"
    apart, scale = np.nanmax(np.abs(got - want), initial=0.0), np.sqrt(np.nansum(want**2))
    assert apart <= tolerance * scale, f"{name}: {apart / scale:.1e} of the column's norm apart"


def assert_like_twins(
    frame: pd.DataFrame, twins: Twins, tolerance: float, columns: Sequence[str] = ALL
) -> None:
    rows = [
        (layer, number)
        for layer, values in twins.items()
        for number in range(len(values["theta_g"]))
    ]
    assert list(zip(frame["layer"], frame["filter"], strict=True)) == rows
    for name in columns:
        want = torch.cat([values[name] for values in twins.values()]).numpy()
        assert_column(name, frame[name].to_numpy(np.float64, na_value=np.nan), want, tolerance)


def assert_same_numbers(frame: pd.DataFrame, other: pd.DataFrame, tolerance: float) -> None:
    assert list(frame.columns) == list(other.columns)
    for name in frame.columns.drop(KEYS):
        assert_column(
            name, frame[name].to_numpy(np.float64), other[name].to_numpy(np.float64), tolerance
        )


def sample_for(bn: str, dtype: torch.dtype) -> Batches:
    return [(images.to(dtype), labels) for images, labels in sample_of(bn)]


def columns_in(bn: str) -> list[str]:
    return [name for name in ALL if bn != "batch" or name != PER_EXAMPLE]


@CASES_AND_MODES
def test_float64_agrees_with_the_twin(case: Case, bn: str) -> None:
    frame = pv.measure(case.model(), sample_for(bn, torch.float64), bn=bn, columns=columns_in(bn))
    assert_like_twins(frame, columns_of(case.name, bn), 1e-9, columns_in(bn))
    assert frame["kept"].all()


@CASES_AND_MODES
def test_the_fisher_information_of_gates_agrees_with_the_twin(case: Case, bn: str) -> None:
    frame = pv.measure(case.model(), sample_of(bn), bn=bn, columns=["theta_g", *BOTH_ERRORS])
    found = frame.assign(gate_fisher=pv.score(frame, "gate_fisher"))
    assert_like_twins(found, columns_of(case.name, bn), 1e-9, ["gate_fisher"])


@CASES_ONCE
def test_float32_agrees_with_the_twin(case: Case, bn: str) -> None:
    model = case.model(dtype=torch.float32)
    frame = pv.measure(model, sample_for(bn, torch.float32), bn=bn, columns=columns_in(bn))
    assert_like_twins(frame, columns_of(case.name, bn), 1e-4, columns_in(bn))


@pytest.mark.parametrize("bn", ["eval", "calibrated", "batch"])
@pytest.mark.parametrize("name", ["conv_bn_relu", "reused_conv"])
def test_float64_makes_a_float32_network_exact(name: str, bn: str) -> None:
    model = BY_NAME[name].model(dtype=torch.float32)
    frame = pv.measure(
        model, sample_for(bn, torch.float32), bn=bn, columns=columns_in(bn), dtype=torch.float64
    )
    assert_like_twins(frame, columns_of(name, bn), 1e-9, columns_in(bn))
    assert all(value.dtype == torch.float32 for value in model.parameters())


@pytest.mark.parametrize(
    ("name", "bn", "dtype", "tolerance"),
    [
        ("grouped", "eval", torch.float32, 1e-6),
        ("sequence", "eval", torch.float32, 1e-6),
        ("reused_conv", "calibrated", torch.float32, 1e-6),
        ("mlp", "batch", torch.float32, 1e-6),
        ("conv_relu_bn", "eval", torch.float64, 1e-12),
        ("mlp", "calibrated", torch.float64, 1e-12),
    ],
)
def test_the_chunk_changes_no_number(
    name: str, bn: str, dtype: torch.dtype, tolerance: float
) -> None:
    sample, columns = as_pair(digit_batches((50,), dtype)), columns_in(bn)

    def measured(chunk: int) -> pd.DataFrame:
        return pv.measure(
            BY_NAME[name].model(dtype=dtype), sample, bn=bn, chunk=chunk, columns=columns
        )

    whole = measured(50)
    for chunk in (1, 7, 48):
        assert_same_numbers(measured(chunk), whole, tolerance)


def test_a_real_network_in_float32_keeps_its_numbers_whatever_the_chunk() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )
    sample = as_pair(digit_batches((50,), torch.float32))
    whole = pv.measure(model, sample, chunk=50, columns=ALL)
    for chunk in (1, 7, 32):
        assert_same_numbers(pv.measure(model, sample, chunk=chunk, columns=ALL), whole, 1e-6)


KINDS: Mapping[str, Callable[[Batches], object]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda batches: (batch for batch in batches),
    "lists as batches": lambda batches: [list(batch) for batch in batches],
    "loader": lambda batches: DataLoader(
        TensorDataset(*as_pair(batches)), batch_size=len(batches[0][1])
    ),
}


@pytest.mark.parametrize("bn", ["eval", "calibrated", "batch"])
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        *((kind, (4, 4, 4)) for kind in KINDS),
        ("list", (5, 5)),
        ("tuple", (5, 5)),
    ],  # two batches are not a pair of tensors
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} batches",
)
def test_any_iterable_of_batches_is_a_sample(kind: str, bn: str, sizes: tuple[int, ...]) -> None:
    case, batches = BY_NAME["conv_relu_bn"], digit_batches(sizes)
    twins = columns_of_sizes(sizes, bn)
    assert_like_twins(pv.measure(case.model(), KINDS[kind](batches), bn=bn), twins, 1e-9, DEFAULT)


@functools.cache
def columns_of_sizes(sizes: tuple[int, ...], bn: str) -> Twins:
    case = BY_NAME["conv_relu_bn"]
    return reference_columns(case.model(), digit_batches(sizes), case.layers, bn=bn)


@pytest.mark.parametrize("bn", ["eval", "calibrated", "batch"])
def test_a_pair_of_tensors_is_one_batch(bn: str) -> None:
    frame = pv.measure(
        BY_NAME["conv_relu_bn"].model(),
        as_pair(digit_batches((10,))),
        bn=bn,
        chunk=3,
        columns=columns_in(bn),
    )
    assert_like_twins(frame, columns_of_sizes((10,), bn), 1e-9, columns_in(bn))
    assert (
        frame["theta_g_se"].isna().all()
        == frame["theta_hg_se_given_g"].isna().all()
        == (bn == "batch")
    )


@pytest.mark.parametrize("name", ["conv_bn_relu", "shared_norm", "mlp"])
def test_unequal_batches_count_by_their_size(name: str) -> None:
    case, batches = BY_NAME[name], digit_batches((6, 2, 3))
    twins = reference_columns(case.model(), batches, case.layers, bn="batch")
    columns = [column for column in columns_in("batch") if "_se" not in column]
    assert_like_twins(
        pv.measure(case.model(), batches, bn="batch", columns=columns), twins, 1e-9, columns
    )


def test_batches_of_unequal_size_count_by_their_examples() -> None:
    case, batches = BY_NAME["residual"], digit_batches((6, 4, 2))
    frame = pv.measure(case.model(), batches, bn="batch", columns=["theta_g", *BOTH_ERRORS])
    frame["gate_fisher"] = pv.score(frame, "gate_fisher")
    twin = Twin(case.model(), batches, "batch")
    slopes = twin.gradients_of(twin.observation_losses, 1.0)
    for layer in case.layers:
        at = twin.positions(f"{layer}.weight").flatten(1)
        terms = (twin.theta[at] * slopes[:, at]).sum(2)
        mean, square = (twin.mean_of_observations(values) for values in (terms, terms**2))
        rows = frame[frame["layer"] == layer]
        error = ((square - mean**2) / 2).sqrt()  # three batches
        np.testing.assert_allclose(rows["theta_g_se"], error, rtol=1e-9)
        np.testing.assert_allclose(rows["gate_fisher"], square, rtol=1e-9)


def test_lamp_of_a_snapshot_without_some_filters_is_refused() -> None:
    weights = pv.measure(
        BY_NAME["residual"].model(), digit_batches(), unit="weight", columns="theta"
    )
    assert pv.score(weights[weights["layer"] == "conv1"], "lamp").notna().all()
    with pytest.raises(ScoreError, match="lamp compares all weights"):
        pv.score(weights[weights["filter"] > 0], "lamp")
    with pytest.raises(ScoreError, match="lamp compares all weights"):
        pv.score(weights[weights["filter"] < 2], "lamp")


def test_batch_statistics_leave_an_example_without_a_gradient_of_its_own() -> None:
    with pytest.raises(MeasureError, match=r"theta2_g2.*bn='batch'.*use bn="):
        pv.measure(BY_NAME["mlp"].model(), digit_batches(), bn="batch", columns=[PER_EXAMPLE])


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean()


@pytest.mark.parametrize("bn", ["eval", "batch"])
@pytest.mark.parametrize("name", ["conv_bn_relu", "plain"])
def test_another_loss_with_targets_that_are_no_labels(name: str, bn: str) -> None:
    case = BY_NAME[name]
    batches = [
        (images, F.one_hot(labels, CLASSES).double() + 0.1 * images.mean((2, 3)))
        for images, labels in sample_of(bn)
    ]
    twins = reference_columns(case.model(), batches, case.layers, bn=bn, loss=squared_error)
    frame = pv.measure(
        case.model(), batches, bn=bn, columns=columns_in(bn), loss=squared_error, chunk=2
    )
    assert_like_twins(frame, twins, 1e-9, columns_in(bn))


@pytest.mark.parametrize("temperatures", [(5.0,), (200.0, 1.0), (2.0, 3.0, 1000.0)], ids=str)
def test_the_first_temperature_is_that_of_theta_g_and_each_further_one_has_a_column(
    temperatures: tuple[float, ...],
) -> None:
    case, batches = BY_NAME["residual"], digit_batches((6,))
    frame = pv.measure(case.model(), batches, temperatures=temperatures)
    twins = reference_columns(case.model(), batches, case.layers, temperatures=temperatures)
    further = [f"theta_hg_t{temperature:g}" for temperature in temperatures[1:]]
    assert {name for name in frame.columns if name.startswith("theta_hg_t")} == set(further)
    assert_like_twins(
        frame, twins, 1e-9, [*(name for name in DEFAULT if name != "theta_hg_t200"), *further]
    )


def test_by_default_all_columns_but_those_on_request_are_measured() -> None:
    frame = pv.measure(BY_NAME["mlp"].model(), digit_batches())
    assert set(frame.columns) == {*KEYS, *DEFAULT}


@pytest.mark.parametrize(
    "columns",
    [
        ["theta_norm2"],
        ["sigma", "theta_g"],
        ["theta_hg_t200"],
        ["theta_hg_se_given_g"],
        ["theta2_g2", "theta_g_se"],
        ["synflow"],
        ["bn_taylor", "fpgm"],
        ["wanda"],
        ["g_norm2"],
    ],
    ids="+".join,
)
def test_chosen_columns_come_alone_with_the_same_numbers(columns: list[str]) -> None:
    frame = pv.measure(
        BY_NAME["conv_bn_relu"].model(), sample_of("calibrated"), bn="calibrated", columns=columns
    )
    assert list(frame.columns) == [*KEYS, *columns]
    assert_like_twins(frame, columns_of("conv_bn_relu", "calibrated"), 1e-9, columns)


@pytest.mark.parametrize("bn", ["eval", "calibrated", "batch"])
def test_the_training_flag_of_the_network_does_not_matter(bn: str) -> None:
    model = BY_NAME["conv_bn_relu"].model()
    training, evaluating = (
        pv.measure(model.train(flag), sample_of(bn), bn=bn) for flag in (True, False)
    )
    pd.testing.assert_frame_equal(training, evaluating, check_exact=True)


def test_frozen_parameters_are_measured_like_others() -> None:
    case = BY_NAME["conv_relu_bn"]
    model = case.model()
    model.conv1.weight.requires_grad_(False)
    model.fc.requires_grad_(False)
    assert_like_twins(
        pv.measure(model, sample_of("eval"), columns=ALL), columns_of(case.name, "eval"), 1e-9
    )
