"""Standard errors, compared with how much columns vary over fresh samples.

A ratio is the stated error, root mean square over some samples, over the actual standard deviation
over many others, row by row. Both are estimates: 12 samples with 8 half samples each tell the
stated one to 7 %, 200 samples the actual one to 5 %. CIFAR-100 affords fewer, so that chance alone
brings many ratios out of 0.8 to 1.25; there, `calibration` tells the errors' own fault from chance.

`make test-statistics` runs the whole matrix, and CIFAR-100. PRUNEVIZ_IMAGES names the folder of the
images, PRUNEVIZ_STATISTICS one with runs of `pruneviz record --preset cifar-mini --keep-weights`;
without runs, VGG-13 is trained for an epoch. PRUNEVIZ_STATISTICS_REPORT names a file to write the
ratios to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, balanced_sample, normalise
from pruneviz.experiment.networks.registry import build_network
from pruneviz.log.spec_file import read_spec
from pruneviz.recording.kept_weights import kept_epochs, load_kept_weights
from tests.support.fresh_samples import (
    ERRORS,
    Draws,
    Ratios,
    calibration,
    digit_ratios,
    draws,
)

FEW = [("mlp", 0, "balanced", 200)]
MANY = [
    ("cnn", 2, "balanced", 100),
    *(
        (network, epochs, design, 400)
        for network in ("mlp", "cnn")
        for epochs in (0, 1, 3, 6)
        for design in ("iid", "balanced")
    ),
]


def check(found: Ratios, share: float) -> None:
    """Whether enough rows have a ratio between 0.8 and 1.25."""
    for error in ERRORS:
        within = found[error].between(0.8, 1.25).mean()
        assert within >= share, f"{error}: {found[error].describe()}"
    assert found["theta_hg_se_given_g"].median() < 0.8  # g varies too


@pytest.mark.parametrize(("network", "epochs", "design", "examples"), FEW)
def test_stated_errors_are_those_of_fresh_samples(
    network: str, epochs: int, design: str, examples: int
) -> None:
    check(digit_ratios(network, epochs, design, examples, stated=60, actual=300), 0.9)


@pytest.mark.statistics
@pytest.mark.parametrize(("network", "epochs", "design", "examples"), MANY)
def test_stated_errors_are_those_of_fresh_samples_in_every_design(
    network: str, epochs: int, design: str, examples: int
) -> None:
    found = digit_ratios(network, epochs, design, examples, stated=200, actual=800)
    ratios_report(f"{network} {epochs} {design} {examples}", found)
    check(found, 0.9)


def test_fault_of_errors_is_told_from_chance() -> None:
    rng = np.random.default_rng(0)
    fault = np.exp(0.3 * rng.standard_normal(3000))
    stated = fault * np.sqrt(rng.chisquare(8, (8, 3000)) / 8)
    for size, chance in ((40, 0.11), (200, 0.05)):  # 1 / sqrt(2 n), and 8 x 8 splits to 0.09
        found = Draws({"x_se": stated}, {"x": rng.standard_normal((size, 3000))})
        own = calibration(found).loc["x_se"]
        assert own["own"] == pytest.approx(0.3, abs=0.02)
        assert own["chance"] == pytest.approx((chance**2 + 0.09**2) ** 0.5, abs=0.02)
        assert own["median"] == pytest.approx(1, abs=0.03)


@pytest.fixture(scope="module")
def cifar100(request: pytest.FixtureRequest) -> ImageData:
    given = Path(os.environ.get("PRUNEVIZ_IMAGES", ""))
    if not (given / "cifar-100-python").is_dir():
        given = request.getfixturevalue("cifar_root")
    return load_dataset("cifar100", root=given)


def cifar_networks(data: ImageData) -> Iterator[tuple[str, nn.Module]]:
    """Networks at initialisation and after training."""
    folder = os.environ.get("PRUNEVIZ_STATISTICS")
    if folder is None:
        yield from _trained_here(data)
        return
    for run in sorted(path.parent for path in Path(folder).glob("*/spec.json")):
        spec, epochs = read_spec(run), kept_epochs(run)
        for epoch in (epochs[0], epochs[-1]):
            network = build_network(str(spec.network), num_classes=100, width=float(spec.width))
            load_kept_weights(network, run, epoch)
            yield f"{spec.network} {epoch}", network


def _trained_here(data: ImageData) -> Iterator[tuple[str, nn.Module]]:
    torch.manual_seed(0)
    network = build_network("vgg13", num_classes=100, width=1 / 8)
    yield "vgg13 0", network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for batch in torch.randperm(len(data.train_labels)).split(128):
        optimizer.zero_grad()
        x, y = normalise(data.train_images[batch]), data.train_labels[batch]
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    yield "vgg13 1", network


@pytest.mark.statistics
@pytest.mark.timeout(7200)
def test_stated_errors_are_those_of_fresh_samples_of_cifar100(cifar100: ImageData) -> None:
    found = {}
    for name, network in cifar_networks(cifar100):
        sample = partial(balanced_sample, cifar100, 2)
        found[name] = calibration(draws(network, sample, stated=10, actual=40))
        report(f"{name}\n{found[name].round(2).to_string()}")
    table = pd.concat(found)
    table = table[table.index.isin(ERRORS, level=1)]
    # 1.25 at most, beside what chance explains
    assert (np.log(table["median"]).abs() < np.log(1.25) + 2 * table["median_se"]).all(), table
    assert (table["own"] < 0.2).all(), table


def ratios_report(name: str, found: Ratios) -> None:
    """Write the ratios of small networks."""
    report(
        "\n".join(
            f"{name} {error}: median {own.median():.2f}, {own.between(0.8, 1.25).mean():.0%} "
            f"within 0.8 to 1.25, {own.min():.2f} to {own.max():.2f}"
            for error, own in found.items()
        )
    )


def report(text: str) -> None:
    """Write where PRUNEVIZ_STATISTICS_REPORT says."""
    file = os.environ.get("PRUNEVIZ_STATISTICS_REPORT")
    if file is not None:
        with Path(file).open("a", encoding="utf-8") as out:
            out.write(f"{text}\n")
