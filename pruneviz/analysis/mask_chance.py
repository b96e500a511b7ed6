"""How far two random masks differ: the chance level of mask distances."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pandas as pd

Share = TypeVar("Share", float, "pd.Series[float]")


def chance_distance(
    previous: Share,
    current: Share,
    pruned_before: Share,
    pruned_now: Share,
    pruned_in_both: Share,
) -> Share:
    """Expected distance of two random masks that both mask out what is pruned already.

    Each mask is the filters that are pruned at its epoch and a random choice of the others. With
    the same share s pruned at both epochs and a share q in either mask it is
    2 (q - s) (1 - q) / (1 - s), so 2 q (1 - q) for an unpruned network and 0 once q is pruned.

    Args:
        previous: Share of filters in the earlier mask, those that are pruned included.
        current: The same of the later mask.
        pruned_before: Share that is pruned at the earlier epoch.
        pruned_now: Share that is pruned at the later epoch.
        pruned_in_both: Share that is pruned at both.

    Returns:
        Expected share of positions in which the masks differ.
    """
    of_rest_before = _of_rest(previous, pruned_before)
    of_rest_now = _of_rest(current, pruned_now)
    only_before, only_now = pruned_before - pruned_in_both, pruned_now - pruned_in_both
    neither = 1 - pruned_before - only_now
    apart = of_rest_before * (1 - of_rest_now) + of_rest_now * (1 - of_rest_before)
    return only_before * (1 - of_rest_now) + only_now * (1 - of_rest_before) + neither * apart


def _of_rest(masked: Share, pruned: Share) -> Share:
    """Share of the filters that are not pruned which a mask takes; 0 where all are pruned."""
    rest = 1 - pruned
    if isinstance(rest, pd.Series):
        return ((masked - pruned) / rest.where(rest > 0, np.inf)).clip(lower=0.0)
    return max((masked - pruned) / rest, 0.0) if rest > 0 else 0.0
