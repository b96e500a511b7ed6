"""The rules by which the paper's claims are judged, and the verdicts on recordings: `pv.claims`.

`RULES` is all there is: captions, findings and `pruneviz claims` take their words from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from pruneviz.analysis.rules import (
    NOT_SUPPORTED,
    NOT_TESTABLE,
    SUPPORTED,
    UNDECIDED,
    Panel,
    Rule,
    Shown,
    Verdict,
    families,
    panels_of,
    told_pooled,
)
from pruneviz.analysis.rules_convergence import LEARNT, judge_convergence
from pruneviz.analysis.rules_curve import judge_association
from pruneviz.analysis.rules_ratios import judge_first_layers
from pruneviz.analysis.rules_scatter import judge_correlations
from pruneviz.errors import AnalysisError, unknown_name
from pruneviz.log.arguments import as_tuple
from pruneviz.log.runs import Runs

_THREE = ("vgg13", "mobilenet_v1", "resnet56")

RULES: Mapping[str, Rule] = {
    "high correlation": Rule(
        claim=(
            "theta_hg and theta_g of the filters are highly correlated at initialisation, after 40 "
            "epochs and after 160 epochs"
        ),
        figures=(
            Shown("3", ("resnet56",)),
            Shown("13", ("vgg13",)),
            Shown("14", ("mobilenet_v1",)),
            Shown("15", ("resnet56",)),
            Shown("H1a", ("resnet56",), unit="weight"),
        ),
        statistic=(
            "Pearson's r over the filters: tanh of the mean over seeds of atanh r, at each of the "
            "three epochs"
        ),
        interval="95 %, Student's t over seeds on the scale of atanh r, transformed back",
        sample=(
            "unpruned runs that differ only in their seed, at the measured epochs nearest to 0, a "
            "quarter and all of the schedule, within a tenth of it"
        ),
        thresholds={"high": 0.7, "ranks": 0.5, "clear": 0.5},
        seeds=3,
        verdicts={
            SUPPORTED: (
                "the whole interval is at least `high`, and so is the plain mean of r over seeds; "
                "and the mean over seeds of Spearman's coefficient is at least `ranks`"
            ),
            NOT_SUPPORTED: (
                "the whole interval is below `high`, or the whole interval of Spearman's "
                "coefficient is below `ranks`"
            ),
            UNDECIDED: (
                "anything else; always where a share of the points less than `clear` is clear of "
                "noise (farther from 0 than Student's quantile times the standard error, in the "
                "noisier of the quantities whose standard error, with all that varies, is "
                "recorded, which the reason names; a point without a standard error is not), or "
                "where a seed has no standard errors"
            ),
            NOT_TESTABLE: (
                "fewer seeds, or one of the two quantities is not recorded, at all or by each seed "
                "near the epoch"
            ),
        },
        judge=judge_correlations,
        kinds=("unpruned", "weights"),
    ),
    "association with masks": Rule(
        claim=(
            "as the distance between consecutive pruning masks falls, sigma_change becomes more "
            "correlated with loss preservation"
        ),
        figures=(
            Shown("2", _THREE),
            Shown("H1b", _THREE, unit="weight"),
            Shown("I1", _THREE, dataset="tiny-imagenet"),
        ),
        statistic=(
            "D = mean rho(own) - mean rho(other): rho is Spearman's rank correlation over epochs "
            "of a run's curve (Pearson's r of the two measures) with the mask distances of its own "
            "run, or with those of another seed; the trend of training, which all seeds share, is "
            "in both"
        ),
        interval=(
            "95 %, jackknife over seeds with Student's t; p one-sided, by permuting which seed's "
            "distances go with which curve (all permutations up to 7 seeds, else 9,999), corrected "
            "by Holm over the networks of a figure"
        ),
        sample=(
            "unpruned runs that differ only in their seed, at all epochs that have both in each "
            "run; mask distances as logged"
        ),
        thresholds={"zone": 0.2, "p": 0.05, "epochs": 5},
        seeds=5,
        verdicts={
            SUPPORTED: "the corrected p is at most `p`, and D is at most -`zone`",
            NOT_SUPPORTED: "the whole interval of D is above -`zone`, and p alone is above `p`",
            UNDECIDED: "anything else",
            NOT_TESTABLE: (
                "fewer seeds, fewer than `epochs` common epochs, or a curve that never changes"
            ),
        },
        judge=judge_association,
        kinds=("unpruned", "weights"),
        together=("network",),
        of_training=True,
    ),
    "order of convergence": Rule(
        claim=(
            "magnitude-based pruning converges fastest, the proposed measure second, loss "
            "preservation last"
        ),
        figures=(
            Shown("1", ("resnet56",), rounds=(25,)),
            *(
                Shown(str(first + place), (network,), rounds=(rounds,))
                for first, network in ((4, "vgg13"), (7, "mobilenet_v1"), (10, "resnet56"))
                for place, rounds in enumerate((1, 5, 25))
            ),
        ),
        statistic=(
            "lead of magnitude over the proposed measure, and of that over loss preservation, "
            "paired by seed, by two readings: mean test accuracy over the epochs (trapezoid rule), "
            "in points; and epochs to 50, 80, 90 and 95 % of the best final accuracy of the panel, "
            "averaged over those that both measures reach in every seed"
        ),
        interval=(
            "95 %, Student's t over seeds; for epochs with a standard deviation of at least 0.41 "
            "steps, that of a difference of rounded times. p: twice the one-sided p, of no lead "
            "and of a lead as large as the zone, each corrected by Holm over the pairs and data "
            "sets of a figure, for each reading"
        ),
        sample="runs pruned in rounds and trained to the end that differ in their seed and measure",
        thresholds={"points": 1, "epochs": 1, "p": 0.05, "learnt": LEARNT},
        seeds=3,
        verdicts={
            SUPPORTED: (
                "of a pair: the whole interval is above 0, and the corrected p of no lead is at "
                "most `p`; of the order: both pairs are supported by both readings"
            ),
            NOT_SUPPORTED: (
                "of a pair: the whole interval is below the zone (1 point, 1 epoch), and the "
                "corrected p of a lead that large is at most `p`: no relevant difference, a lead "
                "too small to matter, or the other way round; of the order: a pair is not "
                "supported by both readings"
            ),
            UNDECIDED: (
                "anything else, such as leads in points that are equal in all seeds; always, for "
                "epochs, where only some of the runs ever reach one of the accuracies"
            ),
            NOT_TESTABLE: (
                "fewer seeds of both measures; no test accuracies; no run whose accuracy is ever "
                "farther than `learnt` on the way from guessing to no error; or, for epochs, no "
                "accuracy that both measures reach in every seed"
            ),
        },
        judge=judge_convergence,
        kinds=("pruned",),
        compared=("measure",),
        together=("dataset",),
    ),
    "first layers": Rule(
        claim=(
            "once the network has trained even slightly (5 and 25 rounds), GraSP without "
            "temperature prunes the earlier layers far more aggressively than the other measures do"
        ),
        figures=(
            Shown("16", ("vgg13",), rounds=(1, 5, 25)),
            Shown("17", ("mobilenet_v1",), rounds=(1, 5, 25)),
        ),
        statistic=(
            "share of the filters in the first third of the layers that GraSP (T = 1) prunes, "
            "minus the largest share of any other measure in the same seed, in percentage points; "
            "only layers that are not coupled to an earlier one count"
        ),
        interval=(
            "95 %, Student's t over seeds, with a standard deviation of at least 0.41 filters. p: "
            "twice the one-sided p of a lead of at most and of at least `far`, each corrected by "
            "Holm over the numbers of rounds of a figure"
        ),
        sample=(
            "runs of pruning rounds alone that differ in their seed and measure, after the last "
            "round, of `rounds` rounds or more; seeds that all recorded measures have"
        ),
        thresholds={"far": 20, "rounds": 5, "p": 0.05},
        seeds=3,
        verdicts={
            SUPPORTED: (
                "the whole interval is above `far`, the corrected p is at most `p`, and all six "
                "measures are recorded"
            ),
            NOT_SUPPORTED: (
                "the whole interval is below `far`, and the corrected p is at most `p`"
            ),
            UNDECIDED: "anything else",
            NOT_TESTABLE: ("fewer seeds, or GraSP (T = 1) or every other measure is not recorded"),
        },
        judge=judge_first_layers,
        kinds=("prune_phase",),
        compared=("measure",),
        together=("rounds",),
    ),
}

COLUMNS = (
    *("claim", "figure", "network", "dataset", "bn", "unit", "epoch", "what", "statistic"),
    *("value", "low", "high", "runs", "seeds", "p", "verdict", "reason"),
)


def claims(runs: Runs, rules: str | Iterable[str] | None = None) -> pd.DataFrame:
    """Judge the claims of the paper's captions, each by its rule, on any recordings.

    The rules are those of docs/claims.md; they were written down before looking, and nothing else
    in pruneviz judges. Networks of one's own are judged by the same rules. Data sets, batch-norm
    modes and all other settings are judged apart.

    Args:
        runs: Recordings, as `pruneviz.load` returns them.
        rules: Rules to apply, keys in `RULES`. Default: all.

    Returns:
        One row per verdict: claim (the rule), figure (those of the paper that show these runs, such
        as "3, 15"; empty for others), network, dataset, bn, unit, epoch (null where a verdict is on
        all), what (what is compared, and further settings), statistic (what `value` is), value, low
        and high (its 95 % interval; null where there is none), runs (their names), seeds (how
        many), p (corrected; null where a rule tests by its interval), verdict ("supported", "not
        supported", "undecided" or "not testable") and reason. A rule that has no runs to judge has
        one row, "not testable".

    Raises:
        AnalysisError: If a rule is unknown, or `runs` are no recordings.

    References:
        Lubana and Dick, ICLR 2021, captions of Figures 1-17, H.1 and I.1.

    Example:
        >>> pv.claims(pv.load("data/cifar-mini"))
    """
    if not isinstance(runs, Runs):
        raise AnalysisError(
            f"claims takes recordings, not {type(runs).__name__}; pass what pruneviz.load returns"
        )
    chosen = RULES if rules is None else {name: _rule(name) for name in as_tuple(rules)}
    parts = [(name, rule, panels_of(runs, rule)) for name, rule in chosen.items()]
    return _table([row for part in parts for row in _rows(*part, runs)])


def claims_on(name: str, runs: Runs, drawn: Iterable[str]) -> pd.DataFrame:
    """The verdicts of one rule on some of the runs, the same as those on all.

    Tests are corrected for all panels of a figure, whether or not they are drawn, so that a picture
    of some says what `claims` says.

    Args:
        name: The rule, a key in `RULES`.
        runs: All recordings.
        drawn: Names of the runs whose verdicts are wanted.

    Returns:
        Rows of `claims`.
    """
    rule, wanted = _rule(name), set(drawn)
    panels = panels_of(runs, rule)
    asked = [not wanted.isdisjoint(panel.runs.spec["run"]) for panel in panels]
    near = [
        place
        for family in families(panels, rule)
        if any(asked[at] for at in family)
        for place in family
    ]
    found = _table(_rows(name, rule, [panels[place] for place in sorted(near)], runs))
    shown = [not names or not wanted.isdisjoint(names) for names in found["runs"]]
    return found[shown].reset_index(drop=True)


def _table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    found = pd.DataFrame(list(rows), columns=list(COLUMNS))
    return found.astype({"epoch": "Int64", "seeds": "int64"})


def _rule(name: str) -> Rule:
    if name not in RULES:
        raise AnalysisError(unknown_name("rule", name, RULES))
    return RULES[name]


def _rows(name: str, rule: Rule, panels: Sequence[Panel], runs: Runs) -> list[dict[str, Any]]:
    if not panels:
        panel = Panel(runs.named([]), "", "", "", "", 0)
        reason = f"needs {rule.seeds} seeds, has no runs of this kind"
        return [_row(name, "", Verdict(panel, NOT_TESTABLE, reason, rule.statistic))]
    return [
        _row(name, rule.figure_of(verdict.panel), verdict) for verdict in rule.judge(panels, rule)
    ]


def _row(name: str, figure: str, verdict: Verdict) -> dict[str, Any]:
    panel = verdict.panel
    return {
        "claim": name,
        "figure": figure,
        "network": panel.network,
        "dataset": panel.dataset,
        "bn": panel.bn,
        "unit": panel.unit,
        "epoch": pd.NA if verdict.epoch is None else verdict.epoch,
        "what": ", ".join(filter(None, [verdict.what, panel.what])),
        "statistic": verdict.statistic,
        "value": verdict.value,
        "low": verdict.low,
        "high": verdict.high,
        "runs": verdict.runs,
        "seeds": verdict.seeds,
        "p": verdict.p,
        "verdict": verdict.verdict,
        "reason": "; ".join([verdict.reason, *([told_pooled(panel)] if panel.pooled else [])]),
    }
