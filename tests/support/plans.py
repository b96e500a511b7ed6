"""A tiny plan, and plans that differ in a few options, those of pruning included."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pruneviz.log.pruning_options import OPTION_NAMES, PruningOptions
from pruneviz.plans.run_plan import RunPlan

# A run of a second: VGG-13 of a sixteenth of its width, on 60 digits.
UNPRUNED = RunPlan(
    run="vgg13-digits-unpruned-s0",
    preset="tiny",
    network="vgg13",
    dataset="digits",
    seed=0,
    epochs=2,
    lr_drops=(1,),
    batch_size=32,
    augment=False,
    width=0.0625,
    every=1,
    sample_per_class=1,
    train_per_class=6,
    test_per_class=4,
)


def changed(plan: RunPlan, **changes: Any) -> RunPlan:
    """The plan with other values of its fields, or of the fields of its pruning options."""
    options = {name: value for name, value in changes.items() if name in OPTION_NAMES}
    others = {name: value for name, value in changes.items() if name not in OPTION_NAMES}
    if options:
        before = plan.pruning
        others["pruning"] = replace(before, **options) if before else PruningOptions(**options)
    return replace(plan, **others)
