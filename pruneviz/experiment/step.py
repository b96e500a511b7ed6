"""Training steps and their arithmetic precision.

On a CPU a step runs eagerly. On a GPU it is replayed from a CUDA graph, because one step of these
networks is a thousand small kernels, which a GPU runs faster than Python launches them. A graph
launches all at once, but fixes the batch size, the learning rate and all tensor addresses. There is
one graph per batch size, and all are captured again when a rate or an address changes: after a drop
of the learning rate, after a pruning round (new masks, new momentum), and on resume.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz.experiment.images import ImageData, augment, normalise
from pruneviz.model.isolation import tried_kernels
from pruneviz.pruning.held_entries import kept_entries

# Eager steps before a batch size is captured; warming up changes no result. In the first one,
# libraries choose kernels and allocate memory, and the optimiser creates its momentum.
_WARM_UP = 3


@contextmanager
def matrix_units(device: torch.device, precision: str) -> Iterator[None]:
    """Context that sets how a GPU multiplies float32 matrices, and restores the settings.

    Args:
        device: Nothing is set for a CPU.
        precision: "tf32" uses 10 mantissa bits. "fp32" and "bf16" compute float32 products exactly.
    """
    backends: Any = torch.backends
    units = [backends.cuda.matmul, backends.cudnn.conv] if device.type == "cuda" else []
    before = [unit.fp32_precision for unit in units]
    for unit in units:
        unit.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for unit, was in zip(units, before, strict=True):
            unit.fp32_precision = was


def output_of(network: nn.Module, x: Tensor, precision: str) -> Tensor:
    """Output of a network in the dtype of its input; "bf16" computes in bfloat16 internally."""
    # Without autocast's cache, which would hold copies of weights in the memory of a graph.
    half = precision == "bf16"
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
        return network(x).to(x.dtype)


@dataclass(eq=False, repr=False)
class Step:
    """One step of gradient descent on a batch of training images.

    Args:
        network: Network to train.
        optimizer: Its optimiser.
        generator: Generator for the augmentation, on the device of the data.
        data: Images to train on.
        temperature: Divides the logits in the loss.
        augments: Whether to augment the images.
        precision: Arithmetic precision, see `PRECISIONS`.
        tries_kernels: Whether to benchmark cuDNN's kernels in the first epoch, which takes seconds
            and pays off in long runs.

    Attributes:
        totals: Loss (nats, at the training temperature) and hits, summed over the steps in
            `running()`; [2], on the device.
        runs_ahead: Whether a step may be unfinished when its call returns.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    data: ImageData
    temperature: float
    augments: bool
    precision: str
    tries_kernels: bool = False
    totals: Tensor = field(init=False)
    runs_ahead: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.totals = torch.zeros(2, device=self.data.device)

    @property
    def images(self) -> int:
        """Number of training images."""
        return len(self.data.train_labels)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Context for the steps of an epoch; sets `totals` to zero."""
        device = self.data.device
        kernels = tried_kernels(device) if self.tries_kernels else nullcontext()
        with matrix_units(device, self.precision), kernels:
            self.network.train()
            self.totals.zero_()
            yield

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The images of a batch, uint8 and augmented if they are to be, and their labels."""
        images, y = self.data.train_images[chosen], self.data.train_labels[chosen]
        return (augment(images, self.generator) if self.augments else images), y

    def __call__(self, chosen: Tensor) -> None:
        """Take a step.

        Args:
            chosen: Positions of the batch among the training images, int64 [batch].
        """
        images, y = self.batch(chosen)
        output = output_of(self.network, normalise(images), self.precision)
        loss = F.cross_entropy(output / self.temperature, y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        hits = (output.argmax(1) == y).sum().to(loss.dtype)
        self.totals += torch.stack([loss.detach() * len(y), hits])


class Capturing(Protocol):
    """Captures work and replays it; implemented by `CudaGraphs`."""

    def stream(self) -> AbstractContextManager[None]:
        """Context for all work, captured or not."""

    def capture(self, work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        """Capture work without running it.

        Args:
            work: The work; it may draw from the generator.
            generator: Generator that advances at every replay.

        Returns:
            A function that runs the work.
        """


class CudaGraphs:
    """Captures, warms up and replays work on one stream, so that no step waits for another."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Context that runs work on this stream, ordered with work queued outside it."""
        outer = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outer)
        with torch.cuda.stream(self._stream):
            yield
        outer.wait_stream(self._stream)

    def capture(self, work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        """Capture a CUDA graph of the work, and return its replay.

        The generator advances as it would without a graph.
        """
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self._stream):
            work()
        return graph.replay


class CapturedStep:
    """Steps that are replayed from graphs, one graph per batch size.

    Args:
        step: The step to capture.
        graphs: Captures and replays it.
    """

    runs_ahead: ClassVar[bool] = True

    def __init__(self, step: Step, graphs: Capturing) -> None:
        self._step, self._graphs = step, graphs
        self._taken: Counter[int] = Counter()
        self._replays: dict[int, tuple[Tensor, Callable[[], None]]] = {}
        self._captured_with: tuple[object, ...] = ()

    @property
    def images(self) -> int:
        """Number of training images."""
        return self._step.images

    @property
    def totals(self) -> Tensor:
        """Loss and hits, see `Step`."""
        return self._step.totals

    @contextmanager
    def running(self) -> Iterator[None]:
        """Context for the steps of an epoch; drops graphs with other rates or tensors."""
        fixed = self._fixed()
        if self._captured_with != fixed:
            self._taken.clear()
            self._replays.clear()
            self._captured_with = fixed
        with self._graphs.stream(), self._step.running():
            yield

    def __call__(self, chosen: Tensor) -> None:
        """Take a step, with the same result as `Step`.

        Args:
            chosen: Positions of the batch among the training images, int64 [batch].
        """
        size = len(chosen)
        if size not in self._replays and self._taken[size] < _WARM_UP:
            self._taken[size] += 1
            self._step(chosen)
            return
        if size not in self._replays:
            self._capture(chosen)
        positions, replay = self._replays[size]
        positions.copy_(chosen)
        replay()

    def _capture(self, chosen: Tensor) -> None:
        positions = chosen.clone()
        replay = self._graphs.capture(lambda: self._step(positions), self._step.generator)
        self._replays[len(chosen)] = positions, replay
        self._captured_with = self._fixed()  # the first steps may have created momentum

    def _fixed(self) -> tuple[object, ...]:
        """Values that a graph fixes: optimiser options and tensor addresses."""
        network, optimizer = self._step.network, self._step.optimizer
        numbers: list[object] = []
        for group in optimizer.param_groups:
            numbers += [value for name, value in group.items() if name != "params"]
        tensors = [*network.parameters(), *network.buffers(), *kept_entries(network).values()]
        for state in optimizer.state.values():
            tensors += [value for value in state.values() if isinstance(value, Tensor)]
        return *numbers, *(tensor.data_ptr() for tensor in tensors)


AnyStep = Step | CapturedStep


def best_of(step: Step) -> AnyStep:
    """The fastest form of a step for its device."""
    device = step.data.device
    return CapturedStep(step, CudaGraphs(device)) if device.type == "cuda" else step


def lay_out(network: nn.Module) -> None:
    """Use the fastest memory format for a network's device: channels last on a GPU."""
    if next(network.parameters()).device.type == "cuda":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
