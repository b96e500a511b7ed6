"""The plan of one run: its training, measuring and pruning, fixed before any data is seen."""

from __future__ import annotations

from dataclasses import dataclass

from pruneviz.errors import PresetError
from pruneviz.log.pruning_options import PruningOptions, kind_of
from pruneviz.log.vocabulary import PRECISIONS, Kind, Precision


@dataclass(frozen=True)
class RunPlan:
    """Plan of one recorded run. Defaults are the paper's protocol.

    Attributes:
        run: Run name, also the name of its directory.
        preset: Preset that the plan comes from.
        network: Network name.
        dataset: Data set name.
        seed: Seed for the initialisation and the order of the training images.
        epochs: Number of training epochs.
        lr_drops: Epochs after which the learning rate falls tenfold.
        lr: Initial learning rate.
        momentum: SGD momentum.
        weight_decay: SGD weight decay.
        batch_size: Images per training step.
        train_temperature: Logit temperature in the training loss.
        augment: Train on randomly cropped and flipped images.
        width: Network width; 1 is the paper's.
        image_size: Image side in pixels; None keeps the data set's.
        every: Epochs between two measured epochs.
        sample_per_class: Images per class in the measurement sample.
        sample_seed: Seed that draws the measurement sample, and nothing else.
        samples: 2 measures two halves of the measurement sample too.
        train_per_class: Training images per class; None takes all.
        test_per_class: Test images per class; None takes all.
        unit: What one row of the log describes, a "filter" or a "weight".
        pruning: How the run prunes, one round per epoch; None never prunes.
        precision: Training and evaluation precision; None is the device's default.

    Raises:
        PresetError: If the run cannot be pruned as planned.

    References:
        Lubana and Dick, ICLR 2021, and its published code.
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
    sample_seed: int = 0
    samples: int = 1
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
            most = self.epochs + 1 - self.pruning_epochs[0]
            raise PresetError(
                f"{self.run}: {self.rounds} rounds take an epoch each, but preset {self.preset} "
                f"trains {self.epochs} epochs; give at most --rounds {most}, or a "
                "--preset with more epochs"
            )

    @property
    def rounds(self) -> int:
        """Number of pruning rounds; 0 for a run that never prunes."""
        return self.pruning.rounds if self.pruning else 0

    @property
    def pruning_epochs(self) -> range:
        """Epochs after which a round prunes, ascending; 0 is before any training."""
        first = 0 if self.pruning and self.pruning.prune_at_start else 1
        return range(first, first + self.rounds)

    @property
    def kind(self) -> Kind:
        """Kind of the run."""
        return kind_of(self.unit, self.pruning)

    def phase(self, epoch: int) -> str:
        """Phase of an epoch.

        Returns:
            "init" for the initialisation, "prune" if a round follows the epoch, "finetune" after
            the last round, and "train" in a run that never prunes.
        """
        if epoch in self.pruning_epochs:
            return "prune"
        if epoch == 0:
            return "init"
        return "finetune" if self.pruning else "train"


def precision_on(device: str, asked: str | None = None) -> Precision:
    """The precision of training on a device.

    Args:
        device: Kind of device, "cpu" or "cuda".
        asked: Requested precision. Default: the device's, see `PRECISIONS`.

    Raises:
        PresetError: If the device does not support the precision; lists the supported ones.
    """
    known = PRECISIONS.get(device, PRECISIONS["cpu"])
    if asked is None:
        return known[0]
    for precision in known:
        if precision == asked:
            return precision
    raise PresetError(
        f"precision {asked!r} is not available on {device}; "
        f"choose {' or '.join(known)}, or another device"
    )
