"""Synthetic recordings at the scale of the paper: all runs that its 17 figures need.

The runs are those planned by the preset `paper`: three seeds of unpruned training of each network
on CIFAR-100 (9 runs), and one seed of every accuracy curve, three networks by three numbers of
rounds by three measures on CIFAR-10 and CIFAR-100 (54 runs). These 63 runs have 161 epochs each and
54 million filter rows together. Figures 16 and 17 add one seed of pruning rounds only, 36 runs of 1
to 25 epochs. Layers have the names and sizes of the real networks; files have the encodings of real
recordings, since `RunLog` writes them. Filter rows of pruned runs are those of unpruned training,
because no figure reads them.

    python -m benchmarks.paper_scale FOLDER [--quick]
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from pruneviz.experiment.networks.registry import build_network
from pruneviz.log.pruning_options import PruningOptions, pruning_facts
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import Runs
from pruneviz.plans.planning import plan_runs
from pruneviz.plans.run_plan import RunPlan
from tests.support.synthetic_runs import make_pruned_runs, make_runs

FIGURES = tuple(map(str, range(1, 18)))


def plans(preset: str) -> list[RunPlan]:
    """The runs to write: every seed of unpruned training, the first seed of everything else."""
    return [
        plan
        for plan in plan_runs(preset, figures=FIGURES)
        if plan.kind == "unpruned" or plan.seed == 0
    ]


def make(folder: Path, *, quick: bool = False) -> None:
    """Write all runs into `folder`; with `quick` those of the embedded preset, which are small."""
    chosen = plans("digits" if quick else "paper")
    with ProcessPoolExecutor(max_workers=2) as pool:
        list(pool.map(_write, chosen, [folder] * len(chosen)))


def convolutions(network: str, width: float) -> dict[str, nn.Conv2d]:
    """Convolutions of a network by name."""
    modules = build_network(network, num_classes=100, width=width).named_modules()
    return {name: module for name, module in modules if isinstance(module, nn.Conv2d)}


def _write(plan: RunPlan, folder: Path) -> None:
    tables = _tables(plan, convolutions(plan.network, plan.width))
    facts = {**dataclasses.asdict(plan), **pruning_facts(plan.pruning)}
    del facts["pruning"]
    log = RunLog.create(
        folder / plan.run,
        RunSpec.from_dict({**facts, "every": str(plan.every), "sample_size": 2_560}),
    )
    log.append(plan.epochs, **tables)  # all epochs as one part
    log.seal()


def _tables(plan: RunPlan, layers: Mapping[str, nn.Conv2d]) -> dict[str, pd.DataFrame]:
    """Tables of one run with real layer names; a depthwise layer is coupled to its predecessor."""
    sizes = {plan.network: tuple(layer.out_channels for layer in layers.values())}
    trained = make_runs(sizes, seeds=(plan.seed,), epochs=plan.epochs, every=plan.every)
    runs = _pruned(plan, plan.pruning, sizes) if plan.pruning else trained
    names = list(layers)
    named = {f"features.{index}.conv": name for index, name in enumerate(names)}
    filters = _with_further_columns(trained.filters)
    filters = filters.assign(layer=filters["layer"].cat.rename_categories(named))
    if not plan.rounds:
        return {"epochs": runs.epochs, "filters": filters}
    before = {name: names[place - 1] for place, name in enumerate(names) if layers[name].groups > 1}
    rounds = runs.rounds.assign(layer=runs.rounds["layer"].cat.rename_categories(named))
    return {
        "epochs": runs.epochs,
        "filters": filters,
        "rounds": rounds.assign(coupled_to=rounds["layer"].astype(str).map(before)),
    }


def _pruned(plan: RunPlan, pruning: PruningOptions, sizes: Mapping[str, tuple[int, ...]]) -> Runs:
    return make_pruned_runs(
        sizes,
        measures=(pruning.measure,),
        rounds=(pruning.rounds,),
        datasets=(plan.dataset,),
        seeds=(plan.seed,),
        epochs=plan.epochs,
        target=pruning.target or 0,
        prune_phase_only=pruning.prune_phase_only,
    )


def _with_further_columns(filters: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of a recording that no figure draws, in plausible sizes."""
    return filters.assign(
        theta_l1=np.sqrt(filters["theta_norm2"]),
        theta_hg_t200=filters["theta_hg"] / 200,
        g_norm2=filters["abs_theta_g"] ** 2,
        theta_g_se=filters["theta_g"].abs() / 3,
        theta_hg_se_given_g=filters["theta_hg"].abs() / 2,
    )


def main() -> None:
    """Write the recordings into the given folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="Narrow networks and short training.")
    given = parser.parse_args()
    make(given.folder, quick=given.quick)


if __name__ == "__main__":
    main()
