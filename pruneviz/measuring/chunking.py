"""The chunk: the number of examples differentiated at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from pruneviz.errors import MeasureError
from pruneviz.measuring.objective import Objective
from pruneviz.model.sample import examples_in
from pruneviz.model.supported import is_out_of_memory

Answer = TypeVar("Answer")

_CPU_BUDGET = 5 * 1024**3 // 2  # bytes; larger chunks are hardly faster on a CPU
_SECOND_DERIVATIVE = 6  # measured: memory for a second derivative, relative to the forward graph
_FORWARD = 4  # tensors of the largest size at once in a forward pass without graph


def halved_on_out_of_memory(
    measure: Callable[[int], Answer], chunk: int, whole: str = ""
) -> tuple[Answer, int]:
    """Run `measure(chunk)`, halving the chunk as long as memory runs out.

    Args:
        measure: Measures in chunks of a size.
        chunk: The first size.
        whole: Why batches stay whole, for the error; "" if they are split.

    Returns:
        The result, and the chunk that fits.

    Raises:
        MeasureError: If not even one example fits.
    """
    while True:
        try:
            return measure(chunk), chunk
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if chunk == 1:
                raise MeasureError(_no_room(whole)) from error
        # outside the handler, whose traceback would keep the tensors of the failed attempt
        chunk //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _no_room(whole: str) -> str:
    if not whole:
        return "out of memory at the smallest chunk; use smaller batches or a larger device"
    return (
        f"out of memory, and a batch cannot be split: {whole}; use a list of smaller batches, a "
        "larger device, or loss_weight=callable(target) if the loss divides by known weights"
    )


def automatic_chunk(sample: Objective) -> int:
    """The largest chunk whose second derivative fits the memory budget.

    An example takes six times the bytes kept for its backward pass. The budget is half the free GPU
    memory of this process, or 2.5 GB on a CPU. Chunks have about equal sizes: a small last one
    would take the host longer to launch than a GPU to run.
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
        return _CPU_BUDGET
    free, total = torch.cuda.mem_get_info(device)
    used = torch.cuda.memory_allocated(device)
    # Memory that torch caches is free for new tensors. Without it a second snapshot would have
    # smaller chunks than the first.
    free += torch.cuda.memory_reserved(device) - used
    # processes that share a GPU are each limited to a fraction of it
    share = total * torch.cuda.get_per_process_memory_fraction(device) - used
    return int(min(free, share)) // 2


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
