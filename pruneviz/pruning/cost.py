"""What a network costs: its parameters, the multiplications of one forward pass, and the time that one takes."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pruneviz.model.filters import unwrap
from pruneviz.model.isolation import generators_preserved
from pruneviz.model.sample import model_device, model_dtype

_WARM_UPS, _REPEATS = 2, 7


@dataclass(frozen=True)
class Cost:
    """`parameters` that are there, pruned ones that were only zeroed among them; `macs` of one example; `seconds` of one example batch."""

    parameters: int
    macs: int
    seconds: float


def cost(network: nn.Module, example: Tensor) -> Cost:
    """Count and time the forward pass of a network in evaluation mode; nothing of the network changes.

    Args: `example` is a batch of inputs [examples, ...]; all of it is timed, its first example alone is counted.
    Returns: the number of parameters (shared ones once; pruned entries that stay as zeros count, since they are stored and
    multiplied); the multiply-accumulates of one example, half of what torch's FLOP counter finds; and the median seconds of
    several forward passes of the batch, after a warm-up. The seconds are a measurement and differ from call to call.
    """
    network = copy.deepcopy(
        unwrap(network)
    ).eval()  # a network may count its calls or keep what it saw
    example = placed(network, example)
    with generators_preserved(None, example.device), torch.no_grad():
        return Cost(
            sum(p.numel() for p in network.parameters()),
            _macs(network, example[:1]),
            _seconds(network, example),
        )


def placed(network: nn.Module, example: Tensor) -> Tensor:
    """A copy of the example on the device of a network and, where it is of floating point, in its dtype."""
    dtype = model_dtype(network) if example.is_floating_point() else example.dtype
    return example.detach().to(model_device(network), dtype, copy=True)


def _macs(network: nn.Module, example: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        network(example)
    return counter.get_total_flops() // 2


def _seconds(network: nn.Module, example: Tensor) -> float:
    for _ in range(_WARM_UPS):
        network(example)
    return statistics.median(_timed(network, example) for _ in range(_REPEATS))


def _timed(network: nn.Module, example: Tensor) -> float:
    _wait_for(example.device)
    start = time.perf_counter()
    network(example)
    _wait_for(example.device)
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":  # its work is only queued when the call returns
        torch.cuda.synchronize(device)
