"""obd against the diagonal of a dense Hessian, and its probes one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pruneviz as pv
from tests.support.cases import BY_NAME, digit_batches
from tests.support.reference import Twin, sample_of


def diagonal(twin: Twin, layer: str) -> Tensor:
    """1/2 sum_j theta_j^2 H_jj of every filter, from a dense Hessian."""
    at = twin.positions(f"{layer}.weight").flatten(1)
    return 0.5 * (twin.theta[at].square() * twin.hessian(1.0).diagonal()[at]).sum(1)


@pytest.mark.parametrize(
    ("name", "bn"), [("residual", "eval"), ("grouped", "batch"), ("concatenated", "calibrated")]
)
def test_probes_approach_the_diagonal_of_the_hessian(name: str, bn: str) -> None:
    case, batches = BY_NAME[name], sample_of(bn)
    table = pv.measure(case.model(), batches, bn=bn, columns=["obd", "obd_se"], probes=120)
    twin = Twin(case.model(), batches, bn)
    want = torch.cat([diagonal(twin, layer) for layer in case.layers]).numpy()
    far = (table["obd"] - want).abs() / table["obd_se"]
    assert far.max() < 4.5 and (far < 2).mean() > 0.85
    assert np.corrcoef(table["obd"], want)[0, 1] > 0.8


def test_a_probe_is_a_seeded_product_with_the_hessian() -> None:
    case, batches = BY_NAME["plain"], sample_of("eval")
    table = pv.measure(case.model(), batches, columns=["obd", "obd_se"], probes=1, seed=3)
    twin, signs = Twin(case.model(), batches), torch.Generator().manual_seed(3)
    probe = torch.zeros_like(twin.theta)
    for layer in case.layers:
        at = twin.positions(f"{layer}.weight")
        drawn = torch.randint(0, 2, at.shape, generator=signs) * 2 - 1
        probe[at] = twin.theta[at] * drawn
    product = probe * (twin.hessian(1.0) @ probe) / 2
    want = [product[p].sum() for layer in case.layers for p in twin.positions(f"{layer}.weight")]
    np.testing.assert_allclose(table["obd"], want, rtol=1e-9, atol=1e-15)
    assert table["obd_se"].isna().all()


def test_single_weights_add_up_to_filters() -> None:
    model, batches = BY_NAME["conv_bn_relu"].model(), digit_batches((6,))
    given: dict[str, Any] = {"columns": "obd", "probes": 3}
    rows = pv.measure(model, batches, unit="weight", **given)
    filters = pv.measure(model, batches, **given)
    summed = rows.groupby(["layer", "filter"], observed=True, sort=False)["obd"].sum()
    np.testing.assert_allclose(summed, filters["obd"], rtol=1e-9)
