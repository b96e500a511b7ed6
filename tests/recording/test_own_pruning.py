"""A run that a loop of one's own prunes says so in its spec, and its rounds are checked at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch.nn.utils import prune

import pruneviz as pv
from pruneviz.errors import LogError, MeasureError
from tests.support.short_recordings import SAMPLE, network, record, train_epoch


def _pruned_run(out: Path, *, spec: dict[str, Any] | None = None, counts: bool = False) -> pv.Runs:
    model = network()
    pruner = pv.Pruner(model, SAMPLE[0][:2])
    with pv.Recorder(model, SAMPLE, out, spec=spec) as recorder:
        recorder.after_epoch(0)
        for epoch in (1, 2, 3):
            train_epoch(model, epoch)
            gone = pruner.prune(recorder.table(epoch), "magnitude", 1) if epoch == 2 else None
            rounds = pruner.counts().assign(round=1) if gone is not None and counts else None
            recorder.after_epoch(epoch, rounds=rounds)
    return pv.load(out)


@pytest.mark.parametrize("counts", [True, False])
def test_a_pruned_run_is_none_of_those_that_never_prune(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, counts: bool
) -> None:
    record(network(), tmp_path / "plain", epochs=1)
    caplog.clear()
    runs = _pruned_run(tmp_path / "own", counts=counts)
    assert runs.spec["pruned"].tolist() == [True]
    assert [line for line in caplog.messages if "is pruned at epoch 2" in line] == [
        f"{tmp_path / 'own'} is pruned at epoch 2, and its spec names no pruning: it will say "
        "pruned=True. Name how, so that plots tell such runs apart: "
        "spec={'measure': 'magnitude', 'target': 0.5, 'rounds': 3}"
    ]
    both = pv.load(tmp_path)
    assert both.select(rounds=0).spec["run"].tolist() == ["plain"]
    assert both.select(pruned=True).spec["run"].tolist() == ["own"]


@pytest.mark.parametrize(
    "spec", [{"measure": "magnitude", "target": 0.2, "rounds": 1}, {"pruned": "by hand"}], ids=str
)
def test_a_spec_that_says_how_stays_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spec: dict[str, Any]
) -> None:
    runs = _pruned_run(tmp_path / "own", spec=spec)
    assert runs.spec[list(spec)].iloc[0].to_dict() == spec
    assert ("pruned" in runs.spec) is ("pruned" in spec)
    assert not [line for line in caplog.messages if "is pruned" in line]
    assert not len(runs.select(rounds=0))


def test_a_resumed_run_that_was_pruned_before_says_so(tmp_path: Path) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run")
    recorder.after_epoch(0)
    pv.Pruner(model, SAMPLE[0][:2]).prune(recorder.table(1), "magnitude", 1)
    recorder.after_epoch(1)
    pv.Recorder(model, SAMPLE, tmp_path / "run", resume=True).close()
    assert pv.load(tmp_path).spec["pruned"].tolist() == [True]


COUNTS = {"layer": ["0"], "layer_index": [0], "filters": [3], "kept": [2], "coupled_to": [None]}


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        (1, "rounds=1 is no table of the layers"),
        (pd.DataFrame(COUNTS), r"no column round; give pruner.counts\(\).assign\(round=1\)"),
        (pd.DataFrame({"round": [1], "layer": ["0"]}), "no column layer_index, filters, kept"),
        (pd.DataFrame({**COUNTS, "round": 0}), "rounds has the round 0; rounds count from 1"),
        (pd.DataFrame({**COUNTS, "round": "one"}), "rounds has the round 'one'"),
    ],
)
def test_rounds_of_another_form_are_refused_and_the_epoch_can_be_repeated(
    tmp_path: Path, rounds: Any, words: str
) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "run") as recorder:
        with pytest.raises(LogError, match=words):
            recorder.after_epoch(0, rounds=rounds)
        recorder.after_epoch(0, rounds=pd.DataFrame({**COUNTS, "round": 1}))
    assert pv.load(tmp_path).rounds["round"].tolist() == [1]


def test_a_fraction_that_a_loop_names_is_warned_about_as_it_is_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "run", every=5) as recorder:
        recorder.after_epoch(0)
        recorder.after_epoch(1, kept_fraction=0.5)
    assert any("is pruned at epoch 1" in message for message in caplog.messages)
    assert pv.load(tmp_path / "run").spec["pruned"].tolist() == [True]


def test_a_weight_that_torch_has_put_aside_is_named_with_the_repair(tmp_path: Path) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run")
    recorder.after_epoch(0)
    name, _ = next(iter(model.named_parameters()))
    prune.random_unstructured(model.get_submodule(name.rpartition(".")[0]), "weight", 0.5)
    with pytest.raises(MeasureError, match=rf"no parameter {name} any more.*prune.remove"):
        recorder.after_epoch(1)
