"""The oracle: equal to hard masking and to the really smaller network; the network stays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import MeasureError, PruningError
from pruneviz.experiment.networks.mobilenet_v1 import mobilenet_v1
from pruneviz.experiment.networks.resnet56 import resnet56
from pruneviz.experiment.networks.vgg13 import vgg13
from pruneviz.measuring.removed_rows import draw
from tests.support.cases import (
    BY_NAME,
    CASES_AND_MODES,
    CLASSES,
    Batches,
    Case,
    Net,
    as_pair,
    digit_batches,
    head,
    norm2d,
    randomise,
)
from tests.support.reference import Twin, sample_of

Network = Callable[[], nn.Module]
IMAGES, LABELS = as_pair(digit_batches((6, 6)))


def loss_of(model: nn.Module, batches: Batches, bn: str = "eval") -> float:
    """The mean cross-entropy, by plain calls of a copy of the network."""
    twin = Twin(model, batches, bn)
    return float(twin.mean_loss(twin.theta, 1.0))


def without(model: nn.Module, layer: str, number: int) -> nn.Module:
    """A copy with a filter and its group masked by the pruner."""
    masked = copy.deepcopy(model)
    pv.Pruner(masked, IMAGES.to(next(model.parameters()).dtype)).prune_filters({layer: [number]})
    return masked


def masked_and_removed(
    model: nn.Module, batches: Batches, layer: str, number: int, bn: str = "eval"
) -> tuple[float, float]:
    """The change of the loss by hard masking, and by the smaller network of `remove`."""
    masked, before = without(model, layer, number), loss_of(model, batches, bn)
    smaller = pv.remove(masked, IMAGES).network
    return loss_of(masked, batches, bn) - before, loss_of(smaller, batches, bn) - before


def assert_is_truth(model: nn.Module, table: pd.DataFrame, batches: Batches, bn: str) -> None:
    before = loss_of(model, batches, bn)
    for row in table.dropna().itertuples():
        masked = without(model, row.layer, row.filter)
        assert row.delta_loss == pytest.approx(loss_of(masked, batches, bn) - before, abs=1e-10)
    # networks become smaller by one filter of each layer: removing takes longer than masking
    for row in table.dropna().groupby("layer", observed=True).tail(1).itertuples():
        wanted = masked_and_removed(model, batches, row.layer, row.filter, bn)
        assert np.allclose(row.delta_loss, wanted, rtol=0, atol=1e-10), (row, wanted)


@CASES_AND_MODES
def test_equals_hard_masking_and_the_smaller_network(case: Case, bn: str) -> None:
    model, batches = case.model(), sample_of(bn)
    try:
        table = pv.delta_loss(model, batches, bn=bn)
    except PruningError:
        with pytest.raises(PruningError):
            pv.Pruner(model, IMAGES)
        return
    assert_is_truth(model, table, batches, bn)


@pytest.mark.parametrize(
    "build",
    [
        lambda: resnet56(num_classes=CLASSES, width=0.125),
        lambda: mobilenet_v1(num_classes=CLASSES, width=0.125),
        lambda: vgg13(num_classes=CLASSES, width=0.0625),
    ],
    ids=["residual", "depthwise", "plain"],
)
def test_a_draw_in_the_networks_of_the_paper_is_the_truth(build: Network) -> None:
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.manual_seed(0))
    model = build().double()
    with torch.no_grad():
        for _ in range(5):
            model(images)  # statistics with which no layer is silent
    sample = (images, torch.tensor([0, 1, 2, 0]))
    table = pv.delta_loss(model, sample, filters=4, seed=1)
    pruner_example, before = images[:2], loss_of(model, [sample])
    for row in table.itertuples():
        masked = copy.deepcopy(model)
        pv.Pruner(masked, pruner_example).prune_filters({row.layer: [row.filter]})
        assert row.delta_loss == pytest.approx(loss_of(masked, [sample]) - before, abs=1e-10)
    smaller = pv.remove(masked, pruner_example).network  # of the last filter
    assert row.delta_loss == pytest.approx(loss_of(smaller, [sample]) - before, abs=1e-10)


def transformer() -> nn.Module:
    """Two layers of attention and feed-forward on sequences of four."""
    layer = nn.TransformerEncoderLayer(8, 2, 6, dropout=0.1, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(net: Net, x: Tensor) -> Tensor:
        return net.fc(net.encoder(net.embed(x.squeeze(1))).mean(1))

    return Net(forward, embed=nn.Linear(4, 8), encoder=encoder, fc=nn.Linear(8, CLASSES))


@pytest.mark.parametrize("unit", ["head", "neuron"])
def test_units_of_a_transformer_are_removed_as_the_pruner_does(unit: str) -> None:
    model = randomise(transformer()).double()
    table = pv.delta_loss(model, (IMAGES, LABELS), unit=unit)
    assert table["delta_loss"].notna().all() and len(table) == (4 if unit == "head" else 12)
    before = loss_of(model, [(IMAGES, LABELS)])
    for row in table.itertuples():
        masked = copy.deepcopy(model)
        pruner = pv.Pruner(masked, IMAGES, unit=unit, keep_at_least=0)
        pruner.prune_filters({row.layer: [row.filter]})
        smaller = pv.remove(masked, IMAGES, unit=unit).network
        for network in (masked, smaller):
            after = loss_of(network, [(IMAGES, LABELS)])
            assert row.delta_loss == pytest.approx(after - before, abs=1e-10)


def blocks() -> nn.Module:
    """Nested containers, operations in place, and a module that is called twice."""

    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.stem(x)
        y = x
        y = net.first(y)
        y += x
        y = net.act(y)
        y = net.second(y) + y
        return net.fc(net.act(y).mean((2, 3)))

    def block() -> nn.Sequential:
        conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        return nn.Sequential(nn.Sequential(conv, norm2d(3), nn.ReLU(inplace=True)))

    stem = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), norm2d(3), nn.ReLU(inplace=True))
    parts = {"stem": stem, "first": block(), "second": block()}
    return Net(forward, act=nn.ReLU(inplace=True), fc=nn.Linear(3, CLASSES), **parts)


class Remembering(nn.Module):
    """A stem that also keeps its output, which the head reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(1, 3, 2), nn.Conv2d(3, 4, 2)
        self.fc, self.kept = nn.Linear(7, CLASSES), {}
        self.stem.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.kept["stem"] = output

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(torch.tanh(self.stem(x)))
        skip = self.kept["stem"]
        return self.fc(torch.cat([x.mean((2, 3)), skip.mean((2, 3))], 1))


class OneCall(nn.Module):
    """A network that reads a parameter outside of the module that holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = nn.Conv2d(1, 3, 2), nn.Conv2d(3, 3, 1)
        self.fc = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.late.weight.square().sum()
        return self.fc(self.late(torch.tanh(self.early(x) * scale)).mean((2, 3)))


@pytest.mark.parametrize(
    "build", [blocks, Remembering, OneCall], ids=["in place", "hook", "read early"]
)
def test_partial_passes_are_right_where_modules_do_more_than_return(build: Network) -> None:
    model = randomise(build()).double().train()
    table = pv.delta_loss(model, (IMAGES, LABELS))
    assert table["delta_loss"].notna().any()
    for row in table.dropna().itertuples():
        masked = without(model, row.layer, row.filter)
        wanted = loss_of(masked, [(IMAGES, LABELS)]) - loss_of(model, [(IMAGES, LABELS)])
        assert row.delta_loss == pytest.approx(wanted, abs=1e-10)


def test_only_what_changes_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BY_NAME["conv_bn_relu"].model()
    seen: list[int] = []  # input channels of every convolution
    plain = F.conv2d

    def counted(x: Tensor, *others: Any) -> Tensor:
        seen.append(x.shape[1])
        return plain(x, *others)

    monkeypatch.setattr(F, "conv2d", counted)
    counts = []
    for filters in ([0], [0, 1, 2, 3]):
        seen.clear()
        pv.delta_loss(model, (IMAGES, LABELS), {"4": filters})
        counts.append((seen.count(1), seen.count(3)))
    (first, second), (first_again, second_again) = counts
    assert first_again == first and second_again == second + 3


def test_the_network_and_everything_around_it_stay() -> None:
    model = BY_NAME["residual"].model(dtype=torch.float32)
    model.bn2.eval()
    model.conv1.weight.requires_grad_(requires_grad=False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    held = [*model.parameters(), *model.buffers()]
    values = [tensor.detach().clone() for tensor in held]
    versions, flags = [t._version for t in held], [m.training for m in model.modules()]
    generator, call = torch.get_rng_state(), nn.Module.__call__
    pv.delta_loss(model, (IMAGES, LABELS), filters=5, bn="batch")
    assert [t._version for t in held] == versions
    assert [m.training for m in model.modules()] == flags
    assert all(now is old for now, old in zip(model.parameters(), held, strict=False))
    assert all(torch.equal(now, old) for now, old in zip(held, values, strict=True))
    assert all((p.grad == 1).all() for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator) and nn.Module.__call__ is call


@pytest.mark.parametrize("chunk", [1, 3, 12])
def test_chunks_batches_and_a_loss_of_ones_own_change_no_number(chunk: int) -> None:
    model = BY_NAME["grouped"].model()
    whole = pv.delta_loss(model, (IMAGES, LABELS))
    batches = [(IMAGES[:5], LABELS[:5]), (IMAGES[5:], LABELS[5:])]
    own = {"loss": lambda output, target: F.cross_entropy(output, target), "temperatures": (1.0,)}
    for options in ({"chunk": chunk}, {"chunk": chunk, **own}):
        parts = pv.delta_loss(model, batches, **options)
        np.testing.assert_allclose(parts["delta_loss"], whole["delta_loss"], atol=1e-13)


def test_a_temperature_and_float64_of_a_float32_network() -> None:
    model = BY_NAME["plain"].model(dtype=torch.float32)
    options: dict[str, Any] = {"temperatures": (3.0,), "dtype": torch.float64}
    row = pv.delta_loss(model, (IMAGES.float(), LABELS), {"2": [1]}, **options)
    twin, masked = (
        Twin(network, [(IMAGES, LABELS)]) for network in (model, without(model, "2", 1))
    )
    wanted = masked.mean_loss(masked.theta, 3.0) - twin.mean_loss(twin.theta, 3.0)
    assert row["delta_loss"][0] == pytest.approx(float(wanted), abs=1e-12)


def test_inputs_by_name_through_a_forward_of_ones_own() -> None:
    model = BY_NAME["residual"].model()
    batch = {"pixels": IMAGES, "classes": LABELS}
    table = pv.delta_loss(
        model,
        batch,
        forward=lambda model, batch: model(batch["pixels"]),
        loss=lambda output, batch: F.cross_entropy(output, batch["classes"]),
    )
    plain = pv.delta_loss(model, (IMAGES, LABELS))
    np.testing.assert_allclose(table["delta_loss"], plain["delta_loss"], atol=1e-13)


def test_pruned_filters_are_null_and_others_lose_what_is_left() -> None:
    model = BY_NAME["grouped"].model()
    pv.Pruner(model, IMAGES).prune_filters({"0": [1]})
    table = pv.delta_loss(model, (IMAGES, LABELS))
    gone = pv.measure(model, (IMAGES, LABELS), columns="theta_g")["kept"].to_numpy() == False  # noqa: E712
    assert gone.any() and table.loc[gone, "delta_loss"].isna().all()
    assert_is_truth(model, table, [(IMAGES, LABELS)], "eval")


def test_filters_that_cannot_be_removed_are_null_with_the_reason() -> None:
    model = BY_NAME["group_norm"].model()
    table = pv.delta_loss(model, (IMAGES, LABELS), classifier=True)
    reasons = table.attrs["not_removable"]
    assert table.loc[table["layer"].isin(list(reasons)), "delta_loss"].isna().all()
    assert "share the statistics of a" in reasons["0"] and "6" in reasons
    single = randomise(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 4, 2), *head(4))).double()
    lone = pv.delta_loss(single, (IMAGES, LABELS))
    assert lone.attrs["not_removable"] == {"0": "0 would be left without a filter"}
    assert set(pv.delta_loss(single, (IMAGES, LABELS), filters=3)["layer"]) == {"1"}


def test_a_draw_is_even_over_layers_seeded_and_nested() -> None:
    sizes = {"a": 2, "b": 50, "c": 7, "d": 400}
    few, more = draw(sizes, 20, seed=0), draw(sizes, 60, seed=0)
    assert {name: len(own) for name, own in few.items()} == {"a": 2, "b": 6, "c": 6, "d": 6}
    counts = {name: len(own) for name, own in more.items()}
    assert counts | {"b": 0, "d": 0} == {"a": 2, "b": 0, "c": 7, "d": 0}
    assert {counts["b"], counts["d"]} == {25, 26}
    assert all(set(few[name]) <= set(more[name]) for name in sizes)
    assert few == draw(sizes, 20, seed=0) != draw(sizes, 20, seed=1)
    assert few["d"] == draw({"d": 400}, 6, seed=0)["d"]
    assert {name: len(own) for name, own in draw(sizes, 9999, seed=0).items()} == sizes
    layers = {f"layer{i}": 5 for i in range(40)}
    spread = [i for i, own in enumerate(draw(layers, 10, seed=3).values()) if own]
    assert len(spread) == 10 and max(np.diff(spread)) == 4


def test_a_larger_draw_loses_at_most_one_filter_of_a_layer() -> None:
    for sizes in ({"a": 2, "b": 9, "c": 7, "d": 16}, {f"layer{i}": 5 for i in range(11)}):
        draws = [draw(sizes, n, seed=4) for n in range(1, sum(sizes.values()) + 1)]
        for i, few in enumerate(draws):
            for name in sizes:
                least = min((more[name] for more in draws[i:]), key=len)
                assert len(set(few[name]) - set(least)) <= 1


@pytest.mark.parametrize(
    "given",
    [1, np.int64(1), [1, 1], {1}, np.array([1]), iter([1])],
    ids=["int", "NumPy", "twice", "set", "array", "iterator"],
)
def test_filters_of_a_layer_by_any_kind_of_numbers(given: Any) -> None:
    table = pv.delta_loss(BY_NAME["residual"].model(), (IMAGES, LABELS), {"conv1": given})
    assert list(table["filter"]) == [1]


def test_threads_leave_modules_as_they_are_and_give_equal_numbers() -> None:
    call, model = nn.Module.__call__, BY_NAME["residual"].model()
    alone = pv.delta_loss(model, (IMAGES, LABELS))
    with ThreadPoolExecutor(3) as pool:
        copies = [copy.deepcopy(model) for _ in range(3)]
        tables = list(pool.map(lambda own: pv.delta_loss(own, (IMAGES, LABELS)), copies))
    assert nn.Module.__call__ is call and torch.get_default_dtype() is torch.float32
    for table in tables:
        pd.testing.assert_frame_equal(table, alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 0}, r"filters=0; give the number of filters to draw, 1 or more, "),
        ({"filters": 0.5}, r"filters=0\.5"),
        ({"filters": {"conv": [0]}}, r"no layer 'conv'; did you mean 'conv3'"),
        ({"filters": {"conv1": [9]}}, r"layer conv1 has no filter 9; its filters are 0 to 2"),
        ({"filters": {"conv1": 9}}, r"layer conv1 has no filter 9"),
        ({"filters": {"conv1": None}}, r"filters=\{'conv1': None\}; give whole numbers"),
        ({"filters": {"conv1": [0.5]}}, r"filters=\{'conv1': 0\.5\}; give whole numbers"),
        ({"filters": {"conv1": [[0]]}}, r"filters=\{'conv1': \[0\]\}; give whole numbers"),
        ({"filters": {"conv1": [True]}}, r"filters=\{'conv1': True\}; give whole numbers"),
        ({"filters": {"conv1": "01"}}, r"filters=\{'conv1': '01'\}; give whole numbers"),
        ({"filters": {"conv1": []}}, r"filters names no filter"),
        ({"filters": {}}, r"filters names no filter"),
        ({"filters": [0, 1]}, r"\{layer: filters\}"),
        ({"filters": 3, "seed": -1}, r"seed=-1; give a whole number"),
        ({"filters": 3, "seed": 2**64}, r"seed=18446744073709551616; give one below"),
        ({"filters": 3, "seed": 1.5}, r"seed=1\.5; give a whole number"),
        ({"unit": "weight"}, r"not of single weights"),
        ({"columns": "theta_g"}, r"leave out columns"),
        ({"oracle": 3}, r"pass filters="),
        ({"chunk": 0}, r"chunk=0"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MeasureError, match=message):
        pv.delta_loss(BY_NAME["residual"].model(), (IMAGES, LABELS), **options)


def test_a_loss_that_is_not_finite_names_the_filter() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.conv(x).mean((2, 3))
        return net.fc(x) / x[:, :1].abs().clamp(max=1.0)

    model = randomise(Net(forward, conv=nn.Conv2d(1, 3, 2, bias=False), fc=nn.Linear(3, 3)))
    with pytest.raises((MeasureError, PruningError), match="conv"):
        pv.delta_loss(model.double(), (IMAGES, LABELS), {"conv": [0]})
