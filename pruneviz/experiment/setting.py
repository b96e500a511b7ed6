"""Where and how runs are recorded, their planned facts, and their progress."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pruneviz.analysis.measures import names, resolve
from pruneviz.analysis.scores import columns_read
from pruneviz.errors import LogError, PresetError, ScoreError
from pruneviz.experiment.same_run import check_flags, check_ranks, check_request_at
from pruneviz.log.on_request import OnRequest
from pruneviz.log.pruning_options import pruning_facts
from pruneviz.log.readable_runs import check_files, readable_runs
from pruneviz.log.run_directory import check_same_options
from pruneviz.log.schema import CHANGE_COLUMNS, MEASURED_COLUMNS, RANKED_WITHOUT_SAMPLE
from pruneviz.log.spec_file import SPEC_FILE, is_sealed, read_spec
from pruneviz.measuring.named_callables import measure_facts
from pruneviz.plans.run_plan import RunPlan

# The spec holds the resulting numbers of images instead.
_NOT_IN_SPEC = ("sample_per_class", "train_per_class", "test_per_class", "pruning")

# Columns that filters can be ranked with.
_RANKED_WITH = frozenset({*MEASURED_COLUMNS, *RANKED_WITHOUT_SAMPLE})


@dataclass(frozen=True)
class Setting:
    """Recording options that are not part of a plan.

    Args:
        out: Folder for the run directories.
        images: Folder with the data sets. Default: see `load_dataset`.
        download: Whether torchvision may download a missing data set.
        device: "cpu" or "cuda".
        command: Command line, stored in the spec.
        threads: Number of CPU threads. Default: PyTorch's.
        keep_weights: Whether to keep the weights of measured epochs.
        sharing: Number of runs that share the device.
        on_request: Columns that are measured besides the default ones.
        flow: Whether to record the table `flow` at measured epochs.
        sinks: Sinks as a command names them, such as "tensorboard:logs".
        upload_checkpoints: Whether checkpoints of runs in the spool are uploaded too.
        ranks: Number of processes that train a run together.
    """

    out: Path
    images: Path | None = None
    download: bool = False
    device: str = "cpu"
    command: str = ""
    threads: int | None = None
    keep_weights: bool = False
    sharing: int = 1
    on_request: OnRequest = field(default_factory=OnRequest)
    flow: bool = False
    sinks: tuple[str, ...] = ()
    upload_checkpoints: bool = False
    ranks: int = 1

    @property
    def flags(self) -> list[str]:
        """Flags of `pruneviz record` that add files or tables to a recording."""
        given = {"--flow": self.flow, "--keep-weights": self.keep_weights}
        return [flag for flag, there in given.items() if there]


def planned_facts(plan: RunPlan) -> dict[str, Any]:
    """Facts that the spec of a run takes unchanged from its plan."""
    facts = {name: value for name, value in asdict(plan).items() if name not in _NOT_IN_SPEC}
    if plan.precision is None:
        del facts["precision"]  # any precision agrees with this plan
    return {**facts, **pruning_facts(plan.pruning), "every": str(plan.every)}


def request_of(plan: RunPlan, setting: Setting) -> OnRequest:
    """The columns on request of a plan's run, with changes between epochs that its measure needs.

    Raises:
        ScoreError: If there is no such measure.
    """
    needed = resolve(plan.pruning.measure).needs if plan.pruning else None
    changes = [name for name in needed or () if name in CHANGE_COLUMNS]
    asked = setting.on_request
    return replace(asked, columns=tuple(dict.fromkeys([*asked.columns, *changes])))


def own_measure_facts(plan: RunPlan) -> dict[str, str]:
    """The code of a pruning measure that is the person's own, which a resume compares."""
    measure = resolve(plan.pruning.measure) if plan.pruning else None
    return measure_facts("measure_code", measure)


def progress_of(plan: RunPlan, setting: Setting) -> Literal["recorded", "unfinished", "missing"]:
    """Progress of a plan's run in the folder of a setting.

    Raises:
        LogError: If the run was started with other options.
    """
    path = setting.out / plan.run
    if not (path / SPEC_FILE).exists():
        return "missing"
    asked = request_of(plan, setting).facts(plan.unit)
    before, sealed = check_same_options(path, planned_facts(plan) | asked), is_sealed(path)
    check_request_at(path, before, asked)
    check_flags(path, before, setting.flags, sealed=sealed)
    return "recorded" if sealed else "unfinished"


def unreadable(plan: RunPlan, setting: Setting) -> str:
    """Why the recording of a plan's run in the folder of a setting cannot be read; "" if it can."""
    return damage_of(setting.out / plan.run)


def damage_of(path: Path) -> str:
    """Why the recording in a run directory cannot be read; "" if it can, or there is none."""
    try:
        if (path / SPEC_FILE).exists():
            readable_runs(path, check_files)
    except LogError as error:
        return str(error)
    return ""


def is_recorded(plan: RunPlan, setting: Setting) -> bool:
    """Whether the run of a plan is finished in the folder of a setting.

    Raises:
        LogError: If the run was started with other options.
    """
    return progress_of(plan, setting) == "recorded"


def is_due(plan: RunPlan, setting: Setting) -> bool:
    """Whether a run is to be recorded; a damaged one is too, and fails by itself.

    Raises:
        LogError: If the run was started with other options, or by another number of processes.
    """
    if unreadable(plan, setting):
        return True
    progress, path = progress_of(plan, setting), setting.out / plan.run
    if progress == "unfinished":
        check_ranks(path, read_spec(path), setting.ranks)
    return progress != "recorded"


def check_measure(plan: RunPlan) -> None:
    """Check that filters can be ranked by the measure of a plan when its rounds prune.

    Raises:
        PresetError: If the measure is unknown, ranks single weights, needs a column that filters
            are not ranked with, does not say which it needs, or needs changes of scales before
            training.
    """
    if plan.pruning is None:
        return
    measure = plan.pruning.measure
    try:
        columns_read(measure)  # raises if it is unknown, or does not say what it reads
    except ScoreError as error:
        raise PresetError(f"{plan.run}: {error}") from error
    needed = resolve(measure).needs or ()
    lacking = [column for column in needed if column not in _RANKED_WITH]
    if lacking:
        why = "ranks single weights" if "theta" in needed else f"reads {', '.join(lacking)}"
        usable = [name for name in names() if set(resolve(name).needs or ()) <= _RANKED_WITH]
        raise PresetError(
            f"{plan.run}: pruning measure {measure!r} {why}; filters are ranked by one of "
            f"{', '.join(usable)}, or by a function of {', '.join(sorted(_RANKED_WITH))}"
        )
    if plan.pruning.prune_at_start and set(needed) & {"sigma_delta", *CHANGE_COLUMNS}:
        what = "scales" if "sigma_delta" in needed else "weights"
        raise PresetError(
            f"{plan.run}: {measure} needs changes of {what}, and there are none before training; "
            "leave out prune_at_start"
        )
