"""Small networks trained on digits, and how much columns really vary over fresh samples of them.

All with plain autograd. The population is the digits themselves, drawn with replacement, so that
the spread over fresh samples is known as well as one likes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import pruneviz as pv

CLASSES = 10
Sample = tuple[Tensor, Tensor]


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
    weights = [p for p in network.parameters() if p.requires_grad]
    x, y = sample
    loss = F.cross_entropy(network(x), y)
    g = torch.autograd.grad(loss, weights, create_graph=True)
    bend = sum((a * a.detach()).sum() for a in g)
    hg = torch.autograd.grad(bend, weights)
    filters = [i for i, p in enumerate(weights) if p.ndim > 1][:-1]
    parts = {
        "theta_g": [weights[i] * g[i] for i in filters],
        "abs_theta_g": [(weights[i] * g[i]).abs() for i in filters],
        "theta_hg": [weights[i] * hg[i] for i in filters],
    }
    return {
        name: torch.cat([own.detach().double().flatten(1).sum(1) for own in found]).numpy()
        for name, found in parts.items()
    }


def spread(
    network: nn.Module, draw: Callable[[int], Sample], samples: int
) -> dict[str, np.ndarray]:
    """The standard deviation of every value over fresh samples, by column."""
    found = [values(network, draw(seed)) for seed in range(samples)]
    return {name: np.std([own[name] for own in found], axis=0, ddof=1) for name in found[0]}


def ratios(
    name: str, epochs: int, design: str, examples: int, *, stated: int, actual: int
) -> pd.DataFrame:
    """Stated standard errors over the actual spread: one row per filter that is not dead.

    Args:
        name: Network.
        epochs: Epochs that it was trained for.
        design: How samples are drawn.
        examples: Their size.
        stated: Number of samples over which the stated error is averaged.
        actual: Number of fresh samples whose spread is the actual one.
    """
    network = trained(name, epochs)
    tables = [
        pv.measure(network, drawn(design, examples, 10_000 + seed), errors="full", seed=seed)
        for seed in range(stated)
    ]
    spreads = spread(network, lambda seed: drawn(design, examples, seed), actual)
    found = {}
    for error in ("theta_g_se", "abs_theta_g_se", "theta_hg_se", "theta_hg_se_given_g"):
        mean = np.sqrt(np.mean([np.square(table[error].to_numpy()) for table in tables], axis=0))
        actual_spread = spreads[error.partition("_se")[0]]
        alive = actual_spread > 0
        found[error] = np.divide(mean, actual_spread, where=alive, out=np.full(len(mean), np.nan))
    return pd.DataFrame(found).dropna()
