"""Check of the inputs that a person gives for tracing."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pruneviz.errors import DataError, UnsupportedError
from pruneviz.model.filters import copied_inputs
from pruneviz.model.isolation import copied_tensors, evaluate, isolated
from pruneviz.model.sample import Inputs, call_with, examples_in, model_dtype, tensors_in


def check_example(network: nn.Module, example: Inputs) -> None:
    """Check that a network can be called with an example.

    Raises:
        DataError: If it holds no input, is a single input without a batch dimension, or the network
            does not take it.
        UnsupportedError: If the network is of a kind that is never called, such as a sharded one.
    """
    leaves = tensors_in(example)
    if not leaves:
        raise DataError(
            "the example must be a batch of inputs alone, such as images[:2], got "
            f"{type(example).__name__}; several inputs are a mapping of keyword arguments or a "
            "tuple of positional ones"
        )
    if not examples_in(example):
        raise DataError(
            "the example must hold one input or more, such as images[:2], "
            f"got a tensor of shape {tuple(leaves[0].shape)}"
        )
    try:
        _call(network, example)
    except (DataError, UnsupportedError):
        raise
    except Exception as error:
        raise DataError(
            "the example must be a batch of inputs alone, such as images[:2], got "
            f"{type(example).__name__} {_shapes(leaves)}, on which {type(network).__name__} "
            f"cannot run ({type(error).__name__}: {error})"
        ) from error


def _call(network: nn.Module, example: Inputs) -> None:
    given = copied_inputs(example, model_dtype(network))
    shapes = {tuple(leaf.shape) for leaf in tensors_in(given)}

    def check(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0] if inputs else None
        dims = len(module.kernel_size)  # type: ignore[arg-type]
        if isinstance(x, Tensor) and x.ndim == dims + 1 and tuple(x.shape) in shapes:
            raise DataError(
                f"the example is a single input of shape {tuple(x.shape)}; "
                "give a batch, such as images[:2] or image[None]"
            )

    with ExitStack() as stack:
        stack.enter_context(isolated(network))
        for module in network.modules():
            if isinstance(module, _ConvNd):
                stack.callback(module.register_forward_pre_hook(check).remove)
        evaluate(network)
        stack.enter_context(torch.no_grad())
        call_with(network, copied_tensors(network), given)


def _shapes(leaves: list[Tensor]) -> str:
    shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves[:3])
    return f"of shape {shapes}" if len(leaves) == 1 else f"of shapes {shapes}"
