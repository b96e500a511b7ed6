"""Small networks trained on digits, and how much columns really vary over fresh samples of them.

All with plain autograd. The population is the digits themselves, drawn with replacement, so that
the spread over fresh samples is known as well as one likes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import pruneviz as pv

CLASSES = 10
ERRORS = ("theta_g_se", "abs_theta_g_se", "theta_hg_se")
Sample = tuple[Tensor, Tensor]
Ratios = pd.DataFrame


@functools.cache
def digits() -> Sample:
    """All 1,797 digits: images [N, 1, 8, 8] and labels."""
    data = load_digits()
    return torch.from_numpy(data.images[:, None] / 8 - 1).float(), torch.from_numpy(data.target)


def mlp() -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 24), nn.ReLU()),
        *(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, CLASSES)),
    )


def cnn() -> nn.Module:
    """Two convolutions with batch norms."""
    return nn.Sequential(
        *(nn.Conv2d(1, 12, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)),
    )


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {"mlp": mlp, "cnn": cnn}


@functools.cache
def trained(name: str, epochs: int) -> nn.Module:
    """A network after some epochs, in evaluation mode; running statistics fit its weights."""
    torch.manual_seed(0)
    network, (x, y) = NETWORKS[name](), digits()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        for _ in range(20):
            network(x)
    return network.eval()


def drawn(design: str, size: int, seed: int) -> Sample:
    """A sample of digits with replacement: "iid", or "balanced" with as many of every class."""
    (x, y), rng = digits(), np.random.default_rng(seed)
    if design == "iid":
        at = rng.integers(len(x), size=size)
    else:
        of_class = [np.flatnonzero(y.numpy() == label) for label in range(CLASSES)]
        at = np.concatenate([rng.choice(own, size // CLASSES) for own in of_class])
        rng.shuffle(at)
    return x[at], y[at]


def values(network: nn.Module, sample: Sample) -> dict[str, np.ndarray]:
    """theta_g, abs_theta_g and theta_hg of every filter, except those of the classifier."""
    names = [name for name, _ in network.named_parameters()]
    weights = list(network.parameters())
    x, y = sample
    g = torch.autograd.grad(F.cross_entropy(network(x), y), weights, create_graph=True)
    bend = torch.stack([(own * own.detach()).sum() for own in g]).sum()
    hg = torch.autograd.grad(bend, weights)
    filters = [i for i, name in enumerate(names) if weights[i].ndim > 1][:-1]
    parts = {
        "theta_g": [weights[i] * g[i] for i in filters],
        "abs_theta_g": [(weights[i] * g[i]).abs() for i in filters],
        "theta_hg": [weights[i] * hg[i] for i in filters],
    }
    return {
        name: torch.cat([own.detach().double().flatten(1).sum(1) for own in found]).numpy()
        for name, found in parts.items()
    }


@dataclass(frozen=True, eq=False)
class Draws:
    """Columns and their stated errors on samples drawn afresh.

    Attributes:
        stated: {error: [samples, rows]}, by `pv.measure`.
        actual: {column: [samples, rows]} on other samples, by plain autograd.
    """

    stated: Mapping[str, np.ndarray]
    actual: Mapping[str, np.ndarray]

    def every(self, other: int) -> Draws:
        """Every second sample, from the first (0) or the second (1)."""
        return Draws(
            {error: own[other::2] for error, own in self.stated.items()},
            {column: own[other::2] for column, own in self.actual.items()},
        )

    def ratios(self) -> Ratios:
        """Stated errors over the actual spread: one row per filter, null where it is dead."""
        found = {}
        for error, own in self.stated.items():
            spread = np.std(self.actual[error.partition("_se")[0]], axis=0, ddof=1)
            spread[spread == 0] = np.nan
            found[error] = np.sqrt(np.mean(np.square(own), axis=0)) / spread
        return pd.DataFrame(found)


def draws(network: nn.Module, draw: Callable[[int], Sample], *, stated: int, actual: int) -> Draws:
    """Measure fresh samples.

    Args:
        network: In evaluation mode; the last parameter with two dimensions or more is the
            classifier.
        draw: A fresh sample for every seed.
        stated: Number of samples of which the error is stated.
        actual: Number of further samples whose spread is the actual one.
    """
    network.eval()
    tables = [
        pv.measure(network, draw(actual + seed), errors="full", seed=seed) for seed in range(stated)
    ]
    fresh = [values(network, draw(seed)) for seed in range(actual)]
    return Draws(
        {
            error: np.array([table[error].to_numpy(dtype=float) for table in tables])
            for error in (*ERRORS, "theta_hg_se_given_g")
        },
        {column: np.array([own[column] for own in fresh]) for column in fresh[0]},
    )


def calibration(found: Draws) -> pd.DataFrame:
    """What of the ratios is the errors' own fault, and what is chance of the samples drawn.

    The ratios of every other sample and those of the rest share the fault, not the chance.

    Returns:
        One row per error: `median` of the ratios and `median_se` of its logarithm (jackknife over
        samples); `within`, the share from 0.8 to 1.25; `chance` and `own`, the standard deviations
        over rows of the two parts of the logarithm.
    """
    # zeros say nothing: a half of the samples in which a filter answers to no image
    halves = [np.log(found.every(other).ratios().replace(0, np.nan)) for other in (0, 1)]
    whole, rows = found.ratios(), []
    for error in whole:
        pair = pd.concat([half[error] for half in halves], axis=1, keys=["a", "b"]).dropna()
        rows.append(
            {
                "error": error,
                "median": whole[error].median(),
                "median_se": _jackknife(found, error),
                "within": whole[error].dropna().between(0.8, 1.25).mean(),
                "chance": (pair["a"] - pair["b"]).std() / 2,
                "own": max(pair["a"].cov(pair["b"]), 0) ** 0.5,
            }
        )
    return pd.DataFrame(rows).set_index("error")


def _jackknife(found: Draws, error: str) -> float:
    """The standard error of the logarithm of the median ratio: all rows share the samples."""
    stated, actual = found.stated[error], found.actual[error.partition("_se")[0]]

    def median(stated: np.ndarray, actual: np.ndarray) -> float:
        own = Draws({"x_se": stated}, {"x": actual}).ratios()["x_se"]
        return np.log(own.median())

    without = (
        [median(np.delete(stated, i, 0), actual) for i in range(len(stated))],
        [median(stated, np.delete(actual, i, 0)) for i in range(len(actual))],
    )
    return sum((len(own) - 1) * np.var(own) for own in without) ** 0.5


def digit_ratios(
    name: str, epochs: int, design: str, examples: int, *, stated: int, actual: int
) -> Ratios:
    """The ratios of a small network after some epochs, on digits drawn by a design."""
    found = draws(
        trained(name, epochs),
        lambda seed: drawn(design, examples, seed),
        stated=stated,
        actual=actual,
    )
    return found.ratios().dropna()
