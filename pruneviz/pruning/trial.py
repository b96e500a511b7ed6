"""Trial of removals: which of them keep a network's outputs, found within a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pruneviz.model.isolation import copied_tensors, evaluate, exact_float32, isolated
from pruneviz.model.sample import Inputs, call_with, mapped, tensors_in
from pruneviz.pruning.dependency import OTHER, TIME, Obstacle
from pruneviz.pruning.flow import branch_as_in_training

TOLERANCE = 1e-9  # for float64 outputs, relative to the largest
_T = TypeVar("_T")
Rejected = tuple[_T, Obstacle]


class Trial(Generic[_T]):
    """Tries removals on a network until a deadline, comparing outputs in float64.

    Args:
        network: Masked network; it does not change.
        example: Inputs of its dtype.
        build: The smaller network for some removals.
        branches: Whether to also compare the branches that only run in training.
        deadline: Time, as of `time.monotonic`, after which nothing is tried.
    """

    def __init__(
        self,
        network: nn.Module,
        example: Inputs,
        build: Callable[[Sequence[_T]], nn.Module],
        *,
        branches: bool,
        deadline: float,
    ) -> None:
        self._example, self._build, self._deadline = example, build, deadline
        self._branches, self._tried = branches, False
        self._want = self._outputs(network)
        # Outputs that differ by themselves, as with dropout in a function, compare with nothing.
        if branches and not _same(self._outputs(network), self._want):
            self._branches = False
            self._want = self._outputs(network)

    def fitting(self, base: list[_T], more: list[_T]) -> tuple[list[_T], list[Rejected[_T]]]:
        """Removals of `base` and `more` that keep the outputs, and those of `more` that do not."""
        if not more:
            return base, []
        if self._tried and time.monotonic() > self._deadline:
            return base, [(removal, (TIME, "")) for removal in more]
        error = self._error([*base, *more])
        if error is None:
            return [*base, *more], []
        if len(more) == 1:
            return base, [(more[0], (OTHER, error))]
        half = len(more) // 2
        base, rejected = self.fitting(base, more[:half])
        base, others = self.fitting(base, more[half:])
        return base, [*rejected, *others]

    def _error(self, removals: Sequence[_T]) -> str | None:
        """Why outputs are not those of the network; "" if they differ, None if they agree."""
        self._tried = True
        # Shapes that no longer fit raise errors of many types.
        try:
            outputs = self._outputs(self._build(removals))
        except Exception as error:
            cause = error.__cause__ or error
            first = (str(cause).splitlines() or [""])[0]
            return f" ({type(cause).__name__}: {first[:100]})"
        return None if _same(outputs, self._want) else ""

    def _outputs(self, network: nn.Module) -> list[Tensor]:
        modes = [False, True] if self._branches else [False]
        return [output for mode in modes for output in _outputs(network, self._example, mode)]


def _same(outputs: Sequence[Tensor], want: Sequence[Tensor]) -> bool:
    return len(outputs) == len(want) and all(map(_close, outputs, want))


def _close(output: Tensor, want: Tensor) -> bool:
    if output.shape != want.shape or not torch.equal(output.isnan(), want.isnan()):
        return False
    if not want.numel():
        return True
    if not (want.is_floating_point() or want.is_complex()):
        return torch.equal(output, want)
    difference = torch.nan_to_num(output - want).abs().max()
    largest = torch.nan_to_num(want).abs().max()
    return bool(difference <= TOLERANCE * (1 + largest))


def _outputs(network: nn.Module, example: Inputs, training: bool) -> list[Tensor]:
    """Output tensors in float64, in evaluation mode or with the branches of training."""
    exact = deepcopy(network).double()
    given = mapped(example, lambda t: t.double() if t.is_floating_point() else t.clone())
    with ExitStack() as stack:
        stack.enter_context(isolated(exact))
        stack.enter_context(exact_float32())
        stack.enter_context(torch.no_grad())
        stack.enter_context(_NoEmptyAttention())
        evaluate(exact)
        if training:
            branch_as_in_training(exact)
        return tensors_in(call_with(exact, copied_tensors(exact), given))


class _NoEmptyAttention(TorchFunctionMode):
    """Refuses attention without heads, which ends the process in torch's kernels."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = tensors_in((args, kwargs or {}))
        if func is F.scaled_dot_product_attention and any(not t.numel() for t in given):
            shapes = ", ".join(str(tuple(t.shape)) for t in given[:3])
            raise ValueError(f"attention of empty tensors, of shapes {shapes}")
        return func(*args, **(kwargs or {}))
