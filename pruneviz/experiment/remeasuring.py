"""Measure recorded runs again, from kept weights."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm.auto import tqdm

from pruneviz.errors import LogError, MeasureError, PrunevizError
from pruneviz.experiment.parallel import end_with_parent, ended_on_interrupt
from pruneviz.log.run_directory import check_same_options, is_sealed, read_spec
from pruneviz.log.runs import load
from pruneviz.log.schema import EPOCHS, RunSpec
from pruneviz.plans.needs import DATASET_NAMES, NETWORK_NAMES, Need
from pruneviz.plans.planning import run_name

if TYPE_CHECKING:
    from torch import nn

    from pruneviz.model.sample import Sample

# Facts of a run that its second measuring finds out anew; all others, of its training, it shares with the first.
_MEASURED_ANEW = frozenset(
    (
        "run", "unit", "weight_rows", "weight_rows_seed", "weights", "bn", "temperatures", "columns", "every", "lag", "mask_score",
        "mask_ratio", "sample_size", "dtype", "device", "device_name", "threads", "command", "created", "versions", "schema_version",
        "wall_seconds",
    )
)  # fmt: skip


_KEPT_OF_RECORDING = ("run", "command", "created", "device", "device_name", "threads", "versions")


_FOUND_OF_EPOCHS = (
    "run",
    "epoch",
    "kept_fraction",
    "mask_distance",
    "sample_loss",
    "g_norm2",
    "ghg",
)


_FACTS_OF_EPOCHS = [name for name in EPOCHS if name not in _FOUND_OF_EPOCHS]


@dataclass(frozen=True)
class Remeasuring:
    """How runs are measured again, and where the runs that this makes go; checked on construction.

    `bn` and `unit` mean the same as those of `pruneviz.measure`; `every` None measures derivatives at the epochs of the recording.
    `batch_size` images, with bn "batch" alone, are normalised together; `dtype` is that of the arithmetic ("float32", "float64").
    """

    out: Path
    bn: str = "eval"
    unit: str = "filter"
    every: int | None = None
    batch_size: int | None = None
    dtype: str = "float32"
    images: Path | None = None
    device: str = "cpu"
    threads: int | None = None
    command: str = ""

    def __post_init__(self) -> None:
        if self.bn == "batch" and (self.batch_size is None or self.batch_size < 2):
            raise MeasureError(
                f"batch_size={self.batch_size}; with bn='batch' say how many images are normalised together, 2 or more"
            )
        if self.bn != "batch" and self.batch_size is not None:
            raise MeasureError(
                f"batch_size={self.batch_size} has no meaning with bn={self.bn!r}; leave it out, or use bn='batch'"
            )


def remeasured_name(spec: RunSpec, how: Remeasuring) -> str:
    """The name of the run that measuring a run again makes: resnet56-cifar100-unpruned-bnbatch-s0; of weights that of the catalogue.

    Errors: `LogError` for a run that cannot be measured again, because it is not known how to build it, or because it pruned.
    """
    if (
        spec.network not in NETWORK_NAMES
        or spec.dataset not in DATASET_NAMES
        or None in (spec.seed, spec.sample_seed, spec.width)
    ):
        raise LogError(
            f"{spec.run} was not made by python -m pruneviz.record, so how to build it is not known; measure it in its own loop"
        )
    if spec.rounds:
        raise LogError(
            f"{spec.run} pruned in {spec.rounds} rounds; only runs that never prune can be measured again, leave it out"
        )
    need = Need("weights" if how.unit == "weight" else "unpruned", (str(spec.network),))
    plain, seed = (
        run_name(str(spec.network), str(spec.dataset), need, None, 0, int(spec.seed or 0)),
        f"-s{spec.seed}",
    )
    marks = [f"bn{how.bn}"] * (how.bn != "eval") + [how.dtype] * (
        how.bn == "eval" and how.dtype != "float32"
    )
    return plain.removesuffix(seed) + "".join(f"-{mark}" for mark in marks) + seed


def remeasure_runs(
    sources: Sequence[Path], how: Remeasuring, jobs: int, say: Callable[[str], None]
) -> None:
    """Measure runs again, `jobs` at a time in processes of their own, with one bar of epochs; `say` is told about every run that ends.

    Errors: `PrunevizError` naming the runs that failed and why, after the others are measured.
    """
    from pruneviz.recording.kept_weights import kept_epochs

    targets = {source: how.out / remeasured_name(read_spec(source), how) for source in sources}
    due = {source: len(kept_epochs(source)) for source in sources}
    failed: list[str] = []
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=end_with_parent)
    with (
        tqdm(total=sum(due.values()), unit="epoch", disable=None) as bar,
        pool,
        ended_on_interrupt(pool),
    ):
        pending = {pool.submit(remeasure_run, source, how): source for source in sources}
        while pending:
            done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            bar.n = sum(
                due[source] if is_sealed(path) else len(list(path.glob("parts/epochs-*")))
                for source, path in targets.items()
            )
            bar.refresh()
            for future in done:
                source = pending.pop(future)
                error = future.exception()
                if error is not None and not isinstance(
                    error, (PrunevizError, OSError, RuntimeError)
                ):
                    raise error
                failed += [f"{source.name}: {error}"] if error else []
                with bar.external_write_mode():
                    say(
                        f"{source.name}: failed"
                        if error
                        else f"{targets[source].name}: recorded at {due[source]} epochs"
                    )
    if failed:
        raise PrunevizError(
            f"{len(failed)} of {len(sources)} runs failed; repeat the command after the repair. "
            + " ".join(failed)
        )


def remeasure_run(source: Path, how: Remeasuring) -> None:
    """Measure one run again at every epoch whose weights were kept; one that was cut off goes on.

    Errors: `LogError` for a run without kept weights, one that cannot be built again, and a folder that holds another run;
    `PrunevizError` for what cannot be measured.
    """
    import torch

    from pruneviz.recording.kept_weights import kept_epochs, load_kept_weights
    from pruneviz.recording.recorder import Recorder

    check_remeasurable(source, how)
    spec, path, epochs = (
        read_spec(source),
        how.out / remeasured_name(read_spec(source), how),
        kept_epochs(source),
    )
    begun = (path / "spec.json").exists()
    threads = (
        read_spec(path).threads if begun else how.threads
    )  # other numbers of threads round sums otherwise
    if threads:
        torch.set_num_threads(threads)
    network, sample = _as_recorded(spec, how)
    load_kept_weights(network, source, epochs[0])
    facts, every = {**_facts(spec), **how_facts(spec, how)}, how.every or int(spec.every or 1)
    options: dict[str, Any] = {
        "bn": how.bn,
        "unit": how.unit,
        "dtype": getattr(torch, how.dtype),
        "resume": begun,
    }
    with Recorder(
        network, sample, path, every, {**facts, "command": how.command}, **options
    ) as recorder:
        done = -1 if recorder.last_epoch is None else recorder.last_epoch
        if done >= 0:  # of single weights the changes since then are made from the network
            load_kept_weights(network, source, done)
            recorder.rewind(done)
        trained = _training_facts(source)
        for epoch in (epoch for epoch in epochs if epoch > done):
            load_kept_weights(network, source, epoch)
            recorder.after_epoch(epoch, **trained[epoch])


def check_remeasurable(source: Path, how: Remeasuring) -> bool:
    """Whether a run is still to be measured in this way; `LogError` where it cannot be."""
    from pruneviz.recording.kept_weights import kept_epochs

    spec = read_spec(source)
    path = how.out / remeasured_name(spec, how)
    if not kept_epochs(source):
        raise LogError(
            f"{source} holds no weights to measure again; record it with python -m pruneviz.record --keep-weights"
        )
    if path.resolve() == source.resolve():
        raise LogError(
            f"{source} would be measured over itself; choose another folder with --out, or another way of measuring"
        )
    if not is_sealed(source):
        raise LogError(
            f"{source} is unfinished; finish its recording first, with the command that began it"
        )
    if not (path / "spec.json").exists():
        return True
    wanted = how_facts(spec, how)
    before = check_same_options(
        path,
        {"bn": how.bn, "unit": how.unit, "dtype": how.dtype, "every": str(how.every or spec.every)},
    )
    differing = [name for name, value in wanted.items() if before.extra.get(name) != value]
    if differing:
        told = "; ".join(
            f"{name} was {before.extra.get(name)!r}, now {wanted[name]!r}" for name in differing
        )
        raise LogError(
            f"{path} was measured otherwise: {told}; use the old options, or another folder"
        )
    return not is_sealed(path)


def check_names(sources: Sequence[Path], how: Remeasuring) -> None:
    """Raise `LogError` if two sources would be measured under one name."""
    seen: dict[str, Path] = {}
    for source in sources:
        name = remeasured_name(read_spec(source), how)
        if name in seen:
            raise LogError(
                f"{seen[name]} and {source} would both be measured as {name}; measure them into two folders"
            )
        seen[name] = source


def how_facts(spec: RunSpec, how: Remeasuring) -> dict[str, Any]:
    """What the spec of the run tells beside the facts of every log: the recording it was measured from, and the size of batches."""
    facts = spec.to_dict()
    batches = {} if how.batch_size is None else {"sample_batch_size": how.batch_size}
    return {"remeasured_from": {name: facts[name] for name in _KEPT_OF_RECORDING}, **batches}


def _facts(spec: RunSpec) -> dict[str, Any]:
    """What is true of the training, whatever is measured of it."""
    return {
        name: value
        for name, value in spec.to_dict().items()
        if name not in _MEASURED_ANEW and value is not None
    }


def _training_facts(source: Path) -> Mapping[int, dict[str, Any]]:
    """The facts of every epoch that measuring does not find out: those of its training and testing, absent ones left out."""
    rows = load(source).epochs[["epoch", *_FACTS_OF_EPOCHS]].to_dict("records")
    return {
        row["epoch"]: {
            str(name): value for name, value in row.items() if name != "epoch" and pd.notna(value)
        }
        for row in rows
    }


def _as_recorded(spec: RunSpec, how: Remeasuring) -> tuple[nn.Module, Sample]:
    """The network and the measurement sample of a run, the latter cut into batches where they are normalised one by one."""
    from pruneviz.experiment.datasets import load_dataset
    from pruneviz.experiment.images import balanced_sample, subset
    from pruneviz.experiment.networks.registry import build_network

    data = load_dataset(
        str(spec.dataset), root=how.images, device=how.device, image_size=spec.image_size
    )
    if spec.train_images not in (None, len(data.train_labels)):
        data = subset(data, int(spec.train_images or 0) // data.num_classes, None, seed=0)
    images, labels = balanced_sample(
        data, int(spec.sample_size or 0) // data.num_classes, seed=int(spec.sample_seed or 0)
    )
    network = build_network(
        str(spec.network), num_classes=data.num_classes, width=float(spec.width or 0)
    ).to(how.device)
    if how.batch_size is None:
        return network, (images, labels)
    return network, list(
        zip(images.split(how.batch_size), labels.split(how.batch_size), strict=True)
    )
