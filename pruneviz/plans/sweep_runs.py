"""Runs of the reference experiment that a table of a sweep file asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pruneviz.errors import PresetError, unknown_name
from pruneviz.log.arguments import as_tuple
from pruneviz.log.on_request import OnRequest
from pruneviz.log.pruning_options import OPTION_NAMES, PruningOptions
from pruneviz.log.vocabulary import PRECISIONS
from pruneviz.plans.grids import ONCE, combinations
from pruneviz.plans.planning import (
    plan_baselines,
    plan_pruned_runs,
    plan_runs,
    with_sample_seed,
)
from pruneviz.plans.request_options import on_request
from pruneviz.plans.run_plan import RunPlan

_WHICH = (
    "say which runs are recorded by one of: measure (with rounds and target) for runs that prune, "
    "figures for those that figures of the paper need, or baseline = true for unpruned runs at the "
    "scale of the pruned ones"
)


@dataclass(frozen=True)
class RecordedRun:
    """A run of the reference experiment, and how it is recorded.

    Attributes:
        plan: What to train, prune and record.
        keep_weights: Whether to keep the weights of measured epochs.
        on_request: Columns that are measured besides the default ones.
        flow: Whether to record the table `flow`.
        sinks: Sinks as a command names them.
    """

    plan: RunPlan
    keep_weights: bool = False
    on_request: OnRequest = field(default_factory=OnRequest)
    flow: bool = False
    sinks: tuple[str, ...] = ()

    @property
    def run(self) -> str:
        """Run name."""
        return self.plan.run


def recorded_runs(table: Mapping[str, Any]) -> Iterator[RecordedRun]:
    """The runs that a table asks for.

    Args:
        table: Options of `pruneviz record`, of known keys and with values of their kinds.

    Raises:
        PresetError: If a name is unknown, or the options contradict each other.
        LogError: If a column on request is unknown.
    """
    # planned together, as a figure need not have runs of every network
    together = frozenset({*ONCE, "network", "seed"})
    for asked in combinations(table, together):
        plans = _plans(asked)
        how = _how(asked, max(plan.epochs for plan in plans))
        for plan in plans:
            yield RecordedRun(_as_asked(plan, asked), *how)


def _plans(asked: Mapping[str, Any]) -> list[RunPlan]:
    pruning = {name: asked[name] for name in OPTION_NAMES if asked.get(name)}
    if "keep_at_least" in asked:
        pruning["keep_at_least"] = asked["keep_at_least"]  # 0 is no default
    figures, baseline = as_tuple(asked.get("figures", ())), asked.get("baseline", False)
    if bool(pruning) + bool(figures) + baseline != 1:
        raise PresetError(_WHICH)
    networks, seeds = as_tuple(asked.get("network", ())), as_tuple(asked.get("seed", ()))
    preset, dataset = asked.get("preset", "digits"), asked.get("dataset")
    if baseline:
        return plan_baselines(preset, networks, seeds, dataset)
    if figures:
        return plan_runs(preset, networks, seeds, dataset, tuple(map(str, figures)))
    if "measure" not in pruning:
        raise PresetError(
            f"{', '.join(pruning)} says how to prune, but not by which measure; add one, such as "
            'measure = "magnitude"'
        )
    schedules = ("published", "linear")
    if pruning.get("schedule", "linear") not in schedules:
        raise PresetError(unknown_name("schedule", pruning["schedule"], schedules))
    return plan_pruned_runs(preset, PruningOptions(**pruning), networks, seeds, dataset)


def _as_asked(plan: RunPlan, asked: Mapping[str, Any]) -> RunPlan:
    samples, precision = asked.get("samples", 1), asked.get("precision")
    if samples not in (1, 2):
        raise PresetError(f"samples is {samples}; give 1, or 2 for two halves of the sample too")
    known = list(dict.fromkeys(name for names in PRECISIONS.values() for name in names))
    if precision is not None and precision not in known:
        raise PresetError(unknown_name("precision", precision, known))
    plan = with_sample_seed(plan, asked.get("sample_seed", 0))
    return replace(plan, samples=samples, precision=precision)


def _how(asked: Mapping[str, Any], last: int) -> tuple[bool, OnRequest, bool, tuple[str, ...]]:
    """How the runs are recorded: the further fields of `RecordedRun`."""
    errors = asked.get("errors", "default")
    if errors not in ("default", "full"):
        raise PresetError(unknown_name("kind of errors", errors, ("default", "full")))
    columns, epochs = as_tuple(asked.get("columns", ())), as_tuple(asked.get("request_at", ()))
    beyond = [epoch for epoch in epochs if epoch > last]
    if beyond:
        raise PresetError(
            f"request_at is {beyond[0]}, and no run has so many epochs; name epochs from 0 to "
            f"{last}"
        )
    request = on_request(columns, asked.get("oracle"), epochs, errors)
    sinks = as_tuple(asked.get("sinks", ()))
    return asked.get("keep_weights", False), request, asked.get("flow", False), sinks
