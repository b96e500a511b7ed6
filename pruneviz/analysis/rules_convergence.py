"""Verdicts on Figures 1 and 4-12: which pruning measure's runs converge fastest.

Two readings of speed are judged: the area under the test accuracy, in points of accuracy, and the
epochs to given accuracies. Leads are paired by seed, since a seed fixes initialisation and data.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pruneviz.analysis.convergence import BY, convergence_by_run, leads_by_seed
from pruneviz.analysis.lead_tests import Lead, corrected_tests, lead, told_power
from pruneviz.analysis.rules import (
    NOT_SUPPORTED,
    NOT_TESTABLE,
    SUPPORTED,
    UNDECIDED,
    Panel,
    Rule,
    Verdict,
    families,
    needs_seeds,
)
from pruneviz.console.words import counted
from pruneviz.errors import AnalysisError

ORDER = ("magnitude", "proposed", "loss_preservation")  # from the supposedly fastest on
AREA, EPOCHS = "points", "epochs"  # units of the two readings, and names of their zones
STATISTICS: Mapping[str, str] = {
    AREA: "lead in mean test accuracy over the epochs, in points",
    EPOCHS: "lead in epochs to 50, 80, 90 and 95 % of the best final accuracy, their mean",
}
WHOLE_ORDER = "order of all measures"
LEARNT = 0.02  # least part of the way from guessing to no error; else nothing was learnt
_COLUMNS = ["run", "epoch", "test_acc"]
# Standard deviation of the difference of two times that are both rounded up to whole steps.
ROUNDING = 1 / np.sqrt(6)


@dataclass(frozen=True)
class Pair:
    """The lead of one measure over the next, by one reading.

    Attributes:
        ahead: The supposedly faster measure.
        behind: The other one.
        unit: Unit of the lead, a key in `STATISTICS`.
        lead: The lead over the seeds that both have.
        runs: Names of their runs.
        seeds: Number of seeds that both have.
        lacks: Why there is no lead; empty if there is one.
        unreached: Accuracies that some of their runs reach and others never do, in words.
    """

    ahead: str
    behind: str
    unit: str
    lead: Lead
    runs: tuple[str, ...] = ()
    seeds: int = 0
    lacks: str = ""
    unreached: str = ""

    @property
    def what(self) -> str:
        """What is compared, in words."""
        return f"{self.ahead} before {self.behind}, {self.unit}"


def judge_convergence(panels: Sequence[Panel], rule: Rule) -> list[Verdict]:
    """Judge whether the measures converge in the claimed order.

    Args:
        panels: Runs that differ only in their seed and measure.
        rule: Its thresholds are points and epochs (the zones) and p.

    Returns:
        For each panel a verdict on the whole order, and one for each pair of neighbours and each
        reading. p-values are corrected by Holm over the pairs and data sets of a figure.

    References:
        Lubana and Dick, ICLR 2021, caption of Figure 1.
        Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 1987: equivalence.
    """
    found = [pairs_of(panel) for panel in panels]
    verdicts: list[dict[str, Verdict]] = [{} for _ in panels]
    for family in families(panels, rule):
        for unit in STATISTICS:
            rows = [(at, pair) for at in family for pair in found[at] if pair.unit == unit]
            words = judge_pairs([pair for _, pair in rows], rule)
            for (at, pair), (verdict, reason, p) in zip(rows, words, strict=True):
                verdicts[at][pair.what] = _verdict(panels[at], pair, verdict, reason, p)
    in_order = sorted(range(len(panels)), key=lambda at: _place(panels, at))
    return [
        verdict
        for at in in_order
        for verdict in (_whole(panels[at], found[at], verdicts[at]), *verdicts[at].values())
    ]


def judge_pairs(pairs: Sequence[Pair], rule: Rule) -> list[tuple[str, str, float]]:
    """Judge the leads of one figure by one reading, corrected for their number.

    Args:
        pairs: The leads, of one unit.
        rule: Its thresholds and number of seeds.

    Returns:
        For each pair the verdict, its reason, and the p-value that decided, or would have.
    """
    testable = [not pair.lacks and pair.lead.seeds >= rule.seeds for pair in pairs]
    leads = [pair.lead if ok else None for pair, ok in zip(pairs, testable, strict=True)]
    zone = rule.thresholds[pairs[0].unit] if pairs else 0.0
    words = []
    for pair, ok, (p_ahead, p_short) in zip(
        pairs, testable, corrected_tests(leads, 0, zone), strict=True
    ):
        if not ok:
            words.append((NOT_TESTABLE, _untested(pair, rule), float("nan")))
            continue
        verdict, reason = decide(pair.lead, pair.unit, p_ahead, p_short, rule)
        if pair.unreached:  # the lead leaves out where the measures differ most
            told = f"{pair.unreached} of the best accuracy is reached by some of the runs only"
            verdict, reason = UNDECIDED, f"{told}, so the lead there is not known"
        words.append((verdict, reason, p_short if verdict == NOT_SUPPORTED else p_ahead))
    return words


def decide(found: Lead, unit: str, p_ahead: float, p_short: float, rule: Rule) -> tuple[str, str]:
    """Verdict and reason of one lead.

    Args:
        found: The lead.
        unit: Its unit, a key in `STATISTICS`.
        p_ahead: p-value of no lead, corrected for the number of leads.
        p_short: p-value of a lead as large as the zone or larger, corrected.
        rule: Its thresholds.
    """
    zone, level = rule.thresholds[unit], rule.thresholds["p"]
    if found.sd == 0 and found.mean != 0:
        return UNDECIDED, f"the same in all {found.seeds} seeds, so nothing tells its spread"
    if p_short <= level:
        return NOT_SUPPORTED, f"{_shortfall(found, zone, unit)} (p = {p_short:.2g})"
    if p_ahead <= level:
        return SUPPORTED, f"the whole interval is above 0 (p = {p_ahead:.2g})"
    if found.low > 0 or found.high < zone:
        return UNDECIDED, f"the interval decides, but not after Holm (p = {p_ahead:.2g})"
    return (
        UNDECIDED,
        f"neither no lead nor one of {_zone(zone, unit)} is excluded; {told_power(found.seeds)}",
    )


def order_verdict(pairs: Mapping[tuple[str, str], Sequence[str]], complete: bool) -> str:
    """Verdict on the whole order from those on its pairs of neighbours.

    Args:
        pairs: For each pair its verdicts, one for each reading.
        complete: Whether all measures of the order are recorded.
    """
    if any(set(words) == {NOT_SUPPORTED} for words in pairs.values()):
        return NOT_SUPPORTED
    every = {word for words in pairs.values() for word in words}
    if every <= {NOT_TESTABLE}:
        return NOT_TESTABLE
    return SUPPORTED if complete and every == {SUPPORTED} else UNDECIDED


def pairs_of(panel: Panel) -> list[Pair]:
    """The leads of neighbours in the order, of those measures that are recorded.

    Args:
        panel: Runs that differ only in their seed and measure.

    Returns:
        For each pair of neighbours one lead by each reading; none of fewer than two measures.
    """
    measures = set(panel.runs.spec["measure"])
    recorded = [name for name in ORDER if name in measures]
    if len(recorded) < 2:
        return []
    try:
        by_run, gap = _convergence(panel, recorded)
    except AnalysisError as error:
        none = lead(np.array([]))
        return [
            Pair(ahead, behind, unit, none, seeds=panel.seeds, lacks=str(error))
            for ahead, behind in itertools.pairwise(recorded)
            for unit in STATISTICS
        ]
    return [
        pair
        for ahead, behind in itertools.pairwise(recorded)
        for pair in _pair(leads_by_seed(by_run, ahead, behind), ahead, behind, gap)
    ]


def _place(panels: Sequence[Panel], at: int) -> tuple[int, int]:
    """Where a panel stands: by first appearance of network and data set, then by rounds."""
    of = [(one.network, one.dataset, one.what) for one in panels]
    return of.index(of[at]), panels[at].rounds


def _untested(pair: Pair, rule: Rule) -> str:
    if pair.lacks and pair.seeds >= rule.seeds:
        return pair.lacks
    few = needs_seeds(rule, pair.seeds)
    return f"{few}; {told_power(pair.seeds)}" if pair.seeds > 1 else few


def _verdict(
    panel: Panel, pair: Pair, verdict: str, reason: str, p: float = float("nan")
) -> Verdict:
    return Verdict(
        panel=panel,
        verdict=verdict,
        reason=reason,
        statistic=STATISTICS[pair.unit],
        value=pair.lead.mean,
        low=pair.lead.low,
        high=pair.lead.high,
        runs=pair.runs,
        seeds=pair.seeds,
        p=p,
        what=f"{counted(panel.rounds, 'round')}, {pair.what}",
    )


def _whole(panel: Panel, pairs: Sequence[Pair], verdicts: Mapping[str, Verdict]) -> Verdict:
    """The verdict on the order of all measures in a panel."""
    measures = set(panel.runs.spec["measure"])
    lacking = [name for name in ORDER if name not in measures]
    words: dict[tuple[str, str], list[str]] = {}
    for pair in pairs:
        words.setdefault((pair.ahead, pair.behind), []).append(verdicts[pair.what].verdict)
    verdict = order_verdict(words, complete=not lacking)
    told = [
        f"{ahead} before {behind}: {', '.join(dict.fromkeys(each))}"
        for (ahead, behind), each in words.items()
    ]
    if verdict == NOT_TESTABLE:
        told = list(dict.fromkeys(one.reason for one in verdicts.values()))[:1]
    told += [f"{name} is not recorded" for name in lacking]
    seeds = min((one.seeds for one in verdicts.values()), default=panel.seeds)
    chosen = panel.runs.spec["measure"].isin(ORDER)
    return Verdict(
        panel=panel,
        verdict=verdict,
        reason="; ".join(told),
        statistic=WHOLE_ORDER,
        runs=tuple(panel.runs.spec.loc[chosen, "run"]),
        seeds=seeds,
        what=f"{counted(panel.rounds, 'round')}, {WHOLE_ORDER}",
    )


def _zone(zone: float, unit: str) -> str:
    return f"{zone:g} {unit.removesuffix('s') if zone == 1 else unit}"


def _shortfall(found: Lead, zone: float, unit: str) -> str:
    if found.high < 0:
        return "the other way round: the whole interval is below 0"
    if found.low > 0:
        return f"ahead, but by less than {_zone(zone, unit)}"
    if found.low > -zone:
        return f"no relevant difference: the interval is within {_zone(zone, unit)} of 0"
    return f"no lead of {_zone(zone, unit)}: the whole interval is below it"


def _pair(both: pd.DataFrame, ahead: str, behind: str, gap: float) -> Iterator[Pair]:
    """The lead of one measure over another by each reading."""
    runs = tuple(pd.unique(both[["run", "run_behind"]].to_numpy().ravel()))
    area = 100 * both.loc[both["quantity"] == "area", "lead"].dropna().to_numpy()
    epochs, lacks = _epochs_ahead(both)
    seeds = both["seed"].nunique()
    yield Pair(ahead, behind, AREA, lead(area), runs, seeds)
    found = lead(epochs, gap * ROUNDING)
    yield Pair(ahead, behind, EPOCHS, found, runs, seeds, lacks, unreached(both))


def _convergence(panel: Panel, measures: Sequence[str]) -> tuple[pd.DataFrame, float]:
    """Convergence of the runs of some measures, and the largest gap between their epochs."""
    spec = panel.runs.spec
    chosen = panel.runs.named(spec.loc[spec["measure"].isin(measures), "run"])
    if "test_acc" not in chosen.recorded("epochs"):
        raise AnalysisError("test accuracies are not recorded")
    epochs = chosen.read("epochs", _COLUMNS)
    _check_learnt(epochs, chosen.spec)
    at = np.unique(epochs.dropna(subset=["test_acc"])["epoch"])
    gap = float(np.diff(at).max()) if len(at) > 1 else 1.0
    return convergence_by_run(epochs, chosen.spec, by=BY), gap


def _check_learnt(epochs: pd.DataFrame, spec: pd.DataFrame) -> None:
    """Raise an error if no run ever beats guessing, where the number of classes is known."""
    classes, best = spec["num_classes"].dropna().max(), epochs["test_acc"].max()
    if pd.isna(classes) or pd.isna(best) or classes < 2:
        return
    if best - 1 / classes < LEARNT * (1 - 1 / classes):
        raise AnalysisError(
            f"no run has learnt: the best test accuracy is {100 * best:.1f} %, and guessing "
            f"among {classes:.0f} classes is right in {100 / classes:.1f} %"
        )


def unreached(both: pd.DataFrame) -> str:
    """The shares of the best accuracy that some of the runs of a pair reach and others never do.

    Args:
        both: Result of `leads_by_seed` for the pair.

    Returns:
        The shares in words, such as "80, 90 %"; empty if there are none.
    """
    times = both[both["quantity"] == "epochs_to"]
    known = times[["value", "value_behind"]].notna()
    partly = known.any(axis=1).groupby(times["share"]).any()
    partly &= ~known.all(axis=1).groupby(times["share"]).all()
    shares = partly.index[partly]
    return f"{', '.join(f'{100 * share:g}' for share in shares)} %" if len(shares) else ""


def _epochs_ahead(both: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Each seed's lead in epochs, averaged over the thresholds that both reach in every seed."""
    times = both[both["quantity"] == "epochs_to"]
    wide = times.pivot_table(index="seed", columns="share", values="lead", dropna=False)
    reached = wide.dropna(axis="columns")
    if len(times) and reached.shape[1] == 0:
        return np.array([]), "no accuracy is reached by both measures in every seed"
    return reached.mean(axis="columns").to_numpy(), ""
