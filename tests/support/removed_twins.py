"""Small networks to prune, and the same networks written by hand without the pruned filters.

What is left of each layer is stated filter by filter and column by column, independent of how the
package finds it. All weights, scales and statistics are random, in float64, so that any remainder
of a pruned filter shows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.cases import CLASSES, Net, digit_batches, norm2d, randomise

Forward = Callable[[Net, Tensor], Tensor]
Indices = list[int]
IMAGES, LABELS = digit_batches((8,))[0]


@dataclass(frozen=True)
class Twin:
    """A network, and the same network without pruned filters.

    Attributes:
        name: Name of the pair, for test ids.
        modules: Function of `smaller` that builds the modules of either network.
        forward: Forward pass of the network.
        prune: {layer: filters} to prune.
        take: {module or parameter: (filters, columns) that are left}, None for all of them.
        smaller_forward: Forward pass of the smaller network, if it is another one.
        with_them: {layer: filters} that go with those pruned.
        hidden: Whether the smaller network has all filters and blanks the outputs of pruned ones.
    """

    name: str
    modules: Callable[[bool], Mapping[str, nn.Module]]
    forward: Forward
    prune: Mapping[str, Indices]
    take: Mapping[str, tuple[Indices | None, Indices | None]]
    smaller_forward: Forward | None = None
    with_them: Mapping[str, Indices] = field(default_factory=dict)
    hidden: bool = False

    def whole(self) -> nn.Module:
        """The network unpruned, in training mode."""
        return randomise(Net(self.forward, **self.modules(False))).double()

    def smaller(self) -> nn.Module:
        """The network made without the filters."""
        whole, smaller = (
            self.whole(),
            Net(self.smaller_forward or self.forward, **self.modules(True)).double(),
        )
        state = whole.state_dict()
        for name, value in smaller.state_dict().items():
            value.copy_(state[name] if self.hidden else self.left(name, state[name]))
        return smaller

    def left(self, name: str, value: Tensor) -> Tensor:
        """The part of an entry of the whole network's state that is left."""
        filters, columns = self.take.get(name, self.take.get(name.rpartition(".")[0], (None, None)))
        if filters is not None and value.ndim:
            value = value[filters]
        return value[:, columns] if columns is not None and value.ndim > 1 else value

    @property
    def gone(self) -> dict[str, set[int]]:
        """{layer: all filters that must be gone}."""
        return {
            name: {*self.prune.get(name, ()), *self.with_them.get(name, ())}
            for name in {**self.prune, **self.with_them}
        }


def conv(i: int, o: int, k: int = 1, bias: bool = False, **more: object) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, bias=bias, **more)  # type: ignore[arg-type]


def sequence(*names: str) -> Forward:
    """Forward pass that applies modules and functions of torch by name, in order."""

    def forward(net: Net, x: Tensor) -> Tensor:
        for name in names:
            x = getattr(net, name)(x) if hasattr(net, name) else FUNCTIONS[name](x)
        return x

    return forward


FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "mean": lambda x: x.mean((2, 3)),
    "flatten": lambda x: x.flatten(1),
    "pool": lambda x: F.max_pool2d(x, 2, 1),
    "squeeze": lambda x: x.squeeze(1),
    "tokens": lambda x: x.mean(1),
}


def chain(name: str, between: tuple[str, ...], bias: bool) -> Twin:
    """Two convolutions, each followed by the modules and functions `between`; bn is numbered."""

    def modules(s: bool) -> Mapping[str, nn.Module]:
        a, b = (2, 4) if s else (4, 5)
        convs = {"c1": conv(1, a, 3, bias, padding=1), "c2": conv(a, b, 2, bias)}
        norms = {"bn1": norm2d(a), "bn2": norm2d(b)} if "bn" in between else {}
        return {**convs, **norms, "fc": nn.Linear(b, CLASSES)}

    def steps(n: int) -> list[str]:
        return [f"c{n}", *(f"bn{n}" if step == "bn" else step for step in between)]

    left = [1, 2, 3, 4]
    take = {
        "c1": ([0, 2], None),
        "bn1": ([0, 2], None),
        "c2": (left, [0, 2]),
        "bn2": (left, None),
        "fc": (None, left),
    }
    if "bn" not in between:
        take = {key: value for key, value in take.items() if "bn" not in key}
    return Twin(name, modules, sequence(*steps(1), *steps(2), "mean", "fc"), PAIR, take)


PAIR = {"c1": [1, 3], "c2": [0]}


def depthwise(multiplier: int) -> Twin:
    def modules(s: bool) -> Mapping[str, nn.Module]:
        a = 3 if s else 4
        convs = {
            "c1": conv(1, a, 2),
            "dw": conv(a, a * multiplier, 2, True, groups=a),
            "pw": conv(a * multiplier, 3),
        }
        return {
            **convs,
            "bn1": norm2d(a),
            "bn2": norm2d(a * multiplier),
            "bn3": norm2d(3),
            "fc": nn.Linear(3, CLASSES),
        }

    left = [p for p in range(4 * multiplier) if p // multiplier != 2]
    take = {
        "c1": ([0, 1, 3], None),
        "bn1": ([0, 1, 3], None),
        "dw": (left, None),
        "bn2": (left, None),
        "pw": (None, left),
    }
    forward = sequence(
        "c1", "bn1", "relu", "dw", "bn2", "sigmoid", "pw", "bn3", "sigmoid", "mean", "fc"
    )
    others = {"dw": [p for p in range(4 * multiplier) if p // multiplier == 2]}
    return Twin(f"depthwise x{multiplier}", modules, forward, {"c1": [2]}, take, with_them=others)


def grouped() -> Twin:
    def modules(s: bool) -> Mapping[str, nn.Module]:
        convs = {
            "c1": conv(1, 2 if s else 4, 2),
            "group": conv(2, 3, 2, True) if s else conv(4, 6, 2, True, groups=2),
        }
        norms = {"bn1": norm2d(2 if s else 4), "bn2": norm2d(3 if s else 6)}
        return {**convs, **norms, "c3": conv(3 if s else 6, 3), "fc": nn.Linear(3, CLASSES)}

    take = {
        "c1": ([2, 3], None),
        "bn1": ([2, 3], None),
        "group": ([3, 4, 5], None),
        "bn2": ([3, 4, 5], None),
        "c3": (None, [3, 4, 5]),
    }
    forward = sequence(
        "c1", "bn1", "relu", "group", "bn2", "sigmoid", "c3", "sigmoid", "mean", "fc"
    )
    return Twin("grouped", modules, forward, {"c1": [0, 1]}, take, with_them={"group": [0, 1, 2]})


def flattened() -> Twin:
    def modules(s: bool) -> Mapping[str, nn.Module]:
        a, b = (2, 3) if s else (3, 5)
        return {
            "c1": conv(1, a, 2, True),
            "bn1": norm2d(a),
            "l1": nn.Linear(4 * a, b),
            "fc": nn.Linear(b, CLASSES),
        }

    take = {
        "c1": ([0, 2], None),
        "bn1": ([0, 2], None),
        "l1": ([1, 2, 3], [*range(4), *range(8, 12)]),
        "fc": (None, [1, 2, 3]),
    }
    forward = sequence("c1", "bn1", "sigmoid", "pool", "flatten", "l1", "sigmoid", "fc")
    return Twin("flattened", modules, forward, {"c1": [1], "l1": [0, 4]}, take)


def concatenated() -> Twin:
    def modules(s: bool) -> Mapping[str, nn.Module]:
        a, b = (1, 2) if s else (2, 3)
        convs = {"left": conv(1, a, 2), "right": conv(1, b, 2, True), "grow": conv(a + b, 3)}
        return {
            **convs,
            "bn1": norm2d(a + b),
            "bn2": norm2d(a + b + 3),
            "fc": nn.Linear(a + b + 3, CLASSES),
        }

    def forward(net: Net, x: Tensor) -> Tensor:
        both = torch.cat([net.left(x), net.right(x)], 1)
        dense = torch.cat([both, net.grow(torch.sigmoid(net.bn1(both)))], 1)
        return net.fc(torch.sigmoid(net.bn2(dense)).mean((2, 3)))

    left = [0, 3, 4]
    take = {"left": ([0], None), "right": ([1, 2], None), "grow": (None, left), "bn1": (left, None)}
    take |= {"bn2": ([*left, 5, 6, 7], None), "fc": (None, [*left, 5, 6, 7])}
    return Twin("concatenated", modules, forward, {"left": [1], "right": [0]}, take)


def block(net: Net, x: Tensor) -> Tensor:
    return net.bn2(net.c2(F.relu(net.bn1(net.c1(x)))))


def stem(net: Net, x: Tensor) -> Tensor:
    return F.relu(net.bn0(net.c0(x)))


def residual_modules(stream: int, inner: int, written: int) -> Mapping[str, nn.Module]:
    convs = {"c0": conv(1, stream, 2), "c1": conv(stream, inner), "c2": conv(inner, written)}
    return {
        **convs,
        "bn0": norm2d(stream),
        "bn1": norm2d(inner),
        "bn2": norm2d(written),
        "c3": conv(stream, 3),
        "fc": nn.Linear(3, CLASSES),
    }


def after_the_sum(net: Net, x: Tensor) -> Tensor:
    return net.fc(torch.sigmoid(net.c3(torch.sigmoid(x))).mean((2, 3)))


def residual() -> Twin:
    def without(net: Net, x: Tensor) -> Tensor:
        x = stem(net, x)
        return after_the_sum(net, x.index_add(1, torch.tensor([0, 2, 3]), block(net, x)))

    take = {
        "c1": ([1, 2], None),
        "bn1": ([1, 2], None),
        "c2": ([0, 2, 3], [1, 2]),
        "bn2": ([0, 2, 3], None),
    }
    widths = {False: (4, 3, 4), True: (4, 2, 3)}
    whole = {"c2": [1], "c1": [0]}
    return Twin(
        "residual", lambda s: residual_modules(*widths[s]), with_shortcut, whole, take, without
    )


def with_shortcut(net: Net, x: Tensor) -> Tensor:
    x = stem(net, x)
    return after_the_sum(net, x + block(net, x))


def block_pruned_whole() -> Twin:
    """A residual block without its first convolution adds nothing; `smaller` lacks the block."""

    def modules(s: bool) -> Mapping[str, nn.Module]:
        every = residual_modules(4, 3, 4)
        return {
            name: module
            for name, module in every.items()
            if not s or name in ("c0", "bn0", "c3", "fc")
        }

    every = {"c1": [0, 1, 2]}
    return Twin(
        "block pruned whole",
        modules,
        with_shortcut,
        every,
        {},
        lambda net, x: after_the_sum(net, stem(net, x)),
        {"c2": [0, 1, 2, 3]},
    )


def stream() -> Twin:
    """A channel of the stream with everything that is added into it."""
    left = [0, 1, 3]
    take = {
        "c0": (left, None),
        "bn0": (left, None),
        "c1": (None, left),
        "c2": (left, None),
        "bn2": (left, None),
        "c3": (None, left),
    }
    widths = {False: (4, 3, 4), True: (3, 3, 3)}
    return Twin(
        "stream",
        lambda s: residual_modules(*widths[s]),
        with_shortcut,
        {"c0": [2], "c2": [2]},
        take,
    )


def preactivation() -> Twin:
    """The stem's channel goes, but another layer still writes into the stream there."""

    def modules(s: bool) -> Mapping[str, nn.Module]:
        convs = {
            "c0": conv(1, 2 if s else 3, 2, True),
            "c1": conv(2 if s else 3, 4),
            "c2": conv(4, 3, 1, True),
        }
        return {
            **convs,
            "bn1": norm2d(2 if s else 3),
            "bn2": norm2d(4),
            "bn3": norm2d(3),
            "fc": nn.Linear(3, CLASSES),
        }

    def tail(net: Net, inner: Tensor, x: Tensor) -> Tensor:
        return net.fc(
            torch.sigmoid(net.bn3(x + net.c2(torch.sigmoid(net.bn2(inner))))).mean((2, 3))
        )

    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.c0(x)
        return tail(net, net.c1(torch.sigmoid(net.bn1(x))), x)

    def without(net: Net, x: Tensor) -> Tensor:
        x = net.c0(x)
        return tail(net, net.c1(torch.sigmoid(net.bn1(x))), F.pad(x, (0, 0, 0, 0, 1, 0)))

    take = {"c0": ([1, 2], None), "bn1": ([1, 2], None), "c1": (None, [1, 2])}
    return Twin("preactivation", modules, forward, {"c0": [0]}, take, without)


def gate() -> Twin:
    """A channel goes with the filter of its gate, which is multiplied with nothing else."""

    def modules(s: bool) -> Mapping[str, nn.Module]:
        a, b = (3, 2) if s else (4, 3)
        convs = {
            "c0": conv(1, a, 2),
            "f1": conv(a, b, 1, True),
            "f2": conv(b, a, 1, True),
            "c3": conv(a, 3),
        }
        return {**convs, "bn0": norm2d(a), "fc": nn.Linear(3, CLASSES)}

    def forward(net: Net, x: Tensor) -> Tensor:
        x = F.silu(net.bn0(net.c0(x)))
        scale = torch.sigmoid(net.f2(torch.sigmoid(net.f1(x.mean((2, 3), keepdim=True)))))
        return net.fc(torch.sigmoid(net.c3(torch.sigmoid(scale * x))).mean((2, 3)))

    left = [0, 2, 3]
    take = {
        "c0": (left, None),
        "bn0": (left, None),
        "f1": ([1, 2], left),
        "f2": (left, [1, 2]),
        "c3": (None, left),
    }
    return Twin("gate", modules, forward, {"c0": [1], "f1": [0]}, take, with_them={"f2": [1]})


def read_twice() -> Twin:
    def modules(s: bool) -> Mapping[str, nn.Module]:
        a = 2 if s else 4
        return {
            "c1": conv(1, a, 2, True),
            "c2": conv(a, 3, 2),
            "l": nn.Linear(a, 3),
            "fc": nn.Linear(3, CLASSES),
        }

    def forward(net: Net, x: Tensor) -> Tensor:
        x = torch.sigmoid(net.c1(x))
        return net.fc(torch.sigmoid(net.c2(x).mean((2, 3))) * torch.sigmoid(net.l(x.mean((2, 3)))))

    left = [1, 2]
    return Twin(
        "read twice",
        modules,
        forward,
        {"c1": [0, 3]},
        {"c1": (left, None), "c2": (None, left), "l": (None, left)},
    )


def applied_twice(tied: bool) -> Twin:
    """Filters used at two places, as one module or two that share a weight: they go at both."""

    def modules(s: bool) -> Mapping[str, nn.Module]:
        first, second = conv(3, 3, 1, True), conv(3, 3, 1, True)
        second.weight = first.weight
        return {
            "c0": conv(1, 3, 2, True),
            "c1": first,
            **({"c2": second} if tied else {}),
            "fc": nn.Linear(3, CLASSES),
        }

    def forward(net: Net, x: Tensor, left: Tensor | float = 1.0) -> Tensor:
        x = F.relu(net.c1(F.relu(net.c0(x)))) * left
        return net.fc(F.relu((net.c2 if tied else net.c1)(x)).mul(left).mean((2, 3)))

    there = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64).view(3, 1, 1)
    name, take = (
        "tied weights" if tied else "applied twice",
        {"c1": ([0, 2], None), "c2": ([0, 2], None), "fc": (None, [0, 2])},
    )
    return Twin(
        name,
        modules,
        forward,
        {"c1": [1]},
        take,
        lambda net, x: forward(net, x, there),
        hidden=True,
    )


def norm_without_scale(norm: Callable[[int], nn.Module], name: str) -> Twin:
    """The outdated mean that the norm would add to the stream is gone with the filter."""

    def modules(s: bool) -> Mapping[str, nn.Module]:
        return {
            "c0": conv(1, 3, 2),
            "c1": conv(3, 2 if s else 3, 1, True),
            "n": norm(2 if s else 3),
            "fc": nn.Linear(3, CLASSES),
        }

    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.c0(x)
        return net.fc(torch.sigmoid(x + net.n(net.c1(x))).mean((2, 3)))

    def without(net: Net, x: Tensor) -> Tensor:
        x = net.c0(x)
        return net.fc(
            torch.sigmoid(x.index_add(1, torch.tensor([0, 2]), net.n(net.c1(x)))).mean((2, 3))
        )

    return Twin(
        name, modules, forward, {"c1": [1]}, {"c1": ([0, 2], None), "n": ([0, 2], None)}, without
    )


def tokens() -> Twin:
    """Linear layers on [examples, tokens, channels], like the MLP of a transformer."""

    def modules(s: bool) -> Mapping[str, nn.Module]:
        return {
            "embed": nn.Linear(4, 3),
            "up": nn.Linear(3, 2 if s else 5),
            "down": nn.Linear(2 if s else 5, 3),
            "fc": nn.Linear(3, CLASSES),
        }

    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.embed(x.squeeze(1))
        return net.fc((x + net.down(torch.sigmoid(net.up(x)))).mean(1))

    return Twin(
        "tokens",
        modules,
        forward,
        {"up": [0, 1, 4]},
        {"up": ([2, 3], None), "down": (None, [2, 3])},
    )


def transposed() -> Twin:
    """A transposed convolution has no filters to prune, but reads those that are."""

    def modules(s: bool) -> Mapping[str, nn.Module]:
        a = 2 if s else 4
        return {
            "c1": conv(1, a, 2, True),
            "bn1": norm2d(a),
            "up": nn.ConvTranspose2d(a, 4, 2, groups=2),
            "bn2": norm2d(4),
            "fc": nn.Linear(4, CLASSES),
        }

    left = [1, 2]
    take = {"c1": (left, None), "bn1": (left, None), "up.weight": (left, None)}
    return Twin(
        "transposed",
        modules,
        sequence("c1", "bn1", "sigmoid", "up", "bn2", "sigmoid", "mean", "fc"),
        {"c1": [0, 3]},
        take,
    )


TWINS: tuple[Twin, ...] = (
    chain("conv relu bn", ("relu", "bn"), True),
    chain("conv bn relu", ("bn", "relu"), False),
    chain("conv bn sigmoid", ("bn", "sigmoid"), True),
    chain("conv sigmoid", ("sigmoid",), True),
    depthwise(1),
    depthwise(2),
    grouped(),
    flattened(),
    concatenated(),
    residual(),
    block_pruned_whole(),
    stream(),
    preactivation(),
    gate(),
    read_twice(),
    applied_twice(False),
    applied_twice(True),
    norm_without_scale(
        functools.partial(nn.BatchNorm2d, eps=0.1, affine=False), "batch norm without scale"
    ),
    norm_without_scale(functools.partial(nn.InstanceNorm2d, eps=0.1), "instance norm"),
    norm_without_scale(
        functools.partial(nn.InstanceNorm2d, eps=0.1, affine=True), "instance norm with scale"
    ),
    norm_without_scale(
        functools.partial(nn.InstanceNorm2d, eps=0.1, track_running_stats=True),
        "instance norm that keeps statistics",
    ),
    tokens(),
    transposed(),
)
