"""What one recorded run is: a plan that fixes its training, its measuring and its pruning, before any data is seen.

Data only; nothing here loads torch. Which plans there are stands in `pruneviz.plans.planning`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pruneviz.errors import PresetError
from pruneviz.log.vocabulary import PRECISIONS, Kind, Precision, Schedule, kind_of


@dataclass(frozen=True)
class RunPlan:
    """Everything that fixes one recorded training run, before any data is seen. Defaults are the protocol of the paper.

    Training: `lr_drops` are the epochs after which the learning rate falls tenfold; `train_per_class` None trains on all images;
    `image_size` None takes those of the data set as they are; `precision` is that of training and evaluation, None the device's default
    (see `PRECISIONS`).
    Measuring: `every` is the distance of measured epochs; `sample_per_class` images a class are measured on; `unit` is what a
    row of the log is about, a filter or a single weight.
    Pruning: after each of the first `rounds` epochs filters are pruned by `measure`, until the fraction `target` is gone; `schedule`
    says how many in each round (see `pruneviz.pruning.rounds`); `prune_at_start` prunes before those epochs instead of after them;
    `carry_momentum` keeps the optimiser's momentum over a round; of every layer the fraction `keep_at_least` plus one filter stays;
    `prune_phase_only` ends after the last round; `flowandprune` imitates the faults of the published code.
    Source: Lubana and Dick, ICLR 2021, and the code they published.
    """

    run: str
    preset: str
    network: str
    dataset: str
    seed: int
    epochs: int = 160
    lr_drops: tuple[int, ...] = (80, 120)
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch_size: int = 128
    train_temperature: float = 5.0
    augment: bool = True
    width: float = 1.0
    image_size: int | None = None
    every: int = 10
    sample_per_class: int = 25
    train_per_class: int | None = None
    test_per_class: int | None = None
    unit: str = "filter"
    measure: str | None = None
    target: float = 0.0
    rounds: int = 0
    schedule: Schedule = "published"
    prune_at_start: bool = False
    carry_momentum: bool = False
    keep_at_least: float = 0.05
    prune_phase_only: bool = False
    flowandprune: bool = False
    precision: Precision | None = None

    def __post_init__(self) -> None:
        if self.rounds == 0 and self.target == 0:
            return
        if self.rounds < 1:
            raise PresetError(
                f"{self.run}: {self.rounds} rounds to prune {self.target:g} of the filters; give 1 round or more"
            )
        if not 0 < self.target < 1:
            raise PresetError(
                f"{self.run}: target is {self.target!r}, expected the fraction of filters to prune, above 0 and below 1"
            )
        if not 0 <= self.keep_at_least < 1:
            raise PresetError(
                f"{self.run}: keep_at_least is {self.keep_at_least!r}, expected a fraction of a layer from 0 to below 1"
            )
        if self.measure is None:
            raise PresetError(
                f"{self.run}: {self.rounds} pruning rounds but no measure to rank filters by; name one, such as magnitude"
            )
        if self.pruning_epochs[-1] > self.epochs:
            raise PresetError(
                f"{self.run}: {self.rounds} rounds take an epoch each, but there are {self.epochs} epochs; use fewer rounds or more epochs"
            )

    @property
    def pruning_epochs(self) -> range:
        """The epochs after which the rounds prune, first round first; 0 is before any training."""
        first = 0 if self.prune_at_start else 1
        return range(first, first + self.rounds)

    @property
    def kind(self) -> Kind:
        """Which kind of runs this one belongs to."""
        return kind_of(self.unit, self.rounds, self.prune_phase_only)

    def phase(self, epoch: int) -> str:
        """What an epoch is part of: init, train (of a run that never prunes), prune (a round follows it) or finetune."""
        if epoch in self.pruning_epochs:
            return "prune"
        return "init" if epoch == 0 else "finetune" if self.rounds else "train"


def precision_on(device: str, asked: str | None = None) -> Precision:
    """The precision asked for of training on a kind of device ("cpu", "cuda"), or the default there.

    Errors: `PresetError` for one that the device has not; it lists those that it has.
    """
    known = PRECISIONS.get(device, PRECISIONS["cpu"])
    found = next((precision for precision in known if asked in (None, precision)), None)
    if found is None:
        raise PresetError(
            f"precision {asked!r} is not to be had on {device}; choose {' or '.join(known)}, or another device"
        )
    return found


@dataclass(frozen=True)
class Pruning:
    """How runs that no figure asks for prune; the fields mean the same as those of `RunPlan`.

    `target` None is the one of the network's accuracy curves. Errors: `PresetError` for options that make no sense together.
    """

    measure: str
    rounds: int = 1
    target: float | None = None
    schedule: Schedule = "published"
    prune_at_start: bool = False
    carry_momentum: bool = False
    keep_at_least: float = 0.05
    prune_phase_only: bool = False
    flowandprune: bool = False

    def __post_init__(self) -> None:
        if self.schedule == "linear" and self.rounds == 1:
            raise PresetError(
                "one round prunes the same by every schedule; give more rounds, or leave out the linear schedule"
            )
        if self.schedule == "linear" and self.flowandprune:
            raise PresetError(
                "flowandprune imitates the published code, which has no linear schedule; leave out one of the two"
            )
        if (
            self.carry_momentum
            and self.rounds == 1
            and (self.prune_at_start or self.prune_phase_only)
        ):
            when = "before" if self.prune_at_start else "after"
            raise PresetError(
                f"nothing is trained {when} the only round, so there is no momentum to carry over it; leave out carry_momentum"
            )

    @property
    def marks(self) -> str:
        """What tells these runs apart from those of other options, as part of their names."""
        marks = {
            "linear": self.schedule == "linear",
            "atstart": self.prune_at_start,
            "carried": self.carry_momentum,
            f"keep{percent(self.keep_at_least)}": self.keep_at_least != 0.05,
            "flowandprune": self.flowandprune,
            "prunephase": self.prune_phase_only,
        }
        return "".join(f"-{mark}" for mark, given in marks.items() if given)


def percent(fraction: float) -> str:
    """A fraction as whole or decimal percent, for names: 0.65 -> 65."""
    return f"{100 * fraction:.10g}"
