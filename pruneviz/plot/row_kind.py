"""Row kinds (filters, single weights, units): names in captions, and sources of correlations.

Runs of filters hold every filter, so correlations and mask distances are computed from the rows.
Runs of single weights hold a sample of rows and, separately, correlations and mask distances over
all weights, computed while recording.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from pruneviz.analysis.masks import mask_distance
from pruneviz.analysis.measures import RUN_FACTS, Measure
from pruneviz.analysis.run_facts import with_facts_needed
from pruneviz.analysis.settings import different
from pruneviz.analysis.thin_chance import thin_chance
from pruneviz.errors import FigureError
from pruneviz.log.filter_columns import Column
from pruneviz.log.runs import Runs
from pruneviz.log.schema import filter_column
from pruneviz.log.thin_copies import lacks_epochs
from pruneviz.log.vocabulary import CorrelationMethod
from pruneviz.plot.mean_correlations import mean_correlations
from pruneviz.plot.rows import filters_of
from pruneviz.plot.words import listed, scientific

# A sum over a single weight has one term, so both forms of loss preservation are equal.
_ALIKE: Mapping[str, str] = {"loss_preservation_abs_of_sum": "loss_preservation"}

MaskDistances = Callable[[Runs, pd.DataFrame, Measure, float], pd.DataFrame]


@dataclass(frozen=True)
class RowKind:
    """Kind of row in a filters table.

    Attributes:
        noun: Name in the singular.
        keys: Key columns of the filters table besides `FILTER_KEYS`.
        counted: Column for the number of correlated rows in a figure's table.
        change: Measure of a row's change in training.
        change_symbol: Symbol of that measure.
        columns: Descriptions of columns whose meaning differs from filters.
        without_masks: Sentence on where the mask distance is missing; may be empty.
        sampled: Whether a log holds only a sample of the rows, beside correlations and mask
            distances over all of them.
        mask_distances: Distances of consecutive masks (runs, spec, score, ratio), as
            `mask_distance` gives them.
    """

    noun: str
    keys: tuple[str, ...]
    counted: str
    change: str
    change_symbol: str
    columns: Mapping[str, Column]
    without_masks: str
    sampled: bool
    mask_distances: MaskDistances

    def column(self, name: str) -> Column:
        """The description of a filters column."""
        return self.columns[name] if name in self.columns else filter_column(name)


def row_kind_of(spec: pd.DataFrame) -> RowKind:
    """The row kind of the runs in a figure, from their spec."""
    return ROW_KINDS_BY_UNIT[str(spec["unit"].iloc[0])]


def row_kind_in(table: pd.DataFrame) -> RowKind:
    """The row kind of a figure's table."""
    kinds = ROW_KINDS_BY_UNIT.values()
    return next((kind for kind in kinds if kind.counted in table), FILTER)


def _computed_distances(
    runs: Runs, spec: pd.DataFrame, score: Measure, ratio: float
) -> pd.DataFrame:
    """Computed run by run, because the scales of all runs may not fit into memory.

    Thin copies lack the epochs between measurements, so that their distances come from the log.
    """
    found = []
    for _, run in spec.groupby("run", sort=False):
        reads = [name for name in score.reads if name not in RUN_FACTS]
        filters = filters_of(runs, run, None if score.needs is None else ["kept", *reads])
        filters = with_facts_needed(filters, runs.spec, [score])
        distances = mask_distance(filters, score=score, ratio=ratio)
        if lacks_epochs(run):
            _check_masks(run, score.name, ratio)
            distances = _with_chance(
                _logged_distances(runs, run), runs.named(run["run"]), filters, score, ratio
            )
        found.append(distances.astype({"run": "str"}))
    return pd.concat(found)


def _with_chance(
    distances: pd.DataFrame, run: Runs, filters: pd.DataFrame, score: Measure, ratio: float
) -> pd.DataFrame:
    """Logged distances of a thin copy with their chance level, as far as it is known."""
    (copy,) = run.thin_copies()
    chance = thin_chance(filters, score.of(filters), run.rounds, copy, ratio)
    level = distances["epoch"].map(chance).astype("float64")
    return distances.assign(chance=level).drop(columns="kept_fraction")


def recorded_correlations(
    runs: Runs,
    spec: pd.DataFrame,
    x: str,
    y: str,
    methods: Sequence[CorrelationMethod],
    epochs: Sequence[int] | None = None,
) -> pd.DataFrame | None:
    """Correlations over all weights, computed while recording, averaged over runs of one setting.

    Args:
        runs: Recordings.
        spec: Runs of one setting.
        x: A column or measure; the order of x and y does not matter.
        y: Another one.
        methods: Correlation coefficients.
        epochs: Epochs to read. Default: all.

    Returns:
        The columns of `mean_correlations`; None if a run does not hold the first coefficient.
        Others that a run does not hold are null, as "symlog" is in recordings of schema 2.
    """
    by_method = {method: _recorded(runs, spec, x, y, method, epochs) for method in methods}
    held = {method: not set(spec["run"]) - set(found["run"]) for method, found in by_method.items()}
    if not held[methods[0]]:
        return None
    known = {
        method: found.dropna(subset=["r"]) if held[method] else found[:0]
        for method, found in by_method.items()
    }
    return mean_correlations(known, spec, WEIGHT.counted)


def logged_name(name: str) -> str:
    """The name under which a log of weights holds the correlations of a quantity."""
    return _ALIKE.get(name, name)


def recorded_pairs(runs: Runs, spec: pd.DataFrame) -> pd.DataFrame:
    """Correlations over all weights that a log of a sample holds: columns run, epoch, x and y.

    Empty for logs of all rows.
    """
    held = runs.named(spec["run"]).read("correlations")
    known = held.loc[held["r"].notna(), ["run", "epoch", "x", "y"]].astype({"run": "str"})
    return known.drop_duplicates() if row_kind_of(spec).sampled else known[:0]


def check_recorded(
    runs: Runs, spec: pd.DataFrame, x: str, y: str, methods: Sequence[CorrelationMethod]
) -> None:
    """Check that the log holds correlations over all weights.

    Raises:
        FigureError: If it does not; names the runs and what they hold.
    """
    for method in methods:
        found = set(_recorded(runs, spec, x, y, method)["run"])
        lacking = [run for run in spec["run"] if run not in found]
        if lacking:
            held = different(runs.named(spec["run"]).read("correlations", ["method"])["method"])
            raise FigureError(
                f"the {method} correlation of {x} and {y} over all weights was asked for, but the "
                f"log of {listed(lacking)} holds only {listed(held or ['no correlation'])}, "
                "computed while recording; choose one of these with method (--method), or record "
                "the runs again"
            )


def _recorded(
    runs: Runs,
    spec: pd.DataFrame,
    x: str,
    y: str,
    method: CorrelationMethod,
    epochs: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Recorded correlations of one pair by one coefficient; logs of schema 2 hold no intervals."""
    held = runs.named(spec["run"]).read("correlations", epochs=epochs)
    x, y = logged_name(x), logged_name(y)
    as_named = (held["x"] == x) & (held["y"] == y)
    turned = (held["x"] == y) & (held["y"] == x)
    found = held[(as_named | turned) & (held["method"] == method)]
    return found.reindex(columns=["run", "epoch", "n", "n_eff", "r", "low", "high"])


def _recorded_distances(
    runs: Runs, spec: pd.DataFrame, score: Measure, ratio: float
) -> pd.DataFrame:
    """Mask distances over all weights, logged while recording."""
    _check_masks(spec, score.name, ratio)
    found = _logged_distances(runs, spec)
    return found.assign(chance=_chance_of_all(found, ratio)).drop(columns="kept_fraction")


_WHY_LOGGED = {
    True: "computed over all weights while recording",
    False: "because it is a thin copy without the epochs between measurements",
}


def _logged_distances(runs: Runs, spec: pd.DataFrame) -> pd.DataFrame:
    """Mask distances to the previous epoch, logged while recording; with kept_fraction."""
    columns = ["run", "epoch", "mask_distance", "kept_fraction"]
    rows = runs.named(spec["run"]).read("epochs", columns).sort_values(["run", "epoch"])
    before = rows.groupby("run", observed=True)["epoch"].shift()
    found = rows.rename(columns={"mask_distance": "distance"}).assign(ref_epoch=before)
    return found.astype({"run": "str", "distance": "float64"})


def _chance_of_all(distances: pd.DataFrame, ratio: float) -> pd.Series:
    """The chance level of distances of masks over all rows, which are of unpruned networks.

    Where something is pruned it is left out: a run may state the kept fraction of something else
    than the weights of its masks.
    """
    kept = distances["kept_fraction"].astype("float64").fillna(1.0)
    before = kept.groupby(distances["run"]).shift().fillna(1.0)
    whole = pd.Series(2 * ratio * (1 - ratio), index=distances.index)
    return whole.where((kept == 1) & (before == 1))


def _check_masks(spec: pd.DataFrame, score: str, ratio: float) -> None:
    """Check that the log holds the distances of the wanted masks."""
    held = list(dict.fromkeys(zip(spec["mask_score"], spec["mask_ratio"], strict=True)))
    if held != [(score, ratio)]:
        why = _WHY_LOGGED[bool(spec["unit"].iloc[0] == "weight")]
        have = listed(f"{name} at a ratio of {scientific(share)}" for name, share in held)
        raise FigureError(
            f"masks by {score} at a ratio of {scientific(ratio)} were asked for, but the log of "
            f"{listed(spec['run'])} holds only mask distances by {have}, {why}; "
            "choose these with --mask-score and --mask-ratio"
        )


FILTER = RowKind(
    noun="filter",
    keys=(),
    counted="filters",
    change="sigma_change",
    change_symbol="|σ Δσ|",
    columns={},
    without_masks=(
        " There is no distance where all filters of an epoch score alike, as batch-norm scales do "
        "before training."
    ),
    sampled=False,
    mask_distances=_computed_distances,
)
WEIGHT = RowKind(
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
    sampled=True,
    mask_distances=_recorded_distances,
)


def _of_units(noun: str, counted: str) -> RowKind:
    """A kind of units over several parameters: computed from all rows, as for filters."""
    return replace(FILTER, noun=noun, counted=counted, without_masks="")


# row kinds by the unit in a run's spec
ROW_KINDS_BY_UNIT: Mapping[str, RowKind] = {
    "filter": FILTER,
    "weight": WEIGHT,
    "head": _of_units("attention head", "heads"),
    "neuron": _of_units("neuron", "neurons"),
    "channel": _of_units("embedding channel", "channels"),
    "expert": _of_units("expert", "experts"),
    "residual": _of_units("residual channel", "residual_channels"),
    "group": _of_units("group", "groups"),
}
