"""Recording the runs of a preset: each one data, network, sample, recorder and training loop put together; several side by side."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tqdm.auto import tqdm

from pruneviz.analysis.scores import NEEDS
from pruneviz.errors import PresetError, PrunevizError
from pruneviz.experiment.parallel import end_with_parent, ended_on_interrupt
from pruneviz.log.pruning_options import pruning_facts
from pruneviz.log.run_directory import check_same_options, is_sealed, read_spec
from pruneviz.log.runs import load
from pruneviz.log.schema import MEASURED_COLUMNS
from pruneviz.plans.run_plan import RunPlan, precision_on

if TYPE_CHECKING:
    from torch import Tensor

    from pruneviz.experiment.images import ImageData
    from pruneviz.experiment.training import Progress, TrainingState
    from pruneviz.recording.recorder import Recorder

_TIMED_IMAGES = 32  # or as many as are measured on, in the forward passes that are timed with and without the pruned filters
_SHARED_OUT = 0.9  # of a GPU's memory, between the runs on it; the rest is for what each process takes beside its tensors
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} epochs [{elapsed}<{remaining}{postfix}]"


@dataclass(frozen=True)
class Setting:
    """Where and how runs are recorded, beside their plans: run directories go into `out`, images are read from `images`.

    `keep_weights` keeps the network's weights at the measured epochs in the run directory; `sharing` runs have one device between them.
    """

    out: Path
    images: Path | None = None
    download: bool = False
    device: str = "cpu"
    command: str = ""
    threads: int | None = None
    keep_weights: bool = False
    sharing: int = 1


def is_recorded(plan: RunPlan, out: Path) -> bool:
    """Whether a plan's run is finished in the folder `out`; `LogError` when it was recorded with other options than the plan's."""
    return progress_of(plan, out) == "recorded"


def progress_of(plan: RunPlan, out: Path) -> Literal["recorded", "unfinished", "missing"]:
    """How far a plan's run is recorded in the folder `out`; `LogError` when it was started with other options than the plan's."""
    path = out / plan.run
    if not (path / "spec.json").exists():
        return "missing"
    check_same_options(path, _planned(plan))
    return "recorded" if is_sealed(path) else "unfinished"


def check_measure(plan: RunPlan) -> None:
    """Refuse a plan that ranks filters by what is not known of them; `PresetError` saying which measures there are, or what to do."""
    if plan.pruning is None:
        return
    measure = plan.pruning.measure
    usable = [
        name
        for name, needed in NEEDS.items()
        if set(needed) <= {*MEASURED_COLUMNS, "sigma_delta", "layer", "filter"}
    ]
    if measure not in usable:
        what = "is a measure of single weights" if measure in NEEDS else "does not exist"
        raise PresetError(
            f"{plan.run}: pruning measure {measure!r} {what}; filters are ranked by one of {', '.join(usable)}"
        )
    if plan.pruning.prune_at_start and "sigma_delta" in NEEDS[measure]:
        raise PresetError(
            f"{plan.run}: before any training no scale has changed yet, which {measure} needs; leave out prune_at_start"
        )


def record_runs(
    plans: Sequence[RunPlan], setting: Setting, jobs: int, say: Callable[[str], None]
) -> None:
    """Record runs, `jobs` at a time in processes of their own, with one bar each; `say` is told about every run that ends.

    Errors: `PrunevizError` naming the runs that failed and why, after the others are recorded.
    """
    if setting.download:
        _download(plans, setting)
    failed: list[str] = []
    spawn = multiprocessing.get_context("spawn")
    manager = SyncManager(ctx=spawn)
    manager.start(end_with_parent)
    with _Bars(len(plans), say) as bars, manager:
        reports = manager.Queue()
        with (
            ProcessPoolExecutor(jobs, mp_context=spawn, initializer=end_with_parent) as pool,
            ended_on_interrupt(pool),
        ):
            pending = {
                pool.submit(_record_in_process, plan, setting, reports): plan for plan in plans
            }
            while pending:
                done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                bars.show(reports)
                ended = [_outcome(future, pending.pop(future), setting, bars) for future in done]
                failed += [message for message in ended if message]
    if failed:
        raise PrunevizError(
            f"{len(failed)} of {len(plans)} runs failed; repeat the command after the repair. "
            + " ".join(failed)
        )


def record_run(plan: RunPlan, setting: Setting, progress: Progress) -> None:
    """Train, prune if the plan says so, and record one run into `setting.out / plan.run`; one that was cut off goes on.

    Errors: `PrunevizError` saying what cannot be; what was recorded until then stays, unfinished.
    """
    import torch

    from pruneviz.experiment.networks.registry import build_network
    from pruneviz.experiment.training import restore_checkpoint, start
    from pruneviz.recording.recorder import Recorder

    check_measure(plan)
    path = setting.out / plan.run
    begun = (path / "spec.json").exists() and not is_sealed(path)
    before = read_spec(path) if begun else None
    plan = replace(
        plan,
        precision=precision_on(
            setting.device, plan.precision or (before.precision if before else None)
        ),
    )
    # Another number of threads rounds sums differently.
    threads = before.threads if before else setting.threads
    if threads:
        torch.set_num_threads(threads)
    if setting.device == "cuda" and setting.sharing > 1:
        torch.cuda.set_per_process_memory_fraction(_SHARED_OUT / setting.sharing)
    data = _read_data(plan, setting)
    sample = _measurement_sample(data, plan)
    torch.manual_seed(plan.seed)
    state = start(
        build_network(plan.network, num_classes=data.num_classes, width=plan.width).to(
            setting.device
        ),
        plan,
    )
    facts = _spec_facts(plan, data, setting)
    with Recorder(
        state.network, sample, path, every=plan.every, spec=facts, unit=plan.unit, resume=begun
    ) as recorder:
        restore_checkpoint(state, recorder.log.checkpoint)
        recorder.rewind(
            state.epoch or -1
        )  # at epoch 0 the training loop records the initialisation anew
        keep = path if setting.keep_weights else None
        _train_and_record(state, data, sample[0][:_TIMED_IMAGES], plan, recorder, progress, keep)


def _train_and_record(
    state: TrainingState,
    data: ImageData,
    example: Tensor,
    plan: RunPlan,
    recorder: Recorder,
    progress: Progress,
    keep: Path | None,
) -> None:
    from pruneviz.experiment.rounds import Rounds, removal_facts
    from pruneviz.experiment.training import put_back_best, save_checkpoint, train
    from pruneviz.recording.kept_weights import keep_weights

    began = time.monotonic() - state.wall_seconds
    rounds = Rounds(state, example[:1], plan, recorder) if plan.pruning else None

    def prune(epoch: int) -> dict[str, Any]:
        progress(epoch, "pruning")
        return rounds(epoch) if rounds else {}

    def after_epoch(epoch: int, **facts: Any) -> Callable[[], None] | None:
        progress(epoch, "measuring")
        if rounds:
            facts["kept_fraction"] = rounds.kept_fraction
        write = recorder.observe(epoch, **facts)
        if epoch % plan.every and epoch not in plan.pruning_epochs:
            return write
        write()  # at once, as no checkpoint may be ahead of the log
        if keep and epoch % plan.every == 0:
            keep_weights(state.network, keep, epoch)
        state.wall_seconds = time.monotonic() - began
        if epoch:
            save_checkpoint(state, recorder.log.checkpoint)
        return None

    train(state, data, plan, after_epoch, progress, prune)
    if rounds:
        progress(plan.epochs, "removing")
        selected = put_back_best(state)
        recorder.note(
            **removal_facts(state.network, example),
            **({"selected_epoch": selected} if selected is not None else {}),
        )
    recorder.note(wall_seconds=round(time.monotonic() - began, 3))


def _read_data(plan: RunPlan, setting: Setting) -> ImageData:
    from pruneviz.experiment.datasets import load_dataset
    from pruneviz.experiment.images import subset

    data = load_dataset(
        plan.dataset,
        root=setting.images,
        device=setting.device,
        download=setting.download,
        image_size=plan.image_size,
    )
    return subset(data, plan.train_per_class, plan.test_per_class, seed=0)


def _measurement_sample(data: ImageData, plan: RunPlan) -> tuple[Tensor, Tensor]:
    """The images that are measured; plans that imitate the published code measure on one augmented draw, where they train on such."""
    import torch

    from pruneviz.experiment.images import augment, balanced_sample

    if plan.augment and plan.pruning and plan.pruning.flowandprune:
        drawn = augment(data.train_images, torch.Generator(data.device).manual_seed(plan.seed))
        data = replace(data, train_images=drawn)
    return balanced_sample(data, plan.sample_per_class, seed=0)


def _record_in_process(
    plan: RunPlan, setting: Setting, reports: queue.Queue[tuple[str, int, float, str]]
) -> None:
    record_run(
        plan, setting, lambda epochs, note: reports.put((plan.run, plan.epochs, epochs, note))
    )


def _download(plans: Sequence[RunPlan], setting: Setting) -> None:
    """Fetch what is missing once, before several processes would fetch it into one folder at the same time."""
    from pruneviz.experiment.datasets import load_dataset

    for dataset in dict.fromkeys(plan.dataset for plan in plans):
        load_dataset(dataset, root=setting.images, download=True)


def _outcome(future: Future[None], plan: RunPlan, setting: Setting, bars: _Bars) -> str | None:
    """Say how a run ended; returns the message of its failure."""
    error = future.exception()
    if error is None:
        last = load(setting.out / plan.run).epochs.iloc[-1]
        removed = _removal_in_words(read_spec(setting.out / plan.run).extra)
        bars.end(
            plan.run,
            f"{plan.run}: recorded {plan.epochs} epoch{'s' * (plan.epochs != 1)}, test accuracy {last['test_acc']:.1%}{removed}",
        )
        return None
    if not isinstance(error, (PrunevizError, OSError, RuntimeError)):
        raise error
    bars.end(plan.run, f"{plan.run}: failed")
    return f"{plan.run}: {error}"


def _removal_in_words(facts: Mapping[str, Any]) -> str:
    """What removing the pruned filters saved, or why it could not be, as the end of a message; nothing for a run that never pruned."""
    if "not_removed" in facts:
        return f"; {facts['not_removed']}"
    if "parameters_before" not in facts:
        return ""
    parameters = f"{facts['parameters_before']:,} to {facts['parameters_after']:,} parameters"
    work = f"{facts['macs_before'] / 1e6:.3g} to {facts['macs_after'] / 1e6:.3g} million MACs"
    speed = f"{1e3 * facts['forward_seconds_before']:.3g} to {1e3 * facts['forward_seconds_after']:.3g} ms a forward pass"
    masked = (
        f", {facts['filters_masked']} filters masked in their place"
        if facts["filters_masked"]
        else ""
    )
    return f"; removing {facts['filters_removed']} filters: {parameters}, {work}, {speed}{masked}"


def _spec_facts(plan: RunPlan, data: ImageData, setting: Setting) -> dict[str, Any]:
    facts = {
        "num_classes": data.num_classes,
        "train_images": len(data.train_labels),
        "sample_seed": 0,
        "command": setting.command,
    }
    return {**_planned(plan), **facts}


def _planned(plan: RunPlan) -> dict[str, Any]:
    """The facts of a plan that the spec of its run holds as they are."""
    # the spec holds the numbers of images that the first three come to
    left_out = {"sample_per_class", "train_per_class", "test_per_class", "pruning"}
    if plan.precision is None:
        left_out |= {"precision"}  # any will do
    facts = {name: value for name, value in asdict(plan).items() if name not in left_out}
    return {**facts, **pruning_facts(plan.pruning), "every": str(plan.every)}


class _Bars:
    """One bar of epochs per run that is being recorded, and one of runs; drawn by the parent process alone."""

    def __init__(self, runs: int, say: Callable[[str], None]) -> None:
        self._say, self._began = say, time.monotonic()
        self._runs = tqdm(total=runs, desc="runs", unit="run", disable=None)
        self._bars: dict[str, tqdm] = {}

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *exception: object) -> None:
        for bar in (*self._bars.values(), self._runs):
            bar.close()

    def show(self, reports: queue.Queue[tuple[str, int, float, str]]) -> None:
        """Move the bars to what the runs have reported since the last look."""
        while not reports.empty():
            run, total, epochs, note = reports.get()
            if run not in self._bars:
                self._bars[run] = tqdm(
                    total=total, desc=run, leave=False, disable=None, bar_format=_BAR
                )
            self._bars[run].n = epochs
            self._bars[run].set_postfix_str(note)

    def end(self, run: str, message: str) -> None:
        """Close a run's bar and say how it ended."""
        if run in self._bars:
            self._bars.pop(run).close()
        self._runs.update()
        with self._runs.external_write_mode():
            self._say(f"{message} ({time.monotonic() - self._began:.0f} s after the start)")
