"""A measurement that all ranks share: of one network, on one sample, with one set of options."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from pruneviz.errors import MeasureError
from pruneviz.log.memory import free_memory
from pruneviz.measuring.bits import bit_sums, printed_modules
from pruneviz.measuring.named_callables import described
from pruneviz.measuring.options import Options
from pruneviz.measuring.ranks import ALONE, Ranks, all_ranks
from pruneviz.measuring.sample_digest import sample_digest
from pruneviz.model.filters import unwrap
from pruneviz.model.full_copy import FullCopy, check_only_sharded, full_size, is_sharded
from pruneviz.model.network_result import AnyNetwork
from pruneviz.model.sample import Batch, model_device
from pruneviz.pruning.held_entries import kept_entries

_BYTES = 4 + 2 * 2 * 8  # of each parameter beside its copy
_WORDS = ("alone", "share")


@contextmanager
def shared(model: AnyNetwork, ranks: str) -> Iterator[tuple[nn.Module, Ranks]]:
    """Context with the network to measure, and the ranks that measure it.

    Args:
        model: The network, maybe wrapped.
        ranks: "alone", or "share" for all ranks of `torch.distributed`.

    Raises:
        MeasureError: If the word is another one, or a rank does not come in time.
    """
    if ranks not in _WORDS:
        raise MeasureError(
            f"ranks={ranks!r}; choose 'alone', this process, or 'share', all ranks together"
        )
    network = unwrap(model)
    group = all_ranks("pv.measure") if ranks == "share" else ALONE
    try:
        if ranks == "share" and is_sharded(network):
            network = full_copy(network, group).network
        yield network, group
    finally:
        group.close()


def full_copy(model: nn.Module, ranks: Ranks) -> FullCopy:
    """The whole of a sharded network on each rank, if there is room for it.

    Args:
        model: The sharded network.
        ranks: The processes that hold its shards.

    Raises:
        MeasureError: If a rank has not enough memory, or a part of the network cannot be copied.
    """
    with ranks.together("the gathering of a sharded network"):
        check_only_sharded(model)
        reason = ranks.reason("the room for a sharded network", _no_room(model))
        if reason:
            raise MeasureError(reason)
        return FullCopy(model)


def _no_room(model: nn.Module) -> str:
    """Why a network and its derivatives do not fit into the memory of this rank; "" if they do."""
    numbers, copied = full_size(model)
    # the copy that is measured in float32 at least, and derivatives at two temperatures in float64
    needed = copied + numbers * _BYTES
    free = _free(model_device(model))
    if free is None or needed <= free:
        return ""
    return (
        f"the network is sharded, and to measure it each rank holds all of its {numbers:,} "
        f"parameters and their derivatives, about {needed / 1e9:.3g} GB, of which "
        f"{free / 1e9:.3g} GB are free; measure on devices with more memory, or choose fewer "
        "parameters of a copy that has the full state dict"
    )


def _free(device: torch.device) -> int | None:
    """Bytes that a rank may take; processes of one machine share its memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = free_memory()
    return None if free is None else free // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def check_equal(
    ranks: Ranks, model: nn.Module, options: Options, batches: Sequence[Batch] | None
) -> None:
    """Check that all ranks measure the same, before any of them does.

    Buffers, such as running statistics, may differ: those of rank 0 are measured.

    Args:
        ranks: The processes that share the measurement.
        model: The network of this rank.
        options: How it is measured.
        batches: The sample; None if it was compared before.

    Raises:
        MeasureError: If a rank has another network, sample or option; names it.
    """
    if ranks.is_alone:
        return
    facts: dict[str, Any] = {**option_facts(options), **_parameter_facts(model)}
    if batches is not None:
        facts["the sample"] = int(sample_digest(batches), 16)
    ranks.meet("the start of a measurement", facts)


def option_facts(options: Options) -> dict[str, str]:
    """Options as texts that can be compared between processes."""
    return {field.name: _text(getattr(options, field.name)) for field in fields(options)}


def _text(value: object) -> str:
    """A value as text; functions and modules by their code and options, not by their addresses."""
    if isinstance(value, Mapping):
        return repr({key: _text(entry) for key, entry in value.items()})
    if callable(value) and not isinstance(value, torch.dtype):
        return described(value)
    return value if isinstance(value, str) else repr(value)


def _parameter_facts(model: nn.Module) -> dict[str, Any]:
    """Types and printed options of modules, and sums over the bits of parameters and masks."""
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    tensors |= {f"{name} (what is pruned)": kept for name, kept in kept_entries(model).items()}
    modules = (text.partition(" ") for text in printed_modules(model))
    facts: dict[str, Any] = {f"the module {name or 'itself'}": text for name, _, text in modules}
    sums = bit_sums(tensors).items()
    pairs = (pair for names, values in sums for pair in zip(names, values.tolist(), strict=True))
    return facts | {f"the parameter {name}": value for name, value in pairs}
