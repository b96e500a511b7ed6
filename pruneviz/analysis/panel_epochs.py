"""The epochs at which a panel of runs is judged: those near three places of its schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pruneviz.analysis.chosen_epochs import FRACTIONS, nearest_epochs
from pruneviz.analysis.rules import Panel
from pruneviz.analysis.settings import SEED
from pruneviz.log.thin_copies import left_out, why_left_out

FAR = 0.1  # of the schedule: how far from its place an epoch may be


@dataclass(frozen=True)
class PanelEpochs:
    """Where a panel can be judged.

    Attributes:
        shown: Epochs near 0, a quarter and all of training that all runs hold.
        lacking: Epochs at places without one, each with the reason.
    """

    shown: tuple[int, ...]
    lacking: Mapping[int, str]


def panel_epochs(panel: Panel, held: pd.DataFrame, columns: Sequence[str]) -> PanelEpochs:
    """The epochs of a panel that all runs hold, and why there is none at the other places.

    A run that ended at a fifth of its training says nothing about the end.

    Args:
        panel: The panel.
        held: run and epoch where the judged quantities are. A run that has them nowhere is left out
            of the judgement, unless it is a thin copy that left them out.
        columns: The quantities.
    """
    runs_at = held.groupby("epoch")["run"].nunique()
    wanted = {name for names in left_out(panel.runs.spec, columns).values() for name in names}
    wanted |= set(held["run"].astype(str))
    everywhere = runs_at.index[runs_at == len(wanted)]
    common, known = sorted(map(int, everywhere)), sorted(map(int, runs_at.index))
    stated = panel.runs.spec["epochs"].max()
    schedule = int(max(known) if pd.isna(stated) else stated)
    shown: dict[int, None] = {}
    lacking = {}
    for share in FRACTIONS:
        near, seen = (_near(epochs, schedule, share) for epochs in (common, known))
        if near is not None:
            shown[near] = None
        elif seen is not None:
            holders = _holders(panel, held, seen)
            lacking[seen] = f"only {holders} at epoch {seen}{_thin(panel, seen, columns)}"
        else:
            at = round(share * schedule)
            both = " and ".join(columns)
            lacking[at] = f"no seed holds {both} near epoch {at}{_thin(panel, at, columns)}"
    # a short schedule has one epoch for two places
    return PanelEpochs(tuple(shown), {at: why for at, why in lacking.items() if at not in shown})


def _near(epochs: Sequence[int], schedule: int, share: float) -> int | None:
    """The epoch that is nearest to a share of the schedule, if it is near."""
    if not epochs:
        return None
    (nearest,) = nearest_epochs(epochs, schedule, (share,))
    return nearest if abs(nearest - share * schedule) <= max(1.0, FAR * schedule) else None


def _holders(panel: Panel, held: pd.DataFrame, epoch: int) -> str:
    """Which of the runs hold the quantities at an epoch."""
    names = set(held.loc[held["epoch"] == epoch, "run"].astype(str))
    spec = panel.runs.spec
    mine = spec[spec["run"].isin(names)]
    if mine[SEED].isna().any():
        return f"{len(mine)} of {len(spec)} runs hold both quantities"
    seeds = ", ".join(f"{seed:.0f}" for seed in sorted(mine[SEED]))
    verb = "seed {} holds" if len(mine) == 1 else "seeds {} hold"
    return f"{verb.format(seeds)} both quantities"


def _thin(panel: Panel, epoch: int, columns: Sequence[str]) -> str:
    """Which thin copies left an epoch or the columns out, as an addition to a reason."""
    names = [
        copy.run
        for copy in panel.runs.thin_copies()
        if epoch in copy.recorded and epoch not in copy.held
    ]
    why = why_left_out(panel.runs.spec, columns)
    if not names:
        return f"; {why}" if why else ""
    who = f"the thin copy {names[0]}" if len(names) == 1 else f"{len(names)} thin copies"
    return f"; {who} left out that epoch"
