"""Facts of an epoch: any number or text by any name, typed, and refused if not meant."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pruneviz as pv
from pruneviz.errors import LogError, MeasureError
from pruneviz.recording.epoch_facts import EpochFacts, checked_facts
from tests.support.short_recordings import SAMPLE, network

PLAIN = {
    "a float": (0.5, 0.5),
    "an integer": (3, 3.0),
    "a flag": (True, 1.0),
    "a tensor": (torch.tensor([2.5]), 2.5),
    "a half": (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
    "numpy": (np.float32(0.25), 0.25),
    "a decimal": (Decimal("0.125"), 0.125),
    "text": ("warm", "warm"),
    "numpy text": (np.str_("warm"), "warm"),
}


@pytest.mark.parametrize(("given", "stored"), PLAIN.values(), ids=list(PLAIN))
def test_a_fact_is_a_number_or_text(given: object, stored: float | str) -> None:
    (found,) = checked_facts({"loss/aux": given}).values()  # type: ignore[dict-item]
    assert found == stored and type(found) is type(stored)


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "percent": ({"val_acc": 55.0}, "val_acc=55 is no fraction; divide it by 100, such as 0.55"),
    "percent of top 5": ({"top5/Accuracy": 91}, "top5/Accuracy=91 is no fraction; divide it"),
    "more than all": ({"val_acc": 250}, "no fraction; give a number between 0 and 1"),
    "an accuracy in words": ({"val_acc": "good"}, "val_acc='good' is text; give an accuracy"),
    "many numbers": ({"losses": torch.ones(2, 3)}, r"losses has shape \(2, 3\); give one number"),
    "no numbers": ({"losses": np.zeros(0)}, r"losses has shape \(0,\); give one number"),
    "a list": ({"losses": [1.0]}, "losses is a list; give a number or text"),
    "a date": ({"when": datetime.date(2020, 1, 1)}, "when is a date; give a number or text"),
    "a complex number": ({"eig": 1j}, "eig is a complex; give a number or text"),
    "too large": ({"step": 2**53 + 1}, "step=9007199254740993 is too large .* give it as text"),
    "a measured column": ({"sample_loss": 1.0}, "takes no fact sample_loss: the recorder writes"),
    "a column of filters": ({"theta_hg_t50": 1.0}, "takes no fact theta_hg_t50: the recorder"),
    "no name": ({"": 1.0}, "takes no fact "),
}


@pytest.mark.parametrize(("facts", "said"), REFUSED.values(), ids=list(REFUSED))
def test_a_fact_that_cannot_be_meant_is_refused_with_the_repair(
    facts: dict[str, object], said: str
) -> None:
    with pytest.raises(LogError, match=said):
        checked_facts(facts)  # type: ignore[arg-type]


def test_fractions_may_be_missing_or_round_above_one() -> None:
    facts = {"val_acc": float("nan"), "train_acc": 1 + 1e-7, "test_acc": None, "own": None}
    found = checked_facts(facts)
    assert list(found) == ["val_acc", "train_acc", "test_acc"], "an own fact that is None is left"


def test_what_is_recorded_is_in_the_epochs_and_null_elsewhere(tmp_path: Path) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "run", spec={"seed": 0}) as recorder:
        recorder.after_epoch(0)
        recorder.after_epoch(1, val_acc=torch.tensor(0.25), **{"loss/aux": 2, "stage": "warm-up"})
        write = recorder.observe(2, stage="main")
        write(val_acc=0.5)
    epochs = pv.load(tmp_path).epochs
    assert epochs["val_acc"].fillna(-1).tolist() == [-1, 0.25, 0.5]
    assert epochs["loss/aux"].fillna(-1).tolist() == [-1, 2, -1]
    assert epochs["stage"].astype(object).where(epochs["stage"].notna(), None).tolist() == [
        *(None, "warm-up", "main")
    ]


def test_a_fact_keeps_its_type_also_after_a_resume_and_not_after_its_epochs_are_dropped(
    tmp_path: Path,
) -> None:
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run")
    recorder.after_epoch(0, stage="warm", score=1)
    for resumed in (recorder, pv.Recorder(network(), SAMPLE, tmp_path / "run", resume=True)):
        with pytest.raises(LogError, match="is a number, and was text at earlier epochs"):
            resumed.after_epoch(1, stage=2)
        with pytest.raises(LogError, match="is text, and was a number at earlier epochs"):
            resumed.after_epoch(1, score="x")
    resumed.after_epoch(1, score=2)
    resumed.rewind(-1)
    resumed.after_epoch(0, stage=1)
    resumed.close()
    assert pv.load(tmp_path).epochs["stage"].tolist() == [1.0]


def test_a_fact_of_the_run_is_not_one_of_an_epoch(tmp_path: Path) -> None:
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run", spec={"fold": 3})
    for name in ("seed", "network", "fold"):
        with pytest.raises(LogError, match=f"no fact {name}: it is a fact of the whole run"):
            recorder.after_epoch(0, **{name: 1})
    recorder.after_epoch(0, lr=0.1)


def test_a_misspelt_fact_is_recorded_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    facts = EpochFacts(())
    for _ in range(2):
        facts.remember(facts.checked({"tset_acc": 0.5, "val_acc": 0.5, "train_acc5": 0.5, "x": 1}))
    assert caplog.messages == [
        "after_epoch records 'tset_acc' as a fact of its own; did you mean 'test_acc'?"
    ]


def test_types_are_those_of_the_recorded_epochs() -> None:
    facts = EpochFacts((), pd.DataFrame({"epoch": [0], "lr": [0.1], "a": ["x"], "b": [1.0]}))
    assert facts.checked({"a": "y", "b": 2}) == {"a": "y", "b": 2.0}
    with pytest.raises(LogError, match="was text"):
        facts.checked({"a": 1})


def test_numbers_that_are_not_finite_are_marked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "run", columns="theta_g") as recorder:
        recorder.after_epoch(0, val_f1=0.5)
        recorder.after_epoch(1, train_loss=float("inf"), val_f1=float("nan"), note="odd")
        recorder.after_epoch(2, val_f1=torch.tensor(float("nan")), test_acc=float("nan"))
    epochs = pv.load(tmp_path / "run").epochs
    marks = epochs["not_finite"]
    assert marks.isna().tolist() == [True, False, False]
    assert marks.tolist()[1:] == ["train_loss=inf, val_f1=nan", "val_f1=nan, test_acc=nan"]
    assert epochs[["train_loss", "val_f1"]].isna().to_numpy().tolist()[1:] == [[True, True]] * 2
    said = [line for line in caplog.messages if "no finite number" in line]
    assert len(said) == 2, "once for each fact"
    assert "at epoch 1 train_loss is inf and val_f1 is nan, no finite number" in said[0]
    assert "at epoch 2 test_acc is nan" in said[1]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"test_acc": 97.5}, r"test_acc=97.5 is no fraction; divide it by 100, such as 0.975"),
        ({"test_acc": float("inf")}, "test_acc=inf is no fraction"),
        ({"seconds": -1.0}, "seconds=-1 is negative; give a time of 0 or more"),
        ({"eval_seconds": -0.5}, "eval_seconds=-0.5 is negative"),
        ({"lr": -0.1}, "lr=-0.1 is negative; give a learning rate"),
        ({"not_finite": "x"}, "takes no fact not_finite"),
        ({"network_digest": "x"}, "takes no fact network_digest"),
        ({"foo": 10**400}, "foo is too large for a number; give it as text"),
    ],
    ids=str,
)
def test_impossible_values_are_refused(tmp_path: Path, facts: dict[str, Any], said: str) -> None:
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run", columns="theta_g")
    with pytest.raises(LogError, match=said):
        recorder.after_epoch(0, **facts)
    recorder.after_epoch(0, seconds=0.0, lr=0.0, own=-1.0, train_loss=-3.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_buffer_that_becomes_nan_stops_the_recording_at_cheap_epochs_too(
    tmp_path: Path, value: float
) -> None:
    model = network()
    model.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run", columns="theta_g")
    recorder.after_epoch(0)
    recorder.after_epoch(1)
    model.get_buffer("1.running_var")[0] = value
    with pytest.raises(MeasureError, match=r"at epoch 2: the buffer 1.running_var is not finite"):
        recorder.after_epoch(2)
    assert recorder.last_epoch == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"batch_size": 0}, "batch_size=0, expected a whole number from 1"),
        ({"epochs": -1}, "epochs=-1, expected a whole number from 0"),
        ({"lr": -0.1}, "lr=-0.1, expected a number from 0"),
        ({"wall_seconds": -5.0}, "wall_seconds=-5.0, expected a number from 0"),
        ({"own": float("nan")}, "give finite numbers"),
    ],
    ids=str,
)
def test_impossible_facts_of_a_run_are_refused(
    tmp_path: Path, spec: dict[str, Any], said: str
) -> None:
    with pytest.raises(LogError, match=said):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", spec=spec)
    assert not (tmp_path / "run").exists()
