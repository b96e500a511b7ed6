"""A run goes on with the options and images that it was begun with, or an error names them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pruneviz.errors import DataError, LogError
from pruneviz.experiment import run
from pruneviz.experiment.images import ImageData
from pruneviz.experiment.run import record_run
from pruneviz.experiment.setting import Setting, is_recorded
from pruneviz.log.on_request import OnRequest
from pruneviz.log.spec_file import read_spec
from tests.support.cut_off import ignore
from tests.support.edited_specs import remove_facts
from tests.support.plans import UNPRUNED

PLAN = replace(UNPRUNED, epochs=2, sample_per_class=2)
SETTING = Setting(
    Path(), threads=1, keep_weights=True, flow=True, on_request=OnRequest(("synflow",), None, (0,))
)
WITHOUT = {
    "--flow": {"flow": False},
    "--keep-weights": {"keep_weights": False},
    "--request-at 0": {"on_request": OnRequest(("synflow",))},
    "columns was": {"on_request": OnRequest(("theta2_g2",), None, (0,))},
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a run that was interrupted after its first epoch."""
    out = tmp_path_factory.mktemp("begun")

    def interrupt(epoch: float, note: str) -> None:
        if epoch >= 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_run(PLAN, replace(SETTING, out=out), interrupt)
    return out


@pytest.fixture
def out(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "out"))


@pytest.mark.parametrize("named", WITHOUT)
def test_an_interrupted_run_needs_its_options_again(out: Path, named: str) -> None:
    setting = replace(SETTING, out=out, **WITHOUT[named])  # type: ignore[arg-type]
    with pytest.raises(LogError, match=f"was started with .*{named}"):
        is_recorded(PLAN, setting)
    with pytest.raises(LogError, match="was started with"):
        record_run(PLAN, setting, ignore)


def test_it_takes_no_further_options(out: Path) -> None:
    record_run(replace(PLAN, run="plain", epochs=0, lr_drops=()), Setting(out, threads=1), ignore)
    plain = replace(PLAN, run="plain", epochs=0, lr_drops=())
    assert is_recorded(plain, Setting(out))
    with pytest.raises(LogError, match="started without --keep-weights; leave --keep-weights out"):
        is_recorded(plain, Setting(out, keep_weights=True))
    with pytest.raises(LogError, match="started without --flow"):
        is_recorded(plain, Setting(out, flow=True))


def inverted(data: ImageData, part: str) -> ImageData:
    return replace(data, **{part: 255 - getattr(data, part)})


@pytest.mark.parametrize("part", ["train", "test"])
def test_it_goes_on_with_its_images_alone(
    out: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    read = run.load_dataset
    other = lambda *given, **how: inverted(read(*given, **how), f"{part}_images")  # noqa: E731
    monkeypatch.setattr(run, "load_dataset", other)
    with pytest.raises(DataError, match=f"started with other {part}.* images .*--images"):
        record_run(PLAN, replace(SETTING, out=out), ignore)


def test_it_goes_on_with_what_it_was_begun_with(out: Path) -> None:
    setting = replace(SETTING, out=out)
    assert not is_recorded(PLAN, setting)
    record_run(PLAN, setting, ignore)
    assert is_recorded(PLAN, setting)
    assert is_recorded(PLAN, replace(setting, flow=False, keep_weights=False)), "less is there"
    assert read_spec(out / PLAN.run).extra["recorded_with"] == ["--flow", "--keep-weights"]


def test_a_run_of_an_earlier_version_says_nothing_of_this(out: Path) -> None:
    remove_facts(out / PLAN.run, "recorded_with", "train_images_sha256", "test_images_sha256")
    assert not is_recorded(PLAN, replace(SETTING, out=out, flow=False))
