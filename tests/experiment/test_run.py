"""A run: exact rounds, filters that stay pruned, resuming to the bit, errors with their round."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import (
    DataError,
    LogError,
    PresetError,
    PrunevizError,
    PruningError,
    TrainingError,
)
from pruneviz.experiment import removal_facts, run
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, balanced_sample, subset
from pruneviz.experiment.networks.registry import build_network
from pruneviz.experiment.run import ExperimentRun, measurement_sample, record_run
from pruneviz.experiment.setting import Setting, check_measure, is_recorded
from pruneviz.experiment.stop import Stop
from pruneviz.experiment.training import (
    TrainingState,
    evaluate,
    start,
    train,
)
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.log.run_lock import LOCK_FILE
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.spec_file import read_spec
from pruneviz.log.vocabulary import Precision
from pruneviz.plans.run_plan import RunPlan
from pruneviz.recording.kept_weights import kept_epochs
from tests.support.cut_off import ignore, interrupt, without_times
from tests.support.edited_specs import edit_spec
from tests.support.plans import UNPRUNED, changed

PLAN = changed(
    UNPRUNED,
    run="r0",
    epochs=5,
    lr_drops=(4,),
    batch_size=16,
    every=2,
    pruning=PruningOptions("proposed", target=0.5, rounds=3),
)
ONE_ROUND = changed(PLAN, measure="magnitude", rounds=1, epochs=2, every=1)
WIDTHS = (4, 4, 8, 8, 16, 16, 32, 32, 32, 32)  # filters of the ten convolutions at this width
FILTERS = sum(WIDTHS)
SEALED = {"spec.json", *(f"{table}.parquet" for table in RunSpec("r").tables)}


def files(path: Path) -> dict[str, bytes]:
    held = (p for p in path.rglob("*") if p.is_file() and p.name != LOCK_FILE)
    return {str(p.relative_to(path)): p.read_bytes() for p in held}


@pytest.fixture(autouse=True)
def checkpoints_whenever_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)


def watched_networks(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Networks of the finished runs, right before their filters are removed."""
    seen: list[nn.Module] = []
    removal = run.removal_facts

    def facts(network: nn.Module, example: Tensor) -> dict[str, Any]:
        seen.append(network)
        return removal(network, example)

    monkeypatch.setattr(run, "removal_facts", facts)
    return seen


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    return watched_networks(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[pv.Runs, nn.Module]:
    """The run of `PLAN`, never interrupted, and its network."""
    path = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as monkeypatch:
        networks = watched_networks(monkeypatch)
        record_run(PLAN, Setting(path), ignore)
    return pv.load(path), networks[0]


@pytest.fixture(scope="module")
def recorded(whole: tuple[pv.Runs, nn.Module]) -> pv.Runs:
    return whole[0]


@pytest.fixture(scope="module")
def cut_at_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the run of `UNPRUNED`, interrupted at epoch 2, with a checkpoint of epoch 1."""
    path = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(run, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        record_run(UNPRUNED, Setting(path), interrupt(2, "measuring"))
    return path


def data_of(plan: RunPlan) -> ImageData:
    return subset(load_dataset("digits"), plan.train_per_class, plan.test_per_class, seed=0)


def begun(plan: RunPlan) -> TrainingState:
    torch.manual_seed(plan.seed)
    return start(build_network(plan.network, num_classes=10, width=plan.width), plan)


class WatchedRun(ExperimentRun):
    """Shows its state after every epoch, and after every round, before momentum restarts."""

    after_epoch: Callable[[int, TrainingState], object]
    after_round: Callable[[TrainingState], object]

    def prune(self, epoch: int) -> None:
        super().prune(epoch)
        self.after_round(self.state)

    def record(self, epoch: int, **facts: Any) -> Callable[[], None] | None:
        rest = super().record(epoch, **facts)
        self.after_epoch(epoch, self.state)
        return rest


def looped(
    plan: RunPlan,
    path: Path,
    after_epoch: Callable[[int, TrainingState], object] = lambda epoch, state: None,
    after_round: Callable[[TrainingState], object] = lambda state: None,
) -> TrainingState:
    """Train and record a plan, watched."""
    data, state = data_of(plan), begun(plan)
    sample = balanced_sample(data, 1)
    with pv.Recorder(state.network, sample, path, every=10) as recorder:
        watched = WatchedRun(state, data, sample[0], plan, recorder, ignore)
        watched.after_epoch, watched.after_round = after_epoch, after_round
        train(state, data, plan, watched)
    return state


def fractions_gone(plan: RunPlan) -> list[Fraction]:
    """Fraction pruned after each round, from the share of the rest that each round prunes."""
    assert plan.pruning
    p, n, left, gone = Fraction(str(plan.pruning.target)), plan.rounds, Fraction(1), []
    for i in range(1, n + 1):
        share = p / (i * p + n * (1 - p)) if plan.pruning.schedule == "published" else p / n / left
        left *= 1 - share
        gone.append(1 - left)
    return gone


@pytest.mark.parametrize(
    "change",
    [{}, {"rounds": 1}, {"schedule": "linear", "target": 0.35, "measure": "magnitude"}],
    ids=str,
)
def test_every_round_reaches_its_fraction_within_one_filter(
    recorded: pv.Runs, tmp_path: Path, change: dict[str, Any]
) -> None:
    plan = changed(PLAN, epochs=3, **change)
    if change:
        record_run(plan, Setting(tmp_path), ignore)
    runs = pv.load(tmp_path) if change else recorded
    kept = runs.rounds.groupby("round")["kept"].sum()
    wanted = [FILTERS * (1 - float(gone)) for gone in fractions_gone(plan)]
    np.testing.assert_allclose(kept, wanted, atol=0.51)
    assert runs.epochs["kept_fraction"].iloc[-1] == pytest.approx(
        round(FILTERS * (1 - plan.pruning.target)) / FILTERS, abs=1e-12
    )


def test_the_rounds_table_holds_what_the_filters_table_says(recorded: pv.Runs) -> None:
    rounds = recorded.rounds
    assert rounds.groupby("round")["epoch"].unique().map(list).tolist() == [[1], [2], [3]]
    assert rounds["layer_index"].tolist() == list(range(10)) * 3
    assert rounds["filters"].tolist() == list(WIDTHS) * 3
    assert rounds["coupled_to"].isna().all(), "no filter of VGG-13 depends on another alone"
    counted = recorded.filters.groupby(["epoch", "layer"], observed=True)["kept"].sum()
    for row in rounds.itertuples():
        assert row.kept == counted[row.epoch, row.layer]
    by_epoch = recorded.filters.groupby("epoch")["kept"].mean()
    np.testing.assert_allclose(recorded.epochs["kept_fraction"], by_epoch, atol=1e-12)


PHASES = {
    "plain": ({}, ["init", "prune", "prune", "prune", "finetune", "finetune"]),
    "at start": (
        {"prune_at_start": True, "epochs": 4},
        ["prune", "prune", "prune", "finetune", "finetune"],
    ),
    "prune phase": ({"prune_phase_only": True, "epochs": 3}, ["init", "prune", "prune", "prune"]),
    "unpruned": (
        {"pruning": None, "epochs": 2},
        ["init", "train", "train"],
    ),
}


@pytest.mark.parametrize(("change", "phases"), PHASES.values(), ids=list(PHASES))
def test_epochs_are_of_the_phases_that_the_plan_says(
    recorded: pv.Runs, tmp_path: Path, change: dict[str, Any], phases: list[str]
) -> None:
    if change:
        record_run(changed(PLAN, **change), Setting(tmp_path), ignore)
    runs = pv.load(tmp_path) if change else recorded
    assert runs.epochs["phase"].tolist() == phases
    pruning = runs.epochs.loc[runs.epochs["phase"] == "prune", "epoch"]
    assert sorted(set(runs.rounds["epoch"])) == pruning.tolist()


def test_a_pruned_filter_never_comes_back(recorded: pv.Runs) -> None:
    filters = recorded.filters.assign(
        name=recorded.filters["layer"].astype(str) + "/" + recorded.filters["filter"].astype(str)
    )
    gone = [set(table.loc[~table["kept"], "name"]) for _, table in filters.groupby("epoch")]
    assert [len(names) for names in gone][:1] == [0]
    assert len(gone[-1]) == FILTERS // 2
    assert all(earlier <= later for earlier, later in itertools.pairwise(gone))
    lost = filters[~filters["kept"]]
    assert (lost["theta_norm2"] == 0).all()
    assert (lost["sigma"] == 0).all()
    assert lost["theta_g"].isna().all()


RANKED = {"magnitude": (1.0,), "proposed": (5.0,), "grasp": (1.0,), "grasp_t200": (1.0, 200.0)}


@pytest.mark.parametrize("measure", RANKED)
def test_the_lowest_scores_of_all_layers_go_and_each_layer_keeps_its_best(
    tmp_path: Path, measure: str
) -> None:
    """The round comes before any training, so that the test can rank the same network."""
    plan = changed(
        PLAN, measure=measure, rounds=1, prune_at_start=True, epochs=0, keep_at_least=0.3
    )
    network, data = begun(plan).network, data_of(plan)
    record_run(plan, Setting(tmp_path), ignore)
    table = pv.measure(
        network, balanced_sample(data, plan.sample_per_class), temperatures=RANKED[measure]
    )
    score = {
        "magnitude": table["theta_norm2"] ** 0.5,
        "proposed": table["theta2_abs_g"],
        "grasp": table["theta_hg"],
        "grasp_t200": table.get("theta_hg_t200"),
    }[measure]
    table = table.assign(score=score, layer=table["layer"].astype(str))
    best = [
        rows.sort_values("score").index[-(int(0.3 * len(rows)) + 1) :]
        for _, rows in table.groupby("layer")
    ]
    gone = table.drop(index=np.concatenate(best)).sort_values("score").index[: FILTERS // 2]
    after = pv.load(tmp_path).filters
    assert set(after.index[~after["kept"]]) == set(gone)


# Where runs are cut off: an epoch, and what is being done then.
CUT_OFF = [
    (0, "measuring"),
    (1, "pruning"),
    (2, "measuring"),
    (2, "test"),
    (4, "test"),
    (5, "removing"),
]
FEW = [(1, "pruning"), (2, "measuring"), (4, "test")]  # what an option adds lies before or after
RESUMED: dict[str, tuple[dict[str, Any], list[tuple[int, str]]]] = {
    "restarted": ({}, CUT_OFF),
    "carried": ({"carry_momentum": True}, FEW),
    "at start": ({"prune_at_start": True, "measure": "grasp_t200"}, [(0, "measuring"), *FEW]),
    "sigma change": ({"measure": "sigma_change"}, FEW),
    "flowandprune": ({"flowandprune": True, "augment": True}, FEW),
    "unpruned": (
        {"pruning": None},
        [(0, "measuring"), (3, "test"), (5, "test")],
    ),
}


@pytest.mark.parametrize(("change", "cut_off"), RESUMED.values(), ids=list(RESUMED))
def test_an_interrupted_run_ends_as_if_it_had_never_been(
    tmp_path: Path,
    whole: tuple[pv.Runs, nn.Module],
    networks: list[nn.Module],
    change: dict[str, Any],
    cut_off: list[tuple[int, str]],
) -> None:
    """One run is cut off again and again, so that every epoch after the cut is computed once."""
    plan = changed(PLAN, **change)
    if change:
        record_run(plan, Setting(tmp_path / "whole"), ignore)
        expected = pv.load(tmp_path / "whole")
    else:
        expected = whole[0]
        networks.append(whole[1])
    for at, note in cut_off:
        with pytest.raises(KeyboardInterrupt):
            record_run(plan, Setting(tmp_path / "cut"), interrupt(at, note))
        assert not is_recorded(plan, Setting(tmp_path / "cut"))
    told: list[tuple[float, str]] = []
    record_run(plan, Setting(tmp_path / "cut"), lambda *said: told.append(said))
    assert told[0][1] == f"continuing after epoch {told[0][0]:g}"
    runs = pv.load(tmp_path / "cut")
    pd.testing.assert_frame_equal(runs.filters, expected.filters)
    pd.testing.assert_frame_equal(runs.rounds, expected.rounds)
    pd.testing.assert_frame_equal(without_times(runs), without_times(expected))
    assert set(files(tmp_path / "cut" / plan.run)) == SEALED
    if plan.pruning:
        first, last = (network.state_dict() for network in networks)
        assert first.keys() == last.keys()
        assert all(torch.equal(first[name], last[name]) for name in first)


def test_a_run_of_short_epochs_is_resumed_from_an_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_run(ONE_ROUND, Setting(tmp_path / "whole"), ignore)
    monkeypatch.setattr(run, "_SECONDS_BETWEEN_CHECKPOINTS", 600.0)
    with pytest.raises(KeyboardInterrupt):
        record_run(ONE_ROUND, Setting(tmp_path / "cut"), interrupt(2, "test"))
    assert not (tmp_path / "cut" / ONE_ROUND.run / "checkpoint").exists()
    assert len(pv.load(tmp_path / "cut", unfinished="include").epochs) == 3
    record_run(ONE_ROUND, Setting(tmp_path / "cut"), ignore)
    whole, runs = pv.load(tmp_path / "whole"), pv.load(tmp_path / "cut")
    pd.testing.assert_frame_equal(runs.filters, whole.filters)
    pd.testing.assert_frame_equal(without_times(runs), without_times(whole))


def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for out in ("whole", "cut"):
        with pytest.raises(KeyboardInterrupt):
            record_run(UNPRUNED, Setting(tmp_path / out, keep_weights=True), interrupt(2, "test"))
    kept = tmp_path / "cut" / UNPRUNED.run / "checkpoint"
    (last,) = kept.glob("epoch-00002-*.pt")
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    for out in ("whole", "cut"):
        record_run(UNPRUNED, Setting(tmp_path / out, keep_weights=True), ignore)
    assert "is damaged; training goes on from the checkpoint of epoch 1" in caplog.text
    whole, runs = pv.load(tmp_path / "whole"), pv.load(tmp_path / "cut")
    pd.testing.assert_frame_equal(runs.filters, whole.filters)
    pd.testing.assert_frame_equal(without_times(runs), without_times(whole))
    weights = [files(tmp_path / out / UNPRUNED.run / "weights") for out in ("whole", "cut")]
    assert weights[0] == weights[1] and len(weights[0]) == 3


@pytest.mark.parametrize(
    ("part", "ends"), [("filters-00000", "holds no epoch"), ("epochs-00001", "ends at epoch 0")]
)
def test_a_run_that_lost_a_part_names_it_and_goes_on_once_it_is_restored(
    tmp_path: Path, cut_at_2: Path, part: str, ends: str
) -> None:
    shutil.copytree(cut_at_2, tmp_path, dirs_exist_ok=True)
    path = tmp_path / UNPRUNED.run
    lost = path / "parts" / f"{part}.parquet"
    lost.rename(tmp_path / "backup")
    before = files(path)
    for _ in range(2):
        with pytest.raises(TrainingError) as caught:
            record_run(UNPRUNED, Setting(tmp_path), ignore)
        said = str(caught.value)
        assert said.startswith(f"{lost} is missing, so the log {ends}, and ")
        assert said.endswith(
            "is of epoch 1; restore it from a backup, or delete the run and record it again"
        )
        assert files(path) == before
    (tmp_path / "backup").rename(lost)
    told: list[str] = []
    record_run(UNPRUNED, Setting(tmp_path), lambda _, note: told.append(note))
    assert told[0] == "continuing after epoch 1"
    assert list(pv.load(path).epochs["epoch"]) == [0, 1, 2]


def test_weights_are_kept_before_a_checkpoint_of_their_epoch_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that does not come to its next step is saved by another thread, which ends it."""
    keep, stop = run.keep_weights, SavedStop()

    def killed(network: nn.Module, path: Path, epoch: int) -> None:
        if epoch == 1:
            stop.save()
            raise KeyboardInterrupt
        keep(network, path, epoch)

    with monkeypatch.context() as killing, pytest.raises(KeyboardInterrupt):
        killing.setattr(run, "keep_weights", killed)
        record_run(UNPRUNED, Setting(tmp_path, keep_weights=True), ignore, stop)
    record_run(UNPRUNED, Setting(tmp_path, keep_weights=True), ignore)
    assert kept_epochs(tmp_path / UNPRUNED.run) == [0, 1, 2]


class SavedStop(Stop):
    """Holds what saves the run."""

    def keep(self, save: Callable[[], object] | None) -> None:
        if save is not None:
            self.save = save


@pytest.mark.parametrize("lost", ["checkpoint", "parts"])
def test_a_run_whose_checkpoint_or_parts_are_lost_still_ends_with_all_epochs(
    tmp_path: Path, lost: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        record_run(UNPRUNED, Setting(tmp_path), interrupt(1, "test"))
    shutil.rmtree(tmp_path / UNPRUNED.run / lost)
    if lost == "parts":
        shutil.rmtree(tmp_path / UNPRUNED.run / "checkpoint")
    record_run(UNPRUNED, Setting(tmp_path), ignore)
    assert list(pv.load(tmp_path).epochs["epoch"]) == [0, 1, 2]


def test_a_cut_off_run_is_not_mixed_with_other_options(cut_at_2: Path) -> None:
    before = files(cut_at_2)
    with pytest.raises(
        LogError, match=r"other options: width was 0\.0625, now 0\.125; use the old ones"
    ):
        record_run(changed(UNPRUNED, width=0.125), Setting(cut_at_2), ignore)
    assert files(cut_at_2) == before


def begun_in(precision: str | None, cut: Path, path: Path) -> Path:
    """A copy of a run that was cut off, with a precision in its spec."""
    shutil.copytree(cut, path, dirs_exist_ok=True)
    edit_spec(path / UNPRUNED.run, precision=precision)
    return path


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (
            None,
            PresetError,
            r"precision 'tf32' is not available on cpu; choose fp32, or another device",
        ),
        (
            "fp32",
            LogError,
            r"other options: precision was 'tf32', now 'fp32'; use the old ones, or another folder",
        ),
    ],
)
def test_a_run_goes_on_in_the_precision_it_was_begun_in(
    cut_at_2: Path,
    tmp_path: Path,
    asked: Precision | None,
    error: type[PrunevizError],
    message: str,
) -> None:
    path = begun_in("tf32", cut_at_2, tmp_path)
    before = files(path)
    with pytest.raises(error, match=message):
        record_run(changed(UNPRUNED, precision=asked), Setting(path), ignore)
    assert files(path) == before


@pytest.mark.parametrize("asked", [None, "fp32"])
def test_a_run_begun_in_float32_goes_on_and_says_so(
    cut_at_2: Path, tmp_path: Path, asked: Precision | None
) -> None:
    begun_in("fp32", cut_at_2, tmp_path)
    record_run(changed(UNPRUNED, precision=asked), Setting(tmp_path), ignore)
    assert pv.load(tmp_path).spec["precision"].tolist() == ["fp32"]


def _damaged_checkpoint(path: Path, cut: Path) -> None:
    shutil.copytree(cut, path, dirs_exist_ok=True)
    for file in (path / UNPRUNED.run / "checkpoint").iterdir():
        file.write_bytes(file.read_bytes()[:-1])


def _file_for_a_folder(path: Path, cut: Path) -> None:
    (path / UNPRUNED.run).write_text("mine")


BAD_RUNS: dict[
    str, tuple[dict[str, object], Callable[[Path, Path], object], type[PrunevizError], str]
] = {
    "missing images": (
        {"dataset": "cifar100"},
        lambda path, cut: None,
        DataError,
        r"cifar100.*empty.*--download",
    ),
    "unknown data set": (
        {"dataset": "mnist"},
        lambda path, cut: None,
        PresetError,
        r"no data set 'mnist'; choose one of digits",
    ),
    "too few images": (
        {"train_per_class": 10_000},
        lambda path, cut: None,
        DataError,
        r"class 0 .*has \d+ training images, but 10000",
    ),
    "damaged checkpoint": (
        {},
        _damaged_checkpoint,
        TrainingError,
        r"epoch-00001-\w+\.pt .*are damaged, and there is no other checkpoint; delete them",
    ),
    "a file in the way": (
        {},
        _file_for_a_folder,
        LogError,
        r"already holds a file; choose another folder",
    ),
}


@pytest.mark.parametrize(
    ("change", "prepare", "kind", "said"), BAD_RUNS.values(), ids=list(BAD_RUNS)
)
def test_a_run_that_cannot_be_recorded_says_why_and_overwrites_nothing(
    cut_at_2: Path,
    tmp_path: Path,
    change: dict[str, object],
    prepare: Callable[[Path, Path], object],
    kind: type[PrunevizError],
    said: str,
) -> None:
    prepare(tmp_path, cut_at_2)
    before = files(tmp_path)
    with pytest.raises(kind, match=said):
        record_run(
            changed(UNPRUNED, **change), Setting(tmp_path, images=tmp_path / "empty"), ignore
        )  # type: ignore[arg-type]
    assert files(tmp_path) == before


def test_a_run_goes_on_with_the_threads_it_was_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: asked[-1])
    with pytest.raises(KeyboardInterrupt):
        record_run(ONE_ROUND, Setting(tmp_path, threads=1), interrupt(2, ""))
    record_run(ONE_ROUND, Setting(tmp_path, threads=2), ignore)
    record_run(changed(ONE_ROUND, run="r1"), Setting(tmp_path, threads=2), ignore)
    assert asked == [1, 1, 2]
    assert [read_spec(tmp_path / name).threads for name in ("r0", "r1")] == [1, 2]


def test_a_run_ends_whole_where_its_filters_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(network: torch.nn.Module, example: torch.Tensor) -> None:
        raise PruningError("the network cannot be traced")

    monkeypatch.setattr(removal_facts, "remove", refuse)
    record_run(ONE_ROUND, Setting(tmp_path), ignore)
    extra = read_spec(tmp_path / "r0").extra
    assert extra["not_removed"] == "the network cannot be traced"
    assert "parameters_after" not in extra
    assert pv.load(tmp_path).epochs["epoch"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("carry", [False, True], ids=["restarted", "carried"])
def test_momentum_restarts_after_a_round_or_is_carried_over(tmp_path: Path, carry: bool) -> None:
    plan = changed(PLAN, carry_momentum=carry, epochs=4)
    before: list[dict[str, Tensor]] = []
    after: dict[int, dict[str, Tensor]] = {}

    def momenta(state: TrainingState) -> dict[str, Tensor]:
        named = dict(state.network.named_parameters())
        return {
            name: state.optimizer.state[p]["momentum_buffer"].clone()
            for name, p in named.items()
            if p in state.optimizer.state
        }

    looped(
        plan,
        tmp_path / "run",
        lambda epoch, state: after.update({epoch: momenta(state)}),
        lambda state: before.append(momenta(state)),
    )
    assert all(held for held in before), "there was momentum to restart or carry"
    assert after[4], "training goes on with momentum after the last round"
    for epoch, held in zip((1, 2, 3), before, strict=True):
        assert bool(after[epoch]) == carry
        for name, momentum in after[epoch].items():
            moved = momentum != held[name]
            assert (momentum[moved] == 0).all(), f"{name} may change only to zero"
    if carry:
        assert any((after[3][name] != before[2][name]).any() for name in before[2]), (
            "that of pruned filters is blanked"
        )


def test_weights_and_momentum_of_pruned_filters_stay_zero(tmp_path: Path) -> None:
    state = looped(
        changed(PLAN, carry_momentum=True),
        tmp_path / "run",
    )
    lost = 0
    for number, _ in enumerate(WIDTHS, start=1):
        parameter = state.network.get_parameter(f"features.conv{number}.weight")
        pruned = (parameter == 0).flatten(1).all(1)
        lost += int(pruned.sum())
        assert (state.optimizer.state[parameter]["momentum_buffer"][pruned] == 0).all()
    assert lost == FILTERS // 2


def test_the_loop_checks_the_optimiser_after_every_round(tmp_path: Path) -> None:
    def replace_a_weight(state: TrainingState) -> None:
        module = state.network.get_submodule("features.conv2")
        module.weight = nn.Parameter(module.get_parameter("weight").detach().clone())

    with pytest.raises(
        TrainingError,
        match=r"after round 1 of 3, at epoch 1: the optimiser .*features\.conv2\.weight.*create it",
    ):
        looped(PLAN, tmp_path / "run", after_round=replace_a_weight)


ENDS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a layer vanishes": (
        {"target": 0.97, "keep_at_least": 0.0, "measure": "magnitude"},
        PruningError,
        r"pruning round \d of 3, at epoch \d: "
        r"(all \d+ filters of layer|nothing would reach the output layer) \w+",
    ),
    "out of reach": (
        {"target": 0.97, "keep_at_least": 0.3},
        PruningError,
        r"pruning round \d of 3, at epoch \d: .*lower the target",
    ),
    "loss": (
        {"lr": 1e30, "measure": "magnitude"},
        TrainingError,
        r"the training loss of epoch \d, after \d of 3 pruning rounds, is (nan|inf); layer "
        r"features\.\w+ is the first with values that are not finite; lower the",
    ),
}


@pytest.mark.parametrize(("change", "kind", "said"), ENDS.values(), ids=list(ENDS))
def test_a_run_that_cannot_go_on_names_the_round_and_keeps_what_it_has(
    tmp_path: Path, change: dict[str, Any], kind: type[Exception], said: str
) -> None:
    plan = changed(PLAN, **change)
    with pytest.raises(kind, match=said) as error:
        record_run(plan, Setting(tmp_path), ignore)
    runs = pv.load(tmp_path, unfinished="include")
    failed = int(re.findall(r"epoch (\d)", str(error.value))[0])
    assert runs.epochs["epoch"].tolist() == list(range(failed)), (
        "all epochs before that of the error"
    )
    assert not is_recorded(plan, Setting(tmp_path))


def parameters(kept: list[int], classes: int = 10) -> int:
    """Parameters of a VGG-13: 3x3 convolutions without bias, batch norms, one linear layer."""
    convolutions = sum(9 * ins * outs for ins, outs in zip([3, *kept], kept, strict=False))
    return convolutions + 2 * sum(kept) + classes * (kept[-1] + 1)


def test_the_spec_tells_what_removing_the_filters_saved(recorded: pv.Runs) -> None:
    (spec,) = recorded.spec.to_dict("records")
    kept = recorded.rounds.loc[recorded.rounds["round"] == 3, "kept"].tolist()
    assert spec["parameters_before"] == parameters(list(WIDTHS))
    assert spec["parameters_after"] == parameters(kept)
    sides = [32 * 32] * 2 + [16 * 16] * 2 + [8 * 8] * 2 + [4 * 4] * 2 + [2 * 2] * 2
    for when, widths in (("before", list(WIDTHS)), ("after", kept)):
        macs = (
            sum(9 * i * o * s for i, o, s in zip([3, *widths], widths, sides, strict=False))
            + 10 * widths[-1]
        )
        assert spec[f"macs_{when}"] == macs
        assert spec[f"forward_seconds_{when}"] > 0
    assert (spec["filters_removed"], spec["filters_masked"]) == (FILTERS // 2, 0)
    assert spec["wall_seconds"] > 0


def test_the_imitation_measures_on_one_augmented_draw_where_training_augments() -> None:
    plan, data = changed(PLAN, flowandprune=True, augment=True), data_of(PLAN)
    plain, labels = balanced_sample(data, 1)
    first, second = (measurement_sample(data, plan) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], labels)
    assert not torch.equal(first[0], plain)
    for other in (changed(plan, augment=False), changed(plan, flowandprune=False)):
        assert torch.equal(measurement_sample(data, other)[0], plain)


def test_the_imitation_ends_with_the_network_of_the_best_test_accuracy(
    tmp_path: Path, networks: list[nn.Module]
) -> None:
    plan = changed(PLAN, flowandprune=True, epochs=9, lr_drops=(8,))
    record_run(plan, Setting(tmp_path), ignore)
    runs = pv.load(tmp_path)
    tuned = runs.epochs[runs.epochs["phase"] == "finetune"]
    selected = tuned.loc[tuned["test_acc"].idxmax()]
    assert runs.spec["selected_epoch"].tolist() == [selected["epoch"]]
    assert evaluate(networks[-1], data_of(plan))["test_loss"] == pytest.approx(
        selected["test_loss"], rel=1e-5
    )


UNUSABLE = {
    "unknown": (
        {"measure": "size"},
        r"no pruning measure 'size'; choose one of magnitude, .*grasp_t200",
    ),
    "of weights": (
        {"measure": "theta_change"},
        r"'theta_change' ranks single weights; filters are ranked by one of magnitude",
    ),
    "no update yet": (
        {"measure": "update_size", "prune_at_start": True},
        r"needs changes of weights, and there are none before training; leave out prune_at_start",
    ),
    "no change yet": (
        {"measure": "sigma_change", "prune_at_start": True},
        r"needs changes of scales, and there are none before training; leave out prune_at_start",
    ),
}


@pytest.mark.parametrize(("change", "said"), UNUSABLE.values(), ids=list(UNUSABLE))
def test_a_measure_that_is_not_known_of_filters_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    plan = changed(PLAN, **change)
    for check in (check_measure, lambda refused: record_run(refused, Setting(tmp_path), ignore)):
        with pytest.raises(PresetError, match=said):
            check(plan)
    assert not list(tmp_path.iterdir())


def test_single_weights_are_recorded_for_a_plan_that_asks_for_them(tmp_path: Path) -> None:
    plan = changed(PLAN, unit="weight", pruning=None, epochs=1, every=1)
    record_run(plan, Setting(tmp_path), ignore)
    runs = pv.load(tmp_path)
    assert runs.spec["unit"].tolist() == ["weight"]
    assert runs.epochs["epoch"].tolist() == [0, 1]
    assert len(runs.filters)


def test_flow_is_recorded_at_measured_epochs_and_changes_no_number(
    recorded: pv.Runs, tmp_path: Path
) -> None:
    setting = Setting(tmp_path, flow=True)
    with pytest.raises(KeyboardInterrupt):
        record_run(PLAN, setting, interrupt(2, "measuring"))
    record_run(PLAN, setting, ignore)
    runs = pv.load(tmp_path)
    pd.testing.assert_frame_equal(without_times(runs), without_times(recorded))
    pd.testing.assert_frame_equal(runs.filters, recorded.filters)
    # epoch 1 is the first; 2 and 4 are measured
    kept = runs.filters[runs.filters["kept"]].groupby("epoch")["filter"].size()
    counts = runs.flow.groupby("epoch")["filter"].size()
    assert counts.to_dict() == {1: FILTERS, 2: kept[1], 4: kept[3]}
    assert (runs.flow["steps"] == 4).all()
    assert (runs.flow["sample_steps"] == 2).all()
    found = pv.flow_table(runs, "update", by="epoch", over="step")
    assert found["slope"].to_numpy() == pytest.approx(1, abs=1e-3)
    assert pv.load(tmp_path).flow["curvature"].notna().all()


def test_sinks_get_every_epoch_once_although_the_run_was_interrupted(
    recorded: pv.Runs, tmp_path: Path
) -> None:
    readers = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    setting = Setting(tmp_path / "runs", sinks=(f"tensorboard:{tmp_path / 'logs'}",))
    with pytest.raises(KeyboardInterrupt):
        record_run(PLAN, setting, interrupt(2, "measuring"))
    record_run(PLAN, setting, ignore)
    runs = pv.load(tmp_path / "runs")
    pd.testing.assert_frame_equal(without_times(runs), without_times(recorded))
    pd.testing.assert_frame_equal(runs.filters, recorded.filters)
    events = readers.EventAccumulator(str(tmp_path / "logs" / PLAN.run))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("epoch/train_loss")]
    expected = runs.epochs[runs.epochs["train_loss"].notna()]
    assert losses == [
        (epoch, pytest.approx(loss))
        for epoch, loss in zip(expected["epoch"], expected["train_loss"], strict=True)
    ]
    assert [event.step for event in events.Images("filters")] == [
        epoch for epoch in runs.epochs["epoch"] if epoch % PLAN.every == 0
    ]
