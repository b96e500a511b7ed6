"""The loss of a model on a sample, as a function that can be differentiated chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pruneviz.errors import MeasureError
from pruneviz.measuring.losses import CrossEntropy, Loss, Weigh
from pruneviz.measuring.outputs import logits_of
from pruneviz.measuring.ranks import ALONE, Ranks
from pruneviz.measuring.shares import pieces, share_of
from pruneviz.model.one_dtype import dtypes_explained, in_one_dtype
from pruneviz.model.sample import (
    Batch,
    Forward,
    Inputs,
    call_with,
    examples_in,
    first_of,
    mapped,
    sample_size,
    split,
    tensors_in,
)

NamedTensors: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True, repr=False)
class Objective:
    """The loss L(Theta) on a sample: the mean over its examples of loss(output / T, target).

    Attributes:
        model: The network, already in the mode for measuring.
        parameters: Theta by name, in the measuring dtype and memory layout.
        buffers: The model's buffers by name, and parameters that are not in Theta.
        batches: Inputs and targets of the sample, as in `pruneviz.model.sample`.
        temperatures: One loss per temperature T.
        loss: Callable of (output, target).
        whole: Why every batch is one chunk, such as examples that share statistics; "" if batches
            may be split.
        kept: {parameter: boolean tensor}, False at pruned entries, where every derivative is 0.
        channels_last: Whether four-dimensional parameters and chunks are channels last.
        forward: Callable of (model, inputs) that calls the network; None for `model(inputs)`.
        logits_only: Whether `output` returns the logits of the network's output alone.
        weigh: Weights of examples in the mean; None for equal weights.
        summed: Whether the loss is a sum over examples, not a mean.
        complex: Names of complex parameters; Theta has their real and imaginary parts [..., 2].
        versions: Version counters of the parameters, by which writing into them is noticed.
        settled: {parameter: values} that a pass over the whole sample leaves, of embeddings that
            renormalise what they are asked for.
        ranks: The processes that share the sample.
    """

    model: nn.Module
    parameters: NamedTensors
    buffers: NamedTensors
    batches: Sequence[Batch]
    temperatures: tuple[float, ...]
    loss: Loss = field(default_factory=CrossEntropy)
    whole: str = ""
    kept: NamedTensors = field(default_factory=dict)
    channels_last: bool = False
    forward: Forward | None = None
    logits_only: bool = False
    weigh: Weigh | None = None
    summed: bool = False
    complex: frozenset[str] = frozenset()
    versions: dict[str, int] = field(default_factory=dict)
    settled: NamedTensors = field(default_factory=dict)
    ranks: Ranks = ALONE

    @property
    def examples(self) -> int:
        """Number of examples in the sample."""
        return sample_size(self.batches)

    @property
    def rechunk(self) -> bool:
        """Whether batches may be split into chunks."""
        return not self.whole

    @property
    def device(self) -> torch.device:
        """The sample's device."""
        return tensors_in(self.batches[0])[0].device

    @cached_property
    def weights(self) -> Tensor | None:
        """The weight of every example, float64; None for equal weights."""
        if self.weigh is None:
            return None
        found = torch.cat([self.weigh(batch).cpu() for batch in self.batches])
        if not found.isfinite().all() or (found < 0).any() or not found.sum() > 0:
            raise MeasureError(
                f"the loss weights of the examples run from {float(found.min())} to "
                f"{float(found.max())}; they must be finite, 0 or more, and not all 0"
            )
        return None if bool((found == found[0]).all()) else found

    def share(self, batch: Batch) -> float:
        """The factor of a part's loss in the loss of the sample."""
        if self.summed:
            return 1.0
        if self.weigh is None or self.weights is None:
            return examples_in(batch[0]) / self.examples
        return float(self.weigh(batch).sum()) / float(self.weights.sum())

    def relative_weights(self, batch: Batch) -> Tensor | None:
        """The weight of every example of a batch relative to the mean; None for equal weights."""
        if self.weigh is None or self.weights is None:
            return None
        return self.weigh(batch).cpu() / self.weights.mean()

    @cached_property
    def own(self) -> range:
        """Positions of this rank's examples; those of whole batches if they are not split."""
        sizes = [examples_in(x) for x, _ in self.batches]
        return share_of(sizes, self.ranks.number, self.ranks.count, whole=bool(self.whole))

    def own_chunks(self, chunk: int) -> Iterator[Batch]:
        """`chunks` of this rank's share of the sample."""
        return self._chunks(pieces(self.batches, self.own), chunk)

    def chunks(self, chunk: int) -> Iterator[Batch]:
        """Split the sample into at most `chunk` examples, or into batches without `rechunk`."""
        return self._chunks(self.batches, chunk)

    def _chunks(self, batches: Iterable[Batch], chunk: int) -> Iterator[Batch]:
        for x, y in batches:
            if self.whole:
                yield mapped(x, self.laid_out), y
                continue
            for part, of_part in zip(split(x, chunk), split(y, chunk), strict=True):
                yield mapped(part, self.laid_out), of_part

    def laid_out(self, tensor: Tensor) -> Tensor:
        """Convert a tensor to the memory layout of this objective."""
        if tensor.layout != torch.strided:
            return tensor
        turned = self.channels_last and tensor.ndim == 4
        form = torch.channels_last if turned else torch.contiguous_format
        return tensor.contiguous(memory_format=form)

    def output(self, x: Inputs) -> Any:
        """The network's output. Its graph reaches `parameters`; buffers stay as they are."""
        self.undo_writing()
        copies = {name: buffer.clone() for name, buffer in self.buffers.items()}
        state = {**self.as_called(self.parameters), **copies}
        with dtypes_explained(self.parameters):
            return self.read(call_with(self.model, state, x, self.forward))

    def as_called(self, parameters: NamedTensors) -> NamedTensors:
        """Parts of Theta as the network takes them, complex ones from their real parts."""
        return {
            name: torch.view_as_complex(p.contiguous()) if name in self.complex else p
            for name, p in parameters.items()
        }

    def undo_writing(self) -> None:
        """Undo what the network wrote into its parameters, or froze, in the pass before."""
        for name, p in self.parameters.items():
            if p._version != self.versions.setdefault(name, p._version):
                live = self.settled.get(name, self.model.get_parameter(name).detach())
                with torch.no_grad():
                    p.copy_(torch.view_as_real(live) if name in self.complex else live)
                self.versions[name] = p._version
            p.requires_grad_()

    def read(self, output: Any) -> Any:
        """The part of a network's output that the loss takes."""
        return logits_of(output) if self.logits_only else output

    def losses(self, x: Inputs, y: Any) -> list[Tensor]:
        """A chunk's part of L at every temperature, from one forward pass."""
        output, share = self.output(x), self.share((x, y))
        if not share:  # a mean over nothing would be 0/0
            return [_nothing(output, self.parameters) for _ in self.temperatures]
        # scaled first, because a loss may write into its arguments in place
        scaled = [_scaled(output, t) for t in self.temperatures]
        return [self.loss_of(part, y) * share for part in scaled]

    def loss_at(self, output: Any, y: Any, temperature: float) -> Tensor:
        """The loss of an output at one temperature."""
        return self.loss_of(_scaled(output, temperature), y)

    def loss_of(self, output: Any, y: Any) -> Tensor:
        """The loss of an output."""
        if not isinstance(self.loss, CrossEntropy):
            y = mapped(y, Tensor.clone)
        with dtypes_explained(self.parameters), in_one_dtype(self.parameters):
            return self.loss(output, y)

    def first_examples(self) -> Batch:
        """Two examples, or a whole batch without `rechunk`.

        Copied, because a slice would keep the memory of its batch.
        """
        x, y = (first_of(part, 2 if self.rechunk else None) for part in self.batches[0])
        return mapped(x, lambda leaf: self.laid_out(leaf).clone()), mapped(y, Tensor.clone)


def _nothing(output: Any, parameters: NamedTensors) -> Tensor:
    """Zero, with the graph of an output; not that of its own loss, whose gradient is 0/0 too."""
    reached = [t for t in tensors_in(output) if t.requires_grad and t.ndim]
    nothing: Tensor = sum(t.sum() for t in reached or parameters.values()) * 0.0  # type: ignore[assignment]
    return nothing


def _scaled(output: Any, temperature: float) -> Any:
    return output if temperature == 1 else output / temperature
