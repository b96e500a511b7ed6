"""The catalogue of recordings: which runs each figure needs, and how each preset trains and measures them.

Data only; nothing here loads torch. `python -m pruneviz.record` records these runs, `python -m pruneviz.figures` draws from them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from pruneviz.errors import PresetError
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.plans.needs import (
    DATASET_NAMES,
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
    """The runs that some figures need in a preset, each once, one seed of every figure first; all figures when none is named.

    Args: `networks` and `seeds` restrict the runs to these; `dataset` takes the place of the preset's. A figure with a data set of its
    own (I1: Tiny-ImageNet) is planned only when it is named or when `dataset` is that data set.
    Errors: `PresetError` for an unknown preset, network, data set or figure, listing those that exist, and when nothing is left.
    """
    names = _figures(figures, dataset)
    plans = [
        plan
        for name in names
        for plan in _plans_of(preset, FIGURE_NEEDS[name], networks, seeds, dataset)
    ]
    if not plans:
        raise PresetError(
            f"figures {', '.join(names)} need no run of {', '.join(networks)}; leave out --network or name other figures"
        )
    unique = {plan.run: plan for plan in plans}
    return sorted(
        unique.values(), key=lambda plan: plan.seed
    )  # stable: within a seed in the order of the figures


def plan_pruned_runs(
    preset: str,
    pruning: PruningOptions,
    networks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    dataset: str | None = None,
) -> list[RunPlan]:
    """Runs that no figure asks for, at the scale of a preset: one for each network, data set and seed, pruned as `pruning` says.

    Errors: `PresetError` as of `plan_runs`, and for a number of rounds or a target that cannot be.
    """
    need = Need(
        "prune_phase" if pruning.prune_phase_only else "pruned",
        NETWORK_NAMES,
        (pruning.measure,),
        (1,),
    )  # rounds: as asked
    if pruning.rounds < 1:
        raise PresetError(f"{pruning.rounds} rounds prune nothing; give 1 round or more")
    return [_as_asked(plan, pruning) for plan in _plans_of(preset, need, networks, seeds, dataset)]


def figures_served(
    preset: str, dataset: str | None = None, seeds: Sequence[int] = ()
) -> dict[str, list[str]]:
    """{run: the figures that need it}, of all runs that a preset can make on a data set, its own by default."""
    served: dict[str, list[str]] = {}
    for name, need in FIGURE_NEEDS.items():
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
    """The exact command that records what these figures (all by default) need of these networks (all by default) into the folder `out`."""
    chosen = ["--figures", *figures] if figures else []
    chosen += [part for network in networks for part in ("--network", network)]
    chosen += ["--dataset", dataset] if dataset else []
    return shlex.join(["pruneviz", "record", "--preset", preset, *chosen, "--out", out])


def run_name(
    network: str, dataset: str, need: Need, measure: str | None, rounds: int, seed: int
) -> str:
    """The readable name of a run, such as `resnet56-cifar100-proposed-r25-s0`."""
    how = (
        f"{(measure or '').replace('_', '')}-r{rounds}"
        if rounds
        else "weights"
        if need.kind == "weights"
        else "unpruned"
    )
    return f"{network.replace('_', '')}-{dataset}-{how}{'-prunephase' if need.kind == 'prune_phase' else ''}-s{seed}"


def _figures(figures: Sequence[str], dataset: str | None) -> list[str]:
    """The names of the figures asked for, or else of those that can be drawn of a data set."""
    names = [figure_name(figure) for figure in figures]
    check_names("figure", names, tuple(FIGURE_NEEDS))
    for name in names:
        own = FIGURE_NEEDS[name].dataset
        if own and dataset not in (None, own):
            raise PresetError(
                f"figure {name} is of {own}, not of {dataset}; leave out --dataset, or name other figures"
            )
    return names or [name for name, need in FIGURE_NEEDS.items() if need.dataset in (None, dataset)]


def _plans_of(
    preset: str, need: Need, networks: Sequence[str], seeds: Sequence[int], dataset: str | None
) -> list[RunPlan]:
    chosen = find_preset(preset)
    check_names("network", networks, NETWORK_NAMES)
    check_names("data set", [dataset] if dataset else [], DATASET_NAMES)
    own = chosen.datasets if need.kind == "pruned" else chosen.datasets[-1:]
    given = dataset or need.dataset
    scale = chosen.scales[need.kind]
    return [
        _plan(preset, scale, need, network, data, measure, rounds, seed)
        for seed in dict.fromkeys(seeds or scale.seeds)
        for network in need.networks
        if not networks or network in networks
        for data in ((given,) if given else own)
        for rounds in need.rounds
        for measure in need.measures
    ]


def _as_asked(plan: RunPlan, asked: PruningOptions) -> RunPlan:
    """A plan of a catalogue's scale with the pruning asked for, and a name that tells it."""
    target = TARGETS[plan.network] if asked.target is None else asked.target
    pruning = replace(asked, target=target)
    measure = str(pruning.measure).replace("_", "")
    how = f"{measure}-r{pruning.rounds}-p{_in_percent(target)}{_marks(pruning)}"
    ends_early = pruning.rounds - pruning.prune_at_start
    return replace(
        plan,
        run=f"{plan.network.replace('_', '')}-{plan.dataset}-{how}-s{plan.seed}",
        epochs=ends_early if pruning.prune_phase_only else plan.epochs,
        pruning=pruning,
    )


def _marks(pruning: PruningOptions) -> str:
    """The end of a run's name: its options that are not the default."""
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
    """A fraction as percent, for names: 0.65 -> 65."""
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
        sample_per_class=scale.sample_per_class[network],
        train_per_class=scale.train_per_class,
        test_per_class=scale.test_per_class,
        unit="weight" if need.kind == "weights" else "filter",
        pruning=pruning,
    )
