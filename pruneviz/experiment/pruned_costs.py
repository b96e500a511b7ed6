"""Parameters and MACs that pruned runs leave, counted again where their recording does not say."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from pruneviz.analysis.final_accuracy import COSTS, LACKS, NOT_RECORDED, recorded_costs
from pruneviz.analysis.pruned_fractions import after_last_round
from pruneviz.errors import AnalysisError, PrunevizError
from pruneviz.experiment.datasets import DATASETS
from pruneviz.experiment.networks.registry import NETWORKS, build_network
from pruneviz.log.runs import Runs
from pruneviz.pruning.pruner import Pruner
from pruneviz.pruning.removal import Removed, remove

_EXAMPLES = 2  # images of the traced forward pass; one is counted


def costs_of(runs: Runs) -> pd.DataFrame:
    """Parameters and MACs of pruned runs before and after removal.

    Args:
        runs: Recordings.

    Returns:
        As for `recorded_costs`; runs that do not say are counted by `removed_again`.
    """
    found = recorded_costs(runs).set_index("run")
    for run in found.index[found[LACKS] == NOT_RECORDED]:
        try:
            removed = removed_again(runs.named(run))
        except PrunevizError as error:
            found.loc[run, LACKS] = str(error)
            continue
        counted = [
            *(removed.before.parameters, removed.after.parameters),
            *(removed.before.macs, removed.after.macs),
        ]
        found.loc[run, list(COSTS)] = counted
        found.loc[run, LACKS] = ""
    return found.reset_index()


def removed_again(run: Runs) -> Removed:
    """Remove the filters that one run pruned from a network built from its spec.

    The cost of a network depends on which filters it keeps, not on their weights, so these are new.

    Args:
        run: One recording of a network of the paper.

    Raises:
        AnalysisError: If `pruneviz record` did not make the run, or it does not tell which filters
            it kept.
        PrunevizError: If its rounds are incomplete, or a table is corrupt.
    """
    network, example = _built(run)
    pruner = Pruner(network, example)
    rounds = after_last_round(run.read("rounds"), run.spec).set_index("layer")
    pruner.prune_filters(_pruned(run, rounds, pruner))
    left = pruner.counts().set_index("layer")["kept"]
    if not left.equals(rounds["kept"].astype(left.dtype).reindex(left.index)):
        raise AnalysisError(
            "the recorded numbers of kept filters are not of this network, pruned in groups"
        )
    return remove(network, example)


def _built(run: Runs) -> tuple[nn.Module, Tensor]:
    """A network as that of the run, and images of its size."""
    spec = run.spec.iloc[0]
    facts = spec[["network", "dataset", "width", "num_classes"]]
    if facts.isna().any() or spec["network"] not in NETWORKS or spec["dataset"] not in DATASETS:
        raise AnalysisError("not recorded, and not counted again: no run of pruneviz record")
    own = spec["image_size"]
    side = DATASETS[spec["dataset"]].image_size if pd.isna(own) else int(own)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(
            spec["network"], num_classes=int(spec["num_classes"]), width=float(spec["width"])
        )
        return network.eval(), torch.rand(_EXAMPLES, 3, side, side)


def _pruned(run: Runs, rounds: pd.DataFrame, pruner: Pruner) -> Mapping[str, list[int]]:
    """The pruned filters of every layer: those recorded, else as many as the rounds say."""
    rows = run.read("filters", ["run", "epoch", "layer", "filter", "kept"])
    last = rows[rows["epoch"] == rows["epoch"].max()].astype({"layer": "str"})
    gone = last[~last["kept"].astype("bool")].groupby("layer")["filter"].apply(list)
    missing = rounds["filters"] - rounds["kept"]
    if gone.map(len).reindex(missing.index, fill_value=0).eq(missing).all():
        return dict(gone)
    if pruner.residual:  # then it matters which filters share a channel
        raise AnalysisError(
            "the filters table ends before the last round, so it does not say which filters are "
            "left, and their number alone does not tell the cost of a network with residual sums"
        )
    deciding = missing[rounds["coupled_to"].isna()]
    return {str(layer): list(range(number)) for layer, number in deciding.items()}
