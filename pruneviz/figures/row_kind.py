"""What one row of a log is about, a filter or a single weight: its names, its words, and where the numbers over all of them come from.

Runs measured by filters hold every filter, so that correlations and mask distances are computed here from the rows. Runs measured by
single weights hold a sample of their rows, and beside it correlations and mask distances over all weights, computed while recording.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pandas as pd

from pruneviz.analysis.correlation import correlate, fisher_intervals, over_seeds
from pruneviz.analysis.masks import mask_distance
from pruneviz.analysis.scores import NEEDS
from pruneviz.errors import FigureError
from pruneviz.figures.chosen_runs import filters_of
from pruneviz.figures.options import DrawOptions, Method
from pruneviz.figures.words import different, listed, scientific
from pruneviz.log.runs import Runs
from pruneviz.log.schema import Column, filter_column

# The sum over a single weight has one term, so that both forms of loss preservation are one measure.
_ALIKE: Mapping[str, str] = {"loss_preservation_abs_of_sum": "loss_preservation"}

Distances = Callable[[Runs, pd.DataFrame, DrawOptions], pd.DataFrame]


class Agreement(Protocol):
    """Correlations of two columns or measures, averaged over the runs of each network, as in `pruneviz.figures.agreement.averaged`."""

    def __call__(
        self,
        runs: Runs,
        spec: pd.DataFrame,
        x: str,
        y: str,
        options: DrawOptions,
        epochs: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Those at the given epochs; at all by default."""


@dataclass(frozen=True)
class Unit:
    """One unit of measurement.

    `noun` names it; `keys` are its keys in the filters table beside `FILTER_KEYS`; `counted` is the column of a figure's table that
    tells over how many a correlation is; `change` is the measure of how far it moved in training, with its symbol; `columns` describes
    the columns of the filters table that mean something else than for filters; `without_masks` says where there is no mask distance.
    `agreement` are correlations averaged over runs; `distances` (runs, spec, options) those of consecutive masks, as of `mask_distance`.
    """

    noun: str
    keys: tuple[str, ...]
    counted: str
    change: str
    change_symbol: str
    columns: Mapping[str, Column]
    without_masks: str
    agreement: Agreement
    distances: Distances

    def column(self, name: str) -> Column:
        """The description of a column of the filters table."""
        return self.columns[name] if name in self.columns else filter_column(name)


def unit_of(kind: str) -> Unit:
    """The unit by which runs of a kind (`pruneviz.plans.planning.Need`) are measured."""
    return WEIGHT if kind == "weights" else FILTER


def unit_in(table: pd.DataFrame) -> Unit:
    """The unit that a figure's table is about."""
    return WEIGHT if WEIGHT.counted in table else FILTER


def _computed_agreement(
    runs: Runs,
    spec: pd.DataFrame,
    x: str,
    y: str,
    options: DrawOptions,
    epochs: Sequence[int] | None = None,
) -> pd.DataFrame:
    needed = list(dict.fromkeys(column for name in (x, y) for column in NEEDS.get(name, (name,))))
    return agreement(
        filters_of(runs, spec, needed, epochs, complete=needed), spec, x, y, options.methods
    )


def _computed_distances(runs: Runs, spec: pd.DataFrame, options: DrawOptions) -> pd.DataFrame:
    """Run by run, for the scales of all epochs of all runs are too many to hold at once."""
    by = options.masks_by("unpruned")
    each = [
        filters_of(runs, run, ["kept", *NEEDS[by]]) for _, run in spec.groupby("run", sort=False)
    ]
    return pd.concat(
        [
            mask_distance(filters, score=by, ratio=options.mask_ratio).astype({"run": "str"})
            for filters in each
        ]
    )


def _recorded_agreement(
    runs: Runs,
    spec: pd.DataFrame,
    x: str,
    y: str,
    options: DrawOptions,
    epochs: Sequence[int] | None = None,
) -> pd.DataFrame:
    known = {name: _ALIKE.get(name, name) for name in (x, y)}
    held = runs.named(spec["run"]).read("correlations", epochs=epochs)
    return averaged(
        {method: _recorded(held, spec, known[x], known[y], method) for method in options.methods},
        spec,
        WEIGHT.counted,
    )


def _recorded(
    held: pd.DataFrame, spec: pd.DataFrame, x: str, y: str, method: Method
) -> pd.DataFrame:
    """Of the correlations over all weights that were recorded those of one pair and coefficient, with Fisher's intervals."""
    found = held[(held["x"] == x) & (held["y"] == y) & (held["method"] == method)]
    lacking = [run for run in spec["run"] if run not in set(found["run"])]
    if lacking:
        methods = listed(different(held["method"])) if len(held) else "no correlation"
        raise FigureError(
            f"the {method} correlation of {x} and {y} over all weights was asked for, but the log of {listed(lacking)} holds only "
            f"{methods}, computed while recording; choose one of these with method (--method), or record the runs anew"
        )
    found = found.dropna(subset=["r"])
    low, high = fisher_intervals(
        found["r"].to_numpy(dtype="float64"), found["n"].to_numpy(), method
    )
    return found[["run", "epoch", "n", "r"]].assign(low=low, high=high)


def _recorded_distances(runs: Runs, spec: pd.DataFrame, options: DrawOptions) -> pd.DataFrame:
    """The mask distances over all weights that were logged while recording; the reference of each is the epoch before it in the log."""
    _check_masks(spec, options)
    rows = (
        runs.named(spec["run"])
        .read("epochs", ["run", "epoch", "mask_distance"])
        .sort_values(["run", "epoch"])
    )
    chance = 2 * options.mask_ratio * (1 - options.mask_ratio)
    before = rows.groupby("run", observed=True)["epoch"].shift()
    return (
        rows.rename(columns={"mask_distance": "distance"})
        .assign(ref_epoch=before, chance=chance)
        .astype({"distance": "float64"})
    )


def _check_masks(spec: pd.DataFrame, options: DrawOptions) -> None:
    wanted = (options.masks_by("weights"), options.mask_ratio)
    held = dict.fromkeys(zip(spec["mask_score"], spec["mask_ratio"], strict=True))
    if list(held) != [wanted]:
        have = listed(f"{score} at a ratio of {scientific(ratio)}" for score, ratio in held)
        raise FigureError(
            f"masks of weights by {wanted[0]} at a ratio of {scientific(wanted[1])} were asked for, but the log holds only distances of "
            f"those by {have}, computed over all weights while recording; choose these with --mask-score and --mask-ratio"
        )


FILTER = Unit(
    noun="filter",
    keys=(),
    counted="filters",
    change="sigma_change",
    change_symbol="|σ Δσ|",
    columns={},
    without_masks=" There is no distance where all filters of an epoch score alike, as batch-norm scales do before training.",
    agreement=_computed_agreement,
    distances=_computed_distances,
)
WEIGHT = Unit(
    noun="weight",
    keys=("weight",),
    counted="weights",
    change="theta_change",
    change_symbol="|θ Δθ|",
    columns={
        "theta_g": replace(
            filter_column("theta_g"),
            meaning="weight times gradient, signed",
            symbol=r"$\theta_j g_j$",
        ),
        "theta_hg": replace(
            filter_column("theta_hg"),
            meaning="weight times its entry of the Hessian-gradient product, signed",
            symbol=r"$\theta_j (Hg)_j$",
        ),
    },
    without_masks="",
    agreement=_recorded_agreement,
    distances=_recorded_distances,
)


KEYS = ["network", "dataset", "epoch"]


def agreement(
    filters: pd.DataFrame, spec: pd.DataFrame, x: str, y: str, methods: Sequence[Method]
) -> pd.DataFrame:
    """Correlations of columns `x` and `y` over the filters of each run and epoch, averaged over the runs of each network.

    Returns: the columns of `averaged`.
    """
    return averaged(
        {
            method: correlate(filters, x, y, by=["run", "epoch"], method=method)
            for method in methods
        },
        spec,
    )


def averaged(
    correlations: Mapping[Method, pd.DataFrame], spec: pd.DataFrame, counted: str = "filters"
) -> pd.DataFrame:
    """Correlations of each run and epoch (run, epoch, n, r, low, high), by coefficient, averaged over the runs of each network.

    Returns one row per network, data set and epoch: `seeds` (runs averaged), the column `counted` (fewest filters, or weights,
    correlated in a run) and, for each coefficient, its mean, its standard deviation over seeds (`_sd`) and its 95 % interval (`_low`,
    `_high`): that of the mean over seeds or, where there is one seed and so no spread over seeds, that of the run over its filters.
    """
    parts = [_of_method(found, spec, method, counted) for method, found in correlations.items()]
    return pd.concat(
        [parts[0], *(part.drop(columns=["seeds", counted]) for part in parts[1:])], axis="columns"
    ).reset_index()


def _of_method(
    correlations: pd.DataFrame, spec: pd.DataFrame, method: Method, counted: str
) -> pd.DataFrame:
    correlations = correlations.astype({"run": "str"})
    mean = over_seeds(correlations, spec, by=KEYS).set_index(KEYS)
    within = correlations.merge(spec[["run", "network", "dataset"]], on="run").groupby(
        KEYS, observed=True
    )
    columns = {
        "seeds": mean["seeds"],
        counted: within["n"].min(),
        method: mean["r"],
        f"{method}_sd": mean["sd"],
    }
    ends = {
        f"{method}_{end}": mean[end].where(mean["seeds"] > 1, within[end].first())
        for end in ("low", "high")
    }
    return pd.DataFrame({**columns, **ends})
