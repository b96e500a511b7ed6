"""Small networks, losses and samples that break naive measuring, each with what is right.

A case is right if its columns agree with plain float64 autograd, or it must be refused with a
message that matches `refused`. Nothing else is: no other number, and no bare error of torch.
`plain` builds an honest network with the same parameters, where the case's own forward pass would
mislead the twin too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import pruneviz as pv
from pruneviz.errors import PrunevizError
from tests.support.cases import Net
from tests.support.double_backward import products, worst_error

CLASSES = 3


@dataclass(frozen=True)
class Case:
    """A network on a sample, and what measuring it must give.

    Attributes:
        build: The network, in training mode.
        sample: Inputs and target of the whole sample.
        loss: Loss of the whole sample from output and target, as the twin computes it.
        options: Options of `pv.measure`; `loss` is added unless `default_loss`.
        refused: Pattern of the error's message; empty if the case must be right.
        plain: An honest network with the same parameters, for the twin.
        tolerance: Largest error relative to a layer's largest value.
    """

    build: Callable[[], nn.Module]
    sample: Callable[[], tuple[Any, Any]]
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    options: Mapping[str, Any] = field(default_factory=dict)
    default_loss: bool = False
    refused: str = ""
    plain: Callable[[], nn.Module] | None = None
    tolerance: float = 2e-4


def images(n: int = 6, channels: int = 3, size: int = 8) -> Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1))


def vectors(n: int = 6, width: int = 8) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(1))


def labelled(inputs: Any, n: int = 6) -> tuple[Any, Tensor]:
    """Inputs and unevenly distributed labels."""
    return inputs, torch.tensor([0, 0, 0, 1, 2, 1, 0, 2])[:n]


def vision() -> tuple[Tensor, Tensor]:
    return labelled(images())


def flat() -> tuple[Tensor, Tensor]:
    return labelled(vectors())


def cnn(outputs: int = CLASSES) -> nn.Module:
    first = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()]
    second = [nn.Conv2d(6, 8, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*first, *second, nn.Linear(8, outputs))


def mlp(outputs: int = CLASSES) -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, outputs)
    )


# Losses that are no mean over examples

WEIGHT = torch.tensor([0.2, 1.0, 7.0])


def _weighted(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, weight=WEIGHT.to(output.dtype))


def contrastive(output: Tensor, target: Tensor) -> Tensor:
    """InfoNCE between the two halves of the batch."""
    z = F.normalize(output, dim=1)
    similarity = z @ z.T / 0.5
    similarity = similarity.masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
    return F.cross_entropy(similarity, torch.arange(len(z)).roll(len(z) // 2))


def hardest_triplet(output: Tensor, target: Tensor) -> Tensor:
    distance = (output[:, None] - output[None]).square().sum(-1)
    same = target[:, None] == target[None]
    far = torch.where(same, distance, torch.zeros_like(distance)).amax(1)
    near = torch.where(same, torch.full_like(distance, 1e9), distance).amin(1)
    return F.softplus(far - near).mean()


def dice(output: Tensor, target: Tensor) -> Tensor:
    probability = output.sigmoid()
    return 1 - 2 * (probability * target).sum() / (probability.sum() + target.sum())


def focal_by_positives(output: Tensor, target: Tensor) -> Tensor:
    """RetinaNet's focal loss: the sum is divided by the number of positives in the batch."""
    bce = F.binary_cross_entropy_with_logits(output, target, reduction="none")
    return (bce * (1 - (-bce).exp()).square()).sum() / target.sum().clamp(min=1)


def masks() -> tuple[Tensor, Tensor]:
    """Images and binary masks whose positive share differs from image to image."""
    x = images()
    return x, (x[:, :1] > torch.linspace(-2, 1, 6).view(6, 1, 1, 1)).float()


def decorrelating(output: Tensor, target: Tensor) -> Tensor:
    """Barlow Twins' term: correlations of the outputs over the batch."""
    z = (output - output.mean(0)) / output.std(0)
    return (z.T @ z / len(z)).square().sum() + F.cross_entropy(output, target)


def segmenter() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(6, 4, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 1, 1),
    )


def tokens() -> tuple[Tensor, Tensor]:
    """Sequences of uneven length; -100 marks what does not count."""
    x = torch.randint(0, 11, (6, 7), generator=torch.Generator().manual_seed(1))
    y = x.roll(-1, 1).clone()
    for n, length in enumerate((1, 7, 2, 6, 3, 5)):
        y[n, length:] = -100
    return x, y


def language_model() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        h = net.embed(x)
        h = h + net.mix(h.cumsum(1)).tanh()
        return net.head(h + net.up(h).tanh())

    return Net(
        forward,
        embed=nn.Embedding(11, 8),
        mix=nn.Linear(8, 8),
        up=nn.Linear(8, 8),
        head=nn.Linear(8, 11),
    )


def token_mean(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=-100)


def _with_ignored() -> tuple[Tensor, Tensor]:
    x, y = vision()
    return x, torch.where(torch.arange(6) % 3 == 1, -100, y)


def _summed(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, reduction="sum")


def _regression() -> tuple[Tensor, Tensor]:
    return vectors(), vectors()[:, :1].sin() + 0.3


LOSSES: Mapping[str, Case] = {
    "weighted cross-entropy module": Case(
        cnn, vision, _weighted, {"loss": nn.CrossEntropyLoss(weight=WEIGHT), "chunk": 2}
    ),
    "weighted cross-entropy function": Case(cnn, vision, _weighted, {"chunk": 2}),
    "weighted cross-entropy of a function with loss_weight": Case(
        cnn, vision, _weighted, {"chunk": 2, "loss_weight": lambda y: WEIGHT[y]}
    ),
    "weighted negative log-likelihood": Case(
        lambda: nn.Sequential(cnn(), nn.LogSoftmax(1)),
        vision,
        lambda out, y: F.nll_loss(out, y, weight=WEIGHT.to(out.dtype)),
        {"loss": nn.NLLLoss(weight=WEIGHT), "chunk": 2},
    ),
    "weighted cross-entropy with label smoothing": Case(
        cnn,
        vision,
        lambda out, y: F.cross_entropy(out, y, weight=WEIGHT.to(out.dtype), label_smoothing=0.1),
        {"loss": nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1), "chunk": 2},
    ),
    "ignore_index": Case(
        cnn, _with_ignored, F.cross_entropy, {"loss": nn.CrossEntropyLoss(), "chunk": 2}
    ),
    "ignore_index of its own": Case(
        cnn,
        vision,
        lambda out, y: F.cross_entropy(out, y, ignore_index=0),
        {"loss": nn.CrossEntropyLoss(ignore_index=0), "chunk": 2},
    ),
    "ignore_index by the default loss": Case(
        cnn, _with_ignored, options={"chunk": 2}, default_loss=True
    ),
    "token mean over uneven sequences": Case(language_model, tokens, token_mean, {"chunk": 2}),
    "token mean with loss_weight": Case(
        language_model, tokens, token_mean, {"chunk": 2, "loss_weight": lambda y: y != -100}
    ),
    "the sum over examples": Case(cnn, vision, _summed, {"chunk": 2}),
    "the sum module": Case(
        cnn, vision, _summed, {"loss": nn.CrossEntropyLoss(reduction="sum"), "chunk": 2}
    ),
    "contrastive": Case(cnn, vision, contrastive, {"chunk": 2}),
    "contrastive in one piece": Case(cnn, vision, contrastive),
    "hardest triplets": Case(cnn, vision, hardest_triplet, {"chunk": 2}),
    "correlations over the batch": Case(cnn, vision, decorrelating, {"chunk": 3}, tolerance=2e-3),
    "Dice": Case(segmenter, masks, dice, {"chunk": 2}),
    "focal by positives": Case(segmenter, masks, focal_by_positives, {"chunk": 2}),
    "masked reconstruction": Case(
        segmenter, masks, lambda out, y: ((out - y).square() * y).sum() / y.sum(), {"chunk": 2}
    ),
    "KL divergence by batchmean": Case(
        lambda: nn.Sequential(mlp(), nn.LogSoftmax(1)),
        lambda: (vectors(), vectors()[:, :3].softmax(1)),
        lambda out, y: F.kl_div(out, y, reduction="batchmean"),
        {"chunk": 2},
    ),
    "mean squared error": Case(lambda: mlp(1), _regression, F.mse_loss, {"chunk": 2}),
    "the root of the mean squared error": Case(
        lambda: mlp(1), _regression, lambda out, y: F.mse_loss(out, y).sqrt(), {"chunk": 2}
    ),
    "a broadcast of [N, 1] against [N]": Case(
        lambda: mlp(1),
        lambda: (vectors(), vectors()[:, 0]),
        lambda out, y: (out - y).square().mean(),
        {"chunk": 2},
    ),
    "an odd last chunk": Case(lambda: mlp(1), _regression, F.mse_loss, {"chunk": 4}),
}

# The default loss on targets that it is not for

TARGETS: Mapping[str, Case] = {
    "a column of real numbers": Case(
        lambda: mlp(1), _regression, default_loss=True, refused="mse_loss"
    ),
    "a column of zeros and ones": Case(
        lambda: mlp(1),
        lambda: (vectors(), (vectors()[:, :1] > 0).float()),
        default_loss=True,
        refused="binary_cross_entropy_with_logits",
    ),
    "a single output and labels 0": Case(
        lambda: mlp(1),
        lambda: (vectors(), torch.zeros(6, dtype=torch.long)),
        default_loss=True,
        refused="one output|single output|binary_cross_entropy|mse_loss",
    ),
    "binary masks": Case(
        segmenter, masks, default_loss=True, refused="binary_cross_entropy_with_logits"
    ),
    "multi-hot rows": Case(
        mlp,
        lambda: (vectors(), (vectors()[:, :3] > -0.5).float()),
        default_loss=True,
        refused="binary_cross_entropy_with_logits",
    ),
    "real rows": Case(
        mlp, lambda: (vectors(), vectors()[:, :3]), default_loss=True, refused="mse_loss"
    ),
    "rows with negative parts that sum to 1": Case(
        mlp,
        lambda: (vectors(), torch.tensor([[2.0, -0.5, -0.5]] * 6)),
        default_loss=True,
        refused="mse_loss|negative|>= 0|non-negative",
    ),
    "probabilities": Case(mlp, lambda: (vectors(), vectors()[:, :3].softmax(1)), default_loss=True),
    "multi-hot rows with their own loss": Case(
        mlp,
        lambda: (vectors(), (vectors()[:, :3] > -0.5).float()),
        F.binary_cross_entropy_with_logits,
        {"chunk": 2},
    ),
    "binary masks with their own loss": Case(
        segmenter, masks, F.binary_cross_entropy_with_logits, {"chunk": 2}
    ),
    "label maps": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 3, 1)),
        lambda: (images(), images()[:, :3].argmax(1)),
        options={"chunk": 2},
        default_loss=True,
    ),
}

# Activation checkpointing


class Checkpointed(nn.Module):
    """Square linear layers with bias; the part that `how` names is recomputed in backward."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.body = nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(8, 8), nn.Tanh())])
        self.head, self.how = nn.Linear(8, CLASSES), how

    def forward(self, x: Tensor) -> Tensor:
        return RECOMPUTED[self.how](self, x)


def _each(net: Checkpointed, x: Tensor, reentrant: bool) -> Tensor:
    x = net.body[0](x)
    for layer in net.body[1:]:
        x = checkpoint(layer, x, use_reentrant=reentrant)
    return net.head(x)


def _in_segments(net: Checkpointed, x: Tensor, reentrant: bool) -> Tensor:
    return net.head(checkpoint_sequential(net.body[1:], 2, net.body[0](x), use_reentrant=reentrant))


RECOMPUTED: Mapping[str, Callable[[Any, Tensor], Tensor]] = {
    "nothing": lambda net, x: net.head(net.body(x)),
    "each layer": lambda net, x: _each(net, x, False),
    "each layer, reentrant": lambda net, x: _each(net, x, True),
    "segments": lambda net, x: _in_segments(net, x, False),
    "segments, reentrant": lambda net, x: _in_segments(net, x, True),
    "the whole body": lambda net, x: net.head(checkpoint(net.body, x, use_reentrant=False)),
    "the whole network": lambda net, x: checkpoint(
        lambda x: net.head(net.body(x)), x, use_reentrant=False
    ),
    "the head": lambda net, x: checkpoint(net.head, net.body(x), use_reentrant=False),
    "one layer": lambda net, x: net.head(
        net.body[1:](checkpoint(net.body[0], x, use_reentrant=False))
    ),
    "a residual block": lambda net, x: net.head(
        x + checkpoint(net.body, x, use_reentrant=False, preserve_rng_state=False)
    ),
}


def _without_recomputing(how: str) -> nn.Module:
    if how == "a residual block":
        return Net(
            lambda net, x: net.head(x + net.body(x)), **dict(Checkpointed(how).named_children())
        )
    return Checkpointed("nothing")


def _checkpointed(how: str) -> Case:
    return Case(
        lambda: Checkpointed(how),
        lambda: labelled(vectors(8), 8),
        plain=lambda: _without_recomputing(how),
    )


CHECKPOINTING: Mapping[str, Case] = {
    how: _checkpointed(how) for how in RECOMPUTED if how != "nothing"
}

# Precision


class MixedPrecision(nn.Module):
    """A bf16 body and a head that computes in float32, as language models do."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()).bfloat16()
        self.head, self.own = nn.Linear(8, CLASSES), own

    def forward(self, x: Tensor) -> Tensor:
        if self.own:
            return self.head(self.body(x.to(self.body[0].weight.dtype)).to(self.head.weight.dtype))
        return self.head(self.body(x))


class FloatHead(nn.Module):
    """Calls `.float()` before its head, whatever dtype it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).tanh().float())


class Autocast(nn.Module):
    """Autocasts its own body, as Megatron and diffusers networks do."""

    def __init__(self, wrap: bool = True) -> None:
        super().__init__()
        self.body, self.head, self.wrap = cnn(8), nn.Linear(8, CLASSES), wrap

    def forward(self, x: Tensor) -> Tensor:
        if not self.wrap:
            return self.head(self.body(x).tanh())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.body(x)
        return self.head(x.float().tanh())


def _plain_float_head() -> nn.Module:
    return Net(
        lambda net, x: net.head(net.body(x).tanh()),
        body=nn.Linear(8, 8),
        head=nn.Linear(8, CLASSES),
    )


PRECISION: Mapping[str, Case] = {
    "bf16 weights": Case(lambda: cnn().bfloat16(), vision),
    "fp16 weights": Case(lambda: cnn().half(), vision),
    "bf16 weights and bf16 images": Case(
        lambda: cnn().bfloat16(), lambda: labelled(images().bfloat16())
    ),
    "bf16 body and fp32 head": Case(
        lambda: MixedPrecision(True), flat, plain=lambda: MixedPrecision(False).float()
    ),
    "an fp32 norm in a bf16 network": Case(
        lambda: _norms_float(cnn().bfloat16()), vision, plain=cnn
    ),
    "a .float() head in float64": Case(
        FloatHead, flat, options={"dtype": torch.float64}, plain=_plain_float_head, tolerance=1e-5
    ),
    "autocast in forward": Case(Autocast, vision, plain=lambda: Autocast(False)),
    "autocast in forward, theta_g alone": Case(
        Autocast,
        vision,
        options={"columns": ["theta_g", "theta_hg"]},
        plain=lambda: Autocast(False),
    ),
    "float64 weights and float32 images": Case(lambda: cnn().double(), vision, tolerance=1e-8),
}


def _norms_float(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.float()
    return model


# Answers that change from call to call


class Noisy(nn.Module):
    """Draws in every forward pass, whatever the mode, in the way `draw` says."""

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.draw(self.one(x).tanh())).tanh())


class Spiking(nn.Module):
    """Keeps its membrane potential between calls, as spiking networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.membrane: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.membrane = 0.5 * self.membrane + self.one(x)
        return self.head(self.two(self.membrane.tanh()).tanh())


def _numpy_noise(x: Tensor) -> Tensor:
    return x * float(np.random.rand())  # noqa: NPY002


def _gumbel(x: Tensor) -> Tensor:
    return F.gumbel_softmax(x, dim=1)


CHANGES = "dropout|random|twice|differ"
UNREPEATABLE: Mapping[str, Case] = {
    "functional dropout": Case(lambda: Noisy(lambda x: F.dropout(x, 0.5)), flat, refused="dropout"),
    "functional alpha dropout": Case(
        lambda: Noisy(lambda x: F.alpha_dropout(x, 0.3, training=True)), flat, refused="dropout"
    ),
    "Gaussian noise": Case(lambda: Noisy(lambda x: x + torch.randn_like(x)), flat, refused=CHANGES),
    "Bernoulli noise": Case(
        lambda: Noisy(lambda x: x * torch.bernoulli(torch.full_like(x, 0.5))), flat, refused=CHANGES
    ),
    "noise from NumPy": Case(lambda: Noisy(_numpy_noise), flat, refused=CHANGES),
    "Gumbel softmax": Case(lambda: Noisy(_gumbel), flat, refused=CHANGES),
    "a membrane that starts empty": Case(Spiking, flat, plain=lambda: Noisy(lambda x: x)),
    "batch mean": Case(lambda: Noisy(lambda x: x - x.mean(0)), flat, options={"chunk": 2}),
    "batch softmax": Case(lambda: Noisy(lambda x: x.softmax(0)), flat),
    "batch norm without statistics, functional": Case(
        lambda: Noisy(lambda x: F.batch_norm(x, None, None, training=True)),
        flat,
        options={"chunk": 3},
    ),
    "attention over the batch": Case(
        lambda: Noisy(lambda x: (x @ x.T).softmax(1) @ x), flat, options={"chunk": 2}
    ),
}

# Caches of tensors that are derived from parameters


class Cached(nn.Module):
    """Keeps a scaled weight in evaluation mode, in the kind of place that `where` names."""

    def __init__(self, where: str, filled: bool) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.scale, self.where = nn.Parameter(torch.linspace(0.5, 1.5, 8)), where
        self.clear()
        if filled:
            with torch.no_grad():
                self.eval()(torch.zeros(1, 8))
            self.train()
            if where == "stale":  # the weight has been trained since
                self.one.weight.data.add_(0.3)

    def clear(self) -> None:
        self.store: Any = {"dict": {}, "list": []}.get(self.where)
        self.version = -1

    def train(self, mode: bool = True) -> Cached:
        if mode and self.where not in ("stale", "always"):
            self.clear()
        return super().train(mode)

    def fused(self) -> Tensor:
        return self.one.weight * self.scale[:, None]

    def cached(self) -> Tensor:
        if self.training or self.where == "none":
            return self.fused()
        if self.where == "dict":
            return self.store.setdefault("w", self.fused())
        if self.where == "list":
            self.store = self.store or [self.fused()]
            return self.store[0]
        if self.where == "version" and self.one.weight._version != self.version:
            self.store, self.version = self.fused(), self.one.weight._version
        if self.store is None:
            self.store = self.fused().detach() if self.where == "detached" else self.fused()
        return self.store

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(x, self.cached(), self.one.bias).tanh())


def _cached(where: str, filled: bool = False) -> Case:
    return Case(
        lambda: Cached(where, filled),
        flat,
        plain=lambda: Cached("none", False),
    )


CACHES: Mapping[str, Case] = {
    "attribute": _cached("attribute"),
    "dict": _cached("dict"),
    "list": _cached("list"),
    "by version": _cached("version"),
    "detached": _cached("detached"),
    "filled before": _cached("always", True),
    "filled before, since trained": _cached("stale", True),
}


def verdict(case: Case) -> str:
    """What is wrong with measuring a case; empty if it is right, or refused as it must be."""
    torch.manual_seed(0)
    model = case.build()
    inputs, target = case.sample()
    options = dict(case.options) if case.default_loss else {"loss": case.loss, **case.options}
    try:
        table = pv.measure(model, (inputs, target), temperatures=1.0, classifier=True, **options)
    except PrunevizError as error:
        allowed = case.refused and re.search(case.refused, str(error))
        return "" if allowed else f"refused: {type(error).__name__}: {error}"
    except Exception as error:
        return f"bare {type(error).__name__}: {error}"
    if case.refused:
        return "measured, not refused"
    honest = _honest(case, model)
    truth = products(honest, inputs, target, case.loss)
    wrong = []
    for column in ("theta_g", "theta_hg"):
        error = worst_error(honest, table, truth[column], column)
        if not error <= case.tolerance:
            wrong.append(f"{column} is {error:.2g} off")
    return ", ".join(wrong)


def _honest(case: Case, model: nn.Module) -> nn.Module:
    if case.plain is None:
        return model
    plain = case.plain()
    plain.load_state_dict(getattr(model, "_orig_mod", model).state_dict())
    return plain
