"""Removals are tried all at once, then in ever smaller parts, until the deadline."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import nn

from pruneviz.pruning.trial import Trial

X = torch.ones(1, 2)


def trial(tried: list[list[int]], seconds: float) -> Trial[int]:
    """Numbers are removals; 3 changes outputs and 5 raises an error."""

    def build(numbers: Sequence[int]) -> nn.Module:
        tried.append(list(numbers))
        if 5 in numbers:
            raise RuntimeError("shapes differ\nin detail")
        network = nn.Linear(2, 1, bias=False)
        nn.init.constant_(network.weight, 2.0 if 3 in numbers else 1.0)
        return network

    network = nn.Linear(2, 1, bias=False)
    nn.init.ones_(network.weight)
    deadline = time.monotonic() + seconds
    return Trial(network, X, build, branches=False, deadline=deadline)


def test_what_fits_is_found_and_errors_are_cited() -> None:
    tried: list[list[int]] = []
    made, rejected = trial(tried, 60).fitting([], [*range(8)])
    assert made == [0, 1, 2, 4, 6, 7]
    assert rejected == [(3, ("other", "")), (5, ("other", " (RuntimeError: shapes differ)"))]
    assert tried[0] == [*range(8)] and len(tried) < 16


def test_after_the_deadline_only_the_whole_was_tried() -> None:
    tried: list[list[int]] = []
    assert trial(tried, 0).fitting([], [1, 2]) == ([1, 2], [])
    made, rejected = trial(tried, 0).fitting([], [1, 3])
    assert made == [] and rejected == [(1, ("time", "")), (3, ("time", ""))]
    assert tried == [[1, 2], [1, 3]]
