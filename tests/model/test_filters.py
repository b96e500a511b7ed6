"""Layers in execution order and the norm of every filter, however a network is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from pruneviz.errors import MeasureError
from pruneviz.model.filters import Layer, find_layers, unwrap
from tests.support.cases import CASES, CLASSES, Case, Net, digit_batches, head

DIGITS = digit_batches((3,), torch.float32)[0][0]
Norms = Mapping[str, "str | list[tuple[str, int] | None] | None"]


def found(model: nn.Module, x: Tensor = DIGITS, *, classifier: bool = False) -> dict[str, Layer]:
    return {layer.name: layer for layer in find_layers(model, x, classifier=classifier)}


def expected(
    norms: str | list[tuple[str, int] | None] | None, filters: int
) -> tuple[tuple[str, int] | None, ...]:
    """A name stands for that norm from channel 0 on, None for no norm of any filter."""
    return (
        tuple(norms)
        if isinstance(norms, list)
        else tuple((norms, p) if norms else None for p in range(filters))
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_has_its_layers_in_order_with_their_norms_and_without_its_classifier(
    case: Case,
) -> None:
    model = case.model()
    layers = found(model)
    assert list(layers) == list(case.layers)
    for name, (norm, offset) in case.layers.items():
        filters = len(model.get_submodule(name).weight)
        want = tuple((norm, offset + p) if norm else None for p in range(filters))
        assert layers[name] == Layer(
            name, f"{name}.weight", filters, want, numbers=tuple(range(filters))
        )
        assert layers[name].norm == norm


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_classifier_is_listed_last_when_asked_for(case: Case) -> None:
    assert list(found(case.model(), classifier=True)) == [*case.layers, case.classifier]


def two_convs(
    forward: Callable[[Net, Tensor], Tensor],
    first: int = 2,
    second: tuple[int, int] = (1, 2),
    read: int = 4,
) -> nn.Module:
    """A network of `c1`, `c2` and the norm `bn` that reads what `forward` makes of them."""
    convs = {"c2": nn.Conv2d(*second, 2), "c1": nn.Conv2d(1, first, 2)}
    return Net(
        lambda net, x: net.fc(net.bn(forward(net, x)).mean((2, 3))),
        **convs,
        fc=nn.Linear(read, CLASSES),
        bn=nn.BatchNorm2d(read),
    )


def split_and_shuffled(net: Net, x: Tensor) -> Tensor:
    left, right = net.c1(x).chunk(2, dim=1)
    both = torch.cat([left, F.pad(net.c2(right), (0, 1, 0, 1))], dim=1)
    n, c, h, w = both.shape
    return both.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def preallocated(net: Net, x: Tensor) -> Tensor:
    both = torch.empty(len(x), 4, 3, 3)
    both[:, 2:] = net.c1(x)
    both[:, :2] = net.c2(x)
    return both


def partly_overwritten(net: Net, x: Tensor) -> Tensor:
    y = net.c1(x).clone()
    y[:, :2] = F.relu(net.c2(x))
    return y


def partly_added_to(net: Net, x: Tensor) -> Tensor:
    y = net.c1(x)
    y[:, :2] += net.c2(x)
    return y


def relu_of_a_view(net: Net, x: Tensor) -> Tensor:
    y = net.c1(x)
    y.flatten(2).relu_()
    return torch.cat([y, net.c2(x)], dim=1)


def gated(net: Net, x: Tensor) -> Tensor:
    y = net.c1(x)
    return torch.cat([y * torch.sigmoid(net.c2(x).mean((2, 3), keepdim=True)), 2 * y - 1], dim=1)


def keywords(net: Net, x: Tensor) -> Tensor:
    return net.bn(input=torch.cat([net.c2(input=x), net.c1(input=x)], dim=1))


def twice(net: Net, x: Tensor) -> Tensor:
    return F.relu(torch.cat([net.c1(x), -net.c1(x)], dim=1)) * net.c2(x).mean().item()


def padded(net: Net, x: Tensor) -> Tensor:
    return F.pad(net.c1(x), (0, 0, 0, 0, 1, 0)) * net.c2(x).mean().item()


def reordered(net: Net, x: Tensor) -> Tensor:
    return torch.cat([net.c1(x), net.c2(x)], dim=1)[:, [3, 2, 1, 0]]


B0, B1, B2, B3 = (("bn", channel) for channel in range(4))
CONV = nn.Conv2d(1, 4, 2)
BY_HAND: Mapping[str, tuple[nn.Module, Norms]] = {
    "split and shuffle": (
        two_convs(split_and_shuffled, 4, (2, 2)),
        {"c1": [B0, B2, None, None], "c2": [B1, B3]},
    ),
    "concatenation": (
        two_convs(lambda net, x: torch.cat([net.c1(x), net.c2(x)], dim=1)),
        {"c1": [B0, B1], "c2": [B2, B3]},
    ),
    "channels reordered": (two_convs(reordered), {"c1": [B3, B2], "c2": [B1, B0]}),
    "written into an empty tensor": (two_convs(preallocated), {"c1": [B2, B3], "c2": [B0, B1]}),
    "partly overwritten": (
        two_convs(partly_overwritten, 4),
        {"c1": [None, None, B2, B3], "c2": [B0, B1]},
    ),
    "in place on a view": (two_convs(partly_added_to, 4), {"c1": [None, None, B2, B3], "c2": None}),
    "activation in place on a view": (two_convs(relu_of_a_view), {"c1": [B0, B1], "c2": [B2, B3]}),
    "residual sum": (
        two_convs(lambda net, x: net.c1(x) + net.c2(x), read=2),
        {"c1": None, "c2": None},
    ),
    "gate": (two_convs(gated), {"c1": [B2, B3], "c2": None}),
    "the same channel twice": (two_convs(twice), {"c1": None, "c2": None}),
    "channels padded": (two_convs(padded, read=3), {"c1": [B1, B2], "c2": None}),
    "a single channel padded": (two_convs(padded, first=1, read=2), {"c1": [B1], "c2": None}),
    "arguments by keyword": (two_convs(keywords), {"c2": [B0, B1], "c1": [B2, B3]}),
}
OF_MODULES: Mapping[str, tuple[Sequence[nn.Module], Norms]] = {
    "shuffle": (
        [CONV, nn.ChannelShuffle(2), nn.BatchNorm2d(4), *head(4)],
        {"0": [("2", 0), ("2", 2), ("2", 1), ("2", 3)]},
    ),
    "pooled and flattened": (
        [CONV, nn.MaxPool2d(3), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3)],
        {"0": "3"},
    ),
    "flattened with its pixels": (
        [CONV, nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 3)],
        {"0": None},
    ),
    "second norm": ([CONV, nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), *head(4)], {"0": "1"}),
    "norm without scales": ([CONV, nn.BatchNorm2d(4, affine=False), *head(4)], {"0": "1"}),
    "depthwise": (
        [CONV, nn.Conv2d(4, 8, 2, groups=4), nn.BatchNorm2d(8), *head(8)],
        {"0": None, "1": "2"},
    ),
    "in one dimension": (
        [
            nn.Flatten(2),
            nn.Conv1d(1, 4, 3),
            nn.MaxPool1d(2),
            nn.BatchNorm1d(4),
            nn.Flatten(),
            nn.Linear(28, 3),
        ],
        {"1": "3"},
    ),
    "in three dimensions": (
        [
            nn.Unflatten(1, (1, 1)),
            nn.Conv3d(1, 4, (1, 2, 2)),
            nn.BatchNorm3d(4),
            nn.Flatten(),
            nn.Linear(36, 3),
        ],
        {"1": "2"},
    ),
    "transposed convolutions are no layers": (
        [CONV, nn.ConvTranspose2d(4, 4, 2), nn.BatchNorm2d(4), *head(4)],
        {"0": None},
    ),
}
WAYS = {
    **BY_HAND,
    **{way: (nn.Sequential(*modules), norms) for way, (modules, norms) in OF_MODULES.items()},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_norm_of_every_filter_is_found_by_following_its_channel(way: str) -> None:
    model, norms = WAYS[way]
    layers = found(model)
    assert list(layers) == list(norms)
    assert {name: layer.norms for name, layer in layers.items()} == {
        n: expected(norms[n], layers[n].filters) for n in norms
    }


def test_layers_that_never_run_are_not_listed() -> None:
    convs = {"unused": nn.Conv2d(1, 9, 2), "conv": nn.Conv2d(1, 3, 2)}
    assert list(
        found(
            Net(lambda net, x: net.fc(net.conv(x).mean((2, 3))), fc=nn.Linear(3, CLASSES), **convs)
        )
    ) == ["conv"]


def test_a_convolution_may_be_the_classifier_even_before_activation_and_pooling() -> None:
    squeezed = nn.Sequential(
        nn.Conv2d(1, 4, 2),
        nn.ReLU(),
        nn.Conv2d(4, 3, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LogSoftmax(1),
    )
    assert list(found(squeezed)) == ["0"]
    assert list(found(squeezed, classifier=True)) == ["0", "2"]


def test_every_one_of_several_output_layers_is_a_classifier() -> None:
    layers = {"conv": nn.Conv2d(1, 3, 2), "one": nn.Linear(3, 3), "two": nn.Linear(3, 2)}
    model = Net(
        lambda net, x: {
            "one": net.one(net.conv(x).mean((2, 3))),
            "two": net.two(net.conv(x).mean((2, 3))),
        },
        **layers,
    )
    assert list(found(model)) == ["conv"]


def tied(net: Net, x: Tensor) -> Tensor:
    return net.fc(net.bn2(net.b(net.bn1(net.a(net.stem(x))))).mean((2, 3)))


def test_tied_weights_are_one_set_of_filters() -> None:
    convs = {"stem": nn.Conv2d(1, 3, 2), "b": nn.Conv2d(3, 3, 1), "a": nn.Conv2d(3, 3, 1)}
    model = Net(tied, bn1=nn.BatchNorm2d(3), bn2=nn.BatchNorm2d(3), fc=nn.Linear(3, 3), **convs)
    model.b.weight = model.a.weight
    assert [(layer.name, layer.weight) for layer in find_layers(model, DIGITS)] == [
        ("stem", "stem.weight"),
        ("b", "b.weight"),
    ]


def test_a_weight_tied_to_an_embedding_goes_by_the_name_it_has_in_named_parameters() -> None:
    words = nn.Embedding(5, 4)
    model = Net(
        lambda net, x: net.out(net.hidden(net.words(x)).mean(1)),
        words=words,
        hidden=nn.Linear(4, 4),
        out=nn.Linear(4, 5),
    )
    model.out.weight = words.weight
    layers = found(model, torch.tensor([[1, 2, 3]]), classifier=True)
    assert [layer.weight for layer in layers.values()] == ["hidden.weight", "words.weight"]


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager"), nn.Identity]
)
def test_wrappers_are_taken_off(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Linear(2, 2)
    wrapped = wrap(nn.DataParallel(model))
    assert unwrap(wrapped) is (wrapped if isinstance(wrapped, nn.Identity) else model)


class Counting(nn.Module):
    """A network that counts its calls, and whose `train` leaves a frozen norm alone."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace, self.conv, self.bn, self.head = (
            inplace,
            nn.Conv2d(1, 3, 2),
            nn.BatchNorm2d(3),
            head(3),
        )
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls.add_(1) if self.inplace else self.calls + 1
        return self.head(self.bn(self.conv(x)))


@pytest.mark.parametrize("inplace", [True, False])
def test_looking_for_filters_changes_nothing(inplace: bool) -> None:
    model = Counting(inplace).train()
    model.bn.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_layers(model, DIGITS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [name for name, module in model.named_modules() if not module.training] == ["bn"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_network_that_squeezes_all_dimensions_of_one_can_be_followed() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 4),
        nn.ReLU(),
        Net(lambda net, x: x.squeeze()),
        nn.BatchNorm1d(4),
        nn.Linear(4, 3),
    )
    assert found(model)["0"].norm == "3"


def test_the_examples_are_known_to_be_folded_into_other_dimensions() -> None:
    model = Net(
        lambda net, x: net.c(net.b(net.a(x.squeeze(1).transpose(0, 1))).mean(0)),
        **{name: nn.Linear(4, 4) for name in "abc"},
    )
    layers = found(model, classifier=True)
    assert [layer.examples_first for layer in layers.values()] == [False, False, True]


COMPUTED = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "pruning mask": lambda conv: prune.l1_unstructured(conv, "weight", 0.5),
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_a_layer_with_a_computed_weight_is_left_out(kind: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.Sequential(COMPUTED[kind](nn.Conv2d(3, 3, 2))), *head(3)
    )
    assert list(found(model)) == ["0"]


def test_a_network_that_also_returns_its_features_keeps_its_last_convolution() -> None:
    model = Net(
        lambda net, x: (net.fc(net.conv(x).mean((2, 3))), {"features": net.conv(x)}),
        conv=nn.Conv2d(1, 3, 2),
        fc=nn.Linear(3, 2),
    )
    assert list(found(model)) == ["conv"]


def test_a_classifier_with_a_computed_weight_does_not_pass_its_role_on() -> None:
    fc = parametrizations.weight_norm(nn.Linear(3, 2))
    model = Net(lambda net, x: net.fc(net.conv(x).mean((2, 3))), conv=nn.Conv2d(1, 3, 2), fc=fc)
    assert list(found(model)) == ["conv"]


def test_a_frozen_backbone_does_not_become_the_classifier() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(inplace=True), *head(3))
    model[0].requires_grad_(False)
    assert list(found(model)) == ["0"]


def test_a_network_without_filters_is_refused_with_what_to_do() -> None:
    with pytest.raises(MeasureError, match="Sequential has no filters"):
        find_layers(nn.Sequential(nn.Flatten(), nn.LayerNorm(16)), DIGITS)
    with pytest.raises(
        MeasureError, match="its only layer is the classifier, measured with classifier=True"
    ):
        find_layers(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), DIGITS)
    assert list(found(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), classifier=True)) == ["1"]
