"""Tiny runs that are recorded by an engine, and compared with those of one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

import pruneviz as pv
from pruneviz.engines.engine import LOCAL, Engine
from pruneviz.experiment.campaign import record_runs
from pruneviz.experiment.setting import Setting
from pruneviz.plans.run_plan import RunPlan
from tests.support.plans import UNPRUNED

# Facts that tell when and how fast a run was recorded.
_TIMES = ("created", "wall_seconds", "table_files", "run_id")


def plans_of(count: int, epochs: int) -> list[RunPlan]:
    """Plans that differ in their seed."""
    return [replace(UNPRUNED, run=f"r{seed}", seed=seed, epochs=epochs) for seed in range(count)]


def record_on(engine: Engine, plans: Sequence[RunPlan], out: Path, at_once: int = 9) -> list[str]:
    """Record plans on one thread each; returns what is said."""
    said: list[str] = []
    record_runs(plans, Setting(out, threads=1), at_once, said.append, engine)
    return said


def assert_as_local(out: Path, plans: Sequence[RunPlan], folder: Path) -> None:
    """Compare recordings with those of this machine, to the bit, and look for what is left.

    Args:
        out: Folder of the recordings.
        plans: Their plans.
        folder: An empty folder, for the runs to compare with.
    """
    record_on(LOCAL, plans, folder, at_once=2)
    assert sorted(path.name for path in out.iterdir()) == [plan.run for plan in plans]
    for plan in plans:
        found, expected = content(out / plan.run), content(folder / plan.run)
        assert found[1] == expected[1]
        for table, frame in expected[0].items():
            pd.testing.assert_frame_equal(found[0][table], frame, check_exact=True, obj=plan.run)


def content(path: str | Path) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The tables and facts of a run, but for times."""
    runs = pv.load(path, unfinished="error")
    tables = {
        table: getattr(runs, table).drop(columns="seconds", errors="ignore")
        for table in ("epochs", "filters", "rounds", "correlations")
    }
    facts = runs.spec.drop(columns=[*_TIMES], errors="ignore").iloc[0]
    return tables, {str(name): str(value) for name, value in facts.items()}
