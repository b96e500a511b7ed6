"""Small networks whose training a careless measurement moves.

Each is trained twice, with and without measuring between the steps; weights, buffers, attributes
and the calls of its hooks must be the same in both, bit for bit.
"""

from __future__ import annotations

import copy
import random
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from tests.support.cases import Net
from tests.support.hostile_models import CLASSES, cnn, labelled, mlp, vectors, vision

Sample = tuple[Any, Tensor]


class Own(nn.Module):
    """A linear network whose forward pass does something beside computing, named by `act`."""

    def __init__(self, act: Callable[[Own, Tensor], Tensor], **attributes: Any) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.act = act
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.act(self, self.one(x).tanh())).tanh())


def counting(net: Own, x: Tensor) -> Tensor:
    """Anneals by the number of calls, an int."""
    net.calls += 1
    return x / (1 + 0.1 * net.calls)


def counting_in_a_tensor(net: Own, x: Tensor) -> Tensor:
    """Anneals by the number of calls, a tensor that is no buffer."""
    net.calls += 1
    return x / (1 + 0.1 * net.calls)


def remembering(net: Own, x: Tensor) -> Tensor:
    """Adds the mean of all earlier calls."""
    net.seen.append(x.detach().mean(0))
    return x + 0.1 * torch.stack(list(net.seen)).mean(0)


def remembering_deep(net: Own, x: Tensor) -> Tensor:
    """The same, in a container within containers."""
    seen = net.store["all"][0]
    seen.append(x.detach().mean(0))
    return x + 0.1 * torch.stack(seen).mean(0)


def smoothing(net: Own, x: Tensor) -> Tensor:
    """Adds a running mean that is updated in evaluation mode too."""
    net.running.mul_(0.9).add_(0.1 * x.detach().mean(0))
    return x + net.running


def replacing(net: Own, x: Tensor) -> Tensor:
    """Adds a running mean, a new tensor in every call."""
    net.running = 0.9 * net.running + 0.1 * x.detach().mean(0)
    return x + net.running


def clamping(net: Own, x: Tensor) -> Tensor:
    """Clips its weights in place, as Wasserstein critics do."""
    with torch.no_grad():
        net.two.weight.clamp_(-0.2, 0.2)
    return x


def renorming(net: Own, x: Tensor) -> Tensor:
    """Bounds the norm of its weight by `.data`, which no version counter sees."""
    net.two.weight.data = net.two.weight.data.renorm(2, 0, 0.4)
    return x


def scaling(net: Own, x: Tensor) -> Tensor:
    """Shrinks its weight a little in every call."""
    with torch.no_grad():
        net.two.weight.mul_(0.99)
    return x


def drawing_of_its_own(net: Own, x: Tensor) -> Tensor:
    """Draws its dropout from a generator of its own in training."""
    if not net.training:
        return x
    return x * (torch.rand(x.shape, generator=net.generator) > 0.3)


def shuffling(net: Own, x: Tensor) -> Tensor:
    """Moves generators of Python and NumPy that it holds."""
    net.python.random()
    net.numpy.random()
    return x * (1 + 0.01 * (net.python.random() + net.numpy.random()) if net.training else 1)


def buffering(net: Own, x: Tensor) -> Tensor:
    """Registers a buffer in its first call."""
    if "shift" not in net._buffers:
        net.register_buffer("shift", x.detach().mean(0), persistent=False)
    return x + net.shift


def switching(net: Own, x: Tensor) -> Tensor:
    """Freezes a layer after its third call."""
    net.calls += 1
    net.two.weight.requires_grad_(net.calls < 3)
    return x


def waking(net: Own, x: Tensor) -> Tensor:
    """Warms up by its calls in evaluation mode."""
    net.calls += 0 if net.training else 1
    return x * (1 + net.calls)


def quantising(net: Own, x: Tensor) -> Tensor:
    """Widens its observed range, as quantisation observers do."""
    net.low = min(net.low, float(x.detach().min()))
    net.high = max(net.high, float(x.detach().max()))
    return (x - net.low) / (net.high - net.low + 1e-3)


def with_pre_hook_statistics() -> nn.Module:
    """K-FAC-like: a forward pre-hook accumulates second moments that scale the input."""
    model = mlp()
    model[2].register_buffer("moment", torch.eye(8))

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0]
        module.moment.mul_(0.9).add_(0.1 * x.detach().T @ x.detach())
        return (x @ module.moment,)

    model[2].register_forward_pre_hook(hook)
    return model


def with_backward_statistics() -> nn.Module:
    """A full backward hook accumulates a norm, by which a forward hook scales."""
    model = mlp()
    model[2].register_buffer("seen", torch.zeros(()))

    def count(module: nn.Module, inputs: object, outputs: tuple[Tensor, ...]) -> None:
        module.seen.add_(outputs[0].square().sum())

    model[2].register_full_backward_hook(count)
    model[2].register_forward_hook(lambda m, i, o: o / (1 + m.seen))
    return model


def with_history_in_a_closure() -> nn.Module:
    """A forward hook keeps its state outside of the network."""
    model, history = mlp(), []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        history.append(float(output.detach().mean()))
        return output + 0.1 * sum(history)

    model[2].register_forward_hook(hook)
    return model


def with_gradient_hooks() -> nn.Module:
    """Hooks of parameters count their calls and scale the gradient by them."""
    model, calls = mlp(), []

    def hook(gradient: Tensor) -> Tensor:
        calls.append(1)
        return gradient / len(calls)

    model[2].weight.register_hook(hook)
    return model


def with_hooks_of_outputs() -> nn.Module:
    """A forward hook registers a hook on its output, as Grad-CAM does."""
    model = mlp()
    model[2].register_buffer("calls", torch.zeros(()))

    def count(gradient: Tensor) -> None:
        model[2].calls.add_(1)

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = output / (1 + 0.1 * module.calls)
        if output.requires_grad:
            output.register_hook(count)
        return output

    model[2].register_forward_hook(hook)
    return model


def bounded_embedding() -> nn.Module:
    """`max_norm` renormalises the weight in place in every forward pass."""
    return Net(
        lambda net, x: net.head(net.one(net.embed(x).flatten(1)).tanh()),
        embed=nn.Embedding(11, 4, max_norm=0.5),
        one=nn.Linear(28, 8),
        head=nn.Linear(8, CLASSES),
    )


def some_tokens() -> Sample:
    return labelled(torch.randint(0, 11, (6, 7), generator=torch.Generator().manual_seed(1)))


def spectral() -> nn.Module:
    """New-style spectral norm: `_u` and `_v` move in every forward pass in training mode."""
    model = mlp()
    parametrizations.spectral_norm(model[2])
    return model


def old_spectral() -> nn.Module:
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.spectral_norm(model[2])
    return model


def weight_normed() -> nn.Module:
    model = mlp()
    parametrizations.weight_norm(model[2])
    return model


def orthogonal() -> nn.Module:
    model = mlp()
    parametrizations.orthogonal(model[2])
    return model


def masked_by_torch() -> nn.Module:
    model = mlp()
    prune.random_unstructured(model[2], "weight", amount=0.3)
    return model


def with_a_teacher() -> nn.Module:
    """Holds a moving average of itself, moved in every forward pass in training mode."""

    def act(net: Own, x: Tensor) -> Tensor:
        with torch.no_grad():
            net.teacher.weight.lerp_(net.two.weight, 0.1)
        return x + 0.1 * net.teacher(x)

    return Own(act, teacher=nn.Linear(8, 8).requires_grad_(False))


def quantised_aware() -> nn.Module:
    """Fake quantisation with observers that move in evaluation mode."""
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        observer = torch.ao.quantization.MovingAverageMinMaxObserver()
    return nn.Sequential(model[0], observer, *model[1:])


def registered_twice() -> nn.Module:
    """A layer under two names, the second in a container."""
    layer = nn.Linear(8, 8)
    body = nn.Sequential(layer, nn.Tanh(), nn.BatchNorm1d(8))
    return Net(
        lambda net, x: net.head(net.body(x)), one=layer, body=body, head=nn.Linear(8, CLASSES)
    )


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


TRAINED: Mapping[str, tuple[Callable[[], nn.Module], Callable[[], Sample]]] = {
    "an embedding with max_norm": (bounded_embedding, some_tokens),
    "a forward pre-hook with statistics": (with_pre_hook_statistics, lambda: labelled(vectors())),
    "a full backward hook with statistics": (
        with_backward_statistics,
        lambda: labelled(vectors()),
    ),
    "a hook with its state in a closure": (
        with_history_in_a_closure,
        lambda: labelled(vectors()),
    ),
    "hooks of parameters": (with_gradient_hooks, lambda: labelled(vectors())),
    "hooks of outputs": (with_hooks_of_outputs, lambda: labelled(vectors())),
    "new spectral norm": (spectral, lambda: labelled(vectors())),
    "old spectral norm": (old_spectral, lambda: labelled(vectors())),
    "weight norm": (weight_normed, lambda: labelled(vectors())),
    "orthogonal weights": (orthogonal, lambda: labelled(vectors())),
    "torch's own masks": (masked_by_torch, lambda: labelled(vectors())),
    "a teacher": (with_a_teacher, lambda: labelled(vectors())),
    "observers of quantisation": (quantised_aware, lambda: labelled(vectors())),
    "a layer registered twice": (registered_twice, lambda: labelled(vectors())),
    "a CNN": (cnn, vision),
    **{
        f"forward: {act.__name__}": (
            lambda act=act, attributes=attributes: Own(act, **attributes()),
            lambda: labelled(vectors()),
        )
        for act, attributes in {
            counting: lambda: {"calls": 0},
            counting_in_a_tensor: lambda: {"calls": torch.zeros(())},
            remembering: lambda: {"seen": deque(maxlen=5)},
            remembering_deep: lambda: {"store": {"all": ([],)}},
            smoothing: lambda: {"running": torch.zeros(8)},
            replacing: lambda: {"running": torch.zeros(8)},
            clamping: dict,
            renorming: dict,
            scaling: dict,
            drawing_of_its_own: lambda: {"generator": _generator()},
            shuffling: lambda: {"python": random.Random(3), "numpy": np.random.default_rng(3)},
            buffering: dict,
            switching: lambda: {"calls": 0},
            waking: lambda: {"calls": 0},
            quantising: lambda: {"low": 0.0, "high": 0.0},
        }.items()
    },
}


def train(
    build: Callable[[], nn.Module],
    sample: Callable[[], Sample],
    between: Callable[[nn.Module, Sample], object],
    steps: int = 3,
) -> dict[str, Any]:
    """Everything that training leaves, with `between` called before and after every step."""
    torch.manual_seed(0)
    model = build().train()
    inputs, target = sample()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    between(model, (inputs, target))
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), target).backward()
        optimizer.step()
        between(model, (inputs, target))
    return {
        "weights": {name: p.detach().clone() for name, p in model.named_parameters()},
        "buffers": {name: b.detach().clone() for name, b in model.named_buffers()},
        "attributes": {
            f"{name}.{key}": plain(value)
            for name, module in model.named_modules()
            for key, value in vars(module).items()
            if not key.startswith("_") and not callable(value)
        },
        "output": model(inputs).detach(),
        "generators": plain(torch.get_rng_state()),
    }


def plain(value: Any) -> Any:
    """A copy of an attribute that `==` can compare, generators by their state."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | deque):
        return [plain(part) for part in value]
    return copy.deepcopy(value)


def moved(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Names of what differs between two trainings; empty if nothing does."""
    found = []
    for kind, first in one.items():
        second = other[kind]
        if isinstance(first, Tensor):
            if not torch.equal(first, second):
                found.append(f"{kind} by {float((first - second).abs().max()):.2g}")
        elif isinstance(first, Mapping):
            for name in first.keys() | second.keys():
                if name not in first or name not in second:
                    found.append(f"{kind} {name} is new")
                elif not _equal(first[name], second[name]):
                    found.append(f"{kind} {name}")
        elif first != second:
            found.append(kind)
    return ", ".join(sorted(found))


def _equal(first: Any, second: Any) -> bool:
    return torch.equal(first, second) if isinstance(first, Tensor) else first == second
