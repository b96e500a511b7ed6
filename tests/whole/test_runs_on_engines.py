"""Runs on Ray, Slurm and Dask: those of one process to the bit, whatever happens meanwhile."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from platform import node
from typing import Any

import psutil
import pytest

import pruneviz as pv
from pruneviz.engines.engine import Engine
from pruneviz.errors import PrunevizError
from pruneviz.experiment import parallel
from tests.support.engine_runs import assert_as_local, plans_of, record_on
from tests.support.stopped_commands import StoppedCommand

PATIENCE = 600  # seconds


def wait_for(there: Callable[[], object]) -> None:
    """Wait until something is there."""
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def meanwhile(work: Callable[[], None]) -> threading.Thread:
    """Start something beside the recording."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
def test_all_runs_end_as_local_ones_though_a_node_is_killed(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes with one core each: one is killed with its run, which goes on on the other."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    plans, out = plans_of(3, epochs=40), tmp_path / "out"
    killed: list[Any] = []

    def kill() -> None:
        wait_for(lambda: killed or killed.extend(each for each in nodes if works(each, out)))
        cluster.remove_node(killed[0], allow_graceful=False)

    killing = meanwhile(kill)
    try:
        said = record_on(Engine("ray"), plans, out)
    finally:
        killing.join()
        cluster.shutdown()
    assert killed and not ray.is_initialized()
    assert sorted(line[:12] for line in said if "recorded" in line) == [
        *("r0: recorded", "r1: recorded", "r2: recorded")
    ]
    assert_as_local(out, plans, tmp_path / "local")


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_is_joined_from_outside(ray: Any, tmp_path: Path) -> None:
    """By Ray's client; a run that fails is told with its machine, and stops no other."""
    from ray.cluster_utils import Cluster

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    settings = {"num_cpus": 2, "ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=settings)
    plans, out = plans_of(2, epochs=3), tmp_path / "out"
    failing = replace(plans[1], run="r9", train_per_class=10_000)
    try:
        with pytest.raises(PrunevizError, match=rf"^1 of 2 runs failed; .* r9: on {node()}: "):
            record_on(Engine(f"ray://127.0.0.1:{port}"), [plans[0], failing], out)
    finally:
        cluster.shutdown()
    assert not ray.is_initialized()
    shutil.rmtree(out / "r9", ignore_errors=True)
    assert_as_local(out, plans[:1], tmp_path / "local")


def works(member: Any, out: Path) -> bool:
    """Whether a run is well under way on a node of a Ray cluster."""
    (raylet,) = member.all_processes["raylet"]
    for part in out.glob("r*/parts/epochs-00003*"):
        with suppress(OSError, ValueError, psutil.Error):
            worker = json.loads((part.parents[1] / ".lock").read_bytes())["process"]
            if raylet.process.pid in [above.pid for above in psutil.Process(worker).parents()]:
                return True
    return False


@pytest.mark.soak
def test_ctrl_c_lets_runs_on_ray_write_checkpoints(ray: Any, tmp_path: Path) -> None:
    plans = plans_of(2, epochs=300)
    command = StoppedCommand(tmp_path, plans, "--on", "ray")
    command.wait_for("r*/parts/epochs-00003*")
    ended = command.stop(signal.SIGINT)
    assert ended.code == 130, ended.stderr
    assert re.search(
        r"^Interrupted: r\d stopped .*\. Finished work is kept; repeat the command to go on\.$",
        ended.stderr,
        re.MULTILINE,
    )
    assert "Traceback" not in ended.stderr
    assert not ended.left
    assert list(command.out.glob("r*/checkpoint/*.pt"))
    assert not list(command.out.glob(".pruneviz-*"))


@pytest.mark.soak
@pytest.mark.parametrize("name", ["SIGUSR2", "SIGUSR1"])
def test_a_preempted_job_is_queued_again_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As Slurm does before the time is over or a node is taken, in submitit's local executor."""
    pytest.importorskip("submitit")
    on_this_machine(monkeypatch)
    plans, out = plans_of(2, epochs=40), tmp_path / "out"
    ended: list[int] = []

    def preempt() -> None:
        wait_for(lambda: len(list(out.glob("r*/parts/epochs-00003*"))) == 2)
        job = a_job()
        job.send_signal(signal.Signals[name])
        job.wait(PATIENCE)
        ended.append(len(list(out.glob("r*/parts"))))  # of unfinished runs

    preempting = meanwhile(preempt)
    engine = Engine("slurm", resources={"time": "30"})
    said = record_on(engine, plans, out)
    preempting.join()
    assert sum("recorded" in line for line in said) == 2
    assert sum(ended) >= 1, "a job has ended before its run did"
    assert_as_local(out, plans, tmp_path / "local")


@pytest.mark.soak
def test_a_job_that_is_cancelled_writes_its_checkpoint_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM, as of `scancel`: Slurm alone decides whether the job comes back."""
    pytest.importorskip("submitit")
    on_this_machine(monkeypatch)
    plans, out = plans_of(1, epochs=40), tmp_path / "out"

    def cancel() -> None:
        wait_for(lambda: list(out.glob("r0/parts/epochs-00003*")))
        a_job().terminate()

    cancelling = meanwhile(cancel)
    engine = Engine("slurm", resources={"time": "30"})
    with pytest.raises(PrunevizError, match=r"^1 of 1 runs failed; .*r0: it was lost with its"):
        record_on(engine, plans, out)
    cancelling.join()
    assert list(out.glob("r0/checkpoint/*.pt"))
    assert sum("recorded" in line for line in record_on(engine, plans, out)) == 1
    assert_as_local(out, plans, tmp_path / "local")


def on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs of Slurm run here."""
    from pruneviz.engines.slurm_executor import SlurmExecutor

    def executor_of(engine: Engine, folder: Path) -> SlurmExecutor:
        return SlurmExecutor(engine, folder, cluster="local")

    monkeypatch.setattr(parallel, "executor_of", executor_of)


def a_job() -> psutil.Process:
    """The process of one of the jobs that are running."""
    return next(
        process
        for process in psutil.Process().children(recursive=True)
        if "submitit.core._submit" in " ".join(process.cmdline())
    )


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
def test_runs_on_dask_are_those_of_one_process(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    plans, out = plans_of(2, epochs=3), tmp_path / "out"
    settings = {"processes": False, "n_workers": 1, "threads_per_worker": 2}
    with distributed.LocalCluster(
        **settings, protocol="tcp", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address.removeprefix("tcp://")
        said = record_on(Engine(f"dask://{address}"), plans, out)
    assert sum("recorded" in line for line in said) == 2
    assert_as_local(out, plans, tmp_path / "local")
    assert len(pv.load(out).epochs) == 8
