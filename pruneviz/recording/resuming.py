"""Where a recording goes on, and whether the network is the one of that place."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from pruneviz.errors import LogError
from pruneviz.log.run_spec import RunSpec
from pruneviz.measuring.bits import differing_parts
from pruneviz.recording.recorded_epochs import RecordedEpochs, agrees

_LOSS_APART = 1e-3  # relative
_ON_CPU = 1e-5  # another number of threads changes about 1e-6
_ELSEWHERE = "to go on from another network on purpose, record into another folder"


class Place:
    """Whether the network was seen to be that of the last recorded epoch.

    A recorder may be made before the network is restored, so a network that differs then is no
    error; the next epoch is, unless the network was seen to agree in between.

    Args:
        path: Run directory.

    Attributes:
        ahead: The epoch that has to be recorded first and the digest of its network, where a
            checkpoint is ahead of the log.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._hint = path, ""
        self._like: int | None = None
        self._awaited: int | None = None
        self.ahead: tuple[int, str | None] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the network agreed, or nothing is recorded that it could differ from."""
        return self._awaited is None

    def settle(self) -> None:
        """Note that the network is the one of the last epoch."""
        self._awaited, self._hint, self._like, self.ahead = None, "", None, None

    def wait_for(self, epoch: int, hint: str = "", like: int | None = None) -> None:
        """Note that the network is not the one of the last epoch.

        Args:
            epoch: The last epoch.
            hint: What the network is instead, if that is known.
            like: The earlier epoch that it is the one of, if any.
        """
        self._awaited, self._hint, self._like, self.ahead = epoch, hint, like, None

    def check(self) -> None:
        """Check that the recording may go on.

        Raises:
            LogError: If the network was never seen to be that of the last epoch.
        """
        if self._awaited is not None:
            last, like = self._awaited, self._like
            drops = "all recorded epochs, and start anew"
            if like is not None:
                drops = "the epochs after it, and go on with this network"
            raise LogError(
                f"{self._path} goes on after epoch {last}, and the network was not the one of that "
                f"epoch when the recorder was made or since{self._hint}; restore the network of "
                f"epoch {last}, then call recorder.rewind({last}), or, if it is lost, call "
                f"recorder.rewind({-1 if like is None else like}), which drops {drops}; "
                f"{_ELSEWHERE}"
            )

    def check_ahead(self, epoch: int, digest: Callable[[], str | None]) -> None:
        """Check that the epoch that a checkpoint was ahead by is recorded first, as it was.

        Args:
            epoch: The epoch to record.
            digest: Gives the digest of the network now.

        Raises:
            LogError: If it is another epoch, or another network.
        """
        if self.ahead is None:
            return
        first, expected = self.ahead
        if epoch != first or (expected is not None and digest() != expected):
            raise LogError(
                f"{self._path} lacks epoch {first}, and the network of the checkpoint is the one "
                f"of that epoch; restore the checkpoint, and call recorder.after_epoch({first}) "
                "before training goes on"
            )


def ahead_error(path: Path, epoch: int) -> LogError:
    """The error for a checkpoint whose network was not recorded yet.

    Args:
        path: Run directory.
        epoch: The epoch of the network.
    """
    return LogError(
        f"the network of the checkpoint is ahead of {path}, which lacks it: if it was trained for "
        f"{epoch} epochs, and saved before the last was recorded, call "
        f"recorder.after_epoch({epoch}) now, before training goes on, and start the loop at epoch "
        f"{epoch + 1}. If it was only changed after it was recorded, such as pruned, or is another "
        "one than the averaged network that is recorded, do not: save such checkpoints with "
        f"recorder.state_dict({epoch - 1}), and resume from one of these"
    )


def other_network_error(path: Path, epoch: int | None, what: str = "") -> LogError:
    """The error for a state whose network is not there.

    Args:
        path: Run directory.
        epoch: The last epoch of the state.
        what: What the network is instead, from `other_parts`.
    """
    return LogError(
        f"the network is not the one of the checkpoint of {path} after epoch {epoch}{what}, and "
        "nothing was dropped; load its weights, buffers and masks first (pruneviz.load_with_masks, "
        "if it is pruned), then call recorder.load_state_dict"
    )


def kept_by_rewind(path: Path, recorded: RecordedEpochs, epoch: int) -> int | None:
    """The last epoch that a rewind keeps; None if it drops all.

    Args:
        path: Run directory.
        recorded: Its epochs.
        epoch: The last epoch to keep.

    Raises:
        LogError: If that epoch is not recorded, but an earlier one is; names the call that works.
    """
    earlier = [known for known in recorded.epochs if known <= epoch]
    if not earlier or earlier[-1] == epoch:
        return earlier[-1] if earlier else None
    last = earlier[-1]
    where = "ends after" if last == recorded.epochs[-1] else "lacks it, the one before is"
    raise LogError(
        f"rewind({epoch}): epoch {epoch} is not recorded; {path} {where} epoch {last}. Restore the "
        f"network of epoch {last}, and call recorder.rewind({last})"
    )


def difference(
    recorded: RecordedEpochs,
    epoch: int,
    spec: RunSpec,
    digest: str | None,
    now: Callable[[], pd.DataFrame],
    device: str,
) -> str | None:
    """What a network is instead of the one of a recorded epoch; None if it is that one.

    Compared are the bits of parameters, saved buffers and masks, and what modules print. Logs of
    older versions have no digest of these: then the cheap columns, exactly on the same kind of
    device.

    Args:
        recorded: The epochs of the run.
        epoch: One of them.
        spec: Facts of the run.
        digest: Digest of the network.
        now: Reads the stored rows of the cheap columns of the network.
        device: Type of the device that the network is on.
    """
    known = recorded.digest(epoch)
    if known is None or digest is None:
        exactly = spec.device in (None, device)
        same = agrees(recorded.rows(epoch), now(), spec.unit, exactly=exactly)
        return None if same else ""
    other = recorded.like(digest) if differing_parts(known, digest) else None
    if other is not None:
        return f" (it is the one of epoch {other})"
    return other_parts(known, digest)


def other_parts(known: str, digest: str) -> str | None:
    """What of a network differs, for an error; None if nothing does.

    Args:
        known: Digest of the network as it was.
        digest: Digest of the network now.
    """
    differing = differing_parts(known, digest)
    if not differing:
        return None
    if differing == ["modules"]:
        return (
            " (its tensors are, its modules are not: another module, or other options of one, such "
            "as eps or stride; build the network as it was)"
        )
    return (
        "" if "parameters" in differing else " (its parameters are, its buffers or masks are not)"
    )


def mismatch_error(path: Path, epoch: int, what: str) -> LogError:
    """The error for a rewind with another network.

    Args:
        path: Run directory.
        epoch: The last epoch to keep.
        what: What the network is instead, from `difference`.
    """
    return LogError(
        f"the network is not the one of epoch {epoch} of {path}{what}, and nothing was dropped; "
        f"restore the network of epoch {epoch}, then call recorder.rewind({epoch}); {_ELSEWHERE}"
    )


def loss_apart(recorded: str | None, now: str) -> float:
    """How far two losses of one network may differ, relative.

    Args:
        recorded: Type of the device that the first was measured on; None if it is not known.
        now: Type of the device of the second.
    """
    return _ON_CPU if recorded == now == "cpu" else _LOSS_APART


def check_loss(
    path: Path, epoch: int, before: float | None, now: Callable[[], float], apart: float
) -> None:
    """Check that the loss on the sample is the one that was recorded.

    Args:
        path: Run directory.
        epoch: Epoch of the network.
        before: Its loss in the log; None if it was not measured.
        now: Measures the loss.
        apart: By how much they may differ, relative.

    Raises:
        LogError: If it differs by more.
    """
    if before is None or math.isclose(before, found := now(), rel_tol=apart, abs_tol=1e-6):
        return
    raise LogError(
        f"the loss on the sample is {found:.9g}, and {path} has {before:.9g} for the same network "
        f"at epoch {epoch}; give the loss, the labels and the code of the network as they were, or "
        "choose another folder"
    )
