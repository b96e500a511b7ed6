"""One training on several processes: each takes its share of every batch, and gradients are added.

All ranks draw the same batches and the same crops, so that the images of a step are those of one
process. Batch norms normalise each share by its own statistics. Running statistics are those of
rank 0, which the others take over after every epoch, so that all ranks hold one network.

`DistributedDataParallel` is not used: it arranges its buckets anew after the first step, so that
three ranks or more that go on from a checkpoint would add up in another order than those that never
stopped, and it averages over the ranks however many images each has, of which none may be without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz.errors import PresetError, TrainingError
from pruneviz.experiment.images import normalise
from pruneviz.experiment.step import Step, output_of
from pruneviz.measuring.bits import network_digest
from pruneviz.measuring.ranks import ALONE, Ranks

_LEAST = 2  # images of a share: batch norms have no statistics of a single one


def share_of(images: int, ranks: Ranks) -> slice:
    """Which images of a batch a rank trains on; all are those of rank 0 if they are too few."""
    if images < _LEAST * ranks.count:
        return slice(0, images if ranks.is_first else 0)
    start, stop = (images * number // ranks.count for number in (ranks.number, ranks.number + 1))
    return slice(start, stop)


def check_batch(batch_size: int, ranks: Ranks) -> None:
    """Check that a batch has images for all ranks.

    Raises:
        PresetError: If it has too few.
    """
    if not ranks.is_alone and batch_size < _LEAST * ranks.count:
        raise PresetError(
            f"a batch of {batch_size} images is too small for {ranks.count} processes, which need "
            f"{_LEAST} each; start at most {batch_size // _LEAST}"
        )


@dataclass(eq=False, repr=False)
class SharedStep(Step):
    """One step of gradient descent on a batch of which every rank has a share.

    Args:
        ranks: The processes; the others are as of `Step`.
    """

    ranks: Ranks = ALONE

    def __call__(self, chosen: Tensor) -> None:
        """Take a step with the gradients of the mean loss over the whole batch.

        Args:
            chosen: Positions of the batch among the training images, int64 [batch]; equal on all
                ranks.

        Raises:
            TrainingError: If another rank has ended.
        """
        images, y = self.batch(chosen)
        mine = share_of(len(y), self.ranks)
        self.optimizer.zero_grad(set_to_none=True)
        told = torch.zeros_like(self.totals)
        if mine.stop > mine.start:
            output = output_of(self.network, normalise(images[mine]), self.precision)
            loss = F.cross_entropy(output / self.temperature, y[mine], reduction="sum")
            (loss / len(y)).backward()
            hits = (output.argmax(1) == y[mine]).sum()
            told = torch.stack([loss.detach(), hits.to(loss.dtype)])
        self.totals += self._added([*self.network.parameters()], told)
        self.optimizer.step()

    def _added(self, parameters: Sequence[nn.Parameter], told: Tensor) -> Tensor:
        """Add up gradients and further numbers over the ranks, in one message.

        Returns:
            The sums of the further numbers.
        """
        own = [_gradient(parameter) for parameter in parameters]
        flat = torch.cat([*(gradient.reshape(-1) for gradient in own), told.reshape(-1)])
        with ended_ranks(self.ranks):
            dist.all_reduce(flat)
        *sums, told = flat.split([*(gradient.numel() for gradient in own), told.numel()])
        for parameter, gradient, added in zip(parameters, own, sums, strict=True):
            parameter.grad = gradient.copy_(added.view(gradient.shape))
        return told


def _gradient(parameter: nn.Parameter) -> Tensor:
    """The gradient of a parameter on this rank; zeros if it has no images."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@contextmanager
def ended_ranks(ranks: Ranks) -> Iterator[None]:
    """Context of a message between the ranks, that explains why it does not get through."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            f"rank {ranks.number} waits for ranks of which one has ended or cannot be reached; the "
            "run goes on from its last checkpoint when the command is repeated"
        ) from error


def make_equal(network: nn.Module, generator: torch.Generator, ranks: Ranks, epoch: int) -> None:
    """Give all ranks the running statistics of rank 0, and check that they hold one network.

    Args:
        network: The network of this rank.
        generator: Generator of its batches.
        ranks: The processes.
        epoch: Number of epochs trained, for errors.

    Raises:
        TrainingError: If a rank holds another network, or would draw other batches; on all ranks.
    """
    if ranks.is_alone:
        return
    where = f"the end of epoch {epoch}"
    ranks.take_first(where, [*network.buffers()])
    draws = hashlib.sha256(generator.get_state().numpy().tobytes()).hexdigest()
    here = {"network": network_digest(network)(), "random generator": draws}
    first = ranks.first(where, lambda: here)
    differing = next((name for name in here if here[name] != first[name]), "")
    found = f"rank {ranks.number} has another {differing} than rank 0" if differing else ""
    found = ranks.reason(where, found)
    if found:
        raise TrainingError(
            f"after epoch {epoch} {found}, so the ranks do not compute alike; repeat the command, "
            "which goes on from the last checkpoint, with equal machines and equal packages"
        )
