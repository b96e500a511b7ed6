"""Sweep files: what they ask for, and every fault named with its line and the repair."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pruneviz.errors import PresetError
from pruneviz.log.on_request import OnRequest
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.plans.grids import combinations
from pruneviz.plans.own_runs import OwnRun
from pruneviz.plans.planning import plan_baselines, plan_pruned_runs, plan_runs
from pruneviz.plans.sweep_example import EXAMPLE
from pruneviz.plans.sweep_file import Sweep, read_sweep
from pruneviz.plans.sweep_runs import RecordedRun


def sweep(folder: Path, text: str) -> Sweep:
    file = folder / "sweep.toml"
    file.write_text(text, encoding="utf-8")
    return read_sweep(file)


def test_every_combination_is_a_run_of_its_own(tmp_path: Path) -> None:
    found = sweep(
        tmp_path,
        """
        out = "data/mine"
        [[record]]
        network = ["vgg13", "resnet56"]
        measure = ["magnitude", "grasp"]
        rounds = [2, 5]
        target = [0.4, 0.6]
        seed = [0, 1, 2]
        carry_momentum = true
        """,
    )
    assert (found.file, found.out) == (tmp_path / "sweep.toml", Path("data/mine"))
    expected = {
        plan.run: RecordedRun(plan)
        for measure in ("magnitude", "grasp")
        for rounds in (2, 5)
        for target in (0.4, 0.6)
        for plan in plan_pruned_runs(
            "digits",
            PruningOptions(measure, target, rounds, carry_momentum=True),
            ("vgg13", "resnet56"),
            (0, 1, 2),
        )
    }
    assert len(expected) == 48
    assert {run.run: run for run in found.runs} == expected


def test_runs_of_figures_and_baselines_are_those_of_record(tmp_path: Path) -> None:
    found = sweep(
        tmp_path,
        """
        out = "mine"
        [[record]]
        figures = [13, "14"]
        seed = 1
        [[record]]
        baseline = true
        network = "vgg13"
        """,
    )
    plans = plan_runs("digits", seeds=(1,), figures=("13", "14"))
    plans += plan_baselines("digits", ("vgg13",))
    assert list(found.runs) == [RecordedRun(plan) for plan in plans]


def test_further_options_say_how_runs_are_recorded(tmp_path: Path) -> None:
    (run,) = sweep(
        tmp_path,
        """
        out = "mine"
        [[record]]
        figures = 13
        seed = 0
        sample_seed = 7
        samples = 2
        precision = "fp32"
        keep_weights = true
        columns = ["theta2_g2"]
        oracle = 20
        request_at = [0, 16]
        flow = true
        sinks = "tensorboard:logs"
        """,
    ).runs
    (plan,) = plan_runs("digits", seeds=(0,), figures=("13",))
    name = "vgg13-digits-unpruned-sample7-s0"
    plan = replace(plan, run=name, sample_seed=7, samples=2, precision="fp32")
    request = OnRequest(("theta2_g2",), 20, (0, 16))
    assert run == RecordedRun(plan, True, request, True, ("tensorboard:logs",))


def test_functions_of_ones_own_are_called_with_every_combination(tmp_path: Path) -> None:
    found = sweep(
        tmp_path,
        """
        out = "mine"
        [[train]]
        function = "my.training:train"
        [train.arguments]
        seed = [0, 1]
        lr = [0.1, 1e-3]
        drops = [[80, 120]]
        augment = true
        """,
    ).runs
    calls = [
        {"seed": seed, "lr": lr, "drops": [80, 120], "augment": True}
        for seed in (0, 1)
        for lr in (0.1, 0.001)
    ]
    assert [run.arguments for run in found if isinstance(run, OwnRun)] == calls
    assert [run.run for run in found] == [
        f"my.training-train-lr{lr}-drops80_120-augmenttrue-s{seed}"
        for seed in (0, 1)
        for lr in ("0.1", "0.001")
    ]


def test_a_name_may_show_some_arguments(tmp_path: Path) -> None:
    text = 'out = "o"\n[[train]]\nfunction = "m:f"\nname = "mlp-{kind}-{s}"\n'
    found = sweep(tmp_path, text + 'arguments = {kind = "a b", s = [1, 2], epochs = 3}').runs
    assert [run.run for run in found] == ["mlp-a_b-1", "mlp-a_b-2"]


def test_a_run_that_two_tables_ask_for_is_one(tmp_path: Path) -> None:
    table = '[[record]]\nfigures = {}\nnetwork = "vgg13"\nseed = 0\n'
    both = sweep(tmp_path, 'out = "o"\n' + table.format(2) + table.format(13)).runs
    assert [run.run for run in both] == ["vgg13-digits-unpruned-s0"]


def test_the_example_is_a_sweep_file(tmp_path: Path) -> None:
    found = sweep(tmp_path, EXAMPLE)
    assert len(found.runs) == 16 + 4 + 8
    assert [run.run for run in found.runs if isinstance(run, OwnRun)][:2] == [
        "small-w8-lr0.1-s0",
        "small-w8-lr0.1-s1",
    ]


RECORD = 'out = "o"\n[[record]]\nmeasure = "magnitude"\nseed = 0\n'  # 4 lines
MINI = '[[record]]\npreset = "cifar-mini"\nmeasure = "magnitude"\ndataset = "digits"\nseed = 0'
TRAIN = 'out = "o"\n[[train]]\nfunction = "m:f"\n'  # 3 lines
FAULTS = {
    "out = ": r": sweep.toml is no TOML: Invalid value \(at .*\); correct it there$",
    "": 'out is missing; name the folder of the runs, such as out = "data/sweep"$',
    'out = "o"': r"there are no runs; add a table \[\[record\]\] or \[\[train\]\]$",
    'out = "o"\nseeds = 3': "line 2: there is no key 'seeds'; choose one of out, record, train$",
    'out = "o"\n[record]\nseed = 0': r"line 2: record is no list of tables; begin each",
    RECORD
    + 'netwrok = "vgg13"': r"line 5, netwrok of \[\[record\]\] 1: there is no key 'netwrok'; "
    "did you mean 'network'",
    RECORD
    + 'network = "vgg31"': r"line 5, network of \[\[record\]\] 1: there is no network 'vgg31'"
    "; did you mean 'vgg13'",
    RECORD + 'dataset = "digit"': "line 5, .*there is no data set 'digit'; did you mean 'digits'",
    RECORD + "rounds = [1, 2.5]": "line 5, rounds of .*: rounds is 2.5, expected a whole number "
    "from 0, or a list of these, such as rounds = 3$",
    RECORD + "rounds = []": "line 5, rounds of .*: rounds is an empty list; name a value, or leave",
    RECORD + "rounds = 90": "line 5, rounds of .*: 90 rounds take an epoch each, but preset digits",
    RECORD + "target = [0.5, 1.5]": "line 5, target of .*: target is 1.5, expected the fraction",
    RECORD + "flow = [true]": r"line 5, flow of .*: flow is \[True\], expected true or false, such",
    RECORD + "figures = 3": r"line 3, .*\[\[record\]\] 1: say which runs are recorded by one of",
    RECORD + 'schedule = "even"': "line 5, schedule of .*: there is no schedule 'even'; choose",
    RECORD + "samples = 3": "line 5, samples of .*: samples is 3; give 1, or 2 for two halves",
    RECORD + 'precision = "fp8"': "line 5, precision of .*: there is no precision 'fp8'; choose",
    RECORD + 'errors = "all"': "line 5, errors of .*: there is no kind of errors 'all'",
    RECORD + 'columns = "theta3"': "line 5, .*there is no column on request 'theta3'",
    RECORD
    + "oracle = 9\nrequest_at = 99": "line 6, request_at of .*: request_at is 99, and no run "
    "has so many epochs; name epochs from 0 to 28$",
    'out = "o"\n[[record]]\nrounds = 3': "line 3, rounds of .*: rounds says how to prune, but not",
    RECORD + MINI: r"line 5: two different runs of \[\[record\]\] 1 and \[\[record\]\] 2 are "
    "called resnet56-digits-magnitude-r1-p60-s0; put them into two sweep files with an out",
    'out = "o"\n[[train]]\nname = "n"': r"line 2, \[\[train\]\] 1: function is '', expected",
    'out = "o"\n[[train]]\nfunction = "f"': "line 3, .*: function is 'f', expected module:function",
    TRAIN + "lr = 0.1": "there is no key 'lr'; choose one of function, name, arguments; arguments",
    TRAIN + "arguments = 3": "line 4, arguments of .*: arguments is 3, expected a table, such as",
    TRAIN + "[train.arguments]\nlr = []": "line 5, lr of .*: lr is an empty list; name a value, or",
    TRAIN
    + 'name = "n-{rl}"\narguments = {lr = 1}': "line 4, name of .*: name holds {rl}; there is "
    "no argument 'rl'",
    TRAIN + 'name = "../n"': r"line 4, name of .*: a run would be called '\.\./n', expected up to",
    TRAIN + 'name = ".n"': "a run would be called '.n', expected",
    TRAIN + "name = 3": 'line 4, name of .*: name is 3, expected a text, such as name = "mlp-s{s',
    TRAIN + "[train.arguments]\nlr = [0.1, 0.2]\n[[train]]\nfunction = 'm:f'\nname = 'n'\n"
    "[train.arguments]\ns = [0, 1]": r"line 6: two different runs of \[\[train\]\] 2 are called n; "
    "add to name what differs, as {argument}$",
    TRAIN + "[[train]]\nfunction = 'f'": r"line 5, function of \[\[train\]\] 2: function is 'f'",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_are_named_with_their_place_and_a_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.toml").write_text(text)
    with pytest.raises(PresetError) as error:
        read_sweep(Path("sweep.toml"))
    assert str(error.value).startswith("sweep.toml")
    assert re.search(FAULTS[text], f": {error.value}"), str(error.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"there is no file .*none.toml; write one, .*--example$"):
        read_sweep(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name in ("binary.toml", "."):
        with pytest.raises(PresetError, match=r"cannot be read \(.*\); give a text file$"):
            read_sweep(tmp_path / name)


def test_a_grid_has_a_bounded_size() -> None:
    lists = {name: list(range(100)) for name in "abc"}
    with pytest.raises(PresetError, match=r"make 1,000,000 combinations, and a sweep has at most"):
        next(combinations(lists))
    assert len(list(combinations({"a": [1, 2], "b": [3, 4]}))) == 4
