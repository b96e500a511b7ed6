"""Numbers against outside code and formulas as published, written anew from plain derivatives.

Hessian products against curvlinops and against forward mode over reverse mode, every pruning
measure against the formula of its source, multiplications against two public counters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import ptflops
import pytest
import torch
import torchinfo
import torchvision
from torch import Tensor, nn
from torch.func import functional_call, jvp

import pruneviz as pv
from pruneviz.experiment.networks.registry import build_network
from pruneviz.pruning.cost import cost

# of curvlinops, and of torch's own forward mode when it is first used
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

EXAMPLES, CLASSES = 12, 4
COLUMNS = (
    *("default", "theta2_g2", "synflow", "fisher_block", "obd", "obd_se", "bn_taylor", "wanda"),
    *("fpgm", "delta_loss"),
)
# No column of a snapshot: a change between epochs, or a draw.
NOT_OF_ONE_SNAPSHOT = ("sigma_change", "theta_change", "update_size", "distance_from_init")
NO_FORMULA = ("random",)


class Tempered(nn.Module):
    """A network whose logits are divided by a temperature."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) / self.temperature


@functools.cache
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network after a few steps, in evaluation mode, with images and labels."""
    torch.manual_seed(3)
    network = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 3, 2, bias=False), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(3 * 4, CLASSES)),
    ).double()
    images = torch.randn(EXAMPLES, 2, 5, 5, dtype=torch.float64)
    labels = torch.arange(EXAMPLES) % CLASSES
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(10):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.eval(), images, labels


def loss_of(network: nn.Module, temperature: float = 1.0) -> Callable[[dict[str, Tensor]], Tensor]:
    _, images, labels = trained()

    def loss(theta: dict[str, Tensor]) -> Tensor:
        logits = functional_call(network, theta, images) / temperature
        return nn.functional.cross_entropy(logits, labels)

    return loss


def by_filter(table: pd.DataFrame, column: str) -> dict[tuple[str, int], float]:
    return {(row.layer, row.filter): getattr(row, column) for row in table.itertuples()}


def filter_products(theta: Mapping[str, Tensor], vector: Mapping[str, Tensor]) -> dict:
    """theta_p^T vector_p of the filters of both convolutions."""
    return {
        (layer, p): float((theta[f"{layer}.weight"][p] * vector[f"{layer}.weight"][p]).sum())
        for layer in ("0", "3")
        for p in range(len(theta[f"{layer}.weight"]))
    }


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_hessian_products_equal_those_of_curvlinops(temperature: float) -> None:
    network, images, labels = trained()
    model = Tempered(network, temperature)
    names = [name for name, _ in network.named_parameters()]
    parameters = list(model.parameters())
    from curvlinops import HessianLinearOperator  # here, because its import compiles with torch.jit

    operator = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), parameters, [(images, labels)], check_deterministic=False
    )
    loss = nn.functional.cross_entropy(model(images), labels)
    g = list(torch.autograd.grad(loss, parameters))
    product = operator @ [part.detach() for part in g]
    hg = {name: part.detach() for name, part in zip(names, product, strict=True)}
    column = "theta_hg" if temperature == 1 else "theta_hg_t200"
    table = pv.measure(network, (images, labels))
    expected = filter_products(derivatives().theta, hg)
    assert by_filter(table, column) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_hessian_products_equal_forward_mode_over_reverse_mode(temperature: float) -> None:
    network, images, labels = trained()
    theta = {name: p.detach() for name, p in network.named_parameters()}
    gradient = torch.func.grad(loss_of(network, temperature))
    g = gradient(theta)
    _, hg = jvp(gradient, (theta,), (g,))
    column = "theta_hg" if temperature == 1 else "theta_hg_t200"
    table = pv.measure(network, (images, labels), chunk=5)
    assert by_filter(table, column) == pytest.approx(
        filter_products(theta, hg), rel=1e-9, abs=1e-15
    )


class Published:
    """What the formulas of the sources need, by plain autograd."""

    def __init__(self) -> None:
        self.network, self.images, self.labels = trained()
        self.theta = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        loss = loss_of(self.network)
        self.g = torch.func.grad(loss)(self.theta)
        self.hg = jvp(torch.func.grad(loss), (self.theta,), (self.g,))[1]
        hot = torch.func.grad(loss_of(self.network, 200.0))
        self.hg_hot = jvp(hot, (self.theta,), (hot(self.theta),))[1]

    def logits(self, theta: Mapping[str, Tensor], images: Tensor | None = None) -> Tensor:
        images = self.images if images is None else images
        return functional_call(self.network, dict(theta), images)

    def loss_without(self, layer: str, p: int) -> float:
        """The loss when the output channel after the batch norm is taken out."""
        norm = str(int(layer) + 1)
        theta = {name: value.clone() for name, value in self.theta.items()}
        theta[f"{norm}.weight"][p] = 0
        theta[f"{norm}.bias"][p] = 0
        return float(nn.functional.cross_entropy(self.logits(theta), self.labels))

    def example_gradient(self, layer: str, n: int, label: int) -> Tensor:
        weight = self.theta[f"{layer}.weight"].clone().requires_grad_()
        logits = self.logits({**self.theta, f"{layer}.weight": weight}, self.images[n : n + 1])
        loss = nn.functional.cross_entropy(logits, torch.tensor([label]))
        return torch.autograd.grad(loss, weight)[0]

    def hessian_diagonal(self, layer: str) -> Tensor:
        name, weight = f"{layer}.weight", self.theta[f"{layer}.weight"]

        def loss(flat: Tensor) -> Tensor:
            return loss_of(self.network)({**self.theta, name: flat.view_as(weight)})

        return torch.func.hessian(loss)(weight.flatten()).diagonal().view_as(weight)

    def inputs_of(self, layer: str) -> Tensor:
        """What a convolution multiplies: patches [example x place, weight of a filter]."""
        inner = self.network[: int(layer)](self.images)
        kernel = self.network[int(layer)].kernel_size
        patches = nn.functional.unfold(inner, kernel)
        return patches.transpose(1, 2).flatten(0, 1).detach()

    def synaptic_flow(self, layer: str) -> Tensor:
        """|theta| x dR/d|theta|: R sums the outputs on ones, with the absolute state of a network.

        The state includes the statistics of its batch norms, as in the authors' code.
        """
        state = {name: value.abs() for name, value in self.network.state_dict().items()}
        weight = state[f"{layer}.weight"].clone().requires_grad_()
        state[f"{layer}.weight"] = weight
        x = torch.ones(1, *self.images.shape[1:], dtype=torch.float64)
        for conv, norm in (("0", "1"), ("3", "4")):
            x = nn.functional.conv2d(x, state[f"{conv}.weight"])
            shift, scale, centre, spread = (
                state[f"{norm}.{name}"].view(-1, 1, 1)
                for name in ("bias", "weight", "running_mean", "running_var")
            )
            eps = self.network.get_submodule(norm).eps
            x = (scale * (x - centre) / (spread + eps).sqrt() + shift).relu()
        total = (x.flatten(1) @ state["7.weight"].T + state["7.bias"]).sum()
        return weight.detach() * torch.autograd.grad(total, weight)[0]


def _fisher(of: Published, layer: str, p: int) -> float:
    squares = [of.example_gradient(layer, n, int(of.labels[n]))[p] ** 2 for n in range(EXAMPLES)]
    return float((of.theta[f"{layer}.weight"][p] ** 2 * sum(squares) / EXAMPLES).sum())


def _gate_fisher(of: Published, layer: str, p: int) -> float:
    weight = of.theta[f"{layer}.weight"][p]
    terms = [
        float((weight * of.example_gradient(layer, n, int(of.labels[n]))[p]).sum())
        for n in range(EXAMPLES)
    ]
    return math.fsum(term**2 for term in terms) / EXAMPLES


def _fisher_block(of: Published, layer: str, p: int) -> float:
    """The mean over the examples and over all labels, with the model's own probabilities."""
    weight, probabilities = of.theta[f"{layer}.weight"][p], of.logits(of.theta).softmax(1)
    return sum(
        float(probabilities[n, label])
        * float((weight * of.example_gradient(layer, n, label)[p]).sum()) ** 2
        for n in range(EXAMPLES)
        for label in range(CLASSES)
    ) / float(EXAMPLES)


def _fpgm(of: Published, layer: str, p: int) -> float:
    rows = of.theta[f"{layer}.weight"].flatten(1)
    return sum(float((rows[p] - rows[q]).norm()) for q in range(len(rows)))


def _bn_taylor(of: Published, layer: str, p: int) -> float:
    norm = str(int(layer) + 1)
    sums = sum(float(of.theta[f"{norm}.{k}"][p] * of.g[f"{norm}.{k}"][p]) for k in _SHIFT_SCALE)
    return sums**2


def _wanda(of: Published, layer: str, p: int) -> float:
    norms = of.inputs_of(layer).norm(dim=0)
    return float((of.theta[f"{layer}.weight"][p].abs().flatten() * norms).sum())


_SHIFT_SCALE = ("weight", "bias")


def _sum(of: Published, layer: str, p: int, formula: Callable[..., Tensor]) -> float:
    weight = f"{layer}.weight"
    return float(
        formula(of.theta[weight][p], of.g[weight][p], of.hg[weight][p], of.hg_hot[weight][p]).sum()
    )


# measure -> formula of its source: of all derivatives, layer and filter
PUBLISHED: Mapping[str, Callable[[Published, str, int], float]] = {
    "magnitude": lambda of, layer, p: float(of.theta[f"{layer}.weight"][p].norm()),
    "l1_norm": lambda of, layer, p: float(of.theta[f"{layer}.weight"][p].abs().sum()),
    "loss_preservation": lambda *at: _sum(*at, lambda w, g, h, t: (w * g).abs()),
    "snip": lambda *at: _sum(*at, lambda w, g, h, t: (w * g).abs()),
    "loss_preservation_abs_of_sum": lambda *at: abs(_sum(*at, lambda w, g, h, t: w * g)),
    "proposed": lambda *at: _sum(*at, lambda w, g, h, t: w.abs() * (w * g).abs()),
    "grasp": lambda *at: _sum(*at, lambda w, g, h, t: w * h),
    "grasp_t200": lambda *at: _sum(*at, lambda w, g, h, t: w * t),
    "gradient_norm_preservation": lambda *at: abs(_sum(*at, lambda w, g, h, t: w * h)),
    "bn_scale": lambda of, layer, p: abs(float(of.theta[f"{int(layer) + 1}.weight"][p])),
    "fisher": _fisher,
    "gate_fisher": _gate_fisher,
    "fisher_block": _fisher_block,
    "obd": lambda of, layer, p: float(
        (of.theta[f"{layer}.weight"][p] ** 2 * of.hessian_diagonal(layer)[p]).sum() / 2
    ),
    "synflow": lambda of, layer, p: float(of.synaptic_flow(layer)[p].sum()),
    "delta_loss": lambda of, layer, p: (
        of.loss_without(layer, p) - float(loss_of(of.network)(of.theta))
    ),
    "fpgm": _fpgm,
    "bn_taylor": _bn_taylor,
    "wanda": _wanda,
}


@functools.cache
def measured() -> pd.DataFrame:
    network, images, labels = trained()
    return pv.measure(network, (images, labels), columns=COLUMNS, probes=256, seed=1)


@functools.cache
def derivatives() -> Published:
    return Published()


@pytest.mark.parametrize("measure", PUBLISHED)
def test_a_measure_equals_the_formula_of_its_source(measure: str) -> None:
    table = measured()
    found = pv.score(table, measure)
    of = derivatives()
    expected = [PUBLISHED[measure](of, row.layer, row.filter) for row in table.itertuples()]
    # obd is estimated by random probes; its own error bounds it
    slack = 5 * table["obd_se"].max() if measure == "obd" else 1e-12
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=slack)


def test_lamp_equals_the_formula_of_its_source() -> None:
    network, images, labels = trained()
    table = pv.measure(network, (images, labels), unit="weight", columns=["theta"])
    found = pv.score(table, "lamp")
    for layer, rows in table.groupby("layer", observed=True):
        squares = network.get_submodule(str(layer)).weight.detach().flatten().square().sort()[0]
        rest = squares.flip(0).cumsum(0).flip(0)  # of this weight and all larger ones
        np.testing.assert_allclose(np.sort(found[rows.index]), squares / rest, rtol=1e-12)


def test_every_measure_has_a_published_formula() -> None:
    known = {*PUBLISHED, "lamp", *NOT_OF_ONE_SNAPSHOT, *NO_FORMULA}
    assert known == set(pv.SCORES)


def networks() -> dict[str, tuple[nn.Module, tuple[int, int, int]]]:
    small = {
        name: (build_network(name, num_classes=100, width=0.25), (3, 32, 32))
        for name in ("vgg13", "resnet56", "mobilenet_v1")
    }
    return {**small, "resnet18": (torchvision.models.resnet18(), (3, 64, 64))}


@pytest.mark.parametrize("name", networks())
def test_multiplications_equal_those_of_two_public_counters(name: str) -> None:
    network, shape = networks()[name]
    check_multiplications(network.eval(), shape)


def test_multiplications_after_removal_equal_those_of_two_public_counters() -> None:
    network, shape = networks()["vgg13"]
    images = torch.randn(4, *shape)
    before = cost(network, images).macs
    pruner = pv.Pruner(network, images)
    table = pv.measure(network, (images, torch.arange(4)), columns=["theta_norm2"])
    pruner.prune(table, "magnitude", gone=pruner.groups // 2)
    removed = pv.remove(network, images).network.eval()
    check_multiplications(removed, shape)
    assert cost(removed, images).macs < before / 2


def check_multiplications(network: nn.Module, shape: tuple[int, int, int]) -> None:
    ours = cost(network, torch.zeros(1, *shape))
    # both count the addition of a bias as a multiplication
    biases = sum(m.bias.numel() for m in network.modules() if isinstance(m, nn.Linear))
    counted, _ = ptflops.get_model_complexity_info(
        *(network, shape), as_strings=False, print_per_layer_stat=False, backend="aten"
    )
    assert counted == ours.macs + biases
    summary = torchinfo.summary(network, input_size=(1, *shape), verbose=0)
    linear = [
        layer.macs
        for layer in summary.summary_list
        if layer.is_leaf_layer and isinstance(layer.module, nn.Conv2d | nn.Linear)
    ]
    assert sum(linear) == ours.macs + biases
    assert summary.total_params == ours.parameters
