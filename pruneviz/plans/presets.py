"""Presets: the scale of each kind of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pruneviz.log.vocabulary import Kind
from pruneviz.plans.needs import FIGURE_NEEDS, NETWORK_NAMES, check_names


@dataclass(frozen=True)
class RunScale:
    """Scale of one kind of runs in a preset. Defaults are the paper's.

    Attributes:
        seeds: Seeds, one run each.
        epochs: Number of training epochs.
        lr_drops: Epochs after which the learning rate falls tenfold.
        every: Epochs between two measured epochs.
        width: Width of each network; 1 is the paper's.
        sample_per_class: Images per class in the measurement sample, by network.
        sample_per_class_on: The same on data sets that take another number, for all networks.
        lr: Initial learning rate.
        batch_size: Images per training step.
        augment: Train on randomly cropped and flipped images.
        train_per_class: Training images per class; None takes all.
        test_per_class: Test images per class; None takes all.
        image_size: Image side in pixels, by network; other networks keep the data set's.
        seconds_per_epoch: Measured time per epoch including measuring, by network, with one run per
            core on two CPU cores; empty if unknown.
    """

    seeds: tuple[int, ...]
    epochs: int
    lr_drops: tuple[int, ...]
    every: int
    width: Mapping[str, float]
    sample_per_class: Mapping[str, int]
    sample_per_class_on: Mapping[str, int] = field(default_factory=dict)
    lr: float = 0.1
    batch_size: int = 128
    augment: bool = True
    train_per_class: int | None = None
    test_per_class: int | None = None
    image_size: Mapping[str, int] = field(default_factory=dict)
    seconds_per_epoch: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A set of recordings.

    Attributes:
        about: Description, for help texts.
        datasets: Data sets for accuracy curves; other figures use the last one.
        scales: Scale of the runs, by kind; kinds that it lacks cannot be recorded with it.
        figures: Figures that its runs can be drawn in.
    """

    about: str
    datasets: tuple[str, ...]
    scales: Mapping[Kind, RunScale]
    figures: tuple[str, ...] = tuple(FIGURE_NEEDS)


def _everywhere(value: float) -> dict[str, float]:
    return dict.fromkeys(NETWORK_NAMES, value)


_DIGITS_WIDTH = {"resnet56": 0.25, "vgg13": 0.125, "mobilenet_v1": 0.125}

_DIGITS = RunScale(
    seeds=(0, 1, 2),
    epochs=16,
    lr_drops=(8, 12),
    every=2,
    width=_DIGITS_WIDTH,
    sample_per_class={"resnet56": 8, "vgg13": 16, "mobilenet_v1": 16},
    batch_size=32,
    augment=False,  # mirrored digits are not digits
    train_per_class=64,
    # The digits have 8 x 8 pixels, and only this network works with less than 32.
    image_size={"resnet56": 16},
    seconds_per_epoch={"resnet56": 1.1, "vgg13": 0.9, "mobilenet_v1": 1.2},
)

_DIGITS_WEIGHTS = replace(
    _DIGITS,
    seeds=(0,),
    every=4,
    seconds_per_epoch={"resnet56": 0.9, "vgg13": 0.8, "mobilenet_v1": 1.0},
)

# 25 rounds must fit in: more epochs on fewer images, at a higher learning rate.
_DIGITS_PRUNED = replace(
    _DIGITS,
    seeds=(0,),
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

_DIGITS_PHASE = replace(
    _DIGITS_PRUNED,
    test_per_class=10,
    seconds_per_epoch={"vgg13": 0.25, "mobilenet_v1": 0.35},
)

# On CIFAR-10, with a tenth of the classes, samples are as large as on CIFAR-100.
_MINI = RunScale(
    seeds=(0,),
    epochs=16,
    lr_drops=(8, 12),
    every=1,
    width={"resnet56": 0.5, "vgg13": 0.25, "mobilenet_v1": 0.25},
    sample_per_class=dict.fromkeys(NETWORK_NAMES, 5),
    sample_per_class_on={"cifar10": 50},
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

# CPU seconds of one thread, see docs/presets.md: an epoch of VGG-13, MobileNet-V1 and ResNet-56
# takes 136, 105 and 181 with testing, a measurement of 2,500 images 29, 18 and 42.
_HALF = RunScale(
    seeds=(0,),
    epochs=30,
    lr_drops=(15, 23),
    every=3,
    width=_everywhere(0.5),
    sample_per_class=dict.fromkeys(NETWORK_NAMES, 25),
    sample_per_class_on={"cifar10": 250},
    seconds_per_epoch={"resnet56": 191, "vgg13": 143, "mobilenet_v1": 108},
)

# 25 rounds must fit in, and each ranks filters by derivatives: half of the images, and a sample of
# 1,000. The seconds follow from those above.
_HALF_PRUNED = replace(
    _HALF,
    epochs=32,
    lr_drops=(26, 29),
    every=8,
    sample_per_class=dict.fromkeys(NETWORK_NAMES, 10),
    sample_per_class_on={"cifar10": 100},
    seconds_per_epoch={"resnet56": 108, "vgg13": 81, "mobilenet_v1": 60},
    train_per_class=250,
)

_PAPER = RunScale(
    seeds=(0, 1, 2),
    epochs=160,
    lr_drops=(80, 120),
    every=10,
    width=_everywhere(1.0),
    sample_per_class=dict.fromkeys(NETWORK_NAMES, 25),
    sample_per_class_on={"cifar10": 256},
)

# Nothing is trained. A test accuracy before training is that of guessing, so few images tell it.
_INIT = replace(
    _PAPER,
    epochs=0,
    lr_drops=(),
    every=1,
    test_per_class=5,
    seconds_per_epoch={"resnet56": 160, "vgg13": 180, "mobilenet_v1": 75},
)

_SHORT = replace(_PAPER, epochs=40, lr_drops=(20, 30), every=5)


def _scales(
    unpruned: RunScale, pruned: RunScale, weights: RunScale, prune_phase: RunScale
) -> dict[Kind, RunScale]:
    return {"unpruned": unpruned, "pruned": pruned, "weights": weights, "prune_phase": prune_phase}


PRESETS: Mapping[str, Preset] = {
    "digits": Preset(
        about="embedded: 1,797 real handwritten digits, narrow networks, 16 to 28 epochs; "
        "minutes on a laptop",
        datasets=("digits",),
        scales=_scales(_DIGITS, _DIGITS_PRUNED, _DIGITS_WEIGHTS, _DIGITS_PHASE),
    ),
    "cifar-mini": Preset(
        about="real CIFAR-100, 50 to 100 images per class, narrower networks, 16 to 32 epochs; "
        "under an hour per run on two CPU cores",
        datasets=("cifar100",),
        scales=_scales(_MINI, _MINI_PRUNED, _MINI, _MINI_PHASE),
    ),
    "cifar-half": Preset(
        about="real CIFAR-100, all images (half of them in pruned runs), half width, 30 to 32 "
        "epochs; half an hour to two hours per run on one CPU core",
        datasets=("cifar100",),
        scales=_scales(_HALF, _HALF_PRUNED, _HALF, _HALF_PRUNED),
    ),
    "short": Preset(
        about="the paper preset with the schedule scaled to 40 epochs; for a GPU",
        datasets=("cifar10", "cifar100"),
        scales=_scales(_SHORT, _SHORT, replace(_SHORT, seeds=(0,)), replace(_SHORT, seeds=(0,))),
    ),
    "paper-init": Preset(
        about="the networks of the paper before any training: CIFAR-100, full width, 3 seeds, "
        "measured once; minutes per run on a CPU",
        datasets=("cifar100",),
        scales={"unpruned": _INIT, "weights": replace(_INIT, seeds=(0,), seconds_per_epoch={})},
        figures=("3", "13", "14", "15", "H1a"),
    ),
    "paper": Preset(
        about="the protocol of the paper: CIFAR-10 and CIFAR-100, full width, 160 epochs, "
        "3 seeds; for a GPU",
        datasets=("cifar10", "cifar100"),
        scales=_scales(_PAPER, _PAPER, replace(_PAPER, seeds=(0,)), replace(_PAPER, seeds=(0,))),
    ),
}


def find_preset(name: str) -> Preset:
    """Look up a preset by name.

    Raises:
        PresetError: If the name is unknown.
    """
    check_names("preset", [name], tuple(PRESETS))
    return PRESETS[name]
