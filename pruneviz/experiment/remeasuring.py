"""Measure recorded runs again from kept weights, without training them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pruneviz.analysis.run_facts import BATCH_SIZE
from pruneviz.console.time_limit import TimeLimit
from pruneviz.engines.engine import LOCAL, Engine
from pruneviz.errors import LogError, MeasureError
from pruneviz.experiment.node_task import wait_until_idle
from pruneviz.experiment.parallel import Device, available_device, resumed_spec, run_jobs
from pruneviz.experiment.recorded_training import check_rebuildable, images_of, network_of
from pruneviz.experiment.same_run import OPTIONS, check_sample
from pruneviz.experiment.stop import Stop
from pruneviz.experiment.workers import Job, Report
from pruneviz.log.found_runs import folders_apart
from pruneviz.log.kept_files import check_recorded
from pruneviz.log.on_request import OnRequest
from pruneviz.log.run_directory import check_same_options
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import load
from pruneviz.log.spec_file import is_sealed, read_spec
from pruneviz.plans.needs import Need
from pruneviz.plans.planning import name_with_sample, run_name

if TYPE_CHECKING:
    from torch import nn

    from pruneviz.model.sample import Sample

# Facts of a spec that depend on measuring. All others describe the training.
_MEASURED_ANEW = frozenset(
    (
        "run", "unit", "weight_rows", "weight_rows_seed", "weights", "bn", "temperatures",
        "columns", "every", "lag", "mask_score", "mask_ratio", "sample_size", "sample_seed",
        "samples", "half_size", "sample_counted",
        "dtype", "device", "device_name", "threads", "command", "created", "versions",
        "schema_version", "wall_seconds", "oracle", "request_at", "draw_seed", "probes",
        "se_df", "se_df_drawn", "sample_batches", BATCH_SIZE, "strata", "population",
        "sample_digest", OPTIONS,
    )
)  # fmt: skip

# Facts about the recording that the new run's spec keeps in remeasured_from.
_OF_RECORDING = ("run", "command", "created", "device", "device_name", "threads", "versions")

# Columns of the epochs table that are measured; the others are copied.
_MEASURED_OF_EPOCHS = [
    *("run", "kept_fraction", "mask_distance", "sample_loss", "g_norm2", "ghg"),
    *("hg_norm2", "not_finite", "network_digest"),
]


@dataclass(frozen=True)
class Remeasuring:
    """How to measure runs again, and where the new runs go; checked on construction.

    Args:
        out: Folder for the new run directories.
        bn: Batch-norm mode, as for `pruneviz.measure`.
        unit: Row kind, "filter" or "weight".
        every: Measure derivatives at multiples of this many epochs. Default: as recorded.
        batch_size: Number of images normalised together; required with bn "batch", else not
            allowed.
        dtype: Arithmetic of measuring, "float32" or "float64".
        sample_seed: Seed that draws the measurement sample. Default: as recorded.
        samples: 2 measures two halves of the measurement sample too.
        on_request: Further columns.
        images: Folder with the data sets. Default: see `load_dataset`.
        device: "cpu" or "cuda".
        threads: Number of CPU threads. Default: PyTorch's.
        command: Command line, stored in the spec.

    Raises:
        MeasureError: If batch_size does not fit bn.
    """

    out: Path
    bn: str = "eval"
    unit: str = "filter"
    every: int | None = None
    batch_size: int | None = None
    dtype: str = "float32"
    sample_seed: int | None = None
    samples: int = 1
    on_request: OnRequest = field(default_factory=OnRequest)
    images: Path | None = None
    device: str = "cpu"
    threads: int | None = None
    command: str = ""

    def __post_init__(self) -> None:
        if self.bn == "batch" and (self.batch_size is None or self.batch_size < 2):
            raise MeasureError(
                f"batch_size={self.batch_size}; with bn='batch' give the number of images "
                "normalised together, 2 or more"
            )
        if self.bn != "batch" and self.batch_size is not None:
            raise MeasureError(
                f"batch_size={self.batch_size} has no meaning with bn={self.bn!r}; "
                "leave it out, or use bn='batch'"
            )


def remeasured_name(spec: RunSpec, how: Remeasuring) -> str:
    """Run name that measuring again makes, such as resnet56-cifar100-unpruned-bnbatch-s0.

    Args:
        spec: Spec of the recorded run.
        how: How to measure it again.

    Raises:
        LogError: If the run cannot be measured again because `pruneviz record` did not make it or
            because it pruned.
    """
    check_rebuildable(spec, "measure it in its own training loop")
    if spec.rounds:
        raise LogError(
            f"{spec.run} pruned in {spec.rounds} rounds; only runs that never prune can be "
            "measured again, leave it out"
        )
    network, dataset, seed = str(spec.network), str(spec.dataset), int(spec.seed or 0)
    need = Need("weights" if how.unit == "weight" else "unpruned", (network,))
    plain = run_name(network, dataset, need, None, 0, seed).removesuffix(f"-s{seed}")
    if how.bn != "eval":
        plain += f"-bn{how.bn}"
    elif how.dtype != "float32":
        plain += f"-{how.dtype}"
    return name_with_sample(f"{plain}-s{seed}", _sample_seed(spec, how))


def each_apart(sources: Sequence[Path], how: Remeasuring) -> dict[Path, Remeasuring]:
    """How to measure every run, those that would get the same name into folders of their own.

    Args:
        sources: Run directories with kept weights.
        how: How to measure them.

    Raises:
        LogError: If a run cannot be measured again.
    """
    names = [remeasured_name(read_spec(source), how) for source in sources]
    folders = zip(sources, folders_apart(sources, names), strict=True)
    return {source: replace(how, out=how.out / folder) for source, folder in folders}


def remeasure_runs(
    planned: Mapping[Path, Remeasuring],
    jobs: int,
    say: Callable[[str], None],
    engine: Engine = LOCAL,
    limit: TimeLimit | None = None,
) -> None:
    """Measure runs again in worker processes, here or on other machines, and show their progress.

    Args:
        planned: How to measure the runs, by run directory with kept weights.
        jobs: Number of workers.
        say: Prints one line.
        engine: Where. Default: on this machine.
        limit: When to stop. Default: once all runs have ended.

    Raises:
        PrunevizError: If runs failed or their processes died; raised after the others finish, with
            names and reasons.
        Stopped: If a signal or the limit asked to stop. Measured epochs are kept.
    """
    from pruneviz.recording.kept_weights import kept_epochs

    measure = _remeasure if engine.is_local else _remeasure_elsewhere
    work = [
        Job(source.name, max([1, *kept_epochs(source)]), partial(measure, source, how))
        for source, how in planned.items()
    ]
    shared = next((how.out for how in planned.values()), None)
    run_jobs(work, jobs, say, engine, shared, limit=limit)


def _remeasure_elsewhere(source: Path, how: Remeasuring, report: Report, stop: Stop) -> str:
    """Measure on a machine that was not asked before whether it has a GPU."""
    available_device(Device(how.device))
    wait_until_idle(how.out / remeasured_name(read_spec(source), how), report)
    return _remeasure(source, how, report, stop)


def _remeasure(source: Path, how: Remeasuring, report: Report, stop: Stop) -> str:
    from pruneviz.recording.kept_weights import kept_epochs

    remeasure_run(source, how, report)
    name = remeasured_name(read_spec(source), how)
    return f"recorded at {len(kept_epochs(source))} epochs as {name}"


def remeasure_run(source: Path, how: Remeasuring, report: Report) -> None:
    """Measure a run again at each epoch with kept weights; an unfinished run is resumed.

    Args:
        source: Run directory with kept weights.
        how: How to measure it.
        report: Called with the epochs done and a note.

    Raises:
        LogError: If the run has no kept weights, cannot be built again, or its new folder holds
            another run.
        PrunevizError: If it cannot be measured.
    """
    from pruneviz.recording.kept_weights import kept_epochs, load_kept_weights
    from pruneviz.recording.recorder import Recorder

    check_remeasurable(source, how)
    spec, epochs = read_spec(source), kept_epochs(source)
    path = how.out / remeasured_name(spec, how)
    before = resumed_spec(path, how.threads)
    network, sample = _as_recorded(spec, how)
    load_kept_weights(network, source, epochs[0])
    options = _recorder_options(spec, how)
    with Recorder(network, sample, path, resume=before is not None, **options) as recorder:
        recorder.log.planned = epochs
        done = -1 if recorder.last_epoch is None else recorder.last_epoch
        if done >= 0:  # changes of single weights are computed from the network
            load_kept_weights(network, source, done)
            recorder.rewind(done)
        trained = _training_facts(source)
        for epoch in epochs:
            if epoch > done:
                load_kept_weights(network, source, epoch)
                recorder.after_epoch(epoch, **trained[epoch])
                report(epoch, "measuring")


def check_remeasurable(source: Path, how: Remeasuring) -> bool:
    """Check that a run can be measured again.

    Returns:
        Whether it still has to be measured.

    Raises:
        LogError: If it cannot be measured again with these options.
    """
    from pruneviz.recording.kept_weights import kept_epochs

    spec = read_spec(source)
    path = how.out / remeasured_name(spec, how)
    kept = kept_epochs(source)
    if not kept:
        raise LogError(
            f"{source} has no kept weights; record it with pruneviz record --keep-weights"
        )
    without = sorted(set(how.on_request.request_at or ()) - set(kept))
    if without:
        raise LogError(
            f"{source} has no weights of epoch {without[0]}, so nothing can be measured there; "
            f"it has those of epochs {', '.join(map(str, kept))}"
        )
    if path.resolve() == source.resolve():
        raise LogError(
            f"{source} would be overwritten; choose another folder with --out, or other options"
        )
    if not is_sealed(source):
        raise LogError(f"{source} is unfinished; first repeat the command that recorded it")
    check_recorded(source)
    if not (path / "spec.json").exists():
        return True
    every = str(how.every or spec.every)
    options: dict[str, Any] = {"bn": how.bn, "unit": how.unit, "dtype": how.dtype, "every": every}
    options |= {"sample_seed": _sample_seed(spec, how), "samples": how.samples}
    options |= how.on_request.facts(how.unit)
    before = check_same_options(path, options)
    wanted = how_facts(spec, how)
    differing = [name for name, value in wanted.items() if before.extra.get(name) != value]
    if differing:
        changes = "; ".join(
            f"{name} was {before.extra.get(name)!r}, now {wanted[name]!r}" for name in differing
        )
        raise LogError(
            f"{path} was measured with other options: {changes}; use the old ones, or another "
            "folder"
        )
    return not is_sealed(path)


def how_facts(spec: RunSpec, how: Remeasuring) -> dict[str, Any]:
    """Facts found only in specs of remeasured runs: their recording and the batch size."""
    facts = spec.to_dict()
    found: dict[str, Any] = {"remeasured_from": {name: facts[name] for name in _OF_RECORDING}}
    if how.batch_size is not None:
        found[BATCH_SIZE] = how.batch_size
    return found


def _recorder_options(spec: RunSpec, how: Remeasuring) -> dict[str, Any]:
    import torch

    facts = {**_training_spec(spec), **how_facts(spec, how), "command": how.command}
    facts["sample_seed"] = _sample_seed(spec, how)
    return {
        "every": how.every or int(spec.every or 1),
        "spec": facts,
        "bn": how.bn,
        "unit": how.unit,
        "samples": how.samples,
        "dtype": getattr(torch, how.dtype),
        "gap": True,  # weights are kept at measured epochs alone
        **how.on_request.of_unit(how.unit),
    }


def _sample_seed(spec: RunSpec, how: Remeasuring) -> int:
    return int(spec.sample_seed or 0) if how.sample_seed is None else how.sample_seed


def _training_spec(spec: RunSpec) -> dict[str, Any]:
    """Facts of a spec that do not depend on how its run is measured."""
    from pruneviz.recording.run_facts import STATED

    anew = {*_MEASURED_ANEW, *STATED}
    facts = spec.to_dict().items()
    return {name: value for name, value in facts if name not in anew and value is not None}


def _training_facts(source: Path) -> Mapping[int, dict[str, Any]]:
    """Copied columns of the epochs table, by epoch; absent values are left out."""
    rows = load(source).epochs.drop(columns=_MEASURED_OF_EPOCHS).to_dict("records")
    facts: dict[int, dict[str, Any]] = {}
    for row in rows:
        epoch = row.pop("epoch")
        facts[epoch] = {str(name): value for name, value in row.items() if pd.notna(value)}
    return facts


def _as_recorded(spec: RunSpec, how: Remeasuring) -> tuple[nn.Module, Sample]:
    """Network and measurement sample of a run; the sample in batches if bn is "batch"."""
    from pruneviz.experiment.images import balanced_sample

    data = images_of(spec, how.images, how.device)
    per_class = int(spec.sample_size or 0) // data.num_classes
    images, labels = balanced_sample(data, per_class, seed=_sample_seed(spec, how))
    check_sample(spec, _sample_seed(spec, how), images, labels)
    network = network_of(spec, data.num_classes, how.device)
    if how.batch_size is None:
        return network, (images, labels)
    batches = zip(images.split(how.batch_size), labels.split(how.batch_size), strict=True)
    return network, list(batches)
