"""`resume="auto"` takes a folder as it is; a loop that starts anew is told the call to make."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.experiment.setting import own_measure_facts
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.log.run_directory import last_epoch_of
from pruneviz.log.run_lock import LOCK_FILE
from pruneviz.plans.run_plan import RunPlan
from tests.support.short_recordings import SAMPLE, assert_same_tables, network, record, train_epoch


def trained(model: nn.Module, epoch: int) -> nn.Module:
    train_epoch(model, epoch)
    return model


def opened(out: Path, **options: object) -> pv.Recorder:
    return pv.Recorder(network(), SAMPLE, out, 1, resume="auto", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", ["missing", "empty", "half-written"])
def test_auto_starts_where_there_is_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    if folder != "missing":
        (tmp_path / "run").mkdir()
    if folder == "half-written":
        (tmp_path / "run" / ".spec.json.17.tmp").touch()
    recorder = opened(tmp_path / "run")
    assert (recorder.last_epoch, recorder.finished) == (None, False)
    recorder.after_epoch(0)
    assert not caplog.messages


def test_auto_goes_on_and_the_recording_equals_one_that_was_never_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = record(network(), tmp_path / "whole", every=1)
    model = network()
    for cut in (1, 3, 4):  # the script runs three times
        recorder = pv.Recorder(model, SAMPLE, tmp_path / "run", every=1, resume="auto")
        start = 0 if recorder.last_epoch is None else recorder.last_epoch + 1
        for epoch in range(start, cut + 1):
            if epoch:
                train_epoch(model, epoch)
            recorder.after_epoch(epoch)
    recorder.close()
    assert_same_tables(pv.load(tmp_path / "run"), whole)
    path = tmp_path / "run"
    assert caplog.messages == [
        f"continuing {path} after epoch {last}; the network has to be the one of that epoch"
        for last in (1, 3)
    ]


def test_a_run_that_was_cut_off_before_its_first_epoch_starts(tmp_path: Path) -> None:
    opened(tmp_path / "run")
    recorder = opened(tmp_path / "run")
    recorder.after_epoch(0)
    assert recorder.last_epoch == 0


def test_auto_says_that_a_run_is_finished_and_leaves_it_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run"
    before = record(network(), path, epochs=2, every=1)
    with opened(path) as recorder:
        assert (recorder.finished, recorder.last_epoch) == (True, 2)
        for epoch in range(recorder.last_epoch + 1, 3):
            raise AssertionError(epoch)
    assert caplog.messages == [
        f"{path} is a finished run, up to epoch 2; to train it further, call recorder.rewind(2) "
        "before the next epoch"
    ]
    assert_same_tables(pv.load(path, unfinished="error"), before)


@pytest.mark.parametrize(("epoch", "keep"), [(0, -1), (2, 1), (3, 2)])
def test_an_epoch_of_a_finished_run_is_refused_until_it_is_opened_again(
    tmp_path: Path, epoch: int, keep: int
) -> None:
    path, model = tmp_path / "run", network()
    before = record(model, path, epochs=2, every=1)
    for done in range(keep + 1):  # the network of the last epoch to keep
        model = trained(model, done) if done else network()
    recorder = pv.Recorder(model, SAMPLE, path, 1, resume="auto")
    said = rf"finished run, up to epoch 2, and epoch {epoch} is not .*recorder\.rewind\({keep}\)"
    with pytest.raises(LogError, match=said):
        recorder.after_epoch(epoch)
    assert_same_tables(pv.load(path, unfinished="error"), before)
    recorder.rewind(keep)
    assert not recorder.finished
    recorder.after_epoch(epoch, note="again")
    recorder.close()
    epochs = pv.load(path, unfinished="error").epochs
    assert epochs["epoch"].tolist() == list(range(epoch + 1))
    assert epochs["note"].notna().tolist() == [False] * epoch + [True]


def test_a_loop_that_starts_anew_is_told_the_call_to_make(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = opened(path)
    for epoch in range(4):
        first.after_epoch(epoch)
    for resume in (True, "auto"):
        recorder = pv.Recorder(network(), SAMPLE, path, 1, resume=resume)  # type: ignore[arg-type]
        said = (
            r"epoch 2 is already recorded, .*run goes on after epoch 3\. To record it anew, "
            r"restore the network of epoch 1, call recorder\.rewind\(1\), which drops the recorded "
            "epochs from 2 on, and train from there; otherwise restore the network of epoch 3, and "
            "start the loop at epoch 4"
        )
        with pytest.raises(LogError, match=said):
            recorder.after_epoch(2)
    recorder.rewind(1)
    recorder.after_epoch(2)
    assert last_epoch_of(path) == 2


def test_auto_refuses_what_is_no_run_of_these_options(tmp_path: Path) -> None:
    record(network(), tmp_path / "run", epochs=1, every=1)
    opened(tmp_path / "open")
    for name in ("run", "open"):
        with pytest.raises(LogError, match="started with other options: lag was 1, now 2"):
            opened(tmp_path / name, lag=2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.pt").touch()
    with pytest.raises(LogError, match="already holds other files; choose another folder"):
        opened(tmp_path / "mine")
    with pytest.raises(LogError, match=r"resume='yes'; give False .*'auto'"):
        pv.Recorder(network(), SAMPLE, tmp_path / "x", resume="yes")  # type: ignore[arg-type]


def test_other_ranks_know_what_the_first_one_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    record(network(), path, epochs=2, every=1)
    monkeypatch.setattr("pruneviz.recording.ranks.rank", lambda: 1)
    recorder = opened(path, ranks="first")
    assert (recorder.records, recorder.finished, recorder.last_epoch) == (False, True, 2)
    with pytest.raises(LogError, match="finished run, up to epoch 2"):
        recorder.after_epoch(3)
    recorder.rewind(1)
    recorder.after_epoch(2)
    assert recorder.last_epoch == 2
    assert last_epoch_of(path) == 2, "nothing is written"


def test_a_finished_run_that_is_trained_longer_equals_one_trained_at_once(tmp_path: Path) -> None:
    whole = record(network(torch.float64), tmp_path / "whole", epochs=4, every=1, lag=2)
    model = network(torch.float64)
    for last in (2, 4):
        recorder = pv.Recorder(model, SAMPLE, tmp_path / "run", 1, lag=2, resume="auto")
        if recorder.finished:
            recorder.rewind(2)
        start = 0 if recorder.last_epoch is None else recorder.last_epoch + 1
        for epoch in range(start, last + 1):
            if epoch:
                train_epoch(model, epoch)
            recorder.after_epoch(epoch)
        recorder.close()
    assert_same_tables(pv.load(tmp_path / "run"), whole)


def test_facts_that_a_resumed_run_does_not_take_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    pv.Recorder(network(), SAMPLE, out, spec={"note": "a"}).after_epoch(0)
    caplog.clear()
    again = pv.Recorder(network(), SAMPLE, out, resume=True, spec={"note": "b", "run": "other"})
    told = f"{out} keeps the facts in its spec: run is 'run', not 'other'; note is 'a', not 'b'"
    assert caplog.messages == [told]
    assert set(again.table(1)["run"]) == {"run"}
    caplog.clear()
    pv.Recorder(network(), SAMPLE, out, resume=True, spec={"note": "a"})
    assert not caplog.messages


def test_a_run_is_not_resumed_with_other_parameters(tmp_path: Path) -> None:
    pv.Recorder(network(), SAMPLE, tmp_path / "run").after_epoch(0)
    with pytest.raises(LogError, match=r"parameters='all', now \['0.weight', '4.weight'\]"):
        pv.Recorder(
            *(network(), SAMPLE, tmp_path / "run"),
            resume=True,
            parameters=["0.weight", "4.weight"],
        )


@pytest.mark.parametrize("epoch", ["2", None, 2.5, True])
def test_a_finished_run_stays_finished_when_rewind_is_misused(tmp_path: Path, epoch: Any) -> None:
    record(network(), tmp_path / "run", epochs=1)
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run", resume="auto")
    with pytest.raises(LogError, match="give the last epoch to keep, a whole number"):
        recorder.rewind(epoch)
    assert pv.load(tmp_path, unfinished="error").epochs["epoch"].tolist() == [0, 1]


def test_measure_last_takes_no_text(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="measure_last='no'; give True or False"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", measure_last="no")  # type: ignore[arg-type]


def test_a_run_that_a_recorder_fails_to_open_is_let_go(tmp_path: Path) -> None:
    path, columns = tmp_path / "run", ["distance_from_init"]
    first = opened(path, columns=columns)
    first.after_epoch(0)
    first.log.release()
    (path / "checkpoint" / "initial.safetensors").unlink()
    with pytest.raises(LogError, match=r"initial\.safetensors is missing"):
        opened(path, columns=columns)
    with (path / LOCK_FILE).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _made(k: int, **options: Any) -> dict[str, Any]:
    """Options of a recorder in which one thing depends on k."""
    return {name: value(k) if callable(value) else value for name, value in options.items()}


def _sign(k: int) -> Any:
    def mine(table: pd.DataFrame) -> pd.Series:
        return table["theta_norm2"] * (-1) ** k

    mine.needs = ["theta_norm2"]  # type: ignore[attr-defined]
    return mine


class Constant(nn.Module):
    k = 1.0

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(output, target) * self.k


def _loss(k: int) -> nn.Module:
    edited = {"k": float(k), "__qualname__": "Constant", "__module__": __name__}
    return type("Constant", (Constant,), edited)()


ALIKE: dict[str, tuple[dict[str, Any], str]] = {
    "mask score": ({"mask_score": _sign}, "mask_score_code='.*, now '"),
    "loss": ({"loss": _loss}, "loss was '.*, now '"),
    "every": ({"every": lambda k: {0, k}.__contains__}, "every was '.*, now '"),
}


@pytest.mark.parametrize("case", ALIKE)
@pytest.mark.parametrize("resume", [True, "auto"])
def test_functions_of_one_name_are_told_apart(tmp_path: Path, case: str, resume: Any) -> None:
    options, said = ALIKE[case]
    pv.Recorder(network(), SAMPLE, tmp_path / "run", **_made(1, **options)).after_epoch(0)
    with pytest.raises(LogError, match=said):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", resume=resume, **_made(2, **options))
    recorder = pv.Recorder(
        network(), SAMPLE, tmp_path / "run", resume=resume, **_made(1, **options)
    )
    assert recorder.next_epoch() == 1


def test_other_trainable_parameters_are_refused_and_may_be_frozen_later(tmp_path: Path) -> None:
    pv.Recorder(network(), SAMPLE, tmp_path / "run", parameters="trainable").after_epoch(0)
    model = network()
    model.get_parameter("9.bias").requires_grad_(False)
    said = r"parameters_found='(\d+) of \1 .*, now '.*; freeze and unfreeze its parameters"
    with pytest.raises(LogError, match=said):
        pv.Recorder(model, SAMPLE, tmp_path / "run", resume=True, parameters="trainable")
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run", resume=True, parameters="trainable")
    assert recorder.next_epoch() == 1


class Swapped(nn.Module):
    """Two convolutions, of which the first is normalised by one of two batch norms."""

    def __init__(self, first: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 4)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.first = first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for place in (self.first, 1 - self.first):
            x = self.norms[place](self.conv(x) if place == self.first else x)
        return self.head(x.mean((2, 3)))


def test_other_batch_norms_after_the_filters_are_refused(tmp_path: Path) -> None:
    # without derivatives at the last epoch no loss shows it
    options: dict[str, Any] = {"every": 2, "layers": "conv"}
    recorder = pv.Recorder(Swapped(0), SAMPLE, tmp_path / "run", **options)
    recorder.after_epoch(0)
    recorder.after_epoch(1)
    with pytest.raises(
        LogError, match=r"norms_found='4 channels .*the scales of other batch norms"
    ):
        pv.Recorder(Swapped(1), SAMPLE, tmp_path / "run", resume=True, **options)


def test_arrays_among_the_inputs_are_compared(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: torch.Tensor, scale: np.ndarray) -> torch.Tensor:
            return self.inner(x * float(scale[0]))

    model = Scaled()
    one, other = (({"x": SAMPLE[0], "scale": np.array([k])}, SAMPLE[1]) for k in (1.0, 3.0))
    pv.Recorder(model, one, tmp_path / "run").after_epoch(0)
    with pytest.raises(LogError, match="was started with another sample"):
        pv.Recorder(model, other, tmp_path / "run", resume=True)


def test_values_of_a_sample_that_cannot_be_compared_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample = ({"x": SAMPLE[0], "by": iter([1])}, SAMPLE[1])
    model = network()
    pv.Recorder(model, sample, tmp_path / "run", forward=lambda net, batch: net(batch[0]["x"]))
    assert "the sample holds list_iterator, whose values cannot be read" in caplog.text


def test_a_fact_of_the_run_is_none_of_an_epoch_although_it_is_not_given_again(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    recorder = pv.Recorder(network(), SAMPLE, out, spec={"wd": 0.1})
    recorder.after_epoch(0, mine=1.0)
    recorder.note(size=3)
    recorder.log.release()
    recorder = pv.Recorder(network(), SAMPLE, out, resume=True)
    for name in ("wd", "size"):
        with pytest.raises(LogError, match=f"no fact {name}: it is a fact of the whole run"):
            recorder.after_epoch(1, **{name: 0.5})
    with pytest.raises(LogError, match="note: mine is a fact of epochs already"):
        recorder.note(mine=2.0)
    write = recorder.observe(1)
    with pytest.raises(LogError, match="no fact wd: it is a fact of the whole run"):
        write(wd=0.5)


@pytest.mark.parametrize("factor", [1, 2])
def test_an_own_measure_of_the_command_is_told_apart_by_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: int
) -> None:
    def facts(times: int) -> dict[str, str]:
        module = ModuleType("of_test")
        text = (
            f"def mine(table):\n    return table['theta_norm2'] * {times}\nmine.needs = ['sigma']"
        )
        exec(text, vars(module))
        monkeypatch.setitem(sys.modules, "of_test", module)
        rounds = PruningOptions("of_test:mine", 0.5, 3)
        return own_measure_facts(RunPlan("r", "paper", "vgg13", "cifar100", 0, pruning=rounds))

    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run", spec=facts(1))
    recorder.after_epoch(0)
    recorder.log.release()
    if factor == 1:
        assert pv.Recorder(network(), SAMPLE, tmp_path / "run", resume=True, spec=facts(1))
        return
    with pytest.raises(LogError, match=r"measure_code='of_test.mine .*; give the pruning measure"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", resume=True, spec=facts(2))
