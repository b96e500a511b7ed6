"""Ray as an executor: a task has its cores and GPUs, and is begun again if its node is lost."""

from __future__ import annotations

import logging
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from functools import partial
from typing import Any

from pruneviz.console.stop_signals import STOP_SIGNALS
from pruneviz.engines.engine import Engine
from pruneviz.engines.task_future import TaskFuture
from pruneviz.errors import PrunevizError

_LONGEST = 300  # characters of what Ray says

_logger = logging.getLogger("pruneviz")

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class RayExecutor(Executor):
    """Tasks in a Ray cluster.

    A cluster that this process has joined already is used and stays; else `shutdown` leaves it.

    Args:
        engine: The address, and what each task gets.

    Raises:
        PrunevizError: If the cluster cannot be reached, or a resource is no number.
    """

    def __init__(self, engine: Engine) -> None:
        import ray

        options: dict[str, Any] = {
            "num_cpus": engine.cpus or 1,
            "num_gpus": engine.gpus or 0,
            "max_retries": engine.tries,
            "resources": amounts(engine.resources),
        }
        self._ray = ray
        self._joined = not ray.is_initialized()
        if self._joined:
            _join(ray, engine)
        _warn_if_none_fits(ray, options)
        self._remote = ray.remote(**options)(_call)
        self._futures: weakref.WeakSet[TaskFuture] = weakref.WeakSet()
        self._is_shut = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a task; errors that it raises are raised by `result` of its future."""
        if self._is_shut:
            raise RuntimeError("no task can be submitted after shutdown")
        future = TaskFuture()
        ref = self._remote.remote(fn, args, kwargs)
        future.withdraw = partial(self._ray.cancel, ref)
        ref.future().add_done_callback(partial(_pass_on, future))
        self._futures.add(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the tasks, or withdraw them, and leave the cluster."""
        self._is_shut = True
        futures = list(self._futures)
        if cancel_futures:
            for future in futures:
                future.cancel()
        if wait:
            wait_for(futures)
        if self._joined:
            self._joined = False
            with _handlers_kept():
                self._ray.shutdown()


wait_for = wait  # `shutdown` has an argument of that name


def amounts(resources: Mapping[str, str]) -> dict[str, float]:
    """Resources by name, as numbers.

    Raises:
        PrunevizError: If one is no number.
    """
    found = {}
    for name, text in resources.items():
        try:
            found[name] = float(text)
        except ValueError as error:
            raise PrunevizError(
                f"resource {name}={text} is no number; give how much of it a task needs, such as "
                f"{name}=1"
            ) from error
    return found


def _join(ray: Any, engine: Engine) -> None:
    """Join the cluster of an address; without one, that of this machine, or a new one."""
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with _handlers_kept(), _environment(_QUIET):
            ray.init(address=engine.on if engine.address else None, **settings)
    except Exception as error:  # Ray has many, also plain ones
        where = engine.on if engine.address else os.environ.get("RAY_ADDRESS", "this machine")
        lines = str(error).strip().splitlines() or [type(error).__name__]
        why = " ".join(dict.fromkeys([lines[0], lines[-1]]))[:_LONGEST].rstrip(".")
        raise PrunevizError(
            f"there is no Ray cluster at {where} ({why}); start one with `ray start --head`, or "
            "correct the address"
        ) from error


def _warn_if_none_fits(ray: Any, options: Mapping[str, Any]) -> None:
    """Warn that no node has what a task needs: one that has it may still join."""
    needed = {"CPU": options["num_cpus"], "GPU": options["num_gpus"], **options["resources"]}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= much for name, much in needed.items()) for node in nodes):
        return
    asked = " and ".join(f"{name}={much:g}" for name, much in needed.items() if much)
    _logger.warning(
        "no node of the Ray cluster has %s now; runs wait until one joins, or ask for less", asked
    )


@contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    """Context with further environment variables, for processes that are started in it."""
    new = {name: value for name, value in added.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Context after which signals are handled as before; Ray sets a handler of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that was not set by Python cannot be put back
                signal.signal(number, handler)


def _pass_on(future: TaskFuture, ended: Future[Any]) -> None:
    """Pass the end of Ray's future on to ours."""
    error = ended.exception()
    if error is None:
        future.settle(ended.result())
    else:
        future.settle(error=getattr(error, "cause", None) or error)


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)
