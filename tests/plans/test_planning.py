"""Planned runs: those that figures need, each once; the presets' scales; impossible plans."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from typing import Any

import pytest

from pruneviz.errors import PresetError
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.plans.needs import DATASET_NAMES, FIGURE_NEEDS, NETWORK_NAMES, TARGETS
from pruneviz.plans.planning import (
    figures_served,
    plan_baselines,
    plan_pruned_runs,
    plan_runs,
    record_command,
)
from pruneviz.plans.presets import PRESETS
from pruneviz.plans.run_plan import RunPlan
from tests.support.plans import changed

PLAN = RunPlan("r", "paper", "vgg13", "cifar100", 0, pruning=PruningOptions("magnitude", 0.5, 3))
CURVES = {"magnitude", "proposed", "loss_preservation"}
RATIOS = CURVES | {"grasp_t200", "grasp", "gradient_norm_preservation"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_is_planned_once_however_many_figures_need_it(preset: str) -> None:
    everything = plan_runs(preset)
    assert max(Counter(plan.run for plan in everything).values()) == 1
    by_figure = [
        plan
        for figure in PRESETS[preset].figures
        if figure != "I1"
        for plan in plan_runs(preset, figures=[figure])
    ]
    assert {plan.run: plan for plan in by_figure} == {plan.run: plan for plan in everything}
    assert len(by_figure) > len(everything), "some figures share their runs"
    assert [plan.seed for plan in everything] == sorted(plan.seed for plan in everything)


def runs_of(*figures: str, preset: str = "paper", **restricted: Any) -> list[RunPlan]:
    return plan_runs(preset, figures=figures, **restricted)


def test_accuracy_curves_need_three_measures_on_both_data_sets_for_every_seed() -> None:
    for figure, network, rounds in (
        ("1", "resnet56", 25),
        ("5", "vgg13", 5),
        ("7", "mobilenet_v1", 1),
        ("12", "resnet56", 25),
    ):
        plans = runs_of(figure)
        assert {(plan.network, plan.rounds, plan.kind, plan.pruning.target) for plan in plans} == {
            (network, rounds, "pruned", TARGETS[network])
        }
        assert {plan.pruning.measure for plan in plans} == CURVES
        assert {(plan.dataset, plan.seed) for plan in plans} == {
            (data, seed) for data in ("cifar10", "cifar100") for seed in (0, 1, 2)
        }
        assert len(plans) == 3 * 2 * 3
    assert runs_of("1") == runs_of("12"), "Figure 1 is Figure 12"


def test_layer_ratios_need_the_rounds_alone_by_six_measures() -> None:
    plans = runs_of("16")
    assert {(plan.network, plan.kind, plan.pruning.target, plan.dataset) for plan in plans} == {
        ("vgg13", "prune_phase", 0.65, "cifar100")
    }
    assert {(plan.pruning.measure, plan.rounds) for plan in plans} == {
        (measure, rounds) for measure in RATIOS for rounds in (1, 5, 25)
    }
    assert all(plan.epochs == plan.rounds for plan in plans)


def test_scatters_and_correlations_share_the_unpruned_runs() -> None:
    assert (
        {plan.run for plan in runs_of("3")}
        == {plan.run for plan in runs_of("15")}
        < {plan.run for plan in runs_of("2")}
    )
    assert {(plan.kind, plan.unit, plan.rounds) for plan in runs_of("2")} == {
        ("unpruned", "filter", 0)
    }
    assert {(plan.kind, plan.unit) for plan in runs_of("H1b")} == {("weights", "weight")}
    assert {plan.run for plan in runs_of("H1a")} == {
        plan.run for plan in runs_of("H1b") if plan.network == "resnet56"
    }


def test_tiny_imagenet_is_recorded_only_when_it_is_asked_for() -> None:
    assert "tiny-imagenet" not in {plan.dataset for plan in plan_runs("paper")}
    assert {plan.dataset for plan in runs_of("I1")} == {"tiny-imagenet"}
    assert set(runs_of("I1")) <= set(plan_runs("paper", dataset="tiny-imagenet"))
    with pytest.raises(
        PresetError, match=r"figure I1 is of tiny-imagenet, not of cifar10; leave out --dataset"
    ):
        runs_of("I1", dataset="cifar10")


def test_what_is_asked_for_restricts_the_runs() -> None:
    plans = plan_runs("digits", ["vgg13", "vgg13"], [4, 0, 4], "cifar10", ["5", "05", "16"])
    assert {plan.network for plan in plans} == {"vgg13"}
    assert {plan.dataset for plan in plans} == {"cifar10"}
    assert {plan.seed for plan in plans} == {0, 4}
    assert len({plan.run for plan in plans}) == len(plans) == 2 * (3 + 18)


def test_figures_served_names_all_figures_of_each_run() -> None:
    served = figures_served("paper")
    assert served["resnet56-cifar100-unpruned-s0"] == ["2", "3", "15"]
    assert served["resnet56-cifar10-proposed-r25-s2"] == ["1", "12"]
    assert served["vgg13-cifar100-grasp-r5-prunephase-s0"] == ["16"]
    assert served["vgg13-tiny-imagenet-unpruned-s0"] == ["I1"]
    assert set(served) == {plan.run for figure in FIGURE_NEEDS for plan in runs_of(figure)}


def test_samples_of_cifar10_are_as_large_as_those_of_cifar100() -> None:
    published = {"cifar10": 256, "cifar100": 25}  # images per class
    plans = runs_of("1") + runs_of("2", dataset="cifar10")
    assert {plan.dataset: plan.sample_per_class for plan in plans} == published
    for preset in ("cifar-mini", "cifar-half"):
        ten, hundred = (runs_of("5", preset=preset, dataset=name)[0] for name in published)
        assert ten.sample_per_class == 10 * hundred.sample_per_class


def test_paper_init_is_the_paper_before_any_training() -> None:
    plans = plan_runs("paper-init")
    paper = {plan.run: plan for plan in plan_runs("paper", dataset="cifar100")}
    assert {(plan.network, plan.seed) for plan in plans if plan.unit == "filter"} == {
        (network, seed) for network in NETWORK_NAMES for seed in (0, 1, 2)
    }
    for plan in plans:
        assert (plan.epochs, plan.kind in ("unpruned", "weights")) == (0, True)
        trained = {"preset", "epochs", "lr_drops", "every", "test_per_class"}
        assert all(
            getattr(plan, f.name) == getattr(paper[plan.run], f.name)
            for f in fields(plan)
            if f.name not in trained
        )
    assert set(figures_served("paper-init")["resnet56-cifar100-unpruned-s0"]) == {"3", "15"}
    with pytest.raises(PresetError, match=r"figure 2 cannot be drawn from runs of preset paper-"):
        plan_runs("paper-init", figures=["3", "2"])
    with pytest.raises(PresetError, match="preset paper-init records no runs that prune; use"):
        plan_pruned_runs("paper-init", PruningOptions("magnitude"))


def test_half_is_all_of_cifar100_at_half_width() -> None:
    plans = plan_runs("cifar-half")
    assert {plan.width for plan in plans} == {0.5}
    for plan in plan_runs("cifar-half", figures=["2", "3", "H1b"]):
        assert (plan.dataset, plan.seed, plan.train_per_class) == ("cifar100", 0, None)
        assert (plan.sample_per_class, plan.every) == (25, 3)
        assert plan.epochs % plan.every == 0, "the end is measured"


def test_short_is_the_paper_in_a_quarter_of_the_epochs() -> None:
    paper, short = ({plan.run: plan for plan in plan_runs(preset)} for preset in ("paper", "short"))
    assert paper.keys() == short.keys()
    for run, plan in paper.items():
        quick = short[run]
        scaled = {"preset", "lr_drops", "every", "epochs"}
        assert all(
            getattr(plan, f.name) == getattr(quick, f.name)
            for f in fields(plan)
            if f.name not in scaled
        )
        assert (plan.lr_drops, quick.lr_drops) == ((80, 120), (20, 30))
        assert (plan.every, quick.every) == (10, 5)
        assert (plan.epochs, quick.epochs) == (
            (160, 40) if plan.kind != "prune_phase" else (plan.rounds, plan.rounds)
        )


@pytest.mark.parametrize("preset", PRESETS)
def test_scales_fit_their_rounds_and_know_every_network(preset: str) -> None:
    for scale in PRESETS[preset].scales.values():
        assert set(scale.width) == set(scale.sample_per_class) == set(NETWORK_NAMES)
        assert {*scale.image_size, *scale.seconds_per_epoch} <= set(NETWORK_NAMES)
    assert set(PRESETS[preset].datasets) <= set(DATASET_NAMES)
    assert len(PRESETS["digits"].scales["unpruned"].seeds) >= 3, (
        "scatters average correlations over three seeds"
    )


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "target 0": (
        {"target": 0.0},
        r"^r: target is 0\.0, expected the fraction of filters to prune, above 0 and below 1",
    ),
    "target 1": ({"target": 1.0}, r"target is 1\.0, expected"),
    "target above": ({"target": 75.0}, r"target is 75\.0, expected"),
    "target nan": ({"target": float("nan")}, r"target is nan, expected"),
    "no rounds": ({"rounds": 0}, r"^r: 0 rounds prune nothing; give 1 round or more"),
    "many rounds": (
        {"rounds": 161},
        r"^r: 161 rounds take an epoch each, but preset paper trains 160 epochs; "
        r"give at most --rounds 160",
    ),
    "no measure": (
        {"measure": None},
        r"^r: 3 pruning rounds but no measure to rank filters by; name one, such as magnitude",
    ),
    "keeps all": (
        {"keep_at_least": 1.0},
        r"^r: keep_at_least is 1\.0, expected a fraction of a layer from 0 to below 1",
    ),
}


@pytest.mark.parametrize(("change", "said"), IMPOSSIBLE.values(), ids=list(IMPOSSIBLE))
def test_a_plan_that_cannot_be_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(PresetError, match=said):
        changed(PLAN, **change)


def test_rounds_at_the_start_come_an_epoch_earlier() -> None:
    assert list(PLAN.pruning_epochs) == [1, 2, 3]
    assert list(changed(PLAN, prune_at_start=True).pruning_epochs) == [0, 1, 2]
    assert changed(PLAN, prune_at_start=True, rounds=4, epochs=3).pruning_epochs[-1] == 3


POINTLESS: dict[str, tuple[dict[str, Any], str]] = {
    "one linear round": (
        {"schedule": "linear"},
        r"give more rounds, or leave out the linear schedule",
    ),
    "linear imitation": (
        {"schedule": "linear", "rounds": 2, "flowandprune": True},
        r"has no linear schedule; leave out one of the two",
    ),
    "no momentum before": (
        {"prune_at_start": True, "carry_momentum": True},
        r"nothing is trained before the only round.*leave out",
    ),
    "no training after": (
        {"prune_phase_only": True, "carry_momentum": True},
        r"nothing is trained after the only round.*leave out",
    ),
}


@pytest.mark.parametrize(("options", "said"), POINTLESS.values(), ids=list(POINTLESS))
def test_options_that_make_no_sense_together_are_refused(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(PresetError, match=said):
        PruningOptions("magnitude", 0.5, **options).check_complete()


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"rounds": 2},
    {"target": 0.5},
    {"target": 0.505},
    {"rounds": 2, "schedule": "linear"},
    {"prune_at_start": True},
    {"carry_momentum": True},
    {"keep_at_least": 0.1},
    {"keep_at_least": 0.0},
    {"flowandprune": True},
    {"prune_phase_only": True},
)


def test_runs_of_other_options_have_other_names() -> None:
    plans = [
        plan_pruned_runs("digits", PruningOptions("magnitude", **options), ["vgg13"], [0])[0]
        for options in OPTIONS
    ]
    catalogue = figures_served("digits")
    assert len({plan.run for plan in plans} - catalogue.keys()) == len(OPTIONS)
    for plan, options in zip(plans, OPTIONS, strict=True):
        assert {name: getattr(plan.pruning, name) for name in options} == options
    assert plans[2].run == "vgg13-digits-magnitude-r1-p50-s0"
    assert plans[0].pruning.target == TARGETS["vgg13"]


@pytest.mark.parametrize(("at_start", "epochs"), [(False, 3), (True, 2)])
def test_a_prune_phase_of_ones_own_ends_with_its_last_round(at_start: bool, epochs: int) -> None:
    pruning = PruningOptions("magnitude", rounds=3, prune_at_start=at_start, prune_phase_only=True)
    plans = plan_pruned_runs("cifar-mini", pruning, seeds=[5], dataset="cifar10")
    assert [(plan.network, plan.dataset, plan.seed, plan.epochs, plan.kind) for plan in plans] == [
        (network, "cifar10", 5, epochs, "prune_phase") for network in NETWORK_NAMES
    ]
    assert all(plan.pruning_epochs[-1] == epochs for plan in plans)


@pytest.mark.parametrize("preset", ["digits", "cifar-mini", "cifar-half"])
def test_a_baseline_is_a_pruned_run_that_is_not_pruned(preset: str) -> None:
    plans = plan_baselines(preset, networks=["vgg13"], seeds=[0, 3])
    assert [plan.run.split("-")[2:] for plan in plans] == [["baseline", "s0"], ["baseline", "s3"]]
    curve = plan_runs(preset, networks=["vgg13"], seeds=[0], figures=["5"])[0]
    assert plans[0] == replace(curve, run=plans[0].run, pruning=None)
    assert plans[0].pruning is None


@pytest.mark.parametrize(
    ("preset", "said"),
    [
        ("paper", "at the scale of the pruned ones already; record them with --figures 3 13 14"),
        ("paper-init", "records no runs that prune"),
    ],
)
def test_where_a_baseline_is_an_unpruned_run_or_nothing_it_is_refused(
    preset: str, said: str
) -> None:
    with pytest.raises(PresetError, match=said):
        plan_baselines(preset)


def test_runs_of_ones_own_that_cannot_be_are_refused() -> None:
    with pytest.raises(PresetError, match=r"0 rounds prune nothing; give 1 round or more"):
        plan_pruned_runs("digits", PruningOptions("magnitude", rounds=0))
    with pytest.raises(
        PresetError, match=r"99 rounds take an epoch each, but preset digits trains 28 epochs"
    ):
        plan_pruned_runs("digits", PruningOptions("magnitude", rounds=99))
    with pytest.raises(PresetError, match=r"there is no network 'vgg99'; choose one of resnet56"):
        plan_pruned_runs("digits", PruningOptions("magnitude"), ["vgg99"])


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "preset": (
        {"preset": "nothing"},
        r"there is no preset 'nothing'; choose one of digits, cifar-mini, cifar-half, short, "
        r"paper-init, paper",
    ),
    "figure": (
        {"figures": ["5", "99"]},
        r"there is no figure '99'; .*one of 1, 2, .*H1a, H1b, I1",
    ),
    "nothing left": (
        {"figures": ["5"], "networks": ["resnet56"]},
        r"figures 5 need no run of resnet56; leave out --network",
    ),
}


@pytest.mark.parametrize(("options", "said"), UNKNOWN.values(), ids=list(UNKNOWN))
def test_what_cannot_be_planned_is_told_with_what_can(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PresetError, match=said):
        plan_runs(**{"preset": "digits", **options})


def test_the_command_that_records_figures() -> None:
    assert record_command("digits", "my data") == "pruneviz record --preset digits --out 'my data'"
    own = record_command("cifar-mini", "d", dataset="tiny-imagenet")  # nothing can fetch it
    assert own == "pruneviz record --preset cifar-mini --dataset tiny-imagenet --out d"
    assert record_command("cifar-mini", "d").endswith("cifar-mini --download --out d")
    command = record_command(
        "paper", "data", figures=["5", "16"], networks=["vgg13"], dataset="cifar10"
    )
    assert command == (
        "pruneviz record --preset paper --figures 5 16 --network vgg13 --dataset cifar10 "
        "--download --out data"
    )


def test_rounds_before_their_epochs_may_be_one_more_than_epochs() -> None:
    (plan,) = plan_pruned_runs(
        "digits", PruningOptions("magnitude", rounds=29, prune_at_start=True), ["vgg13"], [0]
    )
    assert plan.pruning_epochs == range(29) and plan.epochs == 28
    for pruning, name in (
        (PruningOptions("magnitude", rounds=30, prune_at_start=True), "r30-p75-atstart-s0"),
        (PruningOptions("magnitude", rounds=29), "r29-p75-s0"),
    ):
        said = rf"^vgg13-digits-magnitude-{name}: .* rounds take an epoch each, but .* 28 epochs"
        with pytest.raises(PresetError, match=said):
            plan_pruned_runs("digits", pruning, ["vgg13"], [0])
