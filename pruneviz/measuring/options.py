"""Options of one measurement, checked on construction."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from pruneviz.errors import MeasureError, unknown_name
from pruneviz.log import schema
from pruneviz.log.arguments import as_tuple
from pruneviz.log.request_columns import full_errors, request_columns
from pruneviz.log.vocabulary import BN_MODES, ROW_KINDS
from pruneviz.measuring.losses import Loss
from pruneviz.model.theta import theta_of
from pruneviz.model.units import Grouping

STRATA = ("auto", "classes", None)  # how the sample was drawn
KEPT = ("masks", "nonzero")  # what `kept` says of a row
ERRORS = ("default", "full")  # which standard errors there are
_DRAWS = {
    "oracle": "the number of filters whose removal is measured",
    "probes": "the number of random probes of columns on request",
    "seed": "a whole number as the seed of all draws",
    "samples": "1, or 2 to measure two halves of the sample too",
}
_DEFAULT = "default"  # stands for all default columns among `columns`
_TUPLES = ("temperatures", "columns", "layers", "skip")


@dataclass(frozen=True)
class Options:
    """How to measure; fields are the arguments of `pruneviz.measure`."""

    temperatures: tuple[float, ...] = (1.0, 200.0)
    bn: str = "eval"
    columns: tuple[str, ...] | None = None
    chunk: int | None = None
    loss: Loss | None = None
    dtype: torch.dtype | None = None
    classifier: bool = False
    unit: str | Grouping = "filter"
    loss_weight: Callable[..., Any] | None = None
    forward: Callable[..., Any] | None = None
    parameters: str | tuple[str, ...] = "all"
    layers: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()
    trace_examples: int | None = 2
    kept: str = "masks"
    hooks: bool = False
    oracle: int | None = None
    seed: int = 0
    probes: int = 16
    strata: str | None = "auto"
    population: int | Mapping[int, int] | None = None
    samples: int = 1  # 2 measures halves of the sample too; of recorders alone
    errors: str = "default"

    @classmethod
    def of(cls, **given: Any) -> Options:
        """Options from the arguments of a public function.

        A single temperature, column, layer or pattern counts as a tuple of one.

        Raises:
            MeasureError: If an option is unknown or invalid.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise MeasureError(unknown_name("measuring option", name, known))
        tuples = {name: as_tuple(given[name]) for name in _TUPLES if name in given}
        for name in ("columns", "layers"):
            if given.get(name) is None:
                tuples.pop(name, None)
        if "parameters" in given and given["parameters"] not in ("all", "trainable"):
            tuples["parameters"] = as_tuple(given["parameters"])
        return cls(**{**given, **tuples})

    def __post_init__(self) -> None:
        self._check_rows()
        if self.bn not in tuple(BN_MODES):
            raise MeasureError(
                f"bn={self.bn!r} is not a batch-norm mode; choose one of {', '.join(BN_MODES)}"
            )
        if not self.temperatures or not all(map(_is_temperature, self.temperatures)):
            raise MeasureError(
                f"temperatures={self.temperatures!r}; "
                "give one or more positive numbers, such as (1.0, 200.0)"
            )
        self._check_arithmetic()
        for name in self.columns or ():
            if name not in (_DEFAULT, *self.available()):
                hint = f"measured at temperatures {self.temperatures}"
                raise MeasureError(
                    unknown_name(f"{self.row_kind} column", name, self.available(), hint)
                )

    def with_fixed_theta(self, model: nn.Module) -> Options:
        """The same options with the parameters that are trainable now, by name.

        Flags may change while a network is trained, rows of a recording may not.
        """
        if self.parameters != "trainable":
            return self
        return replace(self, parameters=tuple(theta_of(model, "trainable")))

    @property
    def row_kind(self) -> str:
        """The row kind: `unit`, or "group" for an explicit grouping."""
        return self.unit if isinstance(self.unit, str) else "group"

    @property
    def grouping(self) -> Grouping | None:
        """The explicit grouping; None for a row kind by name."""
        return None if isinstance(self.unit, str) else self.unit

    def available(self) -> tuple[str, ...]:
        """All columns for this row kind and these temperatures, also those of recordings."""
        further = [schema.temperature_column(t) for t in self.temperatures[1:]]
        known = schema.MEASURED_OF_UNIT[self.row_kind]
        given = [name for name in known if name != "theta_hg_t200" or name in further]
        return tuple(dict.fromkeys([*given, *further, *schema.CHANGE_COLUMNS]))

    def wanted(self) -> tuple[str, ...]:
        """The columns to measure. Default: all except those on request."""
        requested = (*request_columns(self.row_kind), *schema.CHANGE_COLUMNS)
        default = tuple(c for c in self.available() if c not in requested)
        chosen = default if self.columns is None else self._with_default(default)
        asked = () if self.oracle is None else ("delta_loss",)
        errors = full_errors([*chosen, *asked]) if self.errors == "full" else ()
        return tuple(dict.fromkeys([*chosen, *asked, *errors]))

    def _with_default(self, default: tuple[str, ...]) -> list[str]:
        """The columns, with all default ones in place of the name "default"."""
        given = [default if name == _DEFAULT else (name,) for name in self.columns or ()]
        return [name for names in given for name in names]

    def _check_rows(self) -> None:
        """Check which rows are measured, and what counts as kept."""
        kinds = [kind for kind in ROW_KINDS if kind != "group"]
        if not isinstance(self.unit, Mapping) and self.unit not in kinds:
            raise MeasureError(
                f"unit={self.unit!r}; choose one of {', '.join(map(repr, kinds))}, or give a "
                "grouping {name: [(parameter, dim, indices), ...]}"
            )
        if self.kept not in KEPT:
            raise MeasureError(
                f"kept={self.kept!r}; choose 'masks', entries that pruneviz pruned, or 'nonzero', "
                "all zeros too"
            )
        for name in ("layers", "skip"):
            patterns = getattr(self, name) or ()
            if not all(isinstance(pattern, str) and pattern for pattern in patterns):
                raise MeasureError(
                    f"{name}={patterns!r}; give names or patterns, such as {name}='layer4.*'"
                )
        if self.errors not in ERRORS:
            raise MeasureError(
                f"errors={self.errors!r}; choose 'default', standard errors that cost next to "
                "nothing, or 'full', those of random half samples too"
            )
        self._check_trace_examples()

    def _check_trace_examples(self) -> None:
        given = self.trace_examples
        whole = isinstance(given, numbers.Integral) and not isinstance(given, bool)
        if given is not None and not (whole and given >= 1):
            raise MeasureError(
                f"trace_examples={given!r}; give the number of examples that the network is traced "
                "with, 1 or more, or None for the whole first batch"
            )

    def _check_arithmetic(self) -> None:
        chunk, dtype, loss = self.chunk, self.dtype, self.loss
        if chunk is not None and (not isinstance(chunk, numbers.Integral) or chunk < 1):
            raise MeasureError(
                f"chunk={chunk!r}; give the number of examples to differentiate at once, "
                "1 or more, or None to choose it"
            )
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise MeasureError(f"dtype={dtype!r}; give a torch.dtype, such as torch.float64")
        if dtype is not None and not dtype.is_floating_point:
            raise MeasureError(
                f"dtype={dtype} has no derivatives; "
                "give a floating-point dtype, such as torch.float64"
            )
        if loss is not None and not callable(loss):
            raise MeasureError(
                f"loss={loss!r}; give a callable of (output, target), or None for cross-entropy"
            )
        self._check_callables()
        self._check_draws()
        self._check_sampling()

    def _check_callables(self) -> None:
        if self.forward is not None and not callable(self.forward):
            raise MeasureError(f"forward={self.forward!r}; give a callable of (model, batch)")
        if self.loss_weight is not None and not callable(self.loss_weight):
            raise MeasureError(
                f"loss_weight={self.loss_weight!r}; give a callable of a target that returns the "
                "weight of its examples"
            )
        if self.loss_weight is not None and self.loss is None:
            raise MeasureError("loss_weight belongs to a loss of your own; pass loss=callable too")
        patterns = self.parameters
        given = (patterns,) if isinstance(patterns, str) else patterns
        if not given or not all(isinstance(pattern, str) and pattern for pattern in given):
            raise MeasureError(
                f"parameters={patterns!r}; give 'all', 'trainable', or names and patterns of "
                "parameters, such as '*.weight'"
            )

    def _check_sampling(self) -> None:
        """Check what is said about how the sample was drawn."""
        if self.strata not in STRATA:
            raise MeasureError(
                f"strata={self.strata!r}; choose 'auto', 'classes' (drawn class by class) or None "
                "(at random from everything)"
            )
        given = self.population
        if given is None:
            return
        sizes = list(given.values()) if isinstance(given, Mapping) else [given]
        whole = [isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in sizes]
        if not (sizes and all(whole) and min(sizes) >= 1):
            raise MeasureError(
                f"population={given!r}; give the number of examples that the sample was drawn from "
                "without replacement, or {label: number}"
            )

    def _check_draws(self) -> None:
        if self.oracle is not None and self.unit == "weight":
            raise MeasureError(
                f"oracle={self.oracle!r} removes filters or units, which can be taken out of a "
                "network, not single weights; leave it out with unit='weight'"
            )
        for name, least in (("oracle", 1), ("probes", 1), ("seed", 0), ("samples", 1)):
            given = getattr(self, name)
            if name == "oracle" and given is None:
                continue
            if not isinstance(given, numbers.Integral) or isinstance(given, bool) or given < least:
                raise MeasureError(f"{name}={given!r}; give {_DRAWS[name]}, {least} or more")
        if self.samples > 2:
            raise MeasureError(f"samples={self.samples!r}; give {_DRAWS['samples']}")
        if self.seed >= 2**64:
            raise MeasureError(f"seed={self.seed!r}; give one below 2**64")


def _is_temperature(value: object) -> bool:
    return isinstance(value, numbers.Real | Tensor) and 0 < float(value) < math.inf
