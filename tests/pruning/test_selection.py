"""Filters that go with others, and the choice of groups that counts them."""

from __future__ import annotations

import pytest
import torch

from pruneviz.errors import PruningError
from pruneviz.pruning.coupling import Coupling
from pruneviz.pruning.selection import Selection, with_dependents
from tests.support.cases import BY_NAME, digit_batches

DIGITS = digit_batches((2,), torch.float32)[0][0]


def grouped() -> Coupling:
    """Layer 0 feeds layer 3 in two groups of two filters; layer 6 is depthwise on layer 3."""
    return Coupling(BY_NAME["grouped"].model(), DIGITS)


def own(layer: str, filters: int) -> list[tuple[str, int]]:
    return [(layer, p) for p in range(filters)]


def test_what_reads_nothing_else_goes_along_to_the_end_of_the_chain() -> None:
    coupling = grouped()
    assert with_dependents(coupling, [("0", 0)]) == {("0", 0)}
    both = with_dependents(coupling, [("0", 0), ("0", 1)])
    assert both == {("0", 0), ("0", 1), ("3", 0), ("3", 1), *(("6", p) for p in range(4))}
    assert with_dependents(coupling, both) == both
    with pytest.raises(PruningError, match="nothing would reach the output layer 10; prune less"):
        with_dependents(coupling, own("0", 4))


def test_groups_that_go_with_others_are_counted() -> None:
    chosen = Selection(grouped(), before=())
    chosen.take(own("0", 4), number=4)  # with both filters that feed them go two groups of layer 3
    assert chosen.more == 4
    assert chosen.gone == with_dependents(grouped(), [("0", 0), ("0", 1)])


def test_a_group_with_which_too_many_would_go_is_skipped() -> None:
    chosen = Selection(grouped(), before=[("0", 0)])
    chosen.take([("0", 1), ("0", 2)], number=1)
    assert (chosen.more, chosen.gone) == (1, {("0", 0), ("0", 2)})


def test_a_group_is_skipped_if_a_protected_filter_would_go_with_it() -> None:
    chosen = Selection(grouped(), before=[("0", 0)], protected=[("6", 2)])
    chosen.take([("0", 1), ("3", 0)], number=3)
    assert (chosen.more, chosen.gone) == (1, {("0", 0), ("3", 0), ("6", 0), ("6", 1)})


def test_all_chosen_groups_go_unless_a_layer_would_vanish() -> None:
    chosen = Selection(grouped(), before=())
    chosen.take_all([("0", 0), ("0", 1)])
    assert chosen.more == 4
    with pytest.raises(PruningError, match="all 4 filters of layer 0 would be pruned; lower the"):
        Selection(grouped(), before=()).take_all(own("0", 4))
