"""Sums over steps of changes of filters and of their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pruneviz.log.flow_columns import PREDICTIONS, product, square
from pruneviz.model.filters import Layer

OF_SGD = ("gradient", "momentum", "update", "curvature", "decay", "second", "memory")


class FlowSums:
    """Sums of one layer, float64 [filters], by column of the table `flow`.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._sums: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor], gone: Tensor | None) -> None:
        """Add what one step gave.

        Args:
            values: Changes, their predictions and parts of these, by column, float64 [filters].
            gone: True at pruned filters, which are left out.
        """
        terms = dict(values)
        for name, prediction in PREDICTIONS.items():
            if name in values:
                change = values[prediction.change]
                terms[square(prediction.change)] = change.square()
                terms[square(name)] = values[name].square()
                terms[product(name)] = values[name] * change
        counted = {"steps", *(p.steps for p in PREDICTIONS.values() if p.change in values)}
        one = next(iter(values.values()))
        terms |= {name: torch.ones_like(one) for name in counted}
        for name, term in terms.items():
            kept = term if gone is None else term.masked_fill(gone, 0.0)
            self._sums[name] = self._sums[name] + kept if name in self._sums else kept.clone()

    def table(self) -> pd.DataFrame:
        """One row per filter with a metered step; columns as in the table `flow`."""
        if "steps" not in self._sums:
            return pd.DataFrame()
        numbers = self._layer.numbers or range(self._layer.filters)
        keys = {"layer": self._layer.name, "filter": np.array(numbers)}
        frame = pd.DataFrame(
            {**keys, **{name: values.cpu().numpy() for name, values in self._sums.items()}}
        )
        for name in {"steps", "sample_steps"} & set(frame):
            frame[name] = frame[name].astype("int32")
        # sums over no step are not 0 but absent, such as those of a sample that was not measured
        for name, prediction in PREDICTIONS.items():
            if prediction.steps in frame:
                change = prediction.change
                every = (name, square(name), product(name), change, square(change))
                columns = [column for column in every if column in frame]
                frame[columns] = frame[columns].where(frame[prediction.steps] > 0)
        return frame[frame["steps"] > 0].reset_index(drop=True)


def flow_rows(sums: Sequence[FlowSums], epoch: int, unknown: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of all layers at an epoch, without what is unknown; empty if no step was metered."""
    tables = [table for one in sums if len(table := one.table())]
    if not tables:
        return pd.DataFrame()
    found = pd.concat(tables, ignore_index=True)
    absent = [column for name in unknown for column in (name, square(name), product(name))]
    found = found.drop(columns=absent, errors="ignore")
    if "sample_steps" not in found:
        found["sample_steps"] = 0
    return found.assign(epoch=epoch, sample_steps=found["sample_steps"].fillna(0).astype("int32"))
