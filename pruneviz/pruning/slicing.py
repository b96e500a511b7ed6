"""Channels taken out of modules: parameters, running statistics and channel counts together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pruneviz.model.filters import weight_users

OUT, IN = "out", "in"
Slices: TypeAlias = Mapping[tuple[str, str], frozenset[int]]  # (module, side) -> channels to remove
_Cut: TypeAlias = Callable[[str, int, Tensor], None]  # own parameter or buffer, dimension, kept


def take_out(network: nn.Module, slices: Slices) -> None:
    """Remove channels from the modules of a network in place.

    Changes parameters, running statistics and channel counts. A tied weight is cut once.
    """
    named: dict[str, list[nn.Module]] = {}
    for name, module in weight_users(network):
        named.setdefault(name, []).append(module)
    for (name, side), channels in slices.items():
        cut: set[tuple[int, int]] = set()
        for module in named.get(name) or [network.get_submodule(name)]:
            _take(module, side, channels, cut)


def is_depthwise(module: nn.Module) -> bool:
    """Whether every filter of a convolution reads one channel of several."""
    if not isinstance(module, _ConvNd) or isinstance(module, _ConvTransposeNd):
        return False
    return module.groups == module.in_channels > 1


def cut_tensor(module: nn.Module, name: str, dim: int, kept: Tensor) -> None:
    """Keep positions of one dimension of a module's own parameter or buffer, if it has it."""
    value = getattr(module, name, None)
    if isinstance(value, nn.Parameter):
        value.data = value.data.index_select(dim, kept.to(value.device))
    elif isinstance(value, Tensor):
        setattr(module, name, value.index_select(dim, kept.to(value.device)))


def _take(
    module: nn.Module, side: str, channels: Collection[int], done: set[tuple[int, int]]
) -> None:
    """Take channels out of one module; tensors in `done` are cut already."""

    def cut(name: str, dim: int, kept: Tensor) -> None:
        key = id(getattr(module, name, None)), dim
        if key not in done:
            done.add(key)
            cut_tensor(module, name, dim, kept)

    if isinstance(module, _NormBase):
        _take_norm(module, channels, cut)
    elif isinstance(module, nn.PReLU):
        if module.num_parameters > 1:
            module.num_parameters = _cut_all(("weight",), channels, module.num_parameters, cut)
    elif isinstance(module, nn.Linear):
        _take_linear(module, side, channels, cut)
    elif isinstance(module, _ConvNd):
        _take_convolution(module, side, channels, cut)
    else:
        raise ValueError(f"single channels cannot be taken out of a {type(module).__name__}")


def _take_norm(module: _NormBase, channels: Collection[int], cut: _Cut) -> None:
    names = ("weight", "bias", "running_mean", "running_var")
    module.num_features = _cut_all(names, channels, module.num_features, cut)


def _take_linear(module: nn.Linear, side: str, channels: Collection[int], cut: _Cut) -> None:
    if side == OUT:
        module.out_features = _cut_all(("weight", "bias"), channels, module.out_features, cut)
    else:
        kept = _kept(module.in_features, channels)
        cut("weight", 1, kept)
        module.in_features = len(kept)


def _take_convolution(module: _ConvNd, side: str, channels: Collection[int], cut: _Cut) -> None:
    if side == IN:
        kept = _kept(module.in_channels, channels)
        cut("weight", 0 if isinstance(module, _ConvTransposeNd) else 1, kept)
        module.in_channels = len(kept)
        return
    each = module.out_channels // module.groups
    depthwise = is_depthwise(module)
    module.out_channels = _cut_all(("weight", "bias"), channels, module.out_channels, cut)
    if depthwise:
        module.groups = module.in_channels = module.out_channels // each


def _cut_all(names: Collection[str], channels: Collection[int], total: int, cut: _Cut) -> int:
    kept = _kept(total, channels)
    for name in names:
        cut(name, 0, kept)
    return len(kept)


def _kept(total: int, channels: Collection[int]) -> Tensor:
    return torch.tensor([c for c in range(total) if c not in channels], dtype=torch.int64)
