"""The catalogue of figures as data: what each picture shows, of which runs, and what the paper's caption claims."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pruneviz.errors import FigureError
from pruneviz.plans.needs import FIGURE_NEEDS, Need, figure_name

NETWORK_TITLES: Mapping[str, str] = {
    "vgg13": "VGG-13",
    "mobilenet_v1": "MobileNet-V1",
    "resnet56": "ResNet-56",
}
PREFERRED_DATASET = "cifar100"

_CLAIM_ACCURACY = (
    "magnitude-based pruning converges fastest, the proposed measure second, loss preservation last"
)
_CLAIM_CURVE = "as the distance between consecutive pruning masks falls, sigma_change becomes more correlated with loss preservation"
_CLAIM_SCATTER = "theta_hg and theta_g of the filters are highly correlated at initialisation, after 40 epochs and after 160 epochs"
_CLAIM_CURVE_WEIGHTS = (
    "as the distance between consecutive pruning masks falls, |theta x its change| becomes more correlated with |theta x gradient|, as "
    "sigma_change does with loss preservation (stated for filters; Appendix H.1 looks at single weights)"
)
_CLAIM_RATIOS = (
    "once the network has trained even slightly (5 and 25 rounds), GraSP without temperature prunes the earlier layers far more "
    "aggressively than the other measures do"
)


@dataclass(frozen=True)
class Entry:
    """What one figure shows.

    `kind` names the picture module, `need` the runs that it is made of, and `claim` what the caption of the paper states
    (Lubana and Dick, ICLR 2021).
    """

    kind: str
    need: Need
    title: str
    claim: str

    @property
    def networks(self) -> tuple[str, ...]:
        """The panels of the figure, or its one network."""
        return self.need.networks

    @property
    def dataset(self) -> str:
        """The data set that is drawn when the recordings hold several and the figure shows one."""
        return self.need.dataset or PREFERRED_DATASET


def network_title(network: str) -> str:
    """A network's name as a panel prints it; a network that the paper does not know keeps its own name."""
    return NETWORK_TITLES.get(network, network)


def _accuracy(figure: str) -> Entry:
    need = FIGURE_NEEDS[figure]
    rounds = f"{need.rounds[0]} round{'s' if need.rounds[0] > 1 else ''}"
    claim = (
        _CLAIM_ACCURACY
        if figure == "1"
        else f"{_CLAIM_ACCURACY} (stated for Figure 1, ResNet-56 in 25 rounds)"
    )
    return Entry(
        "accuracy_curve",
        need,
        f"Train and test accuracy of {network_title(need.networks[0])} pruned in {rounds}",
        claim,
    )


def _scatter(figure: str) -> Entry:
    need = FIGURE_NEEDS[figure]
    return Entry(
        "scatter",
        need,
        f"theta_hg against theta_g of every filter of {network_title(need.networks[0])}",
        _CLAIM_SCATTER,
    )


def _ratios(figure: str) -> Entry:
    need = FIGURE_NEEDS[figure]
    return Entry(
        "layer_ratios",
        need,
        f"Fraction pruned in each layer of {network_title(need.networks[0])}",
        _CLAIM_RATIOS,
    )


_CURVE_TITLE = "Correlation of sigma_change with loss preservation, and distance between consecutive pruning masks"

FIGURES: Mapping[str, Entry] = {
    "1": _accuracy("1"),
    "2": Entry("correlation_curve", FIGURE_NEEDS["2"], _CURVE_TITLE, _CLAIM_CURVE),
    "3": _scatter("3"),
    "4": _accuracy("4"),
    "5": _accuracy("5"),
    "6": _accuracy("6"),
    "7": _accuracy("7"),
    "8": _accuracy("8"),
    "9": _accuracy("9"),
    "10": _accuracy("10"),
    "11": _accuracy("11"),
    "12": _accuracy("12"),
    "13": _scatter("13"),
    "14": _scatter("14"),
    "15": _scatter("15"),
    "16": _ratios("16"),
    "17": _ratios("17"),
    "H1a": Entry(
        "scatter",
        FIGURE_NEEDS["H1a"],
        "theta_hg against theta_g of single weights of ResNet-56",
        f"{_CLAIM_SCATTER} (stated for filters; Appendix H.1 looks at single weights)",
    ),
    "H1b": Entry(
        "correlation_curve",
        FIGURE_NEEDS["H1b"],
        "Correlation of theta_change with loss preservation over single weights, and distance between consecutive pruning masks",
        _CLAIM_CURVE_WEIGHTS,
    ),
    "I1": Entry(
        "correlation_curve", FIGURE_NEEDS["I1"], f"{_CURVE_TITLE}, on Tiny-ImageNet", _CLAIM_CURVE
    ),
}


def find(figure: str) -> Entry:
    """The entry of a figure, by the name that the paper gives it; leading zeros and capitals do not matter.

    Errors: `FigureError` when no such figure is known; the message lists those that are.
    """
    name = figure_name(figure)
    if name not in FIGURES:
        raise FigureError(
            f"no figure {figure!r} is known; there are figures {', '.join(ordered(FIGURES))}; name one or more of these"
        )
    return FIGURES[name]


def ordered(figures: Mapping[str, Entry] | list[str]) -> list[str]:
    """Figure names without repeats in the order of the paper: 2, 3, 13, then the appendix (H1a, I1)."""
    return sorted(dict.fromkeys(map(figure_name, figures)), key=_sort_key)


def file_stem(figure: str) -> str:
    """The name of a figure's files without their ending, such that they sort as the figures do: 3 -> `figure03`."""
    name = figure_name(figure)
    return f"figure{name:0>2}" if name.isdigit() else f"figure{name}"


def _sort_key(figure: str) -> tuple[str, int, str]:
    letters, digits, rest = re.fullmatch(r"(\D*)(\d*)(.*)", figure).groups()  # type: ignore[union-attr]
    return letters, int(digits or 0), rest
