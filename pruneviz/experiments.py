"""The catalogue of recordings: which runs each figure needs, and how each preset trains and measures them.

Data only; nothing here loads torch. `python -m pruneviz.record` records these runs, `python -m pruneviz.figures` draws from them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from pruneviz.errors import PresetError
from pruneviz.plans import Kind, Pruning, RunPlan, percent

NETWORK_NAMES = ("resnet56", "vgg13", "mobilenet_v1")
DATASET_NAMES = ("digits", "cifar10", "cifar100", "tiny-imagenet", "folder")

# The fraction pruned in the accuracy curves; the paper names none for single figures.
TARGETS: Mapping[str, float] = {"vgg13": 0.75, "mobilenet_v1": 0.75, "resnet56": 0.6}
RATIO_TARGET = 0.65  # Figures 16 and 17
CURVE_MEASURES = ("magnitude", "proposed", "loss_preservation")
RATIO_MEASURES = ("magnitude", "loss_preservation", "proposed", "grasp_t200", "grasp", "gradient_norm_preservation")


@dataclass(frozen=True)
class Need:
    """The runs that a figure is made of: every combination of network, measure and number of rounds, on each data set, for each seed.

    `kind`: "unpruned" training measured by filters; "weights", the same measured by single weights; "pruned", pruning in rounds
    and training to the end; "prune_phase", its rounds alone. `dataset` is the figure's own data set, where it has one.
    """

    kind: Kind
    networks: tuple[str, ...]
    measures: tuple[str | None, ...] = (None,)
    rounds: tuple[int, ...] = (0,)
    dataset: str | None = None


def _curves(network: str, rounds: int) -> Need:
    return Need("pruned", (network,), CURVE_MEASURES, (rounds,))


def _ratios(network: str) -> Need:
    return Need("prune_phase", (network,), RATIO_MEASURES, (1, 5, 25))


_THREE = ("vgg13", "mobilenet_v1", "resnet56")

# Source: Lubana and Dick, ICLR 2021, figure captions.
FIGURE_NEEDS: Mapping[str, Need] = {
    "1": _curves("resnet56", 25),
    "2": Need("unpruned", _THREE),
    "3": Need("unpruned", ("resnet56",)),
    "4": _curves("vgg13", 1),
    "5": _curves("vgg13", 5),
    "6": _curves("vgg13", 25),
    "7": _curves("mobilenet_v1", 1),
    "8": _curves("mobilenet_v1", 5),
    "9": _curves("mobilenet_v1", 25),
    "10": _curves("resnet56", 1),
    "11": _curves("resnet56", 5),
    "12": _curves("resnet56", 25),
    "13": Need("unpruned", ("vgg13",)),
    "14": Need("unpruned", ("mobilenet_v1",)),
    "15": Need("unpruned", ("resnet56",)),
    "16": _ratios("vgg13"),
    "17": _ratios("mobilenet_v1"),
    "H1a": Need("weights", ("resnet56",)),
    "H1b": Need("weights", _THREE),
    "I1": Need("unpruned", _THREE, dataset="tiny-imagenet"),
}


@dataclass(frozen=True)
class Scale:
    """How large the runs of one kind are; `width` and `sample_per_class` may differ between networks, because their costs do.

    `image_size` scales the images of a network's runs, by default not at all.
    `seconds_per_epoch` is what an epoch with its share of measuring took, one run a core, on two CPU cores; empty where unknown.
    """

    seeds: tuple[int, ...]
    epochs: int
    lr_drops: tuple[int, ...]
    every: int
    width: Mapping[str, float]
    sample_per_class: Mapping[str, int]
    lr: float = 0.1
    batch_size: int = 128
    augment: bool = True
    train_per_class: int | None = None
    test_per_class: int | None = None
    image_size: Mapping[str, int] = field(default_factory=dict)
    seconds_per_epoch: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A set of recordings: the data sets of accuracy curves (`datasets`) and of all else (the last of them), and the scale of each kind."""

    about: str
    datasets: tuple[str, ...]
    scales: Mapping[Kind, Scale]


def _everywhere(value: float) -> dict[str, float]:
    return dict.fromkeys(NETWORK_NAMES, value)


_DIGITS_WIDTH = {"resnet56": 0.25, "vgg13": 0.125, "mobilenet_v1": 0.125}
_DIGITS = Scale(
    seeds=(0, 1, 2),
    epochs=16,
    lr_drops=(8, 12),
    every=2,
    width=_DIGITS_WIDTH,
    sample_per_class={"resnet56": 8, "vgg13": 16, "mobilenet_v1": 16},
    batch_size=32,
    augment=False,  # a mirrored digit is another shape
    train_per_class=64,
    image_size={"resnet56": 16},  # digits are 8x8 by birth, and this network alone can do with less than 32
    seconds_per_epoch={"resnet56": 1.1, "vgg13": 0.9, "mobilenet_v1": 1.2},
)
_DIGITS_WEIGHTS = replace(_DIGITS, seeds=(0,), every=4, seconds_per_epoch={"resnet56": 0.9, "vgg13": 0.8, "mobilenet_v1": 1.0})
# 25 rounds must fit in: more epochs than above, on fewer images, and faster learning
_DIGITS_PRUNED = replace(
    _DIGITS,
    seeds=(0, 1),
    epochs=28,
    lr_drops=(26, 27),
    lr=0.3,
    batch_size=16,
    every=28,
    sample_per_class=dict.fromkeys(NETWORK_NAMES, 4),
    train_per_class=16,
    test_per_class=20,
    seconds_per_epoch={"resnet56": 0.4, "vgg13": 0.2, "mobilenet_v1": 0.3},
)
_DIGITS_PHASE = replace(_DIGITS_PRUNED, seeds=(0,), test_per_class=10, seconds_per_epoch={"vgg13": 0.25, "mobilenet_v1": 0.35})
_MINI = Scale(
    seeds=(0,),
    epochs=16,
    lr_drops=(8, 12),
    every=1,
    width={"resnet56": 0.5, "vgg13": 0.25, "mobilenet_v1": 0.25},
    sample_per_class=dict.fromkeys(NETWORK_NAMES, 5),
    train_per_class=100,
    test_per_class=20,
    seconds_per_epoch={"resnet56": 40, "vgg13": 12, "mobilenet_v1": 12},
)
_MINI_PRUNED = replace(
    _MINI,
    epochs=32,
    lr_drops=(26, 29),
    every=8,
    train_per_class=50,
    seconds_per_epoch={"resnet56": 18, "vgg13": 5, "mobilenet_v1": 6},
)
_MINI_PHASE = replace(_MINI_PRUNED, seconds_per_epoch={"vgg13": 7, "mobilenet_v1": 8})
_PAPER = Scale(
    seeds=(0, 1, 2),
    epochs=160,
    lr_drops=(80, 120),
    every=10,
    width=_everywhere(1.0),
    sample_per_class=dict.fromkeys(NETWORK_NAMES, 25),
)
_SHORT = replace(_PAPER, epochs=40, lr_drops=(20, 30), every=5)


def _scales(unpruned: Scale, pruned: Scale, weights: Scale, prune_phase: Scale) -> dict[Kind, Scale]:
    return {"unpruned": unpruned, "pruned": pruned, "weights": weights, "prune_phase": prune_phase}


PRESETS: Mapping[str, Preset] = {
    "digits": Preset(
        about="embedded: 1,797 real handwritten digits, narrow networks, 16 to 28 epochs; minutes on a laptop",
        datasets=("digits",),
        scales=_scales(_DIGITS, _DIGITS_PRUNED, _DIGITS_WEIGHTS, _DIGITS_PHASE),
    ),
    "cifar-mini": Preset(
        about="real CIFAR-100, 50 to 100 images a class, narrower networks, 16 to 32 epochs; under an hour a run on two CPU cores",
        datasets=("cifar100",),
        scales=_scales(_MINI, _MINI_PRUNED, _MINI, _MINI_PHASE),
    ),
    "short": Preset(
        about="the paper preset with the schedule scaled to 40 epochs; for a GPU",
        datasets=("cifar10", "cifar100"),
        scales=_scales(_SHORT, _SHORT, replace(_SHORT, seeds=(0,)), replace(_SHORT, seeds=(0,))),
    ),
    "paper": Preset(
        about="the protocol of the paper: CIFAR-10 and CIFAR-100, full width, 160 epochs, 3 seeds; for a GPU",
        datasets=("cifar10", "cifar100"),
        scales=_scales(_PAPER, _PAPER, replace(_PAPER, seeds=(0,)), replace(_PAPER, seeds=(0,))),
    ),
}


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
    plans = [plan for name in names for plan in _plans_of(preset, FIGURE_NEEDS[name], networks, seeds, dataset)]
    if not plans:
        raise PresetError(f"figures {', '.join(names)} need no run of {', '.join(networks)}; leave out --network or name other figures")
    unique = {plan.run: plan for plan in plans}
    return sorted(unique.values(), key=lambda plan: plan.seed)  # stable: within a seed in the order of the figures


def plan_pruned_runs(
    preset: str, pruning: Pruning, networks: Sequence[str] = (), seeds: Sequence[int] = (), dataset: str | None = None
) -> list[RunPlan]:
    """Runs that no figure asks for, at the scale of a preset: one for each network, data set and seed, pruned as `pruning` says.

    Errors: `PresetError` as of `plan_runs`, and for a number of rounds or a target that cannot be.
    """
    need = Need("prune_phase" if pruning.prune_phase_only else "pruned", NETWORK_NAMES, (pruning.measure,), (1,))  # rounds: as asked
    if pruning.rounds < 1:
        raise PresetError(f"{pruning.rounds} rounds prune nothing; give 1 round or more")
    return [_as_asked(plan, pruning) for plan in _plans_of(preset, need, networks, seeds, dataset)]


def figures_served(preset: str, dataset: str | None = None, seeds: Sequence[int] = ()) -> dict[str, list[str]]:
    """{run: the figures that need it}, of all runs that a preset can make on a data set, its own by default."""
    served: dict[str, list[str]] = {}
    for name, need in FIGURE_NEEDS.items():
        own = dataset if need.dataset is None else need.dataset
        for plan in _plans_of(preset, need, (), seeds, own):
            served.setdefault(plan.run, []).append(name)
    return served


def figure_name(figure: str) -> str:
    """A figure's name as the catalogue has it: `03` is 3, `h1A` is H1a."""
    plain = figure.strip().lstrip("0")
    return next((name for name in FIGURE_NEEDS if name.lower() == plain.lower()), plain)


def find_preset(name: str) -> Preset:
    """The preset of that name; `PresetError` listing those that exist."""
    _check_names("preset", [name], tuple(PRESETS))
    return PRESETS[name]


def record_command(preset: str, out: str, *, figures: Sequence[str] = (), networks: Sequence[str] = (), dataset: str | None = None) -> str:
    """The exact command that records what these figures (all by default) need of these networks (all by default) into the folder `out`."""
    chosen = ["--figures", *figures] if figures else []
    chosen += [part for network in networks for part in ("--network", network)]
    chosen += ["--dataset", dataset] if dataset else []
    return shlex.join(["python", "-m", "pruneviz.record", "--preset", preset, *chosen, "--out", out])


def run_name(network: str, dataset: str, need: Need, measure: str | None, rounds: int, seed: int) -> str:
    """The readable name of a run, such as `resnet56-cifar100-proposed-r25-s0`."""
    how = f"{(measure or '').replace('_', '')}-r{rounds}" if rounds else "weights" if need.kind == "weights" else "unpruned"
    return f"{network.replace('_', '')}-{dataset}-{how}{'-prunephase' if need.kind == 'prune_phase' else ''}-s{seed}"


def _figures(figures: Sequence[str], dataset: str | None) -> list[str]:
    """The names of the figures asked for, or else of those that can be drawn of a data set."""
    names = [figure_name(figure) for figure in figures]
    _check_names("figure", names, tuple(FIGURE_NEEDS))
    for name in names:
        own = FIGURE_NEEDS[name].dataset
        if own and dataset not in (None, own):
            raise PresetError(f"figure {name} is of {own}, not of {dataset}; leave out --dataset, or name other figures")
    return names or [name for name, need in FIGURE_NEEDS.items() if need.dataset in (None, dataset)]


def _plans_of(preset: str, need: Need, networks: Sequence[str], seeds: Sequence[int], dataset: str | None) -> list[RunPlan]:
    chosen = find_preset(preset)
    _check_names("network", networks, NETWORK_NAMES)
    _check_names("data set", [dataset] if dataset else [], DATASET_NAMES)
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


def _as_asked(plan: RunPlan, pruning: Pruning) -> RunPlan:
    """A plan of a catalogue's scale with the options of `pruning`, and a name that tells them."""
    target = TARGETS[plan.network] if pruning.target is None else pruning.target
    how = f"{pruning.measure.replace('_', '')}-r{pruning.rounds}-p{percent(target)}{pruning.marks}"
    options = {field.name: getattr(pruning, field.name) for field in fields(pruning)} | {"target": target}
    epochs = pruning.rounds - pruning.prune_at_start if pruning.prune_phase_only else plan.epochs
    return replace(plan, run=f"{plan.network.replace('_', '')}-{plan.dataset}-{how}-s{plan.seed}", epochs=epochs, **options)


def _plan(preset: str, scale: Scale, need: Need, network: str, dataset: str, measure: str | None, rounds: int, seed: int) -> RunPlan:
    alone = need.kind == "prune_phase"
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
        measure=measure,
        target=0.0 if not rounds else RATIO_TARGET if alone else TARGETS[network],
        rounds=rounds,
        prune_phase_only=alone,
    )


def _check_names(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise PresetError(f"there is no {what} {', '.join(map(repr, unknown))}; choose among {', '.join(known)}")
