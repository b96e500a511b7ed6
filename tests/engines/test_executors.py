"""Executors by name, and what is said where an engine is missing."""

from __future__ import annotations

import sys

import pytest

import pruneviz as pv
from pruneviz.errors import MissingExtraError, PrunevizError


@pytest.mark.parametrize(
    ("on", "package", "extra"),
    [
        ("ray", "ray", "ray"),
        ("slurm", "submitit", "slurm"),
        ("dask://head:8786", "distributed", "dask"),
    ],
)
def test_a_missing_engine_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, on: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    told = rf"^the engine {on} needs {package}, which .* pip install 'pruneviz\[{extra}\]'$"
    with pytest.raises(MissingExtraError, match=told):
        pv.executor(on)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(PrunevizError, match="there is no engine 'slrum'; did you mean 'slurm'"):
        pv.executor("slrum")


def test_processes_of_this_machine_are_an_executor_too() -> None:
    with pv.executor() as executor:
        assert list(executor.map(abs, [-1, 2])) == [1, 2]
