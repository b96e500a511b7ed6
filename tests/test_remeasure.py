"""`pruneviz remeasure`: its options become a `Remeasuring`; wrong ones are refused first."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pruneviz import remeasure
from pruneviz.experiment import campaign, remeasuring
from pruneviz.experiment.remeasuring import Remeasuring
from pruneviz.log.vocabulary import BN_MODES, CNN_ROW_KINDS, DTYPES

RUN = Path("data/cifar-mini/vgg13-cifar100-unpruned-s0").resolve()


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(remeasure.app, arguments)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Path], Remeasuring, int]]:
    """What would be measured, how, and how many runs at a time."""
    found: list[tuple[list[Path], Remeasuring, int]] = []

    def note(planned: dict[Path, Remeasuring], jobs: int, *others: object, **how: object) -> None:
        found.extend(([source], how, jobs) for source, how in planned.items())

    def check(names: list[str], images: Path | None, download: bool) -> None:
        assert (names, images, download) == (["cifar100"], None, False)

    monkeypatch.setattr(campaign, "check_data_sets", check)
    monkeypatch.setattr(remeasuring, "check_remeasurable", lambda source, how: True)
    monkeypatch.setattr(remeasuring, "remeasure_runs", note)
    return found


OPTIONS = {
    "": ("eval", "filter", None, None, "float32"),
    "--unit weight --every 4": ("eval", "weight", 4, None, "float32"),
    "--bn calibrated --dtype float64": ("calibrated", "filter", None, None, "float64"),
    "--bn batch": ("batch", "filter", None, 100, "float64"),
    "--bn batch --batch-size 10 --dtype float32": ("batch", "filter", None, 10, "float32"),
}


@pytest.mark.parametrize("options", OPTIONS)
def test_options_say_how_runs_are_measured(
    asked: list[tuple[list[Path], Remeasuring, int]], tmp_path: Path, options: str
) -> None:
    given = [str(RUN), "--out", str(tmp_path), "--device", "cpu", *options.split()]
    result = invoke(*given)
    assert result.exit_code == 0, result.output
    ((sources, how, jobs),) = asked
    assert (sources, jobs, how.out, how.device) == ([RUN], 1, tmp_path, "cpu")
    assert (how.bn, how.unit, how.every, how.batch_size, how.dtype) == OPTIONS[options]
    assert how.command == f"pruneviz remeasure {' '.join(given)}"


WRONG = {
    "--bn bath": "there is no batch-norm mode 'bath'; did you mean 'batch'?",
    "--unit wieght": "there is no row kind 'wieght'; did you mean 'weight'?",
    "--dtype float16": "there is no precision 'float16'; did you mean 'float64'? Choose one of",
    "--batch-size 10": "batch_size=10 has no meaning with bn='eval'",
    "--batch-size 1 --bn batch": "--batch-size is 1, expected 2 or more",
    "--unti weight": "there is no option --unti; did you mean --unit?",
}


@pytest.mark.parametrize("options", WRONG)
def test_wrong_options_are_refused_with_the_repair(tmp_path: Path, options: str) -> None:
    result = invoke(str(RUN), "--out", str(tmp_path / "new"), *options.split())
    assert result.exit_code == 2
    assert WRONG[options] in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = invoke(str(tmp_path / "nowhere"), "--out", str(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"error: there is no folder {tmp_path / 'nowhere'}" in result.stderr


def test_the_help_names_all_choices() -> None:
    shown = invoke("--help").stdout
    assert all("|".join(names) in shown for names in (BN_MODES, CNN_ROW_KINDS, DTYPES))
