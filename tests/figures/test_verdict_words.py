"""Captions say what the rules say, and nothing else judges."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import pruneviz as pv
from pruneviz.analysis.rules import VERDICTS
from pruneviz.figures.draw import compose
from pruneviz.figures.plot_kinds import usual_arguments
from pruneviz.figures.plot_pictures import compose_plot
from pruneviz.figures.verdict_words import brief_of, finding_of, verdicts_on
from pruneviz.plans.needs import RATIO_MEASURES
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs, together

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
    text = finding_of(verdicts_on("correlation_curve", several, several.spec["run"]))
    for name in ("VGG-13", "MobileNet-V1", "ResNet-56"):
        assert f"{name}: not testable (needs 5 seeds, has 1)" in text
    renamed = {
        name: getattr(runs, name).assign(run=getattr(runs, name)["run"].astype(str) + "-batch")
        for name in ("spec", "epochs", "filters")
    }
    batch = replace(runs, **renamed)
    both = together(runs, replace(batch, spec=batch.spec.assign(bn="batch")))
    assert "bn batch, epoch 8: undecided" in finding_of(
        verdicts_on("scatter", both, both.spec["run"])
    )
    assert "bn batch, epoch 8" in brief_of(verdicts_on("scatter", both, both.spec["run"]))


def test_parts_of_a_claim_stand_in_the_finding_and_the_whole_in_the_caption() -> None:
    runs = make_pruned_runs(
        {"vgg13": SMALL["vgg13"]}, datasets=("cifar10", "cifar100"), seeds=range(3)
    )
    composed = compose("5", runs)
    assert composed.verdicts.equals(pv.claims(runs, "order of convergence"))
    assert len(composed.verdicts) == 2 * (1 + 2 * 2)
    for _, row in composed.verdicts.iterrows():
        what = row["what"].removeprefix("5 rounds, ")
        place = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[row["dataset"]]
        assert f"{place}, {what}: {row['verdict']} (" in composed.finding
        assert row["reason"] in composed.finding
    assert re.match(r"Verdict on the claim: (\w| )+ for CIFAR-10", brief_of(composed.verdicts))
    assert "magnitude before" not in brief_of(composed.verdicts)


def test_rounds_are_told_where_verdicts_differ_in_them() -> None:
    facts = {"measures": RATIO_MEASURES, "rounds": (1, 5, 25), "prune_phase_only": True}
    runs = make_pruned_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), **facts)
    text = compose("16", runs).finding
    assert text.startswith("By the rule `first layers` of docs/claims.md: 5 rounds: not testable (")
    assert text.count("needs 3 seeds, has 1") == 2


def test_pictures_of_ones_own_network_are_judged_too() -> None:
    runs = make_runs({"mine": (4, 6)}, epochs=4)
    arguments = usual_arguments("scatter", {})[0]
    composed = compose_plot("scatter", runs, "mine", arguments, "mine-scatter")
    found = pv.claims(runs, "high correlation")
    records = composed.details["verdicts"]
    assert [record["verdict"] for record in records] == list(found["verdict"])
    assert "(stated for other networks)" in composed.words.claim
    assert composed.details["claim"] == composed.words.claim
    assert "Verdict on the claim: undecided for epoch 0" in composed.words.found
    assert found["reason"].iloc[0] in composed.details["finding"]
    curve = {"x": "sigma_change", "y": "loss_preservation"}
    composed = compose_plot("correlation", runs, "mine", curve, "mine-correlation")
    assert "not testable (needs 5 seeds, has 3)" in composed.words.found
    other = {"x": "magnitude", "y": "theta_hg"}
    composed = compose_plot("scatter", runs, "mine", other, "mine-other")
    assert composed.details["verdicts"] == [] and composed.details["claim"] is None
    assert not composed.words.claim and "Verdict" not in composed.words.found


def test_nothing_but_the_rules_judges() -> None:
    words = re.compile(r'"[^"]*\b(as the claim has it|against the claim|supports? the claim)\b')
    judging = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if words.search(file.read_text(encoding="utf-8"))
    }
    assert not judging
    verdict = re.compile(rf'"({"|".join(VERDICTS)})"')
    for file in (PACKAGE / "figures").rglob("*.py"):
        assert not verdict.search(file.read_text(encoding="utf-8")), file.name
