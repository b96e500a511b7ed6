"""Recordings made up in memory, with the shape, signs and range of real ones.

`make_runs` makes unpruned runs (`unit="weight"`: measured by single weights), `make_pruned_runs`
pruned ones; `together` joins recordings, and `save_runs` writes them to disk.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import Runs
from pruneviz.log.schema import EPOCHS, FILTERS, ROUNDS, TABLES
from pruneviz.plans.needs import CURVE_MEASURES, RATIO_MEASURES

LAYERS: Mapping[str, tuple[int, ...]] = {
    "vgg13": (8, 8, 16, 16, 24, 24, 32, 32, 32, 32),
    "mobilenet_v1": (6, 8, 8, 12, 12, 16, 16, 24, 24, 24),
    "resnet56": (4,) * 19 + (6,) * 19 + (8,) * 19,
}
SMALL: Mapping[str, tuple[int, ...]] = {network: layers[::3] for network, layers in LAYERS.items()}
# Filters per layer of MobileNet-V1 at full width, depthwise and pointwise.
MOBILENET_FILTERS = (
    *(32,) * 2,
    *(64,) * 2,
    *(128,) * 4,
    *(256,) * 4,
    *(512,) * 12,
    *(1024,) * 3,
)


def make_runs(
    networks: Mapping[str, Sequence[int]] = LAYERS,
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 16,
    every: int = 4,
    dataset: str = "digits",
    **facts: Any,
) -> Runs:
    """Unpruned runs of each network and seed.

    Args:
        networks: Number of filters of each layer, by network.
        seeds: Seeds of the runs.
        epochs: Epochs trained.
        every: Derivative columns stand at every `every`-th epoch and at the last.
        dataset: Name of the data set.
        facts: Further facts of the spec.
    """
    specs, filters, rows = [], [], []
    kind = "-weights" if facts.get("unit") == "weight" else ""
    for (network, layers), seed in itertools.product(networks.items(), seeds):
        run = f"{network}-{dataset}{kind}-s{seed}"
        known = {
            "network": network,
            "dataset": dataset,
            "seed": seed,
            "epochs": epochs,
            "preset": "digits",
            "sample_size": 500,
        }
        specs.append(RunSpec.from_dict({"run": run, **known, **facts}).to_dict())
        filters.append(_filters(layers, seed, epochs, every).assign(run=run))
        rows.append(pd.DataFrame({"run": run, "epoch": range(epochs + 1)}))
    return Runs(
        pd.DataFrame(specs),
        _table(rows, EPOCHS),
        _table(filters, FILTERS),
        pd.DataFrame(columns=list(ROUNDS)),
    )


def make_pruned_runs(
    networks: Mapping[str, Sequence[int]] = SMALL,
    measures: Sequence[str] = CURVE_MEASURES,
    rounds: Sequence[int] = (5,),
    datasets: Sequence[str] = ("digits",),
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 16,
    target: float = 0.6,
    prune_phase_only: bool = False,
    **facts: Any,
) -> Runs:
    """Runs pruned in rounds, one for each combination, without filters.

    Args:
        networks: Number of filters of each layer, by network.
        measures: Pruning measures.
        rounds: Numbers of rounds.
        datasets: Names of data sets.
        seeds: Seeds of the runs.
        epochs: Epochs trained.
        target: Fraction of the filters to prune.
        prune_phase_only: End with the last round.
        facts: Further facts of the spec.
    """
    specs, rows, pruned = [], [], []
    for network, dataset, count, measure, seed in itertools.product(
        networks, datasets, rounds, measures, seeds
    ):
        last = count if prune_phase_only else epochs
        kind = "-prunephase" if prune_phase_only else ""
        run = f"{network}-{dataset}-{measure.replace('_', '')}-r{count}{kind}-s{seed}"
        known = {
            "network": network,
            "dataset": dataset,
            "seed": seed,
            "epochs": last,
            "preset": "digits",
            "measure": measure,
            "target": target,
            "rounds": count,
            "prune_phase_only": prune_phase_only,
            "schedule": "published",
            "keep_at_least": 0.05,
            "augment": False,
        }
        specs.append(RunSpec.from_dict({"run": run, **known, **facts}).to_dict())
        layers = networks[network]
        random = np.random.default_rng([seed, count, len(measure), len(dataset)])
        kept = _kept_by_round(layers, measure, count, target, random)
        fraction = kept.groupby("epoch")["kept"].sum() / sum(layers)
        rows.append(_accuracies(random, measure, dataset, last, fraction).assign(run=run))
        pruned.append(kept.assign(run=run))
    return Runs(
        pd.DataFrame(specs),
        _table(rows, EPOCHS),
        pd.DataFrame(columns=list(FILTERS)),
        _table(pruned, ROUNDS),
    )


def together(*recordings: Runs) -> Runs:
    """Several recordings as one."""
    spec = pd.concat([runs.spec for runs in recordings], ignore_index=True)
    tables = {}
    for name, columns in TABLES.items():
        parts = [getattr(runs, name) for runs in recordings]
        tables[name] = _table([part for part in parts if len(part)], columns)
    return Runs(spec, **tables)


def renamed(runs: Runs, end: str) -> Runs:
    """The same runs, with `end` after their names."""
    spec = runs.spec.assign(run=runs.spec["run"] + end)
    tables = {name: getattr(runs, name) for name in TABLES}
    named = {name: held.assign(run=held["run"].astype(str) + end) for name, held in tables.items()}
    return replace(runs, spec=spec, **named)


def with_coupled_layers(runs: Runs) -> Runs:
    """The same runs with a depthwise layer after each layer but the last, coupled to it."""
    own = runs.rounds.assign(layer_index=2 * runs.rounds["layer_index"])
    fed = own[own["layer_index"] < own["layer_index"].max()]
    names = fed["layer"].astype(str)
    fed = fed.assign(
        layer_index=fed["layer_index"] + 1,
        layer=names.str.replace("conv", "depthwise"),
        coupled_to=names,
    )
    rounds = pd.concat([own.astype({"layer": "str"}), fed], ignore_index=True)
    as_loaded = {"layer": "category", "coupled_to": "category"}
    return replace(runs, rounds=rounds.astype(as_loaded))


def runs_of_every_kind() -> Runs:
    """Runs of every kind, on several data sets."""
    return together(
        make_runs(SMALL, seeds=(0,), epochs=4),
        make_runs(SMALL, seeds=(0,), epochs=4, unit="weight"),
        make_pruned_runs(rounds=(1, 5), datasets=("mine", "cifar100", "cifar10"), seeds=(0,)),
        make_pruned_runs(
            measures=RATIO_MEASURES, rounds=(1, 5, 25), seeds=(0,), prune_phase_only=True
        ),
    )


def save_runs(runs: Runs, folder: Path, unfinished: Sequence[str] = ()) -> None:
    """Write recordings to disk as the recorder would; those named `unfinished` are not sealed."""
    for facts in runs.spec.to_dict("records"):
        known = {name: value for name, value in facts.items() if not _is_nan(value)}
        spec = RunSpec.from_dict(known)
        log = RunLog.create(folder / spec.run, spec)
        tables = {name: getattr(runs, name) for name in TABLES}
        mine = {name: table[table["run"] == spec.run] for name, table in tables.items()}
        for epoch in sorted(set(mine["epochs"]["epoch"])):
            rows = {name: table[table["epoch"] == epoch] for name, table in mine.items()}
            log.append(int(epoch), **{name: part for name, part in rows.items() if len(part)})
        if spec.run not in unfinished:
            log.seal()


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and np.isnan(value)


def _table(parts: Sequence[pd.DataFrame], columns: Mapping[str, Any]) -> pd.DataFrame:
    table = pd.concat(parts or [pd.DataFrame()], ignore_index=True).reindex(columns=list(columns))
    as_loaded = [name for name in ("run", "layer", "phase") if name in columns]
    return table.astype(dict.fromkeys(as_loaded, "category"))


def _kept_by_round(
    layers: Sequence[int], measure: str, rounds: int, target: float, random: np.random.Generator
) -> pd.DataFrame:
    """A rounds table; every round takes equally many filters.

    Some measures take more of the early layers, others more of the late ones.
    """
    lean = {"magnitude": 0.6, "grasp": -0.9}.get(measure, 0.2)
    by_depth = 1 + lean * np.linspace(-0.5, 0.5, len(layers))
    share = target * by_depth * random.uniform(0.97, 1.03, len(layers))
    names = [f"features.{index}.conv" for index in range(len(layers))]
    whole = pd.DataFrame({"layer": names, "layer_index": range(len(layers)), "filters": layers})
    parts = []
    for count in range(1, rounds + 1):
        left = np.round(np.array(layers) * (1 - share * count / rounds))
        kept = np.maximum(1, left).astype(int)
        parts.append(whole.assign(round=count, epoch=count, kept=kept))
    return pd.concat(parts, ignore_index=True)


def _accuracies(
    random: np.random.Generator, measure: str, dataset: str, epochs: int, kept: pd.Series
) -> pd.DataFrame:
    """An epochs table: accuracies rise, magnitude first, with a dent where a round has pruned."""
    pace = {"magnitude": 4.0, "proposed": 3.0}.get(measure, 2.2) * random.uniform(0.95, 1.05)
    epoch = np.arange(epochs + 1)
    dent = np.where(np.isin(epoch, kept.index), 0.05, 0.0)
    rise = 1 - np.exp(-pace * epoch / epochs)
    best, chance = {"cifar100": (0.6, 0.01)}.get(dataset, (0.9, 0.1))
    test = chance + (best - chance) * rise * (1 - dent) + 0.004 * random.standard_normal(len(epoch))
    train = np.where(epoch == 0, np.nan, np.minimum(test + 0.06 * rise, 1))
    fraction = kept.reindex(epoch).ffill().fillna(1.0).to_numpy()
    return pd.DataFrame(
        {"epoch": epoch, "train_acc": train, "test_acc": test, "kept_fraction": fraction}
    )


def _filters(layers: Sequence[int], seed: int, epochs: int, every: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    count = sum(layers)
    keys = pd.DataFrame(
        {
            "layer": np.repeat([f"features.{index}.conv" for index in range(len(layers))], layers),
            "filter": np.concatenate([np.arange(filters) for filters in layers]),
            "kept": True,
        }
    )
    depth = np.repeat(np.linspace(0, 1, len(layers)), layers)
    sigma, parts = np.ones(count), []
    for epoch in range(epochs + 1):
        step = 0.0 if epoch == 0 else 0.2 * np.exp(-3 * epoch / epochs) + 0.002
        delta = step * random.standard_normal(count) * 10 ** random.uniform(-1, 0, count)
        sigma = sigma + delta
        rows = keys.assign(
            epoch=epoch,
            sigma=sigma,
            sigma_delta=delta if epoch else np.nan,
            theta_norm2=random.gamma(2, 1, count),
        )
        if epoch % every == 0 or epoch == epochs:
            rows = rows.assign(**_derivatives(random, depth, sigma * delta, epoch / max(1, epochs)))
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def _derivatives(
    random: np.random.Generator, depth: np.ndarray, change: np.ndarray, progress: float
) -> dict[str, np.ndarray]:
    """Signed values over some ten decades; theta_g and theta_hg mostly agree in sign and size."""
    size = 10 ** (-2 - 2 * progress - 3 * depth + 1.3 * random.standard_normal(len(depth)))
    theta_g = np.where(random.random(len(depth)) < 0.3, -1, 1) * size
    theta_g[random.random(len(depth)) < 0.01] = 0.0  # dead filters
    sign = np.where(random.random(len(depth)) < 0.1, -1, 1)
    spread = (0.3 + 0.4 * progress) * random.standard_normal(len(depth))
    theta_hg = sign * theta_g * 10 ** (0.5 - progress + spread)
    moved = np.abs(change) / max(float(np.abs(change).max()), 1e-12)
    noise = (1 - 0.7 * progress) * random.random(len(depth))
    abs_theta_g = np.abs(theta_g) + 1e-3 * (progress * moved + noise)
    return {
        "theta_g": theta_g,
        "theta_hg": theta_hg,
        "abs_theta_g": abs_theta_g,
        "theta2_abs_g": abs_theta_g**1.5,
    }
