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

_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class LastEpoch:
    """Recognises the network of the last recorded epoch.

    Parameters, buffers and masks are compared by sums of their bits, which take one pass over the
    weights and no memory. What is not a tensor of the network, such as a Python number that it
    reads, is not compared.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] | None = None

    def note(self, model: nn.Module) -> None:
        """Remember the network as it is."""
        self._sums = bit_sums(model)

    def forget(self) -> None:
        """Remember no network."""
        self._sums = None

    def reason_against(self, model: nn.Module) -> str | None:
        """Why the network cannot be measured as that of the last epoch; None if it can."""
        if self._sums is None:
            return "no epoch was recorded since the run was resumed, so its network is not known"
        now = bit_sums(model)
        same = now.keys() == self._sums.keys() and all(
            bool((now[name].cpu() == before.cpu()).all()) for name, before in self._sums.items()
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
        _logger.warning("measured %s; measure_last=False does not", which)
    else:
        _logger.warning("did not measure %s: %s", which, reason)


@torch.no_grad()
def bit_sums(model: nn.Module) -> dict[str, Tensor]:
    """Sums of the bits of every parameter, buffer and mask, read as whole numbers, modulo 2^64.

    Rows are weighted by their place, so that filters that change places are seen. Values of one
    device are in one tensor, so that nothing waits for the device.

    Returns:
        int64 tensors by device, dtypes and names.
    """
    tensors = {
        **dict(model.named_parameters()),
        **dict(model.named_buffers()),
        **{f"{name} kept": mask for name, mask in kept_entries(model).items()},
    }
    by_key: dict[str, list[Tensor]] = {}
    names: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        key = str(tensor.device)
        by_key.setdefault(key, []).append(_bit_sum(tensor))
        names.setdefault(key, []).append(f"{name} {tensor.dtype} {tuple(tensor.shape)}")
    return {"; ".join(names[key]): torch.stack(sums) for key, sums in by_key.items()}


def _bit_sum(tensor: Tensor) -> Tensor:
    plain = tensor.detach()
    if plain.is_complex():
        plain = torch.view_as_real(plain)
    if plain.is_sparse:
        plain = plain.coalesce().values()
    bits = plain.contiguous().view(_WHOLE_NUMBERS[plain.element_size()])
    rows = (bits.flatten(1) if bits.dim() > 1 else bits.reshape(-1, 1)).sum(1, dtype=torch.int64)
    # Odd factors, so that rows that change places change the sum.
    return (rows * (1 + 2 * torch.arange(len(rows), device=rows.device))).sum()
