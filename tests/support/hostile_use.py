"""Losses, forwards and networks that people write, and that leave the path a measurement expects.

Each is a `Case` of tests/support/hostile_models.py: right, or refused by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.cases import Net
from tests.support.hostile_models import (
    CLASSES,
    Case,
    cnn,
    flat,
    labelled,
    language_model,
    mlp,
    token_mean,
    tokens,
    vectors,
    vision,
)


class Linked:
    """A network, and functions that close over it instead of taking it."""

    def __init__(self) -> None:
        self.model: nn.Module = mlp()

    def build(self) -> nn.Module:
        self.model = mlp()
        return self.model

    def decayed(self, output: Tensor, target: Tensor) -> Tensor:
        """A loss with a weight penalty of its own."""
        penalty = sum(p.square().sum() for p in self.model.parameters())
        return F.cross_entropy(output, target) + 0.01 * penalty

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        return self.model(batch[0])

    def again(self, output: Tensor, target: Tensor) -> Tensor:
        """A loss that calls the network once more, as consistency losses do."""
        return F.cross_entropy(output, target) + self.model(vectors()[:2]).square().mean()


def _penalised() -> Case:
    linked = Linked()
    return Case(
        linked.build,
        flat,
        linked.decayed,
        refused="the loss reads the parameter .* of the network itself",
    )


def _own_forward() -> Case:
    linked = Linked()
    return Case(
        linked.build,
        flat,
        options={"forward": linked.forward, "loss": _of_batch},
    )


def _calling_again() -> Case:
    linked = Linked()
    return Case(
        linked.build,
        flat,
        linked.again,
        refused="the loss reads the parameter .* of the network itself",
    )


def _of_batch(output: Tensor, target: Any) -> Tensor:
    return F.cross_entropy(output, target[1] if isinstance(target, tuple) else target)


class Angular(nn.Module):
    """A loss with class centres of its own, as ArcFace has."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(CLASSES, CLASSES, generator=_seeded()))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        similarity = F.normalize(output, dim=1) @ F.normalize(self.centres.to(output), dim=1).T
        return F.cross_entropy(4 * similarity, target)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


class Labelled(nn.Module):
    """Computes its own loss when it is given labels, as networks of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = language_model()

    def forward(self, ids: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.body(ids)
        loss = None if labels is None else token_mean(logits, labels)
        return SimpleNamespace(loss=loss, logits=logits)


def _with_labels() -> tuple[Any, Tensor]:
    x, y = tokens()
    return {"ids": x, "labels": y}, y


@dataclass
class Answer:
    """A dataclass that a network returns."""

    logits: Tensor
    note: str = ""


class Unrecorded(nn.Module):
    """Keeps layers in a list that torch does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.hidden = [nn.Linear(8, 8)]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden[0].to(x.dtype)(self.one(x).tanh()).tanh())


class Quantised(nn.Module):
    """Holds an integer weight and its scale."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.whole = nn.Parameter(torch.arange(64, dtype=torch.int8).view(8, 8), False)
        self.scale = nn.Parameter(torch.full((8, 1), 0.02))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.one(x).tanh() @ (self.whole * self.scale).T).tanh())


class Ungraded(nn.Module):
    def __init__(self, mode: Any) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        with self.mode():
            return self.head(self.two(self.one(x).tanh()).tanh())


def _sparse_embedding() -> nn.Module:
    return Net(
        lambda net, x: net.head(net.one(net.embed(x).mean(1)).tanh()),
        embed=nn.Embedding(11, 8, sparse=True),
        one=nn.Linear(8, 8),
        head=nn.Linear(8, CLASSES),
    )


def _transposed_tie() -> nn.Module:
    """An autoencoder whose decoder uses the encoder's weight transposed."""
    return Net(
        lambda net, x: net.head(F.linear(net.one(x).tanh(), net.one.weight.T).tanh()),
        one=nn.Linear(8, 5),
        head=nn.Linear(8, CLASSES),
    )


def _empty_layer() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nothing = nn.Linear(0, 8)
    return Net(
        lambda net, x: net.head((net.one(x) + net.nothing(x[:, :0])).tanh()),
        one=nn.Linear(8, 8),
        nothing=nothing,
        head=nn.Linear(8, CLASSES),
    )


def _sharing_memory() -> nn.Module:
    """Two parameters that are views of one memory."""
    model = mlp()
    memory = torch.randn(16, 8) * 0.3
    model[0].weight = nn.Parameter(memory[:8])
    model[2].weight = nn.Parameter(memory[8:])
    return model


def _looping() -> nn.Module:
    """As many steps as its input says, as adaptive computation does."""

    def forward(net: Net, x: Tensor) -> Tensor:
        h = net.one(x)
        for _ in range(int(x.detach().abs().sum().item()) % 3 + 1):
            h = net.two(h).tanh()
        return net.head(h)

    return Net(forward, one=nn.Linear(8, 8), two=nn.Linear(8, 8), head=nn.Linear(8, CLASSES))


def _gradient_inside() -> nn.Module:
    """Differentiates in its forward pass, as energy-based networks and PINNs do."""

    def forward(net: Net, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = net.two(net.one(x).tanh()).tanh().sum()
            force = torch.autograd.grad(energy, x, create_graph=True)[0]
        return net.head(force)

    return Net(forward, one=nn.Linear(8, 8), two=nn.Linear(8, 1), head=nn.Linear(8, CLASSES))


def _functional_gradient_inside() -> nn.Module:
    """The same through torch.func, example by example."""

    def forward(net: Net, x: Tensor) -> Tensor:
        def energy(row: Tensor) -> Tensor:
            return net.two(net.one(row).tanh()).tanh().sum()

        return net.head(torch.func.vmap(torch.func.grad(energy))(x))

    return Net(forward, one=nn.Linear(8, 8), two=nn.Linear(8, 1), head=nn.Linear(8, CLASSES))


def _equilibrium() -> nn.Module:
    """A fixed point found without gradients and one step with them (deep equilibrium)."""

    def forward(net: Net, x: Tensor) -> Tensor:
        h = torch.zeros_like(net.one(x))
        with torch.no_grad():
            for _ in range(10):
                h = (net.one(x) + 0.3 * net.two(h)).tanh()
        return net.head((net.one(x) + 0.3 * net.two(h)).tanh())

    return Net(forward, one=nn.Linear(8, 8), two=nn.Linear(8, 8), head=nn.Linear(8, CLASSES))


USE: Mapping[str, Case] = {
    "a loss with a weight penalty": _penalised(),
    "a loss that calls the network": _calling_again(),
    "a forward that closes over the network": _own_forward(),
    "a loss with parameters": Case(mlp, flat, Angular()),
    "a loss for each example": Case(
        mlp,
        flat,
        lambda out, y: F.cross_entropy(out, y, reduction="none"),
        refused="scalar|one number|mean",
    ),
    "a loss that is a number": Case(
        mlp, flat, lambda out, y: F.cross_entropy(out, y).item(), refused="tensor|float"
    ),
    "a loss and more": Case(
        mlp,
        flat,
        lambda out, y: (F.cross_entropy(out, y), {"note": 1}),
        refused="tuple|tensor|scalar",
    ),
    "a loss without the network": Case(
        mlp, flat, lambda out, y: out.detach().sum(), refused="depend|gradient|parameters"
    ),
    "a loss that is not finite": Case(
        mlp, flat, lambda out, y: (out - out.max()).log().sum(), refused="finite|NaN|infinite"
    ),
    "labels among the inputs": Case(Labelled, _with_labels, lambda out, y: out.loss, {"chunk": 2}),
    "labels among the inputs, weighted": Case(
        Labelled,
        _with_labels,
        lambda out, y: out.loss,
        {"chunk": 2, "loss_weight": lambda y: y != -100},
        refused="loss_weight the losses of parts do not add up",
    ),
    "a dataclass": Case(
        lambda: Net(lambda net, x: Answer(net.body(x)), body=mlp()),
        flat,
        lambda out, y: F.cross_entropy(out.logits, y),
    ),
    "layers that torch does not see": Case(Unrecorded, flat, tolerance=1e-3),
    "an integer weight": Case(Quantised, flat),
    "no gradients": Case(lambda: Ungraded(torch.no_grad), flat, refused="gradient|no_grad|depend"),
    "inference mode": Case(
        lambda: Ungraded(torch.inference_mode), flat, refused="gradient|inference|depend"
    ),
    "a sparse embedding": Case(_sparse_embedding, lambda: labelled(tokens()[0])),
    "a transposed tie": Case(_transposed_tie, flat),
    "a layer without inputs": Case(_empty_layer, flat),
    "parameters that share memory": Case(_sharing_memory, flat),
    "as many steps as the input says": Case(_looping, flat, options={"chunk": 2}),
    "a gradient in forward": Case(_gradient_inside, flat),
    "a gradient in forward by torch.func": Case(
        _functional_gradient_inside,
        flat,
        refused="the forward pass fails in the network .*torch.func",
    ),
    "a deep equilibrium": Case(_equilibrium, flat),
    "labels as bytes": Case(
        mlp,
        lambda: (vectors(), labelled(0)[1].byte()),
        lambda out, y: F.cross_entropy(out, y.long()),
    ),
    "channels last": Case(
        lambda: cnn().to(memory_format=torch.channels_last),
        lambda: labelled(vision()[0].contiguous(memory_format=torch.channels_last)),
    ),
    "an expanded image": Case(cnn, lambda: labelled(vision()[0][:1].expand(6, -1, -1, -1))),
    "one example": Case(mlp, lambda: labelled(vectors(1), 1)),
}
