"""Half samples: disjoint, equal, balanced, and measured as two samples of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import DataError, LogError, MeasureError
from pruneviz.measuring.half_samples import half_columns, half_samples
from pruneviz.measuring.options import Options


def numbered(labels: list[int]) -> tuple[Tensor, Tensor]:
    """A sample whose inputs are the numbers of its examples."""
    return torch.arange(len(labels))[:, None].float(), torch.tensor(labels)


def taken(batches: list[tuple[Tensor, Tensor]]) -> list[int]:
    return [int(number) for x, _ in batches for number in x.flatten()]


@pytest.mark.parametrize("cut", [(12,), (5, 7), (1, 2, 9)], ids=str)
def test_halves_are_disjoint_and_have_equally_many_of_every_class(cut: tuple[int, ...]) -> None:
    labels = [0, 1, 2, 0, 1, 0, 2, 2, 2, 1, 0, 2]  # 4, 3 and 5 of a class
    x, y = numbered(labels)
    halves = half_samples(list(zip(x.split(cut), y.split(cut), strict=True)), Options())
    a, b = (taken(halves[half]) for half in "AB")
    assert not set(a) & set(b)
    counts = [np.bincount([labels[place] for place in half]).tolist() for half in (a, b)]
    assert counts == [[2, 1, 2]] * 2, "an odd example of a class is in neither half"


def test_examples_without_classes_alternate() -> None:
    x = torch.arange(7.0)[:, None]
    halves = half_samples([(x, x.clone())], Options())
    assert (taken(halves["A"]), taken(halves["B"])) == ([0, 2, 4], [1, 3, 5])


def test_examples_without_a_weight_are_in_neither_half() -> None:
    x, y = numbered([0, -100, 0, 1, 1, 2])
    ignored = half_samples([(x, y)], Options(loss=nn.CrossEntropyLoss(torch.tensor([1.0, 1, 0]))))
    assert (taken(ignored["A"]), taken(ignored["B"])) == ([0, 3], [2, 4])


def test_examples_without_a_label_of_their_networks_own_loss_are_in_neither_half() -> None:
    x, y = numbered([0, -100, 0, 1, 1])
    batch = {"x": x, "labels": y}
    for_classes = half_samples([(batch, batch)], Options())
    held = {half: [int(i) for b, _ in own for i in b["x"]] for half, own in for_classes.items()}
    assert held == {"A": [0, 3], "B": [2, 4]}
    tokens = torch.full((5, 3), 7)
    tokens[1], tokens[3, 1:] = -100, -100  # the first token of a sequence is predicted by none
    batch = {"x": x, "labels": tokens}
    of_tokens = half_samples([(batch, batch)], Options())
    held = {half: [int(i) for b, _ in own for i in b["x"]] for half, own in of_tokens.items()}
    assert held == {"A": [0], "B": [2]}


def test_the_whole_sample_has_the_examples_with_a_weight(
    network: nn.Module, tmp_path: Path
) -> None:
    x, y = sample(18)
    y[:6] = -100
    with pv.Recorder(network, (x, y), tmp_path / "run", samples=2) as recorder:
        recorder.after_epoch(0)
    runs = pv.load(tmp_path / "run")
    assert runs.spec[["sample_size", "sample_counted", "half_size"]].iloc[0].tolist() == [18, 12, 6]
    assert pv.reliability(runs, ["theta_g"])["times"].tolist() == [2.0]


def test_whole_numbers_that_are_no_classes_alternate() -> None:
    x, y = numbered([5, 7, 6, 5])
    halves = half_samples([(x, y)], Options(strata=None, loss=lambda out, y: (out - y).mean()))
    assert (taken(halves["A"]), taken(halves["B"])) == ([0, 2], [1, 3])
    with pytest.raises(DataError, match="strata=None if labels are no classes"):
        half_samples([(x, y)], Options(loss=lambda out, y: (out - y).mean()))


def test_targets_in_a_mapping_stay_with_their_inputs() -> None:
    x, y = numbered([0, 0, 1, 1])
    batch = {"x": x, "labels": y}
    halves = half_samples([(batch, batch)], Options())
    for inputs, target in halves["A"] + halves["B"]:
        assert target is inputs, "one mapping holds both"
        assert inputs["labels"].tolist() == [0, 1]


def test_batches_that_stay_whole_alternate() -> None:
    batches = [numbered([0] * size) for size in (3, 3, 2, 2, 4)]
    halves = half_samples(batches, Options(), "each by its own statistics")
    assert [[len(x) for x, _ in halves[half]] for half in "AB"] == [[3, 2], [3, 2]]


@pytest.mark.parametrize(
    ("batches", "whole", "said"),
    [
        ([numbered([0, 0, 1])], "", "class 1 has one"),
        ([(torch.ones(1, 2), torch.ones(1, 2))], "", "two examples with a weight"),
        ([numbered([0, 0])], "they do", "needs at least two batches"),
        ([numbered([0, 0]), numbered([0])], "they do", "halves of 2 and 1 examples"),
    ],
)
def test_a_sample_without_halves_is_refused_with_the_repair(
    batches: list[tuple[Tensor, Tensor]], whole: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        half_samples(batches, Options(), whole)


def test_columns_that_do_not_depend_on_the_sample_are_not_measured_again() -> None:
    wanted = ["theta_norm2", "sigma", "theta_g", "theta_hg_t200", "theta_g_se", "obd", "obd_se"]
    assert half_columns([*wanted, "fpgm", "update_size"]) == ("theta_g", "theta_hg_t200", "obd")


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(80, 3)
    return nn.Sequential(*layers).double()


def sample(count: int = 14) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 3, 8, 8, generator=generator, dtype=torch.float64)
    return x, torch.arange(count) % 3


def test_a_recorder_measures_halves_as_samples_of_their_own(
    network: nn.Module, tmp_path: Path
) -> None:
    x, y = sample()
    for samples in (1, 2):
        with pv.Recorder(
            network, (x, y), tmp_path / str(samples), every=2, samples=samples
        ) as recorder:
            for epoch in range(3):
                recorder.after_epoch(epoch)
    one, two = (pv.load(tmp_path / str(samples)) for samples in (1, 2))
    plain = one.filters.drop(columns="run")
    pd.testing.assert_frame_equal(two.filters.drop(columns="run"), plain, check_exact=True)
    assert one.halves.empty and not (tmp_path / "1" / "halves.parquet").exists()
    assert two.spec[["samples", "half_size"]].iloc[0].tolist() == [2, 6]
    places = {"A": [0, 1, 2, 6, 7, 8], "B": [3, 4, 5, 9, 10, 11]}
    for half, chosen in places.items():
        expected = pv.measure(network, (x[chosen], y[chosen]))
        for epoch in (0, 2):
            halves = two.halves[two.halves["epoch"] == epoch]
            rows = halves[halves["half"] == half].reset_index(drop=True)
            assert rows["filter"].tolist() == expected["filter"].tolist()
            for column in ("theta_g", "abs_theta_g", "theta_hg", "theta_hg_t200"):
                np.testing.assert_allclose(rows[column], expected[column], rtol=1e-6)
    assert set(two.halves["epoch"]) == {0, 2}, "only where derivatives are measured"


def test_a_resumed_run_keeps_its_halves_and_refuses_to_go_on_without(
    network: nn.Module, tmp_path: Path
) -> None:
    recorder = pv.Recorder(network, sample(), tmp_path / "r", every=1, samples=2)
    recorder.after_epoch(0)
    with pytest.raises(LogError, match="samples was 2, now 1"):
        pv.Recorder(network, sample(), tmp_path / "r", every=1, resume=True)
    with pv.Recorder(network, sample(), tmp_path / "r", every=1, resume=True, samples=2) as again:
        again.after_epoch(1)
    halves = pv.load(tmp_path / "r").halves
    assert halves.groupby(["epoch", "half"], observed=True).size().tolist() == [9] * 4


def test_the_last_epoch_is_measured_on_halves_too(network: nn.Module, tmp_path: Path) -> None:
    with pv.Recorder(network, sample(), tmp_path / "r", every=10, samples=2) as recorder:
        recorder.after_epoch(0)
        recorder.after_epoch(1)
    assert set(pv.load(tmp_path / "r").halves["epoch"]) == {0, 1}


def test_a_thin_copy_and_a_reopened_run_keep_the_halves(network: nn.Module, tmp_path: Path) -> None:
    from pruneviz.log.reopening import reopen
    from pruneviz.log.thinning import thin

    with pv.Recorder(network, sample(), tmp_path / "r", every=2, samples=2) as recorder:
        for epoch in range(3):
            recorder.after_epoch(epoch)
    before = pv.load(tmp_path / "r").halves
    pd.testing.assert_frame_equal(pv.load(thin(tmp_path / "r", tmp_path / "t").path).halves, before)
    (tmp_path / "t" / "r" / "halves.parquet").unlink()
    with pytest.raises(LogError, match=r"halves\.parquet is missing; restore it"):
        pv.load(tmp_path / "t")
    reopen(tmp_path / "r")
    pd.testing.assert_frame_equal(pv.load(tmp_path / "r", "include").halves, before)


@pytest.mark.parametrize("samples", [0, 3, 1.5, True])
def test_another_number_of_samples_is_refused(
    network: nn.Module, tmp_path: Path, samples: object
) -> None:
    with pytest.raises(MeasureError, match="samples="):
        pv.Recorder(network, sample(), tmp_path / "r", samples=samples)
