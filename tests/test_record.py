"""`python -m pruneviz.record`: records what is missing, goes on where it was cut off, and says what is wrong without losing a run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner, Result

import pruneviz as pv
from pruneviz import record
from pruneviz.experiment import campaign, datasets
from pruneviz.experiment.networks.registry import NETWORKS
from pruneviz.experiment.run import record_run
from pruneviz.experiment.setting import Setting, is_recorded
from pruneviz.log.schema import TABLES
from pruneviz.plans.durations import duration_in_words
from pruneviz.plans.needs import DATASET_NAMES, FIGURE_NEEDS, NETWORK_NAMES
from pruneviz.plans.planning import plan_runs
from pruneviz.plans.presets import PRESETS
from pruneviz.plans.run_plan import RunPlan
from tests.support.cut_off import ignore, interrupt, without_times

PLAN = RunPlan(
    "vgg13-digits-unpruned-s0", "tiny", "vgg13", "digits", 0, epochs=2, lr_drops=(1,), batch_size=32, augment=False,
    width=0.0625, every=1, sample_per_class=1, train_per_class=6, test_per_class=4,
)  # fmt: skip
OTHER = replace(PLAN, run="vgg13-digits-unpruned-s1", seed=1)
SEALED = {"spec.json", *(f"{table}.parquet" for table in TABLES)}
MISSING = replace(PLAN, run="vgg13-cifar100-unpruned-s0", dataset="cifar100")
FAILING = replace(PLAN, run="vgg13-digits-unpruned-s2", seed=2, train_per_class=10_000)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(record.app, arguments)


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Two runs in two processes, and a third that fails, by the command."""
    out = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "plan_runs", lambda *options: [PLAN, FAILING, OTHER])
        result = invoke(
            "--out",
            str(out / "set"),
            "--images",
            str(out / "nowhere"),
            "--device",
            "cpu",
            "--jobs",
            "2",
        )
    return out / "set", result


def test_the_command_records_each_run_in_a_process_of_its_own(
    recorded: tuple[Path, Result],
) -> None:
    out, result = recorded
    runs = pv.load(out)
    assert list(runs.spec["run"]) == [PLAN.run, OTHER.run]
    assert (
        runs.epochs.groupby("run", observed=True)["epoch"].apply(list).tolist() == [[0, 1, 2]] * 2
    )
    assert runs.filters["theta_hg"].notna().all()
    assert f"{PLAN.run}: recorded 2 epochs, test accuracy " in result.output
    assert result.output.startswith("recording 3 runs into "), (
        "how much there is to do stands first"
    )
    assert (
        "2 at a time; duration unknown until a first one is recorded"
        in result.output.splitlines()[0]
    )
    assert (runs.spec["wall_seconds"] > 0).all()
    for plan in (PLAN, OTHER):
        assert set(files(out / plan.run)) == SEALED


def test_a_run_that_fails_does_not_stop_the_others_and_is_told(
    recorded: tuple[Path, Result],
) -> None:
    out, result = recorded
    assert result.exit_code != 0
    assert "1 of 3 runs failed; fix the cause and repeat the command." in result.output
    assert f"{FAILING.run}: class 0" in result.output
    assert "but 10000 were asked for" in result.output
    assert not (out / FAILING.run).exists()


def test_the_spec_holds_the_plan_the_data_and_the_command(recorded: tuple[Path, Result]) -> None:
    spec = json.loads((recorded[0] / OTHER.run / "spec.json").read_text())
    known = {
        "run": OTHER.run,
        "preset": "tiny",
        "network": "vgg13",
        "dataset": "digits",
        "seed": 1,
        "epochs": 2,
        "lr_drops": [1],
    }
    known |= {
        "width": 0.0625,
        "every": "1",
        "batch_size": 32,
        "train_temperature": 5.0,
        "augment": False,
        "lr": 0.1,
        "momentum": 0.9,
    }
    known |= {
        "num_classes": 10,
        "train_images": 60,
        "sample_size": 10,
        "sample_seed": 0,
        "precision": "fp32",
        "device": "cpu",
    }
    assert {name: spec[name] for name in known} == known
    assert spec["command"].startswith("pruneviz record --out ")
    assert spec["threads"] >= 1


def test_processes_and_this_one_record_the_same_numbers(
    recorded: tuple[Path, Result], tmp_path: Path
) -> None:
    record_run(PLAN, Setting(tmp_path, threads=1), ignore)
    here, there = pv.load(tmp_path / PLAN.run), pv.load(recorded[0] / PLAN.run)
    pd.testing.assert_frame_equal(here.filters, there.filters, rtol=1e-3, atol=1e-6)
    pd.testing.assert_frame_equal(without_times(here), without_times(there), rtol=1e-3)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[RunPlan]:
    """The runs of the preset, whichever is asked for; recording any of them in processes is a failure."""
    plans = [PLAN, OTHER]

    def forbidden(*arguments: object) -> None:
        raise AssertionError("nothing is to be recorded")

    monkeypatch.setattr(record, "plan_runs", lambda *options: plans)
    monkeypatch.setattr(campaign, "record_runs", forbidden)
    return plans


def test_what_is_recorded_is_skipped(recorded: tuple[Path, Result], planned: list[RunPlan]) -> None:
    before = files(recorded[0])
    result = invoke("--out", str(recorded[0]), "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "2 of 2 runs already recorded" in result.output
    assert files(recorded[0]) == before


def test_the_list_says_what_is_recorded_and_how_to_record_the_rest(
    recorded: tuple[Path, Result], planned: list[RunPlan]
) -> None:
    planned[:] = [PLAN, *plan_runs("digits", ["vgg13"], [2], figures=["13"])]
    arguments = ["--out", str(recorded[0]), "--figures", "13", "2", "--seed", "2", "--jobs", "1"]
    result = invoke("--list", *arguments)
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0] == ["recorded", PLAN.run, "2", "epochs", "no", "figure"]
    assert lines[1][:7] == [
        "missing",
        "vgg13-digits-unpruned-s2",
        "16",
        "epochs",
        "figures",
        "2",
        "13",
    ]
    assert " ".join(lines[2]).startswith("1 run of 2 left to record, 1 at a time; duration ")
    assert (
        result.output.splitlines()[3]
        == f"Record them with: {shlex.join(['pruneviz', 'record', *arguments])}"
    )


def test_the_list_learns_durations_from_what_is_recorded(
    recorded: tuple[Path, Result], planned: list[RunPlan]
) -> None:
    planned[:] = [replace(PLAN, run=f"new{seed}", seed=seed, epochs=599) for seed in (7, 8)]
    seconds = 600 * pv.load(recorded[0]).spec["wall_seconds"].div(3).mean()
    lines = invoke("--list", "--out", str(recorded[0]), "--jobs", "1").output.splitlines()
    assert [line.endswith(duration_in_words(seconds)) for line in lines] == [
        True,
        True,
        False,
        False,
    ]
    assert lines[2].endswith(f"1 at a time; duration {duration_in_words(2 * seconds)}")


def test_the_list_says_what_is_unfinished(tmp_path: Path, planned: list[RunPlan]) -> None:
    with pytest.raises(KeyboardInterrupt):
        record_run(PLAN, Setting(tmp_path), interrupt(1, "test"))
    lines = invoke("--list", "--out", str(tmp_path)).output.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["unfinished", "missing"]
    assert lines[2].startswith("2 runs of 2 left to record")


FIGURES = {
    "one after the other": ["--figures", "5", "16"],
    "one by one": ["--figures", "5", "--figures", "16"],
    "with an equals sign": ["--figures=5", "--figures=16"],
    "between others": ["--figures", "5", "16", "--network", "vgg13", "mobilenet_v1"],
    "with zeros": ["--seed", "0", "1", "--figures", "05", "16"],
}


@pytest.mark.parametrize("arguments", FIGURES.values(), ids=list(FIGURES))
def test_figures_are_named_one_after_the_other_or_one_by_one(
    tmp_path: Path, arguments: list[str]
) -> None:
    result = invoke("--list", *arguments, "--out", str(tmp_path / "set"))
    assert result.exit_code == 0, result.output
    listed = [line.split()[1] for line in result.output.splitlines() if line.startswith("missing")]
    seeds = [0, 1] if "--seed" in arguments else []
    assert listed == [plan.run for plan in plan_runs("digits", figures=["5", "16"], seeds=seeds)]
    assert not (tmp_path / "set").exists()


def test_a_value_without_an_option_is_refused(tmp_path: Path) -> None:
    result = invoke("--list", "--preset", "digits", "16", "--out", str(tmp_path / "set"))
    assert result.exit_code == 2
    assert "unexpected extra argument" in result.output


def test_runs_of_ones_own_are_listed_by_what_tells_them_apart(tmp_path: Path) -> None:
    how = "--measure grasp_t200 --rounds 3 --target 0.5 --schedule linear --carry-momentum --keep-at-least 0.1"
    result = invoke(
        "--list", *how.split(), "--network", "vgg13", "--seed", "0", "1", "--out", str(tmp_path)
    )
    assert result.exit_code == 0, result.output
    runs = [f"vgg13-digits-graspt200-r3-p50-linear-carried-keep10-s{seed}" for seed in (0, 1)]
    assert [line.split()[1] for line in result.output.splitlines()[:2]] == runs
    assert "no figure" in result.output


def test_a_run_of_ones_own_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RunPlan] = []
    monkeypatch.setattr(
        campaign, "record_runs", lambda plans, setting, jobs, say: seen.extend(plans)
    )
    how = [
        "--measure",
        "magnitude",
        "--rounds",
        "2",
        "--target",
        "0.4",
        "--prune-at-start",
        "--prune-phase-only",
        "--flowandprune",
    ]
    result = invoke(*how, "--network", "vgg13", "--out", str(tmp_path), "--device", "cpu")
    assert result.exit_code == 0, result.output
    (plan,) = seen
    assert plan.pruning
    told = (
        plan.pruning.measure,
        plan.pruning.rounds,
        plan.pruning.target,
        plan.pruning.prune_at_start,
        plan.pruning.prune_phase_only,
        plan.pruning.flowandprune,
        plan.pruning.carry_momentum,
    )
    assert told == ("magnitude", 2, 0.4, True, True, True, False)
    assert plan.run == "vgg13-digits-magnitude-r2-p40-atstart-flowandprune-prunephase-s0"


REFUSED = {
    "--rounds 3": r"--rounds says how to prune, but not by which measure; add one, such as --measure magnitude",
    "--prune-at-start --target 0.5": r"--target, --prune-at-start says how to prune",
    "--measure magnitude --figures 5 16": r"figures have measures and rounds of their own; leave out --figures, or leave out --measure",
    "--measure magnitude --target 0": r"target is 0.0, expected the fraction of filters to prune, above 0 and below 1",
    "--measure magnitude --target 1": r"target is 1.0, expected",
    "--measure magnitude --rounds 0": r"0 rounds prune nothing; give 1 round or more",
    "--measure magnitude --rounds 99": r"99 rounds take an epoch each, but there are 28 epochs; use fewer rounds or more epochs",
    "--measure size": r"'size' does not exist; filters are ranked by one of magnitude, loss_preservation",
    "--measure theta_change": r"'theta_change' ranks single weights",
    "--measure sigma_change --prune-at-start": r"sigma_change needs changes of scales, and there are none before training; leave out prune_at_start",
    "--measure magnitude --schedule linear": r"one round prunes the same by every schedule",
    "--measure magnitude --schedule cubic": r"'cubic' is not one of 'published', 'linear'",
    "--figures 99": r"there is no figure '99'",
    "--figures 5 --network resnet56": r"figures 5 need no run of resnet56",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_makes_no_sense_is_refused_with_the_repair(tmp_path: Path, arguments: str) -> None:
    result = invoke(*arguments.split(), "--out", str(tmp_path / "set"))
    assert result.exit_code == 2, result.output
    assert REFUSED[arguments] in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "set").exists()


OTHERWISE = [
    ({"epochs": 9}, "epochs was 2, now 9"),
    ({"width": 1.0, "every": 10}, "every was '1', now '10'"),
]


@pytest.mark.parametrize(("change", "said"), OTHERWISE, ids=str)
def test_a_run_of_that_name_with_other_options_is_not_taken_for_recorded(
    recorded: tuple[Path, Result], planned: list[RunPlan], change: dict[str, float], said: str
) -> None:
    planned[:] = [replace(PLAN, **change)]  # type: ignore[arg-type]
    result = invoke("--out", str(recorded[0]), "--device", "cpu")
    assert result.exit_code == 2
    assert "was started with other options" in result.output
    assert said in result.output
    assert is_recorded(PLAN, recorded[0])


UNKNOWN = {
    ("--preset", "nothing"): ("no preset 'nothing'", PRESETS),
    ("--network", "vgg99"): ("no network 'vgg99'", NETWORK_NAMES),
    ("--dataset", "mnist"): ("no data set 'mnist'", DATASET_NAMES),
    ("--device", "tpu"): ("tpu", ("auto", "cpu", "cuda")),
}


@pytest.mark.parametrize("arguments", UNKNOWN, ids=" ".join)
def test_what_does_not_exist_is_told_with_what_does(
    tmp_path: Path, arguments: tuple[str, str]
) -> None:
    said, there_are = UNKNOWN[arguments]
    result = invoke(*arguments, "--out", str(tmp_path / "set"))
    assert result.exit_code == 2
    assert said in result.output
    assert all(name in result.output for name in there_are)
    assert not (tmp_path / "set").exists()


def test_a_gpu_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = invoke("--device", "cuda", "--out", str(tmp_path / "set"))
    assert result.exit_code == 2
    assert "there is no CUDA GPU on this machine; use --device cpu" in result.output
    assert not (tmp_path / "set").exists()


def test_help_is_there_without_torch() -> None:
    code = "import sys; from pruneviz.record import app; app(['--help'], standalone_mode=False); assert 'torch' not in sys.modules"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    options = (
        "--preset",
        "--figures",
        "--network",
        "--download",
        "--device",
        "--list",
        "--measure",
    )
    assert all(word in shown.stdout for word in (*options, *PRESETS, *FIGURE_NEEDS))


def test_the_names_in_the_catalogue_are_those_that_can_be_built_and_read() -> None:
    assert set(NETWORK_NAMES) == set(NETWORKS)
    assert set(DATASET_NAMES) == set(datasets.DATASETS)


def test_a_finished_run_counts_whatever_its_precision_unless_one_is_asked_for(
    tmp_path: Path, planned: list[RunPlan]
) -> None:
    planned[:] = [PLAN]
    record_run(PLAN, Setting(tmp_path), ignore)
    file = tmp_path / PLAN.run / "spec.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"precision": "bf16"}))
    assert "1 of 1 run already recorded" in invoke("--out", str(tmp_path), "--device", "cpu").output
    asked = invoke("--out", str(tmp_path), "--device", "cpu", "--precision", "fp32")
    assert asked.exit_code == 2
    assert "precision was 'bf16', now 'fp32'" in asked.output


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_precision_that_the_device_has_not_is_told_before_anything_is_begun(
    tmp_path: Path, planned: list[RunPlan], precision: str
) -> None:
    result = invoke("--out", str(tmp_path / "new"), "--device", "cpu", "--precision", precision)
    assert result.exit_code == 2
    assert f"precision '{precision}' is not to be had on cpu; choose fp32" in result.output
    assert not (tmp_path / "new").exists()


def test_what_all_runs_need_is_checked_once_before_any_process_starts(
    tmp_path: Path, planned: list[RunPlan]
) -> None:
    planned[:] = [MISSING, replace(MISSING, run="vgg13-cifar100-unpruned-s1", seed=1)]
    result = invoke("--out", str(tmp_path / "set"), "--images", str(tmp_path), "--device", "cpu")
    assert result.exit_code == 2
    assert result.output.count("cifar100 cannot be read from") == 1
    assert "runs failed" not in result.output
    assert not (tmp_path / "set").exists()


def test_an_interrupted_command_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(campaign, "record_runs", interrupted)
    result = invoke("--network", "vgg13", "--out", str(tmp_path))
    assert result.exit_code == 130
    assert "repeat the command to go on" in result.stderr


def test_runs_of_ones_own_have_a_folder_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[Path] = []
    monkeypatch.setattr(
        record, "_record_missing", lambda plans, setting, jobs: said.append(setting.out)
    )
    for options in (
        ["--figures", "5"],
        ["--measure", "proposed", "--rounds", "5"],
        ["--measure", "proposed", "--out", "here"],
    ):
        assert CliRunner().invoke(record.app, options).exit_code == 0
    assert said == [Path("data/digits"), Path("data/digits-own"), Path("here")]
