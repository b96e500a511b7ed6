"""Whether the network is still the one of the last epoch, so that it can be measured at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from pruneviz.errors import PrunevizError
from pruneviz.model.supported import is_out_of_memory
from pruneviz.pruning.held_entries import kept_entries
from pruneviz.recording.measured_epochs import Every, in_spec

_logger = logging.getLogger("pruneviz")

_NOT_SEEN = "no epoch was recorded since the run was resumed, so its network is not known"
_UNSEEN = "it cannot be seen whether the network has changed"
_UNREADABLE = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)
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
        except _UNREADABLE as error:  # never a reason to stop a training
            self._sums, self._unknown = None, f"{_UNSEEN}: {error}"

    def forget(self) -> None:
        """Remember no network."""
        self._sums, self._unknown = None, _NOT_SEEN

    def reason_against(self, model: nn.Module) -> str | None:
        """Why the network cannot be measured as that of the last epoch; None if it can."""
        if self._sums is None:
            return self._unknown
        try:
            now, modules = bit_sums(model), _printed(model)
        except _UNREADABLE as error:
            return f"{_UNSEEN}: {error}"
        same = (
            modules == self._modules
            and now.keys() == self._sums.keys()
            and all(bool((now[name] == before).all()) for name, before in self._sums.items())
        )
        return None if same else "the network has changed since it was recorded"


def failure_of(measure: Callable[[], None]) -> str | None:
    """Why a measurement failed; None if it did not. A finished training is sealed without it.

    Args:
        measure: Measures and writes. Errors of pruneviz and of memory are caught, others are not.
    """
    try:
        measure()
    except (PrunevizError, MemoryError) as error:
        return str(error) or type(error).__name__
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return str(error).partition("\n")[0]
    return None


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
    """Sums of the bits of every tensor of a network, read as whole numbers, modulo 2^64.

    Parameters, buffers, masks, and tensors that are plain attributes of modules. Rows and columns
    are weighted by their place, so that values that change places are seen. Values of one device
    are in one tensor, so that nothing waits for the device.

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
    if tensor.is_sparse:
        whole = tensor.coalesce()
        return [whole.indices(), *_parts(name, whole.values())]
    # the bits of a quantised tensor cannot be viewed: torch crashes
    if tensor.is_quantized or tensor.layout != torch.strided:
        raise TypeError(f"{name} is a tensor whose bits cannot be read")
    plain = tensor.resolve_conj().resolve_neg()
    return [torch.view_as_real(plain) if plain.is_complex() else plain]


def _bit_sum(plain: Tensor) -> Tensor:
    bits = plain.contiguous().view(_WHOLE_NUMBERS[plain.element_size()])
    table = bits.flatten(1) if bits.dim() > 1 else bits.reshape(-1, 1)
    return _placed(table.sum(1, dtype=torch.int64), 1) + _placed(table.sum(0, dtype=torch.int64), 3)


def _placed(sums: Tensor, first: int) -> Tensor:
    """The sum of sums, each times a number of its place, so that those that change places count."""
    places = torch.arange(len(sums), device=sums.device)
    return (sums * (first + 2 * places) * (first + 2 * places)).sum()
