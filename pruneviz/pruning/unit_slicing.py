"""Units taken out of a network: slices of parameters, and the attributes that count them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from pruneviz.model.unit_kinds import HEAD_COUNTS, common_path
from pruneviz.model.units import Slices, Units
from pruneviz.pruning.attention import with_fewer_heads
from pruneviz.pruning.slicing import cut_tensor

# {class: attribute with the size of each dimension of its weight}; extend as needed
SIZES: Mapping[str, tuple[str, str]] = {
    "Linear": ("out_features", "in_features"),
    "NonDynamicallyQuantizableLinear": ("out_features", "in_features"),
    "Conv1D": ("nx", "nf"),  # of GPT-2, [inputs, outputs]
}
# attributes with a number of heads, or of rows of all heads, of an attention module
COUNTS = (*HEAD_COUNTS, "num_key_value_heads", "num_kv_heads", "n_kv_heads")
WIDTHS = ("all_head_size", "split_size", "attn_dim", "inner_dim")
AMBIGUOUS = ("embed_dim", "hidden_size", "dim", "d_model")  # also of the input, in other modules


def take_units_out(
    network: nn.Module, units: Units, gone: Sequence[int], attributes: Sequence[str]
) -> None:
    """Remove units from a network in place.

    Args:
        network: Network to cut.
        units: The units of one layer.
        gone: Numbers of those to remove.
        attributes: Names of attributes that scale with the number of units.

    Raises:
        ValueError: If a module with one of the parameters cannot lose units.
    """
    kept = [p for p in range(units.filters) if p not in set(gone)]
    for part in units.slices:
        _cut(network, part, gone)
    owners = {name.rpartition(".")[0] for name in units.parameters}
    for path in sorted(owners):
        module = network.get_submodule(path)
        if isinstance(module, nn.MultiheadAttention):
            each = module.num_heads // units.filters
            with_fewer_heads(module, [h for u in kept for h in range(u * each, (u + 1) * each)])
    holders = list(_holders(network, units))
    for module in holders:
        if not isinstance(module, nn.MultiheadAttention):
            _scale(module, attributes, units.filters, len(kept))
    if units.kind == "head" and not any(_has_count(module) for module in holders):
        _count_of_its_own(holders[0], units.filters, len(kept))


def _cut(network: nn.Module, part: Slices, gone: Sequence[int]) -> None:
    path, _, own = part.parameter.rpartition(".")
    module = network.get_submodule(path)
    size = module.get_parameter(own).shape[part.dim]
    left = torch.ones(size, dtype=torch.bool)
    left[part.index[torch.isin(part.unit, torch.tensor(list(gone)))]] = False
    cut_tensor(module, own, part.dim, left.nonzero().flatten())
    names = SIZES.get(type(module).__name__)
    if names is not None and own == "weight":
        setattr(module, names[part.dim], int(left.sum()))


def _holders(network: nn.Module, units: Units) -> Iterator[nn.Module]:
    """The closest module around the parameters of some units, and the parts of it."""
    module = network.get_submodule(common_path(units.parameters))
    yield module
    for child in module.children():
        if not isinstance(child, nn.Linear):
            yield child


def _has_count(module: nn.Module) -> bool:
    return any(isinstance(getattr(module, name, None), int) for name in HEAD_COUNTS)


def _count_of_its_own(module: nn.Module, count: int, left: int) -> None:
    """Give a module that only knows the common count of its config a number of heads."""
    for name in HEAD_COUNTS:
        heads = getattr(getattr(module, "config", None), name, None)
        if isinstance(heads, int) and heads % count == 0:
            setattr(module, name, heads // count * left)
            return


def _scale(module: nn.Module, names: Sequence[str], count: int, left: int) -> None:
    for name in names:
        value = module.__dict__.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value % count == 0:
            setattr(module, name, value // count * left)
