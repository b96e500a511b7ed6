"""The measurement sample as a list of checked batches on the model's device.

A batch is (inputs, target). Inputs are a tensor, a mapping of keyword arguments or a tuple of
positional arguments; a target is a tensor, or a mapping or sequence of tensors. The first dimension
of every tensor counts the examples.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import Dataset, IterableDataset

from pruneviz.errors import DataError, MeasureError
from pruneviz.model.attributes import one_pass
from pruneviz.model.one_dtype import in_one_dtype
from pruneviz.model.own_gradients import retried_with_gradients
from pruneviz.model.stand_ins import every_place, stand_ins
from pruneviz.model.supported import forward_explained, not_nested, rows_of

Inputs: TypeAlias = Any  # a tensor, or a mapping or sequence of tensors
Batch: TypeAlias = tuple[Inputs, Any]
Sample: TypeAlias = Any  # a batch, or an iterable of batches
Forward: TypeAlias = Callable[[nn.Module, Any], Any]

_EXPECTED = "the sample must be a pair of tensors (inputs, targets) or an iterable of such pairs"
_MARK = "network."


def model_device(model: nn.Module) -> torch.device:
    """The device of the model's first parameter; the CPU if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def model_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the model's first floating-point parameter; float32 if it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def measuring_dtype(model: nn.Module, chosen: torch.dtype | None = None) -> torch.dtype:
    """The dtype that a model is measured in.

    Args:
        model: The model.
        chosen: A dtype that a person chose. Default: the widest of the model's parameters, and
            float32 at least, because half precision is too coarse for derivatives.
    """
    if chosen is not None:
        return chosen
    wide = torch.float64 in {p.dtype for p in model.parameters()}
    return torch.float64 if wide else torch.float32


def call_model(model: nn.Module, inputs: Inputs, forward: Forward | None = None) -> Any:
    """Call a network on the inputs of a batch.

    Args:
        model: The network.
        inputs: A mapping is passed as keyword arguments, a tuple or list as positional ones.
        forward: Callable of (model, inputs) that calls the network instead.

    Returns:
        The network's output.

    Raises:
        MeasureError: If the network does not take these arguments.
    """
    if forward is not None:
        return forward(model, inputs)
    args, kwargs = _arguments(model, inputs)
    return model(*args, **kwargs)


@retried_with_gradients
def call_with(
    model: nn.Module,
    state: Mapping[str, Tensor],
    inputs: Inputs,
    forward: Forward | None = None,
) -> Any:
    """`call_model` with other tensors in place of the model's parameters and buffers.

    The network computes in their dtype, if they share one, whatever casts it makes.

    Args:
        model: The network.
        state: Tensors by name; parameters and buffers that are not named stay.
        inputs, forward: As for `call_model`.
    """
    # a copy, because a network may write into its inputs in place
    inputs = mapped(inputs, Tensor.clone)
    with forward_explained(model), one_pass(model), stand_ins(model, state), in_one_dtype(state):
        # each place once: torch leaves the new tensors in modules that are registered twice
        state = every_place(model, state)
        if forward is None:
            args, kwargs = _arguments(model, inputs)
            return functional_call(model, state, args, kwargs, tie_weights=False)
        named = {f"{_MARK}{name}": tensor for name, tensor in state.items()}
        return functional_call(_Called(model, forward), named, (inputs,), tie_weights=False)


def tensors_in(tree: Any) -> list[Tensor]:
    """All tensors in a mapping, sequence or dataclass, in order."""
    return list(_leaves(tree))


def arrays_in(tree: Any) -> list[np.ndarray]:
    """All NumPy arrays in a mapping, sequence or dataclass, in order."""
    if isinstance(tree, np.ndarray):
        return [tree]
    held = [] if isinstance(tree, Tensor) else _values(tree)
    return [array for value in held for array in arrays_in(value)]


def mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A mapping, sequence or dataclass with every tensor changed; other values stay."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return _like(tree, {key: mapped(value, change) for key, value in tree.items()})
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(value, change) for value in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(mapped(value, change) for value in tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        new = {f.name: mapped(getattr(tree, f.name), change) for f in fields(tree) if f.init}
        return replace(tree, **new)
    return tree


def examples_in(inputs: Inputs) -> int:
    """Number of examples: the first dimension of the first tensor that has dimensions."""
    return next((len(leaf) for leaf in _leaves(inputs) if leaf.ndim), 0)


def joined(trees: Sequence[Any]) -> Any:
    """Mappings or sequences of the same structure as one, with the examples of all.

    Raises:
        RuntimeError: If tensors cannot be joined.
    """
    columns = zip(*map(tensors_in, trees), strict=True)
    found = iter([torch.cat(leaves) if leaves[0].ndim else leaves[0] for leaves in columns])
    return mapped(trees[0], lambda leaf: next(found))


def first_of(inputs: Inputs, n: int | None) -> Inputs:
    """The first n examples; None takes all."""
    return inputs if n is None else _slice(inputs, examples_in(inputs), 0, n)


def part_of(inputs: Inputs, start: int, stop: int) -> Inputs:
    """The examples from `start` up to `stop`."""
    return _slice(inputs, examples_in(inputs), start, stop)


def split(inputs: Inputs, n: int) -> Iterator[Inputs]:
    """Split into pieces of at most n examples.

    No last piece is a single example if n > 2: some networks do not run with one.
    Tensors without dimensions, and values that are not tensors, are in every piece.
    """
    examples = examples_in(inputs)
    starts = [*range(0, examples, n), examples]
    if n > 2 and examples > n and examples % n == 1:
        starts[-2] -= 1
    yield from (_slice(inputs, examples, *ends) for ends in pairwise(starts))


def chosen(inputs: Inputs, positions: Tensor) -> Inputs:
    """The examples at the given positions."""
    return mapped(inputs, lambda leaf: leaf[positions.to(leaf.device)] if leaf.ndim else leaf)


def is_splittable(batch: Batch) -> bool:
    """Whether every tensor of a batch has the examples in its first dimension.

    A list without tensors, such as one of texts, cannot be split either.
    """
    leaves = [leaf for leaf in _leaves(batch) if leaf.ndim]
    return len({len(leaf) for leaf in leaves}) == 1 and not _has_other_lists(batch)


def as_batches(
    sample: Sample, device: torch.device, dtype: torch.dtype, forward: Forward | None = None
) -> list[Batch]:
    """The sample as batches of (inputs, target).

    Args:
        sample: A pair (inputs, target) or a mapping is one batch; anything else is iterated over
            once. A mapping without a target holds it itself, such as under "labels".
        device: Device for the batches.
        dtype: Type for floating-point inputs and targets.
        forward: If given, a batch may be anything with tensors. It is passed on whole as `inputs`;
            its target is the second element of a pair, and the batch itself otherwise.

    Raises:
        DataError: If the sample is empty or not made of batches, inputs and targets differ in
            length, or images are integers that were not normalised.
    """
    batches = list(each_batch(sample, device, dtype, forward))
    if not batches:
        raise DataError(
            "the sample is empty; give at least one (inputs, targets) pair with one example"
        )
    return batches


def each_batch(
    sample: Sample, device: torch.device, dtype: torch.dtype, forward: Forward | None = None
) -> Iterator[Batch]:
    """The batches of `as_batches` one by one; empty ones are left out."""
    for given in [sample] if _is_batch(sample, forward) else _iterated(sample):
        batch = _checked(given, forward)
        if examples_in(batch[0]):
            yield _placed_batch(batch, device, dtype)


def sample_size(batches: Sequence[Batch]) -> int:
    """Number of examples over all batches."""
    return sum(examples_in(x) for x, _ in batches)


class _Called(nn.Module):
    """A network called by a person's own `forward`."""

    def __init__(self, network: nn.Module, call: Forward) -> None:
        super().__init__()
        self.network, self._call = network, call

    def forward(self, inputs: Inputs) -> Any:
        return self._call(self.network, inputs)


def _arguments(model: nn.Module, inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of a call, checked against the network's signature."""
    if isinstance(inputs, Mapping):
        args, kwargs = (), dict(inputs)
    else:
        args, kwargs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,), {}
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # a compiled or scripted network
        return args, kwargs
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = type(model).__name__
        raise MeasureError(
            f"{name}.forward{signature} cannot be called with {_described(inputs)}: {error}; give "
            "the inputs as a tuple of positional arguments, ((x1, x2), target), as a mapping of "
            "keyword arguments, ({'name': x1, ...}, target), or pass forward=callable(model, "
            "batch)"
        ) from None
    return args, kwargs


def _described(inputs: Inputs) -> str:
    if isinstance(inputs, Mapping):
        return f"the keywords {', '.join(map(str, inputs))}"
    return f"{len(inputs)} inputs" if isinstance(inputs, (tuple, list)) else "one input"


def _like(tree: Mapping[Any, Any], content: dict[Any, Any]) -> Any:
    try:
        return type(tree)(content)  # type: ignore[call-arg]
    except TypeError:
        return content


def _leaves(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    else:
        for value in _values(tree):
            yield from _leaves(value)


def _values(tree: Any) -> list[Any]:
    """The values of a mapping, sequence or dataclass; none for anything else."""
    if isinstance(tree, Mapping):
        return list(tree.values())
    if isinstance(tree, (tuple, list)):
        return list(tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        return [getattr(tree, f.name) for f in fields(tree)]
    return []


def _has_other_lists(tree: Any) -> bool:
    values = _values(tree)
    if isinstance(tree, (tuple, list)) and values and not any(map(_is_tree, values)):
        return True
    return any(map(_has_other_lists, values))


def _is_tree(value: Any) -> bool:
    return isinstance(value, Tensor) or value is None or bool(_values(value))


def _slice(tree: Any, examples: int, start: int, stop: int) -> Any:
    def cut(leaf: Tensor) -> Tensor:
        return rows_of(leaf, start, stop) if leaf.ndim and len(leaf) == examples else leaf

    return mapped(tree, cut)


def _is_batch(sample: Any, forward: Forward | None) -> bool:
    """Whether a sample is one batch, not an iterable of batches.

    A tuple of two mappings is inputs and target, a list of two mappings is two batches; two
    sequences are two batches.
    """
    if isinstance(sample, Mapping) or (is_dataclass(sample) and forward is not None):
        return True
    if isinstance(sample, Tensor):
        return forward is not None
    if not isinstance(sample, (tuple, list)) or len(sample) != 2:
        return False
    first, second = sample
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return isinstance(sample, tuple)
    both_lists = isinstance(first, (tuple, list)) and isinstance(second, (tuple, list))
    return not both_lists and all(tensors_in(part) for part in sample)


def _iterated(sample: Any) -> Iterable[Any]:
    if isinstance(sample, Dataset) and not isinstance(sample, IterableDataset):
        raise DataError(
            f"{_EXPECTED}, got {type(sample).__name__}, which gives single examples; "
            "wrap it, as in torch.utils.data.DataLoader(dataset, batch_size=64)"
        )
    if isinstance(sample, Tensor):
        raise DataError(
            f"{_EXPECTED}, got Tensor, inputs without targets; "
            "give both, as in pv.measure(model, (images, labels))"
        )
    if isinstance(sample, nn.Module):
        raise DataError(f"{_EXPECTED}, got a network; call pv.measure(model, sample)")
    if not isinstance(sample, Iterable):
        raise DataError(f"{_EXPECTED}, got {type(sample).__name__}")
    return sample


def _checked(batch: Any, forward: Forward | None) -> Batch:
    """A batch as (inputs, target)."""
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    if forward is not None and tensors_in(batch):
        return batch, batch[1] if pair else batch
    if isinstance(batch, Mapping) and tensors_in(batch):
        return batch, batch
    if not pair or not all(tensors_in(part) for part in batch):
        raise DataError(f"{_EXPECTED}, got {_described_batch(batch)}")
    x, y = batch
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        _check_pair(x, y)
    return x, y


def _described_batch(batch: Any) -> str:
    name = type(batch).__name__
    if not isinstance(batch, (tuple, list)) or len(batch) < 3:
        return name
    return (
        f"{name} of {len(batch)}; give several inputs as ((x1, x2), target), "
        "or pass forward=callable(model, batch)"
    )


def _check_pair(x: Tensor, y: Tensor) -> None:
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise DataError(
            f"inputs of shape {tuple(x.shape)} and targets of shape {tuple(y.shape)} differ in "
            "their number of examples"
        )
    if x.dtype == torch.uint8:
        raise DataError(
            "the inputs are uint8 images; normalise them first, such as with "
            "pruneviz.normalise(images)"
        )


def _placed_batch(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    x, y = (mapped(part, lambda leaf: _placed(leaf, device, dtype)) for part in batch)
    return x, x if batch[1] is batch[0] else y


def _placed(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    placed = not_nested(tensor).to(device, dtype if tensor.is_floating_point() else None).detach()
    # an inference tensor cannot take part in a derivative
    return placed.clone() if placed.is_inference() else placed
