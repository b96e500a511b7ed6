"""Values that no table can hold: accuracies above 1, negative norms, rows without a filter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

_ROUNDED = 1e-6  # what sums of rounded numbers may be off
_FROM_0 = (0.0, math.inf)
_FRACTION = (0.0, 1.0)
_CORRELATION = (-1.0, 1.0)

_OF_ROWS = (
    *("filter", "weight", "theta_norm2", "theta_l1", "abs_theta_g", "theta2_abs_g", "g_norm2"),
    *("theta_g_se", "theta_g_se_iid", "theta_hg_se_given_g", "theta_hg_se", "abs_theta_g_se"),
    *("theta_hg_se_given_g_iid", "theta2_g2", "fisher_block", "obd_se", "bn_taylor", "hg_norm2"),
    *("wanda", "fpgm", "update_size", "distance_from_init"),
)
_BETWEEN: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "epochs": {
        **dict.fromkeys(("train_acc", "test_acc", "kept_fraction", "mask_distance"), _FRACTION),
        **dict.fromkeys(("epoch", "lr", "seconds", "g_norm2", "hg_norm2"), _FROM_0),
    },
    "filters": dict.fromkeys(("epoch", *_OF_ROWS), _FROM_0),
    "halves": dict.fromkeys(("epoch", *_OF_ROWS), _FROM_0),
    "rounds": {
        **dict.fromkeys(("epoch", "layer_index", "filters", "kept"), _FROM_0),
        "round": (1.0, math.inf),
    },
    "correlations": {
        **dict.fromkeys(("epoch", "n", "n_eff"), _FROM_0),
        **dict.fromkeys(("r", "low", "high"), _CORRELATION),
    },
    "flow": dict.fromkeys(("epoch", "filter", "steps", "sample_steps"), _FROM_0),
}
_NEVER_NULL: Mapping[str, tuple[str, ...]] = {
    "filters": ("layer", "filter", "kept"),
    "halves": ("half", "layer", "filter"),
    "rounds": ("round", "layer", "layer_index", "filters", "kept"),
    "correlations": ("x", "y", "method"),
    "flow": ("layer", "filter", "steps"),
}
_REPAIR = "restore it from a backup, or record the run again"


class ImpossibleValues:
    """Collects what is impossible in the rows of a table, once per column.

    Args:
        table: Table name.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._found: dict[str, str] = {}
        self._places: dict[str, int] = {}  # of layers, in the rounds table

    def look(self, rows: pa.RecordBatch) -> None:
        """Look at some rows."""
        for name in rows.schema.names:
            for fault in self._faults_of(name, rows.column(name)):
                self._found.setdefault(name, fault)
        if self._table == "rounds" and {"filters", "kept", "layer", "layer_index"} <= set(
            rows.schema.names
        ):
            self._look_at_rounds(rows)

    def told(self) -> list[str]:
        """What was found, as the ends of sentences on the file."""
        return list(self._found.values())

    def _faults_of(self, name: str, values: pa.Array) -> Iterator[str]:
        if name in _NEVER_NULL.get(self._table, ()) and values.null_count:
            yield f"has {values.null_count} rows without a value of {name}; {_REPAIR}"
        if not pa.types.is_floating(values.type) and not pa.types.is_integer(values.type):
            return
        held = pc.min_max(values).as_py()
        if held["min"] is None:
            return
        least, most = _BETWEEN[self._table].get(name, (-math.inf, math.inf))
        for value in (held["min"], held["max"]):
            if math.isinf(value):
                yield f"holds {value} in {name}, expected finite numbers; {_REPAIR}"
            elif not least - _ROUNDED <= value <= most + _ROUNDED and not math.isnan(value):
                bounds = f"from {least:g}" if math.isinf(most) else f"{least:g} to {most:g}"
                yield f"holds {value:g} in {name}, expected numbers {bounds}; {_REPAIR}"

    def _look_at_rounds(self, rows: pa.RecordBatch) -> None:
        for row in rows.select(["layer", "layer_index", "filters", "kept"]).to_pylist():
            layer, place, filters, kept = row.values()
            if kept is not None and filters is not None and kept > filters:
                self._found.setdefault(
                    "kept", f"says that {kept} of {filters} filters of {layer} are kept; {_REPAIR}"
                )
            if place is not None and self._places.setdefault(layer, place) != place:
                self._found.setdefault(
                    "layer_index",
                    f"has two numbers of {layer} in the network, {self._places[layer]} and "
                    f"{place}; {_REPAIR}",
                )
