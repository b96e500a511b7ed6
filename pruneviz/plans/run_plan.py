"""The plan of one run: its training, measuring and pruning, fixed before any data is seen."""

from __future__ import annotations

from dataclasses import dataclass

from pruneviz.errors import PresetError
from pruneviz.log.pruning_options import PruningOptions, kind_of
from pruneviz.log.vocabulary import PRECISIONS, Kind, Precision


@dataclass(frozen=True)
class RunPlan:
    """Plan of one recorded run. Defaults are the protocol of the paper.

    Attributes:
        run: Name of the run and of its directory.
        preset: Preset that the plan comes from.
        network: Name of the network.
        dataset: Name of the data set.
        seed: Seed of the initialisation and of the order of the training images.
        epochs: Number of training epochs.
        lr_drops: Epochs after which the learning rate falls tenfold.
        lr: Initial learning rate.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD.
        batch_size: Images per training step.
        train_temperature: Temperature of the logits in the training loss.
        augment: Train on randomly cropped and flipped images.
        width: Width of the network; 1 is that of the paper.
        image_size: Side of the images in pixels; None keeps that of the data set.
        every: Epochs between two measured epochs.
        sample_per_class: Images per class that are measured on.
        train_per_class: Training images per class; None takes all.
        test_per_class: Test images per class; None takes all.
        unit: What one row of the log describes, a "filter" or a "weight".
        pruning: How the run prunes; None never prunes. A round takes an epoch each.
        precision: Precision of training and evaluation; None is the default of the device.

    Raises:
        PresetError: If the run cannot be pruned as planned.

    References:
        Lubana and Dick, ICLR 2021, and the code they published.
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
        """Epochs after which a round prunes, in order; 0 is before any training."""
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
        asked: Precision asked for. Default: that of the device, see `PRECISIONS`.

    Raises:
        PresetError: If the device does not have the precision; lists those that it has.
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
