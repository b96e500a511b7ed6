"""The processes that share one measurement: where they meet, and what they add up.

All ranks of `torch.distributed` call the same functions with the same arguments. Each takes its
share of the sample, and sums over the shares are those of one process. Before anything is added up,
the ranks meet and say where they are, so that ranks in different places end with an error on each
of them and no sum is ever made of different things. An error of one rank is told to the others at
the next meeting. A process group of its own carries this, so that nothing is mixed up with the
collective operations of a training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pruneviz import errors
from pruneviz.errors import MeasureError, PrunevizError

Found = TypeVar("Found")
# where a rank is, class and text of its error, its facts, its reason
_Said: TypeAlias = tuple[str, tuple[str, str] | None, Mapping[str, Any], str]

_AT_ONCE = 1 << 22  # numbers in one message
_MISSING = re.compile(r"\[Rank 0\]: Ranks? ([\d, ]+) failed")
_BACKENDS = ("cpu", "cuda")
_USUAL = timedelta(minutes=30)  # torch's own timeout of gloo


@dataclass(frozen=True, eq=False)
class Ranks:
    """The processes of one measurement; without arguments one process alone.

    Attributes:
        number: Rank of this process.
        count: Number of processes.
        group: Their process group; None for one process.
        timeout: How long a rank waits for the others.
    """

    number: int = 0
    count: int = 1
    group: Any = field(default=None, repr=False)
    timeout: timedelta = _USUAL
    _common: list[BaseException] = field(default_factory=list, repr=False)  # errors of all ranks
    _closed: list[bool] = field(default_factory=list, repr=False)

    @property
    def is_alone(self) -> bool:
        """Whether there is one process."""
        return self.count == 1

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self.group is not None and bool(self._closed)

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes."""
        return self.number == 0

    def meet(self, where: str, facts: Mapping[str, Any] | None = None) -> None:
        """Wait for the other ranks, and check that they are at the same place with equal facts.

        Args:
            where: What the ranks do here, for errors.
            facts: What has to be equal on all ranks, by name; texts are shown where they differ.

        Raises:
            MeasureError: If a rank does not come in time, has failed, is elsewhere, or has other
                facts; on every rank that came.
        """
        if not self.is_alone:
            self._exchange(where, dict(facts or {}))

    @contextmanager
    def together(self, where: str, facts: Mapping[str, Any] | None = None) -> Iterator[None]:
        """Context that all ranks enter and leave together, or not at all.

        Args:
            where, facts: As for `meet`.

        Raises:
            MeasureError: As for `meet`; an error inside is raised on the rank that has it, and
                told to the others.
        """
        self.meet(where, facts)
        try:
            yield
        except Exception as error:
            self._tell(where, error)
            raise
        self.meet(f"the end of {where}")

    def first(self, where: str, find: Callable[[], Found]) -> Found:
        """What rank 0 finds, on every rank; the others find nothing themselves.

        Args:
            where: As for `meet`.
            find: Called on rank 0; its answer can be pickled.
        """
        if self.is_alone:
            return find()
        answer: list[Any] = [None]
        if self.is_first:
            try:
                answer = [find()]
            except Exception as error:
                self._tell(where, error)
                raise
        self.meet(where)
        with self._sending(where):
            dist.broadcast_object_list(answer, src=0, group=self.group)
        found: Found = answer[0]
        return found

    def reason(self, where: str, own: str) -> str:
        """The reason of the first rank that has one; "" if none has.

        Args:
            where: As for `meet`.
            own: The reason of this rank.
        """
        if self.is_alone:
            return own
        return next(filter(None, self._exchange(where, {}, own)), "")

    def total(self, where: str, tensors: Sequence[Tensor]) -> None:
        """Replace numbers by their sums over the ranks, in place.

        Args:
            where: As for `meet`.
            tensors: Float64 tensors, of the same shapes on every rank.
        """
        if self.is_alone:
            return
        self.meet(where, {"numbers": [tuple(tensor.shape) for tensor in tensors]})
        with self._sending(where):
            for some in _parcels(tensors):
                _through_cpu(some, lambda flat: dist.all_reduce(flat, group=self.group))

    def take_first(self, where: str, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of rank 0, in place.

        Args:
            where: As for `meet`.
            tensors: Tensors of the same types and shapes on every rank.
        """
        if self.is_alone:
            return
        kinds = [(str(tensor.dtype), tuple(tensor.shape)) for tensor in tensors]
        self.meet(where, {"tensors": kinds})
        with self._sending(where):
            for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
                for some in _parcels([tensor for tensor in tensors if tensor.dtype == dtype]):
                    _through_cpu(some, lambda flat: dist.broadcast(flat, 0, group=self.group))

    def close(self) -> None:
        """Take the process group of these ranks down. A second call is a no-op."""
        if self.group is None or self._closed:
            return
        self._closed.append(True)
        try:
            dist.destroy_process_group(self.group)
        except (ValueError, AssertionError):  # taken down before, with the default group
            return

    def _exchange(
        self,
        where: str,
        facts: Mapping[str, Any],
        reason: str = "",
        failure: tuple[str, str] | None = None,
    ) -> list[str]:
        """Meet the other ranks; the reasons of all."""
        found: list[Any] = [None] * self.count
        with self._sending(where):
            # names the ranks that are missing, which a gather does not
            dist.monitored_barrier(self.group, self.timeout, wait_all_ranks=True)
            dist.all_gather_object(found, (where, failure, facts, reason), group=self.group)
        if failure:
            return []
        problem = _failure(found) or _apart(found) or _differing(found)
        if problem:
            self._common[:] = [problem]
            raise problem
        return [reason for *_, reason in found]

    def _tell(self, where: str, error: Exception) -> None:
        """Tell the other ranks of an error, unless they have it too."""
        if self.is_alone or _is_among(error, self._common):
            return
        self._common[:] = [error]
        try:
            self._exchange(where, {}, failure=(type(error).__name__, str(error)))
        except MeasureError:  # they are gone: the first error is the one to raise
            return

    @contextmanager
    def _sending(self, where: str) -> Iterator[None]:
        """Context that explains errors of torch."""
        try:
            yield
        except RuntimeError as error:
            found = _MISSING.search(str(error))
            who = f"rank {found[1].strip()}" if found else "another rank"
            self._common[:] = [
                MeasureError(
                    f"rank {self.number} waited at {where}, and {who} did not come within "
                    f"{self.timeout.total_seconds():g} s or has ended; every rank has to make the "
                    "same calls with the same arguments (a longer wait: timeout of "
                    "init_process_group). Nothing of this measurement was written"
                )
            ]
            raise self._common[0] from error


ALONE = Ranks()


def _is_among(error: BaseException | None, known: Sequence[BaseException]) -> bool:
    """Whether an error is a known one or was raised because of it."""
    while error is not None:
        if any(error is one for one in known):
            return True
        error = error.__cause__ or error.__context__
    return False


def _failure(found: Sequence[_Said]) -> PrunevizError | None:
    """The error of a rank that failed, as one of the same class if it is ours."""
    for number, (where, failure, _, _) in enumerate(found):
        if failure:
            kind, text = failure
            own = getattr(errors, kind, None)
            if isinstance(own, type) and issubclass(own, PrunevizError):
                return own(f"rank {number} failed at {where}: {text}")
            return MeasureError(f"rank {number} failed at {where}: {kind}: {text}")
    return None


def _apart(found: Sequence[_Said]) -> PrunevizError | None:
    """The error that says where the ranks are, if not at one place."""
    first = found[0][0]
    for number, (where, *_) in enumerate(found):
        if where != first:
            return MeasureError(
                f"rank 0 is at {first}, rank {number} at {where}; every rank has to make the same "
                "calls in the same order"
            )
    return None


def _differing(found: Sequence[_Said]) -> PrunevizError | None:
    """The error that names the first fact in which a rank differs from rank 0."""
    where, _, first, _ = found[0]
    for number, (_, _, facts, _) in enumerate(found):
        for name in {**first, **facts}:
            one, other = first.get(name), facts.get(name)
            if one != other:
                texts = isinstance(one, str) and isinstance(other, str)
                how = (
                    f"is {_shown(one)} on rank 0 and {_shown(other)} on rank {number}"
                    if texts
                    else f"differs between rank 0 and rank {number}"
                )
                return MeasureError(f"{where}: {name} {how}; give the same on every rank")
    return None


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _parcels(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors in the order given, as many at once as make one message."""
    some: list[Tensor] = []
    for tensor in tensors:
        if some and sum(map(Tensor.numel, some)) + tensor.numel() > _AT_ONCE:
            yield some
            some = []
        some.append(tensor)
    if some:
        yield some


def _through_cpu(tensors: Sequence[Tensor], send: Callable[[Tensor], object]) -> None:
    """Send tensors of one type as one, and write what comes back into them."""
    flat = torch.cat([tensor.detach().reshape(-1).cpu() for tensor in tensors])
    if not flat.numel():
        return
    send(flat)
    sizes = [tensor.numel() for tensor in tensors]
    for tensor, part in zip(tensors, flat.split(sizes), strict=True):
        tensor.detach().copy_(part.view(tensor.shape))


def is_distributed() -> bool:
    """Whether `torch.distributed` runs with several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_ranks(where: str) -> Ranks:
    """All processes of `torch.distributed`; one alone if it does not run, or has one.

    Called on every rank. What they wait for each other is the timeout of the default group.

    Args:
        where: What the ranks do here, for errors.

    Raises:
        MeasureError: If a rank does not call it in time.
    """
    if not is_distributed():
        return ALONE
    if not dist.is_gloo_available():
        raise MeasureError(
            "this build of torch has no gloo, over which ranks share a measurement; measure on "
            "rank 0 alone with ranks='first'"
        )
    number, count, timeout = dist.get_rank(), dist.get_world_size(), _timeout()
    try:
        group = dist.new_group(backend="gloo", timeout=timeout)
    except RuntimeError as error:
        raise MeasureError(
            f"rank {number} waited at {where}, and another rank did not come within "
            f"{timeout.total_seconds():g} s or has ended; make this call on every rank, or record "
            "on rank 0 alone with ranks='first'"
        ) from error
    return Ranks(number, count, group, timeout)


def _timeout() -> timedelta:
    """The timeout that a person gave to `init_process_group`."""
    for device in _BACKENDS:
        try:
            backend: Any = dist.group.WORLD._get_backend(torch.device(device))  # type: ignore[union-attr]
            found: timedelta = backend.options._timeout
        except (RuntimeError, AttributeError):  # the group has no such backend, or another torch
            continue
        return found
    return _USUAL
