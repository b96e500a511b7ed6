"""The chunk: the number of examples differentiated at once."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from pruneviz.console.words import counted
from pruneviz.log.memory import free_memory
from pruneviz.measuring.objective import Objective
from pruneviz.measuring.shortage import asked_and_free, no_room
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.sample import examples_in

Answer = TypeVar("Answer")

_CPU_BUDGET = 5 * 1024**3 // 2  # bytes; larger chunks are hardly faster on a CPU
_SECOND_DERIVATIVE = 6  # measured: memory for a second derivative, relative to the forward graph
_FORWARD = 4  # tensors of the largest size at once in a forward pass without graph
_LEAST_BUDGET = 1024**2  # bytes

_logger = logging.getLogger("pruneviz")


def halved_on_out_of_memory(
    measure: Callable[[int], Answer], chunk: int, network: nn.Module, whole: str = ""
) -> tuple[Answer, int]:
    """Run `measure(chunk)`, halving the chunk as long as memory runs out, and saying so.

    Args:
        measure: Measures in chunks of a size. It begins anew every time, so that nothing that a
            failed attempt has summed up counts.
        chunk: The first size.
        network: The network that is called.
        whole: Why batches stay whole; "" if they are split.

    Returns:
        The result, and the chunk that fits.

    Raises:
        MeasureError: If not even one example fits, or a batch that stays whole does not.
    """
    while True:
        try:
            return measure(chunk), chunk
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if chunk == 1 or whole:
                raise no_room(error, network, whole) from error
            why = asked_and_free(error, network)
        # outside the handler, whose traceback would keep the tensors of the failed attempt
        _free_what_is_left()
        much = counted(chunk, "example")
        chunk //= 2
        _logger.warning("memory ran out with %s at once%s; going on with %d", much, why, chunk)


def _free_what_is_left() -> None:
    """Free what a failed attempt leaves in reference cycles and in caches of torch."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def automatic_chunk(sample: Objective) -> int:
    """The largest chunk whose second derivative fits the memory budget.

    An example takes six times the bytes kept for its backward pass. The budget is half the free GPU
    memory of this process. On a CPU it is 2.5 GB, halved until it is at most half of what limits of
    the process, its control groups and the machine leave. Chunks have about equal sizes: a small
    last one would take the host longer to launch than a GPU to run.
    """
    per_example = _SECOND_DERIVATIVE * int(sum(_bytes_kept_for_backward(sample)))
    most = max(1, _memory_budget(sample.device) // max(1, per_example))
    largest = max(examples_in(x) for x, _ in sample.batches)
    return math.ceil(largest / math.ceil(largest / most))


def forward_size(sample: Objective) -> int:
    """The number of examples whose forward pass without graph fits the memory budget."""
    per_example = _FORWARD * max(_bytes_kept_for_backward(sample), default=0.0)
    return max(1, int(_memory_budget(sample.device) // max(1.0, per_example)))


def _memory_budget(device: torch.device) -> int:
    """Bytes that a chunk may take."""
    if device.type != "cuda":
        return _cpu_budget(free_memory())
    free, total = torch.cuda.mem_get_info(device)
    used = torch.cuda.memory_allocated(device)
    # Memory that torch caches is free for new tensors. Without it a second snapshot would have
    # smaller chunks than the first.
    free += torch.cuda.memory_reserved(device) - used
    # processes that share a GPU are each limited to a fraction of it
    share = total * torch.cuda.get_per_process_memory_fraction(device) - used
    return int(min(free, share)) // 2


def _cpu_budget(free: int | None) -> int:
    budget = _CPU_BUDGET
    # Halved, not cut to size: else the chunk, and so the rounding, would follow every small change
    # in what is free from one snapshot to the next.
    while free is not None and 2 * budget > free and budget > _LEAST_BUDGET:
        budget //= 2
    return budget


def _bytes_kept_for_backward(sample: Objective) -> list[float]:
    """Bytes per example of the tensors that a forward pass keeps for its backward pass.

    Parameters are left out.
    """
    kept: dict[int, torch.UntypedStorage] = {}  # holds the storages, so that no address is reused
    own = {p.untyped_storage().data_ptr() for p in sample.parameters.values()}

    def note(tensor: Tensor) -> Tensor:
        try:
            storage = tensor.untyped_storage()
            address = storage.data_ptr()
        except RuntimeError:  # a tensor without memory of its own, such as a sparse one
            return tensor
        if address not in own:
            kept[address] = storage
        # holding an output itself would make a reference cycle with its graph
        return tensor.detach()

    x, y = sample.first_examples()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        sample.losses(x, y)
    return [storage.nbytes() / examples_in(x) for storage in kept.values()]
