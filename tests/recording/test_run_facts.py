"""The spec of a run holds how it was measured and on what, and contradictions are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log import schema
from tests.support.short_recordings import SAMPLE, network, record


def test_the_spec_holds_everything_that_fixes_the_run(tmp_path: Path) -> None:
    given = {"seed": 7, "dataset": "digits", "network": "mine", "optimiser": "plain descent"}
    record(
        network(),
        tmp_path / "run",
        epochs=1,
        every=2,
        spec=given,
        bn="calibrated",
        temperatures=(1.0, 5.0),
        mask_ratio=0.3,
    )
    spec = json.loads((tmp_path / "run" / "spec.json").read_text())
    known = {
        "run": "run",
        "sample_size": 12,
        "bn": "calibrated",
        "temperatures": [1.0, 5.0],
        "every": "2",
        "lag": 1,
        "dtype": "float32",
    }
    known |= {
        "mask_score": "bn_scale",
        "mask_ratio": 0.3,
        "device": "cpu",
        "schema_version": schema.SCHEMA_VERSION,
        "sealed": True,
        **given,
    }
    assert {name: spec[name] for name in known} == known
    columns = {"theta_hg_t5", *schema.CHEAP_COLUMNS, *schema.DERIVATIVE_COLUMNS}
    assert set(spec["columns"]) == columns - {"theta_hg_t200"}
    versions = spec["versions"]
    assert versions["torch"] in (torch.__version__, torch.__version__.split("+")[0])
    named = {"pruneviz", "python", "numpy", "pandas", "pyarrow", "torchvision", "cuda"}
    assert named <= set(versions)
    assert "python" in spec["command"]
    assert "T" in spec["created"]
    assert spec["device_name"]
    assert spec["threads"] == torch.get_num_threads()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bn", "batch"),
        ("temperatures", [1.0]),
        ("lag", 2),
        ("sample_size", 5),
        ("dtype", "float64"),
    ],
)
def test_a_spec_cannot_belie_the_measurement(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(LogError, match=rf"spec says {name}=.*, but the recorder measures with"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", spec={name: value})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", 3),
        ("kept", 0.5),
        ("errors", "full"),
        ("flow", True),
        ("oracle", 10),
        ("path", "weights.pt"),
        ("weights", "imagenet"),
        ("weight_rows", 5),
        ("parameters", 1_000_000),
        ("sealed", False),
        ("schema_version", 1),
    ],
)
def test_names_of_what_pruneviz_states_are_no_facts_of_ones_own(
    tmp_path: Path, name: str, value: object
) -> None:
    expected = f"spec says {name}=.*, a name of what pruneviz states by itself; .*another name"
    with pytest.raises(LogError, match=expected):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", spec={name: value})
    assert not (tmp_path / "run").exists()
    with pv.Recorder(network(), SAMPLE, tmp_path / "run") as recorder:
        recorder.after_epoch(0)
        with pytest.raises(LogError, match=expected):
            recorder.note(**{name: value})
        recorder.note(**{f"my_{name}": value})
    (spec,) = pv.load(tmp_path / "run").spec.to_dict("records")
    assert spec[f"my_{name}"] == value


@pytest.mark.parametrize("spec", [[1], "seed", {1: 2}, {None: 3}, {("a",): 1}], ids=str)
def test_a_spec_that_is_no_dict_of_names_is_refused(tmp_path: Path, spec: object) -> None:
    with pytest.raises(LogError, match=r"spec is .*; give a dict of facts by name"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", spec=spec)  # type: ignore[arg-type]
    with pytest.raises(LogError, match="spec says run=3, expected text"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", spec={"run": 3})
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run", spec={"run": None})
    assert recorder.spec.run == "run"


def test_a_spec_of_another_run_is_refused_with_all_that_is_to_be_left_out(tmp_path: Path) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "a", spec={"lr": 0.1}) as recorder:
        recorder.after_epoch(0)
    facts = {**pv.load(tmp_path / "a").spec.iloc[0].to_dict(), "run": "b"}
    with pytest.raises(LogError, match=r"names of what pruneviz .* leave them out") as refused:
        pv.Recorder(network(), SAMPLE, tmp_path / "b", spec=facts)
    said = str(refused.value)
    left = {name: value for name, value in facts.items() if f"{name}=" not in said}
    stated = {"rows", "norms_found", "kept", "coverage", "left_out", "schema_version"}
    assert stated == set(facts) - set(left)


@pytest.mark.parametrize("name", ["layer", "epoch", "theta_g", "sigma", "theta_hg_t7"])
def test_columns_of_the_filters_table_are_no_facts_of_a_run(tmp_path: Path, name: str) -> None:
    expected = f"spec says {name}=1, the name of a column of the filters table; .* another name"
    with pytest.raises(LogError, match=expected):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", spec={name: 1})
    with pv.Recorder(network(), SAMPLE, tmp_path / "run") as recorder:
        recorder.after_epoch(0)
        with pytest.raises(LogError, match=expected):
            recorder.note(**{name: 1})
        with pytest.raises(LogError, match="expected a whole number"):
            recorder.note(seed="A")


def test_a_misspelt_fact_is_warned_about_with_the_nearest_and_others_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"netwrok": "mine", "Batch-Size": 8, "sed": 1}
    own = {"optimiser": "sgd", "seed2": 3, "fold": 1, "max_epochs": 9, "notes": "x"}
    own |= {"sample_batch_size": 2}  # which `pruneviz remeasure` writes
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run", spec={**given, **own})
    meant = ("network", "batch_size", "seed")
    assert caplog.messages == [
        f"spec has the fact {name!r}; did you mean {known!r}?"
        for name, known in zip(given, meant, strict=True)
    ]
    assert dict(recorder.spec.extra).items() >= {**given, **own}.items()


@pytest.mark.parametrize(
    ("fact", "value", "expected"),
    [
        ("seed", "zero", "a whole number"),
        ("seed", [1], "a whole number"),
        ("seed", 1.5, "a whole number"),
        ("seed", True, "a whole number"),
        ("epochs", "ten", "a whole number from 0"),
        ("lr", "high", "a number from 0"),
        ("network", 5, "text"),
    ],
)
def test_facts_that_readers_cannot_use_are_refused(
    tmp_path: Path, fact: str, value: object, expected: str
) -> None:
    with pytest.raises(LogError, match=f"spec says {fact}=.*, expected {expected}; give it so"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", spec={fact: value})
    assert not (tmp_path / "run").exists()


def test_a_seed_of_any_library_is_stored_as_a_number(tmp_path: Path) -> None:
    record(network(), tmp_path / "run", epochs=0, spec={"seed": np.int64(3), "lr": np.float32(1)})
    spec = json.loads((tmp_path / "run" / "spec.json").read_text())
    assert (spec["seed"], spec["lr"]) == (3, 1.0)
