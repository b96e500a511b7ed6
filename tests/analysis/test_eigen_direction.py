"""The share of theta_hg that follows if the gradient is an eigenvector of the Hessian."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import AnalysisError
from tests.support.synthetic_runs import SMALL, make_runs


def recorded(target: torch.Tensor, out: Path, **measuring: object) -> pv.Runs:
    """A run of a linear network with squared error, whose loss is quadratic: H = X^T X / n."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4, bias=False)).double()
    x = torch.eye(3, dtype=torch.float64).repeat(2, 1) * 3**0.5  # H is a multiple of the identity
    with pv.Recorder(
        model,
        (x, target),
        out,
        loss=nn.functional.mse_loss,
        temperatures=1.0,
        classifier=True,
        **measuring,
    ) as recorder:
        recorder.after_epoch(0)
    return pv.load(out)


def test_a_hessian_that_is_a_multiple_of_the_identity_gives_share_and_cosine_one(
    tmp_path: Path,
) -> None:
    target = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    runs = recorded(target, tmp_path / "run", columns=["default", "hg_norm2"])
    (row,) = pv.eigen_share(runs).to_dict("records")
    # mean over 6 x 4 outputs of squares: H = 2/24 x^T x per neuron, x^T x = 6 identity
    assert row["rayleigh"] == pytest.approx(0.5, rel=1e-12)
    assert row["cosine"] == pytest.approx(1, rel=1e-12)
    assert row["share"] == pytest.approx(1, abs=1e-9)
    assert row["n"] == 4
    facts = runs.epochs.iloc[0]
    assert facts["hg_norm2"] == pytest.approx(runs.filters["hg_norm2"].sum(), rel=1e-6)


def test_without_the_column_the_cosine_is_null_and_the_share_stands(tmp_path: Path) -> None:
    runs = recorded(torch.ones(6, 4, dtype=torch.float64), tmp_path / "run")
    row = pv.eigen_share(runs).iloc[0]
    assert np.isnan(row["cosine"])
    assert np.isnan(runs.epochs["hg_norm2"]).all()
    assert row["share"] == pytest.approx(1, abs=1e-9)


def test_the_share_is_that_of_a_plain_calculation_and_falls_with_unrelated_parts() -> None:
    runs = make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0, 1), epochs=4)
    epochs = runs.epochs.assign(g_norm2=2.0, ghg=6.0, hg_norm2=24.0)
    random = np.random.default_rng(0)
    theta_g = random.normal(size=len(runs.filters))
    filters = runs.filters.assign(theta_g=theta_g, theta_hg=3 * theta_g)
    noisy = filters.assign(theta_hg=3 * theta_g + random.normal(size=len(filters)))
    exact, other = (
        pv.eigen_share(pv.Runs(runs.spec, epochs, table, runs.rounds)) for table in (filters, noisy)
    )
    assert exact["share"].to_numpy() == pytest.approx(1)
    assert exact["cosine"].to_numpy() == pytest.approx(6 / 48**0.5)
    assert list(exact.columns) == ["run", "epoch", "n", "rayleigh", "cosine", "share"]
    one = noisy[(noisy["run"] == other["run"][0]) & (noisy["epoch"] == other["epoch"][0])]
    rest = one["theta_hg"] - 3 * one["theta_g"]
    assert other["share"][0] == pytest.approx(1 - rest.var() / one["theta_hg"].var())
    assert (other["share"] < 0.97).all()


def test_a_table_has_no_facts_of_a_whole_network() -> None:
    with pytest.raises(AnalysisError, match=r"eigen_share takes runs, not DataFrame"):
        pv.eigen_share(pd.DataFrame())
