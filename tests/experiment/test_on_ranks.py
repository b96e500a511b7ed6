"""`pruneviz record` under `torchrun`: one run on several processes, stopped, killed and gone on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import psutil
import pytest
from typer.testing import CliRunner

import pruneviz as pv
from pruneviz import record
from pruneviz.engines.engine import LOCAL, Engine
from pruneviz.errors import PrunevizError
from pruneviz.experiment.on_ranks import check_together
from pruneviz.experiment.setting import Setting
from pruneviz.log.spec_file import is_sealed, read_spec
from pruneviz.log.spooled_runs import in_spool
from pruneviz.plans.run_plan import RunPlan
from tests.support.cut_off import without_times
from tests.support.data_parallel import PLAN
from tests.support.stopped_commands import command_script

# `spool_url` knows a store by its protocol; nothing is written into this one.
REFUSED = {
    "--jobs 2": (Setting(Path("out")), 2, LOCAL),
    "--on dask://h:1": (Setting(Path("out")), None, Engine("dask://h:1")),
    "--flow": (Setting(Path("out"), flow=True), None, LOCAL),
    "--out memory://bucket/out": (Setting(in_spool("memory://bucket/out")), None, LOCAL),
}


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "none"), ("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("option", REFUSED)
def test_options_that_do_not_go_with_it_are_refused(option: str) -> None:
    setting, jobs, engine = REFUSED[option]
    with pytest.raises(PrunevizError, match=f"{option} does not go with that: .*leave it out, or"):
        check_together(setting, jobs, engine)
    check_together(Setting(Path("out")), 1, LOCAL)


def test_rank_0_alone_lists_runs(
    tmp_path: Path, second_of_two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--figures", "5", "--list", "--out", str(tmp_path / "set")]
    second = CliRunner().invoke(record.app, options)
    assert (second.exit_code, second.output) == (0, "")
    monkeypatch.setenv("RANK", "0")
    first = CliRunner().invoke(record.app, options).output
    assert "left to record, 1 at a time" in first
    assert "Record them with: torchrun --nproc-per-node 2 -m pruneviz record" in first
    refused = CliRunner().invoke(record.app, [*options, "--jobs", "2"])
    assert refused.exit_code == 2 and "--jobs 2 does not go with that" in refused.output


# With real processes


@dataclass
class Ended:
    """What torchrun and its processes printed, and the exit code of each process."""

    stdout: str
    stderr: str
    code: int

    @property
    def told(self) -> list[str]:
        """Lines about stops."""
        return [line for line in self.stderr.splitlines() if "Finished work is kept" in line]


class Torchrun:
    """A command that two processes record with, and its end."""

    def __init__(self, folder: Path, plans: list[RunPlan], out: str, *options: str) -> None:
        self.out = folder / out
        script = command_script(folder, plans)
        launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
        given = ["--out", str(self.out), "--device", "cpu", *options]
        self.process = subprocess.Popen(
            [sys.executable, *launch, str(script), *given],
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def wait_for(self, pattern: str) -> None:
        deadline = time.monotonic() + 250
        while self.process.poll() is None and not list(self.out.glob(pattern)):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    @property
    def ranks(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def end(self) -> Ended:
        try:
            stdout, stderr = self.process.communicate(timeout=280)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        return Ended(stdout, stderr, self.process.returncode)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torchrun")


# Long enough to be stopped within.
PLANS = [replace(PLAN, epochs=30), replace(PLAN, run="r1", seed=1)]


@pytest.fixture(scope="module")
def whole(folder: Path) -> Iterator[Path]:
    """Both runs, never interrupted."""
    ended = Torchrun(folder, PLANS, "whole").end()
    assert ended.code == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].endswith("whole, one at a time on 2 processes")
    assert [line.partition(":")[0] for line in lines[1:]] == ["r0", "r1"], "rank 0 alone prints"
    yield folder / "whole"


def check_same(whole: Path, cut: Path) -> None:
    for run in ("r0", "r1"):
        assert is_sealed(cut / run) and read_spec(cut / run).extra["ranks"] == 2
        one, other = (without_times(pv.load(folder / run)) for folder in (whole, cut))
        pd.testing.assert_frame_equal(one, other, check_exact=True)
        for table in ("filters", "rounds"):
            files = [folder / run / f"{table}.parquet" for folder in (whole, cut)]
            assert files[0].read_bytes() == files[1].read_bytes()


STOPS = {
    "SIGTERM to torchrun": (signal.SIGTERM, "torchrun"),
    "Ctrl-C": (signal.SIGINT, "all"),
    "SIGUSR1 to rank 1": (signal.SIGUSR1, "rank 1"),
}


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", STOPS)
def test_a_signal_stops_all_with_one_message_and_the_same_command_goes_on(
    folder: Path, whole: Path, how: str
) -> None:
    number, to = STOPS[how]
    name = how.replace(" ", "_")
    command = Torchrun(folder, PLANS, name)
    command.wait_for("r0/parts/epochs-00007*")
    codes = command.ranks
    if to == "all":
        os.killpg(command.process.pid, number)
    elif to == "torchrun":
        os.kill(command.process.pid, number)
    else:
        next(one for one in codes if one.environ()["RANK"] == "1").send_signal(number)
    ended = command.end()
    (told,) = ended.told
    assert f"{signal.Signals(number).name}: r0 stopped after" in told or "Interrupted: r0" in told
    assert "1 run not begun" in told
    assert not any(one.is_running() for one in codes)
    assert list(command.out.glob("r0/checkpoint/*.pt"))
    assert Torchrun(folder, PLANS, name).end().code == 0
    check_same(whole, command.out)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_other_and_the_same_command_goes_on(
    folder: Path, whole: Path, rank: int
) -> None:
    command = Torchrun(folder, PLANS, f"killed{rank}")
    command.wait_for("r0/parts/epochs-00012*")
    both = command.ranks
    next(one for one in both if one.environ()["RANK"] == str(rank)).kill()
    ended = command.end()
    assert ended.code != 0
    assert not any(one.is_running() for one in both)
    assert Torchrun(folder, PLANS, f"killed{rank}").end().code == 0
    check_same(whole, command.out)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_time_limit_stops_all_and_one_process_does_not_go_on(folder: Path, whole: Path) -> None:
    long = [replace(PLANS[0], epochs=20_000)]
    command = Torchrun(folder, long, "limited", "--time-limit", "30s")
    ended = command.end()
    (told,) = ended.told
    assert told.startswith("The time limit of 30s is near: r0 stopped after")
    assert "exitcode: 1" in ended.stderr or "exitcode  : 1" in ended.stderr
    alone = subprocess.run(
        [sys.executable, str(folder / "command.py"), "--out", str(command.out), "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 2
    assert "was started by 2 processes and would go on with 1" in alone.stderr
