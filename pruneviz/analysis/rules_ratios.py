"""Verdicts on Figures 16 and 17: whether GraSP prunes the first layers far more than others do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pruneviz.analysis.lead_tests import Lead, corrected_tests, lead, told_power
from pruneviz.analysis.pruned_fractions import AVERAGED_WITHIN, after_last_round, fractions_by_run
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
from pruneviz.errors import AnalysisError, LogError

ACCUSED = "grasp"  # the measure that the claim is about
OTHERS = (
    *("magnitude", "loss_preservation", "proposed", "grasp_t200"),
    "gradient_norm_preservation",
)
STATISTIC = (
    "pruned share of the first third of the layers by GraSP (T = 1), minus the largest of the "
    "other measures, in percentage points"
)


@dataclass(frozen=True)
class Ahead:
    """How much more the accused measure prunes the first third of the layers.

    Attributes:
        lead: Its lead over the largest of the others, in percentage points.
        own: Its mean pruned share there, in percent.
        next: The measure with the largest mean among the others; "" if there is none.
        next_share: That mean.
        lacking: Measures of the paper that are not recorded.
        runs: Names of the runs.
        lacks: Why there is no lead; empty if there is one.
    """

    lead: Lead
    own: float = np.nan
    next: str = ""
    next_share: float = np.nan
    lacking: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    lacks: str = ""


def judge_first_layers(panels: Sequence[Panel], rule: Rule) -> list[Verdict]:
    """Judge whether GraSP without temperature prunes the first layers far more than others do.

    Args:
        panels: Runs that differ only in their seed and measure.
        rule: Its thresholds are far (percentage points), rounds (the claim is about so many and
            more) and p.

    Returns:
        A verdict for each panel of enough rounds. p-values are corrected by Holm over the panels of
        a figure.

    References:
        Lubana and Dick, ICLR 2021, captions of Figures 16 and 17.
    """
    least = rule.thresholds["rounds"]
    trained = sorted((one for one in panels if one.rounds >= least), key=lambda one: one.rounds)
    if not trained:
        reason = f"the claim is about {least:g} rounds and more, which are not recorded"
        return [Verdict(panels[0], NOT_TESTABLE, reason, STATISTIC)]
    verdicts = []
    for places in families(trained, rule):
        family = [trained[place] for place in places]
        found = [_ahead(panel) for panel in family]
        words = judge_leads(found, rule)
        verdicts += [_verdict(*each) for each in zip(family, found, words, strict=True)]
    return verdicts


def judge_leads(found: Sequence[Ahead], rule: Rule) -> list[tuple[str, str, float]]:
    """Judge the leads of one figure, corrected for their number.

    Args:
        found: The lead in each panel.
        rule: Its thresholds and number of seeds.

    Returns:
        For each panel the verdict, its reason, and the p-value that decided, or would have.
    """
    testable = [not one.lacks and one.lead.seeds >= rule.seeds for one in found]
    leads = [one.lead if ok else None for one, ok in zip(found, testable, strict=True)]
    far = rule.thresholds["far"]
    words = []
    for one, ok, (p_far, p_short) in zip(
        found, testable, corrected_tests(leads, far, far), strict=True
    ):
        if not ok:
            words.append((NOT_TESTABLE, _untested(one, rule), float("nan")))
            continue
        verdict, reason = decide(one, p_far, p_short, rule)
        words.append((verdict, reason, p_short if verdict == NOT_SUPPORTED else p_far))
    return words


def decide(found: Ahead, p_far: float, p_short: float, rule: Rule) -> tuple[str, str]:
    """Verdict and reason of one panel.

    Args:
        found: The lead in the first third of the layers.
        p_far: p-value of a lead of at most `far`, corrected for the number of panels.
        p_short: p-value of a lead of at least `far`, corrected.
        rule: Its thresholds.
    """
    far, level = rule.thresholds["far"], rule.thresholds["p"]
    told = f"GraSP (T = 1) {found.own:.0f} %, next {found.next} {found.next_share:.0f} %"
    if p_short <= level:
        return NOT_SUPPORTED, f"a lead below {far:g} points (p = {p_short:.2g}); {told}"
    if p_far <= level and found.lacking:
        return UNDECIDED, f"ahead of those recorded; {_not_recorded(found.lacking)}; {told}"
    if p_far <= level:
        return SUPPORTED, f"a lead above {far:g} points (p = {p_far:.2g}); {told}"
    if found.lead.low > far or found.lead.high < far:
        return UNDECIDED, f"the interval decides, but not after Holm (p = {p_far:.2g}); {told}"
    return UNDECIDED, f"a lead of {far:g} points is neither shown nor excluded; {told}"


def _verdict(panel: Panel, found: Ahead, words: tuple[str, str, float]) -> Verdict:
    verdict, reason, p = words
    return Verdict(
        panel=panel,
        verdict=verdict,
        reason=reason,
        statistic=STATISTIC,
        value=found.lead.mean,
        low=found.lead.low,
        high=found.lead.high,
        runs=found.runs,
        seeds=found.lead.seeds,
        p=p,
        what=counted(panel.rounds, "round"),
    )


def _untested(found: Ahead, rule: Rule) -> str:
    if found.lacks:
        return found.lacks
    reason = needs_seeds(rule, found.lead.seeds)
    if found.lead.seeds > 1:
        reason += f"; {told_power(found.lead.seeds)}"
    if found.lacking:
        reason += f"; {_not_recorded(found.lacking)}"
    return reason


def _not_recorded(measures: Sequence[str]) -> str:
    return f"{', '.join(measures)} {'is' if len(measures) == 1 else 'are'} not recorded"


def _ahead(panel: Panel) -> Ahead:
    """The lead of the accused measure in one panel."""
    spec = panel.runs.spec
    recorded = [name for name in (ACCUSED, *OTHERS) if name in set(spec["measure"])]
    lacking = tuple(name for name in (ACCUSED, *OTHERS) if name not in recorded)
    if ACCUSED in lacking or len(recorded) < 2:
        return Ahead(lead(np.array([])), lacking=lacking, lacks=_not_recorded(lacking))
    chosen = panel.runs.named(spec.loc[spec["measure"].isin(recorded), "run"])
    try:
        states = after_last_round(chosen.read("rounds"), chosen.spec)
    except (AnalysisError, LogError) as error:
        return Ahead(lead(np.array([])), lacking=lacking, lacks=str(error))
    whole = fractions_by_run(states, [*AVERAGED_WITHIN, "seed"])
    shares = whole.pivot_table(index="seed", columns="measure", values="first_third")
    complete = 100 * shares.reindex(columns=recorded).dropna()
    if complete.empty and whole["first_third"].isna().all():
        reason = "a third of the layers is less than one"
        return Ahead(lead(np.array([])), lacking=lacking, lacks=reason)
    return _over_the_next(complete, _step(states), lacking, tuple(chosen.spec["run"]))


def _over_the_next(
    shares: pd.DataFrame, step: float, lacking: tuple[str, ...], runs: tuple[str, ...]
) -> Ahead:
    """The lead over the largest of the others, seed by seed, and who that is on average."""
    others = shares.drop(columns=ACCUSED)
    apart = (shares[ACCUSED] - others.max(axis="columns")).to_numpy()
    found = lead(apart, step / np.sqrt(6))  # shares are counted in whole filters
    if others.empty:
        return Ahead(found, lacking=lacking, runs=runs)
    means = others.mean()
    return Ahead(
        lead=found,
        own=float(shares[ACCUSED].mean()),
        next=str(means.idxmax()),
        next_share=float(means.max()),
        lacking=lacking,
        runs=runs,
    )


def _step(states: pd.DataFrame) -> float:
    """One filter of the first third of the layers, in percent of them."""
    one = states[states["run"] == states["run"].iloc[0]]
    deciding = one[one["coupled_to"].isna()].sort_values("layer_index")
    filters = deciding.head(len(deciding) // 3)["filters"].sum()
    return 100 / float(filters) if filters else 0.0
