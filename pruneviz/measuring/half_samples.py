"""Two disjoint halves of a measurement sample, to see how much of a number is the sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruneviz.errors import DataError
from pruneviz.log import schema
from pruneviz.measuring.options import Options
from pruneviz.measuring.strata import class_labels, stated_weights
from pruneviz.model.sample import Batch, chosen, examples_in, sample_size

HALVES = ("A", "B")


def half_samples(
    batches: Sequence[Batch], options: Options, whole: str = ""
) -> dict[str, list[Batch]]:
    """Split a sample into two halves of equal size.

    Examples of every class alternate between the halves, so that both have equally many of it;
    examples without classes, or with strata=None, alternate in their order. An odd one of a class
    is in neither half, nor is an example without a weight in the loss, such as one whose label is
    ignored. Batches that must stay whole alternate instead.

    Args:
        batches: The sample.
        options: Its `strata`, `loss` and `loss_weight`.
        whole: Why batches cannot be split; "" if they may be.

    Returns:
        The batches of half "A" and of half "B".

    Raises:
        DataError: If a class has a single example, there is a single batch that must stay whole, or
            halves of whole batches differ in their size.
    """
    parts = _of_batches(batches, whole) if whole else _of_examples(batches, options)
    return dict(zip(HALVES, parts, strict=True))


def half_size(batches: Sequence[Batch], options: Options, whole: str = "") -> int:
    """Number of examples in each half of a sample; arguments and errors as for `half_samples`."""
    return sample_size(half_samples(batches, options, whole)["A"])


def half_columns(wanted: Sequence[str]) -> tuple[str, ...]:
    """The columns among `wanted` that depend on the sample, without their standard errors."""
    without = {*schema.CHEAP_COLUMNS, *schema.CHANGE_COLUMNS, "theta", "synflow", "fpgm"}
    return tuple(name for name in wanted if name not in without and not _is_error(name))


def _is_error(name: str) -> bool:
    return name.endswith("_se") or "_se_" in name


def _of_batches(batches: Sequence[Batch], whole: str) -> tuple[list[Batch], list[Batch]]:
    pairs = len(batches) // 2
    if not pairs:
        raise DataError(
            f"samples=2 needs at least two batches, as batches stay whole ({whole}), and the "
            "sample has one; give it as a list of batches"
        )
    one, other = list(batches[: 2 * pairs : 2]), list(batches[1 : 2 * pairs : 2])
    if sample_size(one) != sample_size(other):
        raise DataError(
            f"samples=2 would make halves of {sample_size(one)} and {sample_size(other)} examples, "
            "as every second batch is in one; give batches of one size"
        )
    return one, other


def _of_examples(batches: Sequence[Batch], options: Options) -> tuple[list[Batch], list[Batch]]:
    sizes = [examples_in(x) for x, _ in batches]
    half_of = torch.full((sum(sizes),), -1)
    for own in _alternating(batches, options):
        pairs = len(own) // 2
        half_of[own[: 2 * pairs : 2]] = 0
        half_of[own[1 : 2 * pairs : 2]] = 1
    parts = list(zip(batches, half_of.split(sizes), strict=True))
    return _in_half(parts, 0), _in_half(parts, 1)


def _in_half(parts: Sequence[tuple[Batch, Tensor]], half: int) -> list[Batch]:
    """The examples of each batch that are in a half; batches without any are left out."""
    found = []
    for (x, y), half_of in parts:
        places = (half_of == half).nonzero().flatten()
        if len(places):
            inputs = chosen(x, places)
            # a mapping may be inputs and target at once
            found.append((inputs, inputs if y is x else chosen(y, places)))
    return found


def _alternating(batches: Sequence[Batch], options: Options) -> list[Tensor]:
    """Positions of the examples of each class that count, or of all if there are no classes."""
    weights = stated_weights(batches, options)
    counted = torch.ones(sample_size(batches), dtype=torch.bool) if weights is None else weights > 0
    labels = None if options.strata is None else class_labels(batches)
    if labels is None:
        own = counted.nonzero().flatten()
        if len(own) < 2:
            raise DataError(
                f"samples=2 needs two examples with a weight in the loss at least, and the sample "
                f"has {len(own)}; give a larger sample"
            )
        return [own]
    found = {
        int(label): ((labels == label) & counted).nonzero().flatten()
        for label in labels[counted].unique()
    }
    for label, own in found.items():
        if len(own) < 2:
            raise DataError(
                f"samples=2 needs two examples of every class at least, and class {label} has one; "
                "give a larger sample, leave the class out, or pass strata=None if labels are no "
                "classes"
            )
    return list(found.values())
