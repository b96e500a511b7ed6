from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import pruneviz as pv
from pruneviz.report.contents import run_contents

ROOT = Path(__file__).resolve().parents[2] / "data"
RUN = ROOT / "cifar-mini-errors" / "vgg13-cifar100-unpruned-s0"


@pytest.fixture(scope="module")
def runs() -> pv.Runs:
    return pv.load(RUN)


@pytest.fixture(scope="module")
def sentences(runs: pv.Runs) -> list[str]:
    return run_contents(runs).facts["sentences"]


def test_there_are_three(sentences: list[str]) -> None:
    assert [text.split(":")[0] for text in sentences] == ["Noise", "Correlation", "Course"]


def test_the_first_tells_which_share_noise_explains(runs: pv.Runs, sentences: list[str]) -> None:
    clear = pv.clear_of_noise(runs, "theta_hg")
    shares = 1 - clear.astype("float64").groupby(runs.filters["epoch"]).mean()
    told = [int(found) for found in re.findall(r"(\d+) %", sentences[0])]
    assert told == [round(100 * shares.iloc[0]), round(100 * shares.iloc[-1])]
    assert "θᵀHg" in sentences[0]


def test_the_second_tells_the_correlation_with_its_interval(
    runs: pv.Runs, sentences: list[str]
) -> None:
    found = pv.correlate(runs, "theta_g", "theta_hg")
    for row in (found.iloc[0], found.iloc[-1]):
        ends = f"[{row['low']:.3f}, {row['high']:.3f}]".replace("-", "−")
        assert f"{row['r']:.2f} {ends} at epoch {row['epoch']}".replace("-", "−") in sentences[1]


def test_the_third_tells_the_accuracy_and_the_masks(runs: pv.Runs, sentences: list[str]) -> None:
    last = runs.epochs.iloc[-1]
    assert f"test accuracy is {100 * last['test_acc']:.1f} % after epoch 16" in sentences[2]
    assert "masks that prune the lowest 20 % by bn_scale differ" in sentences[2]


def test_pruned_filters_do_not_count() -> None:
    runs = pv.load(ROOT / "cifar-mini-pruned" / "resnet56-cifar100-proposed-r5-s0")
    last = runs.filters[runs.filters["kept"] & runs.filters["theta_hg"].notna()]
    r = pv.correlate(last, "theta_g", "theta_hg", by=["epoch"])["r"].iloc[-1]
    told = run_contents(runs).facts["sentences"]
    assert any(f"over the kept filters is {r:.2f} [" in text for text in told)


def test_few_terms_behind_the_errors_make_noise_wider() -> None:
    runs = pv.load(ROOT / "cifar-mini-batch" / "vgg13-cifar100-unpruned-bnbatch-s0")
    told = run_contents(runs).facts["sentences"][0]
    assert "lie within 2.8 standard errors of zero" in told  # Student's quantile of five batches


def test_what_is_not_recorded_is_not_told(runs: pv.Runs) -> None:
    cheap = runs.filters[["run", "epoch", "layer", "filter", "sigma"]]
    epochs = runs.epochs[["run", "epoch"]]
    assert run_contents(pv.Runs(runs.spec, epochs, cheap, runs.rounds)).facts["sentences"] == []


def test_infinite_values_have_no_correlation(runs: pv.Runs) -> None:
    table = runs.filters.assign(theta_hg=np.float32(np.inf))
    told = run_contents(pv.Runs(runs.spec, runs.epochs, table, runs.rounds)).facts["sentences"]
    assert not any(text.startswith("Correlation") for text in told)
