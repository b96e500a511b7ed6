"""Cost of a network: parameters, multiplications and time of one forward pass."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pruneviz.model.filters import unwrap
from pruneviz.model.hooks import hooks_put_aside
from pruneviz.model.isolation import copied, generators_preserved, isolated
from pruneviz.model.network_result import AnyNetwork
from pruneviz.model.sample import (
    Inputs,
    call_model,
    first_of,
    mapped,
    model_device,
    model_dtype,
    tensors_in,
)

_WARM_UPS, _REPEATS = 2, 7


@dataclass(frozen=True)
class Cost:
    """Cost of a network.

    Attributes:
        parameters: Number of parameters, shared ones once. Masked entries count, because they are
            stored and multiplied.
        macs: Multiply-accumulates for one example: half the count of torch's FLOP counter.
        seconds: Median time of several forward passes of the example batch after a warm-up; it
            varies between calls.
    """

    parameters: int
    macs: int
    seconds: float


def cost(network: AnyNetwork, example: Inputs) -> Cost:
    """Count and time the forward pass of a network in evaluation mode.

    Args:
        network: Network to run; it does not change.
        example: Inputs as in `pruneviz.model.sample`; all are timed, the first one is counted.
    """
    # A copy, because a network may count its calls or keep its inputs.
    network = copy.deepcopy(unwrap(network)).eval()
    network.requires_grad_(False)  # torch's counter hooks parameters given to modules as inputs
    example = placed(network, example)
    with (
        generators_preserved(None, model_device(network)),
        hooks_put_aside(network.modules()),  # the hooks of a copy are those of its original
        torch.no_grad(),
    ):
        return Cost(
            parameters=sum(p.numel() for p in network.parameters()),
            macs=_macs(network, first_of(example, 1)),
            seconds=_seconds(network, example),
        )


def placed(network: nn.Module, example: Inputs) -> Inputs:
    """Copy an example to the device of a network and, if floating-point, to its dtype."""
    device, dtype = model_device(network), model_dtype(network)
    return mapped(example, lambda leaf: copied(leaf, dtype).to(device))


def _macs(network: nn.Module, example: Inputs) -> int:
    # isolated, because torch's fast path for attention has no counter
    with isolated(network), FlopCounterMode(display=False) as counter:
        call_model(network, example)
    return counter.get_total_flops() // 2


def _seconds(network: nn.Module, example: Inputs) -> float:
    for _ in range(_WARM_UPS):
        call_model(network, example)
    return statistics.median(_timed(network, example) for _ in range(_REPEATS))


def _timed(network: nn.Module, example: Inputs) -> float:
    device = next((leaf.device for leaf in tensors_in(example)), torch.device("cpu"))
    _wait_for(device)
    start = time.perf_counter()
    call_model(network, example)
    _wait_for(device)
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":  # work is only queued when the call returns
        torch.cuda.synchronize(device)
