"""Measuring again writes what a recording with those options would, or says why it cannot."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

import pruneviz as pv
from pruneviz import remeasure
from pruneviz.analysis.claim_tables import table_of
from pruneviz.console import processes
from pruneviz.errors import DataError, LogError, MeasureError
from pruneviz.experiment import remeasuring
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, balanced_sample, subset
from pruneviz.experiment.networks.registry import build_network
from pruneviz.experiment.recorded_training import images_of
from pruneviz.experiment.remeasuring import (
    Remeasuring,
    check_remeasurable,
    each_apart,
    remeasure_run,
    remeasured_name,
)
from pruneviz.experiment.run import record_run
from pruneviz.experiment.setting import Setting, is_recorded
from pruneviz.log.on_request import OnRequest
from pruneviz.log.spec_file import read_spec
from pruneviz.plans.planning import with_sample_seed
from pruneviz.plans.run_plan import RunPlan
from pruneviz.recording.kept_weights import load_kept_weights, load_tensors
from pruneviz.recording.recorder import Recorder
from tests.support.cut_off import ignore, without_times
from tests.support.edited_specs import edit_spec
from tests.support.plans import UNPRUNED

PLAN = replace(UNPRUNED, epochs=2, sample_per_class=2)
WEIGHTS = replace(PLAN, run="vgg13-digits-weights-s0", unit="weight")
# of the machine, the command and the run's own name
NOT_MEASURED = {"created", "command", "wall_seconds", "remeasured_from", "recorded_with"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with kept weights, and the same training recorded by single weights."""
    out = tmp_path_factory.mktemp("recorded")
    record_run(PLAN, Setting(out, threads=1, keep_weights=True), ignore)
    record_run(WEIGHTS, Setting(out, threads=1), ignore)
    return out


@pytest.fixture(scope="module")
def by_batches(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the run measured again with batch statistics, in float64, at epochs 0 and 2."""
    out = tmp_path_factory.mktemp("batches")
    how = Remeasuring(out, bn="batch", batch_size=10, every=2, dtype="float64", threads=1)
    remeasure_run(recorded / PLAN.run, how, ignore)
    return out


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(remeasure.app, arguments)


def spec_of(run: Path) -> dict[str, object]:
    return {
        name: value
        for name, value in json.loads((run / "spec.json").read_text()).items()
        if name not in {*NOT_MEASURED, "facts_sha256", "table_files"}
    }


@pytest.mark.parametrize("plan", [PLAN, WEIGHTS], ids=["filters", "weights"])
def test_it_is_to_the_bit_what_recording_writes(
    recorded: Path, tmp_path: Path, plan: RunPlan
) -> None:
    remeasure_run(recorded / PLAN.run, Remeasuring(tmp_path, unit=plan.unit, threads=1), ignore)
    again, first = pv.load(tmp_path / plan.run), pv.load(recorded / plan.run)
    pd.testing.assert_frame_equal(again.filters, first.filters, check_exact=True)
    pd.testing.assert_frame_equal(again.correlations, first.correlations, check_exact=True)
    pd.testing.assert_frame_equal(without_times(again), without_times(first), check_exact=True)
    assert spec_of(tmp_path / plan.run) == spec_of(recorded / plan.run)
    origin = again.spec["remeasured_from"][0]
    assert origin["run"] == PLAN.run
    assert origin["versions"] == first.spec["versions"][0]


def test_what_is_on_request_is_recorded_and_measured_again(recorded: Path, tmp_path: Path) -> None:
    on_request = OnRequest(("synflow",), 5, (0, 2))
    how = Remeasuring(tmp_path / "again", on_request=on_request, threads=1)
    remeasure_run(recorded / PLAN.run, how, ignore)
    setting = Setting(tmp_path / "first", threads=1, on_request=on_request)
    record_run(PLAN, setting, ignore)
    again, first = pv.load(tmp_path / "again"), pv.load(tmp_path / "first")
    pd.testing.assert_frame_equal(again.filters, first.filters, check_exact=True)
    drawn = first.filters.dropna(subset="delta_loss").groupby("epoch").size()
    assert drawn.to_dict() == {0: 5, 2: 5}
    asked_at = first.filters["epoch"].isin([0, 2])
    assert first.filters["synflow"].notna().equals(asked_at)
    assert again.spec["oracle"].item() == 5
    asked = ("--columns", "synflow", "--oracle", "5", "--request-at", "0,2")
    done = invoke(str(recorded / PLAN.run), *asked, "--out", str(tmp_path / "again"))
    assert done.output == f"1 of 1 run already measured in {tmp_path / 'again'}\n"
    early = invoke(str(recorded / PLAN.run), *asked[:-1], "7", "--out", str(tmp_path / "other"))
    assert early.exit_code and "has no weights of epoch 7, so nothing" in early.output
    other = invoke(str(recorded / PLAN.run), "--oracle", "4", "--out", str(tmp_path / "again"))
    assert "was started with other options" in other.output and other.exit_code
    with pytest.raises(LogError, match="columns was"):
        is_recorded(PLAN, replace(setting, on_request=OnRequest(("theta2_g2",))))
    assert is_recorded(PLAN, setting)


def test_batch_statistics_are_those_of_measure_in_float64(recorded: Path, by_batches: Path) -> None:
    found = pv.load(by_batches / "vgg13-digits-unpruned-bnbatch-s0")
    spec = found.spec.iloc[0]
    assert (spec["bn"], spec["dtype"], spec["sample_batch_size"], spec["every"]) == (
        "batch",
        "float64",
        10,
        "2",
    )
    images, labels = balanced_sample(subset(load_dataset("digits"), 6, None, seed=0), 2, seed=0)
    network = build_network("vgg13", num_classes=10, width=0.0625)
    for epoch in (0, 2):
        load_kept_weights(network, recorded / PLAN.run, epoch)
        batches = list(zip(images.split(10), labels.split(10), strict=True))
        expected = pv.measure(network, batches, bn="batch", dtype=torch.float64)
        there = found.filters[found.filters["epoch"] == epoch]
        for column in ("theta_g", "theta_hg", "g_norm2", "sigma"):
            assert there[column].to_numpy() == pytest.approx(
                expected[column].to_numpy(), rel=1e-5, abs=1e-12
            ), column
    between = found.filters[found.filters["epoch"] == 1]
    assert between["theta_g"].isna().all()
    assert between["sigma_delta"].notna().all()


@pytest.mark.parametrize("unit", ["filter", "weight"])
def test_one_that_was_cut_off_goes_on(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    after_epoch, measured = Recorder.after_epoch, []

    def interrupted(self: Recorder, epoch: int, **facts: object) -> None:
        if epoch == 1 and not measured.count(1):
            measured.append(epoch)
            raise KeyboardInterrupt
        measured.append(epoch)
        after_epoch(self, epoch, **facts)  # type: ignore[arg-type]

    monkeypatch.setattr(Recorder, "after_epoch", interrupted)
    how = Remeasuring(tmp_path / "cut", unit=unit, threads=1)
    with pytest.raises(KeyboardInterrupt):
        remeasure_run(recorded / PLAN.run, how, ignore)
    assert check_remeasurable(recorded / PLAN.run, how)
    remeasure_run(recorded / PLAN.run, how, ignore)
    assert measured == [0, 1, 1, 2], "what was measured is not measured again"
    plan = WEIGHTS if unit == "weight" else PLAN
    again, first = pv.load(tmp_path / "cut"), pv.load(recorded / plan.run)
    pd.testing.assert_frame_equal(again.filters, first.filters, check_exact=True)
    pd.testing.assert_frame_equal(without_times(again), without_times(first), check_exact=True)
    assert not check_remeasurable(recorded / PLAN.run, how), "a finished one is not measured again"


def test_what_is_measured_is_skipped_and_other_options_are_refused(
    recorded: Path, by_batches: Path
) -> None:
    common = [str(recorded / PLAN.run), "--bn", "batch", "--out", str(by_batches)]
    again = invoke(*common, "--batch-size", "10", "--every", "2")
    assert again.exit_code == 0, again.output
    assert again.output == f"1 of 1 run already measured in {by_batches}\n"
    for options, told in (
        (
            ["--batch-size", "5", "--every", "2"],
            "sample_batch_size was 10, now 5; use the old ones, or another folder",
        ),
        (["--batch-size", "10", "--every", "1"], "every was '2', now '1'"),
        (
            ["--batch-size", "10", "--every", "2", "--dtype", "float32"],
            "dtype was 'float64', now 'float32'",
        ),
    ):
        refused = invoke(*common, *options)
        assert refused.exit_code == 2
        assert told in refused.output


def test_names_say_how_it_was_measured(recorded: Path) -> None:
    spec = read_spec(recorded / PLAN.run)
    for how, name in (
        ({}, PLAN.run),
        ({"unit": "weight"}, WEIGHTS.run),
        ({"bn": "calibrated"}, "vgg13-digits-unpruned-bncalibrated-s0"),
        ({"bn": "batch", "batch_size": 50, "unit": "weight"}, "vgg13-digits-weights-bnbatch-s0"),
        ({"dtype": "float64"}, "vgg13-digits-unpruned-float64-s0"),
        ({"sample_seed": 7}, "vgg13-digits-unpruned-sample7-s0"),
        ({"sample_seed": 0}, PLAN.run),
    ):
        assert remeasured_name(spec, Remeasuring(Path("x"), **how)) == name  # type: ignore[arg-type]


def test_another_sample_gives_what_recording_with_its_seed_writes(
    recorded: Path, tmp_path: Path
) -> None:
    plan = with_sample_seed(PLAN, 7)
    record_run(plan, Setting(tmp_path / "first", threads=1), ignore)
    first = pv.load(tmp_path / "first" / plan.run)
    how = Remeasuring(tmp_path / "again", sample_seed=7, threads=1)
    remeasure_run(recorded / PLAN.run, how, ignore)
    again = pv.load(tmp_path / "again" / "vgg13-digits-unpruned-sample7-s0")
    pd.testing.assert_frame_equal(again.filters, first.filters, check_exact=True)
    assert first.spec["sample_seed"].item() == again.spec["sample_seed"].item() == 7
    # the training is the same, the sample is not
    other = pv.load(recorded / PLAN.run).filters
    assert first.filters["theta_norm2"].equals(other["theta_norm2"])
    assert (first.filters["theta_g"] != other["theta_g"]).mean() > 0.9


def test_other_images_are_not_taken_for_the_sample(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*given: Any) -> ImageData:
        data = images_of(*given)
        return replace(data, train_images=255 - data.train_images)

    monkeypatch.setattr(remeasuring, "images_of", other)
    run = recorded / PLAN.run
    with pytest.raises(DataError, match="was measured on other images of digits than are read now"):
        remeasure_run(run, Remeasuring(tmp_path / "same", threads=1), ignore)
    remeasure_run(run, Remeasuring(tmp_path / "other", sample_seed=7, threads=1), ignore)


def test_a_run_of_another_sample_is_not_taken_for_measured(recorded: Path, tmp_path: Path) -> None:
    name = remeasured_name(read_spec(recorded / PLAN.run), Remeasuring(tmp_path, sample_seed=7))
    edited(recorded, tmp_path / name, sample_seed=3)
    with pytest.raises(LogError, match="sample_seed was 3, now 7"):
        check_remeasurable(recorded / PLAN.run, Remeasuring(tmp_path, sample_seed=7))


def edited(recorded: Path, to: Path, **facts: object) -> Path:
    """A copy of the run with other facts in its spec."""
    run = shutil.copytree(recorded / PLAN.run, to)
    edit_spec(run, **facts)
    return run


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"network": "MyNet"},
            "was not made by pruneviz record, so its network cannot be built again",
        ),
        ({"rounds": 2, "target": 0.5}, "pruned in 2 rounds; only runs that never prune"),
        ({"sealed": False}, "is unfinished; first repeat the command"),
    ],
)
def test_runs_that_cannot_be_measured_again_are_told(
    recorded: Path, tmp_path: Path, facts: dict[str, object], message: str
) -> None:
    run = edited(recorded, tmp_path / "run", **facts)
    with pytest.raises(LogError, match=message):
        check_remeasurable(run, Remeasuring(tmp_path / "out"))


def swapped(weights: Path) -> None:
    first, last, between = (weights / f"{name}.safetensors" for name in ("00000", "00002", "x"))
    first.rename(between)
    last.rename(first)
    between.rename(last)


def without_header(weights: Path) -> None:
    """As earlier versions wrote them, under each other's names."""
    for file in sorted(weights.iterdir()):
        save_file(load_tensors(file), file)
    swapped(weights)


def of_another_recording(weights: Path) -> None:
    plan = replace(PLAN, seed=1)
    record_run(plan, Setting(weights.parent / "x", threads=1, keep_weights=True), ignore)
    shutil.copy(weights.parent / "x" / PLAN.run / "weights" / "00001.safetensors", weights)
    shutil.rmtree(weights.parent / "x")


def renamed(weights: Path) -> None:
    (weights / "00002.safetensors").rename(weights / "00003.safetensors")


def added(weights: Path) -> None:
    shutil.copy(weights / "00002.safetensors", weights / "00099.safetensors")


EXCHANGED = {
    "swapped": (swapped, r"00000\.safetensors holds the weights of epoch 2 of", 2),
    "swapped without header": (without_header, r"other parameters and buffers or masks than", 0),
    "of another recording": (of_another_recording, r"00001\.safetensors is of another reco", 1),
    "renamed": (renamed, r"00003\.safetensors is of epoch 3, which .* did not record", 2),
    "added": (added, r"00099\.safetensors is of epoch 99, which .* did not record; move it", 2),
}


@pytest.mark.parametrize(("change", "said", "faults"), EXCHANGED.values(), ids=list(EXCHANGED))
def test_weights_under_a_wrong_name_are_refused_and_named(
    recorded: Path, tmp_path: Path, change: Callable[[Path], None], said: str, faults: int
) -> None:
    run = edited(recorded, tmp_path / "run")
    assert pv.faults(run).empty
    change(run / "weights")
    with pytest.raises(LogError, match=said):
        remeasure_run(run, Remeasuring(tmp_path / "out", threads=1), ignore)
    found = pv.faults(run)["fault"].tolist()
    assert len(found) == faults, found
    assert not faults or any(re.search(said, fault) for fault in found)


def test_what_a_person_keeps_beside_the_weights_is_no_weights(
    recorded: Path, tmp_path: Path
) -> None:
    run = edited(recorded, tmp_path / "run")
    shutil.copy(run / "weights" / "00001.safetensors", run / "weights" / "best.safetensors")
    (run / "weights" / "mine.safetensors").write_text("no tensors")
    remeasure_run(run, Remeasuring(tmp_path / "out", threads=1), ignore)
    again, first = pv.load(tmp_path / "out"), pv.load(run)
    pd.testing.assert_frame_equal(again.filters, first.filters, check_exact=True)
    assert pv.faults(run).empty


def test_a_run_without_weights_and_one_in_its_own_place_are_told(
    recorded: Path, tmp_path: Path
) -> None:
    result = invoke(str(recorded), "--unit", "weight", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert (
        f"{WEIGHTS.run} has no kept weights; record it with pruneviz record --keep-weights"
        in result.output
    )
    assert not list(tmp_path.iterdir()), "nothing is measured before all can be"
    with pytest.raises(LogError, match="would be overwritten; choose another folder"):
        check_remeasurable(recorded / PLAN.run, Remeasuring(recorded))


def test_sizes_of_batches_go_with_batch_statistics_alone() -> None:
    with pytest.raises(MeasureError, match="batch_size=None; with bn='batch' give the number"):
        Remeasuring(Path("x"), bn="batch")
    with pytest.raises(MeasureError, match="batch_size=10 has no meaning with bn='eval'"):
        Remeasuring(Path("x"), batch_size=10)


def test_two_runs_of_one_name_are_measured_into_folders_of_their_own(
    recorded: Path, tmp_path: Path
) -> None:
    sources = [recorded / PLAN.run, edited(recorded, tmp_path / "twin")]
    out = tmp_path / "out"
    alone = each_apart(sources[:1], Remeasuring(out))
    assert alone == {sources[0]: Remeasuring(out)}
    both = each_apart(sources, Remeasuring(out))
    assert [how.out.parent for how in both.values()] == [out, out]
    assert len({how.out for how in both.values()}) == 2


def test_the_command_measures_in_processes_and_tells_what_failed_after_the_others(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one thread: two that share cores with other tests wait for each other at full load
    monkeypatch.setattr(processes, "cores", lambda: 1)
    broken = edited(recorded, tmp_path / "broken", seed=1)
    (broken / "weights" / "00000.safetensors").write_bytes(b"nothing")
    given = [
        "--bn",
        "batch",
        "--batch-size",
        "10",
        "--every",
        "4",
        "--out",
        str(tmp_path / "out"),
        "--jobs",
        "1",
    ]
    result = invoke(str(broken), str(recorded / PLAN.run), *given)
    assert result.exit_code == 1
    assert "1 of 2 runs failed; fix the cause and repeat the command. broken: " in result.output
    assert "00000.safetensors is corrupt" in result.output
    assert f"{PLAN.run}: recorded at 3 epochs as vgg13-digits-unpruned-bnbatch-s0" in result.output
    spec = json.loads(
        (tmp_path / "out" / "vgg13-digits-unpruned-bnbatch-s0" / "spec.json").read_text()
    )
    assert (spec["dtype"], spec["sealed"], spec["seed"]) == ("float64", True, 0)
    assert spec["command"].startswith("pruneviz remeasure ")


def test_an_initialisation_is_recorded_and_measured_in_every_mode(tmp_path: Path) -> None:
    start = replace(PLAN, epochs=0, lr_drops=(), every=1, sample_per_class=4)
    record_run(start, Setting(tmp_path, threads=1, keep_weights=True), ignore)
    source = tmp_path / start.run
    ways = [
        Remeasuring(tmp_path / "calibrated", bn="calibrated", threads=1),
        Remeasuring(tmp_path / "batch", bn="batch", batch_size=10, dtype="float64", threads=1),
    ]
    for how in ways:
        remeasure_run(source, how, ignore)
    sets = [pv.load(source), *(pv.load(how.out) for how in ways)]
    assert [runs.epochs["epoch"].tolist() for runs in sets] == [[0]] * 3
    folders = [source, *(how.out for how in ways)]
    rows = table_of("initialisation", pv.load(folders)).splitlines()[2:]
    assert [row.split(" | ")[1:4] for row in rows] == [
        ["0.0625", "40", bn] for bn in ("eval", "calibrated", "batch")
    ]
    images, labels = balanced_sample(subset(load_dataset("digits"), 6, None, seed=0), 4, seed=0)
    network = build_network("vgg13", num_classes=10, width=0.0625)
    load_kept_weights(network, source, 0)
    found = sets[1].filters
    expected = pv.measure(network, (images, labels), bn="calibrated")
    assert found["theta_g"].tolist() == pytest.approx(expected["theta_g"].tolist(), rel=1e-3)
    correlation = found["theta_g"].corr(found["theta_hg"])
    assert f"| {correlation:.2f} |" in rows[1]
