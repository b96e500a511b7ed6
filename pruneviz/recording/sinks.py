"""Where numbers and pictures of a recording go while a network trains: `pruneviz.sinks`.

A sink is a function of (run, epoch, aggregates), or an object with such a method `epoch`. Sinks for
TensorBoard and Weights & Biases are here. As `pruneviz.sinks` this module is public.

Example:
    >>> def told(run, epoch, aggregates):
    ...     print(run, epoch, aggregates.get("pearson/theta_g/theta_hg"))
    >>> pv.Recorder(model, sample, "data/mine/run0", sinks=[told, pv.sinks.TensorBoard("logs")])
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from pruneviz.errors import LogError, PresetError

FIGURE = "filters"  # name of the figure of an epoch


class Sink(Protocol):
    """What a sink has: `epoch`, and if it likes `figure` and `close`.

    A plain function of the arguments of `epoch` is a sink too. A sink that raises an error is named
    in one warning, and asked again until it has failed three times in a row; training goes on.
    Sinks are called in the process that trains, between epochs, so a slow one makes training wait.

    `figure(run, epoch, figure)`, optional, gets a matplotlib figure at the epochs of the recorder's
    `figures_at`. `close()`, optional, is called when the recorder is closed or left by an error;
    it may be called several times, and epochs may follow.
    """

    def epoch(self, run: str, epoch: int, aggregates: Mapping[str, float]) -> None:
        """Take the aggregates of a recorded epoch.

        Called once for every epoch, and a second time for the last one if closing the recorder
        measures that; then with what is new.

        Args:
            run: Name of the run.
            epoch: Number of epochs trained.
            aggregates: Numbers by name, such as `epoch/train_loss`, `pearson/theta_g/theta_hg` and
                `theta_g/features.3/q50` (docs/watching.md). The sink's own, to keep or change.
        """


AnySink: TypeAlias = Sink | Callable[[str, int, dict[str, float]], object]
# To a type checker, a list of functions and objects is one of anything.
Sinks: TypeAlias = AnySink | Sequence[Any]


class TensorBoard:
    """Write scalars, and figures as images, for TensorBoard.

    Args:
        writer: A `SummaryWriter`, which stays open; or a folder, in which every run gets one of its
            own.
        prefix: Text in front of every name, such as "pruning/".

    Raises:
        ImportError: If a folder is given and TensorBoard is not installed.

    Example:
        >>> pv.Recorder(model, sample, "data/mine/run0", sinks=[pv.sinks.TensorBoard("logs")])
    """

    def __init__(self, writer: Any, *, prefix: str = "") -> None:
        is_folder = isinstance(writer, (str, Path))
        if is_folder:
            _check_installed("tensorboard", "tensorboard")
        elif not hasattr(writer, "add_scalar"):
            raise LogError(
                f"TensorBoard({writer!r}): give a folder, or a SummaryWriter of "
                "torch.utils.tensorboard"
            )
        self._folder = Path(writer) if is_folder else None
        self._given, self._prefix = writer, prefix
        self._own: dict[str, Any] = {}  # writers by run

    def __repr__(self) -> str:
        return f"TensorBoard({str(self._folder) if self._folder else self._given!r})"

    def epoch(self, run: str, epoch: int, aggregates: Mapping[str, float]) -> None:
        """Write every number as a scalar; the step is the epoch."""
        writer = self._writer(run)
        for name, value in aggregates.items():
            writer.add_scalar(f"{self._prefix}{name}", value, global_step=epoch)
        writer.flush()  # a killed process loses nothing

    def figure(self, run: str, epoch: int, figure: Any) -> None:
        """Write a figure as an image."""
        writer, name = self._writer(run), f"{self._prefix}{FIGURE}"
        writer.add_image(name, pixels(figure), global_step=epoch, dataformats="HWC")
        writer.flush()

    def close(self) -> None:
        """Close the writers of a folder, and flush one that was given."""
        while self._own:
            self._own.popitem()[1].close()
        if not self._folder:
            self._given.flush()

    def _writer(self, run: str) -> Any:
        if self._folder is None:
            return self._given
        if run not in self._own:
            make = importlib.import_module("torch.utils.tensorboard").SummaryWriter
            self._own[run] = make(str(self._folder / run))
        return self._own[run]


class WandB:
    """Log into Weights & Biases, against an axis `epoch` of pruneviz's own.

    Args:
        run: A run of `wandb.init`, which stays open and keeps its own steps. Default: every run has
            one of its own, with its name, which is finished when the recorder is closed. It is not
            `wandb.run`.
        project: Project of such runs.
        prefix: Text in front of every name. Default: "pruneviz/" in a run that is given.
        **options: Further arguments of `wandb.init` for such runs, such as mode="offline", `dir`
            and `group`.

    Raises:
        ImportError: If Weights & Biases is not installed.
        LogError: If there is neither run nor project, or both.

    Example:
        >>> sink = pv.sinks.WandB(project="pruning", mode="offline")
        >>> pv.Recorder(model, sample, "data/mine/run0", sinks=[sink])
    """

    def __init__(
        self,
        run: Any = None,
        *,
        project: str | None = None,
        prefix: str | None = None,
        **options: Any,
    ) -> None:
        if (run is None) == (project is None):
            raise LogError(
                "WandB takes either a run of wandb.init, or the name of a project: "
                "WandB(wandb.init(...)) or WandB(project='pruning')"
            )
        if run is not None and (not hasattr(run, "define_metric") or options):
            told = f"options {', '.join(options)}" if options else f"{run!r}, which is no run"
            raise LogError(
                f"WandB was given {told}; give a run of wandb.init alone, or project='pruning' "
                "with options of wandb.init"
            )
        if run is None:
            _check_installed("wandb", "wandb")
        self._given, self._project, self._options = run, project, options
        self._prefix = ("" if run is None else "pruneviz/") if prefix is None else prefix
        self._runs: dict[str, Any] = {}  # runs of wandb by run
        self._unstarted: Exception | None = None  # why none can be started
        self._last: tuple[str, int] | None = None  # run and epoch whose values joined a row
        self._step: int | None = None  # of that row in the given run

    def __repr__(self) -> str:
        whose = repr(self._project) if self._project else "a run that was given"
        return f"WandB({whose})"

    def epoch(self, run: str, epoch: int, aggregates: Mapping[str, float]) -> None:
        """Log every number."""
        self._log(run, epoch, aggregates)

    def figure(self, run: str, epoch: int, figure: Any) -> None:
        """Log a figure as an image."""
        image = importlib.import_module("wandb").Image(pixels(figure))
        self._log(run, epoch, {FIGURE: image})

    def close(self) -> None:
        """Finish the runs that this sink started."""
        while self._runs:
            wandb_run = self._runs.popitem()[1]
            if self._given is None:
                wandb_run.finish()

    def _log(self, run: str, epoch: int, values: Mapping[str, Any]) -> None:
        wandb_run = self._run(run)
        row = {f"{self._prefix}{name}": value for name, value in values.items()}
        row[f"{self._prefix}epoch"] = epoch
        if self._given is None:
            wandb_run.log(row)
            return
        # Without a step the run would count one more, and drop what its owner logs at this step.
        # So values join the row that is open, unless those of another epoch are in it.
        step, last = wandb_run.step, self._last
        is_taken = step == self._step and last != (run, epoch)
        self._step, self._last = step + is_taken, (run, epoch)
        wandb_run.log(row, step=self._step)

    def _run(self, run: str) -> Any:
        if run not in self._runs:
            started = self._started(run) if self._given is None else self._given
            self._runs[run] = started
            axis = f"{self._prefix}epoch"
            started.define_metric(axis, hidden=True)
            started.define_metric(f"{self._prefix}*", step_metric=axis)
        return self._runs[run]

    def _started(self, run: str) -> Any:
        if self._unstarted:  # without a network each try takes minutes
            raise self._unstarted
        # a new run beside one that is active, and nothing printed is captured
        quiet = {"reinit": "create_new", "settings": {"console": "off"}}
        how = {"project": self._project, "name": run, **quiet, **self._options}
        try:
            return importlib.import_module("wandb").init(**how)
        except Exception as error:
            self._unstarted = error
            raise


def pixels(figure: Any) -> np.ndarray:
    """A matplotlib figure as an image [height, width, 3] of bytes, drawn without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


KINDS: Mapping[str, Callable[[str], Any]] = {
    "tensorboard": lambda folder: TensorBoard(folder),
    "wandb": lambda project: WandB(project=project),
}


def named_sink(text: str) -> Any:
    """The sink that a command line names.

    Args:
        text: "tensorboard:FOLDER" or "wandb:PROJECT".

    Raises:
        LogError: If it names no sink.
        ImportError: If its package is not installed.
    """
    kind, _, where = text.partition(":")
    if kind not in KINDS or not where:
        raise LogError(f"sink {text!r}: give tensorboard:FOLDER or wandb:PROJECT")
    return KINDS[kind](where)


def makeable_sinks(texts: Sequence[str]) -> tuple[str, ...]:
    """Sinks that a command line names and that can be made, which is tried before any work.

    Args:
        texts: See `named_sink`.

    Raises:
        LogError: If one names no sink.
        PresetError: If its package is not installed.
    """
    for text in texts:
        try:
            named_sink(text)
        except ImportError as error:
            raise PresetError(f"--sink {text}: {error}") from error
    return tuple(texts)


def _check_installed(package: str, extra: str) -> None:
    found = find_spec(package)
    if found is None or found.origin is None:  # a folder of this name is no package
        raise ImportError(
            f"this sink needs {package}, which is not installed: pip install 'pruneviz[{extra}]'"
        )
