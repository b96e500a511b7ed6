"""Functions of torch replaced while measuring, and put back.

A network may have imported these functions under any name, so the parts that they look up when they
run are replaced, not the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
import torch.utils.checkpoint as torch_checkpoint


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Run checkpointed functions directly: what is recomputed has no second derivative.

    Covers `torch.utils.checkpoint.checkpoint` and `checkpoint_sequential`, with and without
    reentrant autograd, and all that is built on them.
    """
    with (
        _replaced(torch_checkpoint, "CheckpointFunction", _Direct),
        _replaced(torch_checkpoint, "_checkpoint_hook", _keep_activations),
    ):
        yield


@contextmanager
def without_autocast() -> Iterator[None]:
    """Make every `torch.autocast` that a network enters compute in the given precision."""
    enter = torch.autocast.__enter__

    def enter_disabled(self: Any) -> Any:
        enabled, self._enabled = self._enabled, False
        try:
            return enter(self)
        finally:
            self._enabled = enabled

    with _replaced(torch.autocast, "__enter__", enter_disabled):
        yield


@contextmanager
def without_cudnn_recurrence() -> Iterator[None]:
    """Run recurrent layers without cuDNN, which has no derivative of them in evaluation mode."""
    with ExitStack() as stack:
        for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            own = _without_cudnn(getattr(torch._VF, name))
            stack.enter_context(_replaced(torch._VF, name, own))
        yield


@contextmanager
def without_sparse_gradients() -> Iterator[None]:
    """Make lookups in embeddings have dense gradients, which can be differentiated again."""
    with (
        _replaced(torch, "embedding", _dense(torch.embedding, 4)),
        _replaced(torch, "embedding_bag", _dense(torch.embedding_bag, 5)),
    ):
        yield


def _dense(func: Callable[..., Any], place: int) -> Callable[..., Any]:
    """A lookup whose argument `sparse`, positional at `place`, is always false."""

    def call(*args: Any, **kwargs: Any) -> Any:
        given = (*args[:place], False, *args[place + 1 :]) if len(args) > place else args
        return func(*given, **(kwargs | {"sparse": False} if "sparse" in kwargs else kwargs))

    return call


def _without_cudnn(func: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        # not `flags()`, which cannot read precision settings of the new kind
        with _replaced(torch.backends.cudnn, "enabled", value=False):
            return func(*args, **kwargs)

    return call


class _Direct:
    """Stands in for the autograd function of reentrant checkpointing."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        return function(*args)


def _keep_activations(frame: object) -> AbstractContextManager[None]:
    """Stands in for the hooks that drop activations in checkpointing without reentrant autograd."""
    return nullcontext()


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
