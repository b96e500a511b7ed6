"""The catalogue of figures as data: content, required runs and the paper's claim."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pruneviz.console.words import counted
from pruneviz.errors import FigureError, unknown_name
from pruneviz.plans.needs import FIGURE_NEEDS, Need, figure_name
from pruneviz.plot.words import listed, network_title

PREFERRED_DATASET = "cifar100"

_CURVE_TITLE = (
    "Correlation of sigma_change with loss preservation, and distance between consecutive pruning "
    "masks"
)
_CURVE_TITLE_WEIGHTS = (
    "Correlation of theta_change with loss preservation over single weights, and distance between "
    "consecutive pruning masks"
)
_CLAIM_ACCURACY = (
    "magnitude-based pruning converges fastest, the proposed measure second, loss preservation last"
)
_CLAIM_CURVE = (
    "as the distance between consecutive pruning masks falls, sigma_change becomes more correlated "
    "with loss preservation"
)
_CLAIM_SCATTER = (
    "theta_hg and theta_g of the filters are highly correlated at initialisation, after 40 epochs "
    "and after 160 epochs"
)
_CLAIM_CURVE_WEIGHTS = (
    "as the distance between consecutive pruning masks falls, |theta x its change| becomes more "
    "correlated with |theta x gradient|, as sigma_change does with loss preservation (stated for "
    "filters; Appendix H.1 looks at single weights)"
)
_CLAIM_RATIOS = (
    "once the network has trained even slightly (5 and 25 rounds), GraSP without temperature "
    "prunes the earlier layers far more aggressively than the other measures do"
)


@dataclass(frozen=True)
class Entry:
    """Description of one figure.

    Attributes:
        kind: Name of the picture module in `pruneviz.figures.kinds`.
        need: The required runs.
        subject: Title with the placeholder `{networks}` for the network titles.
        claim: Claim in the paper's caption.

    References:
        Lubana and Dick, ICLR 2021, captions of Figures 1 to 17, H.1 and I.1.
    """

    kind: str
    need: Need
    subject: str
    claim: str

    @property
    def title(self) -> str:
        """The title of the figure."""
        return self.subject.format(networks=_titles(self.networks))

    @property
    def networks(self) -> tuple[str, ...]:
        """Networks in the figure: one per panel, or the only one."""
        return self.need.networks

    @property
    def dataset(self) -> str:
        """The data set to draw if several are recorded and the figure shows one."""
        return self.need.dataset or PREFERRED_DATASET

    def with_networks(self, networks: Sequence[str] | str) -> Entry:
        """The same figure for other networks.

        Raises:
            FigureError: If no network is named, or several for a figure that shows only one.
        """
        named = (networks,) if isinstance(networks, str) else tuple(dict.fromkeys(networks))
        if not named:
            raise FigureError("networks is empty; name one as in runs.spec, such as ['mine']")
        if len(named) > 1 and len(self.networks) == 1:
            raise FigureError(
                f"networks is {list(named)}, but this figure shows one network; draw one at a time"
            )
        claim = self.claim
        if "(stated for" not in claim:
            claim = f"{claim} (stated for {_titles(self.networks)})"
        return replace(self, need=replace(self.need, networks=named), claim=claim)


def _titles(networks: Iterable[str]) -> str:
    return listed(map(network_title, networks))


def _accuracy(figure: str) -> Entry:
    need = FIGURE_NEEDS[figure]
    subject = (
        f"Train and test accuracy of {{networks}} pruned in {counted(need.rounds[0], 'round')}"
    )
    reserve = "" if figure == "1" else " (stated for Figure 1, ResNet-56 in 25 rounds)"
    return Entry("accuracy_curve", need, subject, _CLAIM_ACCURACY + reserve)


def _scatter(figure: str) -> Entry:
    subject = "theta_hg against theta_g of every filter of {networks}"
    return Entry("scatter", FIGURE_NEEDS[figure], subject, _CLAIM_SCATTER)


def _ratios(figure: str) -> Entry:
    subject = "Fraction pruned in each layer of {networks}"
    return Entry("layer_ratios", FIGURE_NEEDS[figure], subject, _CLAIM_RATIOS)


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
        "theta_hg against theta_g of single weights of {networks}",
        f"{_CLAIM_SCATTER} (stated for filters; Appendix H.1 looks at single weights)",
    ),
    "H1b": Entry(
        "correlation_curve", FIGURE_NEEDS["H1b"], _CURVE_TITLE_WEIGHTS, _CLAIM_CURVE_WEIGHTS
    ),
    "I1": Entry(
        "correlation_curve", FIGURE_NEEDS["I1"], f"{_CURVE_TITLE}, on Tiny-ImageNet", _CLAIM_CURVE
    ),
}


def find(figure: str | int) -> Entry:
    """The entry of a figure.

    Args:
        figure: Name in the paper; `3`, `03`, `fig3`, `figure03` and `Figure 3` are equal.

    Raises:
        FigureError: If the figure is unknown; lists the known ones.
    """
    name = figure_name(figure)
    if name not in FIGURES:
        raise FigureError(unknown_name("figure", name, tuple(FIGURES)))
    return FIGURES[name]


def same_figures(entry: Entry) -> list[str]:
    """Figures that show the same by definition: the same kind of picture of the same runs.

    Args:
        entry: A figure.
    """
    return [
        name
        for name, other in FIGURES.items()
        if (other.kind, other.need) == (entry.kind, entry.need)
    ]


def ordered(figures: Iterable[str]) -> list[str]:
    """Unique figure names in the paper's order: 2, 3, 13, then the appendix."""
    return sorted(dict.fromkeys(map(figure_name, figures)), key=_sort_key)


def file_stem(figure: str | int) -> str:
    """File name without extension, zero-padded so that it sorts: 3 -> `figure03`."""
    name = figure_name(figure)
    return f"figure{name:0>2}" if name.isdigit() else f"figure{name}"


def _sort_key(figure: str) -> tuple[str, int, str]:
    letters, digits, rest = re.fullmatch(r"(\D*)(\d*)(.*)", figure).groups()  # type: ignore[union-attr]
    return letters, int(digits or 0), rest
