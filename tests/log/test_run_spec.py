"""The facts of a run: what a spec refuses, and its file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from pruneviz.errors import LogError
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import load


def test_a_spec_survives_json_whole() -> None:
    spec = RunSpec(
        run="vgg13-digits-s0",
        seed=3,
        temperatures=(1.0, 5.0),
        lr_drops=(80, 120),
        versions={"torch": "2.11"},
        extra={"note": "mine"},
    )
    assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_is_frozen_and_flat() -> None:
    spec = RunSpec.from_dict({"run": "a", "optimiser": "adam"})
    assert spec.extra == {"optimiser": "adam"}
    assert spec.to_dict()["optimiser"] == "adam"
    assert "extra" not in spec.to_dict()
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.seed = 1  # type: ignore[misc]


REFUSED = {
    "run": ["", "a/b", "../a", "a b", ".hidden"],
    "bn": ["train"],
    "unit": ["chanel"],
    "target": [1.0, -0.1],
    "rounds": [-1],
    "lag": [0, 1.5, "1"],
    "mask_ratio": [0, 1],
    "temperatures": [(), (1.0, 0.0), (math.inf,), (math.nan,)],
    "extra": [{"seed": 1}, {"sealed": True}],
}


def test_a_spec_refuses_what_cannot_be_and_names_the_field() -> None:
    for field, values in REFUSED.items():
        for value in values:
            with pytest.raises(LogError, match=rf"run spec: {field} is .*, expected "):
                RunSpec.from_dict({"run": "a", field: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("nan")]], ids=str)
def test_a_fact_that_json_cannot_hold_is_refused_before_anything_is_made(
    tmp_path: Path, value: object
) -> None:
    with pytest.raises(LogError, match=r"cannot be stored in spec.json .*give finite numbers"):
        RunLog.create(tmp_path / "r", RunSpec("r", extra={"weird": value}))
    assert not (tmp_path / "r").exists()


def test_facts_from_numpy_stay_numbers_and_resume(tmp_path: Path) -> None:
    spec = RunSpec(
        "r", seed=np.int64(3), lr=np.float32(0.1), extra={"folder": Path("a"), "hits": np.int32(2)}
    )  # type: ignore[arg-type]
    log = RunLog.create(tmp_path / "r", spec)
    stored = json.loads((log.path / "spec.json").read_text())
    assert (stored["seed"], stored["hits"], stored["folder"]) == (3, 2, "a")
    assert RunLog.resume(log.path, spec).spec.seed == 3


SPEC_FILES = {
    "empty": (b"", "is corrupt"),
    "half": (b'{"run": "run", "sch', "is corrupt"),
    "binary": (bytes(range(256)), "is corrupt"),
    "a list": (b"[1, 2]", "is corrupt"),
    "no version": (b'{"run": "run", "sealed": true}', "is corrupt"),
    "null version": (b'{"run": "run", "schema_version": null, "sealed": true}', "is corrupt"),
    "no run": (b'{"schema_version": 1, "sealed": true}', "is corrupt"),
    "a number for a run": (b'{"run": 5, "schema_version": 1, "sealed": true}', "is corrupt"),
    "bad mode": (
        b'{"run": "run", "bn": "no", "schema_version": 1, "sealed": true}',
        r"is corrupt .*bn is 'no'",
    ),
    "newer": (
        b'{"run": "run", "schema_version": 99, "sealed": true}',
        r"has schema 99, .*install a newer pruneviz",
    ),
}


@pytest.mark.parametrize(("content", "said"), SPEC_FILES.values(), ids=list(SPEC_FILES))
def test_a_corrupt_or_newer_spec_is_an_error_that_names_the_file(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "spec.json").write_bytes(content)
    with pytest.raises(LogError, match=rf"spec.json {said}"):
        load(tmp_path)


OTHER_OPTIONS = [
    ("seed", 0, 1),
    ("bn", "eval", "batch"),
    ("temperatures", (1.0,), (5.0,)),
    ("every", "1", "2"),
]


@pytest.mark.parametrize(("field", "before", "now"), OTHER_OPTIONS)
def test_a_run_resumes_only_with_the_options_it_was_started_with(
    tmp_path: Path, field: str, before: object, now: object
) -> None:
    log = RunLog.create(tmp_path / "r", RunSpec.from_dict({"run": "r", field: before}))
    with pytest.raises(
        LogError,
        match=r"started with other options: " + field + r" was .*, now .*; use the old ones",
    ):
        RunLog.resume(log.path, RunSpec.from_dict({"run": "r", field: now}))
    assert RunLog.resume(log.path, log.spec).path == log.path


def test_pruning_options_may_be_given_as_one_fact_and_never_twice() -> None:
    options = PruningOptions("magnitude", 0.5, 3)
    spec = RunSpec.from_dict({"run": "a", "pruning": options})
    assert spec == RunSpec("a", pruning=options)
    assert spec.kind == "pruned"
    with pytest.raises(LogError, match="rounds is given beside pruning="):
        RunSpec.from_dict({"run": "a", "pruning": options, "rounds": 5})
