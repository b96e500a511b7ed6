"""Whether a run goes on with the options and the images that it was begun with.

What a plan says is compared by `pruneviz.log.run_directory.check_same_options`. Here is the rest:
options that are no part of a plan, and the images that were read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruneviz.errors import DataError, LogError
from pruneviz.log.run_spec import RunSpec

if TYPE_CHECKING:
    from torch import Tensor

    from pruneviz.experiment.images import ImageData

# torch is imported where it is used: a command checks many runs before it starts a process

OPTIONS = "recorded_with"  # fact: flags of `pruneviz record` that add files or tables
RANKS = "ranks"  # fact: number of processes that trained the run together; one process has none
_IMAGES = {"training": "train_images_sha256", "test": "test_images_sha256"}  # facts


def check_flags(path: Path, before: RunSpec, now: Sequence[str], *, sealed: bool) -> None:
    """Check that a run has the flags that are given now.

    Args:
        path: Run directory.
        before: Its facts; those of older versions say nothing of flags.
        now: The flags.
        sealed: Whether the run is finished, and so may have more than is asked for.

    Raises:
        LogError: If it has not; names the flag.
    """
    was = before.extra.get(OPTIONS)
    if was is None:
        return
    for flag in sorted({*was} - {*now}) if not sealed else ():
        raise LogError(
            f"{path} was started with {flag}; give {flag} again, or choose another folder"
        )
    for flag in sorted({*now} - {*was}):
        raise LogError(
            f"{path} was started without {flag}; leave {flag} out, or choose another folder"
        )


def check_ranks(path: Path, before: RunSpec, now: int) -> None:
    """Check that a run goes on with the number of processes that it was begun with.

    Another number adds up gradients and batch statistics in other shares, and so gives other
    numbers.

    Args:
        path: Run directory.
        before: Its facts.
        now: The number of processes.

    Raises:
        LogError: If it is another one.
    """
    was = int(before.extra.get(RANKS) or 1)
    if was == now:
        return
    by, again = f"{was} processes", f"start {was} with torchrun"
    if was == 1:
        by, again = "one process", "call pruneviz record without torchrun"
    raise LogError(
        f"{path} was started by {by} and would go on with {now}, which gives other numbers; "
        f"{again}, or choose another folder"
    )


def check_request_at(path: Path, before: RunSpec, asked: dict[str, Any]) -> None:
    """Check that columns on request are not at fewer epochs than they are asked for.

    Raises:
        LogError: If they are.
    """
    held = before.extra.get("request_at")
    if asked and held is not None and "request_at" not in asked:
        flag = f"--request-at {str(held).replace(' ', ',')}"
        raise LogError(f"{path} was started with {flag}; give it again, or choose another folder")


def images_facts(data: ImageData) -> dict[str, str]:
    """Digests of the images and labels that are trained on and tested with, as facts of a spec."""
    return {
        _IMAGES["training"]: _digest(data.train_images, data.train_labels),
        _IMAGES["test"]: _digest(data.test_images, data.test_labels),
    }


def check_images(path: Path, before: RunSpec, data: ImageData) -> None:
    """Check that a run goes on with the images that it was begun with.

    Args:
        path: Run directory.
        before: Its facts; those of older versions have no digests.
        data: The images that were read now.

    Raises:
        DataError: If they differ; names the part.
    """
    now = images_facts(data)
    for part, fact in _IMAGES.items():
        if before.extra.get(fact, now[fact]) != now[fact]:
            raise DataError(
                f"{path} was started with other {part} images or labels of {data.name}; give the "
                "folder with the images as they were (--images), or choose another folder for "
                "the run"
            )


def check_sample(spec: RunSpec, seed: int, images: Tensor, labels: Tensor) -> None:
    """Check that a sample that is drawn again is the one that a run was measured on.

    Args:
        spec: Facts of the run; those of older versions have no digest.
        seed: Seed of the draw. Another one than the run's draws another sample on purpose.
        images: Its images.
        labels: Their labels.

    Raises:
        DataError: If it is another one.
    """
    recorded = spec.extra.get("sample_digest")
    if recorded is None or seed != int(spec.sample_seed or 0):
        return
    if _digest(images, labels) != recorded:
        raise DataError(
            f"{spec.run} was measured on other images of {spec.dataset} than are read now; give "
            "the folder with the images of its recording (--images), or draw another sample on "
            "purpose (--sample-seed)"
        )


def _digest(images: Tensor, labels: Tensor) -> str:
    from pruneviz.measuring.sample_digest import sample_digest

    return sample_digest([(images, labels)])
