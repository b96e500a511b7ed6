"""What removing the filters of a pruned network saves, as facts of its run."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pruneviz.errors import PruningError
from pruneviz.pruning.removal import remove


def removal_facts(network: nn.Module, example: Tensor) -> dict[str, Any]:
    """Savings from removing a pruned network's filters, as spec facts.

    Args:
        network: Network with pruned filters.
        example: Inputs [N, C, H, W] of the timed forward passes.

    Returns:
        Parameters, MACs of one example and seconds of a forward pass, each before and after;
        filters_removed; filters_masked, which stay as zeros because something else needs their
        channel. Only not_removed, with the reason, if the network cannot be traced.
    """
    try:
        removed = remove(network, example)
    except PruningError as error:
        return {"not_removed": str(error)}
    facts: dict[str, Any] = {}
    for when, cost in (("before", removed.before), ("after", removed.after)):
        facts[f"parameters_{when}"] = cost.parameters
        facts[f"macs_{when}"] = cost.macs
        facts[f"forward_seconds_{when}"] = cost.seconds
    facts["filters_removed"] = removed.removed
    facts["filters_masked"] = removed.masked
    facts["forward_examples"] = len(example)
    return facts
