"""The catalogue of figures as data: what each picture shows, of which networks, and what the paper's caption claims."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pruneviz.errors import FigureError

NETWORK_TITLES: Mapping[str, str] = {"vgg13": "VGG-13", "mobilenet_v1": "MobileNet-V1", "resnet56": "ResNet-56"}

_CLAIM_CURVE = "as the distance between consecutive pruning masks falls, sigma_change becomes more correlated with loss preservation"
_CLAIM_SCATTER = "theta_hg and theta_g of the filters are highly correlated at initialisation, after 40 epochs and after 160 epochs"


@dataclass(frozen=True)
class Entry:
    """What one figure shows.

    `kind` names the picture module, `networks` the panels or the one network, `dataset` the data set that is drawn when the
    recordings hold several, and `claim` what the caption of the paper states (Lubana and Dick, ICLR 2021).
    """

    kind: str
    networks: tuple[str, ...]
    title: str
    claim: str
    dataset: str = "cifar100"


FIGURES: Mapping[str, Entry] = {
    "2": Entry(
        kind="correlation_curve",
        networks=("vgg13", "mobilenet_v1", "resnet56"),
        title="Correlation of sigma_change with loss preservation, and distance between consecutive pruning masks",
        claim=_CLAIM_CURVE,
    ),
    "3": Entry("scatter", ("resnet56",), "theta_hg against theta_g of every filter of ResNet-56", _CLAIM_SCATTER),
    "13": Entry("scatter", ("vgg13",), "theta_hg against theta_g of every filter of VGG-13", _CLAIM_SCATTER),
    "14": Entry("scatter", ("mobilenet_v1",), "theta_hg against theta_g of every filter of MobileNet-V1", _CLAIM_SCATTER),
    "15": Entry("scatter", ("resnet56",), "theta_hg against theta_g of every filter of ResNet-56", _CLAIM_SCATTER),
}


def find(figure: str) -> Entry:
    """The entry of a figure, by the number that the paper gives it; leading zeros do not matter.

    Errors: `FigureError` when no such figure is known; the message lists those that are.
    """
    name = _plain(figure)
    if name not in FIGURES:
        raise FigureError(f"no figure {figure!r} is known; there are figures {', '.join(ordered(FIGURES))}; name one or more of these")
    return FIGURES[name]


def ordered(figures: Mapping[str, Entry] | list[str]) -> list[str]:
    """Figure names without repeats in the order of the paper: 2, 3, 13, then the appendix (H1a, I1)."""
    return sorted(dict.fromkeys(map(_plain, figures)), key=_sort_key)


def file_stem(figure: str) -> str:
    """The name of a figure's files without their ending, such that they sort as the figures do: 3 -> `figure03`."""
    name = _plain(figure)
    return f"figure{name:0>2}" if name.isdigit() else f"figure{name}"


def network_title(network: str) -> str:
    """A network's name as a panel prints it; a network that the paper does not know keeps its own name."""
    return NETWORK_TITLES.get(network, network)


def _plain(figure: str) -> str:
    return figure.strip().lstrip("0")


def _sort_key(figure: str) -> tuple[str, int, str]:
    letters, digits, rest = re.fullmatch(r"(\D*)(\d*)(.*)", figure).groups()  # type: ignore[union-attr]
    return letters, int(digits or 0), rest
