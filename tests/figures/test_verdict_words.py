"""Captions say what the rules say, and nothing else judges."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import pruneviz as pv
from pruneviz.analysis.rules import VERDICTS
from pruneviz.figures.draw import compose
from pruneviz.figures.verdict_words import brief_of, finding_of, verdicts_on
from tests.support.synthetic_runs import SMALL, make_runs, together

PACKAGE = Path(pv.__file__).parent
RESNET = {"resnet56": SMALL["resnet56"]}


@pytest.fixture(scope="module")
def runs() -> pv.Runs:
    return make_runs(RESNET, epochs=8, every=2)


def test_a_caption_has_the_verdicts_of_the_rule(runs: pv.Runs) -> None:
    composed = compose("3", runs)
    found = pv.claims(runs, "high correlation")
    assert composed.verdicts.equals(found) and len(found) == 3
    for _, row in found.iterrows():
        assert f"epoch {row['epoch']}: {row['verdict']} (" in composed.finding
        assert row["reason"] in composed.finding
    records = composed.details["verdicts"]
    assert [record["verdict"] for record in records] == list(found["verdict"])
    said = "Verdict on the claim: undecided for epoch 0, epoch 2 and epoch 8."
    for text in (composed.caption, composed.alt.text, composed.details["alt"]):
        assert said in " ".join(text.split())
    assert composed.finding in " ".join(composed.long_caption.split())


def test_networks_and_settings_are_named_where_they_differ(runs: pv.Runs) -> None:
    several = make_runs(SMALL, seeds=(0,), epochs=4)
    text = finding_of(verdicts_on("correlation_curve", several))
    for name in ("VGG-13", "MobileNet-V1", "ResNet-56"):
        assert f"{name}: not testable (needs 5 seeds, has 1)" in text
    renamed = {
        name: getattr(runs, name).assign(run=getattr(runs, name)["run"].astype(str) + "-batch")
        for name in ("spec", "epochs", "filters")
    }
    batch = replace(runs, **renamed)
    both = together(runs, replace(batch, spec=batch.spec.assign(bn="batch")))
    assert "bn batch, epoch 8: undecided" in finding_of(verdicts_on("scatter", both))
    assert "bn batch, epoch 8" in brief_of(verdicts_on("scatter", both))


def test_nothing_but_the_rules_judges() -> None:
    words = re.compile(r'"[^"]*\b(as the claim has it|against the claim|supports? the claim)\b')
    judging = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if words.search(file.read_text(encoding="utf-8"))
    }
    left = {"figures/kinds/convergence_notes.py", "figures/kinds/layer_ratios.py"}
    assert judging <= left
    verdict = re.compile(rf'"({"|".join(VERDICTS)})"')
    for file in (PACKAGE / "figures").rglob("*.py"):
        assert not verdict.search(file.read_text(encoding="utf-8")), file.name
