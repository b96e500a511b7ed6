"""The global random generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def _states() -> tuple[object, ...]:
    numpy_state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return (
        torch.get_rng_state().tolist(),
        numpy_state["key"].tolist(),
        numpy_state["pos"],
        random.getstate(),
    )


@contextmanager
def untouched() -> Iterator[None]:
    """Check that no global random generator moves."""
    before = _states()
    yield
    assert _states() == before
