"""Everyday networks whose operations, inputs or outputs make naive measuring fail.

Each is a `Case` of tests/support/hostile_models.py: right, or refused by name.
"""

from __future__ import annotations

import warnings
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.support.cases import Net
from tests.support.hostile_models import (
    CLASSES,
    Case,
    cnn,
    images,
    labelled,
    mlp,
    tokens,
    vectors,
    vision,
)

Output = namedtuple("Output", ["logits", "hidden"])


def between(middle: Callable[[Tensor], Tensor], inputs: int = 8) -> Callable[[], nn.Module]:
    """A linear network with a function of the hidden vector in its middle."""
    return lambda: Net(
        lambda net, x: net.head(net.two(middle(net.one(x))).tanh()),
        one=nn.Linear(inputs, 8),
        two=nn.Linear(8, 8),
        head=nn.Linear(8, CLASSES),
    )


def on_maps(middle: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    """A convolutional network with a function of its feature map in its middle."""
    return lambda: Net(
        lambda net, x: net.head(net.two(middle(net.one(x))).tanh().mean((2, 3))),
        one=nn.Conv2d(3, 4, 3, padding=1),
        two=nn.Conv2d(4, 5, 3, padding=1),
        head=nn.Linear(5, CLASSES),
    )


def flat() -> tuple[Tensor, Tensor]:
    return labelled(vectors())


# Activation functions: right, whatever kernel torch has for them

ACTIVATIONS: Mapping[str, Case] = {
    name: Case(between(function), flat)
    for name, function in {
        "relu": F.relu,
        "relu6": F.relu6,
        "hardswish": F.hardswish,
        "hardsigmoid": F.hardsigmoid,
        "hardtanh": F.hardtanh,
        "hardswish module": nn.Hardswish(),
        "hardswish module, in place": nn.Hardswish(inplace=True),
        "hardsigmoid module, in place": nn.Hardsigmoid(inplace=True),
        "silu": F.silu,
        "mish": F.mish,
        "gelu": F.gelu,
        "tanh gelu": lambda x: F.gelu(x, approximate="tanh"),
        "elu": F.elu,
        "celu": F.celu,
        "selu": F.selu,
        "softplus": F.softplus,
        "softsign": F.softsign,
        "softshrink": F.softshrink,
        "hardshrink": F.hardshrink,
        "tanhshrink": F.tanhshrink,
        "logsigmoid": F.logsigmoid,
        "leaky relu": F.leaky_relu,
        "random leaky relu": F.rrelu,
        "threshold": lambda x: F.threshold(x, 0.1, 0.0),
        "softmax": lambda x: x.softmax(1),
        "softmin": lambda x: F.softmin(x, 1),
        "glu": lambda x: torch.cat([F.glu(x), F.glu(x)], 1),
        "squared relu": lambda x: F.relu(x).square(),
        "sine": torch.sin,
        "exp": lambda x: (-x.square()).exp(),
        "norm": lambda x: x / x.norm(dim=1, keepdim=True),
        "cumulative product": lambda x: (x / 2 + 1).cumprod(1),
        "sort": lambda x: x.sort(1).values,
        "top two": lambda x: x * (x >= x.topk(2).values[:, -1:]),
        "logsumexp": lambda x: x - x.logsumexp(1, keepdim=True),
        "square root": lambda x: (x.square() + 0.1).sqrt(),
    }.items()
}

# Layers and operations


class Lstm(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Linear(8, 6), kind(6, 5, num_layers=2, batch_first=True)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0][:, -1])


def sequences() -> tuple[Tensor, Tensor]:
    x = torch.randn(6, 4, 8, generator=torch.Generator().manual_seed(1))
    return labelled(x)


class Encoder(nn.Module):
    """`nn.TransformerEncoder`, whose fast path has no derivative."""

    def __init__(self, masked: bool, first: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, 0.1, batch_first=True, norm_first=first)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.encoder = nn.TransformerEncoder(layer, 2)
        self.head, self.masked = nn.Linear(8, CLASSES), masked

    def forward(self, x: Tensor) -> Tensor:
        padding = None
        if self.masked:
            lengths = torch.tensor([1, 4, 2, 3, 4, 2], device=x.device)[: len(x)]
            padding = torch.arange(4, device=x.device) >= lengths[:, None]
        return self.head(self.encoder(x, src_key_padding_mask=padding)[:, 0])


class Attending(nn.Module):
    """Multi-head attention over the places of a sequence, by torch's module or function."""

    def __init__(self, module: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True) if module else None

    def forward(self, x: Tensor) -> Tensor:
        if self.attention:
            x = x + self.attention(x, x, x, need_weights=False)[0]
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(self.out(y.transpose(1, 2).flatten(2)).tanh().mean(1))


def unshared_examples() -> tuple[Any, Tensor]:
    """A graph of six nodes; the "examples" are its nodes."""
    return labelled(vectors())


class Graph(nn.Module):
    """A graph network: the whole graph in one piece, its adjacency in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        ring = torch.eye(6).roll(1, 0)
        self.register_buffer("adjacency", (torch.eye(6) + ring + ring.T) / 3)
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.adjacency @ (self.adjacency @ self.one(x)).tanh())


class EdgeGraph(nn.Module):
    """A graph network that is given its edges."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        h = self.one(x)
        h = h.index_add(0, edges[1], h[edges[0]]).tanh()
        return self.two(h)


class Positions(nn.Module):
    """Holds a buffer as long as the batch, as stateful recurrent networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.linspace(-1, 1, 6)[:, None])
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.two((self.one(x) + self.shift).tanh())


class OverBatch(nn.Module):
    """Routes the three strongest examples of the batch through a layer, as expert choice does."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.expert, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x).tanh()
        top = h[:, 0].topk(3).indices
        return self.head(h.index_add(0, top, self.expert(h[top])))


class Experts(nn.Module):
    """Each example goes to the expert that its label-like first entry names."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.one, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x).tanh()
        chosen = (x[:, 0] * 2).long().abs() % 4
        out = torch.zeros_like(h)
        for number, expert in enumerate(self.experts):
            at = (chosen == number).nonzero().flatten()
            if len(at):
                out = out.index_add(0, at, expert(h[at]))
        return self.head(h + out.tanh())


class Outputs(nn.Module):
    """Gives its logits in the container that `form` makes."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.body, self.head, self.form = mlp(8), nn.Linear(8, CLASSES), form

    def forward(self, x: Tensor) -> Any:
        hidden = self.body(x).tanh()
        return self.form(self.head(hidden), hidden)


def _outputs(form: Callable[[Tensor, Tensor], Any], pick: Callable[[Any], Tensor]) -> Case:
    return Case(lambda: Outputs(form), flat, lambda out, y: F.cross_entropy(pick(out), y))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(8, 8), nn.Linear(4, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, context: Tensor, scale: float = 1.0) -> Tensor:
        return self.head((self.one(x) + scale * self.two(context)).tanh())


class Padded(nn.Module):
    """A bag of words that counts what the mask shows."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.one, self.head = nn.Embedding(11, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head((self.one(self.embed(ids)).tanh() * mask[..., None]).sum(1))


def _second() -> Tensor:
    return vectors(6, 4)


class BagOfWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag, self.one, self.head = nn.EmbeddingBag(11, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.one(self.bag(x)).tanh())


def words() -> tuple[Tensor, Tensor]:
    return labelled(tokens()[0])


def _sampled(x: Tensor) -> Tensor:
    grid = torch.stack([x[:, 0], x[:, 1]], -1).tanh()
    return F.grid_sample(x, grid, align_corners=False)


def _jvp(x: Tensor) -> Tensor:
    return torch.func.jvp(torch.tanh, (x,), (torch.ones_like(x),))[1]


def _fourier(x: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(x) * 0.9, s=x.shape[-2:])


class ComplexWeight(nn.Module):
    """An FNO layer: a complex weight in the Fourier domain."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, dtype=torch.cfloat))
        self.one, self.head = nn.Conv1d(1, 4, 3, padding=1), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.fft.rfft(self.one(x[:, None]))
        h = torch.einsum("bcf,cd->bdf", h, self.weight.to(h.dtype))
        return self.head(torch.fft.irfft(h, n=8).tanh().mean(2))


class Once(torch.autograd.Function):
    """A function whose backward pass cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0].cos()


class Rounded(torch.autograd.Function):
    """Straight-through rounding, an old-style function that functorch cannot enter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def _ctc(output: Tensor, target: Tensor) -> Tensor:
    lengths = torch.full((len(target),), 4)
    return F.ctc_loss(
        output.log_softmax(2).transpose(0, 1),
        target[:, None] % 2 + 1,
        lengths,
        torch.ones_like(lengths),
    )


def _lazy() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(CLASSES))


def _meta() -> nn.Module:
    with torch.device("meta"):
        return mlp()


def _scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(mlp())


def _traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(mlp(), vectors())


def _exported() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(mlp(), (vectors(),)).module()


def _fx() -> nn.Module:
    return torch.fx.symbolic_trace(cnn())


def _compiled() -> nn.Module:
    return torch.compile(cnn(), backend="eager")


def _tied() -> nn.Module:
    model = mlp()
    model[2].weight = model[0].weight
    return model


class Twice(nn.Module):
    """Registers a layer under two names, and uses it under the second."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(8, 8)
        self.body = nn.Sequential(self.one, nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 8))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).tanh())


def _used_by_function() -> nn.Module:
    """Uses the weight of a module without calling it."""
    return Net(
        lambda net, x: net.head(F.linear(net.one(x).tanh(), net.two.weight, net.two.bias).tanh()),
        one=nn.Linear(8, 8),
        two=nn.Linear(8, 8),
        head=nn.Linear(8, CLASSES),
    )


def _bare_parameter() -> nn.Module:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w1, self.w2 = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(3, 8))
            self.one = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return (self.one(x).tanh() @ self.w1).tanh() @ self.w2.T

    return Bare()


def _unused_layer() -> nn.Module:
    model = cnn()
    model.auxiliary = nn.Linear(4, 4)
    return Net(lambda net, x: net.body[:8](x), body=model)


def _called_twice() -> nn.Module:
    return Net(
        lambda net, x: net.head(net.one(net.one(x).tanh()).tanh()),
        one=nn.Linear(8, 8),
        head=nn.Linear(8, CLASSES),
    )


def _frozen() -> nn.Module:
    model = cnn()
    model[0].requires_grad_(False)
    return model


def _all_frozen() -> nn.Module:
    return cnn().requires_grad_(False)


def _parametrised(which: Callable[[nn.Module], nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model = mlp()
        which(model[2])
        return model

    return build


def _in_place() -> nn.Module:
    return Net(
        lambda net, x: net.head(F.relu_(net.two(net.one(x).tanh_()))),
        one=nn.Linear(8, 8),
        two=nn.Linear(8, 8),
        head=nn.Linear(8, CLASSES),
    )


def _no_grad_part() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = net.one(x).tanh()
        return net.head(net.two(x).tanh())

    return Net(forward, one=nn.Linear(8, 8), two=nn.Linear(8, 8), head=nn.Linear(8, CLASSES))


OPERATIONS: Mapping[str, Case] = {
    "LSTM": Case(lambda: Lstm(nn.LSTM), sequences),
    "GRU": Case(lambda: Lstm(nn.GRU), sequences),
    "plain RNN": Case(lambda: Lstm(nn.RNN), sequences),
    "transformer encoder": Case(lambda: Encoder(False), sequences),
    "transformer encoder with padding": Case(lambda: Encoder(True), sequences),
    "transformer encoder, norm first": Case(lambda: Encoder(True, True), sequences),
    "attention module": Case(lambda: Attending(True), sequences),
    "attention function": Case(lambda: Attending(False), sequences),
    "grid sample": Case(
        on_maps(_sampled), vision, refused="cannot be differentiated twice: .*grid_sampler"
    ),
    "interpolate": Case(
        on_maps(lambda x: F.interpolate(x, size=11, mode="bicubic", align_corners=False)), vision
    ),
    "adaptive max pool": Case(on_maps(lambda x: F.adaptive_max_pool2d(x, 3)), vision),
    "fractional pool by indices": Case(
        on_maps(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)), vision
    ),
    "lp pool": Case(on_maps(lambda x: F.lp_pool2d(x, 2, 2)), vision),
    "local response norm": Case(on_maps(lambda x: F.local_response_norm(x, 3)), vision),
    "unfold and fold": Case(
        on_maps(lambda x: F.fold(F.unfold(x, 3, padding=1), (8, 8), 3, padding=1)), vision
    ),
    "pixel shuffle": Case(on_maps(lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2)), vision),
    "cdist": Case(
        between(lambda x: torch.cdist(x[:, None], x[:, None] * 2 + 1).flatten(1) * x),
        flat,
        refused="cannot be differentiated twice: .*_cdist_backward",
    ),
    "Fourier transform": Case(on_maps(_fourier), vision),
    "a complex weight": Case(ComplexWeight, flat),
    "jvp in forward": Case(between(_jvp), flat),
    "once differentiable": Case(
        between(Once.apply), flat, refused="cannot be differentiated twice: .*Once is marked"
    ),
    "straight-through": Case(between(Rounded.apply), flat),
    "CTC": Case(
        lambda: Net(
            lambda net, x: net.head(net.one(x).tanh()), one=nn.Linear(8, 8), head=nn.Linear(8, 4)
        ),
        sequences,
        _ctc,
        refused="loss cannot be differentiated twice: .*_ctc_loss",
    ),
    "embedding bag": Case(
        BagOfWords, words, refused="bag \\(EmbeddingBag\\) cannot be differentiated twice"
    ),
    "bilinear module": Case(
        lambda: Net(
            lambda net, x: net.head(net.two(net.one(x), x).tanh()),
            one=nn.Linear(8, 8),
            two=nn.Bilinear(8, 8, 5),
            head=nn.Linear(5, CLASSES),
        ),
        flat,
    ),
    "matrix inverse": Case(
        between(
            lambda x: torch.linalg.solve(torch.eye(8).to(x) * 3 + x[:, :, None] * x[:, None] / 8, x)
        ),
        flat,
    ),
    "einsum": Case(between(lambda x: torch.einsum("ni,nj->ni", x, x.tanh())), flat),
    "in place": Case(_in_place, flat),
    "a part without gradients": Case(_no_grad_part, flat),
}

GRAPHS: Mapping[str, Case] = {
    "adjacency in a buffer": Case(
        Graph, unshared_examples, options={"trace_examples": None, "chunk": 6}
    ),
    "adjacency in a buffer, chunk chosen": Case(
        Graph, unshared_examples, options={"trace_examples": None}
    ),
    "adjacency in a buffer, nothing said": Case(Graph, unshared_examples),
    "adjacency in a buffer, bn='batch'": Case(
        Graph, unshared_examples, options={"trace_examples": None, "bn": "batch"}
    ),
    "edges as an input": Case(
        EdgeGraph,
        lambda: labelled((vectors(), torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]]))),
        options={"trace_examples": None, "bn": "batch"},
    ),
    "a buffer as long as the batch": Case(
        Positions, flat, options={"trace_examples": None, "bn": "batch"}
    ),
    "top-k over the batch": Case(OverBatch, flat, options={"trace_examples": None, "bn": "batch"}),
    "top-k over the batch, nothing said": Case(OverBatch, flat),
    "experts that two examples do not meet": Case(Experts, flat),
}

OUTPUTS: Mapping[str, Case] = {
    "dict": _outputs(lambda y, h: {"out": y, "aux": h}, lambda out: out["out"]),
    "tuple": _outputs(lambda y, h: (y, h), lambda out: out[0]),
    "list": _outputs(lambda y, h: [h, y], lambda out: out[1]),
    "named tuple": _outputs(Output, lambda out: out.logits),
    "nested": _outputs(lambda y, h: {"a": [(y, None)], "n": 3}, lambda out: out["a"][0][0]),
    "tuple with theta2_g2": Case(
        lambda: Outputs(lambda y, h: (y, h)),
        flat,
        lambda out, y: F.cross_entropy(out[0], y),
        {"columns": ["theta_g", "theta_hg", "theta2_g2"]},
    ),
    "dict with theta2_g2 and synflow": Case(
        lambda: Outputs(lambda y, h: {"out": y}),
        flat,
        lambda out, y: F.cross_entropy(out["out"], y),
        {"columns": ["theta_g", "theta_hg", "theta2_g2", "synflow"]},
    ),
    "one of two outputs unused": _outputs(lambda y, h: (y, y.detach()), lambda out: out[0]),
}

INPUTS: Mapping[str, Case] = {
    "two positional": Case(TwoInputs, lambda: labelled((vectors(), _second()))),
    "keywords": Case(TwoInputs, lambda: labelled({"x": vectors(), "context": _second()})),
    "keywords with a number": Case(
        TwoInputs, lambda: labelled({"x": vectors(), "context": _second(), "scale": 0.5})
    ),
    "keywords in chunks": Case(
        TwoInputs, lambda: labelled({"x": vectors(), "context": _second()}), options={"chunk": 4}
    ),
    "one tensor for two inputs": Case(TwoInputs, flat, refused="context|argument|input", plain=mlp),
    "padded tokens and a mask": Case(
        Padded, lambda: labelled({"ids": tokens()[0], "mask": (tokens()[1] != -100).float()})
    ),
    "a target that is a dict": Case(
        mlp,
        lambda: (vectors(), {"y": labelled(0)[1], "w": torch.linspace(0.1, 1, 6)}),
        lambda out, t: (F.cross_entropy(out, t["y"], reduction="none") * t["w"]).mean(),
    ),
    "non-contiguous images": Case(cnn, lambda: labelled(images(6, 8, 3).transpose(1, 2)[:, :3])),
}

STRUCTURES: Mapping[str, Case] = {
    "tied weights": Case(_tied, flat),
    "a layer called twice": Case(_called_twice, flat),
    "a layer registered twice": Case(Twice, flat),
    "a layer registered twice, in batch mode": Case(
        Twice, flat, options={"columns": ["theta_g", "theta_hg"], "chunk": 2}
    ),
    "a weight used by a function": Case(_used_by_function, flat),
    "bare parameters": Case(_bare_parameter, flat),
    "a layer that is not used": Case(_unused_layer, vision),
    "a frozen layer": Case(_frozen, vision),
    "everything frozen": Case(_all_frozen, vision),
    "compiled": Case(_compiled, vision, plain=cnn),
    "fx": Case(_fx, vision),
    "lazy": Case(_lazy, flat, refused="lazy|uninitiali|initiali"),
    "meta": Case(_meta, flat, refused="meta"),
    "scripted": Case(_scripted, flat, refused="compiled by torch.jit", plain=mlp),
    "traced by jit": Case(_traced, flat, refused="compiled by torch.jit", plain=mlp),
    "exported": Case(_exported, flat, refused="made by torch.export", plain=mlp),
    "weight norm": Case(_parametrised(parametrizations.weight_norm), flat),
    "spectral norm": Case(_parametrised(parametrizations.spectral_norm), flat),
    "weight norm, layer left out": Case(
        _parametrised(parametrizations.weight_norm), flat, options={"skip": ("2",)}
    ),
    "ConvTranspose": Case(
        lambda: Net(
            lambda net, x: net.head(net.up(net.one(x).tanh()).tanh().mean((2, 3))),
            one=nn.Conv2d(3, 4, 3),
            up=nn.ConvTranspose2d(4, 5, 3, stride=2),
            head=nn.Linear(5, CLASSES),
        ),
        vision,
    ),
    "one-dimensional convolutions": Case(
        lambda: nn.Sequential(
            nn.Conv1d(4, 5, 3), nn.Tanh(), nn.Conv1d(5, 4, 3), nn.Flatten(), nn.Linear(16, 3)
        ),
        lambda: labelled(sequences()[0]),
    ),
    "a network in a network in float64": Case(lambda: nn.ModuleList([cnn()])[0].double(), vision),
}
