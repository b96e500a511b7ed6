"""Each rank's share of a sample: a run of examples, or of whole batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from pruneviz.model.sample import Batch, examples_in, part_of


def share_of(sizes: Sequence[int], number: int, count: int, *, whole: bool) -> range:
    """The positions of the examples that one of several ranks measures.

    Shares follow each other and are about equally large. No rank gets a single example of a larger
    batch, with which some networks do not run; a share may be empty.

    Args:
        sizes: Examples in each batch.
        number: The rank.
        count: Number of ranks.
        whole: Whether batches stay whole.
    """
    edges = [0, *accumulate(sizes)]
    start, stop = (_cut(edges, edges[-1] * n / count, whole=whole) for n in (number, number + 1))
    return range(start, stop)


def pieces(batches: Iterable[Batch], own: range) -> Iterator[Batch]:
    """What of each batch is in a share; batches without any of it are left out."""
    start = 0
    for x, y in batches:
        n = examples_in(x)
        first, last = max(own.start - start, 0), min(own.stop - start, n)
        start += n
        if (first, last) == (0, n):
            yield x, y
        elif first < last:
            inputs = part_of(x, first, last)
            # a mapping may be inputs and target at once
            yield inputs, inputs if y is x else part_of(y, first, last)


def _cut(edges: Sequence[int], at: float, *, whole: bool) -> int:
    """The position nearest to a place where the sample may be cut."""
    if whole:
        return min(edges, key=lambda edge: abs(edge - at))
    start = max(edge for edge in edges if edge <= at)
    stop = min((edge for edge in edges if edge > at), default=start)
    cut = start + 2 * round((at - start) / 2)  # no two cuts of a batch are one example apart
    return stop if stop - cut < 2 and cut > start else cut
