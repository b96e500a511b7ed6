"""Losses, and the weight that each example has in their mean.

A loss is a mean over examples with weights: the loss of a sample is the sum of w l / W over its
parts, with w the weight of a part and W that of the whole sample. For a plain mean every example
weighs 1. A cross-entropy with class weights or ignored labels divides by the weights of the labels
it has met, and a loss over tokens by their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz.errors import MeasureError
from pruneviz.measuring.outputs import own_loss
from pruneviz.model.sample import Batch, examples_in, split

Loss: TypeAlias = Callable[[Any, Any], Tensor]
Weigh: TypeAlias = Callable[[Batch], Tensor]  # a batch -> float64 weights of its examples

_FUNCTIONS = (F.cross_entropy, F.nll_loss)
_MODULES: Mapping[type[nn.Module], Callable[..., Tensor]] = {
    nn.CrossEntropyLoss: F.cross_entropy,
    nn.NLLLoss: F.nll_loss,
}
_OPTIONS = ("weight", "ignore_index", "reduction", "label_smoothing")
_IGNORED = -100  # torch's default for labels without a loss


@dataclass(frozen=True, eq=False, repr=False)
class CrossEntropy:
    """`F.cross_entropy` or `F.nll_loss` with options, as a callable of (output, target).

    Attributes:
        function: One of these functions.
        weight: Weight of each class; None for equal weights.
        ignore_index: Label of positions without a loss.
        reduction: "mean" or "sum".
        label_smoothing: As for `F.cross_entropy`.
    """

    function: Callable[..., Tensor] = F.cross_entropy
    weight: Tensor | None = None
    ignore_index: int = _IGNORED
    reduction: str = "mean"
    label_smoothing: float = 0.0

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        options: dict[str, Any] = {"ignore_index": self.ignore_index, "reduction": self.reduction}
        if self.label_smoothing:
            options["label_smoothing"] = self.label_smoothing
        if self.weight is not None:
            options["weight"] = self.weight.to(output)
        try:
            return self.function(output, target, **options)
        except (RuntimeError, ValueError) as error:
            of_labels = (*output.shape[:1], *output.shape[2:])
            if target.shape in (output.shape, of_labels):
                raise
            raise MeasureError(
                f"targets of shape {tuple(target.shape)} do not fit outputs of shape "
                f"{tuple(output.shape)}; give labels of shape {of_labels}, or probabilities of the "
                "outputs' shape, in every batch"
            ) from error

    def weights(self, batch: Batch) -> Tensor:
        """The sum of the class weights over the labels of each example.

        Of probabilities the number of positions of each example: torch takes their mean over the
        positions, whatever the class weights.
        """
        y = batch[1]
        if y.is_floating_point():
            positions = y[0, :1].numel() if len(y) and y.ndim > 1 else 1
            return torch.full((len(y),), positions, dtype=torch.float64, device=y.device)
        counted = y != self.ignore_index
        weights = counted.double()
        if self.weight is not None:
            by_class = self.weight.detach().to(y.device, torch.float64)
            weights = weights * by_class[y.long().where(counted, 0)]
        return weights.reshape(len(y), -1).sum(1)


def understood(loss: Loss | None) -> CrossEntropy | None:
    """A loss as a cross-entropy with its options; None if it is another one."""
    if loss is None or loss in _FUNCTIONS:
        return CrossEntropy(loss or F.cross_entropy)
    options: Mapping[str, Any] = {}
    function = _MODULES.get(type(loss))  # type: ignore[arg-type]
    if function is not None:
        options = {name: getattr(loss, name) for name in _OPTIONS if hasattr(loss, name)}
    elif isinstance(loss, partial) and loss.func in _FUNCTIONS and not loss.args:
        function, options = loss.func, loss.keywords
    usable = set(options) <= set(_OPTIONS) and options.get("reduction", "mean") != "none"
    weight = options.get("weight")
    if function and usable and not (weight is None or isinstance(weight, Tensor)):
        raise MeasureError(
            f"the weight of the classes is a {type(weight).__name__}; give a tensor, as torch does"
        )
    return CrossEntropy(function, **options) if function and usable else None


def loss_of_output(output: Any, target: Any) -> Tensor:
    """The loss that a network computes by itself, as a callable of (output, target).

    Raises:
        MeasureError: If there is none.
    """
    found = own_loss(output)
    if found is None:
        raise MeasureError(
            "the model's output has a loss for some batches only; pass loss=callable"
        )
    return found


def equal_weights(batch: Batch) -> Tensor:
    """The weight 1 for every example."""
    return torch.ones(examples_in(batch[0]), dtype=torch.float64)


def given_weights(loss_weight: Callable[..., Any]) -> Weigh:
    """Weights of examples from a callable of their target.

    Args:
        loss_weight: Callable of a target that returns the weight of its examples: a tensor of any
            shape, whose entries are added up, or their total as one number.
    """

    def weigh(batch: Batch) -> Tensor:
        n, given = examples_in(batch[0]), loss_weight(batch[1])
        if isinstance(given, Tensor) and given.ndim and len(given) == n:
            return given.detach().double().reshape(n, -1).sum(1)
        if n == 1:
            return torch.as_tensor(given).detach().double().sum().reshape(1).cpu()
        return torch.cat([weigh((x, y)) for x, y in _one_by_one(batch)])

    return weigh


def label_weights() -> tuple[Weigh, ...]:
    """Weights that networks with a loss of their own use: tokens with a label, or examples.

    A network that predicts the next token has no loss for the first label of a sequence.
    """
    return _labelled, _labelled_from_second, equal_weights


def labels_of(batch: Batch) -> Tensor | None:
    """The labels among the keyword arguments of a network."""
    found = batch[0].get("labels") if isinstance(batch[0], Mapping) else None
    return found if isinstance(found, Tensor) else None


def own_label_weights(batch: Batch) -> Tensor:
    """Labels of each example that may have a loss, with those of sequences from the second on.

    A network with a loss of its own may have one for the first label, too; an example that has no
    other is then taken for one without a weight.
    """
    labels = labels_of(batch)
    several = labels is not None and labels.ndim > 1 and labels.shape[1] > 1
    return _labelled_from_second(batch) if several else _labelled(batch)


def _labelled(batch: Batch) -> Tensor:
    labels = labels_of(batch)
    return equal_weights(batch) if labels is None else _counted(labels)


def _labelled_from_second(batch: Batch) -> Tensor:
    labels = labels_of(batch)
    if labels is None or labels.ndim < 2:
        return equal_weights(batch)
    return _counted(labels[:, 1:])


def _counted(labels: Tensor) -> Tensor:
    return (labels != _IGNORED).reshape(len(labels), -1).sum(1, dtype=torch.float64)


def _one_by_one(batch: Batch) -> list[Batch]:
    return list(zip(split(batch[0], 1), split(batch[1], 1), strict=True))
