"""Samples of several sizes: balanced, disjoint while they fit, and compared with all images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import pruneviz as pv
from pruneviz import samplesize as command
from pruneviz.analysis.sample_agreement import agreement
from pruneviz.errors import AnalysisError, DataError, LogError, MeasureError
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, subset
from pruneviz.experiment.networks.registry import build_network
from pruneviz.experiment.run import record_run
from pruneviz.experiment.samplesize import (
    PUBLISHED,
    Samples,
    SampleSizes,
    images_to_measure,
    sample_sizes,
)
from pruneviz.experiment.setting import Setting
from pruneviz.recording.kept_weights import load_kept_weights
from tests.support.cut_off import ignore
from tests.support.plans import UNPRUNED
from tests.support.readable import assert_readable

HOW = SampleSizes((10, 25, 40), draws=2, measures=("theta_g", "loss_preservation"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recorded")
    record_run(replace(UNPRUNED, epochs=1), Setting(out, threads=1, keep_weights=True), ignore)
    return out / UNPRUNED.run


@pytest.fixture(scope="module")
def data() -> ImageData:
    return subset(load_dataset("digits"), 6, None, seed=0)


@pytest.fixture(scope="module")
def table(recorded: Path) -> pd.DataFrame:
    return sample_sizes(recorded, HOW, epoch=1)


# Samples


def taken(samples: Samples, size: int, draw: int, data: ImageData) -> set[bytes]:
    images, labels = samples.drawn(size, draw)
    classes = data.num_classes
    assert np.bincount(labels, minlength=classes).tolist() == [size // classes] * classes
    assert [len(set(block)) for block in labels.numpy().reshape(-1, classes)] == [classes] * (
        size // classes
    ), "classes alternate"
    return {image.tobytes() for image in images.numpy()}


def test_draws_are_balanced_nested_and_disjoint_while_they_fit(data: ImageData) -> None:
    samples = Samples(data, draws=3, seed=0)
    assert samples.most == 60
    two = [taken(samples, 20, draw, data) for draw in range(3)]
    assert len(two[0] | two[1] | two[2]) == 60, "three of 20 fit into 60"
    four = [taken(samples, 40, draw, data) for draw in range(3)]
    assert all(small < large for small, large in zip(two, four, strict=True))
    assert len(four[0] & four[1]) == 20, "as little in common as can be"
    assert taken(Samples(data, 3, seed=1), 20, 0, data) != two[0]


def test_sizes_double_stop_at_what_there_is_and_hold_the_published_one() -> None:
    whole = load_dataset("digits")
    samples = Samples(whole, draws=1, seed=0)
    assert samples.sizes(None) == [120, 250, 510, 1020]
    assert samples.most < 1437, "the classes of the digits are not equally large"
    many = replace(
        whole,
        train_images=whole.train_images.repeat(4, 1, 1, 1),
        train_labels=whole.train_labels.repeat(4),
    )
    assert PUBLISHED in Samples(many, 1, 0).sizes(None)
    assert Samples(many, 1, 0).sizes([39, 10**6]) == [30]


def test_sizes_without_any_that_fits_are_refused(data: ImageData) -> None:
    with pytest.raises(DataError, match="give numbers from 10 to 50"):
        Samples(data, 1, 0).sizes([9, 60])


# Agreement


def test_agreement_is_that_of_a_plain_count() -> None:
    random = np.random.default_rng(0)
    keys = {"layer": "conv", "filter": range(50)}
    one, other = (pd.DataFrame({**keys, "a": random.standard_normal(50)}) for _ in range(2))
    found = agreement(one, other, "a", ratio=0.3)
    ranks = [table["a"].rank() for table in (one, other)]
    lowest = [set(table["a"].nsmallest(15).index) for table in (one, other)]
    assert found == {
        "spearman": pytest.approx(np.corrcoef(*ranks)[0, 1]),
        "shared": len(lowest[0] & lowest[1]) / 15,
        "chance": 0.3,
    }
    assert agreement(one, one, "a")["shared"] == 1
    pruned = one.assign(a=one["a"].where(one["filter"] >= 10))
    assert agreement(pruned, one, "a", 0.25)["chance"] == 10 / 40, "of filters with a value"


def test_agreement_of_other_filters_or_of_no_masks_is_refused() -> None:
    table = pd.DataFrame({"layer": "conv", "filter": range(5), "a": range(5)})
    with pytest.raises(AnalysisError, match="hold other filters"):
        agreement(table, table.iloc[::-1], "a")
    with pytest.raises(AnalysisError, match=r"ratio=0\.05 prunes 0 of 5"):
        agreement(table, table, "a", 0.05)


# Recorded runs


def test_every_sample_is_measured_as_pv_measure_does(
    recorded: Path, table: pd.DataFrame, data: ImageData
) -> None:
    network = build_network("vgg13", num_classes=10, width=0.0625)
    load_kept_weights(network, recorded, 1)
    samples = Samples(data, draws=2, seed=0)
    columns = ["theta_g", "abs_theta_g"]
    whole = pv.measure(network, samples.all(), columns=columns)
    few = pv.measure(network, samples.drawn(20, 1), columns=columns)
    row = table.query("images == 20 and draw == 1 and measure == 'loss_preservation'").iloc[0]
    expected = few["abs_theta_g"].corr(whole["abs_theta_g"], method="spearman")
    assert row["spearman"] == pytest.approx(expected, abs=1e-4)
    assert (row["run"], row["epoch"], row["of_images"]) == (recorded.name, 1, 60)


def test_the_answer_agrees_with_itself_and_comes_last(table: pd.DataFrame) -> None:
    assert table["images"].unique().tolist() == [10, 20, 40, 60]
    assert table.groupby("images").size().tolist() == [4, 4, 4, 2]
    assert (table[table["images"] == 60][["spearman", "shared"]] == 1).all(axis=None)
    means = table.groupby("images")["spearman"].mean()
    assert means[40] > means[10]


def test_progress_counts_the_images(recorded: Path) -> None:
    told: list[float] = []
    sample_sizes(recorded, HOW, report=lambda done, note: told.append(done))
    assert told[-1] == images_to_measure(recorded, HOW) == 60 + 2 * (10 + 20 + 40)
    assert told == sorted(told)


def test_a_checkpoint_of_an_unfinished_run_will_do(
    recorded: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    from pruneviz.experiment.checkpoint import parts_of, write_checkpoint
    from pruneviz.experiment.training import start

    network = build_network("vgg13", num_classes=10, width=0.0625)
    load_kept_weights(network, recorded, 1)
    state = start(network, UNPRUNED)
    state.epoch = 1
    write_checkpoint(parts_of(state), tmp_path / "run" / "checkpoint")
    (tmp_path / "run" / "spec.json").write_bytes((recorded / "spec.json").read_bytes())
    found = sample_sizes(tmp_path / "run", HOW)
    pd.testing.assert_frame_equal(found, table, atol=1e-6)
    with pytest.raises(LogError, match="a checkpoint of epoch 1, not of epoch 0"):
        sample_sizes(tmp_path / "run", HOW, epoch=0)


def test_what_cannot_be_measured_is_told_with_the_repair(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_bytes((recorded / "spec.json").read_bytes())
    with pytest.raises(LogError, match="record it with pruneviz record --keep-weights"):
        sample_sizes(tmp_path, HOW)
    with pytest.raises(LogError, match="no weights of epoch 7"):
        sample_sizes(recorded, HOW, epoch=7)
    with pytest.raises(MeasureError, match="sigma_delta cannot be measured on a sample"):
        sample_sizes(recorded, replace(HOW, measures=("sigma_change",)))
    for change, said in (({"draws": 0}, "draws is 0"), ({"images": (0,)}, "images is 0")):
        with pytest.raises(MeasureError, match=said):
            replace(HOW, **change)  # type: ignore[arg-type]


# The command


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command.app, [str(argument) for argument in arguments])


def test_the_command_writes_numbers_picture_and_caption(
    recorded: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    asked = "--sizes 10,25,40 --draws 2 --measure theta_g,loss_preservation --device cpu"
    done = invoke(recorded, *asked.split(), "--epoch", 1, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    stem = tmp_path / f"samplesize-{recorded.name}-epoch1"
    written = pd.read_csv(stem.with_suffix(".csv"))
    pd.testing.assert_frame_equal(written, table, check_dtype=False, atol=1e-6)
    assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    caption = stem.with_suffix(".txt").read_text()
    assert "answer on 60 images" in caption and "With 10 images: " in caption
    assert f"wrote {stem}.png" in done.stdout


def test_the_picture_is_readable(table: pd.DataFrame) -> None:
    from pruneviz.plot.sample_size_plot import draw_sample_sizes

    figure = draw_sample_sizes(table)
    assert_readable(figure)
    ranks, masks = figure.axes
    assert len(ranks.lines) == 3 and len(masks.lines) == 4, "with the recorded size, and chance"
    assert ranks.get_xscale() == "log"
    first = table.iloc[0]
    assert ranks.get_title(loc="left").startswith(f"{first['run']}, epoch {first['epoch']}\n(a) ")


def test_the_command_refuses_runs_without_weights(tmp_path: Path) -> None:
    done = invoke("data/cifar-mini/vgg13-cifar100-unpruned-s0", "--out", tmp_path)
    assert done.exit_code == 2
    assert "no kept weights" in done.output or "cannot be read" in done.output
