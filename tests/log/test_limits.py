"""What is written at a limit can be read, and what lies beyond is refused before it is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import nn

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log import limits, schema, spec_file
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from tests.support.short_recordings import SAMPLE, network

NO_UNICODE = os.fsdecode(b"a\xff")


def recorder_of(out: Path, **options: Any) -> pv.Recorder:
    return pv.Recorder(network(), SAMPLE, out, 2, resume="auto", **options)


def assert_readable(recorder: pv.Recorder, out: Path) -> pv.Runs:
    """Go on with a run, seal it and read all of it."""
    recorder.log.release()
    recorder = recorder_of(out)
    assert recorder.last_epoch is not None
    recorder.close()
    assert pv.faults(out).empty
    return pv.load(out)


OWN = [f"own{place}" for place in range(3)]
MANY = {f"fact{place}": 1.0 for place in range(80 - len(schema.EPOCHS))}
FACTS: dict[str, tuple[str, int, dict[str, Any], dict[str, Any], str]] = {
    "phase": ("MOST_LETTERS", 20, {"phase": "x" * 20}, {"phase": "x" * 21}, "phase of 21 letters"),
    "name": ("MOST_LETTERS", 20, {"y" * 20: 1.0}, {"y" * 21: 1.0}, "a fact of 21 letters"),
    "columns": (
        *("MOST_COLUMNS", 80),
        *(MANY, {"other": 1.0}, "columns, at most"),
    ),
    "names": ("MOST_NAMES", 12, dict.fromkeys(OWN, 1.0), {"x": 1.0}, "13 letters in names"),
    "text": ("MOST_TEXT", 200, {"a": "é" * 40}, {"a": "é" * 70}, "bytes of text"),
    "marks": ("MOST_TEXT", 200, {"a": "x"}, {"b": float("nan"), "a": "x" * 195}, "bytes of text"),
}


@pytest.mark.parametrize("case", FACTS)
def test_facts_of_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    name, most, held, beyond, said = FACTS[case]
    recorder = recorder_of(tmp_path / "run")
    monkeypatch.setattr(limits, name, most)
    recorder.after_epoch(0, **held)
    with pytest.raises(LogError, match=said):
        recorder.after_epoch(1, **beyond)
    found = assert_readable(recorder, tmp_path / "run").epochs
    assert {fact: found[fact].iloc[0] for fact in held} == held
    assert found["epoch"].tolist() == [0]


def test_facts_that_become_too_many_as_late_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recorder_of(tmp_path / "run")
    monkeypatch.setattr(limits, "MOST_COLUMNS", 80)
    write = recorder.observe(0, **dict(list(MANY.items())[1:]))
    with pytest.raises(LogError, match="columns, at most"):
        write(c=1.0, d=1.0)
    recorder.log.release()
    recorder = recorder_of(tmp_path / "run")
    recorder.after_epoch(0, a=1.0)
    assert_readable(recorder, tmp_path / "run")


@pytest.mark.parametrize("name", ["z" * 10_001, NO_UNICODE])
def test_layers_and_rounds(tmp_path: Path, name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(SAMPLE[0][0].numel(), 4))
    model.add_module(name, nn.Linear(4, 4))
    model.add_module("head", nn.Linear(4, 4))
    with pytest.raises(LogError, match=r"the layer .* a name"):
        pv.Recorder(model, SAMPLE, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    named = pd.Series([name], dtype="object")
    rounds = {"round": 1, "layer": named, "layer_index": 0, "filters": 4, "kept": 2}
    recorder = recorder_of(tmp_path / "run")
    with pytest.raises(LogError, match=r"the layer .* a name"):
        recorder.after_epoch(0, rounds=pd.DataFrame(rounds))
    recorder.after_epoch(0)
    assert_readable(recorder, tmp_path / "run")


def test_epochs_are_numbers_of_32_bits(tmp_path: Path) -> None:
    recorder = recorder_of(tmp_path / "run", gap=True)
    recorder.after_epoch(0)
    with pytest.raises(LogError, match="epochs are numbers up to 2,147,483,647"):
        recorder.after_epoch(2**31)
    recorder.after_epoch(2**31 - 1)
    assert_readable(recorder, tmp_path / "run")


def _row(epoch: int) -> pd.DataFrame:
    return pd.DataFrame({"epoch": [epoch], "phase": ["init"], "kept_fraction": [1.0]})


def _most(make: Any) -> int:
    """The largest number of whatever a spec can hold."""
    low, high = 0, limits.MOST_BYTES
    while low + 1 < high:
        middle = (low + high) // 2
        try:
            spec_file.check_room(RunSpec.from_dict(make(middle)).to_dict())
        except LogError:
            high = middle
        else:
            low = middle
    return low


SPECS: dict[str, Any] = {
    "bytes": lambda n: {"run": "r", "d": "x" * n},
    "escapes": lambda n: {"run": "r", "d": "é" * n},
    "lines": lambda n: {"run": "r", "d": [1] * n},
    "facts": lambda n: {"run": "r", **{f"fact{place}": 1 for place in range(n)}},
    "depth": lambda n: {"run": "r", "d": json.loads("[" * min(n, 50) + "]" * min(n, 50))},
}


@pytest.mark.parametrize("case", SPECS)
def test_a_spec_at_its_limit_is_sealed_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    for name, most in {"MOST_BYTES": 30_000, "MOST_FACTS": 300, "ROOM_BYTES": 8000}.items():
        monkeypatch.setattr(limits, name, most)
    most = _most(SPECS[case])
    assert most > 10
    with pytest.raises(LogError, match="stored"):
        RunLog.create(tmp_path / "beyond", RunSpec.from_dict(SPECS[case](most + 1)))
    assert not (tmp_path / "beyond").exists()
    log = RunLog.create(tmp_path / "run", RunSpec.from_dict(SPECS[case](most)))
    log.append(0, epochs=_row(0))
    log.release()
    log = RunLog.resume(tmp_path / "run", log.spec)
    log.note({"pruned": True}, of_pruneviz=True)
    log.seal()
    assert pv.load(tmp_path / "run").spec["pruned"].tolist() == [True]


def test_notes_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in {"MOST_BYTES": 30_000, "ROOM_BYTES": 8000}.items():
        monkeypatch.setattr(limits, name, most)
    recorder = recorder_of(tmp_path / "run")
    recorder.after_epoch(0)
    recorder.note(a="x" * 10_000)
    with pytest.raises(LogError, match="at most 22,000 can be stored"):
        recorder.note(b="x" * 11_000)
    assert assert_readable(recorder, tmp_path / "run").spec["a"].str.len().tolist() == [10_000]


def test_texts_that_are_no_unicode_are_stored_by_their_escapes(tmp_path: Path) -> None:
    recorder = recorder_of(tmp_path / "run", spec={"file": NO_UNICODE})
    recorder.after_epoch(0, phase=NO_UNICODE, name=NO_UNICODE, **{NO_UNICODE: 1.0})
    recorder.note(noted=NO_UNICODE)
    runs = assert_readable(recorder, tmp_path / "run")
    escaped = "a\\udcff"
    assert runs.epochs[["phase", "name", escaped]].iloc[0].tolist() == [escaped, escaped, 1.0]
    assert runs.spec[["file", "noted"]].iloc[0].tolist() == [escaped, escaped]
    with pytest.raises(LogError, match="stored alike"):
        recorder_of(tmp_path / "other").after_epoch(0, **{NO_UNICODE: 1.0, escaped: 2.0})
    with pytest.raises(LogError, match="twice"):
        recorder_of(tmp_path / "more", spec={NO_UNICODE: 1.0, escaped: 2.0})
