"""TensorBoard and Weights & Biases hold what a recording holds, by their own readers."""

from __future__ import annotations

import importlib
import json
import math
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log.live_runs import runs_at
from pruneviz.recording.sinks import named_sink, pixels
from tests.support.short_recordings import SAMPLE, network, record, train_epoch

Series = dict[str, dict[int, float]]


def plain(runs: pv.Runs) -> Series:
    """Some numbers of a recording by epoch, under the names of aggregates."""
    correlations = pv.correlate(runs, "theta_g", "theta_hg", interval=None).set_index("epoch")
    found: Series = {"pearson/theta_g/theta_hg": correlations["r"].to_dict()}
    distances = pv.mask_distance(runs).dropna().set_index("epoch")["distance"]
    found["epoch/mask_distance"] = distances.to_dict()
    for (layer, epoch), rows in runs.filters.groupby(["layer", "epoch"], observed=True):
        values = rows["theta_norm2"].to_numpy(dtype="float64")
        found.setdefault(f"theta_norm2/{layer}/q50", {})[epoch] = float(np.median(values))
    return found


def close(found: Series, expected: Series) -> None:
    for name, values in expected.items():
        assert found[name].keys() == values.keys(), name
        for epoch, value in values.items():
            assert math.isclose(found[name][epoch], value, rel_tol=1e-6, abs_tol=1e-9), name


# TensorBoard


def scalars(folder: Path) -> tuple[Series, dict[int, bytes]]:
    """What TensorBoard reads in a folder: scalars, and images of the figure by step."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    found = {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }
    twice = [tag for tag in found if len(found[tag]) != len(events.Scalars(tag))]
    assert not twice, "a step that was written twice"
    tags = [tag for tag in events.Tags()["images"] if tag.endswith("filters")]
    pictures = {event.step: event.encoded_image_string for t in tags for event in events.Images(t)}
    return found, pictures


def test_tensorboard_reads_from_a_folder_what_the_recording_holds(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    sink = pv.sinks.TensorBoard(tmp_path / "logs")
    options: dict[str, Any] = {"every": 1, "sinks": sink, "figures_at": [1, 2]}
    runs = record(network(), tmp_path / "one", epochs=2, **options)
    other = record(network(), tmp_path / "other", epochs=1, **options)
    found, pictures = scalars(tmp_path / "logs" / "one")
    close(found, plain(runs))
    assert list(pictures) == [1, 2]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    close(scalars(tmp_path / "logs" / "other")[0], plain(other))


def test_a_writer_that_is_given_stays_open_and_has_a_prefix(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "logs")) as writer:
        sink = pv.sinks.TensorBoard(writer, prefix="pruning/")
        runs = record(network(), tmp_path / "run", every=1, sinks=[sink])
        sink.close()
        writer.add_scalar("mine", 3.0, 7)
    found, pictures = scalars(tmp_path / "logs")
    close(found, {f"pruning/{name}": values for name, values in plain(runs).items()})
    assert found["mine"] == {7: 3.0}
    assert not pictures


def test_a_folder_is_written_again_after_it_was_closed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    sink, model = pv.sinks.TensorBoard(str(tmp_path / "logs")), network()
    with (
        pytest.raises(KeyboardInterrupt),
        pv.Recorder(model, SAMPLE, tmp_path / "run", every=1, sinks=sink) as recorder,
    ):
        recorder.after_epoch(0)
        raise KeyboardInterrupt
    sink.close()
    options: dict[str, Any] = {"every": 1, "sinks": sink, "resume": True}
    with pv.Recorder(model, SAMPLE, tmp_path / "run", **options) as recorder:
        recorder.rewind(-1)
        for epoch in range(3):
            train_epoch(model, epoch)
            recorder.after_epoch(epoch)
    found, _ = scalars(tmp_path / "logs" / "run")
    assert list(found["pearson/theta_g/theta_hg"]) == [0, 1, 2]


def test_a_folder_that_cannot_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "logs").write_text("a file")
    record(network(), tmp_path / "run", every=1, sinks=pv.sinks.TensorBoard(tmp_path / "logs"))
    (line,) = [line for line in caplog.messages if "failed" in line]
    assert line.startswith(f"sink TensorBoard({str(tmp_path / 'logs')!r}) of run failed at epoch 0")


# Weights & Biases


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package in offline mode, with nothing of this machine's account."""
    package = pytest.importorskip("wandb")
    for name in ("WANDB_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_home"))
    (tmp_path / "wandb_home").mkdir()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    return package


def history(folder: Path) -> list[dict[str, Any]]:
    """Rows of the offline run in a folder, read from its file of protobuf records."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    rows = []
    for found in complete(file):
        if found.WhichOneof("record_type") == "history":
            items = found.history.item
            rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    return rows


def complete(file: Path) -> list[Any]:
    """Records of a run up to its end, which a process of wandb writes after `finish` returns."""
    make = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    for _ in range(600):
        found = [make.FromString(data) for data in chunks(file.read_bytes())]
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.1)
    raise AssertionError(f"{file} has no end after a minute")


def chunks(data: bytes) -> Iterator[bytes]:
    """Records of a file in the format of LevelDB's log, after a header of seven bytes."""
    place, parts = 7, list[bytes]()
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def by_epoch(rows: list[dict[str, Any]], prefix: str = "") -> Series:
    found: Series = {}
    for row in rows:
        for name, value in row.items():
            if f"{prefix}epoch" in row and name.startswith(prefix):
                found.setdefault(name, {})[row[f"{prefix}epoch"]] = value
    return found


@pytest.mark.filterwarnings("ignore:::wandb|pydantic")
def test_wandb_holds_offline_what_the_recording_holds(tmp_path: Path, wandb: Any) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    sink = pv.sinks.WandB(project="pruning", dir=str(logs), group="mine")
    runs = record(network(), tmp_path / "run", epochs=2, every=1, sinks=[sink], figures_at=[2])
    assert wandb.run is None, "the run of the process is the person's"
    sink.close()
    found = by_epoch(history(logs))
    close(found, plain(runs))
    pictures = {name for name in found if name.startswith("filters")}
    assert "filters/path" in pictures
    assert list(found["filters/path"]) == [2]
    (image,) = logs.glob("wandb/offline-run-*/files/media/images/*.png")
    assert plt.imread(image).shape[2] in (3, 4)


@pytest.mark.filterwarnings("ignore:::wandb|pydantic")
@pytest.mark.parametrize("how", ["alone", "before", "after", "counted"])
def test_a_run_of_wandb_that_is_given_keeps_its_own_steps(
    tmp_path: Path, wandb: Any, how: str
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    given = wandb.init(project="mine", dir=str(logs), reinit="create_new")
    sink, model = pv.sinks.WandB(given), network()
    options: dict[str, Any] = {"every": 1, "sinks": sink, "figures_at": 1}
    with pv.Recorder(model, SAMPLE, tmp_path / "run", **options) as recorder:
        for epoch in range(4):
            train_epoch(model, epoch)
            if how == "before":
                given.log({"own": 10 * epoch}, step=epoch)
            recorder.after_epoch(epoch)
            if how == "after":
                given.log({"own": 10 * epoch}, step=epoch)
            if how == "counted":
                given.log({"own": 10 * epoch})
    given.log({"end": 1})  # it is still open
    given.finish()
    rows = history(logs)
    own = [row["own"] for row in rows if "own" in row]
    assert own == ([] if how == "alone" else [0, 10, 20, 30])
    close(
        by_epoch(rows, "pruneviz/"),
        {f"pruneviz/{n}": values for n, values in plain(pv.load(tmp_path / "run")).items()},
    )
    assert sum("end" in row for row in rows) == 1


def test_wandb_tries_to_start_a_run_once(
    tmp_path: Path, wandb: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[str] = []

    def init(**options: Any) -> None:
        tries.append(options["name"])
        raise wandb.errors.CommError("no such host")

    monkeypatch.setattr(wandb, "init", init)
    runs = record(network(), tmp_path / "run", sinks=[pv.sinks.WandB(project="pruning")])
    assert tries == ["run"]
    assert len(runs.epochs) == 5
    (line,) = [line for line in caplog.messages if "failed" in line]
    assert line.startswith("sink WandB('pruning') of run failed at epoch 0: CommError: no such h")


def test_wandb_takes_a_run_or_a_project(wandb: Any) -> None:
    with pytest.raises(
        LogError, match=r"WandB takes either a run of wandb\.init, or the name of a"
    ):
        pv.sinks.WandB()
    with pytest.raises(LogError, match="WandB was given 'pruning', which is no run; give a run"):
        pv.sinks.WandB("pruning")


# What is asked for and is not there


@pytest.mark.parametrize(
    ("make", "extra"),
    [
        (lambda: pv.sinks.TensorBoard("logs"), "tensorboard"),
        (lambda: pv.sinks.WandB(project="pruning"), "wandb"),
        (lambda: named_sink("wandb:pruning"), "wandb"),
    ],
)
def test_a_package_that_is_absent_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, extra: str
) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.split(".")[0] == extra]:
        monkeypatch.delitem(sys.modules, name)
    told = rf"this sink needs {extra}, which is not installed: pip install 'pruneviz\[{extra}\]'"
    with pytest.raises(ImportError, match=told):
        make()
    (tmp_path / extra).mkdir()  # a folder of recordings by that name is no package
    with pytest.raises(ImportError, match=told):
        make()


@pytest.mark.parametrize("text", ["tensorboard", "tensorboard:", "mlflow:here", ""])
def test_a_sink_that_a_command_cannot_name_is_refused(text: str) -> None:
    with pytest.raises(LogError, match=rf"sink '{text}': give tensorboard:FOLDER or wandb:PROJECT"):
        named_sink(text)


def test_something_else_than_a_writer_is_refused() -> None:
    with pytest.raises(LogError, match=r"TensorBoard\(3\): give a folder, or a SummaryWriter"):
        pv.sinks.TensorBoard(3)


def test_a_figure_becomes_pixels_without_pyplot(tmp_path: Path) -> None:
    figures = plt.get_fignums()
    figure = Figure(figsize=(2, 1), dpi=50, facecolor="#ff0000")
    image = pixels(figure)
    assert image.shape == (50, 100, 3)
    assert image.dtype == np.uint8
    assert image[0, 0].tolist() == [255, 0, 0]
    assert plt.get_fignums() == figures


def test_a_sink_by_protocol_needs_one_method(tmp_path: Path) -> None:
    class Least:
        def epoch(self, run: str, epoch: int, aggregates: Any) -> None:
            self.last = run, epoch, aggregates["epoch/kept_fraction"]

    sink = Least()
    model = network()
    with pv.Recorder(model, SAMPLE, tmp_path / "run", sinks=sink) as recorder:
        recorder.after_epoch(0)
        assert len(runs_at(recorder.log, 0).epochs) == 1
    assert sink.last == ("run", 0, 1.0)
    assert not torch.is_anomaly_enabled()
