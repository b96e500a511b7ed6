"""Facts that hold exactly for any network (Lubana and Dick, ICLR 2021), through the public API."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import pruneviz as pv
from pruneviz.experiment.networks.registry import build_network
from tests.support.cases import BY_NAME, CLASSES, Batches, as_pair, digit_batches, randomise

FIRST = ["theta_norm2", "theta_g", "abs_theta_g", "theta_hg", "g_norm2"]
NETWORKS = ["vgg13", "mobilenet_v1", "resnet56"]


def real_digits(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Handwritten digits for the networks of the paper: [N, 3, size, size] in [-1, 1]."""
    data = load_digits()
    images = torch.from_numpy(data.images[:count])[:, None].expand(-1, 3, -1, -1) / 8 - 1
    return F.interpolate(images, (size, size)), torch.from_numpy(data.target[:count]).long()


def small_network(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return randomise_norms(build_network(name, num_classes=10, width=1 / 16)).double()


def randomise_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            randomise(module)
    return model


def total(frame: pd.DataFrame, column: str) -> float:
    return float(frame[column].sum())


def linear_loss(output: Tensor, target: Tensor) -> Tensor:
    """The limit of T times cross-entropy of output / T for large T, up to a constant."""
    return (output.mean(1) - output.gather(1, target[:, None])[:, 0]).mean()


def flow_step(model: nn.Module, batches: Batches, bn: str, step: float) -> nn.Module:
    """A copy of the model one Euler step down the gradient, formed by plain autograd."""
    moved = copy.deepcopy(model).eval()
    for module in moved.modules():
        module.training = bn == "batch" and isinstance(module, _BatchNorm)
    examples = sum(len(labels) for _, labels in batches)
    total = sum(F.cross_entropy(moved(x), y, reduction="sum") for x, y in batches)
    parameters = list(moved.parameters())
    slopes = torch.autograd.grad(total / examples, parameters)
    for value, slope in zip(parameters, slopes, strict=True):
        value.data -= step * slope
    return moved


@pytest.mark.parametrize("seed", [0, 1])
def test_a_quadratic_loss_has_its_closed_form(
    seed: int,
) -> None:
    images, labels = as_pair(digit_batches((9,)))
    pixels = images.flatten(1)
    form = torch.randn(5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    form = form + form.T  # symmetric, of either sign
    model = randomise(nn.Sequential(nn.Conv2d(16, 5, 1, bias=False), nn.Flatten()), seed).double()
    frame = pv.measure(
        model,
        (pixels[:, :, None, None], labels),
        temperatures=(1.0, 2.0),
        loss=lambda output, target: 0.5 * ((output @ form) * output).sum(1).mean(),
        classifier=True,
        chunk=4,
    )
    theta, matrix = (
        model[0].weight.detach().flatten(),
        torch.kron(form, pixels.T @ pixels / len(pixels)),
    )
    g = matrix @ theta
    expected = {
        "theta_g": theta * g,
        "abs_theta_g": (theta * g).abs(),
        "theta_hg": theta * (matrix @ g),
        "g_norm2": g * g,
    }
    for name, terms in expected.items():
        np.testing.assert_allclose(
            frame[name], terms.view(5, 16).sum(1), rtol=1e-11, atol=1e-11 * float(terms.abs().sum())
        )
    assert total(frame, "theta_hg") == pytest.approx(total(frame, "g_norm2"), rel=1e-12)
    np.testing.assert_allclose(frame["theta_hg_t2"], frame["theta_hg"] / 2**4, rtol=1e-11)


FLOWS = pytest.mark.parametrize(
    ("name", "bn"),
    [
        ("plain", "eval"),
        ("conv_bn_relu", "eval"),
        ("conv_bn_relu", "batch"),
        ("residual", "batch"),
        ("mlp", "eval"),
        ("mlp", "batch"),
    ],
)


@FLOWS
def test_gradient_flow_moves_filters_as_their_columns_predict(name: str, bn: str) -> None:
    model, batches = BY_NAME[name].model(), digit_batches()
    columns = {"bn": bn, "columns": FIRST, "temperatures": (1.0,), "classifier": True}
    start = pv.measure(model, batches, **columns)
    errors = []
    for step in (1e-4, 5e-5):
        after = pv.measure(flow_step(model, batches, bn, step), batches, **columns)
        rate = (after[FIRST] - start[FIRST]) / step
        np.testing.assert_allclose(
            rate["theta_norm2"],
            step * start["g_norm2"] - 2 * start["theta_g"],
            rtol=1e-8,
            atol=1e-10,
        )
        errors.append(np.linalg.norm(rate["theta_g"] + start["g_norm2"] + start["theta_hg"]))
    assert errors[0] < 0.05 * np.linalg.norm(start["g_norm2"] + start["theta_hg"])
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


@FLOWS
def test_gradient_flow_moves_the_network_as_the_epochs_table_predicts(
    name: str, bn: str, tmp_path: Path
) -> None:
    model, batches, steps = BY_NAME[name].model(), digit_batches(), (0.0, 1e-4, 5e-5)
    start = copy.deepcopy(model)
    with pv.Recorder(
        model, batches, out=tmp_path / "flow", every=1, bn=bn, temperatures=(1.0,)
    ) as recorder:
        for epoch, step in enumerate(steps):
            model.load_state_dict(flow_step(start, batches, bn, step).state_dict())
            recorder.after_epoch(epoch)
    epochs = pv.load(tmp_path / "flow").epochs
    loss, g_norm2, ghg = (
        epochs[column].to_numpy(np.float64) for column in ("sample_loss", "g_norm2", "ghg")
    )
    for values, slope in ((loss, -g_norm2[0]), (g_norm2, -2 * ghg[0])):
        errors = np.abs((values[1:] - values[0]) / np.array(steps[1:]) - slope)
        assert errors[0] < 0.05 * abs(slope)
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


INVARIANT = {
    "conv_bn_relu": ["0", "4"],
    "conv_relu_bn": ["conv2"],
    "preactivation": ["conv1"],
    "residual": ["conv1", "conv2", "shortcut"],
    "grouped": ["0", "6"],
    "mlp": ["4"],
    "shared_norm": ["conv1", "conv2"],
    "concatenated": ["right"],
    "fully_convolutional": ["0"],
}


def norm_facts(
    model: nn.Module, sample: object, layers: Sequence[str], bn: str, eps: float
) -> tuple[float, float]:
    """Distances of theta_g from 0 and of theta_hg from -g_norm2, relative to their terms."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eps = eps
    frame = pv.measure(
        model, sample, bn=bn, columns=FIRST, temperatures=(1.0,), dtype=torch.float64
    )
    frame = frame[frame["layer"].isin(layers)]
    first = np.linalg.norm(frame["theta_g"]) / np.linalg.norm(frame["abs_theta_g"])
    second = np.linalg.norm(frame["theta_hg"] + frame["g_norm2"]) / np.linalg.norm(frame["g_norm2"])
    return float(first), float(second)


@pytest.mark.parametrize("name", INVARIANT)
def test_batch_statistics_make_filters_scale_free(name: str) -> None:
    def facts(bn: str, eps: float) -> tuple[float, float]:
        return norm_facts(BY_NAME[name].model(), digit_batches(), INVARIANT[name], bn, eps)

    assert max(facts("batch", 1e-14)) < 1e-9
    small, smaller = np.array(facts("batch", 1e-5)), np.array(facts("batch", 1e-6))
    np.testing.assert_allclose(small / smaller, 10, rtol=0.02)
    assert min(facts("eval", 1e-14)) > 0.01
    assert min(facts("calibrated", 1e-14)) > 0.01


@pytest.mark.parametrize("network", NETWORKS)
def test_batch_statistics_make_the_papers_networks_scale_free(
    network: str,
) -> None:
    model, sample = small_network(network), real_digits(24, 32 if network == "vgg13" else 8)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert max(norm_facts(model, sample, layers, "batch", 1e-17)) < 1e-8
    assert min(norm_facts(model, sample, layers, "eval", 1e-17)) > 0.01


def assert_conserved(frame: pd.DataFrame, column: str, expected: float) -> None:
    sums = frame.groupby("layer", observed=True)[column].sum()
    assert len(sums) > 3
    np.testing.assert_allclose(sums, expected, rtol=1e-10)


def bias_free_vgg() -> nn.Sequential:
    """VGG-13 at a sixteenth of its width without its norms; no layer has a bias."""
    torch.manual_seed(0)
    network = build_network("vgg13", num_classes=10, width=1 / 16)
    layers = [layer for layer in network.features if not isinstance(layer, _BatchNorm)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(network.classifier.in_features, 10, bias=False)
    ).double()


@pytest.mark.parametrize(
    "real", [False, True], ids=["grouped and depthwise", "VGG-13 without norms"]
)
def test_without_biases_and_norms_all_layers_have_the_same_sum(real: bool) -> None:
    model, sample = (
        (bias_free_vgg(), real_digits(16, 32))
        if real
        else (BY_NAME["bias_free"].model(), as_pair(digit_batches((9,))))
    )
    with torch.no_grad():
        logits, flow = model(sample[0]), nn.Sequential(*(copy.deepcopy(layer) for layer in model))
        slope = logits.softmax(1) - F.one_hot(sample[1], logits.shape[1])
        for value in flow.parameters():
            value.abs_()
        synaptic_flow = float(flow(torch.ones_like(sample[0][:1])).sum())
    frame = pv.measure(model, sample, columns=["theta_g", "synflow"], classifier=True)
    assert_conserved(frame, "theta_g", float((logits * slope).sum(1).mean()))
    assert_conserved(frame, "synflow", synaptic_flow)


@pytest.mark.parametrize("name", ["plain", "conv_bn_relu", "sequence"])
def test_a_loss_linear_in_the_logits_scales_with_the_temperature_exactly(name: str) -> None:
    frame = pv.measure(
        BY_NAME[name].model(), digit_batches(), loss=linear_loss, temperatures=(1.0, 200.0)
    )
    np.testing.assert_allclose(frame["theta_hg_t200"] * 200**2, frame["theta_hg"], rtol=1e-10)


@pytest.mark.parametrize("bn", ["eval", "batch"])
@pytest.mark.parametrize("name", ["plain", "conv_bn_relu", "residual"])
def test_hot_columns_approach_those_of_the_linear_loss(name: str, bn: str) -> None:
    model, batches = BY_NAME[name].model(), digit_batches()
    limit, apart = pv.measure(model, batches, bn=bn, loss=linear_loss, columns=FIRST), []
    for hot in (1e2, 1e3, 1e4):
        frame = pv.measure(
            model,
            batches,
            bn=bn,
            temperatures=(hot, 10 * hot),
            columns=["theta_g", "theta_hg", f"theta_hg_t{10 * hot:.0f}"],
        )
        ends = [
            hot * frame["theta_g"],
            hot**2 * frame["theta_hg"],
            (10 * hot) ** 2 * frame.iloc[:, -1],
        ]
        columns = ["theta_g", "theta_hg", "theta_hg"]
        apart.append(
            [
                np.linalg.norm(end - limit[c]) / np.linalg.norm(limit[c])
                for end, c in zip(ends, columns, strict=True)
            ]
        )
    assert np.max(apart[-1]) < 2e-3
    np.testing.assert_allclose(np.divide(apart[0], apart[1]), 10, rtol=0.1)
    np.testing.assert_allclose(np.divide(apart[1], apart[2]), 10, rtol=0.1)


@pytest.mark.parametrize("network", NETWORKS)
def test_theta_hg_agrees_with_a_difference_of_gradients(network: str) -> None:
    model, (images, labels) = (
        small_network(network).eval(),
        real_digits(12, 32 if network == "vgg13" else 8),
    )
    names, parameters = zip(*model.named_parameters(), strict=True)

    def gradient() -> list[Tensor]:
        return list(torch.autograd.grad(F.cross_entropy(model(images), labels), parameters))

    weights, direction, sides = [value.detach().clone() for value in parameters], gradient(), []
    step = 1e-7 / float(torch.cat([g.flatten() for g in direction]).norm())
    frame = pv.measure(model, (images, labels), columns=["theta_hg"], chunk=5)
    for sign in (1, -1):
        for value, start, g in zip(parameters, weights, direction, strict=True):
            value.data.copy_(start + sign * step * g)
        sides.append(gradient())
    hg = {
        name: (ahead - behind) / (2 * step)
        for name, ahead, behind in zip(names, *sides, strict=True)
    }
    start = dict(zip(names, weights, strict=True))
    layers = frame["layer"].cat.categories
    expected = torch.cat(
        [(start[f"{layer}.weight"] * hg[f"{layer}.weight"]).flatten(1).sum(1) for layer in layers]
    ).numpy()
    assert np.linalg.norm(frame["theta_hg"] - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_inequalities_between_columns_hold(network: str) -> None:
    sample = real_digits(12, 32 if network == "vgg13" else 8)
    frame = pv.measure(small_network(network), sample, columns=[*FIRST, "theta_l1"])
    assert (frame["theta_g"].abs() <= frame["abs_theta_g"] * (1 + 1e-12)).all()
    assert (frame["theta_g"] ** 2 <= frame["theta_norm2"] * frame["g_norm2"] * (1 + 1e-12)).all()
    assert (frame["theta_norm2"] <= frame["theta_l1"] ** 2 * (1 + 1e-12)).all()
    assert (frame["g_norm2"] > 0).any()


@pytest.mark.parametrize("name", ["conv_relu_bn", "grouped", "sequence"])
def test_a_sample_given_three_times_has_the_same_means_and_smaller_standard_errors(
    name: str,
) -> None:
    batches, n = digit_batches((7,)), 7
    once, thrice = (
        pv.measure(BY_NAME[name].model(), sample, chunk=5, strata=None)
        for sample in (batches, batches * 3)
    )
    for column in once.columns.drop(["layer", "filter", "kept"]):
        shrunk = np.sqrt((n - 1) / (3 * n - 1)) if "_se" in column else 1.0
        np.testing.assert_allclose(
            thrice[column], shrunk * once[column], rtol=1e-9, atol=1e-12 * once[column].abs().max()
        )


def test_case_losses_see_all_classes() -> None:
    assert set(as_pair(digit_batches((7,)))[1].tolist()) == set(range(CLASSES))
