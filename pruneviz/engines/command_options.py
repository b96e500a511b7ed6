"""Options of commands that say where work is done: `--on`, and what a run gets there."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from pruneviz.console.options import separated
from pruneviz.engines.engine import FORMS, Engine
from pruneviz.engines.executors import check_installed
from pruneviz.errors import PrunevizError

_PANEL = "Runs on several machines"

_OPTIONS = {
    "on": Annotated[
        str,
        typer.Option(
            "--on", metavar="ENGINE", rich_help_panel=_PANEL, help=f"Where runs are done: {FORMS}."
        ),
    ],
    "cpus_per_run": Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=_PANEL,
            help="Cores and threads of a run. Default: 1.",
        ),
    ],
    "gpus_per_run": Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="N",
            rich_help_panel=_PANEL,
            help="GPUs of a run; with Ray also a fraction, such as 0.25. Default: 1 with --device "
            "cuda, else none.",
        ),
    ],
    "retries": Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            rich_help_panel=_PANEL,
            help="How often a run goes on elsewhere when its node is lost or its time is over. "
            "Default: 3.",
        ),
    ],
    "resource": Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,...",
            rich_help_panel=_PANEL,
            help="What else a run needs: a resource of Ray or Dask, or an option of sbatch, such "
            "as partition=gpu time=120.",
        ),
    ],
}
_DEFAULTS = {"on": "local"}


def with_engine(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command function the options of an engine.

    The function takes them as one argument, `engine`; it may also have one named `device`, whose
    "cuda" means one GPU for each run if nothing else is said.
    """
    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS.get(name), annotation=option
        )
        for name, option in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        options = {name: given.pop(name) for name in _OPTIONS}
        command(**given, engine=_engine(given.get("device"), **options))

    own = [each for each in signature.parameters.values() if each.name != "engine"]
    with_options.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return with_options


def _engine(
    device: str | None,
    on: str,
    cpus_per_run: int | None,
    gpus_per_run: float | None,
    retries: int | None,
    resource: list[str] | None,
) -> Engine:
    kind = on.partition("://")[0]
    if gpus_per_run is None and device == "cuda" and kind in ("ray", "slurm"):
        gpus_per_run = 1
    if gpus_per_run and device == "cpu":
        raise PrunevizError(
            f"--gpus-per-run {gpus_per_run:g} with --device cpu; leave one of them out"
        )
    engine = Engine(on, cpus_per_run, gpus_per_run, retries, _resources(resource or []))
    check_installed(engine)
    return engine


def _resources(given: list[str]) -> dict[str, str]:
    """Resources by name.

    Raises:
        PrunevizError: If one has no name or no value.
    """
    found = {}
    for text in separated(given):
        name, _, value = text.partition("=")
        if not (name and value):
            raise PrunevizError(f"--resource {text} is not NAME=VALUE; give it as such")
        found[name] = value
    return found
