"""A measure of one's own from end to end: masks while recording, pruning, and a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import LogError, PresetError, PruningError, ScoreError
from pruneviz.experiment.run import record_run
from pruneviz.experiment.setting import Setting, check_measure, is_recorded
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.plans.planning import plan_pruned_runs
from tests.support.cut_off import ignore
from tests.support.plans import UNPRUNED, changed

SAMPLE = torch.randn(12, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 4


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
    layers += [nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))


def squared_norm(filters: pd.DataFrame) -> pd.Series:
    return filters["theta_norm2"]


squared_norm.needs = ["theta_norm2"]  # type: ignore[attr-defined]


def within_layer(filters: pd.DataFrame) -> pd.Series:
    size = filters["theta_norm2"]
    return size / size.groupby(filters["layer"], observed=True).transform("mean")


within_layer.needs = ["theta_norm2", "layer"]  # type: ignore[attr-defined]


def needless(filters: pd.DataFrame) -> pd.Series:
    return filters["theta_norm2"]


def kept_after(measure: Any, gone: int = 5) -> dict[str, int]:
    pruned = network()
    table = pv.measure(pruned, SAMPLE)
    pruner = pv.Pruner(pruned, SAMPLE[0][:2])
    pruner.prune(table, measure, gone)
    return pruner.counts().set_index("layer")["kept"].to_dict()


def test_groups_are_ranked_by_sums_of_the_needs_or_by_the_mean_of_their_members() -> None:
    assert kept_after(squared_norm) == kept_after("magnitude")

    def mean_of_members(filters: pd.DataFrame) -> pd.Series:
        of_row = within_layer(filters)
        group = filters["filter"].where(filters["layer"] != "6", filters["filter"] + 100)
        return of_row.groupby(group).transform("mean")  # convolution and its depthwise one

    assert kept_after(within_layer) == kept_after(mean_of_members)
    assert kept_after(within_layer) != kept_after("magnitude")


@pytest.mark.parametrize("measure", ["gate_fisher", "bn_taylor", "wanda", "fpgm", "random_s1"])
def test_a_snapshot_is_pruned_by_what_it_holds_and_carries(measure: str) -> None:
    pruned = network()
    table = pv.measure(pruned, SAMPLE, columns=["default", "bn_taylor", "wanda", "fpgm"])
    pruner = pv.Pruner(pruned, SAMPLE[0][:2], keep_at_least=0)
    gone = 4
    if measure == "bn_taylor":  # the last convolution has no batch norm, so it is not ranked
        assert table[table["layer"] == "6"]["bn_taylor"].isna().all()
    pruner.prune(table, measure, gone)
    assert pruner.gone == gone


@pytest.mark.parametrize(
    ("measure", "error", "said"),
    [
        (lambda filters: filters["theta_norm2"].head(1), ScoreError, "round 1: .* shape"),
        ("absent_module:fn", PruningError, "round 1: .* 'absent_module' cannot be imported"),
        (3, PruningError, "not int"),
    ],
)
def test_what_cannot_rank_prunes_nothing(measure: Any, error: type, said: str) -> None:
    pruned = network()
    pruner = pv.Pruner(pruned, SAMPLE[0][:2])
    with pytest.raises(error, match=said):
        pruner.prune(pv.measure(pruned, SAMPLE), measure, 5)
    assert pruner.gone == 0


def test_masks_while_recording_are_those_of_the_measure(tmp_path: Path) -> None:
    trained = network()
    with pv.Recorder(trained, SAMPLE, tmp_path / "run", mask_score=within_layer) as recorder:
        for epoch in range(4):
            recorder.after_epoch(epoch)
            with torch.no_grad():
                for weight in trained.parameters():
                    weight += torch.randn_like(weight)
    runs = pv.load(tmp_path)
    assert runs.spec["mask_score"].tolist() == ["within_layer"]

    expected = pv.mask_distance(runs.filters, score=within_layer)["distance"]
    assert runs.epochs["mask_distance"].iloc[1:].tolist() == expected.tolist()
    assert expected.max() > 0


@pytest.mark.parametrize("measure", [needless, "absent_module:fn", "loss_preservation"])
def test_masks_need_a_measure_of_known_cheap_columns(tmp_path: Path, measure: Any) -> None:
    with pytest.raises(LogError, match="mask_score"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", mask_score=measure)
    assert not list(tmp_path.iterdir())


MODULE = """
def size(filters):
    return filters["theta_norm2"] * filters["g_norm2"]
size.needs = ["theta_norm2", "g_norm2"]

def needless(filters):
    return filters["theta_norm2"]

def of_weights(filters):
    return filters["theta"]
of_weights.needs = ["theta"]

def unknown(filters):
    return filters["nothing"]
unknown.needs = ["nothing"]
"""


def test_a_run_is_pruned_by_a_function_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_measure_of_a_run.py").write_text(MODULE)
    options = PruningOptions("own_measure_of_a_run:size", target=0.3)
    named = plan_pruned_runs("digits", options, ["vgg13"], [0])[0]
    assert named.run == "vgg13-digits-ownmeasureofarun-size-r1-p30-s0"
    plan = changed(
        UNPRUNED, run=named.run, epochs=1, lr_drops=(), every=1, batch_size=64, pruning=options
    )
    record_run(plan, Setting(Path("out")), ignore)
    runs = pv.load("out")
    assert runs.spec["measure"].tolist() == ["own_measure_of_a_run:size"]
    gone = 1 - runs.rounds["kept"].sum() / runs.rounds["filters"].sum()
    assert gone == pytest.approx(0.3, abs=0.01)
    for name, said in (
        ("needless", r"needless does not say which columns .*needless\.needs"),
        ("of_weights", "ranks single weights; filters are ranked by one of magnitude"),
        ("unknown", r"reads nothing; filters are ranked .* or by a function of abs_theta_g"),
        ("absent", "has no function 'absent'"),
    ):
        with pytest.raises(PresetError, match=said):
            check_measure(changed(plan, measure=f"own_measure_of_a_run:{name}"))


@pytest.mark.parametrize(
    "measure", ["gate_fisher", "wanda", "bn_taylor", "fpgm", "update_size", "distance_from_init"]
)
def test_runs_are_pruned_by_measures_of_columns_on_request(tmp_path: Path, measure: str) -> None:
    options = PruningOptions(measure, target=0.4, rounds=2)
    plan = changed(UNPRUNED, lr_drops=(), every=2, batch_size=64, pruning=options)
    setting = Setting(tmp_path)
    record_run(plan, setting, ignore)
    assert is_recorded(plan, setting)
    runs = pv.load(tmp_path)
    last = runs.rounds[runs.rounds["round"] == 2]
    assert 1 - last["kept"].sum() / last["filters"].sum() == pytest.approx(0.4, abs=0.01)
    if measure in ("update_size", "distance_from_init"):
        assert pv.score(runs, measure)[runs.filters["epoch"] == 1].min() > 0
