"""Slow, simple twins of every measured column: float64, plain autograd, a dense Hessian.

Written from the definitions (Lubana and Dick, ICLR 2021, and the column table in docs/measuring.md)
and not from the package, of which nothing is imported. For networks of up to a few hundred
parameters.

`Theta` is the flat vector of all parameters. An *observation* is what standard errors count: an
example, or a batch with `bn="batch"`.
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
    """The loss as a function of Theta, on a float64 copy of the network in a batch-norm mode."""

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
            images = torch.cat([x for x, _ in self.batches])
            labels = torch.cat([y for _, y in self.batches])
            self.batches = [(images, labels)]
        for norm in norms:
            norm.train(bn == "batch")
        self.shapes = {name: value.shape for name, value in self.model.named_parameters()}
        self.theta = torch.cat([value.detach().flatten() for value in self.model.parameters()])

    def positions(self, name: str) -> Tensor:
        """Positions of the parameter `name` in Theta, in the parameter's own shape."""
        start = 0
        for other, shape in self.shapes.items():
            if other == name:
                return torch.arange(start, start + shape.numel()).view(shape)
            start += shape.numel()
        raise KeyError(name)

    def outputs(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Output and target of every batch."""
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
        """L, the mean over all examples of the loss of output / temperature."""
        pairs = self.outputs(theta)
        total = sum(self.loss(out / temperature, y) * len(y) for out, y in pairs)
        return total / sum(len(y) for _, y in pairs)

    def example_losses(self, theta: Tensor, temperature: float) -> Tensor:
        """Loss of every example; `bn="batch"` still normalises it by its batch."""
        losses = [
            self.loss(out[n : n + 1] / temperature, y[n : n + 1])
            for out, y in self.outputs(theta)
            for n in range(len(y))
        ]
        return torch.stack(losses)

    def observation_losses(self, theta: Tensor, temperature: float) -> Tensor:
        """Loss of every observation."""
        if self.bn != "batch":
            return self.example_losses(theta, temperature)
        pairs = self.outputs(theta)
        return torch.stack([self.loss(out / temperature, y) for out, y in pairs])

    def strata(self) -> Tensor | None:
        """Classes, if there are equally many examples of each, up to one, and two or more."""
        labels = torch.cat([y for _, y in self.batches])
        if self.bn == "batch" or labels.ndim != 1 or labels.is_floating_point():
            return None
        sizes = [int((labels == label).sum()) for label in set(labels.tolist())]
        return labels if 2 <= min(sizes) >= max(sizes) - 1 else None

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
        """Gradients of all entries of `losses(Theta, temperature)`, one per row."""
        return torch.autograd.functional.jacobian(
            lambda theta: losses(theta, temperature), self.theta
        )

    def observation_hessian_products(self, temperature: float, vector: Tensor) -> Tensor:
        """H_n v of every observation, one per row: the gradient of g_n^T v with v held fixed."""
        theta = self.theta.clone().requires_grad_()
        rows = []
        for loss in self.observation_losses(theta, temperature):
            slope = torch.autograd.grad(loss, theta, create_graph=True)[0]
            rows.append(torch.autograd.grad(slope @ vector, theta, retain_graph=True)[0])
        return torch.stack(rows)

    def mean_of_observations(self, rows: Tensor) -> Tensor:
        """Mean over the examples of one row per observation: a batch counts by its size."""
        sizes = [len(y) for _, y in self.batches] if self.bn == "batch" else [1] * len(rows)
        return torch.tensor(sizes, dtype=torch.float64) @ rows / sum(sizes)


def calibrate(model: nn.Module, norms: Sequence[_BatchNorm], batches: Batches) -> None:
    """Set running statistics to the mean over the batches, as torch does for momentum=None."""
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
    """Columns of every layer, {layer: {column: [filters]}}; NaN stands for null."""
    twin, first = Twin(model, batches, bn, loss), temperatures[0]
    g = twin.gradient(first)
    vectors = {"g": g, "hg": twin.hessian(first) @ g}
    for t in temperatures[1:]:
        rows = twin.observation_hessian_products(t, twin.gradient(t))
        vectors[f"theta_hg_t{t:g}"] = twin.mean_of_observations(rows)
    strata = twin.strata()
    observed_g = twin.gradients_of(twin.observation_losses, first)
    observed_hg = twin.observation_hessian_products(first, g)
    example_g2 = twin.gradients_of(twin.example_losses, first).square().mean(0)
    flow = synflow(model, batches[0][0][:1])
    inputs = squared_inputs(twin)
    result = {}
    for layer, norm in layers.items():
        at = twin.positions(f"{layer}.weight").flatten(1)
        theta = twin.theta[at]
        result[layer] = {
            **filter_columns(theta, {name: vector[at] for name, vector in vectors.items()}),
            "sigma": scale_of(model, norm, len(theta)),
            "theta_g_se": standard_error((theta * observed_g[:, at]).sum(2), strata),
            "theta_g_se_iid": standard_error((theta * observed_g[:, at]).sum(2)),
            "theta_hg_se_given_g": standard_error((theta * observed_hg[:, at]).sum(2), strata),
            "theta2_g2": (theta**2 * example_g2[at]).sum(1),
            "synflow": flow[layer],
            "bn_taylor": gate_derivative(twin, g, norm, len(theta)),
            "wanda": (theta.abs() * inputs[layer].sqrt()).sum(1),
            "fpgm": torch.stack([(theta - one).norm(dim=1).sum() for one in theta]),
            "gate_fisher": (theta * observed_g[:, at]).sum(2).square().mean(0),
        }
    return result


def filter_columns(theta: Tensor, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Columns that sum over a filter's weights; tensors are [filters, weights of a filter]."""
    g, hg = vectors["g"], vectors["hg"]
    columns = {
        "theta_norm2": (theta**2).sum(1),
        "theta_l1": theta.abs().sum(1),
        "theta_g": (theta * g).sum(1),
        "abs_theta_g": (theta * g).abs().sum(1),
        "theta2_abs_g": (theta**2 * g.abs()).sum(1),
        "theta_hg": (theta * hg).sum(1),
        "g_norm2": (g**2).sum(1),
        "hg_norm2": (hg**2).sum(1),
    }
    further = {name: vector for name, vector in vectors.items() if name not in ("g", "hg")}
    return columns | {name: (theta * vector).sum(1) for name, vector in further.items()}


def standard_error(values: Tensor, strata: Tensor | None = None) -> Tensor:
    """Standard error of the mean of [observations, filters]; NaN for a single observation.

    Its square is sum_c (n_c / N)^2 s_c^2 / n_c over strata; by default there is one.
    """
    if len(values) == 1:
        return torch.full_like(values[0], torch.nan)
    if strata is None:
        return values.std(0, correction=1) / len(values) ** 0.5
    square = torch.zeros_like(values[0])
    for number in set(strata.tolist()):
        own = values[strata == number]
        square += (len(own) / len(values)) ** 2 * own.var(0, correction=1) / len(own)
    return square.sqrt()


def scale_of(model: nn.Module, norm: tuple[str | None, int], filters: int) -> Tensor:
    """Scales of the norm after a layer, from its channel offset on; NaN without a norm."""
    name, offset = norm
    if name is None:
        return torch.full((filters,), torch.nan, dtype=torch.float64)
    return model.get_submodule(name).weight.detach().double()[offset : offset + filters]


def gate_derivative(twin: Twin, g: Tensor, norm: tuple[str | None, int], filters: int) -> Tensor:
    """(sigma g_sigma + beta g_beta)^2 of every filter (Molchanov et al. 2019); NaN without norm."""
    name, offset = norm
    if name is None:
        return torch.full((filters,), torch.nan, dtype=torch.float64)
    channels = slice(offset, offset + filters)
    at = [twin.positions(f"{name}.{part}")[channels] for part in ("weight", "bias")]
    return torch.stack([twin.theta[place] * g[place] for place in at]).sum(0) ** 2


def squared_inputs(twin: Twin) -> dict[str, Tensor]:
    """Squared norm over the sample of the input of every weight, {layer: [filters, weights]}.

    Every convolution is written as a product with the patches that it reads.
    """
    found: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, x: Tensor) -> None:
        if isinstance(module, nn.Linear):
            squares = x.square().reshape(-1, x.shape[-1]).sum(0).expand(module.out_features, -1)
        else:
            squares = patches_squared(module, x)
        found[name] = found.get(name, torch.zeros(())) + squares

    handles = [
        module.register_forward_pre_hook(
            lambda m, args, given, name=name: note(name, m, *args, *given.values()),
            with_kwargs=True,
        )
        for name, module in twin.model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    ]
    with torch.no_grad():
        twin.outputs(twin.theta)
    for handle in handles:
        handle.remove()
    return found


def patches_squared(conv: nn.Module, x: Tensor) -> Tensor:
    """Squared norms over examples and places of the patches of a convolution, by filter."""
    kernel, stride, dilation = conv.kernel_size, conv.stride, conv.dilation
    sides = conv._reversed_padding_repeated_twice  # how torch pads with values or zeros
    x = F.pad(x, sides, mode="constant" if conv.padding_mode == "zeros" else conv.padding_mode)
    if x.ndim == 3:  # one-dimensional: an image of height 1
        x, kernel, stride, dilation = x[:, :, None], (1, *kernel), (1, *stride), (1, *dilation)
    patches = F.unfold(x, kernel, dilation, 0, stride).square().sum((0, 2))
    by_group = patches.view(conv.groups, -1)
    return by_group.repeat_interleave(conv.out_channels // conv.groups, dim=0)


def synflow(model: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """Synaptic flow of every filter (Tanaka et al. 2020).

    R is the sum of the outputs for an input of ones, with all parameters and buffers replaced by
    their absolute values.
    """
    positive = copy.deepcopy(model).double().eval()
    for value in [*positive.parameters(), *positive.buffers()]:
        value.data.abs_()
    positive(torch.ones_like(example, dtype=torch.float64)).sum().backward()
    return {
        name: (module.weight * module.weight.grad).flatten(1).sum(1).detach()
        for name, module in positive.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def sample_of(bn: str) -> Batches:
    """The shared sample of a batch-norm mode; equal batches where a batch is an observation."""
    return digit_batches((4, 4, 4) if bn == "batch" else (5, 4, 2))


@functools.cache
def columns_of(case: str, bn: str) -> dict[str, dict[str, Tensor]]:
    """Columns of a case on `sample_of(bn)`, computed once for all tests."""
    return reference_columns(BY_NAME[case].model(), sample_of(bn), BY_NAME[case].layers, bn=bn)
