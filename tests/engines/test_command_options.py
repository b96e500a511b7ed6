"""Options that say where runs are done reach the command as one engine."""

from __future__ import annotations

import sys

import pytest
import typer
from typer.testing import CliRunner

from pruneviz.console.command import command_app
from pruneviz.engines import command_options
from pruneviz.engines.command_options import with_engine
from pruneviz.engines.engine import LOCAL, Engine


def engine_of(*options: str) -> Engine | str:
    """The engine that a command gets, or what it says instead."""
    found: list[Engine] = []

    @with_engine
    def work(ctx: typer.Context, device: str = "auto", engine: Engine = LOCAL) -> None:
        """Work."""
        found.append(engine)

    result = CliRunner().invoke(command_app(work, "work", ""), list(options))
    return found[0] if found else result.output


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All engines count as installed."""
    monkeypatch.setattr(command_options, "check_installed", lambda engine: None)


def test_without_options_runs_stay_here() -> None:
    assert engine_of() == LOCAL


@pytest.mark.usefixtures("installed")
def test_options_make_an_engine() -> None:
    options = "--on ray --cpus-per-run 2 --gpus-per-run 0.25 --retries 7 --resource a=1,b=2"
    assert engine_of(*options.split()) == Engine("ray", 2, 0.25, 7, {"a": "1", "b": "2"})


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("on", "gpus"), [("ray", 1), ("slurm", 1), ("dask://a:1", None)])
def test_a_gpu_is_asked_for_where_the_device_is_one(on: str, gpus: float | None) -> None:
    assert engine_of("--on", on, "--device", "cuda") == Engine(on, gpus=gpus)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--on ray --gpus-per-run 1 --device cpu", "--gpus-per-run 1 with --device cpu"),
        ("--on ray --resource tpu", "--resource tpu is not NAME=VALUE"),
        ("--gpus-per-run 1", "the engine local gives tasks no gpus"),
        ("--on rai", "did you mean 'ray'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: str, message: str) -> None:
    assert message in str(engine_of(*options.split()))


def test_an_engine_that_is_not_installed_is_told_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install 'pruneviz[slurm]'" in str(engine_of("--on", "slurm"))
