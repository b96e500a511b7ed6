"""The error when memory runs out: how much was asked for, where, and what to do."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pruneviz.console.words import memory
from pruneviz.errors import MeasureError
from pruneviz.log.memory import free_memory
from pruneviz.model.out_of_memory import bytes_asked, is_out_of_memory
from pruneviz.model.sample import model_device
from pruneviz.model.supported import failing_layer

_LESS = "columns without second derivatives (theta_g, abs_theta_g, theta2_abs_g) take less"


@contextmanager
def shortage_explained(network: nn.Module, whole: str = "") -> Iterator[None]:
    """Context of a measurement: lack of memory where no chunk can be halved is a clear error too.

    Args:
        network: The network that is measured.
        whole: Why batches stay whole; "" if they are split, or if that is not known.

    Raises:
        MeasureError: If memory runs out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise no_room(error, network, whole, "where nothing is cut into chunks,") from error


def no_room(
    error: BaseException,
    network: nn.Module,
    whole: str,
    where: str = "at chunk 1, one example at once,",
) -> MeasureError:
    """The error for a lack of memory that no smaller chunk repairs.

    Args:
        error: The lack of memory. Its frames are cleared, because they hold the tensors that fill
            the memory as long as the error is kept.
        network: The network that was called.
        whole: Why batches stay whole; "" if they are split.
        where: What did not fit, if batches are split.
    """
    facts = asked_and_free(error, network)
    layer = failing_layer(network, error.__traceback__)
    place = f" in {layer}" if layer else ""
    traceback.clear_frames(error.__traceback__)
    if not whole:
        return MeasureError(
            f"memory ran out {where}{place}{facts}; {_LESS}, or give a smaller sample or network, "
            f"or measure {_elsewhere(network)}"
        )
    instead = (
        "use bn='eval', which splits batches"
        if whole.startswith("bn=")
        else "loss_weight=callable(target) if the loss divides by known weights"
    )
    return MeasureError(
        f"memory ran out{place}{facts}, and a batch cannot be split: {whole}; give a list of "
        f"smaller batches, measure {_elsewhere(network)}, or {instead}"
    )


def asked_and_free(error: BaseException, network: nn.Module) -> str:
    """What an error says was asked for, and what is free: " (1.5 GB asked for, 700 MB free)"."""
    asked, free = bytes_asked(error), _free(model_device(network))
    known = {"asked for": asked, "free": free}
    said = [f"{memory(amount)} {what}" for what, amount in known.items() if amount is not None]
    if asked is None:
        said.insert(0, str(error).partition("\n")[0] or type(error).__name__)
    return f" ({', '.join(said)})"


def _free(device: torch.device) -> int | None:
    """Bytes that are free on a device; None if that is not known."""
    if device.type == "cpu":
        return free_memory()
    if device.type == "cuda" and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info(device)[0])
    return None


def _elsewhere(network: nn.Module) -> str:
    if model_device(network).type == "cpu":
        return "where there is more memory"
    return "on a device with more memory, such as a CPU"
