"""Whether batches may be cut into chunks: whole batches compared with their chunks, once.

The trial on a few examples in `pruneviz.measuring.parts` does not see what depends on the size of a
batch or on a rare example, such as the capacity of experts or a largest value of the batch. So
one forward pass without graph over every whole batch is compared with passes over its chunks, and
the loss of its outputs with the losses of their pieces. Batches that fit into one chunk are cut
into smaller pieces here, because standard errors count on independent examples too. Gradients are
compared on a few examples: a backward pass may join what the forward pass does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruneviz.errors import PrunevizError
from pruneviz.measuring.chunking import forward_size, halved_on_out_of_memory
from pruneviz.measuring.objective import Objective
from pruneviz.measuring.parts import (
    DEPENDENT,
    NO_MEAN,
    REFUSALS,
    loss_adds_up,
    spread,
    without_warnings,
)
from pruneviz.model.isolation import slow_attention
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.sample import Batch, Inputs, chosen, examples_in, mapped, split, tensors_in

# relative to a norm, times the rounding of a number
_ROUNDINGS = 2000
_OF_GRADIENT = 1e-2  # rounding may switch a ReLU, which moves a gradient a little
_PROBED = 4  # examples


def reason_against_chunks(sample: Objective, chunk: int) -> str:
    """Why the batches of a sample cannot be cut into chunks of this size.

    Args:
        sample: The loss on the sample.
        chunk: Examples per chunk.

    Returns:
        "" if outputs, loss and gradient are the same in chunks.
    """
    batches = [batch for batch in sample.batches if examples_in(batch[0]) > 1]
    if sample.whole or not batches:
        return sample.whole
    ranks = sample.ranks
    own = batches[ranks.number :: ranks.count]
    return ranks.reason("the check of chunks", _reason(sample, own, batches[0][0], chunk))


def _reason(sample: Objective, batches: Sequence[Batch], first: Inputs, chunk: int) -> str:
    """Why some batches, or a few examples of the first one, cannot be cut."""
    most = max(2 * chunk, forward_size(sample))
    with without_warnings(), slow_attention():
        for batch in batches:
            reason = _of_batch(sample, batch, chunk, most)
            if reason:
                return reason
        return "" if _has_equal_gradients(sample, first) else DEPENDENT


def _of_batch(sample: Objective, batch: Batch, chunk: int, most: int) -> str:
    """Why a batch, or pieces of it that fit into memory, cannot be cut; "" if it can."""
    n = examples_in(batch[0])
    small = chunk if chunk < n else _smaller(n)

    def compare(size: int) -> str:
        # without memory for more than a chunk, what fits is compared with its own pieces
        apart = small if small < size else _smaller(size)
        return _of_pieces(sample, batch, apart, size) if size > 1 else ""

    return halved_on_out_of_memory(compare, min(n, most), sample.model)[0]


def _smaller(n: int) -> int:
    """The size of about eight pieces of a batch; no single examples, with which few layers fail."""
    return 1 if n < 4 else max(2, n // 8)


def _of_pieces(sample: Objective, batch: Batch, chunk: int, size: int) -> str:
    x, y = batch
    for part in zip(split(x, size), split(y, size), strict=True):
        reason = _of_piece(sample, part, chunk)
        if reason:
            return reason
    return ""


def _of_piece(sample: Objective, piece: Batch, chunk: int) -> str:
    x, y = piece
    try:
        together = _output(sample, x)
    except (PrunevizError, *REFUSALS) as error:
        if is_out_of_memory(error):
            raise
        return ""  # raised again, with its place, where the chunks are measured
    try:
        apart = [_output(sample, part) for part in split(x, chunk)]
        if not _are_equal(tensors_in(together), [tensors_in(part) for part in apart]):
            return DEPENDENT
        return "" if loss_adds_up(sample, together, y, chunk) else NO_MEAN
    except (PrunevizError, *REFUSALS) as error:
        if is_out_of_memory(error):
            raise
        return DEPENDENT  # chunks alone do not run


def _output(sample: Objective, x: Inputs) -> object:
    with torch.no_grad():
        return sample.output(_laid_out(sample, x))


def _laid_out(sample: Objective, x: Inputs) -> Inputs:
    return mapped(x, sample.laid_out)


def _are_equal(together: Sequence[Tensor], apart: Sequence[Sequence[Tensor]]) -> bool:
    """Whether the outputs of a whole are those of its parts, as far as they are by example."""
    for whole, *parts in zip(together, *apart, strict=True):
        real = whole.is_floating_point() or whole.is_complex()
        if not real or not whole.isfinite().all():
            continue  # not finite: its place is named later
        if not whole.ndim or not all(part.ndim for part in parts):
            continue
        if any(part.shape[1:] != whole.shape[1:] for part in parts):
            if sum(map(len, parts)) != len(whole):
                return False
            continue
        joined = torch.cat(list(parts))
        if len(joined) == len(whole) and not _close_by_row(joined, whole):
            return False
    return True


def _close_by_row(given: Tensor, wanted: Tensor) -> bool:
    """Whether every row is equal, relative to its norm or that of the mean row."""
    rows = wanted.abs().double().reshape(len(wanted), -1)
    apart = (given - wanted).abs().double().reshape(len(wanted), -1)
    norms, far = rows.square().sum(1), apart.square().sum(1)
    tolerance = _ROUNDINGS * torch.finfo(wanted.dtype).eps
    return bool((far <= tolerance**2 * norms.clamp(min=float(norms.mean()))).all())


def _has_equal_gradients(sample: Objective, x: Inputs) -> bool:
    """Whether a few examples have the gradients of their outputs together and in two parts."""

    def compare(count: int) -> bool:
        few = chosen(x, spread(examples_in(x), count))
        return examples_in(few) < 2 or _are_equal_gradients(sample, few)

    return halved_on_out_of_memory(compare, _PROBED, sample.model)[0]


def _are_equal_gradients(sample: Objective, few: Inputs) -> bool:
    n = examples_in(few)
    try:
        whole, *halves = [_gradient(sample, few, at) for at in _halves(n)]
    except (PrunevizError, *REFUSALS) as error:
        if is_out_of_memory(error):
            raise
        return True  # raised again, with its place, by measuring
    pairs = list(zip(whole, *halves, strict=True))
    apart = sum(float((a + b - w).double().square().sum()) for w, a, b in pairs)
    norm = sum(float(w.double().square().sum()) for w in whole)
    return not apart > _OF_GRADIENT**2 * norm


def _halves(n: int) -> tuple[Tensor, ...]:
    """Positions of all of n examples, of the first half, and of the rest."""
    at = torch.arange(n)
    return at, at[: n // 2], at[n // 2 :]


def _gradient(sample: Objective, x: Inputs, at: Tensor) -> list[Tensor]:
    """The gradient by the parameters of outputs times fixed random numbers."""
    output = tensors_in(sample.output(_laid_out(sample, chosen(x, at))))
    random = torch.Generator().manual_seed(0)
    terms = []
    for leaf in output:
        if leaf.requires_grad and leaf.ndim and len(leaf) == len(at):
            shape = (examples_in(x), *leaf.shape[1:])
            numbers = torch.randn(shape, generator=random, dtype=torch.float64)[at]
            terms.append((leaf * numbers.to(leaf.device, leaf.dtype)).sum())
    theta = list(sample.parameters.values())
    if not terms:
        return [torch.zeros_like(p) for p in theta]
    return list(torch.autograd.grad(torch.stack(terms).sum(), theta, materialize_grads=True))
