"""Checks in several processes of one thread each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from tests.networks.checks import Row, check
from tests.networks.registry import BY_NAME

LIMIT = 120  # seconds for one check of one network


def checked(names: Sequence[str], jobs: int) -> Iterator[Row]:
    """Rows in order, from processes of one thread each."""
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_alone) as pool:
        yield from pool.map(_checked, names)


def _alone() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the libraries


def _checked(name: str) -> Row:
    return check(BY_NAME[name], LIMIT)
