"""Recordings of odd networks, made up in memory: few rows, ties, nulls, names that mean harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import Runs
from pruneviz.log.schema import EPOCHS, ROUNDS


def one_run(
    layers: Mapping[str, int],
    columns: Mapping[str, Any],
    epochs: Sequence[int] = (0, 1, 2),
    name: str = "odd",
    curves: Mapping[str, Any] | None = None,
    **facts: Any,
) -> Runs:
    """A run of given columns.

    Args:
        layers: Number of rows of each layer.
        columns: Values [epoch, row] of each column, or what broadcasts to it.
        epochs: Recorded epochs.
        name: Name of the run; any text.
        curves: Values [epoch] of columns of the epochs table.
        facts: Further facts of the spec.
    """
    count = sum(layers.values())
    shape = (len(epochs), count)
    rows = pd.DataFrame(
        {
            "run": name,
            "epoch": np.repeat(epochs, count),
            "layer": np.tile(np.repeat(list(layers), list(layers.values())), len(epochs)),
            "filter": np.tile(np.concatenate([np.arange(n) for n in layers.values()]), len(epochs)),
            "kept": True,
            **{key: np.broadcast_to(held, shape).reshape(-1) for key, held in columns.items()},
        }
    ).astype({"run": "category", "layer": "category"})
    spec = RunSpec.from_dict({"run": "odd", **facts}).to_dict() | {"run": name}
    told = pd.DataFrame({"run": name, "epoch": list(epochs), **(curves or {})})
    return Runs(
        pd.DataFrame([spec]),
        told.reindex(columns=list(dict.fromkeys([*EPOCHS, *told.columns]))),
        rows,
        pd.DataFrame(columns=list(ROUNDS)),
    )


def pruned_run(seed: int = 0, count: int = 40, epochs: int = 5, **facts: Any) -> Runs:
    """A run with ties and nulls that prunes: pruned rows lose their derivatives, but keep norms."""
    random = np.random.default_rng(seed)
    shape = (epochs, count)
    gone = np.sort(random.random(count))[None] < 0.12 * np.arange(epochs)[:, None]
    gone = gone[:, random.permutation(count)]
    norm = random.integers(1, 9, shape).astype("float32")  # ties
    theta_g = (random.standard_normal(shape) * 10.0 ** random.integers(-6, 3, shape)).astype(
        "float32"
    )
    theta_g[gone] = np.nan
    theta_g[:, 3] = np.nan  # a row that never has one
    theta_g[2, 5] = np.nan  # and one without it at one epoch
    return one_run(
        {"a": count // 2, "b": count - count // 2},
        {
            "kept": ~gone,
            "theta_norm2": norm,
            "theta_g": theta_g,
            "abs_theta_g": np.abs(theta_g) * 2,
            "theta_hg": theta_g * random.standard_normal(shape).astype("float32"),
        },
        tuple(range(epochs)),
        **facts,
    )


def beside(*recordings: Runs) -> Runs:
    """Several recordings as one, with all their columns."""
    tables = [
        pd.concat([getattr(runs, name) for runs in recordings], ignore_index=True)
        for name in ("spec", "epochs", "filters")
    ]
    return Runs(*tables, pd.DataFrame(columns=list(ROUNDS)))
