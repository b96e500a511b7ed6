"""Two disjoint halves of a measurement sample, to see how much of a number is the sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pruneviz.errors import DataError
from pruneviz.log import schema
from pruneviz.model.sample import Batch, chosen, examples_in, sample_size

HALVES = ("A", "B")


def half_samples(batches: Sequence[Batch], whole: str = "") -> dict[str, list[Batch]]:
    """Split a sample into two halves of equal size.

    Examples of every class alternate between the halves, so that both have equally many of it;
    examples without classes alternate in their order. An odd one of a class is in neither half.
    Batches that must stay whole alternate instead.

    Args:
        batches: The sample.
        whole: Why batches cannot be split; "" if they may be.

    Returns:
        The batches of half "A" and of half "B".

    Raises:
        DataError: If a class has a single example, there is a single batch that must stay whole, or
            halves of whole batches differ in their size.
    """
    parts = _of_batches(batches, whole) if whole else _of_examples(batches)
    return dict(zip(HALVES, parts, strict=True))


def half_size(batches: Sequence[Batch], whole: str = "") -> int:
    """Number of examples in each half of a sample; arguments and errors as for `half_samples`."""
    return sample_size(half_samples(batches, whole)["A"])


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


def _of_examples(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    sizes = [examples_in(x) for x, _ in batches]
    half_of = torch.full((sum(sizes),), -1)
    for own in _alternating([y for _, y in batches], sum(sizes)):
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


def _alternating(targets: Sequence[Any], examples: int) -> list[Tensor]:
    """Positions of the examples of each class; of all examples if there are no classes."""
    classes = [_classes(target) for target in targets]
    known = [labels for labels in classes if labels is not None]
    if len(known) < len(classes):
        if examples < 2:
            raise DataError("samples=2 needs two examples at least, and the sample has one")
        return [torch.arange(examples)]
    labels = torch.cat(known)
    found = {int(label): (labels == label).nonzero().flatten() for label in labels.unique()}
    for label, own in found.items():
        if len(own) < 2:
            raise DataError(
                f"samples=2 needs two examples of every class at least, and class {label} has one; "
                "give a larger sample, or leave the class out"
            )
    return list(found.values())


def _classes(target: Any) -> Tensor | None:
    """Labels [N] that are classes; None for any other target."""
    labels = target.get("labels") if isinstance(target, Mapping) else target
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point():
        return None
    return labels.cpu()
