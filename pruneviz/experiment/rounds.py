"""What a run that prunes does beside training: its rounds, and the account of what was removed at the end."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pruneviz.errors import PrunevizError, PruningError
from pruneviz.experiment.training import TrainingState
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.plans.run_plan import RunPlan
from pruneviz.pruning.pruner import Pruner, needed_columns, ranking_temperatures
from pruneviz.pruning.removal import remove
from pruneviz.pruning.rounds import flowandprune_after, pruned_after
from pruneviz.recording.recorder import Recorder


class Rounds:
    """The pruning rounds of a plan, on a network that is being trained and recorded: called with an epoch, it prunes.

    Args: `example`, inputs of the network. A network whose masks say that rounds are done already goes on with the next.
    Errors: `PruningError`, `ScoreError` and `MeasureError` that name the round and the epoch; then nothing is pruned.
    """

    def __init__(
        self, state: TrainingState, example: Tensor, plan: RunPlan, recorder: Recorder
    ) -> None:
        if plan.pruning is None:
            raise PruningError(f"{plan.run} never prunes; give a plan with pruning options")
        self._plan, self._options, self._recorder = plan, plan.pruning, recorder
        self.pruner = Pruner(
            state.network,
            example,
            keep_at_least=plan.pruning.keep_at_least,
            flowandprune=plan.pruning.flowandprune,
        )
        self.gone_after = _gone_after(self.pruner, plan.pruning)
        self.kept_fraction = (
            self.pruner.kept_fraction
        )  # known by heart, because a GPU would wait while it is counted

    def __call__(self, epoch: int) -> dict[str, Any]:
        """Prune at an epoch's round; returns the rows of the rounds table."""
        number = self._plan.pruning_epochs.index(epoch) + 1
        measure = self._options.measure
        try:
            temperatures = ranking_temperatures(measure, self._plan.train_temperature)
            table = self._recorder.table(epoch, needed_columns(measure), temperatures)
            self.pruner.prune(table, measure, self.gone_after[number - 1], number)
        except PrunevizError as error:
            what = str(error).removeprefix(f"round {number}: ")
            raise type(error)(
                f"pruning round {number} of {self._options.rounds}, at epoch {epoch}: {what}"
            ) from error
        self.kept_fraction = self.pruner.kept_fraction
        return {"rounds": self.pruner.counts().assign(round=number, epoch=epoch)}


def removal_facts(network: nn.Module, example: Tensor) -> dict[str, Any]:
    """What really removing a network's pruned filters saves, as facts of the run's spec.

    Returns: parameters, macs (of one example) and forward_seconds (of the batch `example`), each before and after; filters_removed, and
    filters_masked, which stay as zeros because something else needs their channel. Where nothing can be removed, because Torch-Pruning
    is missing or cannot follow the network, not_removed says why, and that is all: the recording is whole without it.
    """
    try:
        removed = remove(network, example)
    except PruningError as error:
        return {"not_removed": str(error)}
    costs = {"before": removed.before, "after": removed.after}
    facts: dict[str, Any] = {}
    for when, cost in costs.items():
        facts |= {
            f"parameters_{when}": cost.parameters,
            f"macs_{when}": cost.macs,
            f"forward_seconds_{when}": cost.seconds,
        }
    return {
        **facts,
        "filters_removed": removed.removed,
        "filters_masked": removed.masked,
        "forward_examples": len(example),
    }


def _gone_after(pruner: Pruner, options: PruningOptions) -> list[int]:
    target, rounds = float(options.target or 0), options.rounds  # a plan always has a target
    if options.flowandprune:
        return flowandprune_after(pruner.groups, target, rounds, residual=pruner.residual)
    return pruned_after(pruner.groups, target, rounds, options.schedule)
