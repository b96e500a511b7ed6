"""What a rule of a verdict is made of, and the panels of recordings that rules judge."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.analysis.settings import (
    SEED,
    kinds_of,
    pooled_numbers,
    present,
    results_of,
    settings_of,
)
from pruneviz.analysis.table_texts import APART, MODES, in_word
from pruneviz.log.runs import Runs

SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
UNDECIDED, NOT_TESTABLE = "undecided", "not testable"
VERDICTS = (SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_TESTABLE)
LEVEL = 0.95  # confidence level of all intervals, and 1 - LEVEL the level of all tests

# Facts that have a column of their own in the table of verdicts.
_FACTS = ("network", "dataset", "bn", "unit")


@dataclass(frozen=True)
class Shown:
    """Which runs one figure of the paper shows.

    Attributes:
        figure: Name of the figure.
        networks: Its networks.
        unit: What a row of its runs describes.
        rounds: Numbers of pruning rounds; 0 for runs that never prune.
        dataset: The figure's own data set; None shows any other.
    """

    figure: str
    networks: tuple[str, ...]
    unit: str = "filter"
    rounds: tuple[int, ...] = (0,)
    dataset: str | None = None


@dataclass(frozen=True, repr=False)
class Panel:
    """Runs that differ only in their seed, and in what a rule compares.

    Attributes:
        runs: The runs, each seed once.
        network: Name of the network; "" if unknown.
        dataset: Name of the data set; "" if unknown.
        bn: Batch-norm mode while measuring.
        unit: What a row describes.
        rounds: Number of pruning rounds.
        what: Further facts that tell this panel from others, in words.
        pooled: Numbers of a person's own that differ between its runs all the same.
    """

    runs: Runs
    network: str
    dataset: str
    bn: str
    unit: str
    rounds: int
    what: str = ""
    pooled: tuple[str, ...] = ()

    @property
    def seeds(self) -> int:
        """Number of seeds; a run without a seed counts as one."""
        return len(set(_seeds(self.runs.spec)))


@dataclass(frozen=True)
class Verdict:
    """What a rule says of one panel.

    Attributes:
        panel: The panel.
        verdict: A word of `VERDICTS`.
        reason: What decided, in words.
        statistic: What `value` is.
        value: The statistic; NaN if there is none.
        low: Lower end of its interval; NaN if there is none.
        high: Upper end.
        runs: Names of the runs that it is over.
        seeds: Number of their seeds.
        epoch: The epoch, if the verdict is on one.
        p: p-value after Holm's correction; NaN where the rule tests by an interval.
        what: What is compared, such as a pair of measures; added to that of the panel.
    """

    panel: Panel
    verdict: str
    reason: str
    statistic: str
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    runs: tuple[str, ...] = ()
    seeds: int = 0
    epoch: int | None = None
    p: float = np.nan
    what: str = ""


@dataclass(frozen=True)
class Rule:
    """How one claim of the paper is judged; all of it is printed in docs/claims.md.

    Attributes:
        claim: The claim, in the paper's terms.
        figures: The figures whose captions make it.
        statistic: What is computed.
        interval: How sure it is: intervals and tests.
        sample: Which runs it is computed from.
        thresholds: The numbers that decide, by name.
        seeds: Least number of seeds; with fewer the claim is not testable.
        verdicts: Condition of each verdict, by its word.
        judge: Judges all panels of the rule; takes the panels and the rule.
        kinds: Kinds of runs, as `kinds_of` names them.
        compared: Facts that differ within a panel, such as the pruning measure.
        together: Facts that differ between the panels of a figure whose tests are corrected
            together by Holm.
        of_training: Whether runs that were never trained are left out.
    """

    claim: str
    figures: tuple[Shown, ...]
    statistic: str
    interval: str
    sample: str
    thresholds: Mapping[str, float]
    seeds: int
    verdicts: Mapping[str, str]
    judge: Callable[[Sequence[Panel], Rule], list[Verdict]]
    kinds: tuple[str, ...] = ("unpruned",)
    compared: tuple[str, ...] = field(default=())
    together: tuple[str, ...] = field(default=())
    of_training: bool = False

    def figure_of(self, panel: Panel) -> str:
        """The figures that show a panel, such as "3, 15"; "" for networks that none shows."""
        shown = [
            one
            for one in self.figures
            if panel.network in one.networks
            and (panel.unit, panel.dataset) == (one.unit, one.dataset or panel.dataset)
            and panel.rounds in one.rounds
        ]
        own = [one for one in shown if one.dataset]
        return ", ".join(one.figure for one in own or shown)


def panels_of(runs: Runs, rule: Rule) -> list[Panel]:
    """The panels of a rule: its runs by network, data set and every other setting.

    Of runs that repeat a seed one counts, since the others are no further evidence: that measured
    at the shortest interval, of these a whole one before a thin copy, then the first that was
    created. Panels are sorted by their facts. So the order of the runs never matters.

    Args:
        runs: Recordings.
        rule: The rule.
    """
    if rule.of_training:
        runs = runs.named(runs.spec.loc[runs.spec["epochs"].ne(0), "run"])
    return panels_by_setting(runs, rule.kinds, rule.compared)


def unpruned(runs: Runs) -> Runs:
    """The runs of filters that never prune.

    Args:
        runs: Recordings.
    """
    whole = kinds_of(runs.spec).eq("unpruned") & runs.spec["unit"].eq("filter")
    return runs.named(runs.spec.loc[whole, "run"])


def told_pooled(panel: Panel, name: str = "") -> str:
    """A sentence on numbers in which the runs of a panel differ, and that count as results.

    Args:
        panel: The panel.
        name: Its name in words, put in front.
    """
    return f"{name}: {in_pooled(panel.pooled)}" if name else in_pooled(panel.pooled)


def in_pooled(names: Sequence[str]) -> str:
    """A sentence on numbers that count as results."""
    return f"its runs differ in {', '.join(names)}, taken for a result, not a setting"


def told_apart(
    runs: Runs,
    having: Iterable[str],
    ignored: Collection[str] = (),
    columns: Collection[str] = (),
) -> tuple[Runs, pd.DataFrame]:
    """Unpruned runs as panels hold them, so that no table averages two settings as two seeds.

    Args:
        runs: Recordings.
        having: Names of the runs that have what a table needs; one of each seed counts.
        ignored: Facts that make no setting here; runs that differ in them alone are repeats.
        columns: Facts that the words leave out, because a table has a column for them.

    Returns:
        The runs that count, and their spec with the column `APART`: further facts that tell a run
        from others of its network and data set, in words; "" if there are none.
    """
    found = panels_by_setting(runs, ("unpruned",), (), ignored, columns, set(having))
    words = {run: panel.what for panel in found for run in panel.runs.spec["run"]}
    chosen = runs.named(words)
    return chosen, chosen.spec.assign(**{APART: chosen.spec["run"].map(words).astype("object")})


def panels_by_setting(
    runs: Runs,
    kinds: Collection[str],
    compared: Sequence[str] = (),
    ignored: Collection[str] = (),
    columns: Collection[str] = (),
    having: Collection[str] | None = None,
) -> list[Panel]:
    """Runs of some kinds by network, data set and every other setting; see `panels_of`.

    Args:
        runs: Recordings.
        kinds: Kinds of runs, as `kinds_of` names them.
        compared: Facts that differ within a panel, such as the pruning measure.
        ignored: Facts that make no setting here; runs that differ in them alone are repeats.
        columns: Facts that words leave out, because a table has a column for them.
        having: Names of the runs that count; others only say what a setting is. Default: all.
    """
    spec = runs.spec
    pruned = spec["pruned"].eq(True) if "pruned" in spec else pd.Series(False, spec.index)
    wanted = kinds_of(spec).isin(kinds)
    if set(kinds) <= {"unpruned", "weights"}:
        wanted &= ~pruned  # a loop of one's own may prune without rounds of ours
    found = []
    for _, rows in _parts(spec[wanted], ["network", "dataset", "unit"]):
        results = results_of(rows)
        settings = settings_of(rows.drop(columns=[*compared, *ignored], errors="ignore"), results)
        told = [name for name in settings if name not in (*_FACTS, "rounds", *columns)]
        alike = [part for _, part in _parts(rows, [*dict.fromkeys(["bn", "rounds", *settings])])]
        words = _words_apart(alike, told, columns)
        for part, what in zip(alike, words, strict=True):
            held = part if having is None else part[part["run"].isin(having)]
            if len(held):
                found.append(_panel(runs, held, what, compared))
    return sorted(found, key=_place)


def families(panels: Sequence[Panel], rule: Rule) -> list[list[int]]:
    """Places of the panels whose tests are corrected together: those of one figure.

    Networks that no figure of the paper shows are families of their own. Other settings of a
    network, such as a second learning rate, are further panels of the same family: what else is
    recorded can only add tests, and never splits a figure.

    Args:
        panels: All panels of a rule.
        rule: The rule.
    """
    keys = [_family(panel, rule) for panel in panels]
    return [
        [place for place, other in enumerate(keys) if other == key] for key in dict.fromkeys(keys)
    ]


def _family(panel: Panel, rule: Rule) -> tuple[object, ...]:
    figure = rule.figure_of(panel)
    over = set(rule.together) - (set() if figure else {"network"})
    names = ("network", "dataset", "bn", "unit", "rounds")
    return (figure, *(getattr(panel, name) for name in names if name not in over))


def too_few(panel: Panel, rule: Rule, statistic: str, seeds: int | None = None) -> Verdict | None:
    """The verdict "not testable" for a panel with fewer seeds than its rule needs; else None.

    Args:
        panel: The panel.
        rule: Its rule.
        statistic: What the rule computes.
        seeds: Number of seeds that count. Default: all.
    """
    count = panel.seeds if seeds is None else seeds
    if count >= rule.seeds:
        return None
    return not_testable(panel, statistic, needs_seeds(rule, count))


def needs_seeds(rule: Rule, count: int) -> str:
    """The reason of "not testable" for lack of seeds."""
    return f"needs {rule.seeds} seeds, has {count}"


def not_testable(panel: Panel, statistic: str, reason: str) -> Verdict:
    """The verdict "not testable" on all runs of a panel."""
    runs = tuple(panel.runs.spec["run"])
    return Verdict(panel, NOT_TESTABLE, reason, statistic, runs=runs, seeds=panel.seeds)


def of_pair(correlations: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The rows of a correlations table of two quantities, in whichever order it names them."""
    named = zip(correlations["x"], correlations["y"], strict=True)
    return correlations[np.array([{one, other} == {x, y} for one, other in named], dtype=bool)]


def _place(panel: Panel) -> tuple[Any, ...]:
    mode = MODES.index(panel.bn) if panel.bn in MODES else len(MODES)
    names = (panel.network, panel.dataset, panel.unit != "filter", panel.unit)
    return (*names, mode, panel.rounds, panel.what)


def _words_apart(
    parts: Sequence[pd.DataFrame], told: Sequence[str], beside: Collection[str]
) -> list[str]:
    """Settings of parts of a spec in words, with types where values look alike, as 1 and "1"."""
    facts = [part.iloc[0] for part in parts]
    keys = [*("bn", "rounds"), *(name for name in beside if name in facts[0]), *told]
    first = len(keys) - len(told)
    for words_of in (in_word, _in_types):
        words = [[words_of(present(fact[name])) for name in keys] for fact in facts]
        pairs = [zip(told, each[first:], strict=True) for each in words]
        joined = [", ".join(f"{name} {word}" for name, word in each) for each in pairs]
        lines = {(*each[:first], line) for each, line in zip(words, joined, strict=True)}
        if len(lines) == len(facts):
            break
    return joined


def _panel(runs: Runs, rows: pd.DataFrame, what: str, compared: Sequence[str]) -> Panel:
    best = best_first(rows)
    keys = list(zip(_seeds(best), *(map(present, best[name]) for name in compared), strict=True))
    counted = best["run"][[key not in keys[:at] for at, key in enumerate(keys)]]
    first = rows["run"].isin(set(counted))
    facts = rows.iloc[0]
    network, dataset, bn, unit = (
        "" if pd.isna(facts[name]) else str(facts[name]) for name in _FACTS
    )
    rounds = 0 if pd.isna(facts["rounds"]) else int(facts["rounds"])
    chosen = runs.named(rows["run"][first])
    pooled = tuple(pooled_numbers(rows[first]))
    return Panel(chosen, network, dataset, bn, unit, rounds, what, pooled)


def best_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Runs in the order in which repeats of a seed count; see `panels_of`."""
    every = pd.to_numeric(rows["every"], errors="coerce")
    thin = rows["thinned"].notna() if "thinned" in rows else False
    order = rows.assign(every=every, thin=thin, created=rows["created"].astype("str"))
    return rows.loc[order.sort_values(["every", "thin", "created", "run"]).index]


def _seeds(spec: pd.DataFrame) -> list[object]:
    """The seed of each run; its name if it has none, since such runs count as repeats."""
    return [
        run if pd.isna(seed) else seed for run, seed in zip(spec["run"], spec[SEED], strict=True)
    ]


def _in_types(value: object) -> str:
    return "unknown" if value is None else repr(value)


def _parts(
    spec: pd.DataFrame, facts: Sequence[str]
) -> Iterator[tuple[tuple[object, ...], pd.DataFrame]]:
    """The rows of a spec by facts, which may be absent or collections, in order of appearance."""
    keys = list(zip(*(map(present, spec[name]) for name in facts), strict=True))
    for key in dict.fromkeys(keys):
        yield key, spec[[other == key for other in keys]]
