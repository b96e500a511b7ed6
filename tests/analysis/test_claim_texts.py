"""Rules and verdicts as text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.analysis.claim_texts import rules_in_markdown, verdict_table, verdicts_in_words
from pruneviz.analysis.claims import RULES
from pruneviz.analysis.rules import VERDICTS

PAGE = Path(pv.__file__).parent.parent / "docs" / "claims.md"


def test_the_page_prints_the_rules_that_judge() -> None:
    text = PAGE.read_text(encoding="utf-8")
    printed = text.partition("<!-- rules: begin -->\n")[2].partition("<!-- rules: end -->")[0]
    assert printed == f"\n{rules_in_markdown()}\n", "write the output of pruneviz claims --rules"


def test_a_printed_rule_says_all_that_decides() -> None:
    text = " ".join(rules_in_markdown().split())
    for name, rule in RULES.items():
        assert f"`{name}`" in text
        assert set(rule.verdicts) == set(VERDICTS)
        parts = (rule.claim, rule.statistic, rule.interval, rule.sample)
        assert all(part in text for part in (*parts, *rule.verdicts.values()))
        for number, value in rule.thresholds.items():
            assert f"`{number}` = {value:g}" in text
        assert f"at least {rule.seeds} seeds" in text
        assert all(shown.figure in text for shown in rule.figures)


def row(**facts: object) -> dict[str, object]:
    return {
        **{"claim": "high correlation", "figure": "3, 15", "network": "resnet56"},
        **{"dataset": "cifar100", "bn": "eval", "unit": "filter", "epoch": 4, "what": ""},
        **{"value": 0.954, "low": 0.85, "high": 0.99, "p": None, "seeds": 3},
        **{"verdict": "supported", "reason": "why"},
        **facts,
    }


def test_a_table_leaves_out_facts_that_tell_nothing() -> None:
    found = pd.DataFrame([row(), row(epoch=16, low=None, high=None, seeds=1)])
    table = verdict_table(found)
    assert list(table) == [
        *("figure", "network", "dataset", "epoch", "value", "95 %", "seeds", "verdict", "reason")
    ]
    assert list(table["95 %"]) == ["0.85 to 0.99", ""]
    assert "bn" in verdict_table(pd.DataFrame([row(), row(bn="batch")]))
    assert "p" in verdict_table(pd.DataFrame([row(p=0.02)]))


@pytest.mark.parametrize("markdown", [False, True])
def test_verdicts_stand_under_their_claim(markdown: bool) -> None:
    found = pd.DataFrame([row(), row(claim="association with masks", figure="2")])
    text = verdicts_in_words(found, markdown=markdown)
    first, second = (text.index(f"{name}: ") for name in RULES if f"{name}: " in text)
    assert first < text.index("3, 15") < second
    assert ("| --- |" in text) == markdown
