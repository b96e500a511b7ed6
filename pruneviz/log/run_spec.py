"""Run facts as stored in `spec.json`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pruneviz.errors import LogError, PresetError
from pruneviz.log.arguments import as_tuple, is_number, is_whole
from pruneviz.log.pruning_options import OPTION_NAMES, PruningOptions, kind_of, pruning_facts
from pruneviz.log.schema import SCHEMA_VERSION, TABLES
from pruneviz.log.vocabulary import BN_MODES, MASK_RATIO, MASK_SCORES, ROW_KINDS, Kind

PRUNED = "pruned"  # the fact of a run that was pruned although its spec names no rounds


@dataclass(frozen=True)
class RunSpec:
    """Facts of one run as stored in `spec.json`; checked on construction.

    A custom training loop may leave facts unknown. `from_dict` builds a spec from the flat facts of
    a file or user, `to_dict` returns them.

    Attributes:
        run: Run name.
        network: Network name.
        dataset: Data set name.
        num_classes: Number of classes.
        seed: Random seed.
        preset: Preset in the reference experiment.
        width: Network width; 1 is the paper's.
        image_size: Image side in pixels, if images were scaled.
        epochs: Number of training epochs.
        unit: Row kind of the filters table, one of `ROW_KINDS`.
        weight_rows: Number of stored single weights.
        weight_rows_seed: Seed that selects these weights.
        weights: Number of all single weights in the network.
        pruning: How the run prunes; None if it never does. Its options are flat facts in the file
            and in `runs.spec`.
        bn: Batch-norm mode while measuring, one of `BN_MODES`.
        temperatures: Logit temperatures while measuring.
        columns: Measured derivative columns.
        every: Measured epochs: an interval, or the name of a function.
        lag: Epochs between the two values of a change such as `sigma_delta`.
        mask_score: Pruning measure for the masks whose distance is logged.
        mask_ratio: Fraction that these masks prune.
        sample_size: Number of examples in the measurement sample.
        sample_seed: Seed that selects the measurement sample.
        samples: 2 if halves of the sample were measured too, else 1.
        half_size: Number of examples in each half.
        dtype: Measuring precision.
        batch_size: Images per training step.
        train_images: Number of training images.
        lr: Initial learning rate.
        lr_drops: Epochs after which the learning rate falls.
        momentum: SGD momentum.
        weight_decay: SGD weight decay.
        train_temperature: Logit temperature in the training loss.
        augment: Whether training images are randomly cropped and flipped.
        precision: Training precision.
        device: Device type, "cpu" or "cuda".
        device_name: Device name.
        threads: Number of CPU threads.
        command: Command that recorded the run.
        created: Start time of the recording.
        versions: Package versions that affect the numbers.
        schema_version: Version of the table schema.
        extra: Further facts, stored beside the others.

    Raises:
        LogError: If a value is not allowed; names the field, the value and what is allowed.
    """

    run: str
    network: str | None = None
    dataset: str | None = None
    num_classes: int | None = None
    seed: int | None = None
    preset: str | None = None
    width: float | None = None
    image_size: int | None = None
    epochs: int | None = None
    unit: str = "filter"
    weight_rows: int | None = None
    weight_rows_seed: int | None = None
    weights: int | None = None
    pruning: PruningOptions | None = None
    bn: str = "eval"
    temperatures: tuple[float, ...] = (1.0, 200.0)
    columns: tuple[str, ...] = ()
    every: str | None = None
    lag: int = 1
    mask_score: str = MASK_SCORES["filter"]
    mask_ratio: float = MASK_RATIO
    sample_size: int | None = None
    sample_seed: int | None = None
    samples: int = 1
    half_size: int | None = None
    dtype: str | None = None
    batch_size: int | None = None
    train_images: int | None = None
    lr: float | None = None
    lr_drops: tuple[int, ...] = ()
    momentum: float | None = None
    weight_decay: float | None = None
    train_temperature: float | None = None
    augment: bool | None = None
    precision: str | None = None
    device: str | None = None
    device_name: str | None = None
    threads: int | None = None
    command: str | None = None
    created: str | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _SEVERAL:
            object.__setattr__(self, name, as_tuple(getattr(self, name)))
        slug = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.run))
        positive = len(self.temperatures) > 0 and all(
            is_number(t) and 0 < t < float("inf") for t in self.temperatures
        )
        clash = sorted(set(self.extra) & {"sealed", "table_files", "extra", *SPEC_FACTS})
        _require(slug, "run", self.run, "a slug of letters, digits, '.', '_' and '-'")
        _require(self.bn in BN_MODES, "bn", self.bn, f"one of {', '.join(BN_MODES)}")
        _require(self.unit in ROW_KINDS, "unit", self.unit, f"one of {', '.join(ROW_KINDS)}")
        _require(
            is_whole(self.lag) and self.lag >= 1,
            "lag",
            self.lag,
            "a whole number of epochs from 1",
        )
        _require(
            self.samples in (1, 2), "samples", self.samples, "1, or 2 with halves of the sample"
        )
        fraction = is_number(self.mask_ratio) and 0 < self.mask_ratio < 1
        _require(fraction, "mask_ratio", self.mask_ratio, "a fraction between 0 and 1")
        _require(positive, "temperatures", self.temperatures, "one or more positive numbers")
        _require(not clash, "extra", clash, "names that spec.json does not use already")

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that a finished run of this spec has."""
        # of a pruneviz.FlowMeter, which notes the fact
        held = {"halves": self.samples == 2, "flow": bool(self.extra.get("flow"))}
        return tuple(name for name in TABLES if held.get(name, True))

    @property
    def rounds(self) -> int:
        """Number of pruning rounds; 0 for a run that never prunes."""
        return self.pruning.rounds if self.pruning else 0

    @property
    def kind(self) -> Kind:
        """Kind of the run."""
        return kind_of(self.unit, self.pruning)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> RunSpec:
        """Build a spec from flat facts, as `to_dict` returns them; unknown names go into `extra`.

        Args:
            facts: The facts by name. The pruning options may also come as one `PruningOptions`
                under `pruning`.

        Raises:
            LogError: If a value is not allowed, or a pruning option is given twice.
        """
        if isinstance(facts.get("pruning"), PruningOptions):
            facts = _flat(facts)
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in facts.items()
            if name in SPEC_FACTS and name not in OPTION_NAMES
        }
        extra = {name: value for name, value in facts.items() if name not in SPEC_FACTS}
        try:
            pruning = PruningOptions.from_facts(facts)
        except PresetError as error:
            raise LogError(f"run spec: {error}") from error
        return cls(**known, pruning=pruning, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """Flat facts as stored in `spec.json`: all fields, then the extra facts."""
        options = pruning_facts(self.pruning)
        facts = {
            name: options[name] if name in options else getattr(self, name) for name in SPEC_FACTS
        }
        listed = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in facts.items()
        }
        return {**listed, **self.extra}


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with the options of `pruning` beside the others."""
    others = {name: value for name, value in facts.items() if name != "pruning"}
    twice = [name for name in OPTION_NAMES if name in others]
    if twice:
        raise LogError(
            f"run spec: {', '.join(twice)} is given beside pruning=PruningOptions(...); "
            "leave it out, or set it there"
        )
    return {**others, **pruning_facts(facts["pruning"])}


def _spec_facts() -> Iterator[str]:
    for field in dataclasses.fields(RunSpec):
        if field.name == "pruning":
            yield from OPTION_NAMES
        elif field.name != "extra":
            yield field.name


SPEC_FACTS = tuple(_spec_facts())  # names in every `spec.json`, in order

_SEVERAL = ("temperatures", "columns", "lr_drops")  # fields that hold several values


def _require(holds: bool, field: str, value: object, expected: str) -> None:
    if not holds:
        raise LogError(f"run spec: {field} is {value!r}, expected {expected}")
