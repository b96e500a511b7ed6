"""The facts of a run, as its `spec.json` holds them."""

from __future__ import annotations

import dataclasses
import numbers
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pruneviz.errors import LogError, PresetError
from pruneviz.log.pruning_options import OPTION_NAMES, PruningOptions, kind_of, pruning_facts
from pruneviz.log.schema import SCHEMA_VERSION
from pruneviz.log.vocabulary import BN_MODES, MASK_RATIO, MASK_SCORES, ROW_KINDS, Kind


@dataclass(frozen=True)
class RunSpec:
    """Facts of one run, as `spec.json` holds them; checked on construction.

    A training loop other than the reference experiment need not know them all. `from_dict` makes
    a spec from the flat facts of a file or a user, `to_dict` gives them back.

    Attributes:
        run: Name of the run.
        network: Name of the network.
        dataset: Name of the data set.
        num_classes: Number of classes.
        seed: Seed of the run.
        preset: Preset of the reference experiment.
        width: Width of the network; 1 is that of the paper.
        image_size: Side of the images in pixels, if they were scaled.
        epochs: Number of training epochs.
        unit: What one row of the filters table describes, a "filter" or a "weight".
        weight_rows: Number of single weights that are stored.
        weight_rows_seed: Seed of their choice.
        weights: Number of single weights of the network.
        pruning: How the run prunes; None if it never does. In the file, and in `runs.spec`, its
            options are facts beside the others.
        bn: Mode of the batch norms while measuring, one of `BN_MODES`.
        temperatures: Temperatures of the logits while measuring.
        columns: Derivative columns that are measured.
        every: Which epochs are measured: a distance, or the name of a function.
        lag: Epochs between the two values of a change such as `sigma_delta`.
        mask_score: Measure of the masks whose distance is logged.
        mask_ratio: Fraction that these masks prune.
        sample_size: Number of examples that are measured on.
        sample_seed: Seed of their choice.
        dtype: Precision of measuring.
        batch_size: Images per training step.
        train_images: Number of training images.
        lr: Initial learning rate.
        lr_drops: Epochs after which the learning rate falls.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD.
        train_temperature: Temperature of the logits in the training loss.
        augment: Whether training images are randomly cropped and flipped.
        precision: Precision of training.
        device: Kind of device, "cpu" or "cuda".
        device_name: Name of the device.
        threads: Number of CPU threads.
        command: Command that recorded the run.
        created: Time at which the recording began.
        versions: Versions of the packages that numbers depend on.
        schema_version: Version of the tables.
        extra: Further facts; in the file they stand beside the others.

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
        slug = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.run))
        positive = len(self.temperatures) > 0 and all(
            0 < t < float("inf") for t in self.temperatures
        )
        clash = sorted(set(self.extra) & {"sealed", "extra", *SPEC_FACTS})
        _require(slug, "run", self.run, "a slug of letters, digits, '.', '_' and '-'")
        _require(self.bn in BN_MODES, "bn", self.bn, f"one of {', '.join(BN_MODES)}")
        _require(self.unit in ROW_KINDS, "unit", self.unit, "'filter' or 'weight'")
        _require(
            isinstance(self.lag, numbers.Integral) and self.lag >= 1,
            "lag",
            self.lag,
            "a whole number of epochs from 1",
        )
        _require(
            0 < self.mask_ratio < 1, "mask_ratio", self.mask_ratio, "a fraction between 0 and 1"
        )
        _require(positive, "temperatures", self.temperatures, "one or more positive numbers")
        _require(not clash, "extra", clash, "names that spec.json does not use already")

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
        """A spec of flat facts, as `to_dict` gives them; unknown names go into `extra`.

        Raises:
            LogError: If a value is not allowed.
        """
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
        """The flat facts that `spec.json` holds: every field, then every extra fact."""
        options = pruning_facts(self.pruning)
        facts = {
            name: options[name] if name in options else getattr(self, name) for name in SPEC_FACTS
        }
        listed = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in facts.items()
        }
        return {**listed, **self.extra}


def _spec_facts() -> Iterator[str]:
    for field in dataclasses.fields(RunSpec):
        if field.name == "pruning":
            yield from OPTION_NAMES
        elif field.name != "extra":
            yield field.name


SPEC_FACTS = tuple(_spec_facts())  # the names that every `spec.json` has, in its order


def _require(holds: bool, field: str, value: object, expected: str) -> None:
    if not holds:
        raise LogError(f"run spec: {field} is {value!r}, expected {expected}")
