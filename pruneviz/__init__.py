"""Measure and draw the dynamics of neural-network pruning.

Public names load on first use: `import pruneviz` is quick, and drawing never loads torch. Where
torch is not installed, names that measure raise `pruneviz.errors.MissingExtraError`.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from pruneviz.console.log_messages import made_visible

if TYPE_CHECKING:
    from pruneviz import plot as plot
    from pruneviz.analysis import measures as measures
    from pruneviz.analysis.claims import claims as claims
    from pruneviz.analysis.convergence import convergence as convergence
    from pruneviz.analysis.correlation import correlate as correlate
    from pruneviz.analysis.correlation import over_seeds as over_seeds
    from pruneviz.analysis.eigen_direction import eigen_share as eigen_share
    from pruneviz.analysis.formulas import SCORES as SCORES
    from pruneviz.analysis.gradient_flow import flow_table as flow_table
    from pruneviz.analysis.masks import keep_mask as keep_mask
    from pruneviz.analysis.masks import mask_distance as mask_distance
    from pruneviz.analysis.matrix import correlation_matrix as correlation_matrix
    from pruneviz.analysis.matrix import recorded_measures as recorded_measures
    from pruneviz.analysis.multiple import holm as holm
    from pruneviz.analysis.noise import clear_of_noise as clear_of_noise
    from pruneviz.analysis.oracle_agreement import oracle_agreement as oracle_agreement
    from pruneviz.analysis.permutation import permutation_test as permutation_test
    from pruneviz.analysis.reliability import corrected_correlation as corrected_correlation
    from pruneviz.analysis.reliability import reliability as reliability
    from pruneviz.analysis.robustness import leave_one_layer_out as leave_one_layer_out
    from pruneviz.analysis.robustness import robustness as robustness
    from pruneviz.analysis.scores import score as score
    from pruneviz.engines.executors import executor as executor
    from pruneviz.experiment.datasets import load_dataset as load_dataset
    from pruneviz.experiment.images import balanced_sample as balanced_sample
    from pruneviz.experiment.images import normalise as normalise
    from pruneviz.experiment.networks.registry import build_network as build_network
    from pruneviz.experiment.samplesize import sample_sizes as sample_sizes
    from pruneviz.figures.draw import compose as compose
    from pruneviz.figures.draw import draw as draw
    from pruneviz.figures.options import DrawOptions as DrawOptions
    from pruneviz.log.examples import load_example as load_example
    from pruneviz.log.faults import faults as faults
    from pruneviz.log.pruning_options import PruningOptions as PruningOptions
    from pruneviz.log.run_spec import RunSpec as RunSpec
    from pruneviz.log.runs import Runs as Runs
    from pruneviz.log.runs import load as load
    from pruneviz.log.scan import scan as scan
    from pruneviz.log.schema import filter_column as filter_column
    from pruneviz.measuring.coverage import coverage as coverage
    from pruneviz.measuring.oracle import delta_loss as delta_loss
    from pruneviz.measuring.snapshot import measure as measure
    from pruneviz.pruning.held_entries import hold_pruned as hold_pruned
    from pruneviz.pruning.held_entries import prune_like as prune_like
    from pruneviz.pruning.masked_state import load_with_masks as load_with_masks
    from pruneviz.pruning.masked_state import state_with_masks as state_with_masks
    from pruneviz.pruning.pruner import Pruner as Pruner
    from pruneviz.pruning.removal import remove as remove
    from pruneviz.pruning.rounds import pruned_after as pruned_after
    from pruneviz.recording import sinks as sinks
    from pruneviz.recording.flow_meter import FlowMeter as FlowMeter
    from pruneviz.recording.recorder import Recorder as Recorder
    from pruneviz.report.page import report as report

__version__ = "0.1.0"

logging.getLogger("pruneviz").addFilter(made_visible)

_HOMES = {
    "DrawOptions": "pruneviz.figures.options",
    "FlowMeter": "pruneviz.recording.flow_meter",
    "Pruner": "pruneviz.pruning.pruner",
    "PruningOptions": "pruneviz.log.pruning_options",
    "Recorder": "pruneviz.recording.recorder",
    "RunSpec": "pruneviz.log.run_spec",
    "Runs": "pruneviz.log.runs",
    "SCORES": "pruneviz.analysis.formulas",
    "balanced_sample": "pruneviz.experiment.images",
    "build_network": "pruneviz.experiment.networks.registry",
    "claims": "pruneviz.analysis.claims",
    "clear_of_noise": "pruneviz.analysis.noise",
    "compose": "pruneviz.figures.draw",
    "convergence": "pruneviz.analysis.convergence",
    "corrected_correlation": "pruneviz.analysis.reliability",
    "correlate": "pruneviz.analysis.correlation",
    "correlation_matrix": "pruneviz.analysis.matrix",
    "coverage": "pruneviz.measuring.coverage",
    "delta_loss": "pruneviz.measuring.oracle",
    "draw": "pruneviz.figures.draw",
    "eigen_share": "pruneviz.analysis.eigen_direction",
    "executor": "pruneviz.engines.executors",
    "faults": "pruneviz.log.faults",
    "filter_column": "pruneviz.log.schema",
    "holm": "pruneviz.analysis.multiple",
    "flow_table": "pruneviz.analysis.gradient_flow",
    "hold_pruned": "pruneviz.pruning.held_entries",
    "keep_mask": "pruneviz.analysis.masks",
    "leave_one_layer_out": "pruneviz.analysis.robustness",
    "load": "pruneviz.log.runs",
    "load_example": "pruneviz.log.examples",
    "load_with_masks": "pruneviz.pruning.masked_state",
    "permutation_test": "pruneviz.analysis.permutation",
    "prune_like": "pruneviz.pruning.held_entries",
    "state_with_masks": "pruneviz.pruning.masked_state",
    "load_dataset": "pruneviz.experiment.datasets",
    "mask_distance": "pruneviz.analysis.masks",
    "measure": "pruneviz.measuring.snapshot",
    "normalise": "pruneviz.experiment.images",
    "oracle_agreement": "pruneviz.analysis.oracle_agreement",
    "over_seeds": "pruneviz.analysis.correlation",
    "pruned_after": "pruneviz.pruning.rounds",
    "recorded_measures": "pruneviz.analysis.matrix",
    "reliability": "pruneviz.analysis.reliability",
    "remove": "pruneviz.pruning.removal",
    "robustness": "pruneviz.analysis.robustness",
    "sample_sizes": "pruneviz.experiment.samplesize",
    "scan": "pruneviz.log.scan",
    "score": "pruneviz.analysis.scores",
}

# Modules whose names are public, as `pruneviz.measures.register`; `report` can be called.
_MODULES = {
    "measures": "pruneviz.analysis.measures",
    "plot": "pruneviz.plot",
    "report": "pruneviz.report",
    "sinks": "pruneviz.recording.sinks",
}

__all__ = sorted([*_HOMES, *_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name not in _HOMES:
        from pruneviz.errors import unknown_name

        raise AttributeError(f"pruneviz: {unknown_name('attribute', name, __all__)}")
    from pruneviz.errors import names_extra

    with names_extra(f"pruneviz.{name}"):
        home = importlib.import_module(_HOMES[name])
    return getattr(home, name)


def __dir__() -> list[str]:
    return __all__
