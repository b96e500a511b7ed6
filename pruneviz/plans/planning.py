"""Plans of runs at the scale of a preset: the runs that figures need, and custom ones."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from pruneviz.errors import PresetError
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.log.vocabulary import Kind
from pruneviz.plans.needs import (
    DATASET_NAMES,
    DOWNLOADED,
    FIGURE_NEEDS,
    NETWORK_NAMES,
    RATIO_TARGET,
    TARGETS,
    Need,
    check_names,
    figure_name,
)
from pruneviz.plans.presets import RunScale, find_preset
from pruneviz.plans.run_plan import RunPlan


def plan_runs(
    preset: str,
    networks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    dataset: str | None = None,
    figures: Sequence[str] = (),
) -> list[RunPlan]:
    """Plan the runs that figures need, each once.

    Args:
        preset: Preset name.
        networks: Networks to plan. Default: all in the figures.
        seeds: Seeds to plan. Default: the preset's.
        dataset: Data set to record on. Default: the preset's.
        figures: Figures to plan for. Default: all; a figure with its own data set (I1:
            Tiny-ImageNet) only if `dataset` is that one.

    Returns:
        Plans ordered by seed, so that every figure can be drawn after the first seed, then by
        figure.

    Raises:
        PresetError: If a name is unknown, or no run is left.
    """
    names = _figures(preset, figures, dataset)
    unique: dict[str, RunPlan] = {}
    for name in names:
        plans = _plans_of(preset, FIGURE_NEEDS[name], networks, seeds, dataset)
        unique.update((plan.run, plan) for plan in plans)
    if not unique:
        raise PresetError(
            f"figures {', '.join(names)} need no run of {', '.join(networks)}; "
            "leave out --network or name other figures"
        )
    return sorted(unique.values(), key=lambda plan: plan.seed)  # stable


def plan_pruned_runs(
    preset: str,
    pruning: PruningOptions,
    networks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    dataset: str | None = None,
) -> list[RunPlan]:
    """Plan runs that no figure needs, at the scale of a preset.

    Args:
        preset: Preset name.
        pruning: How to prune; `target` None uses the target of the network's accuracy curves.
        networks: Networks to plan. Default: all.
        seeds: Seeds to plan. Default: the preset's.
        dataset: Data set to record on. Default: the preset's.

    Returns:
        One plan for each network, data set and seed.

    Raises:
        PresetError: If a name is unknown, or the options do not fit the runs.
    """
    kind: Kind = "prune_phase" if pruning.prune_phase_only else "pruned"
    need = Need(kind, NETWORK_NAMES, (pruning.measure,), (1,))  # the rounds are set below
    return [_as_asked(plan, pruning) for plan in _plans_of(preset, need, networks, seeds, dataset)]


def plan_baselines(
    preset: str,
    networks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    dataset: str | None = None,
) -> list[RunPlan]:
    """Plan unpruned runs at the scale of the pruned ones of a preset, to compare them with.

    Args:
        preset: Preset name.
        networks: Networks to plan. Default: all.
        seeds: Seeds to plan. Default: the preset's.
        dataset: Data set to record on. Default: the preset's.

    Returns:
        One plan for each network, data set and seed.

    Raises:
        PresetError: If a name is unknown, or the preset trains unpruned runs at this scale already,
            or prunes none.
    """
    plans = _plans_of(preset, Need("pruned", NETWORK_NAMES), networks, seeds, dataset)
    usual = _plans_of(preset, Need("unpruned", NETWORK_NAMES), networks, seeds, dataset)
    if all(plan in plans for plan in usual):
        raise PresetError(
            f"preset {preset} trains unpruned runs at the scale of the pruned ones already; record "
            "them with --figures 3 13 14"
        )
    return [replace(plan, run=plan.run.replace("-unpruned-", "-baseline-")) for plan in plans]


def figures_served(
    preset: str, dataset: str | None = None, seeds: Sequence[int] = ()
) -> dict[str, list[str]]:
    """The figures that need each run of a preset.

    Args:
        preset: Preset name.
        dataset: Data set. Default: the preset's.
        seeds: Seeds. Default: the preset's.

    Returns:
        Figure names, by run name.
    """
    served: dict[str, list[str]] = {}
    for name in find_preset(preset).figures:
        need = FIGURE_NEEDS[name]
        own = dataset if need.dataset is None else need.dataset
        for plan in _plans_of(preset, need, (), seeds, own):
            served.setdefault(plan.run, []).append(name)
    return served


def record_command(
    preset: str,
    out: str,
    *,
    figures: Sequence[str] = (),
    networks: Sequence[str] = (),
    dataset: str | None = None,
) -> str:
    """The command that records the runs for some figures.

    Args:
        preset: Preset name.
        out: Folder for the recordings.
        figures: Figures. Default: all.
        networks: Networks. Default: all in the figures.
        dataset: Data set. Default: the preset's.
    """
    chosen = ["--figures", *figures] if figures else []
    for network in networks:
        chosen += ["--network", network]
    if dataset:
        chosen += ["--dataset", dataset]
    if DOWNLOADED & ({dataset} if dataset else set(find_preset(preset).datasets)):
        chosen += ["--download"]  # nothing happens where the images are there
    return shlex.join(["pruneviz", "record", "--preset", preset, *chosen, "--out", out])


def run_name(
    network: str, dataset: str, need: Need, measure: str | None, rounds: int, seed: int
) -> str:
    """Run name, such as `resnet56-cifar100-proposed-r25-s0`."""
    if measure is None:
        how = "weights" if need.kind == "weights" else "unpruned"
    else:
        how = f"{_slug(measure)}-r{rounds}"
    if need.kind == "prune_phase":
        how += "-prunephase"
    return f"{_slug(network)}-{dataset}-{how}-s{seed}"


def with_sample_seed(plan: RunPlan, seed: int) -> RunPlan:
    """A plan whose measurement sample is drawn by another seed, shown by its run name.

    Args:
        plan: The plan.
        seed: Seed of the measurement sample.
    """
    return replace(plan, run=name_with_sample(plan.run, seed), sample_seed=seed)


def name_with_sample(run: str, seed: int) -> str:
    """A run name with the seed of its sample, such as vgg13-digits-unpruned-sample1-s0.

    Seed 0 is not shown.
    """
    if not seed:
        return run
    begin, _, training = run.rpartition("-")
    return f"{begin}-sample{seed}-{training}"


def _slug(name: str) -> str:
    """A name as a part of run names; `module:function` becomes `module-function`."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", name.replace("_", ""))


def _figures(preset: str, figures: Sequence[str], dataset: str | None) -> list[str]:
    """Names of the requested figures. Default: all of the preset that the data set allows."""
    names = [figure_name(figure) for figure in figures]
    check_names("figure", names, tuple(FIGURE_NEEDS))
    drawn = find_preset(preset).figures
    for name in names:
        if name not in drawn:
            raise PresetError(
                f"figure {name} cannot be drawn from runs of preset {preset}, which records those "
                f"of {', '.join(drawn)}; name one of these, or use another preset"
            )
        own = FIGURE_NEEDS[name].dataset
        if own and dataset not in (None, own):
            raise PresetError(
                f"figure {name} is of {own}, not of {dataset}; "
                "leave out --dataset, or name other figures"
            )
    return names or [name for name in drawn if FIGURE_NEEDS[name].dataset in (None, dataset)]


def _plans_of(
    preset: str, need: Need, networks: Sequence[str], seeds: Sequence[int], dataset: str | None
) -> list[RunPlan]:
    chosen = find_preset(preset)
    check_names("network", networks, NETWORK_NAMES)
    check_names("data set", [dataset] if dataset else [], DATASET_NAMES)
    given = dataset or need.dataset
    if given:
        datasets: tuple[str, ...] = (given,)
    else:
        datasets = chosen.datasets if need.kind == "pruned" else chosen.datasets[-1:]
    if need.kind not in chosen.scales:
        raise PresetError(f"preset {preset} records no runs that prune; use another preset")
    scale = chosen.scales[need.kind]
    wanted = [network for network in need.networks if not networks or network in networks]
    return [
        _plan(preset, scale, need, network, data, measure, rounds, seed)
        for seed in dict.fromkeys(seeds or scale.seeds)
        for network in wanted
        for data in datasets
        for rounds in need.rounds
        for measure in need.measures
    ]


def _as_asked(plan: RunPlan, asked: PruningOptions) -> RunPlan:
    """A plan with the requested pruning, and a run name that shows it."""
    target = TARGETS[plan.network] if asked.target is None else asked.target
    pruning = replace(asked, target=target)
    how = f"{_slug(pruning.measure)}-r{pruning.rounds}-p{_in_percent(target)}{_marks(pruning)}"
    last_round = pruning.rounds - pruning.prune_at_start
    return replace(
        plan,
        run=f"{_slug(plan.network)}-{plan.dataset}-{how}-s{plan.seed}",
        epochs=last_round if pruning.prune_phase_only else plan.epochs,
        pruning=pruning,
    )


def _marks(pruning: PruningOptions) -> str:
    """End of a run name: the options that are not default."""
    marks = {
        "linear": pruning.schedule == "linear",
        "atstart": pruning.prune_at_start,
        "carried": pruning.carry_momentum,
        f"keep{_in_percent(pruning.keep_at_least)}": (
            pruning.keep_at_least != PruningOptions.keep_at_least
        ),
        "flowandprune": pruning.flowandprune,
        "prunephase": pruning.prune_phase_only,
    }
    return "".join(f"-{mark}" for mark, given in marks.items() if given)


def _in_percent(fraction: float) -> str:
    """A fraction in percent, for names: 0.65 is "65"."""
    return f"{100 * fraction:.10g}"


def _plan(
    preset: str,
    scale: RunScale,
    need: Need,
    network: str,
    dataset: str,
    measure: str | None,
    rounds: int,
    seed: int,
) -> RunPlan:
    alone = need.kind == "prune_phase"
    pruning = None
    if measure is not None:
        target = RATIO_TARGET if alone else TARGETS[network]
        pruning = PruningOptions(measure, target, rounds, prune_phase_only=alone)
    return RunPlan(
        run=run_name(network, dataset, need, measure, rounds, seed),
        preset=preset,
        network=network,
        dataset=dataset,
        seed=seed,
        epochs=rounds if alone else scale.epochs,
        lr_drops=scale.lr_drops,
        lr=scale.lr,
        batch_size=scale.batch_size,
        augment=scale.augment,
        width=scale.width[network],
        image_size=scale.image_size.get(network),
        every=scale.every,
        sample_per_class=scale.sample_per_class_on.get(dataset, scale.sample_per_class[network]),
        train_per_class=scale.train_per_class,
        test_per_class=scale.test_per_class,
        unit="weight" if need.kind == "weights" else "filter",
        pruning=pruning,
    )
