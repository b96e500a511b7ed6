"""How many examples are differentiated at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from pruneviz.errors import MeasureError
from pruneviz.measuring.objective import Objective, first_examples

Answer = TypeVar("Answer")


def halved_on_out_of_memory(measure: Callable[[int], Answer], chunk: int) -> tuple[Answer, int]:
    """Run `measure(chunk)`, halving the chunk for as long as memory runs out; returns its answer and the chunk that fitted."""
    while True:
        try:
            return measure(chunk), chunk
        except CheckpointError as error:
            repair = "switch activation checkpointing off while measuring, such as with model.set_grad_checkpointing(False)"
            raise MeasureError(
                f"a part of the network that is computed anew for its derivative is not measured as it ran; {repair}"
            ) from error
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if chunk == 1:
                raise MeasureError(
                    "out of memory at the smallest chunk; use smaller batches or a larger device"
                ) from error
        # outside the handler, so that the traceback no longer holds the tensors of the failed attempt
        chunk //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def automatic_chunk(sample: Objective) -> int:
    """A chunk whose second derivative fits the memory: bytes kept for one example's backward pass, times six, within the budget.

    Six is what reverse mode over reverse mode keeps beside the forward graph, measured; the budget is half of what a GPU has
    free for this process and 2.5 GB on a CPU, where larger chunks are hardly faster. The chunks of the largest batch are about
    equally large: a small last one would take a GPU less time than the host needs to ask for it.
    """
    most = max(1, _memory_budget(sample.device) // max(1, 6 * _bytes_kept_for_backward(sample)))
    largest = max(len(x) for x, _ in sample.batches)
    return math.ceil(largest / math.ceil(largest / most))


def _memory_budget(device: torch.device) -> int:
    if device.type != "cuda":
        return 5 * 1024**3 // 2
    free, total = torch.cuda.mem_get_info(device)
    used = torch.cuda.memory_allocated(device)
    # what torch keeps of earlier tensors is free for new ones; a second snapshot would have smaller chunks than the first without it
    free += torch.cuda.memory_reserved(device) - used
    # processes that share a GPU are each held to a fraction of it
    share = total * torch.cuda.get_per_process_memory_fraction(device) - used
    return int(min(free, share)) // 2


def _is_out_of_memory(error: RuntimeError) -> bool:
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "can't allocate memory" in str(error)
        or "not enough memory" in str(error)
    )


def _bytes_kept_for_backward(sample: Objective) -> int:
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice
    own = {p.untyped_storage().data_ptr() for p in sample.parameters.values()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return (
            tensor.detach()
        )  # to hold an output itself would tie its graph into a knot that is never freed

    x, y = first_examples(sample)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        sample.losses(x, y)
    return sum(storage.nbytes() for storage in kept.values()) // len(x)
