"""The reference implementations against each other and against values derived by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.cases import (
    BN_MODES,
    BY_NAME,
    CASES,
    CASES_AND_MODES,
    CLASSES,
    Case,
    Net,
    as_pair,
    digit_batches,
    norm1d,
    randomise,
)
from tests.support.reference import Twin, columns_of, reference_columns, sample_of, synflow


def close(got: Tensor, want: Tensor, tolerance: float) -> bool:
    return bool((got - want).abs().max() <= tolerance * want.norm())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_small_names_all_its_layers_and_its_norms_exist(case: Case) -> None:
    model = case.model()
    weighted = {
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }
    assert sum(value.numel() for value in model.parameters()) <= 150
    assert {*case.layers, case.classifier} == weighted
    for layer, (norm, offset) in case.layers.items():
        room = (
            model.get_submodule(norm).num_features - offset
            if norm
            else len(model.get_submodule(layer).weight)
        )
        assert room >= len(model.get_submodule(layer).weight)


@CASES_AND_MODES
def test_the_gradient_is_the_slope_of_the_loss_and_the_units_average_to_it(
    case: Case, bn: str
) -> None:
    twin, step = Twin(case.model(), sample_of(bn), bn), 1e-5
    direction = torch.randn(
        twin.theta.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    slope = (
        twin.mean_loss(twin.theta + step * direction, 1.0)
        - twin.mean_loss(twin.theta - step * direction, 1.0)
    ) / (2 * step)
    gradient = twin.gradient(1.0)
    assert abs(slope - gradient @ direction) < 1e-7 * gradient.norm() * direction.norm()
    assert close(twin.gradients_of(twin.observation_losses, 1.0).mean(0), gradient, 1e-12)
    if bn == "batch":  # where the units are not the samples
        assert close(twin.gradients_of(twin.example_losses, 1.0).mean(0), gradient, 1e-12)


@CASES_AND_MODES
def test_dense_hessian_double_backward_and_central_difference_agree(case: Case, bn: str) -> None:
    twin, columns, step = Twin(case.model(), sample_of(bn), bn), columns_of(case.name, bn), 1e-5
    gradient = twin.gradient(1.0)
    double_backward = twin.observation_hessian_products(1.0, gradient).mean(0)
    here = twin.theta
    twin.theta = here + step * gradient
    ahead = twin.gradient(1.0)
    twin.theta = here - step * gradient
    assert close((ahead - twin.gradient(1.0)) / (2 * step), double_backward, 1e-6)
    for layer in case.layers:
        at = twin.positions(f"{layer}.weight").flatten(1)
        assert close(columns[layer]["theta_hg"], (here[at] * double_backward[at]).sum(1), 1e-11)


@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_dense_hessian_and_double_backward_agree_at_temperature_200(bn: str) -> None:
    case = BY_NAME["conv_relu_bn"]
    twin, columns = Twin(case.model(), sample_of(bn), bn), columns_of(case.name, bn)
    product = twin.hessian(200.0) @ twin.gradient(200.0)
    for layer in case.layers:
        at = twin.positions(f"{layer}.weight").flatten(1)
        assert close(columns[layer]["theta_hg_t200"], (twin.theta[at] * product[at]).sum(1), 1e-11)


def test_the_hessian_of_a_quadratic_form_is_its_matrix() -> None:
    form = torch.randn(
        CLASSES, CLASSES, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    form = form @ form.T
    model = randomise(nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES, bias=False))).double()
    batches = digit_batches()
    hessian = Twin(
        model, batches, loss=lambda output, target: 0.5 * ((output @ form) * output).sum(1).mean()
    ).hessian(1.0)
    pixels = as_pair(batches)[0].flatten(1)
    assert close(hessian, torch.kron(form, pixels.T @ pixels / len(pixels)), 1e-12)


@pytest.mark.parametrize("bn", BN_MODES)
def test_norm_modes_are_what_pencil_and_paper_say(bn: str) -> None:
    batches = digit_batches((4, 4, 2))
    model = randomise(nn.Sequential(nn.Flatten(), nn.Linear(16, 3), norm1d(3))).double()
    linear, norm = model[1], model[2]
    hidden = [linear(images.flatten(1)) for images, _ in batches]
    each = [(h.mean(0), h.var(0, correction=0), h.var(0, correction=1)) for h in hidden]
    calibrated = (
        sum(mean for mean, _, _ in each) / 3,
        sum(unbiased for _, _, unbiased in each) / 3,
    )
    used = {
        "eval": [(norm.running_mean, norm.running_var)] * 3,
        "calibrated": [calibrated] * 3,
        "batch": [(mean, biased) for mean, biased, _ in each],
    }[bn]
    logits = [
        (h - mean) / (var + norm.eps).sqrt() * norm.weight + norm.bias
        for h, (mean, var) in zip(hidden, used, strict=True)
    ]
    loss = F.cross_entropy(torch.cat(logits) / 2, as_pair(batches)[1])
    twin = Twin(model, batches, bn)
    assert torch.allclose(twin.mean_loss(twin.theta, 2.0), loss, rtol=1e-13)


def test_standard_errors_are_those_of_plain_statistics() -> None:
    case, batches = BY_NAME["plain"], digit_batches((6,))
    values = []
    for sample in zip(*(part.split(1) for part in as_pair(batches)), strict=True):
        twin = Twin(case.model(), [sample])
        values.append(
            (twin.theta * twin.gradient(1.0))[twin.positions("0.weight").flatten(1)].sum(1)
        )
    spread = torch.stack(values)
    expected = ((spread - spread.mean(0)).square().sum(0) / 5 / 6).sqrt()
    assert close(
        reference_columns(case.model(), batches, case.layers)["0"]["theta_g_se_iid"],
        expected,
        1e-12,
    )


def test_synflow_of_a_linear_chain_is_a_product_of_absolute_sums() -> None:
    first, second = nn.Linear(16, 4, bias=False), nn.Linear(4, 3, bias=False)
    model = randomise(nn.Sequential(nn.Flatten(), first, second)).double()
    expected = first.weight.abs().sum(1) * second.weight.abs().sum(0)
    assert close(synflow(model, torch.zeros(1, 1, 4, 4))["1"], expected, 1e-14)


def test_dropout_is_off_in_every_mode_and_the_model_stays_as_it_was() -> None:
    model = Net(
        lambda net, x: net.fc(net.drop(net.bn(net.fc0(x.flatten(1))))),
        fc0=nn.Linear(16, 3),
        bn=norm1d(3),
        fc=nn.Linear(3, 3),
    )
    model.add_module("drop", nn.Dropout(0.5))
    model = randomise(model).double().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for bn in BN_MODES:
        twin = Twin(model, digit_batches(), bn)
        assert twin.mean_loss(twin.theta, 1.0) == twin.mean_loss(twin.theta, 1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
