"""Expected durations: learnt from finished runs of the same kind, unknown without any."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from pruneviz.plans.durations import (
    duration_in_words,
    expected_durations,
    longest_first,
    together,
    total_in_words,
)
from pruneviz.plans.planning import plan_runs
from pruneviz.plans.presets import PRESETS
from pruneviz.plans.run_plan import RunPlan

PLAN = RunPlan("new", "own", "vgg13", "cifar100", 0, epochs=4)


def record(
    folder: Path, run: str, seconds: float | None, *, sealed: bool = True, **facts: object
) -> None:
    known = {
        "run": run,
        "preset": "own",
        "network": "vgg13",
        "dataset": "cifar100",
        "epochs": 4,
        **facts,
    }
    log = RunLog.create(
        folder / run,
        RunSpec.from_dict(known if seconds is None else {**known, "wall_seconds": seconds}),
    )
    if sealed:
        log.seal()


def test_a_run_takes_what_its_finished_siblings_took_an_epoch(tmp_path: Path) -> None:
    record(tmp_path, "a", 10.0)
    record(tmp_path, "b", 90.0, epochs=9)  # the initialisation counts: 2 s and 9 s an epoch
    longer = replace(PLAN, run="longer", epochs=19)
    assert expected_durations([PLAN, longer], tmp_path) == pytest.approx(
        {"new": 5 * 5.5, "longer": 20 * 5.5}
    )


NO_SIBLINGS: dict[str, dict[str, object]] = {
    "another network": {"network": "resnet56"},
    "another preset": {"preset": "paper"},
    "another data set": {"dataset": "cifar10"},
    "of weights": {"unit": "weight"},
    "that prunes": {"rounds": 1, "target": 0.5},
    "unfinished": {"sealed": False},
}


@pytest.mark.parametrize("facts", NO_SIBLINGS.values(), ids=list(NO_SIBLINGS))
def test_runs_of_another_kind_tell_nothing(tmp_path: Path, facts: dict[str, object]) -> None:
    record(tmp_path, "a", 10.0, **facts)  # type: ignore[arg-type]
    record(tmp_path, "untimed", None)
    assert expected_durations([PLAN], tmp_path) == {"new": None}
    assert expected_durations([PLAN], tmp_path / "nowhere") == {"new": None}


def test_the_catalogue_knows_its_embedded_runs_and_recordings_know_better(tmp_path: Path) -> None:
    plan = plan_runs("digits", ["vgg13"], figures=["5"])[0]
    known = PRESETS["digits"].scales["pruned"].seconds_per_epoch["vgg13"]
    assert expected_durations([plan], tmp_path)[plan.run] == pytest.approx(
        known * (plan.epochs + 1)
    )
    assert expected_durations([replace(plan, dataset="cifar10")], tmp_path) == {plan.run: None}
    record(
        tmp_path,
        "sibling",
        1000.0,
        preset="digits",
        dataset="digits",
        rounds=5,
        target=0.75,
        epochs=9,
    )
    assert expected_durations([plan], tmp_path)[plan.run] == pytest.approx(
        100.0 * (plan.epochs + 1)
    )


@pytest.mark.parametrize(("jobs", "seconds"), [(1, 21.0), (2, 11.0), (3, 8.0), (9, 8.0)])
def test_runs_side_by_side_take_as_long_as_the_longest_share(jobs: int, seconds: float) -> None:
    for order in permutations([8.0, 4.0, 3.0, 6.0]):
        assert together(order, jobs) == seconds


def test_the_longest_and_the_unknown_come_first() -> None:
    plans = [replace(PLAN, run=name) for name in "abcd"]
    order = longest_first(plans, {"a": 1.0, "b": None, "c": 3.0, "d": 3.0})
    assert [plan.run for plan in order] == ["b", "c", "d", "a"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about 1 s"),
        (59.6, "about 60 s"),
        (300, "about 5 minutes"),
        (7200, "about 2 hours"),
        (4 * 86_400, "about 4 days"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration_in_words(seconds) == words


def test_totals_say_what_is_unknown() -> None:
    assert total_in_words([30.0, 30.0, 60.0], 2) == "about 60 s"
    assert (
        total_in_words([None, None], 2)
        == duration_in_words(None)
        == "unknown until a first one is recorded"
    )
    assert (
        total_in_words([60.0, None], 2)
        == "about 60 s, and 1 of them whose duration is unknown until a first one is recorded"
    )
