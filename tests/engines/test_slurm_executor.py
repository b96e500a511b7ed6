"""Slurm by submitit: one array job, its options, errors, and tasks that are saved."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pruneviz.engines.engine import Engine
from pruneviz.engines.slurm_executor import Requeued, SlurmExecutor
from pruneviz.errors import PrunevizError

pytest.importorskip("submitit")

# Says that a job was queued, keeps its script, and knows of no jobs.
SBATCH = '#!/bin/sh\ncp "$1" "$(dirname "$0")/script"\necho "Submitted batch job 42"\n'


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with commands of Slurm that only take jobs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel"):
        (folder / name).write_text(SBATCH if name == "sbatch" else "#!/bin/sh\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


class Saved:
    """A function with something to save."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, number: int) -> int:
        """Double a number."""
        return 2 * number

    def save(self) -> None:
        """Leave a trace."""
        (self.folder / "saved").touch()


def test_tasks_that_come_together_are_one_array_job(slurm: Path, tmp_path: Path) -> None:
    resources = {"time": "90", "partition": "gpu", "mail_type": "FAIL"}
    engine = Engine("slurm", cpus=2, gpus=1, resources=resources)
    executor = SlurmExecutor(engine, tmp_path)
    futures = [executor.submit(abs, -number) for number in range(3)]
    executor.shutdown(wait=False)
    while not (slurm / "script").exists():
        assert not any(future.done() for future in futures)
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    script = (slurm / "script").read_text(encoding="utf-8")
    options = ("array=0-2%3", "partition=gpu", "time=90", "gpus-per-node=1", "cpus-per-task=2")
    for option in (*options, "mail-type=FAIL", "signal=USR2@90"):
        assert f"#SBATCH --{option}\n" in script


def test_jobs_end_with_a_result_or_an_error(tmp_path: Path) -> None:
    engine = Engine("slurm", resources={"time": "5"})
    with SlurmExecutor(engine, tmp_path, cluster="local") as executor:
        good, bad = executor.submit(divmod, 7, 2), executor.submit(divmod, 7, 0)
        assert good.result() == (3, 1)
        with pytest.raises(Exception, match="ZeroDivisionError"):
            bad.result()


def test_slurm_has_to_be_there_and_to_know_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PrunevizError, match="add the resource time=MINUTES"):
        SlurmExecutor(Engine("slurm"), tmp_path, cluster="local")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PrunevizError, match="there is no Slurm on this machine"):
        SlurmExecutor(Engine("slurm", resources={"time": "5"}), tmp_path)


def test_a_job_that_is_queued_again_saves_its_task_first(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    call = Requeued(Saved(tmp_path), (21,), {})
    try:
        assert call() == 42
        assert not (tmp_path / "saved").exists()
        assert call.checkpoint().function() == 42
        assert (tmp_path / "saved").exists()
        assert Requeued(divmod, (7, 2), {}).checkpoint().function() == (3, 1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
