"""Digests of a network: sums over the bits of its tensors, and what its modules print."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor, nn

from pruneviz.pruning.held_entries import kept_entries

# where an object or a tensor lies, which a module may print
_PLACES = re.compile(r" at 0x[0-9a-fA-F]+|,? ?device='?[\w:]+'?")
_UNPRINTED = "modules that cannot be printed"
_TABLE = 1 << 14  # words of a row, each with a key of its own
_ROWS = {"cpu": 4}  # rows at once: as many as a cache holds
_ROWS_ELSEWHERE = 256
# odd constants of SplitMix64, as int64
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_MIXING = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))
# no word is longer than 32 bits, so that no factor moves a change of it out of the 64 of a sum
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int32}


def network_digest(model: nn.Module) -> Callable[[], str | None]:
    """The digest of a network: of its parameters, its buffers and masks, and its modules.

    Buffers that are not saved, such as caches, do not count. A network on another device, or loaded
    from a file, has the same digest. Modules are compared by their names, types and what they
    print, such as the stride of a convolution, without addresses and devices.

    Args:
        model: The network, which is read at once.

    Returns:
        Function that waits for the device and gives the digest, "0123456789abcdef-...-..." with 16
        digits for the parameters, 16 for saved buffers and masks, and 16 for the modules; None if
        a tensor cannot be read as numbers.
    """
    try:
        parts = [bit_sums(held) for held in (dict(model.named_parameters()), _rest(model))]
    except (TypeError, RuntimeError):  # such as a quantised tensor
        return lambda: None
    modules = _module_digest(model)
    return lambda: "-".join([*map(_text_digest, parts), modules])


def differing_parts(one: str, other: str) -> list[str]:
    """The parts in which two digests differ; none if they are of the same network.

    Args:
        one: Digest of a network. Older versions wrote no part for the modules.
        other: Digest of another.
    """
    names = ("parameters", "buffers or masks", "modules")
    parts = zip(names, one.split("-"), other.split("-"), strict=False)
    return [name for name, was, now in parts if was != now]


def printed_modules(model: nn.Module) -> list[str]:
    """The modules of a network as texts: name, type and options."""
    named = model.named_modules()
    return [f"{name} {type(module).__qualname__}({module.extra_repr()})" for name, module in named]


@torch.no_grad()
def bit_sums(tensors: Mapping[str, Tensor]) -> dict[tuple[str, ...], Tensor]:
    """Sums over every tensor of its words of bits, each times a key of its place, modulo 2^64.

    Equal values at other places have other sums. Values of one device are in one tensor, so that
    nothing waits for the device.

    Args:
        tensors: Tensors by name.

    Returns:
        int64 tensors by the names, dtypes and shapes that they are of.

    Raises:
        TypeError: If a tensor cannot be read as whole numbers, such as a quantised one.
    """
    by_key: dict[str, list[Tensor]] = {}
    names: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        for part in _parts(name, tensor.detach()):
            key = part.device.type
            by_key.setdefault(key, []).append(_bit_sum(part))
            names.setdefault(key, []).append(f"{name} {tensor.dtype} {tuple(tensor.shape)}")
    return {tuple(names[key]): torch.stack(sums) for key, sums in by_key.items()}


def all_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, buffers, masks, and tensors that are plain attributes of modules, by name.

    Not numbers, and not tensors in lists and the like.
    """
    attributes = {
        f"{name}.{attribute} of a module": value
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, Tensor)
    }
    return {
        **attributes,
        **dict(model.named_parameters()),
        **dict(model.named_buffers()),
        **_masks(model),
    }


def _rest(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds besides parameters."""
    saved: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        passing: set[str] = getattr(module, "_non_persistent_buffers_set", set())
        for name, buffer in module.named_buffers(path, recurse=False):
            if name.rpartition(".")[2] not in passing:
                saved[name] = buffer
    return saved | _masks(model)


def _masks(model: nn.Module) -> dict[str, Tensor]:
    return {f"{name} kept": mask for name, mask in kept_entries(model).items()}


def _module_digest(model: nn.Module) -> str:
    try:
        text = _PLACES.sub("", "\n".join(printed_modules(model)))
    except Exception:  # of a person's own extra_repr; never a reason to stop a training
        text = _UNPRINTED
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _text_digest(sums: Mapping[tuple[str, ...], Tensor]) -> str:
    found = [
        f"{name!a} {value}"  # a name may hold any character
        for names, values in sums.items()
        for name, value in zip(names, values.tolist(), strict=True)
    ]
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()[:16]


def _parts(name: str, tensor: Tensor) -> list[Tensor]:
    """The dense tensors of whole or real numbers that hold a tensor."""
    if tensor.is_meta:
        return [torch.zeros(0)]  # there are no values that could change
    if tensor.is_sparse:
        whole = tensor.coalesce()
        return [whole.indices(), *_parts(name, whole.values())]
    # the bits of a quantised tensor cannot be viewed: torch crashes
    if tensor.is_quantized or tensor.is_nested or tensor.layout != torch.strided:
        raise TypeError(f"{name} is a tensor whose bits cannot be read")
    plain = tensor.resolve_conj().resolve_neg()
    return [torch.view_as_real(plain) if plain.is_complex() else plain]


def _bit_sum(plain: Tensor) -> Tensor:
    words = plain.contiguous().reshape(-1).view(_WORDS[plain.element_size()])
    keys, whole = _keys(plain.device), len(words) // _TABLE * _TABLE
    rest = words[whole:]
    of_rest = (rest.to(torch.int64) * keys[: len(rest)]).sum()
    if not whole:
        return of_rest
    rows = words[:whole].view(-1, _TABLE)
    at_once = _ROWS.get(plain.device.type, _ROWS_ELSEWHERE)
    sums = [(part.to(torch.int64) * keys[:_TABLE]).sum(1) for part in rows.split(at_once)]
    further = keys if len(rows) <= _TABLE else _odd(_TABLE + len(rows), plain.device)
    return of_rest + (torch.cat(sums) * further[_TABLE : _TABLE + len(rows)]).sum()


@cache
def _keys(device: torch.device) -> Tensor:
    """Keys of the words in a row, then of the first rows."""
    return _odd(2 * _TABLE, device)


def _odd(n: int, device: torch.device) -> Tensor:
    """Odd pseudo-random numbers, int64 [n]: the same on every machine.

    References:
        Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: the
        mixing of SplitMix64.
    """
    mixed = torch.arange(1, n + 1, device=device) * _STEP
    for shift, factor in _MIXING:
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    return (mixed ^ _shifted(mixed, 31)) | 1


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Bits shifted to the right, as of numbers without a sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
