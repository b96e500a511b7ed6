"""Second derivatives along a direction against torch's own, for every bilinear layer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz.measuring.bilinear import FrozenBatchNorm, bilinear_call
from pruneviz.measuring.directional import Followed


class Overwritten(nn.Conv2d):
    """A convolution whose output is overwritten before derivatives are formed."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mul_(2)


class Rectified(nn.Conv2d):
    """A convolution with a ReLU behind it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


def without_bias(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """A norm that scales but does not shift."""
    norm.bias = None
    return norm


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "plain": (nn.Conv2d(4, 6, 3), (2, 4, 6, 6)),
    "pointwise without bias": (nn.Conv2d(4, 6, 1, bias=False), (2, 4, 5, 5)),
    "pointwise that skips pixels": (nn.Conv2d(4, 6, 1, stride=2), (2, 4, 5, 6)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), (2, 4, 5, 5)),
    "depthwise with a multiplier and stride": (
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4),
        (3, 4, 7, 6),
    ),
    "grouped and dilated": (nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), (2, 4, 6, 6)),
    "uneven": (nn.Conv2d(3, 2, (3, 1), stride=(1, 2), padding=(0, 1)), (2, 3, 5, 6)),
    "same padding": (nn.Conv2d(3, 4, 3, padding="same"), (2, 3, 5, 5)),
    "uneven same padding": (
        nn.Conv2d(3, 4, (2, 4), dilation=(1, 3), padding="same"),
        (2, 3, 5, 12),
    ),
    "valid padding": (nn.Conv2d(3, 4, 3, padding="valid"), (2, 3, 5, 5)),
    "overwritten in place": (Overwritten(4, 6, 3, bias=False), (2, 4, 6, 6)),
    "overwritten in place, with bias": (Overwritten(4, 6, 3), (2, 4, 6, 6)),
    "before a ReLU": (Rectified(4, 6, 3, bias=False), (2, 4, 6, 6)),
    "padding of another kind": (
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
        (2, 3, 5, 5),
    ),
    "one dimension": (nn.Conv1d(4, 4, 3, padding=1, groups=2), (2, 4, 7)),
    "three dimensions": (nn.Conv3d(2, 4, 2, stride=2, groups=2), (2, 2, 4, 4, 4)),
    "linear": (nn.Linear(4, 3), (5, 4)),
    "linear on sequences": (nn.Linear(4, 3, bias=False), (2, 5, 4)),
    "batch norm": (nn.BatchNorm2d(3), (2, 3, 4, 4)),
    "batch norm without bias": (without_bias(nn.BatchNorm2d(3)), (2, 3, 4, 4)),
    "batch norm of vectors": (nn.BatchNorm1d(3), (5, 3)),
}
LEFT_TO_TORCH: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "a single example without a batch": (nn.Conv2d(3, 4, 3), (3, 5, 5)),
    "a single vector": (nn.Linear(4, 3), (4,)),
    "batch norm without parameters": (nn.BatchNorm2d(3, affine=False), (2, 3, 4, 4)),
    "batch norm by its own statistics": (nn.BatchNorm2d(3).train(), (4, 3, 4, 4)),
}


def ready(layer: nn.Module) -> nn.Module:
    """The layer in float64, with random running statistics, in the mode it is tested in."""
    torch.manual_seed(0)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        if layer.weight is not None and layer.momentum and not _by_its_own(layer):
            layer.eval()
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return layer.double()


def _by_its_own(layer: nn.Module) -> bool:
    return layer is LEFT_TO_TORCH["batch norm by its own statistics"][0]


def vectors_like(parts: Sequence[Tensor]) -> list[Tensor]:
    return [torch.linspace(-1, 1, part.numel(), dtype=part.dtype).view_as(part) for part in parts]


def loss_of(layer: nn.Module, x: Tensor) -> Tensor:
    """A loss quadratic in nothing; its input depends on the parameters, as in a deep network."""
    shift = sum((p.square().sum() for p in layer.parameters()), torch.zeros((), dtype=x.dtype))
    return layer(x * (1 + 0.1 * shift)).sin().sum()


def by_plain_autograd(layer: nn.Module, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    parameters = list(layer.parameters())
    first = torch.autograd.grad(loss_of(layer, x), parameters, create_graph=True)
    vectors = vectors_like(first)
    along = sum(
        ((g * v).sum() for g, v in zip(first, vectors, strict=True)), torch.zeros((), dtype=x.dtype)
    )
    second = torch.autograd.grad(along, parameters)
    pairs = zip(vectors, second, strict=True)
    bend = sum((v.flatten() @ h.flatten() for v, h in pairs), torch.zeros(()))
    return [g.detach() for g in first], list(second), bend


def along_direction(
    layer: nn.Module, x: Tensor, whole: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """H v as far as it is formed, the gathered inner products, and v^T H v."""
    named, gathered = dict(layer.named_parameters()), {}
    filters = () if whole else ("weight",)

    def gather(name: str, terms: Tensor) -> None:
        gathered[name] = gathered.get(name, 0) + terms.sum(0)

    direction = dict(zip(named, vectors_like(list(named.values())), strict=True))
    bend = torch.zeros((), dtype=torch.float64)
    with Followed(named, filters=filters, whole=named if whole else ()) as followed:
        slope = followed.slope(loss_of(layer, x), direction)
        parts = slope.curvature(gather=gather, bend=None if whole else bend)
    return parts, gathered, bend + sum((direction[name] * h).sum() for name, h in parts.items())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", [*LAYERS, *LEFT_TO_TORCH])
def test_the_whole_product_is_that_of_torch(name: str) -> None:
    layer, shape = (LAYERS | LEFT_TO_TORCH)[name]
    layer, x = ready(layer), torch.randn(shape, dtype=torch.float64)
    if not list(layer.parameters()):
        layer = nn.Sequential(nn.Conv2d(shape[1], shape[1], 1).double(), layer)
    _, second, bend = by_plain_autograd(layer, x)
    parts, _, found_bend = along_direction(layer, x, whole=True)
    for ours, theirs in zip(parts.values(), second, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found_bend, bend, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings(
    "ignore:Using padding='same' with even kernel"
)  # torch's own, in the twin
@pytest.mark.parametrize("name", [name for name in LAYERS if "norm" not in name])
def test_inner_products_with_weights_are_those_of_the_whole(name: str) -> None:
    layer, shape = LAYERS[name]
    layer, x = ready(layer), torch.randn(shape, dtype=torch.float64)
    _, second, bend = by_plain_autograd(layer, x)
    parts, gathered, found_bend = along_direction(layer, x, whole=False)
    want, elsewhere = (
        (layer.weight * part).flatten(1).sum(1) for part in (second[0], parts["weight"])
    )
    torch.testing.assert_close(gathered["weight"] + elsewhere, want, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found_bend, bend, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_first_derivatives_are_those_of_torch(name: str) -> None:
    layer, shape = LAYERS[name]
    layer, x = ready(layer), torch.randn(shape, dtype=torch.float64).requires_grad_()
    found: list[Any] = []
    for inside in (Followed(dict(layer.named_parameters())), nullcontext()):
        with inside:
            output = layer(x)
            by_all = torch.autograd.grad(output.sin().sum(), [x, *layer.parameters()])
            found.append((output.detach(), *by_all))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_only_what_is_asked_for_is_formed_and_no_group_is_looped_over() -> None:
    """A depthwise layer of 64 groups behind another layer takes five products of all groups."""
    network = nn.Sequential(
        nn.Conv2d(64, 64, 1, bias=False), nn.Conv2d(64, 64, 3, groups=64, bias=False)
    ).double()
    x = torch.randn(1, 64, 5, 5, dtype=torch.float64)
    named = dict(network.named_parameters())
    direction = {name: p.detach() for name, p in named.items()}
    with Followed(named, filters=list(named)) as followed:
        loss = network(x).sin().sum()
        with profiled() as first:
            slope = followed.slope(loss, direction)
        with profiled() as second:
            parts = slope.curvature()
    assert parts == {}
    # by input of the second layer alone, and no gradient by a weight
    assert convolutions(first) == {"aten::convolution_backward": 1}
    # B(x, v) of both, by input at v, B(of input, w) and by input at w of the second alone
    assert convolutions(second) == {"aten::convolution": 3, "aten::convolution_backward": 2}


def profiled() -> torch.profiler.profile:
    return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True)


def convolutions(seen: torch.profiler.profile) -> dict[str, int]:
    names = ("aten::convolution", "aten::convolution_backward")
    return {event.key: event.count for event in seen.key_averages() if event.key in names}


def followed_linear() -> tuple[Followed, dict[str, Tensor], Tensor]:
    named = {"weight": torch.ones(1, 2, requires_grad=True)}
    followed = Followed(named, filters=["weight"])
    with followed:
        loss = F.linear(torch.ones(3, 2), named["weight"]).square().sum()
    return followed, {"weight": torch.ones(1, 2)}, loss


def test_a_slope_is_differentiated_once() -> None:
    followed, direction, loss = followed_linear()
    slope = followed.slope(loss, direction)
    slope.curvature(retain_graph=True)
    with pytest.raises(RuntimeError, match=r"already differentiated.*slope\(\)"):
        slope.curvature()


def test_two_slopes_keep_their_own_directions() -> None:
    """The curvature of the first slope after the second was formed is along its own direction."""
    followed, direction, loss = followed_linear()
    bends = torch.zeros(2, dtype=torch.float64)
    slopes = [followed.slope(loss, {"weight": times * direction["weight"]}) for times in (1, 2)]
    for slope, bend in zip(slopes, bends, strict=True):
        slope.curvature(bend=bend, retain_graph=True)
    assert bends.tolist() == [24.0, 96.0]  # d2/de2 of 3 (2 + 2 e v)^2


def test_a_phase_cannot_begin_within_another() -> None:
    followed, direction, loss = followed_linear()
    slope = followed.slope(loss, direction)

    def gather(name: str, terms: Tensor) -> None:
        followed.gradient(loss)

    with pytest.raises(RuntimeError, match="the curvature phase is active"):
        slope.curvature(gather=gather, retain_graph=True)
    assert followed.gradient(loss)["weight"].tolist() == [[12.0, 12.0]]  # the failed one ended


def test_behind_a_relu_no_zeros_are_formed_and_added() -> None:
    """torch's own ReLU, differentiated twice, fills an activation with zeros."""
    layer, x = Rectified(4, 6, 3, bias=False), torch.randn(2, 4, 6, 6)
    with profiled() as seen:
        along_direction(layer, x, whole=False)
    shapes = [event.input_shapes for event in seen.events() if event.name == "aten::zeros_like"]
    assert "aten::threshold_backward" in {event.name for event in seen.events()}
    assert len(shapes) <= 1, "no more than that of the step, which is one number"


@pytest.mark.parametrize(
    ("shape", "filters", "options"),
    [
        ((2, 3, 7, 6), (4, 3, 3, 3), {"padding": 1}),
        ((2, 3, 7, 6), (4, 3, 3, 3), {}),
        ((2, 3, 7, 6), (4, 3, 2, 5), {"padding": (1, 2)}),
        ((2, 3, 9, 9), (4, 3, 3, 3), {"padding": 2, "dilation": 2}),
        ((2, 3, 8), (4, 3, 3), {"padding": 1}),
        ((2, 2, 4, 4, 4), (3, 2, 2, 2, 2), {}),
    ],
    ids=str,
)
def test_the_transpose_of_a_convolution_is_one_with_mirrored_filters(
    shape: tuple[int, ...], filters: tuple[int, ...], options: dict[str, Any]
) -> None:
    x, weight = torch.randn(shape, dtype=torch.float64), torch.randn(filters, dtype=torch.float64)
    function = {3: torch.conv1d, 4: torch.conv2d, 5: torch.conv3d}[x.ndim]
    call = bilinear_call(function, (x, weight), options)
    assert call is not None
    along = torch.randn_like(call.layer.product(x, weight))
    mirrored = call.layer.mirrored(weight)
    turned = weight.flip(*range(2, weight.ndim)).transpose(0, 1)
    torch.testing.assert_close(
        mirrored.product(along, turned),
        call.layer.by_input(along, x, weight),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("options", [{"stride": 2}, {"groups": 3}, {"padding": 3}], ids=str)
def test_some_convolutions_have_no_mirrored_one(options: dict[str, Any]) -> None:
    weight = torch.randn(6, 1 if "groups" in options else 3, 3, 3)
    call = bilinear_call(torch.conv2d, (torch.randn(1, 3, 8, 8), weight), options)
    assert call is not None
    assert call.layer.mirrored(weight) is None


@pytest.mark.parametrize(
    "wanted",
    [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)],
    ids=str,
)
def test_one_walk_over_a_norm_gives_what_several_do(wanted: tuple[bool, bool, bool]) -> None:
    along, x = (torch.randn(3, 4, 5, 5, dtype=torch.float64) for _ in range(2))
    weight, scale = (
        torch.randn(4, dtype=torch.float64),
        FrozenBatchNorm(1, *torch.rand(2, 4, dtype=torch.float64), 1e-5),
    )
    for ours, theirs, asked in zip(
        scale.gradients(along, x, weight, wanted),
        scale.gradients_one_by_one(along, x, weight, wanted),
        wanted,
        strict=True,
    ):
        assert (ours is not None) == (theirs is not None) == asked
        if asked:
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("part", ["empty", "mixed"])
def test_norms_that_the_one_walk_cannot_do(part: str) -> None:
    norm = nn.BatchNorm2d(3).eval()
    x = torch.randn(
        0 if part == "empty" else 2,
        3,
        4,
        4,
        dtype=torch.float32 if part == "empty" else torch.bfloat16,
    )
    with Followed(dict(norm.named_parameters())):
        grads = torch.autograd.grad(norm(x).float().square().sum(), list(norm.parameters()))
    want = torch.autograd.grad(norm(x.float()).square().sum(), list(norm.parameters()))
    for ours, theirs in zip(grads, want, strict=True):
        torch.testing.assert_close(ours.float(), theirs, rtol=2e-2, atol=2e-2)


class Marked(Tensor):
    """A type of its own."""


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated"
)  # torch's own, in forward mode
def test_a_relu_of_which_more_is_asked_is_left_to_torch() -> None:
    weight = torch.randn(4, 3, requires_grad=True)
    x = torch.randn(5, 3)
    with Followed({"weight": weight}):
        many = torch.vmap(lambda row: F.relu(row * weight).sum())(x)
        forward = torch.func.jvp(
            lambda w: F.relu(x @ w.T).sum(), (weight,), (torch.ones_like(weight),)
        )
        marked = F.relu((weight * 2).as_subclass(Marked))
    torch.testing.assert_close(many, (x[:, None] * weight).relu().sum((1, 2)))
    torch.testing.assert_close(forward[1], ((x @ weight.T > 0) * x.sum(1, keepdim=True)).sum())
    assert type(marked) is Marked
