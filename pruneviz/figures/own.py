"""Which pictures a folder allows beside the figures of the paper: of other networks and runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from pruneviz.analysis.settings import kinds_of
from pruneviz.console.shown_text import short
from pruneviz.errors import FigureError, unknown_name
from pruneviz.figures.plot_kinds import Arguments, usual_arguments
from pruneviz.plans.needs import FIGURE_NEEDS
from pruneviz.plot.words import network_title

# The kind of picture that draws any runs as a kind of the paper's figures draws its own.
ALIKE: Mapping[str, str] = {
    "scatter": "scatter",
    "correlation_curve": "correlation",
    "accuracy_curve": "accuracy",
    "layer_ratios": "layers",
}
_OF_FILTERS = ("scatter", "correlation")  # kinds that show unpruned runs, if there are some
_LONGEST_STEM = 200  # bytes; file systems take 255, with the ending
_UNPRUNED = ("unpruned", "weights")


@dataclass(frozen=True)
class OwnPicture:
    """A picture of the runs of one network.

    Attributes:
        kind: Name in `pruneviz.figures.plot_kinds.KINDS`.
        network: Title of the network.
        stem: Name of the files, such as `mine-scatter`.
        runs: Names of the runs.
        arguments: Arguments of the plot function, to try one after the other.
    """

    kind: str
    network: str
    stem: str
    runs: tuple[str, ...]
    arguments: tuple[Arguments, ...]


def own_pictures(
    spec: pd.DataFrame, folder: str, apart: Collection[tuple[str, str]] = ()
) -> list[OwnPicture]:
    """Scatter, correlation, layer and accuracy pictures of all runs that no figure shows.

    Pruned runs stand beside the unpruned ones of their network.

    Args:
        spec: Facts about the runs (`runs.spec`).
        folder: Name of their folder, for runs that name no network.
        apart: Networks and kinds of pictures whose figures cannot be drawn, because their runs
            differ in more than their seed.

    Returns:
        The pictures, network by network; no two have files of one name.
    """
    kinds, shown = kinds_of(spec), in_figures(spec)
    found = []
    for (network, unit), rows in _by_network(spec):
        own = rows[~shown[rows.index]]
        refused = {kind for name, kind in apart if name == network}
        pruned = bool((~kinds[rows.index].isin(_UNPRUNED)).any())
        for kind in ALIKE.values():
            if own.empty and kind not in refused:
                continue
            chosen = rows if kind in refused else _of_kind(kind, own, rows, kinds)
            if chosen.empty:
                continue
            arguments = usual_arguments(kind, {})
            if kind == "layers" and not pruned:
                arguments = ({"y": "magnitude"},)
            stem = _stem(network, unit, kind, folder, spec)
            runs = tuple(chosen["run"])
            found.append(OwnPicture(kind, _title(network, folder), stem, runs, arguments))
    return _apart(found)


def pictures_of_kind(
    kind: str, spec: pd.DataFrame, folder: str, arguments: tuple[Arguments, ...]
) -> list[OwnPicture]:
    """Pictures of one kind: one of each network, or one of all if these share a panel.

    Args:
        kind: Name in `pruneviz.figures.plot_kinds.KINDS`.
        spec: Facts about the runs to show.
        folder: Name of their folder.
        arguments: Arguments of the plot function, to try one after the other.
    """
    part, given = _quantities(kind, arguments), arguments[-1]
    told = given.get("by"), given.get("hue")
    if any(name == "network" or "network" in (name or ()) for name in told):
        stem = _slug(f"{folder}-{kind}{part}")
        return [OwnPicture(kind, folder, stem, tuple(spec["run"]), arguments)]
    wanted = spec if "unit" not in given else spec[spec["unit"] == given["unit"]]
    if wanted.empty:
        raise FigureError(
            unknown_name("unit", str(given["unit"]), list(map(str, spec["unit"].unique())))
        )
    return _apart(
        [
            OwnPicture(
                kind,
                _title(network, folder),
                _slug(f"{_stem(network, unit, kind, folder, spec)}{part}"),
                tuple(rows["run"]),
                arguments,
            )
            for (network, unit), rows in _by_network(wanted)
        ]
    )


def selected(
    spec: pd.DataFrame, networks: Sequence[str], runs: Sequence[str], dataset: str | None
) -> pd.DataFrame:
    """The runs of these networks, names and data set.

    Raises:
        FigureError: If there is no such network or run, or none is left.
    """
    chosen = spec
    for fact, names in (("network", networks), ("run", runs)):
        known = list(map(str, spec[fact].dropna()))
        for name in names:
            if name not in known:
                raise FigureError(unknown_name(fact, name, sorted(set(known))))
        chosen = chosen[chosen[fact].isin(names)] if names else chosen
    if dataset is not None:
        chosen = chosen[chosen["dataset"] == dataset]
    if chosen.empty:
        raise FigureError("no run has all of these: --network, --runs, --dataset; leave one out")
    return chosen


def in_figures(spec: pd.DataFrame) -> pd.Series:
    """Whether a figure of the paper shows each run."""
    kinds, rounds = kinds_of(spec), spec["rounds"].fillna(0)
    found = pd.Series(False, index=spec.index)
    for need in FIGURE_NEEDS.values():
        of_need = (kinds == need.kind) & spec["network"].isin(need.networks)
        of_need &= rounds.isin(need.rounds)
        if need.measures != (None,):
            of_need &= spec["measure"].isin(need.measures)
        if need.dataset is not None:
            of_need &= spec["dataset"] == need.dataset
        found |= of_need
    return found


def _by_network(spec: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The rows of each network, "" if it has no name, and unit."""
    keys = [spec["network"].fillna("").astype(str), spec["unit"].astype(str)]
    groups = spec.groupby(keys, sort=False)
    return [((str(network), str(unit)), rows) for (network, unit), rows in groups]


def _of_kind(kind: str, own: pd.DataFrame, rows: pd.DataFrame, kinds: pd.Series) -> pd.DataFrame:
    """The runs in a picture: own ones, beside unpruned ones where pruning is compared."""
    if kind not in _OF_FILTERS:
        return rows[rows.index.isin(own.index) | kinds[rows.index].isin(_UNPRUNED)]
    unpruned = own[kinds[own.index].isin(_UNPRUNED)]
    if len(unpruned) or kinds[rows.index].isin(_UNPRUNED).any():
        return unpruned
    return own


def _stem(network: str, unit: str, kind: str, folder: str, spec: pd.DataFrame) -> str:
    several = len(set(spec.loc[spec["network"].fillna("") == network, "unit"])) > 1
    part = f"-{unit}" if several and unit != "filter" else ""
    return _slug(f"{network or folder}{part}-{kind}")


def _apart(pictures: Sequence[OwnPicture]) -> list[OwnPicture]:
    """Pictures with a number after the names of files that are alike, as those of `a/b` and `a b`.

    Capitals make no difference, as on many disks.
    """
    taken: Counter[str] = Counter()
    found = []
    for picture in pictures:
        taken[picture.stem.casefold()] += 1
        number = taken[picture.stem.casefold()]
        found.append(replace(picture, stem=f"{picture.stem}-{number}") if number > 1 else picture)
    return found


def _slug(name: str) -> str:
    """A name as a file name: of an overlong one the beginning and the end."""
    plain = re.sub(r"[^\w.+-]+", "-", name).strip("-.")
    fits = len(plain.encode()) <= _LONGEST_STEM
    return (plain if fits else short(plain, _LONGEST_STEM // 4).replace("…", "-")) or "runs"


def _title(network: str, folder: str) -> str:
    return network_title(network) if network else folder


def _quantities(kind: str, arguments: tuple[Arguments, ...]) -> str:
    """The part of a file name for quantities other than the usual ones."""
    given = {name: arguments[0].get(name) for name in ("y", "x", "measures")}
    if given == {name: usual_arguments(kind, {})[0].get(name) for name in given}:
        return ""
    words = (item if isinstance(item, str) else "-".join(item) for item in given.values() if item)
    return "".join(f"-{word}" for word in words)
