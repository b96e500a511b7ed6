"""How much of theta_hg follows if the gradient is an eigenvector of the Hessian.

If H g = lambda g, then theta_p^T H g = lambda theta_p^T g for every filter, with
lambda = g^T H g / norm(g)^2, and the correlation of Figure 3 is 1 whatever the network.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.analysis.checks import require_columns
from pruneviz.errors import AnalysisError
from pruneviz.log.runs import Runs

_KEYS = ["run", "epoch"]
_FACTS = ["g_norm2", "ghg"]


def eigen_share(runs: Runs) -> pd.DataFrame:
    """Share of the variance of theta_hg over filters that lambda theta_g explains.

    Lambda is g^T H g / norm(g)^2 of the whole network; nothing is fitted.

    Args:
        runs: Recordings of filters or units with `theta_g` and `theta_hg`.

    Returns:
        One row per run and epoch with derivatives, sorted:

        - n: number of filters.
        - rayleigh: lambda, in nats/weight².
        - cosine: cos(g, Hg) = g^T H g / (norm(g) norm(Hg)); 1 if g is an eigenvector with a
          positive eigenvalue. Null if `hg_norm2` was not recorded (`columns="hg_norm2"`).
        - share: 1 - var(theta_hg - lambda theta_g) / var(theta_hg), over filters. 1 if g is an
          eigenvector; below 0 if lambda theta_g is further off than a constant. Null below 3
          filters, or if theta_hg is the same for all.

    Raises:
        AnalysisError: If these are no runs, or none has what is needed.

    Example:
        >>> pv.eigen_share(pv.load("data/cifar-mini"))
    """
    if not isinstance(runs, Runs):
        raise AnalysisError(
            f"eigen_share takes runs, not {type(runs).__name__}: g^T H g of the whole network "
            "stands in their epochs; pass what pruneviz.load returns"
        )
    rows = runs.with_columns("filters", [*_KEYS, "theta_g", "theta_hg"])
    needed = [*_KEYS, "theta_g", "theta_hg"]
    require_columns(rows, needed, "the filters table", "record it with these columns")
    require_columns(runs.epochs, _FACTS, "the epochs table", "record it with theta_hg")
    rows = rows.dropna(subset=["theta_g", "theta_hg"])
    facts = {
        (row["run"], row["epoch"]): row
        for row in runs.epochs.dropna(subset=_FACTS).to_dict("records")
    }
    found = [
        {"run": str(run), "epoch": epoch, **_of_one(group, facts[run, epoch])}
        for (run, epoch), group in rows.groupby(_KEYS, observed=True)
        if (run, epoch) in facts
    ]
    columns = [*_KEYS, "n", "rayleigh", "cosine", "share"]
    return pd.DataFrame(found, columns=columns).sort_values(_KEYS, ignore_index=True)


def _of_one(rows: pd.DataFrame, facts: Mapping[Hashable, Any]) -> dict[str, float]:
    """n, rayleigh, cosine and share of one run at one epoch."""
    g2, ghg = float(facts["g_norm2"]), float(facts["ghg"])
    hg2 = float(facts.get("hg_norm2", np.nan))
    rayleigh = ghg / g2 if g2 else float("nan")
    x, y = (rows[name].to_numpy("float64") for name in ("theta_g", "theta_hg"))
    spread = float(np.var(y))
    defined = len(y) >= 3 and spread > 0
    return {
        "n": len(y),
        "rayleigh": rayleigh,
        "cosine": ghg / np.sqrt(g2 * hg2) if g2 * hg2 > 0 else float("nan"),
        "share": 1 - float(np.var(y - rayleigh * x)) / spread if defined else float("nan"),
    }
