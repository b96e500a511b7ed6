"""`pruneviz sweep`: lists, tasks and records the runs of a file, and says what is wrong with it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pruneviz import sweep
from pruneviz.engines.engine import LOCAL
from pruneviz.experiment import campaign
from pruneviz.experiment import sweep as experiment
from pruneviz.experiment.setting import Setting
from pruneviz.experiment.stop import Stop
from pruneviz.experiment.sweep import AnyRun
from pruneviz.log.sweep_notes import Note, keep_note
from pruneviz.plans.sweep_example import EXAMPLE
from tests.support.own_training import HERE
from tests.support.stores import new_bucket

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "sweeps.md"
FILE = f"""
out = "runs"
[[train]]
function = "{HERE}:train"
name = "r{{seed}}"
arguments = {{ seed = [0, 1, 2] }}
"""


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(sweep.app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a sweep of three runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my sweep.toml").write_text(FILE)
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The runs that would be recorded; they are, in this process."""
    found: list[list[str]] = []

    def record(
        runs: Sequence[AnyRun], setting: Setting, jobs: int, *others: object, **how: object
    ) -> None:
        found.append([run.run for run in runs])
        for run in runs:
            work = experiment._job(run, setting, LOCAL).work
            work(lambda epochs, note: None, Stop())

    monkeypatch.setattr(experiment, "record_sweep", record)
    return found


def test_a_sweep_is_recorded_once_and_listed(folder: Path, asked: list[list[str]]) -> None:
    keep_note(folder / "runs", "r1", Note({}, "no data"))
    listed = invoke("my sweep.toml", "--list", "--device", "cpu")
    assert (listed.exit_code, listed.stdout.splitlines()) == (
        0,
        [
            "missing     r0",
            "failed      r1  no data",
            "missing     r2",
            "2 missing, 1 failed of 3 runs",
            "Record them with: pruneviz sweep 'my sweep.toml' --device cpu",
        ],
    )
    assert invoke("my sweep.toml", "--device", "cpu", "--run", "r0").exit_code == 0
    rest = invoke("my sweep.toml", "--device", "cpu", "--jobs", 2)
    assert (rest.exit_code, rest.stdout.splitlines()) == (
        0,
        [
            "1 recorded, 1 failed, 1 missing of 3 runs, in runs",
            "recording 2 runs into runs, 2 at a time",
        ],
    )
    again = invoke("my sweep.toml", "--device", "cpu")
    assert (again.exit_code, again.stdout) == (0, "3 recorded of 3 runs, in runs\n")
    assert asked == [["r0"], ["r1", "r2"]]
    assert invoke("my sweep.toml", "--list").stdout.endswith("\n3 recorded of 3 runs\n")


def test_tasks_record_one_run_each(folder: Path, asked: list[list[str]]) -> None:
    assert invoke("my sweep.toml", "--device", "cpu", "--run", "r1").exit_code == 0
    options = ["--device", "cpu", "--time-limit", "55m"]
    result = invoke("--list", "--as-tasks", "my sweep.toml", *options)
    assert (result.exit_code, result.stderr) == (0, "2 of 3 runs left to record, one task each\n")
    tasks = [shlex.split(line) for line in result.stdout.splitlines()]
    place = ["cd", str(folder), "&&", "pruneviz", "sweep", "--run"]
    assert tasks == [[*place, run, "my sweep.toml", *options] for run in ("r0", "r2")]
    for task in tasks:
        assert invoke(*task[5:]).exit_code == 0
    assert asked == [["r1"], ["r0"], ["r2"]]


def test_what_is_not_recorded_leaves_the_command_incomplete(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "record_sweep", lambda *others, **how: None)
    result = invoke("my sweep.toml", "--device", "cpu")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: 3 of 3 runs not recorded: r0 is missing; repeat the")


FAULTS = {
    "": "name a sweep file, or print one to begin with by --example",
    "none.toml": "there is no file none.toml; write one",
    "'my sweep.toml' --as-tasks": "--as-tasks says how to list runs, and records none; add --list",
    "'my sweep.toml' --run r9": "there is no run 'r9'; choose one of r0, r1, r2",
    "'my sweep.toml' --time-limit 1": "'1' is no duration",
}


@pytest.mark.parametrize("arguments", FAULTS)
def test_wrong_use_is_told(folder: Path, arguments: str) -> None:
    result = invoke(*shlex.split(arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert FAULTS[arguments] in result.stderr


def test_a_function_that_cannot_be_called_is_told_before_any_run(folder: Path) -> None:
    (folder / "wrong.toml").write_text(FILE.replace("seed = [", "sed = ["))
    (folder / "wrong.toml").write_text(FILE.replace("{seed}", "{sed}").replace("seed = ", "sed = "))
    result = invoke("wrong.toml", "--device", "cpu")
    assert result.exit_code == 2
    assert "got an unexpected keyword argument 'sed'; change arguments" in result.stderr
    assert not (folder / "runs").exists()


def test_data_sets_are_looked_for_before_any_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[list[str], bool]] = []
    monkeypatch.setattr(
        campaign,
        "check_data_sets",
        lambda names, images, download: found.append((names, download)),
    )
    monkeypatch.setattr(experiment, "record_sweep", lambda *others, **how: None)
    (folder / "s.toml").write_text('out = "o"\n[[record]]\nfigures = 13\nseed = [0, 1]\n')
    assert invoke("s.toml", "--device", "cpu").exit_code == 1
    tasks = invoke("s.toml", "--device", "cpu", "--list", "--as-tasks", "--download")
    assert found == [(["digits"] * 2, False), (["digits"] * 2, True)]
    assert len(tasks.stdout.splitlines()) == 2 and "--download" not in tasks.stdout


def test_the_example_of_the_docs_can_be_recorded(
    folder: Path, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("--example").stdout == EXAMPLE
    page = PAGE.read_text(encoding="utf-8")
    (file,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert file == EXAMPLE
    (module,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (folder / "my_training.py").write_text(module)
    (folder / "sweep.toml").write_text(EXAMPLE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        listed = invoke("sweep.toml", "--list", "--device", "cpu").stdout.splitlines()
        assert listed[-2] == "28 missing of 28 runs"
        run = "small-w8-lr0.1-s0"
        assert invoke("sweep.toml", "--device", "cpu", "--run", run).exit_code == 0
    finally:
        sys.modules.pop("my_training", None)
    assert asked == [[run]]
    assert (folder / "data" / "sweep" / run / "filters.parquet").is_file()


def test_recorded_runs_may_go_into_a_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNEVIZ_SPOOL", str(folder / "spool"))
    url = f"{new_bucket()}/runs"
    runs = '[[record]]\npreset = "digits"\nnetwork = "vgg13"\nbaseline = true\nseed = 0\n'
    (folder / "store.toml").write_text(f'out = "{url}"\n{runs}')
    listed = invoke("store.toml", "--list", "--device", "cpu")
    assert listed.stdout.startswith("missing     vgg13-digits-baseline-s0"), listed.stderr
    refused = invoke("store.toml", "--device", "cpu")
    assert refused.stdout.startswith(f"recording 1 run into {url},")
    assert f"{url} lies in the memory of one process" in refused.stderr
    (folder / "my sweep.toml").write_text(FILE.replace('"runs"', f'"{url}"'))
    own = invoke("my sweep.toml", "--list")
    assert "line 2" in own.stderr and "give the URL to pv.Recorder in the function" in own.stderr
    assert {path.name for path in folder.iterdir()} == {"my sweep.toml", "store.toml"}
