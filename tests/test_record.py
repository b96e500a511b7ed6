"""`pruneviz record`: records what is missing, skips what is there, and refuses what cannot be."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner, Result

import pruneviz as pv
from pruneviz import record
from pruneviz.console.stop_signals import Stopped
from pruneviz.console.time_limit import TimeLimit
from pruneviz.engines import command_options
from pruneviz.engines.engine import Engine
from pruneviz.experiment import campaign, datasets
from pruneviz.experiment.networks.registry import NETWORKS
from pruneviz.experiment.run import record_run
from pruneviz.experiment.setting import Setting, is_recorded
from pruneviz.log.run_spec import RunSpec
from pruneviz.plans.durations import duration_in_words
from pruneviz.plans.needs import DATASET_NAMES, FIGURE_NEEDS, NETWORK_NAMES
from pruneviz.plans.planning import plan_runs
from pruneviz.plans.presets import PRESETS
from pruneviz.plans.run_plan import RunPlan
from tests.support.cut_off import ignore, interrupt, without_times
from tests.support.edited_specs import edit_spec
from tests.support.plans import UNPRUNED
from tests.support.stopped_commands import StoppedCommand

OTHER = replace(UNPRUNED, run="vgg13-digits-unpruned-s1", seed=1)
FAILING = replace(UNPRUNED, run="vgg13-digits-unpruned-s2", seed=2, train_per_class=10_000)
DAMAGED = replace(UNPRUNED, run="vgg13-digits-unpruned-s3", seed=3)
MISSING = replace(UNPRUNED, run="vgg13-cifar100-unpruned-s0", dataset="cifar100")
SEALED = {"spec.json", *(f"{table}.parquet" for table in RunSpec("r").tables)}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(record.app, [str(argument) for argument in arguments])


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def listed(result: Result) -> list[str]:
    """The runs in a list."""
    lines = (line.split() for line in result.stdout.splitlines())
    return [words[1] for words in lines if words[0] in ("missing", "unfinished", "recorded")]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Two runs in two processes, a third that fails, and one that is damaged already."""
    out = tmp_path_factory.mktemp("recorded") / "set"
    (out / DAMAGED.run).mkdir(parents=True)
    (out / DAMAGED.run / "spec.json").write_text("{")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "plan_runs", lambda *options: [UNPRUNED, DAMAGED, FAILING, OTHER])
        return out, invoke("--out", out, "--device", "cpu", "--jobs", 2)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[RunPlan]:
    """The runs that are planned, whatever is asked for; recording any of them is a failure."""
    plans = [UNPRUNED, OTHER]

    def forbidden(*arguments: object) -> None:
        raise AssertionError("nothing is to be recorded")

    monkeypatch.setattr(record, "plan_runs", lambda *options: plans)
    monkeypatch.setattr(campaign, "record_runs", forbidden)
    return plans


# What is recorded


def test_each_run_is_recorded_in_a_process_of_its_own(recorded: tuple[Path, Result]) -> None:
    out, result = recorded
    runs = pv.load([out / plan.run for plan in (UNPRUNED, OTHER)])
    assert list(runs.spec["run"]) == [UNPRUNED.run, OTHER.run]
    epochs = runs.epochs.groupby("run", observed=True)["epoch"].apply(list)
    assert epochs.tolist() == [[0, 1, 2]] * 2
    assert runs.filters["theta_hg"].notna().all()
    assert (runs.spec["wall_seconds"] > 0).all()
    for plan in (UNPRUNED, OTHER):
        assert set(files(out / plan.run)) == SEALED
    first = result.stdout.splitlines()[0]
    assert first.startswith(f"recording 4 runs into {out}, 2 at a time; duration unknown until ")
    assert f"{UNPRUNED.run}: recorded 2 epochs, test accuracy " in result.stdout


def test_a_run_that_fails_does_not_stop_the_others_and_is_told(
    recorded: tuple[Path, Result],
) -> None:
    out, result = recorded
    assert result.exit_code == 1
    assert result.stderr.startswith("error: 2 of 4 runs failed; fix the cause and repeat")
    assert f"{FAILING.run}: class 0" in result.stderr
    assert "but 10000 were asked for" in result.stderr
    assert f"{DAMAGED.run}: {out / DAMAGED.run / 'spec.json'} is corrupt (" in result.stderr
    assert not (out / FAILING.run).exists()


def test_the_spec_holds_the_plan_the_data_and_the_command(recorded: tuple[Path, Result]) -> None:
    out, _ = recorded
    spec = json.loads((out / OTHER.run / "spec.json").read_text(encoding="utf-8"))
    plan = {
        "run": OTHER.run,
        "preset": "tiny",
        "network": "vgg13",
        "dataset": "digits",
        "seed": 1,
        "epochs": 2,
        "lr_drops": [1],
        "width": 0.0625,
        "every": "1",
        "batch_size": 32,
        "train_temperature": 5.0,
        "augment": False,
        "lr": 0.1,
        "momentum": 0.9,
    }
    found = {
        "num_classes": 10,
        "train_images": 60,
        "sample_size": 10,
        "sample_seed": 0,
        "precision": "fp32",
        "device": "cpu",
        "command": f"pruneviz record --out {out} --device cpu --jobs 2",
    }
    assert {name: spec[name] for name in plan} == plan
    assert {name: spec[name] for name in found} == found
    assert spec["threads"] >= 1


def test_processes_and_this_one_record_the_same_numbers(
    recorded: tuple[Path, Result], tmp_path: Path
) -> None:
    record_run(UNPRUNED, Setting(tmp_path, threads=1), ignore)
    here, there = pv.load(tmp_path / UNPRUNED.run), pv.load(recorded[0] / UNPRUNED.run)
    pd.testing.assert_frame_equal(here.filters, there.filters, rtol=1e-3, atol=1e-6)
    pd.testing.assert_frame_equal(without_times(here), without_times(there), rtol=1e-3)


def test_what_is_recorded_is_skipped(recorded: tuple[Path, Result], planned: list[RunPlan]) -> None:
    out, _ = recorded
    before = files(out)
    result = invoke("--out", out, "--device", "cpu")
    assert (result.exit_code, result.output) == (0, f"2 of 2 runs already recorded in {out}\n")
    assert files(out) == before


OTHERWISE = [
    ({"epochs": 9}, "epochs was 2, now 9"),
    ({"width": 1.0, "every": 10}, "every was '1', now '10'"),
]


@pytest.mark.parametrize(("change", "said"), OTHERWISE, ids=str)
def test_a_run_of_that_name_with_other_options_is_not_taken_for_recorded(
    recorded: tuple[Path, Result], planned: list[RunPlan], change: dict[str, float], said: str
) -> None:
    planned[:] = [replace(UNPRUNED, **change)]  # type: ignore[arg-type]
    result = invoke("--out", recorded[0], "--device", "cpu")
    assert result.exit_code == 2
    assert "was started with other options" in result.stderr and said in result.stderr
    assert is_recorded(UNPRUNED, Setting(recorded[0]))


def test_a_finished_run_counts_whatever_its_precision_unless_one_is_asked_for(
    recorded: tuple[Path, Result], tmp_path: Path, planned: list[RunPlan]
) -> None:
    planned[:] = [UNPRUNED]
    shutil.copytree(recorded[0] / UNPRUNED.run, tmp_path / UNPRUNED.run)
    edit_spec(tmp_path / UNPRUNED.run, precision="bf16")
    counted = invoke("--out", tmp_path, "--device", "cpu")
    assert "1 of 1 run already recorded" in counted.stdout
    asked = invoke("--out", tmp_path, "--device", "cpu", "--precision", "fp32")
    assert asked.exit_code == 2
    assert "precision was 'bf16', now 'fp32'" in asked.stderr


# Tasks for other schedulers, and limits on time


def test_tasks_record_one_run_each_and_none_that_is_recorded(
    recorded: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = recorded
    plans = [UNPRUNED, FAILING, replace(OTHER, run="new", seed=7)]
    monkeypatch.setattr(record, "plan_runs", lambda *options: plans)
    result = invoke("--list", "--out", out, "--device", "cpu", "--as-tasks", "--jobs", 4)
    assert (result.exit_code, result.stderr) == (
        0,
        "2 of 3 runs left to record, one task each\n",
    )
    words = [shlex.split(line) for line in result.stdout.splitlines()]
    options = ["--out", str(out), "--device", "cpu", "--jobs", "4"]
    place = ["cd", str(Path.cwd()), "&&", "pruneviz", "record", "--run"]
    assert words == [[*place, run, *options] for run in (FAILING.run, "new")]
    found: list[list[str]] = []
    monkeypatch.setattr(
        campaign, "record_runs", lambda plans, *_, **how: found.append([plan.run for plan in plans])
    )
    for task in words:
        assert invoke(*task[5:]).exit_code == 0
    assert found == [[FAILING.run], ["new"]]


def test_damaged_runs_are_no_tasks_and_told(
    recorded: tuple[Path, Result], planned: list[RunPlan]
) -> None:
    planned[:] = [UNPRUNED, DAMAGED]
    result = invoke("--list", "--as-tasks", "--out", recorded[0], "--device", "cpu")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{recorded[0] / DAMAGED.run / 'spec.json'} is corrupt (" in result.stderr


def test_a_download_is_done_once_before_the_tasks(
    tmp_path: Path, planned: list[RunPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[list[str], bool]] = []
    monkeypatch.setattr(
        campaign, "check_data_sets", lambda names, images, download: done.append((names, download))
    )
    result = invoke("--list", "--as-tasks", "--download", "--out", tmp_path, "--device", "cpu")
    assert done == [(["digits", "digits"], True)]
    assert "--download" not in result.stdout and len(result.stdout.splitlines()) == 2


def test_runs_are_chosen_by_name(tmp_path: Path, planned: list[RunPlan]) -> None:
    result = invoke("--list", "--run", OTHER.run, "--out", tmp_path)
    assert listed(result) == [OTHER.run]
    unknown = invoke("--list", "--run", "vgg13-digits-unpruned-s9", "--out", tmp_path)
    assert unknown.exit_code == 2
    assert "there is no run 'vgg13-digits-unpruned-s9'; did you mean" in unknown.stderr


def test_tasks_are_a_list(tmp_path: Path) -> None:
    result = invoke("--as-tasks", "--out", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("records none; add --list\n")


def test_the_end_of_the_time_leaves_the_command_incomplete(
    tmp_path: Path, planned: list[RunPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*arguments: object, limit: object) -> None:
        assert isinstance(limit, TimeLimit) and limit.seconds == 3300
        raise Stopped(None, "The time limit of 55m is near: r0 stopped. Repeat the command.")

    monkeypatch.setattr(campaign, "record_runs", run_out)
    result = invoke("--out", tmp_path, "--device", "cpu", "--time-limit", "55m")
    assert result.exit_code == 1
    assert result.stderr == "The time limit of 55m is near: r0 stopped. Repeat the command.\n"
    wrong = invoke("--out", tmp_path, "--time-limit", "55")
    assert wrong.exit_code == 2
    assert "'55' is no duration; give days, hours, minutes and seconds" in wrong.stderr


@pytest.mark.soak
def test_a_run_recorded_in_pieces_of_time_is_that_of_one_piece(tmp_path: Path) -> None:
    """Each piece ends after a further epoch; the tables are the same bytes."""
    plan = replace(UNPRUNED, epochs=4)
    record_run(plan, Setting(tmp_path / "whole", threads=1), ignore)
    codes = []
    for piece in range(12):
        folder = tmp_path / str(piece)
        folder.mkdir()
        near = (
            "from pathlib import Path; from pruneviz.console.time_limit import TimeLimit\n"
            f"parts = Path({str(tmp_path / 'out' / plan.run / 'parts')!r})\n"
            "count = lambda: len(list(parts.glob('epochs-*.parquet'))); before = count()\n"
            "TimeLimit.is_near = lambda self: count() > before"
        )
        options = ("--out", str(tmp_path / "out"), "--time-limit", "1h")
        command = StoppedCommand(folder, [plan], *options, patches=near)
        said = command.process.communicate()[1]
        codes.append(command.process.returncode)
        if codes[-1] == 0:
            break
        assert "The time limit of 1h is near: " in said
    assert codes == [1] * (len(codes) - 1) + [0] and len(codes) > 2
    for table in (tmp_path / "whole" / plan.run).glob("filters*.parquet"):
        assert (tmp_path / "out" / plan.run / table.name).read_bytes() == table.read_bytes()


# Runs of one's own


def test_runs_of_ones_own_are_listed_by_what_tells_them_apart(tmp_path: Path) -> None:
    how = (
        "--measure grasp_t200 --rounds 3 --target 0.5 --schedule linear --carry-momentum "
        "--keep-at-least 0.1 --network vgg13 --seed 0 1"
    )
    result = invoke("--list", *how.split(), "--out", tmp_path)
    assert result.exit_code == 0, result.output
    names = [f"vgg13-digits-graspt200-r3-p50-linear-carried-keep10-s{seed}" for seed in (0, 1)]
    assert listed(result) == names
    assert "no figure" in result.stdout


def test_runs_of_another_sample_are_listed_by_its_seed_with_their_figures(tmp_path: Path) -> None:
    how = "--figures 13 --seed 0 1 --sample-seed 7"
    result = invoke("--list", *how.split(), "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert listed(result) == [f"vgg13-digits-unpruned-sample7-s{seed}" for seed in (0, 1)]
    assert "figures 2 13" in result.stdout


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[RunPlan], Path]]:
    """The plans that would be recorded, and into which folder."""
    found: list[tuple[list[RunPlan], Path]] = []

    def note(plans: list[RunPlan], setting: Setting, *others: object, **how: object) -> None:
        found.append((plans, setting.out))

    monkeypatch.setattr(campaign, "record_runs", note)
    return found


def test_a_run_of_ones_own_is_recorded(
    tmp_path: Path, asked: list[tuple[list[RunPlan], Path]]
) -> None:
    how = (
        "--measure magnitude --rounds 2 --target 0.4 --prune-at-start --prune-phase-only "
        "--flowandprune --network vgg13 --seed 0 --device cpu"
    )
    result = invoke(*how.split(), "--out", tmp_path)
    assert result.exit_code == 0, result.output
    (([plan], _),) = asked
    options = plan.pruning
    assert options is not None
    assert (options.measure, options.rounds, options.target) == ("magnitude", 2, 0.4)
    assert options.prune_at_start and options.prune_phase_only and options.flowandprune
    assert not options.carry_momentum
    assert plan.run == "vgg13-digits-magnitude-r2-p40-atstart-flowandprune-prunephase-s0"


def test_runs_of_ones_own_have_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[tuple[list[RunPlan], Path]]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = "--measure proposed --rounds 5"
    for options in ("--figures 5", own, "--baseline", f"{own} --out here"):
        assert invoke(*options.split(), "--device", "cpu").exit_code == 0
    assert [out for _, out in asked] == [
        Path(p) for p in ("data/digits", *["data/digits-own"] * 2, "here")
    ]


# The list


def test_the_list_says_what_is_recorded_and_how_to_record_the_rest(
    recorded: tuple[Path, Result], planned: list[RunPlan]
) -> None:
    planned[:] = [UNPRUNED, *plan_runs("digits", ["vgg13"], [2], figures=["13"])]
    options = "--figures 13 2 --seed 2 --jobs 1"
    arguments = ["--out", str(recorded[0]), *options.split()]
    result = invoke("--list", *arguments)
    assert result.exit_code == 0
    first, second, third, fourth = result.stdout.splitlines()
    assert first.split() == ["recorded", UNPRUNED.run, "2", "epochs", "no", "figure"]
    missing = "missing vgg13-digits-unpruned-s2 16 epochs figures 2 13"
    assert " ".join(second.split()).startswith(missing)
    assert third.startswith("1 run of 2 left to record, 1 at a time; duration ")
    assert fourth == f"Record them with: {shlex.join(['pruneviz', 'record', *arguments])}"


def test_the_list_learns_durations_from_what_is_recorded(
    recorded: tuple[Path, Result], planned: list[RunPlan]
) -> None:
    planned[:] = [replace(UNPRUNED, run=f"new{seed}", seed=seed, epochs=599) for seed in (7, 8)]
    runs = pv.load([recorded[0] / plan.run for plan in (UNPRUNED, OTHER)])
    seconds = 600 * runs.spec["wall_seconds"].div(3).mean()
    first, second, third, _ = invoke("--list", "--out", recorded[0], "--jobs", 1).stdout.split(
        "\n", 3
    )
    assert first.endswith(duration_in_words(seconds)) and second.endswith(
        duration_in_words(seconds)
    )
    assert third.endswith(f"1 at a time; duration {duration_in_words(2 * seconds)}")


def test_durations_say_what_they_leave_out(tmp_path: Path, planned: list[RunPlan]) -> None:
    planned[:] = plan_runs("digits", ["vgg13"], [2], figures=["13"])
    for options, left_out in (
        ("", ""),
        ("--flow", ", without flow"),
        ("--errors full --samples 2", ", without columns on request and half samples"),
    ):
        result = invoke("--list", "--out", str(tmp_path), "--figures", "13", *options.split())
        assert result.exit_code == 0, result.output
        told = next(line for line in result.stdout.splitlines() if "left to record" in line)
        assert told.partition("duration ")[2].partition(",")[2] == left_out.removeprefix(",")


def test_the_list_says_what_is_unfinished(tmp_path: Path, planned: list[RunPlan]) -> None:
    with pytest.raises(KeyboardInterrupt):
        record_run(UNPRUNED, Setting(tmp_path), interrupt(1, "test"))
    lines = invoke("--list", "--out", tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["unfinished", "missing"]
    assert lines[2].startswith("2 runs of 2 left to record")


FIGURES = {
    "one after the other": "--figures 5 16",
    "one by one": "--figures 5 --figures 16",
    "with commas": "--figures 5,16",
    "with equals signs": "--figures=5 --figures=16",
    "between others": "--figures 5 16 --network vgg13 mobilenet_v1",
    "with zeros": "--seed 0 1 --figures 05 16",
    "as files are called": "--figures figure05 fig16",
}


@pytest.mark.parametrize("case", FIGURES)
def test_figures_are_named_in_many_ways(tmp_path: Path, case: str) -> None:
    result = invoke("--list", *FIGURES[case].split(), "--out", tmp_path / "set")
    assert result.exit_code == 0, result.output
    seeds = [0, 1] if "--seed" in FIGURES[case] else []
    assert listed(result) == [
        plan.run for plan in plan_runs("digits", (), seeds, None, ["5", "16"])
    ]
    assert not (tmp_path / "set").exists()


# What is refused


REFUSED = {
    "--baseline --figures 5": "no figure needs and nothing prunes; leave out --figures",
    "--baseline --measure magnitude": "no figure needs and nothing prunes; leave out --measure",
    "--baseline --rounds 3 --prune-at-start": "nothing prunes; leave out --rounds, "
    "--prune-at-start",
    "--baseline --preset paper": "record them with --figures 3 13 14",
    "--figures 3 --oracle 5 --request-at 0,99": "--request-at 99: no run has so many epochs; name "
    "epochs from 0 to 16",
    "--rounds 3": "--rounds says how to prune, but not by which measure; add one, such as "
    "--measure magnitude",
    "--prune-at-start --target 0.5": "--target, --prune-at-start says how to prune",
    "--measure magnitude --figures 5 16": "figures have measures and rounds of their own; leave "
    "out --figures, or leave out --measure",
    "--measure magnitude --target 0": "target is 0.0, expected the fraction of filters to prune, "
    "above 0 and below 1",
    "--measure magnitude --target 1": "target is 1.0, expected",
    "--measure magnitude --rounds 0": "0 rounds prune nothing; give 1 round or more",
    "--measure magnitude --rounds 99": "99 rounds take an epoch each, but preset digits trains "
    "28 epochs; give at most --rounds 28, or a --preset with more epochs",
    "--measure magnitude --rounds 99 --prune-at-start": "give at most --rounds 29",
    "--measure magnitude --target 1.5": "target is 1.5, expected the fraction of filters to prune, "
    "above 0 and below 1",
    "--measure size": "there is no pruning measure 'size'; choose one of magnitude",
    "--measure magnitud": "there is no pruning measure 'magnitud'; did you mean 'magnitude'?",
    "--measure theta_change": "'theta_change' ranks single weights",
    "--measure sigma_change --prune-at-start": "leave out prune_at_start",
    "--measure magnitude --schedule linear": "one round prunes the same by every schedule",
    "--measure magnitude --schedule cubic": "there is no schedule 'cubic'; choose one of "
    "published, linear",
    "--figures 99": "there is no figure '99'",
    "--figures 5 --network resnet56": "figures 5 need no run of resnet56",
    "--list --preset digits 16": "unexpected extra argument",
    "--device cpu --precision tf32": "precision 'tf32'",
    "--device cpu --precision bf16": "choose fp32",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_makes_no_sense_is_refused_with_the_repair(tmp_path: Path, arguments: str) -> None:
    result = invoke(*arguments.split(), "--out", tmp_path / "set")
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and result.stderr.startswith("error: ")
    assert REFUSED[arguments] in result.stderr
    assert not (tmp_path / "set").exists()


UNKNOWN = {
    "--preset nothing": ("no preset 'nothing'", PRESETS),
    "--network vgg99": ("no network 'vgg99'", NETWORK_NAMES),
    "--dataset mnist": ("no data set 'mnist'", DATASET_NAMES),
    "--device tpu": ("no device 'tpu'", ("auto", "cpu", "cuda")),
}


@pytest.mark.parametrize("arguments", UNKNOWN)
def test_what_does_not_exist_is_told_with_what_does(tmp_path: Path, arguments: str) -> None:
    said, there_are = UNKNOWN[arguments]
    result = invoke(*arguments.split(), "--out", tmp_path / "set")
    assert result.exit_code == 2
    assert said in result.stderr
    assert all(name in result.stderr for name in there_are)
    assert not (tmp_path / "set").exists()


def test_a_gpu_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = invoke("--device", "cuda", "--out", tmp_path / "set")
    assert result.exit_code == 2
    assert "there is no CUDA GPU on this machine; use --device cpu" in result.stderr
    assert not (tmp_path / "set").exists()


def test_other_machines_get_their_runs_with_what_each_may_take(
    tmp_path: Path, planned: list[RunPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU is asked for there, not here; here the cores are shared, there each run has its own."""
    found: list[tuple[Setting, int, Engine]] = []

    def note(
        plans: object, setting: Setting, jobs: int, say: object, engine: Engine, *, limit: object
    ) -> None:
        found.append((setting, jobs, engine))

    monkeypatch.setattr(campaign, "record_runs", note)
    monkeypatch.setattr(command_options, "check_installed", lambda engine: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = "--on ray --gpus-per-run 0.25 --cpus-per-run 3 --retries 5 --resource tpu=1"
    result = invoke(*options.split(), "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert f"recording 2 runs into {tmp_path} on ray, up to 2 at a time; " in result.stdout
    ((setting, jobs, engine),) = found
    assert (setting.device, setting.threads, setting.sharing, jobs) == ("cuda", 3, 4, 2)
    assert engine == Engine("ray", 3, 0.25, 5, {"tpu": "1"})


def test_what_all_runs_need_is_checked_once_before_any_process_starts(
    tmp_path: Path, planned: list[RunPlan]
) -> None:
    planned[:] = [MISSING, replace(MISSING, run="vgg13-cifar100-unpruned-s1", seed=1)]
    result = invoke("--out", tmp_path / "set", "--images", tmp_path, "--device", "cpu")
    assert result.exit_code == 2
    assert result.output.count("cifar100 cannot be read from") == 1
    assert "--download" in result.stderr and "runs failed" not in result.output
    assert not (tmp_path / "set").exists()


# The help, and Ctrl-C


def test_the_help_names_presets_figures_networks_and_data_sets() -> None:
    shown = invoke("--help").stdout
    names = (*PRESETS, *FIGURE_NEEDS, *NETWORK_NAMES, *DATASET_NAMES)
    assert [name for name in names if name not in shown] == []
    assert (
        shown.index("Pruned runs of your own") < shown.index("--measure") < shown.index("Presets:")
    )


def test_the_names_in_the_help_are_those_that_can_be_built_and_read() -> None:
    assert set(NETWORK_NAMES) == set(NETWORKS)
    assert set(DATASET_NAMES) == set(datasets.DATASETS)


def test_an_interrupted_command_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(campaign, "record_runs", interrupted)
    result = invoke("--network", "vgg13", "--out", tmp_path)
    assert result.exit_code == 130
    assert result.stderr == "Interrupted. Finished work is kept; repeat the command to go on.\n"


def test_sinks_are_made_by_name_and_wrong_ones_refused_before_anything_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "plan_runs", lambda *options: [replace(UNPRUNED, epochs=1)])
    wrong = invoke("--out", tmp_path / "set", "--sink", "mlflow:here")
    assert wrong.exit_code == 2
    assert "sink 'mlflow:here': give tensorboard:FOLDER or wandb:PROJECT" in wrong.stderr
    with monkeypatch.context() as patch:
        patch.setattr("pruneviz.recording.sinks.find_spec", lambda package: None)
        absent = invoke("--out", tmp_path / "set", "--sink", f"tensorboard:{tmp_path / 'logs'}")
    assert absent.exit_code == 2
    assert "needs tensorboard, which is not installed: pip install" in absent.stderr
    assert not (tmp_path / "set").exists()
    pytest.importorskip("tensorboard")
    named = f"tensorboard:{tmp_path / 'logs'}"
    done = invoke("--out", tmp_path / "set", "--device", "cpu", "--jobs", 1, "--sink", named)
    assert done.exit_code == 0, done.output
    assert list((tmp_path / "logs" / UNPRUNED.run).glob("events.out.tfevents.*"))


def test_a_run_that_cannot_be_read_is_listed_as_damaged(
    recorded: tuple[Path, Result], planned: list[RunPlan], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(recorded[0], tmp_path / "set"))
    spec = out / OTHER.run / "spec.json"
    spec.write_text("{")
    done = invoke("--out", out, "--device", "cpu", "--list")
    assert done.exit_code == 1 and f"{spec} is corrupt (" in done.stderr
    states = [line.split()[:2] for line in done.stdout.splitlines()]
    assert states == [["recorded", UNPRUNED.run], ["damaged", OTHER.run]]
