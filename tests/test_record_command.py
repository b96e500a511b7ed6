"""`python -m pruneviz.record`: records what is missing, goes on where it was cut off, and says what is wrong without losing a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner, Result

import pruneviz as pv
from pruneviz import datasets, networks, record, recording
from pruneviz.errors import DataError, LogError, PresetError, PrunevizError, TrainingError
from pruneviz.experiments import DATASET_NAMES, NETWORK_NAMES, PRESETS, RunPlan, plan_runs, record_command
from pruneviz.recording import Setting, is_recorded, record_run, record_runs

PLAN = RunPlan(
    "vgg13-digits-unpruned-s0", "tiny", "vgg13", "digits", 0, epochs=2, lr_drops=(1,), batch_size=32, augment=False,
    width=0.0625, every=1, sample_per_class=1, train_per_class=6, test_per_class=4,
)  # fmt: skip
OTHER = replace(PLAN, run="vgg13-digits-unpruned-s1", seed=1)
MISSING = replace(PLAN, run="vgg13-cifar100-unpruned-s0", dataset="cifar100")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(record.app, arguments)


def ignore(epochs: float, note: str) -> None:
    pass


def interrupt(at: float, note: str) -> Callable[[float, str], None]:
    """A progress report that interrupts the run, at an epoch that is just being measured, or just done."""

    def report(epochs: float, now: str) -> None:
        if epochs >= at and now.startswith(note):
            raise KeyboardInterrupt

    return report


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def without_times(runs: pv.Runs) -> pd.DataFrame:
    return runs.epochs.drop(columns="seconds")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Two runs in two processes, and a third that fails, by the command."""
    out = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "plan_runs", lambda *options: [PLAN, MISSING, OTHER])
        result = invoke("--out", str(out / "set"), "--images", str(out / "nowhere"), "--device", "cpu", "--jobs", "2")
    return out / "set", result


def test_the_command_records_each_run_in_a_process_of_its_own(recorded: tuple[Path, Result]) -> None:
    out, result = recorded
    runs = pv.load(out)
    assert list(runs.spec["run"]) == [PLAN.run, OTHER.run]
    assert runs.epochs.groupby("run", observed=True)["epoch"].apply(list).tolist() == [[0, 1, 2]] * 2
    assert runs.filters["theta_hg"].notna().all()
    assert f"{PLAN.run}: recorded 2 epochs, test accuracy " in result.output
    for run in (PLAN, OTHER):
        assert sorted(files(out / run.run)) == ["epochs.parquet", "filters.parquet", "rounds.parquet", "spec.json"]


def test_a_run_that_fails_does_not_stop_the_others_and_is_told(recorded: tuple[Path, Result]) -> None:
    out, result = recorded
    assert result.exit_code != 0
    assert "1 of 3 runs failed; repeat the command after the repair." in result.output
    assert f"{MISSING.run}: cifar100" in result.output
    assert "nowhere" in result.output
    assert "--download" in result.output
    assert not (out / MISSING.run).exists()


def test_the_spec_holds_the_plan_the_data_and_the_command(recorded: tuple[Path, Result]) -> None:
    spec = json.loads((recorded[0] / OTHER.run / "spec.json").read_text())
    known = {"run": OTHER.run, "preset": "tiny", "network": "vgg13", "dataset": "digits", "seed": 1, "epochs": 2, "lr_drops": [1]}
    known |= {"width": 0.0625, "every": "1", "batch_size": 32, "train_temperature": 5.0, "augment": False, "lr": 0.1, "momentum": 0.9}
    known |= {"num_classes": 10, "train_images": 60, "sample_size": 10, "sample_seed": 0, "precision": "fp32", "device": "cpu"}
    assert {name: spec[name] for name in known} == known
    assert spec["command"].startswith("python ")
    assert spec["threads"] >= 1


def test_processes_and_this_one_record_the_same_numbers(recorded: tuple[Path, Result], tmp_path: Path) -> None:
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
    monkeypatch.setattr(record, "record_runs", forbidden)
    return plans


def test_what_is_recorded_is_skipped(recorded: tuple[Path, Result], planned: list[RunPlan]) -> None:
    before = files(recorded[0])
    result = invoke("--out", str(recorded[0]), "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "2 of 2 runs are already recorded" in result.output
    assert files(recorded[0]) == before


def test_the_list_says_what_is_recorded_and_how_to_record_the_rest(recorded: tuple[Path, Result], planned: list[RunPlan]) -> None:
    planned.append(replace(PLAN, preset="digits", run="vgg13-digits-unpruned-s2", seed=2))
    planned.remove(OTHER)
    result = invoke("--list", "--out", str(recorded[0]))
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].split()[:2] == ["recorded", PLAN.run]
    assert lines[1].split()[:2] == ["missing", "vgg13-digits-unpruned-s2"]
    assert lines[2].endswith(record_command("digits", ["vgg13"], str(recorded[0])))


OTHERWISE = [({"epochs": 9}, "epochs was 2, now 9"), ({"width": 1.0, "every": 10}, "every was '1', now '10'")]


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
    ("--network", "vgg99"): ("no network vgg99", NETWORK_NAMES),
    ("--dataset", "mnist"): ("no data set 'mnist'", DATASET_NAMES),
    ("--device", "tpu"): ("tpu", ("auto", "cpu", "cuda")),
}


@pytest.mark.parametrize("arguments", UNKNOWN, ids=" ".join)
def test_what_does_not_exist_is_told_with_what_does(tmp_path: Path, arguments: tuple[str, str]) -> None:
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
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"})
    assert all(word in shown.stdout for word in ("--preset", "--network", "--download", "--device", "--list", *PRESETS))


@pytest.mark.parametrize(("network", "dataset"), [(n, d) for n in NETWORK_NAMES for d in (None, "cifar10")])
def test_plans_are_unique_and_of_networks_and_data_sets_that_exist(network: str, dataset: str | None) -> None:
    plans = [plan for preset in PRESETS for plan in plan_runs(preset, [network, network], [0, 0, 4], dataset)]
    assert [plan.seed for plan in plans] == [0, 4] * len(PRESETS)
    assert {plan.dataset for plan in plans} == ({dataset} if dataset else {preset.dataset for preset in PRESETS.values()})
    assert {plan.network for plan in plans} == {network} <= set(networks.NETWORKS)
    assert len({(plan.preset, plan.run) for plan in plans}) == len(plans)


def test_the_names_in_the_catalogue_are_those_that_can_be_built_and_read() -> None:
    assert set(NETWORK_NAMES) == set(networks.NETWORKS)
    assert set(DATASET_NAMES) == set(datasets.DATASETS)
    for preset in PRESETS.values():
        assert set(preset.width) == set(preset.sample_per_class) == set(NETWORK_NAMES)
    assert len(PRESETS["digits"].seeds) >= 3
    assert (PRESETS["paper"].epochs, PRESETS["paper"].lr_drops, set(PRESETS["paper"].width.values())) == (160, (80, 120), {1.0})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pv.Runs:
    path = tmp_path_factory.mktemp("whole")
    record_run(replace(PLAN, epochs=4, every=2), Setting(path), ignore)
    return pv.load(path)


INTERRUPTIONS = [(0, "measuring"), (1, "measuring"), (3, "test"), (4, "test")]


@pytest.mark.parametrize(("at", "note"), INTERRUPTIONS)
def test_an_interrupted_run_goes_on_to_the_same_numbers(tmp_path: Path, uninterrupted: pv.Runs, at: int, note: str) -> None:
    plan = replace(PLAN, epochs=4, every=2)
    with pytest.raises(KeyboardInterrupt):
        record_run(plan, Setting(tmp_path), interrupt(at, note))
    assert not is_recorded(plan, tmp_path)
    record_run(plan, Setting(tmp_path), ignore)
    runs = pv.load(tmp_path)
    pd.testing.assert_frame_equal(runs.filters, uninterrupted.filters)
    pd.testing.assert_frame_equal(without_times(runs), without_times(uninterrupted))
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize("lost", ["checkpoint", "parts"])
def test_a_run_whose_checkpoint_or_parts_are_lost_still_ends_with_all_epochs(tmp_path: Path, lost: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        record_run(PLAN, Setting(tmp_path), interrupt(1, "test"))
    shutil.rmtree(tmp_path / PLAN.run / lost)
    if lost == "parts":
        shutil.rmtree(tmp_path / PLAN.run / "checkpoint")
    record_run(PLAN, Setting(tmp_path), ignore)
    assert list(pv.load(tmp_path).epochs["epoch"]) == [0, 1, 2]


def test_a_cut_off_run_is_not_mixed_with_other_options(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        record_run(PLAN, Setting(tmp_path), interrupt(2, "measuring"))
    before = files(tmp_path)
    with pytest.raises(LogError, match=r"other options: width was 0\.0625, now 0\.125; use the old ones"):
        record_run(replace(PLAN, width=0.125), Setting(tmp_path), ignore)
    assert files(tmp_path) == before


def _damaged_checkpoint(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        record_run(PLAN, Setting(path), interrupt(2, "measuring"))
    (path / PLAN.run / "checkpoint" / "state.pt").write_bytes(b"damaged")


def _file_for_a_folder(path: Path) -> None:
    (path / PLAN.run).write_text("mine")


BAD_RUNS: dict[str, tuple[dict[str, object], Callable[[Path], object], type[PrunevizError], str]] = {
    "missing images": ({"dataset": "cifar100"}, lambda path: None, DataError, r"cifar100.*empty.*--download"),
    "unknown data set": ({"dataset": "mnist"}, lambda path: None, PresetError, r"no data set 'mnist'; choose one of digits"),
    "too few images": ({"train_per_class": 10_000}, lambda path: None, DataError, r"class 0 .*has \d+ training images, but 10000"),
    "damaged checkpoint": ({}, _damaged_checkpoint, TrainingError, r"state\.pt is corrupt.*delete it"),
    "a file in the way": ({}, _file_for_a_folder, LogError, r"already holds a file; choose another folder"),
}


@pytest.mark.parametrize(("change", "prepare", "kind", "said"), BAD_RUNS.values(), ids=list(BAD_RUNS))
def test_a_run_that_cannot_be_recorded_says_why_and_overwrites_nothing(
    tmp_path: Path, change: dict[str, object], prepare: Callable[[Path], object], kind: type[PrunevizError], said: str
) -> None:
    prepare(tmp_path)
    before = files(tmp_path)
    with pytest.raises(kind, match=said):
        record_run(replace(PLAN, **change), Setting(tmp_path, images=tmp_path / "empty"), ignore)  # type: ignore[arg-type]
    assert files(tmp_path) == before


def test_a_missing_data_set_is_downloaded_once_before_the_runs_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[tuple[str, bool]] = []

    def fetch(name: str, *, root: Path | None, download: bool) -> None:
        fetched.append((name, download))
        if name == "cifar100":
            raise DataError("no connection")

    def no_process(*arguments: object) -> None:
        raise AssertionError("no run is to start")

    monkeypatch.setattr(datasets, "load_dataset", fetch)
    monkeypatch.setattr(recording, "ProcessPoolExecutor", no_process)
    with pytest.raises(DataError, match="no connection"):
        record_runs([PLAN, OTHER, MISSING], Setting(tmp_path, download=True), 2, lambda text: None)
    assert fetched == [("digits", True), ("cifar100", True)]


INTERRUPTED = f"""
import sys
from dataclasses import replace
from pathlib import Path
from pruneviz.experiments import RunPlan
from pruneviz.recording import Setting, record_runs
plans = [replace({PLAN!r}, run=f"r{{seed}}", seed=seed, epochs=5_000) for seed in range(3)]
record_runs(plans, Setting(Path(sys.argv[1])), 1, print)
"""


def test_ctrl_c_ends_the_running_runs_and_starts_no_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        try:
            while process.poll() is None and not list(tmp_path.glob("r0/parts/epochs-*")):
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)
            assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode != 0
    assert [run.name for run in tmp_path.iterdir()] == ["r0"]
    assert len(pv.load(tmp_path, unfinished="include").epochs) < 5_000
    with pytest.raises(ProcessLookupError):  # no process of the command is left behind
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
