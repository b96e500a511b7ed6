"""Slow, obvious twins of every measured column: float64, plain autograd, a dense Hessian over all parameters.

Written from the definitions (Lubana and Dick, ICLR 2021, and the column table of the documentation), not from the package, which
it never imports. For networks of at most a few hundred parameters.

`Theta` is the vector of all parameters. A *unit* is what the standard errors count: a sample, or with `bn="batch"` a batch.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from tests.support.cases import BY_NAME, digit_batches

Loss = Callable[[Tensor, Tensor], Tensor]
Batches = Sequence[tuple[Tensor, Tensor]]
Layers = Mapping[str, tuple[str | None, int]]


class Twin:
    """The loss as a function of the flat vector Theta, the network being a private float64 copy in the asked-for norm mode."""

    def __init__(
        self, model: nn.Module, batches: Batches, bn: str = "eval", loss: Loss | None = None
    ) -> None:
        self.batches = [(images.double(), labels) for images, labels in batches]
        self.model = copy.deepcopy(model).double().eval()
        self.bn, self.loss = bn, loss or F.cross_entropy
        norms = [module for module in self.model.modules() if isinstance(module, _BatchNorm)]
        if bn == "calibrated":
            calibrate(self.model, norms, self.batches)
        if bn != "batch":
            self.batches = [
                (torch.cat([x for x, _ in self.batches]), torch.cat([y for _, y in self.batches]))
            ]
        for norm in norms:
            norm.train(bn == "batch")
        self.shapes = {name: value.shape for name, value in self.model.named_parameters()}
        self.theta = torch.cat([value.detach().flatten() for value in self.model.parameters()])

    def positions(self, name: str) -> Tensor:
        """Where the parameter `name` stands in Theta, in the parameter's own shape."""
        start = 0
        for other, shape in self.shapes.items():
            if other == name:
                return torch.arange(start, start + shape.numel()).view(shape)
            start += shape.numel()
        raise KeyError(name)

    def outputs(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The network's output and the target of every batch."""
        pieces = theta.split([shape.numel() for shape in self.shapes.values()])
        parameters = {
            name: piece.view(shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }
        return [
            (functional_call(self.model, parameters, (images,)), labels)
            for images, labels in self.batches
        ]

    def mean_loss(self, theta: Tensor, temperature: float) -> Tensor:
        """L, the mean over all samples of the loss of output / temperature."""
        total = sum(
            self.loss(output / temperature, target) * len(target)
            for output, target in self.outputs(theta)
        )
        return total / sum(len(target) for _, target in self.batches)

    def sample_losses(self, theta: Tensor, temperature: float) -> Tensor:
        """The loss of every sample; with `bn="batch"` still normalised by the statistics of its batch."""
        pairs = self.outputs(theta)
        return torch.stack(
            [
                self.loss(out[n : n + 1] / temperature, y[n : n + 1])
                for out, y in pairs
                for n in range(len(y))
            ]
        )

    def unit_losses(self, theta: Tensor, temperature: float) -> Tensor:
        """The loss of every unit."""
        if self.bn != "batch":
            return self.sample_losses(theta, temperature)
        return torch.stack(
            [self.loss(output / temperature, target) for output, target in self.outputs(theta)]
        )

    def gradient(self, temperature: float) -> Tensor:
        """g, flat."""
        theta = self.theta.clone().requires_grad_()
        return torch.autograd.grad(self.mean_loss(theta, temperature), theta)[0]

    def hessian(self, temperature: float) -> Tensor:
        """H, dense."""
        return torch.autograd.functional.hessian(
            lambda theta: self.mean_loss(theta, temperature), self.theta
        )

    def gradients_of(self, losses: Callable[[Tensor, float], Tensor], temperature: float) -> Tensor:
        """One gradient a row, of every entry of `losses(Theta, temperature)`."""
        return torch.autograd.functional.jacobian(
            lambda theta: losses(theta, temperature), self.theta
        )

    def unit_hessian_products(self, temperature: float, vector: Tensor) -> Tensor:
        """One H_n v a row: the gradient of each unit's directional derivative g_n^T v, with v held fixed."""
        theta = self.theta.clone().requires_grad_()
        rows = []
        for loss in self.unit_losses(theta, temperature):
            slope = torch.autograd.grad(loss, theta, create_graph=True)[0]
            rows.append(torch.autograd.grad(slope @ vector, theta, retain_graph=True)[0])
        return torch.stack(rows)

    def mean_of_units(self, rows: Tensor) -> Tensor:
        """The mean over the sample of one row a unit: batches count by their size."""
        sizes = (
            [len(target) for _, target in self.batches] if self.bn == "batch" else [1] * len(rows)
        )
        return torch.tensor(sizes, dtype=torch.float64) @ rows / sum(sizes)


def calibrate(model: nn.Module, norms: Sequence[_BatchNorm], batches: Batches) -> None:
    """Re-estimate running statistics as torch does with momentum=None: the plain average of the batches' own statistics."""
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for images, _ in batches:
            model(images)


def reference_columns(
    model: nn.Module,
    batches: Batches,
    layers: Layers,
    *,
    temperatures: Sequence[float] = (1.0, 200.0),
    bn: str = "eval",
    loss: Loss | None = None,
) -> dict[str, dict[str, Tensor]]:
    """Every column of every layer, one number a filter: {layer: {column: [filters]}}; NaN stands for null."""
    twin, first = Twin(model, batches, bn, loss), temperatures[0]
    g = twin.gradient(first)
    further = {
        f"theta_hg_t{t:g}": twin.unit_hessian_products(t, twin.gradient(t))
        for t in temperatures[1:]
    }
    vectors = {"g": g, "hg": twin.hessian(first) @ g} | {
        name: twin.mean_of_units(rows) for name, rows in further.items()
    }
    unit_g, unit_hg = (
        twin.gradients_of(twin.unit_losses, first),
        twin.unit_hessian_products(first, g),
    )
    sample_g2 = twin.gradients_of(twin.sample_losses, first).square().mean(0)
    flow = synflow(model, batches[0][0][:1])
    result = {}
    for layer, norm in layers.items():
        at = twin.positions(f"{layer}.weight").flatten(1)
        theta = twin.theta[at]
        result[layer] = filter_columns(
            theta, {name: vector[at] for name, vector in vectors.items()}
        )
        result[layer] |= {
            "sigma": scale_of(model, norm, len(theta)),
            "theta_g_se": standard_error((theta * unit_g[:, at]).sum(2)),
            "theta_hg_se": standard_error((theta * unit_hg[:, at]).sum(2)),
            "theta2_g2": (theta**2 * sample_g2[at]).sum(1),
            "synflow": flow[layer],
        }
    return result


def filter_columns(theta: Tensor, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The columns that sum over a filter's weights; every tensor is [filters, weights of a filter]."""
    g, hg = vectors["g"], vectors["hg"]
    columns = {
        "theta_norm2": (theta**2).sum(1),
        "theta_l1": theta.abs().sum(1),
        "theta_g": (theta * g).sum(1),
        "abs_theta_g": (theta * g).abs().sum(1),
        "theta2_abs_g": (theta**2 * g.abs()).sum(1),
        "theta_hg": (theta * hg).sum(1),
        "g_norm2": (g**2).sum(1),
    }
    return columns | {
        name: (theta * vector).sum(1) for name, vector in vectors.items() if name not in ("g", "hg")
    }


def standard_error(unit_values: Tensor) -> Tensor:
    """Standard error of the mean over the units of [units, filters]: NaN for one unit, which has no spread."""
    units = len(unit_values)
    return (
        torch.full_like(unit_values[0], torch.nan)
        if units == 1
        else unit_values.std(0, correction=1) / units**0.5
    )


def scale_of(model: nn.Module, norm: tuple[str | None, int], filters: int) -> Tensor:
    """The scales of the norm after a layer, from its channel offset on; NaN where no norm follows."""
    name, offset = norm
    if name is None:
        return torch.full((filters,), torch.nan, dtype=torch.float64)
    return model.get_submodule(name).weight.detach().double()[offset : offset + filters]


def synflow(model: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """Synaptic flow of every filter (Tanaka et al. 2020): R = sum of the outputs on ones, everything at its absolute value."""
    positive = copy.deepcopy(model).double().eval()
    for value in [*positive.parameters(), *positive.buffers()]:
        value.data.abs_()
    positive(torch.ones_like(example, dtype=torch.float64)).sum().backward()
    weighted = {
        name: module
        for name, module in positive.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    return {
        name: (module.weight * module.weight.grad).flatten(1).sum(1).detach()
        for name, module in weighted.items()
    }


def sample_of(bn: str) -> Batches:
    """The shared sample of a norm mode: unequal batches, or equal ones where a batch is the unit of a standard error."""
    return digit_batches((4, 4, 4) if bn == "batch" else (5, 4, 2))


@functools.cache
def columns_of(case: str, bn: str) -> dict[str, dict[str, Tensor]]:
    """All columns of a case on `sample_of(bn)`, computed once for all tests."""
    return reference_columns(BY_NAME[case].model(), sample_of(bn), BY_NAME[case].layers, bn=bn)
