"""Verdicts on the runs of a picture, in words: all that a caption says about a claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from pruneviz.analysis.claims import RULES, claims, claims_on
from pruneviz.analysis.rules import NOT_TESTABLE
from pruneviz.analysis.rules_convergence import STATISTICS as PAIR_STATISTICS
from pruneviz.console.words import counted
from pruneviz.figures.own import ALIKE
from pruneviz.figures.plot_kinds import KINDS
from pruneviz.log.runs import Runs
from pruneviz.plot.words import dataset_title, decimal, listed, network_title

# The rule that judges the claim of each kind of figure.
RULE_OF_KIND: Mapping[str, str] = {
    "scatter": "high correlation",
    "correlation_curve": "association with masks",
    "accuracy_curve": "order of convergence",
    "layer_ratios": "first layers",
}
# Verdicts on parts of a claim; the one on the whole claim stands beside them.
_OF_PARTS = frozenset(PAIR_STATISTICS.values())


def verdicts_on(kind: str, runs: Runs, drawn: Iterable[str]) -> pd.DataFrame:
    """The verdicts on the runs of a figure, as `pruneviz.claims` gives them on all runs.

    Args:
        kind: Kind of figure; of one without a rule there are none.
        runs: All runs, drawn or not: tests are corrected for the panels of the paper's figure.
        drawn: Names of the drawn runs.
    """
    if kind not in RULE_OF_KIND:
        return claims(runs, [])
    return claims_on(RULE_OF_KIND[kind], runs, drawn)


def verdicts_on_plot(
    kind: str, runs: Runs, drawn: Iterable[str], arguments: Mapping[str, Any]
) -> pd.DataFrame:
    """The verdicts on the runs of a picture of any networks; none where no claim is about it.

    Args:
        kind: Name in `pruneviz.figures.plot_kinds.KINDS`.
        runs: The runs, drawn or not.
        drawn: Names of the drawn runs.
        arguments: Arguments of the plot function, which name what is drawn.
    """
    alike = next((figure for figure, plot in ALIKE.items() if plot == kind), "")
    judged = KINDS[kind].first or (KINDS[kind].usual,)
    shown = any(_axes(arguments) == _axes(usual) for usual in judged)
    found = verdicts_on(alike, runs, drawn if shown else [])
    return found[found["runs"].map(len).astype("int64") > 0]


def _axes(arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    return arguments.get("x"), arguments.get("y")


def claim_of(verdicts: pd.DataFrame) -> str:
    """The claim that verdicts are on, in a sentence; nothing for none.

    Args:
        verdicts: What `verdicts_on_plot` returns.
    """
    if verdicts.empty:
        return ""
    elsewhere = "" if verdicts["figure"].all() else " (stated for other networks)"
    claim = RULES[verdicts["claim"].iloc[0]].claim
    return f"The paper (Lubana and Dick, ICLR 2021) claims: {claim}{elsewhere}."


def finding_of(verdicts: pd.DataFrame) -> str:
    """Each verdict with its numbers and its reason.

    Args:
        verdicts: What `verdicts_on` returns.
    """
    if verdicts.empty:
        return ""
    rule = verdicts["claim"].iloc[0]
    each = "; ".join(
        f"{place}{row['verdict']} ({_numbers(row)}{row['reason']})"
        for place, (_, row) in zip(_places(verdicts), verdicts.iterrows(), strict=True)
    )
    return f"By the rule `{rule}` of docs/claims.md: {each}."


def brief_of(verdicts: pd.DataFrame) -> str:
    """Each verdict on a whole claim in a few words, without its reason.

    Args:
        verdicts: What `verdicts_on` returns.
    """
    if not verdicts.empty:  # of pictures that no claim is about, without columns
        verdicts = verdicts[~verdicts["statistic"].isin(_OF_PARTS)]
    if verdicts.empty:
        return ""
    places = pd.Series(_places(verdicts), index=verdicts.index).str.removesuffix(": ")
    untested = verdicts["verdict"] == NOT_TESTABLE
    told = verdicts["verdict"].where(~untested, f"{NOT_TESTABLE} (" + verdicts["reason"] + ")")
    each = [
        f"{verdict} for {listed(names)}" if names.any() else str(verdict)
        for verdict, names in places.groupby(told, sort=False)
    ]
    return f"Verdict on the claim: {'; '.join(each)}."


def _numbers(row: pd.Series) -> str:
    seeds = counted(int(row["seeds"]), "seed")
    if pd.isna(row["value"]):
        return ""
    ends = "" if pd.isna(row["low"]) else f" [{decimal(row['low'])}, {decimal(row['high'])}]"
    return f"{decimal(row['value'])}{ends} over {seeds}; "


def _places(verdicts: pd.DataFrame) -> list[str]:
    """What each verdict is on, as far as they differ: `VGG-13, bn batch, epoch 4: `."""
    words = pd.DataFrame(
        {
            "network": verdicts["network"].map(network_title),
            "dataset": verdicts["dataset"].map(dataset_title),
            "bn": "bn " + verdicts["bn"],
        }
    )
    told = words[[name for name in words if len(set(words[name])) > 1]]
    epochs = ["" if pd.isna(epoch) else f"epoch {epoch}" for epoch in verdicts["epoch"]]
    rows = told.assign(what=_what(verdicts["what"]), epoch=epochs).to_numpy()
    places = [", ".join(filter(None, row)) for row in rows]
    return [f"{place}: " if place else "" for place in places]


def _what(texts: pd.Series) -> list[str]:
    """What is compared, without what all verdicts share."""
    parts = [str(text).split(", ") for text in texts]
    shared = set(parts[0]).intersection(*parts)
    return [", ".join(part for part in each if part not in shared) for each in parts]
