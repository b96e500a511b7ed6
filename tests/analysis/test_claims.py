"""Which recordings each rule judges, and the table of verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.analysis.claims import COLUMNS, RULES, claims, claims_on
from pruneviz.analysis.multiple import holm
from pruneviz.analysis.rules import VERDICTS, Panel, families, panels_of
from pruneviz.errors import AnalysisError
from pruneviz.figures.catalogue import FIGURES
from pruneviz.plans.needs import FIGURE_NEEDS
from tests.support.synthetic_runs import (
    SMALL,
    make_pruned_runs,
    make_runs,
    runs_of_every_kind,
    together,
)

SCATTER = "high correlation"
VGG = {"vgg13": SMALL["vgg13"]}


def test_every_figure_is_judged_by_one_rule_and_by_the_runs_that_it_shows() -> None:
    shown = {one.figure: (one, rule) for rule in RULES.values() for one in rule.figures}
    for figure, (one, rule) in shown.items():
        need = FIGURE_NEEDS[figure]
        assert need.kind in rule.kinds
        assert (one.networks, one.dataset) == (need.networks, need.dataset)
        assert set(one.rounds) == set(need.rounds)
        assert (one.unit == "weight") == (need.kind == "weights")


def test_the_captions_state_the_claim_that_is_judged() -> None:
    for rule in RULES.values():
        for figure in (one.figure for one in rule.figures):
            if figure != "H1b":  # which is about the change of single weights
                assert rule.claim.partition(" (")[0] in FIGURES[figure].claim


def test_every_rule_says_something_about_any_recordings() -> None:
    found = pv.claims(runs_of_every_kind())
    assert list(found) == list(COLUMNS)
    assert set(found["claim"]) == set(RULES)
    assert set(found["verdict"]) <= set(VERDICTS)
    assert (found["reason"] != "").all() and (found["statistic"] != "").all()
    empty = pv.claims(make_runs(VGG).named([]))
    assert set(empty["verdict"]) == {"not testable"} and len(empty) == len(RULES)
    assert empty["reason"].str.contains("has no runs of this kind").all()


def test_pruned_runs_are_none_of_unpruned_training() -> None:
    runs = together(make_runs(VGG, epochs=4), make_pruned_runs(VGG, epochs=4))
    (panel,) = panels_of(runs, RULES[SCATTER])
    assert set(panel.runs.spec["rounds"]) == {0} and panel.seeds == 3
    own = make_runs({"mine": (4, 6)}, epochs=4)
    spec = own.spec.assign(pruned=[False, True, False])  # by a loop of one's own
    (panel,) = panels_of(replace(own, spec=spec), RULES[SCATTER])
    assert panel.seeds == 2


def test_data_sets_batch_norm_modes_and_other_settings_are_judged_apart() -> None:
    def renamed(runs: pv.Runs, name: str, **facts: object) -> pv.Runs:
        tables = {
            table: getattr(runs, table).assign(run=getattr(runs, table)["run"].astype(str) + name)
            for table in ("spec", "epochs", "filters")
        }
        changed = replace(runs, **tables)
        return replace(changed, spec=changed.spec.assign(**facts))

    runs = make_runs(VGG, epochs=4)
    several = together(
        runs,
        make_runs(VGG, epochs=4, dataset="cifar100"),
        renamed(runs, "-batch", bn="batch"),
        renamed(runs, "-large", sample_size=2000),
    )
    found = pv.claims(several, SCATTER).drop_duplicates(["dataset", "bn", "what"])
    assert list(zip(found["dataset"], found["bn"], found["what"], strict=True)) == [
        ("digits", "eval", "sample_size 500"),
        ("cifar100", "eval", "sample_size 500"),
        ("digits", "batch", "sample_size 500"),
        ("digits", "eval", "sample_size 2000"),
    ] or {tuple(row) for row in found[["dataset", "bn"]].to_numpy()} == {
        ("digits", "eval"),
        ("cifar100", "eval"),
        ("digits", "batch"),
    }
    assert (found["seeds"] == 3).all()


def test_a_repeated_seed_is_no_further_evidence() -> None:
    runs = make_runs(VGG, epochs=4)
    again = {
        name: getattr(runs, name).assign(run=getattr(runs, name)["run"].astype(str) + "-again")
        for name in ("spec", "epochs", "filters")
    }
    found = pv.claims(together(runs, replace(runs, **again)), SCATTER)
    assert (found["seeds"] == 3).all()
    assert not any("again" in name for names in found["runs"] for name in names)
    swapped = together(replace(runs, **again), runs)
    pd.testing.assert_frame_equal(pv.claims(swapped, SCATTER), found)
    unseeded = replace(runs, spec=runs.spec.assign(seed=None))
    assert (pv.claims(unseeded, SCATTER)["seeds"] == 3).all(), "runs without a seed are repeats"


def test_a_number_that_every_run_has_another_of_is_named() -> None:
    runs = make_runs(SMALL, range(3), epochs=8, every=2)
    smoothed = runs.spec.groupby("seed").ngroup() / 10
    found = pv.claims(replace(runs, spec=runs.spec.assign(label_smoothing=smoothed)), SCATTER)
    assert set(found["seeds"]) == {3}
    assert found["reason"].str.contains("its runs differ in label_smoothing, taken for a").all()
    assert not pv.claims(runs, SCATTER)["reason"].str.contains("of its own").any()


def test_networks_of_ones_own_are_judged_by_the_same_rules() -> None:
    found = pv.claims(make_runs({"mine": (4, 6)}, epochs=4), SCATTER)
    assert set(found["figure"]) == {""} and set(found["network"]) == {"mine"}
    tiny = make_runs(VGG, epochs=4, dataset="tiny-imagenet")
    rows = pv.claims(tiny, "association with masks")
    assert list(rows["figure"]) == ["I1"]


def test_wrong_use_is_told() -> None:
    with pytest.raises(AnalysisError, match="did you mean 'high correlation'"):
        pv.claims(make_runs(VGG, epochs=2), "high correlations")
    with pytest.raises(AnalysisError, match="takes recordings, not DataFrame"):
        pv.claims(pd.DataFrame())  # type: ignore[arg-type]


def test_verdicts_on_some_runs_are_those_on_all() -> None:
    """Tests are corrected over the panels of the paper's figure, drawn or not, and no others."""
    networks = dict.fromkeys(("vgg13", "resnet56", "own"), SMALL["resnet56"])
    runs = make_runs(networks, range(5), epochs=8, every=1)
    distances = np.random.default_rng(0).random(len(runs.epochs))
    runs = replace(runs, epochs=runs.epochs.assign(mask_distance=distances))
    rule = "association with masks"
    every = claims(runs, rule).set_index("network")["p"]
    spec = runs.spec.set_index("run")["network"]
    for name in networks:
        (row,) = claims_on(rule, runs, spec.index[spec == name]).to_dict("records")
        assert (row["network"], row["p"]) == (name, pytest.approx(every[name]))
    (alone,) = claims(runs.select(network="own"), rule)["p"]
    assert alone == every["own"]
    apart = [claims(runs.select(network=name), rule)["p"][0] for name in ("vgg13", "resnet56")]
    assert list(every[["vgg13", "resnet56"]]) == pytest.approx(list(holm(apart)))
    assert not np.allclose(apart, holm(apart))


def test_a_second_setting_of_one_data_set_does_not_split_the_family() -> None:
    rule = RULES["order of convergence"]
    none = make_runs({"resnet56": SMALL["resnet56"]}).named([])
    told = [("cifar10", ""), ("cifar100", "lr 0.3"), ("cifar100", "lr 0.01")]
    panels = [Panel(none, "resnet56", data, "eval", "filter", 25, what) for data, what in told]
    assert families(panels, rule) == [[0, 1, 2]]
    own = [Panel(none, name, "cifar10", "eval", "filter", 25) for name in ("a", "b")]
    assert families([*panels, *own], rule) == [[0, 1, 2], [3], [4]]
    own = [Panel(none, name, "cifar10", "eval", "filter", 0) for name in ("a", "vgg13", "resnet56")]
    assert families(own, RULES["association with masks"]) == [[0], [1, 2]]
