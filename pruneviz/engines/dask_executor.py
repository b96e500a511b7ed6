"""Dask as an executor: one task in each thread of its workers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from pruneviz.engines.engine import Engine
from pruneviz.engines.ray_executor import amounts
from pruneviz.errors import PrunevizError

_logger = logging.getLogger("pruneviz")

_SECONDS = "10s"  # to reach the scheduler


class DaskExecutor(Executor):
    """Tasks in a Dask cluster.

    Args:
        engine: The address of the scheduler, and resources of its workers that a task needs.

    Raises:
        PrunevizError: If the scheduler cannot be reached, or a resource is no number.
    """

    def __init__(self, engine: Engine) -> None:
        from distributed import Client

        resources = amounts(engine.resources)
        try:
            self._client = Client(
                f"tcp://{engine.address}", timeout=_SECONDS, set_as_default=False, name="pruneviz"
            )
        except (OSError, TimeoutError) as error:
            raise PrunevizError(
                f"there is no Dask scheduler at {engine.address}; start one with `dask scheduler`, "
                "or correct the address"
            ) from error
        if not self._client.scheduler_info()["workers"]:
            _logger.warning("%s has no workers now; runs wait until one joins", engine.on)
        self._executor = self._client.get_executor(
            pure=False, **({"resources": resources} if resources else {})
        )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a task; errors that it raises are raised by `result` of its future."""
        future: Future[Any] = self._executor.submit(fn, *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the tasks, or withdraw them, and leave the scheduler."""
        self._executor.shutdown(wait=wait and not cancel_futures)
        self._client.close()
