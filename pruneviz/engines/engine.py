"""Which engine does the work, and what each task of it gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pruneviz.errors import PrunevizError, unknown_name

KINDS = ("local", "ray", "slurm", "dask")
FORMS = "local, ray, ray://HOST:PORT, slurm or dask://HOST:PORT"

_RETRIES = 3  # as Ray has it


@dataclass(frozen=True)
class Engine:
    """An engine by name, and what each task gets; checked on construction.

    Args:
        on: "local", "ray", "ray://HOST:PORT", "slurm" or "dask://HOST:PORT".
        cpus: Cores of a task. Default: one; with "local" the cores are shared.
        gpus: GPUs of a task; Ray also shares one, such as 0.25.
        retries: How often a task is begun again when its node is lost, or its time is over.
            Default: 3.
        resources: What else a task needs, by name: resources of Ray and Dask, or options of sbatch.

    Raises:
        PrunevizError: If there is no such engine, or it cannot give this.
    """

    on: str = "local"
    cpus: int | None = None
    gpus: float | None = None
    retries: int | None = None
    resources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind, separator, address = self.on.partition("://")
        if kind not in KINDS:
            raise PrunevizError(unknown_name("engine", self.on, KINDS, f"such as {FORMS}"))
        host, _, port = address.rpartition(":")
        takes_address = kind in ("ray", "dask")
        if (separator and not takes_address) or (kind == "dask" and not separator):
            raise PrunevizError(f"{self.on} is no engine; give {FORMS}")
        if separator and not (host and port.isdecimal()):
            raise PrunevizError(f"{self.on} has no host and port; give {kind}://HOST:PORT")
        self._check_shares()

    def _check_shares(self) -> None:
        """Raise an error about what this engine cannot give."""
        kind, gpus = self.kind, self.gpus or 0
        given = {"cpus": self.cpus, "gpus": self.gpus, "retries": self.retries}
        named = [name for name, value in given.items() if value is not None]
        if kind == "local" and (named or self.resources):
            raise PrunevizError(
                f"the engine local gives tasks no {', '.join([*named, *self.resources])}; leave "
                "that out, or name an engine of several machines"
            )
        if kind == "dask" and (self.gpus is not None or self.retries is not None):
            raise PrunevizError(
                "Dask hands out no GPUs and counts retries in its own configuration; leave gpus "
                "and retries out, and name a resource of its workers, such as GPU=1"
            )
        if gpus != int(gpus) and (gpus > 1 or kind == "slurm"):
            raise PrunevizError(
                f"{gpus:g} GPUs cannot be given to a task; give a whole number"
                f"{', or a fraction of one' if kind == 'ray' else ''}"
            )

    @property
    def kind(self) -> str:
        """The engine without its address: one of `KINDS`."""
        return self.on.partition("://")[0]

    @property
    def is_local(self) -> bool:
        """Whether the work is done on this machine, by pruneviz alone."""
        return self.kind == "local"

    @property
    def address(self) -> str:
        """Host and port; "" where there is none."""
        return self.on.partition("://")[2]

    @property
    def tries(self) -> int:
        """How often a task is begun again."""
        return _RETRIES if self.retries is None else self.retries

    @property
    def tasks_per_gpu(self) -> int:
        """How many tasks share a GPU."""
        return max(1, int(1 / self.gpus)) if self.gpus else 1


LOCAL = Engine()
