"""Pruning by a training loop of one's own: its rounds, and its trace in the spec."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pandas as pd

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.arguments import is_whole
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import PRUNED
from pruneviz.recording.run_facts import check_layer_names

_REPAIR = "give pruner.counts().assign(round=1) after the first round, and so on"
_NEEDED = ("round", "layer", "layer_index", "filters", "kept")

_logger = logging.getLogger("pruneviz")


def check_rounds(rounds: pd.DataFrame | None) -> None:
    """Check the layers after a pruning round, before anything is measured.

    Raises:
        LogError: If they are no table of layers, lack a column or have a further one, or if a
            number of a round is none; names the repair.
    """
    if rounds is None:
        return
    if not isinstance(rounds, pd.DataFrame):
        raise LogError(
            f"rounds={rounds!r} is no table of the layers after a pruning round; {_REPAIR}"
        )
    absent = [name for name in _NEEDED if name not in rounds]
    if absent:
        raise LogError(f"rounds has no column {', '.join(absent)}; {_REPAIR}")
    schema.arrow_schema("rounds", list(map(str, rounds.columns)))
    check_layer_names(rounds["layer"])
    wrong = [value for value in rounds["round"] if not is_whole(value) or value < 1]
    if wrong:
        raise LogError(f"rounds has the round {wrong[0]!r}; rounds count from 1: {_REPAIR}")
    for layer, filters, kept in rounds[["layer", "filters", "kept"]].itertuples(index=False):
        if not (is_whole(filters) and is_whole(kept) and 0 <= kept <= filters):
            raise LogError(
                f"rounds says that layer {layer} keeps {kept!r} of {filters!r} filters; give whole "
                f"numbers, kept between 0 and filters: {_REPAIR}"
            )


class OwnPruning:
    """Sees that a run is pruned although its spec names no rounds."""

    def __init__(self) -> None:
        self._told = False

    def see(
        self, log: RunLog, epoch: int, row: Mapping[str, Any], rounds: pd.DataFrame | None
    ) -> None:
        """Warn, once, that a recorded epoch is pruned and the spec does not say how.

        Args:
            log: Open run directory.
            epoch: Number of epochs trained.
            row: Its facts; the fraction that is kept counts, but a layer may start with rows of
                zeros, so not at epoch 0.
            rounds: Layers after a pruning round at this epoch.
        """
        seen = rounds is not None or (epoch > 0 and row["kept_fraction"] < 1)
        if self._told or not seen or log.spec.rounds or PRUNED in log.spec.extra:
            return
        self._told = True
        _logger.warning(
            "%s is pruned at epoch %s, and its spec names no pruning: it will say pruned=True. "
            "Name how, so that plots tell such runs apart: "
            "spec={'measure': 'magnitude', 'target': 0.5, 'rounds': 3}",
            *(log.path, epoch),
        )

    def note(self, log: RunLog) -> None:
        """Note in the spec that a run is pruned, if it is and the spec does not say so.

        Args:
            log: Run directory that is about to be sealed.
        """
        if log.spec.rounds or PRUNED in log.spec.extra:
            return
        epochs = log.read("epochs")
        if len(log.read("rounds")) or (epochs["kept_fraction"].tail(1) < 1).any():
            log.note({PRUNED: True}, of_pruneviz=True)
