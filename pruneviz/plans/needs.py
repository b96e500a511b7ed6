"""Which runs each figure of the paper needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pruneviz.errors import PresetError, unknown_name
from pruneviz.log.vocabulary import Kind

NETWORK_NAMES = ("resnet56", "vgg13", "mobilenet_v1")

DATASET_NAMES = ("digits", "cifar10", "cifar100", "tiny-imagenet", "folder")
DOWNLOADED = frozenset({"cifar10", "cifar100"})  # what --download can fetch

# Fraction pruned in accuracy curves; the paper does not give it per figure.
TARGETS: Mapping[str, float] = {"vgg13": 0.75, "mobilenet_v1": 0.75, "resnet56": 0.6}

RATIO_TARGET = 0.65  # fraction pruned in Figures 16 and 17

CURVE_MEASURES = ("magnitude", "proposed", "loss_preservation")

RATIO_MEASURES = (
    "magnitude",
    "loss_preservation",
    "proposed",
    "grasp_t200",
    "grasp",
    "gradient_norm_preservation",
)


@dataclass(frozen=True)
class Need:
    """Runs that a figure needs, on each data set and for each seed.

    One run per combination of network, measure and number of rounds.

    Attributes:
        kind: "unpruned": training, one row per filter; "weights": training, one row per single
            weight; "pruned": pruning in rounds, then training to the end; "prune_phase": pruning
            rounds only.
        networks: Network names.
        measures: Pruning measures; (None,) for runs that never prune.
        rounds: Numbers of pruning rounds; (0,) for runs that never prune.
        dataset: The figure's own data set; None uses the preset's.
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


def figure_name(figure: str | int) -> str:
    """A figure's name in the catalogue.

    For example 3 for `03`, `fig3`, `figure03` and `Figure 3`, and H1a for `h1A`.
    """
    given = str(figure).strip()
    plain = re.sub(r"^fig(ure)?[.\s_-]*", "", given.lower()).lstrip("0")
    by_plain = {name.lower(): name for name in FIGURE_NEEDS}
    return by_plain.get(plain, given)


def check_names(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise `PresetError` for the first name that is not in `known`."""
    for name in names:
        if name not in known:
            raise PresetError(unknown_name(what, name, known))
