"""Optimisers that move pruned weights, and networks that a removed filter would change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import pruneviz as pv
from tests.support.cases import Net
from tests.support.hostile_models import CLASSES, images, vision

Step = Callable[[nn.Module, Tensor, Tensor], None]
Maker = Callable[[nn.Module], Step]  # a training step with an optimiser made now


def network() -> nn.Module:
    """Convolutions with norms and biases; every filter but the classifier's can be removed."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, CLASSES),
    )


def _backward(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    model.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss


def ordinary(kind: Callable[..., torch.optim.Optimizer], **options: Any) -> Maker:
    """A plain step of an optimiser over all parameters."""

    def make(model: nn.Module) -> Step:
        optimizer = kind(model.parameters(), **options)

        def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
            _backward(model, x, y)
            optimizer.step()

        return step

    return make


def with_closure(kind: Callable[..., torch.optim.Optimizer], **options: Any) -> Maker:
    def make(model: nn.Module) -> Step:
        optimizer = kind(model.parameters(), **options)
        return lambda model, x, y: optimizer.step(lambda: _backward(model, x, y))

    return make


def two_groups(model: nn.Module) -> Step:
    """Weight decay on weights alone, and momentum that differs."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": others, "momentum": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)

    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        _backward(model, x, y)
        optimizer.step()

    return step


def two_optimizers(model: nn.Module) -> Step:
    half = list(model.parameters())
    first = torch.optim.Adam(half[:3], lr=0.05)
    second = torch.optim.SGD(half[3:], lr=0.1, momentum=0.9)

    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        _backward(model, x, y)
        first.step()
        second.step()

    return step


class Lion(torch.optim.Optimizer):
    """An optimiser of a third party: the sign of an average, never zero by a zero gradient."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                p.add_((0.9 * average + 0.1 * p.grad).sign(), alpha=-group["lr"])
                average.mul_(0.99).add_(p.grad, alpha=0.01)


class Flattened(torch.optim.Optimizer):
    """Holds one flat copy of all parameters and writes it back, as fused trainers do."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})
        own = self.param_groups[0]["params"]
        self.flat = torch.cat([p.detach().flatten() for p in own])
        self.momentum = torch.zeros_like(self.flat)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        own = self.param_groups[0]["params"]
        self.momentum.mul_(0.9).add_(torch.cat([p.grad.flatten() for p in own]))
        self.flat.sub_(self.momentum, alpha=self.param_groups[0]["lr"])
        for p, part in zip(own, self.flat.split([p.numel() for p in own]), strict=True):
            p.copy_(part.view_as(p))


def sharpness_aware(model: nn.Module) -> Step:
    """SAM: two passes, the weights perturbed between them."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        _backward(model, x, y)
        moves = [0.05 * p.grad.sign() for p in model.parameters()]
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves, strict=True):
                p.add_(move)
        _backward(model, x, y)
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves, strict=True):
                p.sub_(move)
        optimizer.step()

    return step


def resumed(model: nn.Module) -> Step:
    """An optimiser whose state is loaded from a copy before every step, as a resumed one's is."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)

    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        _backward(model, x, y)
        optimizer.step()

    return step


def noisy_gradients(model: nn.Module) -> Step:
    """Adds noise to gradients after the backward pass, as private training does."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        _backward(model, x, y)
        for p in model.parameters():
            p.grad.add_(0.1 * torch.randn_like(p.grad))
        optimizer.step()

    return step


def scaled(model: nn.Module) -> Step:
    """A gradient scaler around the optimiser."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")

    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


_OPTIM = torch.optim
OPTIMISERS: Mapping[str, Maker] = {
    "SGD": ordinary(_OPTIM.SGD, lr=0.1),
    "SGD with weight decay": ordinary(_OPTIM.SGD, lr=0.1, weight_decay=0.1),
    "SGD with momentum": ordinary(_OPTIM.SGD, lr=0.1, momentum=0.9),
    "SGD with Nesterov momentum": ordinary(_OPTIM.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "SGD, maximize": ordinary(_OPTIM.SGD, lr=0.001, momentum=0.9, maximize=True),
    "SGD, foreach": ordinary(_OPTIM.SGD, lr=0.1, momentum=0.9, foreach=True),
    "SGD, fused": ordinary(_OPTIM.SGD, lr=0.1, momentum=0.9, fused=True),
    "Adam": ordinary(_OPTIM.Adam, lr=0.05),
    "Adam, amsgrad": ordinary(_OPTIM.Adam, lr=0.05, amsgrad=True),
    "Adam, foreach": ordinary(_OPTIM.Adam, lr=0.05, foreach=True),
    "Adam, fused": ordinary(_OPTIM.Adam, lr=0.05, fused=True),
    "Adam, no foreach": ordinary(_OPTIM.Adam, lr=0.05, foreach=False),
    "AdamW": ordinary(_OPTIM.AdamW, lr=0.05, weight_decay=0.1),
    "AdamW, fused": ordinary(_OPTIM.AdamW, lr=0.05, fused=True),
    "Adamax": ordinary(_OPTIM.Adamax, lr=0.05),
    "NAdam": ordinary(_OPTIM.NAdam, lr=0.05),
    "RAdam": ordinary(_OPTIM.RAdam, lr=0.05),
    "RMSprop with momentum": ordinary(_OPTIM.RMSprop, lr=0.05, momentum=0.9),
    "RMSprop, centered": ordinary(_OPTIM.RMSprop, lr=0.05, centered=True, foreach=True),
    "Adagrad": ordinary(_OPTIM.Adagrad, lr=0.05),
    "Adadelta": ordinary(_OPTIM.Adadelta, lr=1.0),
    "ASGD": ordinary(_OPTIM.ASGD, lr=0.05),
    "Rprop": ordinary(_OPTIM.Rprop, lr=0.05),
    "Adafactor": ordinary(_OPTIM.Adafactor, lr=0.05),
    "L-BFGS": with_closure(_OPTIM.LBFGS, lr=0.1, max_iter=3),
    "Adam with a closure": with_closure(_OPTIM.Adam, lr=0.05),
    "two parameter groups": two_groups,
    "two optimisers": two_optimizers,
    "Lion": ordinary(Lion),
    "one flat copy": ordinary(Flattened),
    "sharpness-aware": sharpness_aware,
    "resumed": resumed,
    "noisy gradients": noisy_gradients,
    "gradient scaler": scaled,
}


def pruned(model: nn.Module, example: Tensor, share: float = 0.4) -> pv.Pruner:
    """Prune a share of the groups by weight norm, and give the pruner."""
    pruner = pv.Pruner(model, example)
    table = pv.measure(model, (example, vision()[1]), columns=["theta_l1"])
    pruner.prune(table, "l1_norm", int(share * pruner.groups))
    return pruner


def revived(make: Maker, late: bool = False) -> str:
    """What moved after pruning; empty if pruned entries stay zero and everybody agrees.

    Args:
        make: The training step.
        late: Whether the optimiser is made after the pruning instead of three steps before.
    """
    torch.manual_seed(0)
    model, (x, y) = network(), vision()
    step = make(model)
    for _ in range(3):
        step(model, x, y)
    pruner = pruned(model, x)
    zero = {name: (p == 0).clone() for name, p in model.named_parameters()}
    step = make(model) if late else step
    for _ in range(3):
        step(model, x, y)
        for name, p in model.named_parameters():
            if (p[zero[name]] != 0).any():
                return f"{name} moved by {float(p.detach()[zero[name]].abs().max()):.2g}"
    return _disagreement(model, pruner, x, y)


def _disagreement(model: nn.Module, pruner: pv.Pruner, x: Tensor, y: Tensor) -> str:
    table = pv.measure(model, (x, y), columns=["theta_norm2"])
    gone = int((~table["kept"]).sum())
    if gone != pruner.gone:
        return f"measure() says {gone} pruned, the pruner {pruner.gone}"
    removed = pv.remove(model, x)
    with torch.no_grad():
        difference = float((removed.network.eval()(x) - model.eval()(x)).abs().max())
    if difference > 1e-5:
        return f"outputs after removal differ by {difference:.2g}"
    return "" if removed.removed == gone else f"{removed.removed} of {gone} removed"


def averaged(how: str) -> str:
    """What is wrong with an average of a network that is pruned in between; empty if nothing."""
    torch.manual_seed(0)
    model, (x, y) = network(), vision()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if how == "made after":
        pruned(model, x)
    options: dict[str, Any] = {"use_buffers": True}
    if how == "foreach":
        options["multi_avg_fn"] = get_ema_multi_avg_fn(0.5)
    average = AveragedModel(model, **options)
    for step in range(5):
        if step == 2 and how != "made after":
            pruned(model, x)
            if how == "remade":
                average = AveragedModel(model, **options)
            else:  # a copy from before has pruned weights of its own
                pv.prune_like(average.module, model)
        _backward(model, x, y)
        optimizer.step()
        average.update_parameters(model)
    zero = {name: p == 0 for name, p in model.named_parameters()}
    alive = [n for n, p in average.module.named_parameters() if (p[zero[n]] != 0).any()]
    return f"alive in the average: {', '.join(alive)}" if alive else ""


# Removal: a pruned filter leaves something that its removal would take away


def around(
    between: Callable[[Net, Tensor], Tensor], second: int = 6, **modules: nn.Module
) -> Callable[[], nn.Module]:
    """A convolution, `between` its output and the next convolution, and a classifier."""
    return lambda: Net(
        lambda net, x: net.head(net.two(between(net, net.one(x))).tanh().mean((2, 3))),
        one=nn.Conv2d(3, 6, 3, padding=1),
        two=nn.Conv2d(second, 5, 3, padding=1),
        head=nn.Linear(5, CLASSES),
        **modules,
    )


class GlobalResponseNorm(nn.Module):
    """ConvNeXt V2: every channel is divided by the mean over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(1, 6, 1, 1))
        self.beta = nn.Parameter(torch.randn(1, 6, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.norm(dim=(2, 3), keepdim=True)
        return self.gamma * (x * norm / (norm.mean(1, keepdim=True) + 1e-6)) + self.beta + x


def _gate() -> nn.Module:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 3, 1), nn.ReLU(), nn.Conv2d(3, 6, 1), nn.Sigmoid()
    )


REMOVED: Mapping[str, Callable[[], nn.Module]] = {
    "relu": around(lambda net, x: x.relu()),
    "sigmoid": around(lambda net, x: x.sigmoid()),
    "a gated sum": around(lambda net, x: x + net.other(x).sigmoid(), other=nn.Conv2d(6, 6, 1)),
    "softplus": around(lambda net, x: F.softplus(x)),
    "exp": around(lambda net, x: x.clamp(max=2).exp()),
    "cosine": around(lambda net, x: x.cos()),
    "hardsigmoid": around(lambda net, x: F.hardsigmoid(x)),
    "plus one": around(lambda net, x: x + 1),
    "one minus": around(lambda net, x: 1 - x.relu()),
    "equal to zero": around(lambda net, x: (x == 0).to(x) + x),
    "where": around(lambda net, x: torch.where(x > 0, x, torch.full_like(x, 0.3))),
    "reciprocal": around(lambda net, x: 1 / (1 + x.square())),
    "global response norm": around(lambda net, x: net.norm(x), norm=GlobalResponseNorm()),
    "layer norm": around(
        lambda net, x: net.norm(x.transpose(1, 3)).transpose(1, 3), norm=nn.LayerNorm(6)
    ),
    "group norm": around(lambda net, x: net.norm(x), norm=nn.GroupNorm(2, 6)),
    "instance norm": around(lambda net, x: net.norm(x), norm=nn.InstanceNorm2d(6, affine=True)),
    "batch norm": around(lambda net, x: net.norm(x).relu(), norm=nn.BatchNorm2d(6)),
    "batch norm after sigmoid": around(
        lambda net, x: net.norm(x.sigmoid()), norm=nn.BatchNorm2d(6)
    ),
    "softmax over channels": around(lambda net, x: x.softmax(1)),
    "maximum over channels": around(lambda net, x: x - x.amax(1, keepdim=True)),
    "mean over channels": around(lambda net, x: x - x.mean(1, keepdim=True)),
    "norm over channels": around(lambda net, x: F.normalize(x + 0.1, dim=1)),
    "sorted channels": around(lambda net, x: x.sort(1).values),
    "deviation over channels": around(lambda net, x: x / (x.std(1, keepdim=True) + 1)),
    "local response norm": around(lambda net, x: F.local_response_norm(x, 3)),
    "squeeze and excitation": around(lambda net, x: x * net.gate(x), gate=_gate()),
    "channel shuffle": around(lambda net, x: F.channel_shuffle(x, 2)),
    "rolled channels": around(lambda net, x: x.roll(1, 1) + x),
    "doubled channels": around(lambda net, x: torch.cat([x, x.relu()], 1), 12),
    "concatenated ReLU": around(lambda net, x: torch.cat([x.relu(), (-x).relu()], 1), 12),
    "split and multiplied": around(lambda net, x: x[:, :3] * x[:, 3:].sigmoid(), 3),
    "maxout": around(lambda net, x: torch.maximum(x[:, :3], x[:, 3:]), 3),
    "a scale of its own": around(
        lambda net, x: x * net.scale.weight.view(1, 6, 1, 1), scale=nn.Linear(6, 1, bias=False)
    ),
    "parametric ReLU": around(lambda net, x: net.act(x), act=nn.PReLU(6)),
    "pixel shuffle": around(lambda net, x: F.pixel_shuffle(x[:, :4], 2), 1),
    "every other channel": around(lambda net, x: x[:, ::2], 3),
    "a residual sum": around(lambda net, x: x + net.block(x).tanh(), block=nn.Conv2d(6, 6, 1)),
    "padding with ones": around(lambda net, x: F.pad(x.relu(), (1, 1, 1, 1), value=1.0)),
    "transposed convolution": around(
        lambda net, x: net.up(x.relu()).relu(), up=nn.ConvTranspose2d(6, 6, 2, stride=2)
    ),
    "grouped convolution": around(
        lambda net, x: net.group(x.relu()).relu(), group=nn.Conv2d(6, 6, 3, padding=1, groups=3)
    ),
    "depthwise with a sigmoid": around(
        lambda net, x: net.deep(x).sigmoid(), deep=nn.Conv2d(6, 6, 3, padding=1, groups=6)
    ),
}


# Functions that work on any number of channels, by which absence can be computed exactly.
CHANNELWISE = (
    *("relu", "sigmoid", "softplus", "exp", "cosine", "hardsigmoid", "plus one", "one minus"),
    *("equal to zero", "where", "reciprocal", "softmax over channels", "maximum over channels"),
    *("mean over channels", "norm over channels", "deviation over channels"),
    *("local response norm", "padding with ones"),
)


# Networks whose first convolution removal must shrink, ...
SHRUNK = frozenset(
    (
        *("relu", "sigmoid", "softplus", "exp", "cosine", "hardsigmoid", "plus one", "one minus"),
        *("equal to zero", "reciprocal", "instance norm", "batch norm", "batch norm after sigmoid"),
        *("squeeze and excitation", "channel shuffle", "doubled channels", "concatenated ReLU"),
        *("parametric ReLU", "padding with ones", "transposed convolution"),
        "depthwise with a sigmoid",
    )
)
# ... and those whose first convolution must at least be pruned.
PRUNED = SHRUNK | {
    *("a gated sum", "rolled channels", "split and multiplied", "a scale of its own"),
    *("pixel shuffle", "every other channel", "a residual sum", "grouped convolution"),
}


def absence(name: str) -> str:
    """Whether a pruned filter is as if it were not there: computed from the other filters alone."""
    torch.manual_seed(0)
    model, x = REMOVED[name]().double().eval(), images(4).double()
    pruner = pv.Pruner(model, x, keep_at_least=0)
    if "one" in pruner.coupling.left_out:
        return "its filters cannot be pruned" if name in PRUNED else ""
    kept = torch.tensor([0, 2, 3, 5])
    smaller = copy.deepcopy(model)
    for parameter, dim in (("one.weight", 0), ("one.bias", 0), ("two.weight", 1)):
        values = smaller.get_parameter(parameter)
        values.data = values.data.index_select(dim, kept)
    pruner.prune_filters({"one": [1, 4]})
    with torch.no_grad():
        difference = float((smaller(x) - model(x)).abs().max())
    return f"outputs differ by {difference:.2g}" if difference > 1e-9 else ""


def removal(name: str, training: bool = False) -> str:
    """What is wrong with removing pruned filters of one of `REMOVED`; empty if nothing.

    Right is: outputs equal to those of the masked network, and every pruned filter taken out, or
    left with a reason, or excluded from pruning with a reason; of `SHRUNK` and `PRUNED`, the first.
    """
    torch.manual_seed(0)
    model, x = REMOVED[name]().double().eval(), images(4).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            nn.init.uniform_(module.bias)
    pruner = pv.Pruner(model, x, keep_at_least=0)
    names = {layer for layer, _ in pruner.coupling.leads}
    if name in PRUNED and "one" not in names:
        return "its filters cannot be pruned"
    pruner.prune_filters({"one": [1, 4]} if "one" in names else {"two": [1]})
    masked = copy.deepcopy(model)
    removed = pv.remove(model, x)
    model.train(training)
    removed.network.train(training)
    with torch.no_grad():
        difference = float((removed.network(x) - masked.train(training)(x)).abs().max())
    if difference > 1e-9:
        return f"outputs differ by {difference:.2g}"
    if name in SHRUNK and "one" in removed.masked_layers:
        return f"not removed: {removed.reasons}"
    unexplained = removed.masked_layers.keys() - removed.reasons.keys()
    return f"no reason for {', '.join(unexplained)}" if unexplained else ""
