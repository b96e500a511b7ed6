"""Networks whose parts have no plain second derivative are measured right, beside float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import pruneviz as pv
from tests.support.plain_autograd import assert_as_plain

COLUMNS = ["theta_g", "theta_hg"]


def agrees(
    model: nn.Module, inputs: Tensor, *, plain: nn.Module | None = None, within: float = 1e-9
) -> None:
    """Measuring in float64 agrees with plain autograd on the network, or on a plain twin."""
    targets = torch.arange(len(inputs)) % 3
    frame = pv.measure(model, (inputs, targets), columns=COLUMNS, dtype=torch.float64)
    given = inputs.double() if inputs.is_floating_point() else inputs
    assert frame["theta_hg"].abs().max() > 1e-6
    assert_as_plain(frame, plain or model, lambda net: F.cross_entropy(net(given), targets), within)


class Checkpointed(nn.Module):
    """Square linear layers with bias, run in one of the ways of activation checkpointing."""

    def __init__(self, run: Callable[[nn.Sequential, Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run
        self.first = nn.Linear(6, 6)
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.run(self.body, self.first(x)))


CHECKPOINTED = {
    "reentrant": partial(checkpoint, use_reentrant=True),
    "not reentrant": partial(checkpoint, use_reentrant=False),
    "sequential, reentrant": lambda body, x: checkpoint_sequential(body, 2, x, use_reentrant=True),
    "sequential": lambda body, x: checkpoint_sequential(body, 2, x, use_reentrant=False),
}


@pytest.mark.parametrize("way", CHECKPOINTED)
def test_checkpointed_networks(way: str) -> None:
    torch.manual_seed(0)
    model, plain = Checkpointed(CHECKPOINTED[way]), Checkpointed(lambda body, x: body(x))
    plain.load_state_dict(model.state_dict())
    agrees(model, torch.randn(8, 6), plain=plain)


def test_checkpointing_is_back_after_measuring() -> None:
    body, calls = nn.Linear(6, 6), []
    model = Checkpointed(CHECKPOINTED["not reentrant"])
    pv.measure(model, (torch.randn(4, 6), torch.arange(4) % 3), columns="theta_g")

    def counted(x: Tensor) -> Tensor:
        calls.append(1)
        return body(x).tanh()

    checkpoint(counted, torch.randn(2, 6), use_reentrant=False).sum().backward()
    assert len(calls) == 2


class Automatic(nn.Module):
    """Computes in bfloat16 inside its own forward."""

    def __init__(self, *, own: bool) -> None:
        super().__init__()
        self.own = own
        self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.own):
            return self.head(torch.tanh(self.first(x)))


def test_autocast_inside_forward() -> None:
    torch.manual_seed(0)
    model, plain = Automatic(own=True), Automatic(own=False)
    plain.load_state_dict(model.state_dict())
    agrees(model, torch.randn(8, 6), plain=plain)
    assert model.first(torch.randn(2, 6)).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert model.first(torch.randn(2, 6)).dtype == torch.bfloat16


class Encoder(nn.Module):
    """An encoder of sequences with padding."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        padding = torch.zeros(x.shape[:2], dtype=torch.bool)
        padding[1::2, -2:] = True
        return self.head(self.encoder(x, src_key_padding_mask=padding).mean(1))


@pytest.mark.filterwarnings("ignore:.*nested tensors.*:UserWarning")
@pytest.mark.parametrize("frozen", [False, True])
def test_transformer_encoders_with_padding(frozen: bool) -> None:
    torch.manual_seed(0)
    model = Encoder()
    model.encoder.requires_grad_(not frozen)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        agrees(model, torch.randn(6, 5, 8))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    table = pv.measure(model, (torch.randn(6, 5, 8), torch.arange(6) % 3), columns=COLUMNS)
    assert table["theta_hg"].notna().all()


class Hard(nn.Module):
    """Hard activation functions as modules and functions, in place and not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(6, 6), nn.Hardswish(), nn.Linear(6, 6), nn.Hardswish(inplace=True)
        )
        self.gate = nn.Sequential(nn.Linear(6, 6), nn.Hardsigmoid(inplace=True))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(3 * x)
        return self.head(F.hardswish(x * self.gate(x) * F.hardsigmoid(x)))


class Formulas(Hard):
    """The same by formulas."""

    def forward(self, x: Tensor) -> Tensor:
        def sigmoid(y: Tensor) -> Tensor:
            return (y + 3).clamp(0, 6) / 6

        for layer in (self.body[0], self.body[2]):
            y = layer(3 * x if layer is self.body[0] else x)
            x = y * sigmoid(y)
        x = x * sigmoid(self.gate[0](x)) * sigmoid(x)
        return self.head(x * sigmoid(x))


def test_hard_activation_functions() -> None:
    torch.manual_seed(0)
    model, plain = Hard(), Formulas()
    plain.load_state_dict(model.state_dict())
    agrees(model, torch.randn(8, 6), plain=plain)
    table = pv.measure(model, (torch.randn(4, 6), torch.arange(4) % 3))
    assert not table.isna().all().loc["theta_hg"]


class Cast(nn.Module):
    """A body in bfloat16 whose head computes in float32."""

    def __init__(self, *, casts: bool) -> None:
        super().__init__()
        self.casts = casts
        self.body, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not self.casts:
            return self.head(torch.tanh(self.body(x)))
        x = torch.tanh(self.body(x.to(torch.bfloat16))).float()
        return self.head(x + torch.zeros(6, dtype=torch.float32)).to(torch.float32)


def test_casts_inside_forward() -> None:
    torch.manual_seed(0)
    plain = Cast(casts=False)
    model = Cast(casts=True)
    model.load_state_dict(plain.state_dict())
    agrees(model, torch.randn(8, 6), plain=plain)


class Fourier(nn.Module):
    """A complex weight between real layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
        self.weight = nn.Parameter(torch.randn(4, 4, dtype=torch.cdouble))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.fft.rfft(self.body(x))
        return self.head(torch.fft.irfft(h @ self.weight.to(h.dtype), n=6).tanh())


def parts(g: Tensor) -> Tensor:
    return torch.view_as_real(g) if g.is_complex() else g


def test_complex_weights_are_a_part_of_theta() -> None:
    torch.manual_seed(0)
    model, inputs, targets = Fourier().double(), torch.randn(8, 6).double(), torch.arange(8) % 3
    model.weight.data = model.weight.data.cdouble()
    frame = pv.measure(model, (inputs, targets), columns=["theta_g", "theta_hg"], layers="body")
    theta = dict(model.named_parameters())
    loss = F.cross_entropy(model(inputs), targets)
    g = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
    slope = sum((parts(one) * parts(one).detach()).sum() for one in g)
    hg = torch.autograd.grad(slope, model.body.weight)[0]
    expected = (model.body.weight * hg).sum(1).detach().numpy()
    assert abs(frame["theta_hg"].to_numpy() - expected).max() < 1e-9 * abs(expected).max()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_forward_mode_derivative_inside_forward() -> None:
    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.body(x)
            return self.head(torch.func.jvp(lambda y: self.inner(y).tanh(), (x,), (x,))[1])

    torch.manual_seed(0)
    agrees(Slope(), torch.randn(8, 6))


class Aliased(nn.Module):
    """Uses parameters that it keeps in a list, a closure and by a view of another module."""

    def __init__(self, *, aliased: bool) -> None:
        super().__init__()
        self.body, self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.aliased = aliased
        self.weights, bias = [self.inner.weight], self.inner.bias
        self.shift = lambda x: x + bias

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.body(x))
        if not self.aliased:
            return self.head(torch.tanh(self.inner(x)) @ self.inner.weight)
        x = torch.tanh(self.shift(F.linear(x, self.weights[0])))
        return self.head(x @ torch.cat([self.weights[0][:3], self.weights[0][3:]]))


def test_parameters_kept_in_lists_and_closures() -> None:
    torch.manual_seed(0)
    model, plain = Aliased(aliased=True), Aliased(aliased=False)
    plain.load_state_dict(model.state_dict())
    agrees(model, torch.randn(8, 6), plain=plain)


def test_embeddings_with_sparse_gradients() -> None:
    torch.manual_seed(0)
    made = [
        nn.Sequential(nn.Embedding(9, 6, sparse=sparse), nn.Flatten(), nn.Linear(24, 6), nn.Tanh())
        for sparse in (True, False)
    ]
    model, plain = (nn.Sequential(*layers, nn.Linear(6, 3)) for layers in made)
    plain.load_state_dict(model.state_dict())
    agrees(model, torch.randint(0, 9, (8, 4)), plain=plain)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks(kind: type[nn.Module]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = kind(8, 6, 2, batch_first=True, bidirectional=True, dropout=0.2)
            self.head = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x)[0][:, -1])

    torch.manual_seed(0)
    agrees(Recurrent(), torch.randn(6, 4, 8))
