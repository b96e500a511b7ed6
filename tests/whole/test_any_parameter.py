"""Any parameter can be measured, by default every linear map, and equals plain double backward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pruneviz as pv
from pruneviz.errors import MeasureError
from tests.support.entries import entry_columns

COLUMNS = ["theta_norm2", "theta_g", "abs_theta_g", "theta2_abs_g", "g_norm2", "theta_hg"]
TARGET = torch.tensor([0, 2, 1, 1])


class Net(nn.Module):
    def __init__(self, forward: Callable, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self._forward = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


class Conv1D(nn.Module):
    """A linear layer with weight [inputs, outputs], as GPT-2 writes it."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.weight = nf, nn.Parameter(torch.randn(nx, nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(torch.zeros(self.nf, dtype=x.dtype), x, self.weight)


def floats(*shape: int) -> Tensor:
    return torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))


def words() -> Tensor:
    return torch.tensor([[1, 2, 3], [0, 2, 2], [4, 1, 0], [3, 3, 1]])


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def experts(net: Net, x: Tensor) -> Tensor:
    """Each example goes to the expert that its number modulo 2 names, and its sign to no other."""
    chosen = [net.a if row.sum() > 0 else net.b for row in x]
    return net.fc(torch.stack([e(row) for e, row in zip(chosen, x, strict=True)]).tanh())


# name -> parts, forward, inputs, {layer: rows} by default
NETWORKS: dict[str, tuple[dict, Callable, Tensor, dict[str, int]]] = {
    "input first": (
        {"up": Conv1D(5, 3), "fc": nn.Linear(5, 3)},
        lambda net, x: net.fc(net.up(x).tanh()),
        floats(3),
        {"up": 5},
    ),
    "transposed": (
        {"up": nn.ConvTranspose2d(2, 6, 2, groups=2), "fc": nn.Linear(6, 3)},
        lambda net, x: net.fc(net.up(x).tanh().mean((2, 3))),
        floats(2, 3, 3),
        {"up": 6},
    ),
    "attention": (
        {"attn": nn.MultiheadAttention(4, 2, batch_first=True), "fc": nn.Linear(4, 3)},
        lambda net, x: net.fc(net.attn(x, x, x, need_weights=False)[0].mean(1)),
        floats(3, 4),
        {"attn.in_proj_weight": 12, "attn.out_proj": 4},
    ),
    "functional": (
        {"a": nn.Linear(3, 5), "fc": nn.Linear(5, 3)},
        lambda net, x: net.fc(F.linear(x, net.a.weight).tanh()),
        floats(3),
        {"a": 5},
    ),
    "recurrent": (
        {"rnn": nn.GRU(3, 2, batch_first=True), "fc": nn.Linear(2, 3)},
        lambda net, x: net.fc(net.rnn(x)[0][:, -1]),
        floats(3, 3),
        {"rnn.weight_ih_l0": 6, "rnn.weight_hh_l0": 6},
    ),
    "stacked experts": (
        {"w": weight(2, 5, 3), "fc": nn.Linear(5, 3)},
        lambda net, x: net.fc((F.linear(x, net.w[0]) + 2 * F.linear(x, net.w[1])).tanh()),
        floats(3),
        {"w": 10},
    ),
    "matmul": (
        {"w": weight(3, 5), "fc": nn.Linear(5, 3)},
        lambda net, x: net.fc((x @ net.w).tanh()),
        floats(3),
        {"w": 5},
    ),
    "one expert per example": (
        {"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "fc": nn.Linear(3, 3)},
        experts,
        torch.tensor([[1.0, 2, 3], [1, 1, 1], [-1, -2, -3], [-1, -1, 1]]),
        {"a": 3, "b": 3},
    ),
    "unused": (
        {"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "fc": nn.Linear(3, 3)},
        lambda net, x: net.fc(net.a(x).tanh()),
        floats(3),
        {"a": 3},
    ),
}


def built(name: str) -> tuple[nn.Module, Tensor, dict[str, int]]:
    torch.manual_seed(0)
    parts, forward, x, layers = NETWORKS[name]
    return Net(forward, **parts), x, layers


def rows_of(model: nn.Module, layer: str, values: dict[str, Tensor]) -> np.ndarray:
    """Sums over rows, written from the meaning of each weight."""
    name = layer if layer in values else f"{layer}.weight"
    value = values[name]
    module = model.get_submodule(name.rpartition(".")[0])
    if isinstance(module, nn.ConvTranspose2d):
        groups = value.chunk(module.groups)
        return torch.cat([group.sum((0, 2, 3)) for group in groups]).numpy()
    if isinstance(module, Conv1D) or (name == "w" and value.ndim == 2):
        return value.sum(0).numpy()
    return value.sum(-1).flatten().numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_linear_map_is_measured_by_default(name: str) -> None:
    model, x, layers = built(name)
    table = pv.measure(model, (x, TARGET), dtype=torch.float64, columns=COLUMNS)
    assert table["layer"].value_counts(sort=False).to_dict() == layers
    twin = entry_columns(model, x.double() if x.is_floating_point() else x, TARGET)
    for layer, rows in table.groupby("layer", observed=True):
        for column in COLUMNS:
            want = rows_of(model, str(layer), twin[column])
            np.testing.assert_allclose(rows[column], want, rtol=1e-9, atol=1e-14, err_msg=column)


@pytest.mark.parametrize("name", ["input first", "transposed", "attention", "stacked experts"])
def test_single_weights_of_a_row_sum_to_it(name: str) -> None:
    model, x, _ = built(name)
    columns = ["theta_norm2", "theta_g", "theta_hg"]
    rows, weights = (
        pv.measure(model, (x, TARGET), dtype=torch.float64, columns=columns, unit=unit)
        for unit in ("filter", "weight")
    )
    sums = weights.groupby(["layer", "filter"], observed=True, sort=False)[columns].sum()
    np.testing.assert_allclose(sums, rows[columns], rtol=1e-9, atol=1e-14)


NAMED = {
    "embedding": ("table", ["table"], [5]),
    "norm scale": ("norm", ["norm"], [3]),
    "bias": ("*.bias", ["mid.bias", "norm.bias", "bn.bias", "fc.bias"], [3, 3, 3, 3]),
    "batch-norm scale": ("bn.weight", ["bn"], [3]),
    "positions": ("place", ["place"], [3]),
    "a scalar": ("gain", ["gain"], [1]),
    "classifier by name": ("fc", ["fc"], [3]),
    "layer and vector": (("fc.bias", "mid"), ["mid", "fc.bias"], [3, 3]),
}


def language_model() -> nn.Module:
    torch.manual_seed(0)

    def forward(net: Net, x: Tensor) -> Tensor:
        y = net.norm(net.mid(net.table(x) * net.gain + net.place)).tanh()
        return net.fc(net.bn(y.mean(1)))

    model = Net(
        forward,
        table=nn.Embedding(5, 3),
        gain=nn.Parameter(torch.tensor(1.5)),
        place=weight(1, 3, 3),
        mid=nn.Linear(3, 3),
        norm=nn.LayerNorm(3),
        bn=nn.BatchNorm1d(3),
        fc=nn.Linear(3, 3),
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.5)
    return model


@pytest.mark.parametrize("kind", NAMED)
def test_any_parameter_can_be_measured_by_name(kind: str) -> None:
    layers, names, sizes = NAMED[kind]
    model = language_model()
    table = pv.measure(
        model, (words(), TARGET), dtype=torch.float64, columns=COLUMNS, layers=layers
    )
    assert dict(zip(names, sizes, strict=True)) == table["layer"].value_counts(sort=False).to_dict()
    twin = entry_columns(model, words(), TARGET)
    for layer, rows in table.groupby("layer", observed=True):
        name = str(layer) if str(layer) in twin["theta_g"] else f"{layer}.weight"
        for column in COLUMNS:
            value = twin[column][name]
            want = (
                value.sum(2).flatten() if name == "place" else value.reshape(len(rows), -1).sum(1)
            )
            np.testing.assert_allclose(rows[column], want, rtol=1e-9, atol=1e-14, err_msg=column)


def test_a_star_adds_to_the_default() -> None:
    table = pv.measure(
        language_model(), (words(), TARGET), layers=("*", "table"), columns="theta_g"
    )
    assert list(table["layer"].unique()) == ["mid", "table"]


def test_skip_leaves_out_what_layers_chose() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    measured = {"columns": "theta_g"}
    sample = (floats(3), TARGET)
    assert set(pv.measure(model, sample, skip="0", **measured)["layer"]) == {"1"}
    assert set(pv.measure(model, sample, layers="[01]", skip=["1"], **measured)["layer"]) == {"0"}
    with pytest.raises(MeasureError, match=r"leave no layer of Sequential; its layers are 0, 1, 2"):
        pv.measure(model, sample, skip="*")


@pytest.mark.parametrize("option", ["layers", "skip"])
def test_an_unknown_name_is_refused_with_a_suggestion(option: str) -> None:
    model = Net(lambda net, x: net.fc(net.hidden(x)), hidden=nn.Linear(3, 4), fc=nn.Linear(4, 3))
    with pytest.raises(MeasureError, match=rf"for {option} 'hiden'; did you mean 'hidden'"):
        pv.measure(model, (floats(3), TARGET), **{option: "hiden"})


def test_a_computed_weight_is_left_out_and_measured_by_the_name_of_its_parameter() -> None:
    torch.manual_seed(0)
    normed = parametrizations.weight_norm(nn.Linear(4, 4))
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), normed, nn.Tanh(), nn.Linear(4, 3))
    sample = (floats(3), TARGET)
    assert set(pv.measure(model, sample)["layer"]) == {"0"}
    name = "2.parametrizations.weight.original1"
    table = pv.measure(model, sample, layers=name, dtype=torch.float64, columns=COLUMNS)
    twin = entry_columns(model, sample[0].double(), TARGET)
    np.testing.assert_allclose(table["theta_hg"], twin["theta_hg"][name].sum(1), rtol=1e-9)


def test_zeros_are_kept_unless_asked_otherwise() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    nn.init.zeros_(model[1].weight)
    sample = (floats(3), TARGET)
    assert pv.measure(model, sample)["kept"].all()
    kept = pv.measure(model, sample, kept="nonzero")
    assert kept.groupby("layer", observed=True)["kept"].all().to_dict() == {"0": True, "1": False}
    with pytest.raises(MeasureError, match="kept='zeros'; choose 'masks'"):
        pv.measure(model, sample, kept="zeros")


class Graph(nn.Module):
    """A network over the edges of one graph, which no slice of its nodes has."""

    def __init__(self, edges: Tensor) -> None:
        super().__init__()
        self.register_buffer("edges", edges)
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        start, end = self.edges
        return self.b(torch.zeros(len(x), 4, dtype=x.dtype).index_add(0, end, self.a(x)[start]))


def test_a_graph_is_traced_with_the_whole_batch() -> None:
    model = Graph(torch.tensor([[0, 1, 2, 3, 3], [1, 2, 3, 0, 1]]))
    whole = {"bn": "batch", "columns": ["theta_g"], "dtype": torch.float64}
    table = pv.measure(model, (floats(3), TARGET), **whole)
    assert table.equals(pv.measure(model, (floats(3), TARGET), trace_examples=None, **whole))
    want = entry_columns(model, floats(3).double(), TARGET)["theta_g"]["a.weight"].sum(1)
    np.testing.assert_allclose(table["theta_g"], want, rtol=1e-9)
    with pytest.raises(MeasureError, match="trace_examples=0; give the number"):
        pv.measure(model, (floats(3), TARGET), trace_examples=0)


def test_rows_of_a_lookup_with_sparse_gradients_are_those_of_a_dense_one() -> None:
    torch.manual_seed(0)
    words, labels = torch.randint(0, 9, (12, 4)), torch.arange(12) % 3
    tables = []
    for sparse in (False, True):
        torch.manual_seed(1)
        layers = (
            nn.Embedding(9, 6, sparse=sparse),
            nn.Linear(6, 5),
            nn.Flatten(),
            nn.Linear(20, 3),
        )
        model = nn.Sequential(*layers)
        tables.append(pv.measure(model, (words, labels), layers=["*", "0.weight"]))
    pd.testing.assert_frame_equal(*tables, check_exact=True)
