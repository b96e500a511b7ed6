"""Recordings made up in memory, with the shape, signs and range of real ones: values over ten decades, several networks and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.runlog import RunLog, Runs
from pruneviz.schema import EPOCHS, FILTERS, ROUNDS, RunSpec

LAYERS: Mapping[str, tuple[int, ...]] = {
    "vgg13": (8, 8, 16, 16, 24, 24, 32, 32, 32, 32),
    "mobilenet_v1": (6, 8, 8, 12, 12, 16, 16, 24, 24, 24),
    "resnet56": (4,) * 19 + (6,) * 19 + (8,) * 19,
}
SMALL: Mapping[str, tuple[int, ...]] = {network: layers[::3] for network, layers in LAYERS.items()}
MOBILENET_FILTERS = (32, 32, 64, 64, 128, 128, 128, 128, 256, 256, 256, *(256, *(512,) * 11), *(512, 1024, 1024, 1024))


def make_runs(
    networks: Mapping[str, Sequence[int]] = LAYERS,
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 16,
    every: int = 4,
    dataset: str = "digits",
    **facts: Any,
) -> Runs:
    """Runs of each network and seed; derivative columns at every `every`-th epoch and at the last; `facts` go into the spec."""
    specs, filters, rows = [], [], []
    for network, layers in networks.items():
        for seed in seeds:
            run = f"{network}-{dataset}-s{seed}"
            known = {"network": network, "dataset": dataset, "seed": seed, "epochs": epochs, "preset": "digits", "sample_size": 500}
            specs.append(RunSpec.from_dict({"run": run, **known, **facts}).to_dict())
            filters.append(_filters(layers, seed, epochs, every).assign(run=run))
            rows.append(pd.DataFrame({"run": run, "epoch": range(epochs + 1)}))
    return Runs(pd.DataFrame(specs), _table(rows, EPOCHS), _table(filters, FILTERS), pd.DataFrame(columns=list(ROUNDS)))


def save_runs(runs: Runs, folder: Path, unfinished: Sequence[str] = ()) -> None:
    """Write recordings to disk as the recorder would; those named `unfinished` are not sealed."""
    for facts in runs.spec.to_dict("records"):
        spec = RunSpec.from_dict({name: value for name, value in facts.items() if not (isinstance(value, float) and np.isnan(value))})
        log = RunLog.create(folder / spec.run, spec)
        mine = {name: table[table["run"] == spec.run] for name, table in (("epochs", runs.epochs), ("filters", runs.filters))}
        for epoch, rows in mine["epochs"].groupby("epoch"):
            log.append(int(epoch), epochs=rows, filters=mine["filters"][mine["filters"]["epoch"] == epoch])
        if spec.run not in unfinished:
            log.seal()


def _table(parts: Sequence[pd.DataFrame], columns: Mapping[str, Any]) -> pd.DataFrame:
    table = pd.concat(parts, ignore_index=True).reindex(columns=list(columns))
    return table.astype({name: "category" for name in ("run", "layer", "phase") if name in columns})


def _filters(layers: Sequence[int], seed: int, epochs: int, every: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    names = np.repeat([f"features.{index}.conv" for index in range(len(layers))], layers)
    keys = pd.DataFrame({"layer": names, "filter": np.concatenate([np.arange(count) for count in layers]), "kept": True})
    depth = np.repeat(np.linspace(0, 1, len(layers)), layers)
    sigma, parts = np.ones(len(keys)), []
    for epoch in range(epochs + 1):
        step = 0.0 if epoch == 0 else 0.2 * np.exp(-3 * epoch / epochs) + 0.002
        delta = step * random.standard_normal(len(keys)) * 10 ** random.uniform(-1, 0, len(keys))
        sigma = sigma + delta
        cheap = keys.assign(epoch=epoch, sigma=sigma, sigma_delta=delta if epoch else np.nan, theta_norm2=random.gamma(2, 1, len(keys)))
        measured = epoch % every == 0 or epoch == epochs
        parts.append(cheap.assign(**_derivatives(random, depth, sigma * delta, epoch / epochs)) if measured else cheap)
    return pd.concat(parts, ignore_index=True)


def _derivatives(random: np.random.Generator, depth: np.ndarray, change: np.ndarray, progress: float) -> dict[str, np.ndarray]:
    """Signed values over some ten decades whose two quantities agree in sign, mostly, and in size, roughly."""
    size = 10 ** (-2 - 2 * progress - 3 * depth + 1.3 * random.standard_normal(len(depth)))
    theta_g = np.where(random.random(len(depth)) < 0.3, -1, 1) * size
    theta_g[random.random(len(depth)) < 0.01] = 0.0  # dead filters
    sign = np.where(random.random(len(depth)) < 0.1, -1, 1)
    theta_hg = sign * theta_g * 10 ** (0.5 - progress + (0.3 + 0.4 * progress) * random.standard_normal(len(depth)))
    moved = np.abs(change) / max(float(np.abs(change).max()), 1e-12)
    abs_theta_g = np.abs(theta_g) + 1e-3 * (progress * moved + (1 - 0.7 * progress) * random.random(len(depth)))
    return {"theta_g": theta_g, "theta_hg": theta_hg, "abs_theta_g": abs_theta_g, "theta2_abs_g": abs_theta_g**1.5}
