"""The catalogue of recordings: what each preset trains and how it is measured. Data only; nothing here loads torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pruneviz.errors import PresetError

NETWORK_NAMES = ("resnet56", "vgg13", "mobilenet_v1")
DATASET_NAMES = ("digits", "cifar10", "cifar100", "tiny-imagenet", "folder")


@dataclass(frozen=True)
class RunPlan:
    """Everything that fixes one recorded training run, before any data is seen. Defaults are the protocol of the paper.

    `lr_drops` are the epochs after which the learning rate falls tenfold; `every` is the distance of measured epochs;
    `sample_per_class` images a class are measured on; `train_per_class` None trains on all images.
    Source: Lubana and Dick, ICLR 2021, and the code they published.
    """

    run: str
    preset: str
    network: str
    dataset: str
    seed: int
    epochs: int = 160
    lr_drops: tuple[int, ...] = (80, 120)
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch_size: int = 128
    train_temperature: float = 5.0
    augment: bool = True
    width: float = 1.0
    every: int = 10
    sample_per_class: int = 25
    train_per_class: int | None = None
    test_per_class: int | None = None


@dataclass(frozen=True)
class Preset:
    """A set of recordings: `dataset`, `seeds` for each network, and what differs from the paper's protocol.

    `width` and `sample_per_class` may differ between networks, because their costs do.
    """

    about: str
    dataset: str
    seeds: tuple[int, ...]
    epochs: int
    lr_drops: tuple[int, ...]
    every: int
    width: dict[str, float]
    sample_per_class: dict[str, int]
    batch_size: int = 128
    augment: bool = True
    train_per_class: int | None = None
    test_per_class: int | None = None


PRESETS: dict[str, Preset] = {
    "digits": Preset(
        about="embedded: 1,797 real handwritten digits, narrow networks, 16 epochs; minutes on a laptop",
        dataset="digits",
        seeds=(0, 1, 2),
        epochs=16,
        lr_drops=(8, 12),
        every=1,
        width={"resnet56": 0.25, "vgg13": 0.125, "mobilenet_v1": 0.125},
        sample_per_class={"resnet56": 8, "vgg13": 16, "mobilenet_v1": 16},
        batch_size=32,
        augment=False,  # a mirrored digit is another shape
        train_per_class=64,
    ),
    "cifar-mini": Preset(
        about="real CIFAR-100, 100 images a class, narrower networks, 16 epochs; under an hour a run on two CPU cores",
        dataset="cifar100",
        seeds=(0,),
        epochs=16,
        lr_drops=(8, 12),
        every=1,
        width={"resnet56": 0.5, "vgg13": 0.25, "mobilenet_v1": 0.25},
        sample_per_class={"resnet56": 5, "vgg13": 5, "mobilenet_v1": 5},
        train_per_class=100,
        test_per_class=20,
    ),
    "paper": Preset(
        about="the protocol of the paper: CIFAR-100, full width, 160 epochs, 3 seeds; for a GPU",
        dataset="cifar100",
        seeds=(0, 1, 2),
        epochs=160,
        lr_drops=(80, 120),
        every=10,
        width={"resnet56": 1.0, "vgg13": 1.0, "mobilenet_v1": 1.0},
        sample_per_class={"resnet56": 25, "vgg13": 25, "mobilenet_v1": 25},
    ),
}


def plan_runs(preset: str, networks: Sequence[str] = (), seeds: Sequence[int] = (), dataset: str | None = None) -> list[RunPlan]:
    """The runs of a preset, or those of some networks and seeds, one seed of every network first.

    Errors: `PresetError` for an unknown preset, network or data set, listing those that exist.
    """
    chosen = find_preset(preset)
    unknown = sorted(set(networks) - set(NETWORK_NAMES))
    if unknown:
        raise PresetError(f"no network {', '.join(unknown)}; there are {', '.join(NETWORK_NAMES)}")
    if dataset is not None and dataset not in DATASET_NAMES:
        raise PresetError(f"no data set {dataset!r}; there are {', '.join(DATASET_NAMES)}")
    pairs = dict.fromkeys((network, seed) for seed in seeds or chosen.seeds for network in networks or NETWORK_NAMES)
    return [_plan(preset, chosen, network, dataset or chosen.dataset, seed) for network, seed in pairs]


def find_preset(name: str) -> Preset:
    """The preset of that name; `PresetError` listing those that exist."""
    if name not in PRESETS:
        raise PresetError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def record_command(preset: str, networks: Sequence[str], out: str) -> str:
    """The exact command that records these networks of a preset into the folder `out`."""
    chosen = [part for network in networks for part in ("--network", network)]
    return shlex.join(["python", "-m", "pruneviz.record", "--preset", preset, *chosen, "--out", out])


def _plan(name: str, preset: Preset, network: str, dataset: str, seed: int) -> RunPlan:
    return RunPlan(
        run=f"{network.replace('_', '')}-{dataset}-unpruned-s{seed}",
        preset=name,
        network=network,
        dataset=dataset,
        seed=seed,
        epochs=preset.epochs,
        lr_drops=preset.lr_drops,
        batch_size=preset.batch_size,
        augment=preset.augment,
        width=preset.width[network],
        every=preset.every,
        sample_per_class=preset.sample_per_class[network],
        train_per_class=preset.train_per_class,
        test_per_class=preset.test_per_class,
    )
