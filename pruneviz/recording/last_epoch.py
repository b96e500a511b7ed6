"""Whether the network is still the one of the last epoch, so that it can be measured at the end."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from pruneviz.errors import PrunevizError
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.sample import as_batches
from pruneviz.pruning.held_entries import kept_entries
from pruneviz.recording.measured_epochs import Every, in_spec

_logger = logging.getLogger("pruneviz")

_NOT_SEEN = (
    "no epoch was recorded since the run was resumed or rewound, so its network is not known"
)
_UNSEEN = "it cannot be seen whether the network has changed"
_BLOCK = 1 << 20  # numbers that are mixed at once
# odd constants of SplitMix64, as int64
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_MIXING = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))
_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class LastEpoch:
    """Recognises the network of the last recorded epoch.

    Its tensors are compared by sums of their bits, which take two passes over the weights and no
    memory, and its modules by what they print, such as `eps` of a norm. What they do not print,
    such as hooks, is not compared.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] | None = None
        self._modules: list[str] = []
        self._unknown = _NOT_SEEN

    def note(self, model: nn.Module) -> None:
        """Remember the network as it is, if all its tensors can be read."""
        try:
            self._sums, self._modules = bit_sums(model), _printed(model)
        except Exception as error:  # never a reason to stop a training
            self._sums, self._unknown = None, f"{_UNSEEN}: {_first_line(error)}"

    def forget(self) -> None:
        """Remember no network."""
        self._sums, self._unknown = None, _NOT_SEEN

    def reason_against(self, model: nn.Module) -> str | None:
        """Why the network cannot be measured as that of the last epoch; None if it can."""
        if self._sums is None:
            return self._unknown
        try:
            now, modules = bit_sums(model), _printed(model)
            same = (
                modules == self._modules
                and now.keys() == self._sums.keys()
                and all(bool((now[name] == before).all()) for name, before in self._sums.items())
            )
        except Exception as error:  # nor to leave a run unfinished
            return f"{_UNSEEN}: {_first_line(error)}"
        return None if same else "the network has changed since it was recorded"


def failure_of(measure: Callable[[], None]) -> str | None:
    """Why a measurement failed; None if it did not. A finished training is sealed without it.

    Args:
        measure: Measures and writes. Errors of pruneviz, of memory and of reading the sample are
            caught, others are not.
    """
    try:
        measure()
    except (PrunevizError, MemoryError) as error:
        return str(error) or type(error).__name__
    except Exception as error:
        if is_out_of_memory(error):
            return _first_line(error)
        if not _is_of_sample(error):
            raise
        return f"the sample cannot be read: {type(error).__name__}: {_first_line(error)}"
    return None


def _is_of_sample(error: Exception) -> bool:
    """Whether an error was raised while the sample was read, such as by a data loader."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is as_batches.__code__ for frame, _ in frames)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def say_measured(epoch: int, run: Path, every: Every, reason: str | None) -> None:
    """Log whether the last epoch of a run was measured although `every` leaves it out.

    Args:
        epoch: The last epoch.
        run: Run directory.
        every: As given to the recorder.
        reason: Why it was not measured; None if it was.
    """
    which = f"epoch {epoch} of {run}, the last one, which every={in_spec(every)} leaves out"
    if reason is None:
        _logger.warning("measured %s (pass measure_last=False to leave it out)", which)
    else:
        _logger.warning("did not measure %s: %s", which, reason)


@torch.no_grad()
def bit_sums(model: nn.Module) -> dict[str, Tensor]:
    """Sums over every tensor of a network of a hash of each value's bits and place, modulo 2^64.

    Parameters, buffers, masks, and tensors that are plain attributes of modules; not numbers, and
    not tensors in lists and the like. Values of one device are in one tensor, so that nothing waits
    for the device.

    Returns:
        int64 tensors by device, dtypes and names.

    Raises:
        TypeError: If a tensor cannot be read as whole numbers, such as a quantised one.
    """
    by_key: dict[str, list[Tensor]] = {}
    names: dict[str, list[str]] = {}
    for name, tensor in _tensors(model).items():
        for part in _parts(name, tensor.detach()):
            key = str(part.device)
            by_key.setdefault(key, []).append(_bit_sum(part))
            names.setdefault(key, []).append(f"{name} {tensor.dtype} {tuple(tensor.shape)}")
    return {"; ".join(names[key]): torch.stack(sums) for key, sums in by_key.items()}


def _printed(model: nn.Module) -> list[str]:
    named = model.named_modules()
    return [f"{name} {type(module).__qualname__}({module.extra_repr()})" for name, module in named]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
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
        **{f"{name} kept": mask for name, mask in kept_entries(model).items()},
    }


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
    bits = plain.contiguous().view(_WHOLE_NUMBERS[plain.element_size()]).reshape(-1)
    parts = [_hash_sum(part, i * _BLOCK) for i, part in enumerate(bits.split(_BLOCK))]
    return torch.stack(parts).sum() if parts else bits.sum(dtype=torch.int64)


def _hash_sum(bits: Tensor, start: int) -> Tensor:
    """The sum of a hash of every number and its place, so that no change of places cancels out.

    References:
        Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: the
        mixing of SplitMix64.
    """
    places = torch.arange(start + 1, start + 1 + len(bits), device=bits.device)
    mixed = bits.to(torch.int64) + places * _STEP
    for shift, factor in _MIXING:
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    return (mixed ^ _shifted(mixed, 31)).sum()


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Bits shifted to the right, as of numbers without a sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
