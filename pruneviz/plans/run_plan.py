"""What one recorded run is: a plan that fixes its training, its measuring and its pruning, before any data is seen.

Data only; nothing here loads torch. Which plans there are stands in `pruneviz.plans.planning`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pruneviz.errors import PresetError
from pruneviz.log.pruning_options import PruningOptions, kind_of
from pruneviz.log.vocabulary import PRECISIONS, Kind, Precision


@dataclass(frozen=True)
class RunPlan:
    """Everything that fixes one recorded training run, before any data is seen. Defaults are the protocol of the paper.

    Training: `lr_drops` are the epochs after which the learning rate falls tenfold; `train_per_class` None trains on all images;
    `image_size` None takes those of the data set as they are; `precision` is that of training and evaluation, None the device's default
    (see `PRECISIONS`).
    Measuring: `every` is the distance of measured epochs; `sample_per_class` images a class are measured on; `unit` is what a
    row of the log is about, a filter or a single weight.
    Pruning: None never prunes; else a round follows each of the first epochs (see `PruningOptions`).
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
    pruning: PruningOptions | None = None
    precision: Precision | None = None

    def __post_init__(self) -> None:
        if self.pruning is None:
            return
        try:
            self.pruning.check_complete()
        except PresetError as error:
            raise PresetError(f"{self.run}: {error}") from error
        if self.pruning_epochs[-1] > self.epochs:
            raise PresetError(
                f"{self.run}: {self.rounds} rounds take an epoch each, but there are "
                f"{self.epochs} epochs; use fewer rounds or more epochs"
            )

    @property
    def rounds(self) -> int:
        """Number of pruning rounds; 0 for a run that never prunes."""
        return self.pruning.rounds if self.pruning else 0

    @property
    def pruning_epochs(self) -> range:
        """The epochs after which the rounds prune, first round first; 0 is before any training."""
        first = 0 if self.pruning and self.pruning.prune_at_start else 1
        return range(first, first + self.rounds)

    @property
    def kind(self) -> Kind:
        """Which kind of runs this one belongs to."""
        return kind_of(self.unit, self.pruning)

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
