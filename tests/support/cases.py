"""Small networks that tests of measuring share, each with its layers, norms and classifier.

All have at most 150 parameters, so that a dense Hessian is cheap. Their batch norms have random
statistics and scales of either sign, so that a wrong or forgotten norm shows. Images are
handwritten digits shrunk to 4x4.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

CLASSES = 3
BN_MODES = ("eval", "calibrated", "batch")
Batches = list[tuple[Tensor, Tensor]]


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.target).long()
    few = labels < CLASSES
    return F.avg_pool2d(images[few][:, None] / 8 - 1, 2), labels[few]


def digit_batches(sizes: Sequence[int] = (4, 4, 4), dtype: torch.dtype = torch.float64) -> Batches:
    """Batches of real digits: images [N, 1, 4, 4] in [-1, 1] and labels 0, 1, 2."""
    images, labels = _digits()
    stop, lengths = sum(sizes), list(sizes)
    parts = images[:stop].to(dtype).split(lengths), labels[:stop].split(lengths)
    return list(zip(*parts, strict=True))


def as_pair(batches: Batches) -> tuple[Tensor, Tensor]:
    """The batches as one pair of tensors."""
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


@dataclass(frozen=True)
class Case:
    """A network and the truth about it.

    `layers` maps a layer, in execution order, to the norm after it and its first channel there.
    """

    name: str
    build: Callable[[], nn.Module]
    layers: Mapping[str, tuple[str | None, int]]
    classifier: str = "fc"

    @property
    def modes(self) -> Sequence[str]:
        """Norm modes worth comparing; without a batch norm there is nothing to calibrate."""
        return BN_MODES if any(norm for norm, _ in self.layers.values()) else ("eval", "batch")

    def model(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The network with seeded random values that float32 holds exactly, in training mode."""
        return randomise(self.build(), seed).to(dtype)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all parameters and running statistics; scales of norms have either sign, none near 0."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, value in own:
            if value.is_floating_point():
                value.data.copy_(_draw(module, name, value.shape, generator))
    return model


def _draw(module: nn.Module, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    normal = torch.randn(shape, generator=generator)
    uniform = torch.rand(shape, generator=generator)
    if name == "running_var":
        return 0.3 + uniform
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and name == "weight":
        return normal.sign() * (0.4 + uniform)
    return normal * (0.3 if name in ("bias", "running_mean") else 0.6)


class Net(nn.Module):
    """Named modules and the function that applies them."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def head(channels: int) -> nn.Sequential:
    """Global average pooling and a linear layer named `1`."""
    return nn.Sequential(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(channels, CLASSES)
    )


def norm2d(channels: int) -> nn.BatchNorm2d:
    """A batch norm whose eps is large enough that forgetting it shows."""
    return nn.BatchNorm2d(channels, eps=0.1)


def norm1d(channels: int) -> nn.BatchNorm1d:
    """`norm2d` for linear layers."""
    return nn.BatchNorm1d(channels, eps=0.1)


def plain() -> nn.Module:
    conv1, conv2 = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 2)
    return nn.Sequential(conv1, nn.Tanh(), conv2, nn.Softplus(), *head(4))


def bias_free() -> nn.Module:
    conv1, conv2, conv3 = (
        nn.Conv2d(i, o, k, groups=g, bias=False)
        for i, o, k, g in ((1, 4, 2, 1), (4, 4, 2, 2), (4, 8, 2, 4))
    )
    return nn.Sequential(
        conv1,
        nn.ReLU(),
        conv2,
        nn.ReLU(),
        conv3,
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, CLASSES, bias=False),
    )


def conv_bn_relu() -> nn.Module:
    first = [nn.Conv2d(1, 3, 3, padding=1, bias=False), norm2d(3), nn.ReLU(), nn.Dropout(0.5)]
    second = [nn.Conv2d(3, 4, 2, bias=False), norm2d(4), nn.ReLU(), nn.Dropout2d(0.5)]
    return nn.Sequential(*first, *second, *head(4))


def conv_relu_bn() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.bn1(F.relu_(net.conv1(x)))
        return net.fc(net.bn2(F.max_pool2d(F.relu(net.conv2(x)), 2)).mean((2, 3)))

    conv1, conv2 = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 2, bias=False)
    backwards = {"bn2": norm2d(4), "bn1": norm2d(3), "conv2": conv2, "conv1": conv1}
    return Net(forward, fc=nn.Linear(4, CLASSES), **backwards)


def preactivation() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.stem(x)
        inner = net.conv1(F.relu(net.bn1(x)))
        x = x + net.conv2(F.relu(net.bn2(inner)))
        return net.fc(F.relu(net.bn3(x)).mean((2, 3)))

    convs = {
        "stem": nn.Conv2d(1, 3, 2),
        "conv1": nn.Conv2d(3, 4, 1, bias=False),
        "conv2": nn.Conv2d(4, 3, 1),
    }
    return Net(
        forward, bn1=norm2d(3), bn2=norm2d(4), bn3=norm2d(3), fc=nn.Linear(3, CLASSES), **convs
    )


def residual() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.act(net.bn1(net.conv1(x)))
        y = net.bn2(net.conv2(x))
        y += net.bn3(net.shortcut(x))
        x = net.act(y)
        return net.fc(net.bn4(x + net.conv3(x)).mean((2, 3)))

    convs = {
        "conv1": nn.Conv2d(1, 3, 2, bias=False),
        "conv2": nn.Conv2d(3, 3, 2, padding=1, stride=2, bias=False),
    }
    convs |= {"shortcut": nn.Conv2d(3, 3, 1, stride=2, bias=False), "conv3": nn.Conv2d(3, 3, 1)}
    return Net(
        forward,
        act=nn.SiLU(),
        fc=nn.Linear(3, CLASSES),
        **{f"bn{i}": norm2d(3) for i in (1, 2, 3, 4)},
        **convs,
    )


def grouped() -> nn.Module:
    stem, group = nn.Conv2d(1, 4, 2, bias=False), nn.Conv2d(4, 4, (1, 3), groups=2, padding="same")
    depthwise = nn.Conv2d(4, 8, 2, groups=4, bias=False)
    return nn.Sequential(
        stem,
        norm2d(4),
        nn.ReLU(),
        group,
        norm2d(4),
        nn.ReLU6(),
        depthwise,
        norm2d(8),
        nn.ReLU(),
        *head(8),
    )


def strided() -> nn.Module:
    circular = nn.Conv2d(
        1, 4, (2, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2), padding_mode="circular"
    )
    return nn.Sequential(
        circular,
        nn.GELU(),
        nn.Conv2d(4, 3, 2, padding_mode="reflect", padding=1),
        nn.Tanh(),
        *head(3),
    )


def mlp() -> nn.Module:
    first = [nn.Flatten(), nn.Linear(16, 4), norm1d(4), nn.Tanh()]
    return nn.Sequential(
        *first, nn.Linear(4, 4, bias=False), nn.ReLU(), norm1d(4), nn.Linear(4, CLASSES)
    )


def sequence() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        return net.fc(torch.tanh(net.mix(torch.tanh(net.embed(x.squeeze(1))))).mean(1))

    return Net(
        forward, embed=nn.Linear(4, 5), mix=nn.Linear(5, 4, bias=False), fc=nn.Linear(4, CLASSES)
    )


def shared_norm() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        x = F.relu(net.bn(net.conv1(x)))
        return net.fc(F.relu(net.bn(net.conv2(x))).mean((2, 3)))

    conv1, conv2 = nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.Conv2d(3, 3, 2, bias=False)
    return Net(forward, conv1=conv1, conv2=conv2, bn=norm2d(3), fc=nn.Linear(3, CLASSES))


def reused_conv() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        x = F.relu(net.bn0(net.stem(x)))
        x = F.relu(net.bn1(net.conv(x)))
        return net.fc(F.relu(net.bn2(net.conv(x))).mean((2, 3)))

    norms = {f"bn{i}": norm2d(3) for i in (0, 1, 2)}
    return Net(
        forward,
        stem=nn.Conv2d(1, 3, 2),
        conv=nn.Conv2d(3, 3, 2, padding=1),
        fc=nn.Linear(3, CLASSES),
        **norms,
    )


def concatenated() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        both = torch.cat([net.left(x), net.right(x)], dim=1)
        dense = torch.cat([both, net.grow(F.relu(net.bn1(both)))], dim=1)
        return net.fc(F.relu(net.bn2(dense)).mean((2, 3)))

    convs = {
        "left": nn.Conv2d(1, 2, 2),
        "right": nn.Conv2d(1, 3, 2, bias=False),
        "grow": nn.Conv2d(5, 2, (3, 1), padding="same"),
    }
    return Net(forward, bn1=norm2d(5), bn2=norm2d(7), fc=nn.Linear(7, CLASSES), **convs)


def group_norm() -> nn.Module:
    conv1, conv2 = nn.Conv2d(1, 4, 2), nn.Conv2d(4, 4, 2, bias=False)
    return nn.Sequential(conv1, nn.GroupNorm(2, 4, eps=0.1), nn.SiLU(), conv2, nn.SiLU(), *head(4))


def fully_convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 2, bias=False), norm2d(4), nn.SiLU(), nn.Conv2d(4, CLASSES, 3), nn.Flatten()
    )


CASES: tuple[Case, ...] = (
    Case("plain", plain, {"0": (None, 0), "2": (None, 0)}, "5"),
    Case("bias_free", bias_free, {"0": (None, 0), "2": (None, 0), "4": (None, 0)}, "7"),
    Case("conv_bn_relu", conv_bn_relu, {"0": ("1", 0), "4": ("5", 0)}, "9"),
    Case("conv_relu_bn", conv_relu_bn, {"conv1": ("bn1", 0), "conv2": ("bn2", 0)}),
    Case(
        "preactivation",
        preactivation,
        {"stem": ("bn1", 0), "conv1": ("bn2", 0), "conv2": (None, 0)},
    ),
    Case(
        "residual",
        residual,
        {"conv1": ("bn1", 0), "conv2": ("bn2", 0), "shortcut": ("bn3", 0), "conv3": (None, 0)},
    ),
    Case("grouped", grouped, {"0": ("1", 0), "3": ("4", 0), "6": ("7", 0)}, "10"),
    Case("strided", strided, {"0": (None, 0), "2": (None, 0)}, "5"),
    Case("mlp", mlp, {"1": ("2", 0), "4": ("6", 0)}, "7"),
    Case("sequence", sequence, {"embed": (None, 0), "mix": (None, 0)}),
    Case("shared_norm", shared_norm, {"conv1": ("bn", 0), "conv2": ("bn", 0)}),
    Case("reused_conv", reused_conv, {"stem": ("bn0", 0), "conv": ("bn1", 0)}),
    Case(
        "concatenated", concatenated, {"left": ("bn1", 0), "right": ("bn1", 2), "grow": ("bn2", 5)}
    ),
    Case("group_norm", group_norm, {"0": (None, 0), "3": (None, 0)}, "6"),
    Case("fully_convolutional", fully_convolutional, {"0": ("1", 0)}, "3"),
)

BY_NAME: Mapping[str, Case] = {case.name: case for case in CASES}


def _parametrized(pairs: Sequence[tuple[Case, str]]) -> pytest.MarkDecorator:
    names = [f"{case.name}-{bn}" for case, bn in pairs]
    return pytest.mark.parametrize(("case", "bn"), pairs, ids=names)


# every case in every norm mode, and every case once with its modes in turns
CASES_AND_MODES = _parametrized([(case, bn) for case in CASES for bn in case.modes])
CASES_ONCE = _parametrized(
    [(case, case.modes[i % len(case.modes)]) for i, case in enumerate(CASES)]
)
