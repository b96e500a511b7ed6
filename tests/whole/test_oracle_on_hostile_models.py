"""The oracle on networks, losses and inputs that break naive passes: right, or refused by name."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import PrunevizError
from pruneviz.measuring.options import Options
from pruneviz.measuring.snapshot import take_snapshot
from tests.support import hostile_models, hostile_operations
from tests.support.hostile_models import Case

KINDS = {
    "loss": hostile_models.LOSSES,
    "target": hostile_models.TARGETS,
    "checkpointing": hostile_models.CHECKPOINTING,
    "cache": hostile_models.CACHES,
    "graph": hostile_operations.GRAPHS,
    "output": hostile_operations.OUTPUTS,
    "input": hostile_operations.INPUTS,
    "structure": hostile_operations.STRUCTURES,
}
CASES = {
    f"{kind}: {name}": case
    for kind, cases in KINDS.items()
    for name, case in cases.items()
    if not case.refused and "forward" not in case.options
}
CANNOT = "no filters|no layer is left|no filter that can be pruned|is not an nn.Module"


def loss_of(model: nn.Module, sample: Any, options: dict[str, Any]) -> float:
    """The loss of a network by whole passes, as recordings log it."""
    asked = Options.of(**{**options, "columns": "theta_g"})
    return take_snapshot(model, sample, asked, check=True).sample_loss


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_loss_of_the_masked_network_or_refused(name: str) -> None:
    case: Case = CASES[name]
    torch.manual_seed(0)
    model, sample = case.build(), case.sample()
    options = dict(case.options) if case.default_loss else {"loss": case.loss, **case.options}
    options = {"temperatures": 1.0, **options}
    options.pop("columns", None)
    try:
        table = pv.delta_loss(model, sample, filters=2, **options)
    except PrunevizError as error:
        assert re.search(CANNOT, str(error)), error
        return
    before = loss_of(model, sample, options)
    for row in table.itertuples():
        masked = copy.deepcopy(model)
        pv.Pruner(masked, sample[0]).prune_filters({row.layer: [row.filter]})
        wanted = loss_of(masked, sample, options) - before
        assert row.delta_loss == pytest.approx(wanted, abs=2e-6 * max(1.0, abs(before)))
