"""The network and the images of a recorded run, built again from its spec."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pruneviz.errors import LogError
from pruneviz.log.run_spec import RunSpec
from pruneviz.plans.needs import DATASET_NAMES, NETWORK_NAMES

if TYPE_CHECKING:
    from torch import nn

    from pruneviz.experiment.images import ImageData

# torch is imported where it is used: a command checks many runs before it starts a process


def check_rebuildable(spec: RunSpec, otherwise: str) -> None:
    """Check that the network and the images of a run can be made from its spec.

    Args:
        spec: Spec of the run.
        otherwise: What to do with a run of a training loop of one's own.

    Raises:
        LogError: If `pruneviz record` did not make the run.
    """
    known = spec.network in NETWORK_NAMES and spec.dataset in DATASET_NAMES
    if not known or None in (spec.seed, spec.sample_seed, spec.width):
        raise LogError(
            f"{spec.run} was not made by pruneviz record, so its network cannot be built again; "
            f"{otherwise}"
        )


def images_of(spec: RunSpec, root: Path | None, device: str, *, whole: bool = False) -> ImageData:
    """The images that a run trained on.

    Args:
        spec: Spec of the run.
        root: Folder with the data sets. Default: see `load_dataset`.
        device: Device of the images.
        whole: Give all training images of the data set, also those that the run left out.

    Raises:
        DataError: If files are missing or damaged.
    """
    from pruneviz.experiment.datasets import load_dataset
    from pruneviz.experiment.images import subset

    data = load_dataset(str(spec.dataset), root=root, device=device, image_size=spec.image_size)
    if whole or spec.train_images in (None, len(data.train_labels)):
        return data
    return subset(data, int(spec.train_images or 0) // data.num_classes, None, seed=0)


def network_of(spec: RunSpec, num_classes: int, device: str) -> nn.Module:
    """A network of the architecture of a run, not with its weights."""
    from pruneviz.experiment.networks.registry import build_network

    width = float(spec.width or 0)
    return build_network(str(spec.network), num_classes=num_classes, width=width).to(device)
