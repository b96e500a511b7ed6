"""One step of training after the other: as written on a CPU, replayed from CUDA graphs on a GPU; and the arithmetic both are done in.

A step of these networks is a thousand small kernels, which a GPU runs faster than Python can ask for them one by one. A graph asks for all
at once, but fixes what it was captured with: the size of the batch, the learning rate, and where every tensor lies. So there is a graph for
each size, and all are captured anew when a rate, or an address, is another: after a drop of the learning rate, after a pruning round (which
brings new masks, and new momentum), and in a process that goes on from a checkpoint.
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

# Steps of a size before it is captured; they are steps like all others, so that warming up changes nothing. The libraries choose their
# kernels and take their memory in the first, which also makes the momentum.
_WARM_UP = 3


@contextmanager
def matrix_units(device: torch.device, precision: str) -> Iterator[None]:
    """Matrix products and convolutions of float32 as a precision of `pruneviz.plans.run_plan.PRECISIONS` has them; settings are put back.

    "tf32": the matrix units of a GPU see 10 bits of the mantissa; "fp32" and "bf16", what is left in float32 is exact. On a CPU the
    settings stay as they are.
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
    """What a network answers, in the dtype of its input; with "bf16" its activations and products are of bfloat16 on the way."""
    # no cache: it would hold copies of the weights that lie in the memory of a graph
    with torch.autocast(
        x.device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False
    ):
        return network(x).to(x.dtype)


@dataclass(eq=False)
class Step:
    """A step of gradient descent on the training images at given positions, from the images to the changed weights.

    `tries_kernels`, whether a GPU may take some seconds in the first epoch to find its fastest convolutions, as pays in a long run;
    `totals` are the losses (nats, at the training temperature) and the hits, summed over the steps of `running()`; on the device.
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
    runs_ahead: ClassVar[bool] = False  # whether a step is often still to be done when it returns

    def __post_init__(self) -> None:
        self.totals = torch.zeros(2, device=self.data.device)

    @property
    def images(self) -> int:
        """The number of training images."""
        return len(self.data.train_labels)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The context of an epoch's steps, which counts them from zero."""
        device = self.data.device
        with (
            matrix_units(device, self.precision),
            tried_kernels(device) if self.tries_kernels else nullcontext(),
        ):
            self.network.train()
            self.totals.zero_()
            yield

    def __call__(self, chosen: Tensor) -> None:
        """Take a step; `chosen` are positions among the training images, int64 [batch]."""
        images, y = self.data.train_images[chosen], self.data.train_labels[chosen]
        x = normalise(augment(images, self.generator) if self.augments else images)
        output = output_of(self.network, x, self.precision)
        loss = F.cross_entropy(output / self.temperature, y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.totals += torch.stack(
            [loss.detach() * len(y), (output.argmax(1) == y).sum().to(loss.dtype)]
        )


class Capturing(Protocol):
    """What can record work and do it again; `CudaGraphs` is one."""

    def stream(self) -> AbstractContextManager[None]:
        """The context in which all work is done, also that which is not captured."""

    def capture(self, work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        """What does the work again; the work draws from the generator, and is not done by capturing it."""


class CudaGraphs:
    """Captures work on a stream of its own, on which it also warms up and is replayed: then no step waits for another stream."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Work on this stream, after what was asked for before and before what is asked for afterwards."""
        outer = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outer)
        with torch.cuda.stream(self._stream):
            yield
        outer.wait_stream(self._stream)

    def capture(self, work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        """The replay of a graph of the work, in which the generator goes on drawing as it would without."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self._stream):
            work()
        return graph.replay


class CapturedStep:
    """The same steps, done by replaying what was captured of the first few of a size."""

    runs_ahead: ClassVar[bool] = True

    def __init__(self, step: Step, graphs: Capturing) -> None:
        self._step, self._graphs = step, graphs
        self._taken: Counter[int] = Counter()
        self._replays: dict[int, tuple[Tensor, Callable[[], None]]] = {}
        self._captured_with: tuple[object, ...] = ()

    @property
    def images(self) -> int:
        """As that of the step."""
        return self._step.images

    @property
    def totals(self) -> Tensor:
        """As those of the step."""
        return self._step.totals

    @contextmanager
    def running(self) -> Iterator[None]:
        """As that of the step; forgets what was captured of other rates or tensors."""
        fixed = self._fixed()
        if self._captured_with != fixed:
            self._taken.clear()
            self._replays.clear()
            self._captured_with = fixed
        with self._graphs.stream(), self._step.running():
            yield

    def __call__(self, chosen: Tensor) -> None:
        """Take a step, as the step itself would."""
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
        self._replays[len(chosen)] = (
            positions,
            self._graphs.capture(lambda: self._step(positions), self._step.generator),
        )
        self._captured_with = self._fixed()  # the first steps may have made the momentum

    def _fixed(self) -> tuple[object, ...]:
        """What a graph is captured with: the numbers of the optimiser, and where parameters, buffers and momentum lie."""
        network, optimizer = self._step.network, self._step.optimizer
        numbers = [
            value
            for group in optimizer.param_groups
            for name, value in group.items()
            if name != "params"
        ]
        momentum = [
            value
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ]
        return (
            *numbers,
            *(
                tensor.data_ptr()
                for tensor in (*network.parameters(), *network.buffers(), *momentum)
            ),
        )


AnyStep = Step | CapturedStep


def best_of(step: Step) -> AnyStep:
    """The step as its device runs it fastest."""
    device = step.data.device
    return CapturedStep(step, CudaGraphs(device)) if device.type == "cuda" else step


def lay_out(network: nn.Module) -> None:
    """Lay a network's convolutions out as its device runs them fastest: channels last on a GPU."""
    if next(network.parameters()).device.type == "cuda":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
