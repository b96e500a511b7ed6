"""Measures of one's own, in a module that other processes can import."""

from __future__ import annotations

import pandas as pd

from pruneviz.analysis.measures import Measure


def half_gradient(filters: pd.DataFrame) -> pd.Series:
    return filters["theta_g"] / 2


half_gradient.needs = ["theta_g"]  # type: ignore[attr-defined]


def reads_what_it_does_not_name(filters: pd.DataFrame) -> pd.Series:
    return filters["theta_hg"]


reads_what_it_does_not_name.needs = ["theta_g"]  # type: ignore[attr-defined]


def fails_late(filters: pd.DataFrame) -> pd.Series:
    if filters["run"].iloc[0] == "vgg13-digits-s1" and filters["epoch"].iloc[0] > 3:
        raise {}["no such key"]
    return filters["theta_g"]


fails_late.needs = ["run", "epoch", "theta_g"]  # type: ignore[attr-defined]


def nameless() -> Measure:
    """A measure that no other process can have."""
    return Measure("nameless", lambda filters: filters["theta_g"], ("theta_g",))
