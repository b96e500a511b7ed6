"""How the loss of a sample follows from the losses of its parts: found once, on a few examples.

Batches may be split into chunks only if an example's output does not depend on the others, and if
the loss is a sum or a weighted mean over examples. Both are tested, because neither can be read
from a network or a loss. What fails is measured batch by batch in one piece.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pruneviz.errors import MeasureError
from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.losses import (
    CrossEntropy,
    Weigh,
    equal_weights,
    given_weights,
    label_weights,
    loss_of_output,
)
from pruneviz.measuring.objective import Objective
from pruneviz.measuring.underivable import derivatives_explained
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.sample import (
    Batch,
    Inputs,
    chosen,
    examples_in,
    is_splittable,
    joined,
    mapped,
    tensors_in,
)
from pruneviz.model.supported import described_layer

_PROBED = 4  # examples
# relative to a norm, times the rounding of a number; a sum in another order changes less
_ROUNDINGS = 200
_ROUNDINGS_OF_NETWORK = 2000
_PIECES = (1, 2, 3, 5, 7, 11, 13, 17, 23, 31, 41, 53)
_LAST_PIECE = 61
_MOST_PIECES = 32
_BATCHES = 16  # of which the losses are compared if their targets differ in shape
_TILED = 4 * 1024**2  # elements of repeated outputs
# errors of a network or a loss that does not run on these examples
REFUSALS = (
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
    AssertionError,
    KeyError,
    MemoryError,
)

# reasons why batches stay whole
TREE = "the tensors of a batch differ in their first dimension, so they cannot be split by examples"
DEPENDENT = "an example's output depends on the other examples of its batch"
NO_MEAN = "the loss is no mean over examples"
_BY_FREQUENCY = "{} scales its gradient by how often the batch has a word (scale_grad_by_freq)"


@dataclass(frozen=True, eq=False, repr=False)
class _Part:
    """The loss of some examples, and its gradient.

    Attributes:
        batch: The examples, for weighing them.
        value: Their loss.
        gradient: By the outputs of these examples, or by the parameters.
        by_rows: Whether it is by the outputs.
    """

    batch: Batch
    value: Tensor
    gradient: list[Tensor]
    by_rows: bool


_Split: TypeAlias = tuple[_Part, list[_Part]]  # a whole, and its parts


def reason_against_splitting(sample: Objective) -> str:
    """Why the batches of a sample cannot be split, as far as the network is concerned.

    Returns:
        "" if every example's output is the same alone and among others.
    """
    for name, module in sample.model.named_modules():
        if getattr(module, "scale_grad_by_freq", False):
            return _BY_FREQUENCY.format(described_layer(sample.model, name))
    if not all(map(is_splittable, sample.batches)):
        return TREE
    x, _ = max(sample.batches, key=lambda batch: examples_in(batch[0]))
    n = examples_in(x)
    if n < 2:
        return ""

    def reason(count: int) -> str:
        few = spread(n, count)
        separate = len(few) < 2 or _is_separate(sample, chosen(x, few), len(few))
        return "" if separate else DEPENDENT

    try:
        with torch.no_grad(), without_warnings():
            return halved_on_out_of_memory(reason, _PROBED, sample.model)[0]
    except (MeasureError, *REFUSALS):
        return DEPENDENT if _runs_whole(sample) else ""


def few_examples(sample: Objective, count: int = _PROBED) -> Batch:
    """A few examples, spread over a batch; the whole first batch if it cannot be split."""
    x, y = sample.batches[0]
    if not is_splittable((x, y)) or sample.whole == DEPENDENT:
        return mapped((x, y), Tensor.clone)
    return chosen((x, y), spread(examples_in(x), count))


def with_parts(sample: Objective, loss_weight: Callable[..., Any] | None) -> Objective:
    """The objective with the weights of its examples, or with batches that stay whole.

    Args:
        sample: The objective with its loss; `loss` is not yet known to be a mean.
        loss_weight: Callable of a target, the weight of its examples; None finds their weights.

    Raises:
        MeasureError: If given weights do not fit the loss.
    """
    loss = sample.loss
    if isinstance(loss, CrossEntropy) and loss_weight is None:
        if loss.reduction == "sum":
            return replace(sample, summed=True)
        return replace(sample, weigh=loss.weights)
    candidates = label_weights() if loss is loss_of_output else (equal_weights,)
    weighings = candidates if loss_weight is None else (given_weights(loss_weight),)
    if loss_weight is not None:
        _ = replace(sample, weigh=weighings[0]).weights  # refused if they are no weights
    try:
        with without_warnings():
            tried = list(_splits(sample, weighings))
    except (MeasureError, *REFUSALS) as error:
        if is_out_of_memory(error):
            raise
        return _in_one_piece(sample, loss_weight)
    for weigh in weighings:
        if all(_adds_up(split, weigh) for split in tried):
            return replace(sample, weigh=None if weigh is equal_weights else weigh)
    if loss_weight is None and all(_adds_up(split, None) for split in tried):
        return replace(sample, summed=True)
    return _in_one_piece(sample, loss_weight)


def loss_adds_up(sample: Objective, output: Any, y: Any, size: int) -> bool:
    """Whether the loss of outputs is that of pieces of `size` examples, with their weights.

    Args:
        sample: The objective with the weights of its examples.
        output: Outputs of the network on some examples.
        y: The target of these examples.
        size: Examples per piece.

    Returns:
        True also for cross-entropy, of which this is known, and for outputs that are not by
        example.
    """
    if isinstance(sample.loss, CrossEntropy) or not _is_by_example(output, examples_in(y)):
        return True
    weigh = None if sample.summed else sample.weigh or equal_weights
    positions = torch.arange(examples_in(y)).split(size)
    with torch.enable_grad():
        return _adds_up(_of_outputs(sample, y, output, positions), weigh)


def _in_one_piece(sample: Objective, loss_weight: Callable[..., Any] | None) -> Objective:
    if loss_weight is not None:
        raise MeasureError(
            "with the weights of loss_weight the losses of parts do not add up to the loss of the "
            "whole; loss_weight(target) must return what the loss divides its sum by, such as the "
            "number of tokens that count"
        )
    return replace(sample, whole=sample.whole or NO_MEAN)


def _is_separate(sample: Objective, x: Inputs, n: int) -> bool:
    """Whether the examples have the same output together and in two parts."""
    whole = tensors_in(sample.output(x))
    half = n - n // 2
    parts = [
        tensors_in(sample.output(chosen(x, torch.arange(start, stop))))
        for start, stop in ((0, half), (half, n))
    ]
    for together, *apart in zip(whole, *parts, strict=True):
        if not together.ndim or together.shape[1:] != apart[0].shape[1:]:
            continue  # not by example, such as a loss
        if not together.isfinite().all():
            continue  # its place is named later
        if sum(map(len, apart)) == len(together):
            joined = torch.cat(apart)
            if joined.shape != together.shape or not _close(
                [joined], [together], _ROUNDINGS_OF_NETWORK
            ):
                return False
    return True


def _runs_whole(sample: Objective) -> bool:
    try:
        with torch.no_grad():
            sample.output(sample.batches[0][0])
    except (MeasureError, *REFUSALS) as error:
        if is_out_of_memory(error):
            raise
        return False  # raised again, with its place, when the sample is measured
    return True


def _splits(sample: Objective, weighings: Sequence[Weigh]) -> Iterator[_Split]:
    """The loss of examples, beside those of their parts."""
    x, y = _largest(sample.batches)
    n = examples_in(x)
    few = spread(n, n if sample.whole else _PROBED)
    with torch.no_grad():
        output = sample.output(chosen(x, few))
    if _is_by_example(output, len(few)):
        for target in _targets(sample.batches):
            yield _of_repeated_outputs(sample, target, output, len(few))
        return
    probe = chosen((x, y), _most_uneven((x, y), weighings))
    size = examples_in(probe[0])
    for first in {1, size - 1} - {0, size}:
        at = torch.arange(size)
        parts = [chosen(probe, at[:first]), chosen(probe, at[first:])]
        yield _through_network(sample, probe), [_through_network(sample, part) for part in parts]


def _is_by_example(output: Any, n: int) -> bool:
    """Whether all real tensors of an output have n examples."""
    leaves = [leaf for leaf in tensors_in(output) if leaf.is_floating_point()]
    return all(leaf.ndim and len(leaf) == n for leaf in leaves)


def _largest(batches: Sequence[Batch]) -> Batch:
    """The largest batch; if all hold one example, a few of the same shape as one batch."""
    found = max(batches, key=lambda batch: examples_in(batch[0]))
    if examples_in(found[0]) > 1:
        return found
    shapes = [leaf.shape for leaf in tensors_in(found)]
    alike = [b for b in batches if [leaf.shape for leaf in tensors_in(b)] == shapes]
    return joined([alike[int(i)] for i in spread(len(alike), _PROBED)])


def _targets(batches: Sequence[Batch]) -> list[Any]:
    """All targets as one; a few of the batches if they cannot be joined."""
    targets = [y for _, y in batches]
    if all(isinstance(y, Tensor) and y.shape[1:] == targets[0].shape[1:] for y in targets):
        return [torch.cat(targets)]
    return [targets[int(i)] for i in spread(len(targets), _BATCHES)]


def _most_uneven(batch: Batch, weighings: Sequence[Weigh]) -> Tensor:
    """Positions of a few examples, with the largest and smallest weights among them."""
    n = examples_in(batch[0])
    found = set(spread(n, _PROBED).tolist())
    for weigh in weighings:
        weights = weigh(batch)
        found |= {int(weights.argmin()), int(weights.argmax())}
    return torch.tensor(sorted(found))


def spread(n: int, count: int) -> Tensor:
    """Positions of at most `count` of n examples, spread evenly."""
    return torch.linspace(0, n - 1, min(n, count)).round().long().unique()


def _of_repeated_outputs(sample: Objective, target: Any, output: Any, rows: int) -> _Split:
    """Losses of all targets with a few outputs, repeated: the network itself is not needed."""
    n = examples_in(target)
    width = max(1, sum(leaf[0].numel() for leaf in tensors_in(output)))

    def losses(count: int) -> _Split:
        y = chosen(target, spread(n, max(rows, count)))
        everything = torch.arange(examples_in(y))
        return _of_outputs(sample, y, chosen(output, everything % rows), _pieces(everything))

    most = max(rows, min(n, _TILED // width))
    return halved_on_out_of_memory(losses, most, sample.model)[0]


def _of_outputs(sample: Objective, y: Any, output: Any, pieces: Sequence[Tensor]) -> _Split:
    """The loss of outputs, one for each target, beside those of pieces of them."""

    def part(at: Tensor) -> _Part:
        # a copy, the start of its own graph
        given = mapped(chosen(output, at), lambda leaf: leaf.detach().clone())
        leaves = [leaf for leaf in tensors_in(given) if leaf.is_floating_point()]
        for leaf in leaves:
            leaf.requires_grad_()
        own = chosen(y, at)
        # not the leaves, which a loss cannot write into in place
        value = sample.loss_at(mapped(given, Tensor.clone), own, sample.temperatures[0])
        return _Part((own, own), value.detach(), _gradient(value, leaves), by_rows=True)

    return part(torch.arange(examples_in(y))), [part(at) for at in pieces]


def _pieces(positions: Tensor) -> tuple[Tensor, ...]:
    """Uneven pieces, small ones first."""
    sizes: list[int] = []
    rest = len(positions)
    for size in chain(_PIECES, repeat(max(_LAST_PIECE, rest // _MOST_PIECES | 1))):
        if not rest:
            return positions.split(sizes)
        sizes.append(min(size, rest))
        rest -= sizes[-1]
    raise AssertionError("unreachable")


def _through_network(sample: Objective, batch: Batch) -> _Part:
    """The loss of a batch, and its gradient by the parameters."""
    value = sample.loss_at(sample.output(batch[0]), batch[1], sample.temperatures[0])
    with derivatives_explained(sample, 1):
        gradient = _gradient(value, list(sample.parameters.values()))
    return _Part(batch, value.detach(), gradient, by_rows=False)


def _gradient(value: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(value, leaves, materialize_grads=True))


def _adds_up(split: _Split, weigh: Weigh | None) -> bool:
    """Whether the losses of the parts, weighed, add up to that of the whole; None adds them."""
    whole, parts = split
    total = 1.0 if weigh is None else float(weigh(whole.batch).sum())
    if not 0 < total < math.inf:
        return False
    shares = [1.0 if weigh is None else float(weigh(p.batch).sum()) / total for p in parts]
    # a part without weight has no loss: its mean over nothing is NaN
    values = [p.value * share for p, share in zip(parts, shares, strict=True) if share]
    sizes = torch.stack([whole.value, *values]).abs()
    apart = float((torch.stack(values).sum() - whole.value).abs())
    roundings = _ROUNDINGS if whole.by_rows else _ROUNDINGS_OF_NETWORK
    if not apart <= roundings * torch.finfo(sizes.dtype).eps * float(sizes.max()):
        return False
    return _close(_added(parts, shares), whole.gradient, roundings)


def _added(parts: Sequence[_Part], shares: Sequence[float]) -> list[Tensor]:
    """The gradient that the parts add up to."""
    scaled = [
        [g * share if share else torch.zeros_like(g) for g in part.gradient]
        for part, share in zip(parts, shares, strict=True)
    ]
    columns = zip(*scaled, strict=True)
    if parts[0].by_rows:
        return [torch.cat(column) for column in columns]
    return [torch.stack(column).sum(0) for column in columns]


@contextmanager
def without_warnings() -> Iterator[None]:
    """Context for trials on a few examples, which may lack what the whole sample has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _close(first: Sequence[Tensor], second: Sequence[Tensor], roundings: int) -> bool:
    apart = sum(float((a - b).double().square().sum()) for a, b in zip(first, second, strict=True))
    norm = sum(float(b.double().square().sum()) for b in second)
    tolerance = roundings * max(torch.finfo(b.dtype).eps for b in second)
    return apart <= tolerance**2 * norm
