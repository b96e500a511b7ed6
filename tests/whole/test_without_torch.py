"""`pip install pruneviz` draws; what measures names the extra to install."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

import pruneviz
from pruneviz.errors import MEASURE_PACKAGES, MissingExtraError, names_extra
from pruneviz.log.examples import FOLDER
from tests.support.without_torch import ROOT, run

EXAMPLE = str(FOLDER / "cifar-mini")
RUN = str(FOLDER / "cifar-mini" / "vgg13-cifar100-unpruned-s3")
MEASURING = {
    "FlowMeter",
    "Pruner",
    "Recorder",
    "balanced_sample",
    "build_network",
    "coverage",
    "delta_loss",
    "hold_pruned",
    "load_dataset",
    "load_with_masks",
    "measure",
    "normalise",
    "prune_like",
    "remove",
    "sample_sizes",
    "state_with_masks",
}


def test_public_names_work_or_name_the_extra(tmp_path: Path) -> None:
    code = """
import importlib, json, pruneviz

def found(module, name):
    try:
        module = importlib.import_module(module)
        getattr(module, name)
    except ImportError as error:
        return str(error)

says = {name: found("pruneviz", name) for name in pruneviz.__all__}
says |= {name: found("pruneviz.plot", name) for name in pruneviz.plot.__all__}
says |= {name: found(name, "PruningDynamics") for name in
         ("pruneviz.loops.lightning", "pruneviz.loops.transformers")}
print(json.dumps(says))
"""
    says = json.loads(run("-c", code, folder=tmp_path).stdout)
    need = "needs torch, which is not installed: pip install"
    for library in ("lightning", "transformers"):
        name = f"pruneviz.loops.{library}"
        assert says.pop(name) == f"{name} {need} 'pruneviz[{library}]'"
    expected = {name: f"pruneviz.{name} {need} 'pruneviz[measure]'" for name in MEASURING}
    assert {name: told for name, told in says.items() if told} == expected
    assert {"load", "load_example", "draw", "correlate", "scatter"} <= set(says)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "Usage: pruneviz"),
        (["record", "--help"], "Usage: pruneviz record"),
        (["figures", "3", "--data", EXAMPLE, "--out", "f", "--format", "png"], "figure 3: "),
        (["findings", EXAMPLE], "resnet56-cifar100-unpruned-s3"),
        (["claims", "--data", EXAMPLE], "high correlation"),
        (["thin", RUN, "--epochs", "16", "--out", "thinner"], "1 of 17 epochs"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_commands_that_draw_work(arguments: list[str], shown: str, tmp_path: Path) -> None:
    assert shown in run("-m", "pruneviz", *arguments, folder=tmp_path).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["record", "--network", "vgg13", "--device", "cpu"],
        ["record", "--list"],
        ["remeasure", RUN, "--out", "again"],
        ["samplesize", RUN],
    ],
    ids=" ".join,
)
def test_commands_that_measure_name_the_extra(arguments: list[str], tmp_path: Path) -> None:
    done = run("-m", "pruneviz", *arguments, folder=tmp_path, check=False)
    told = "needs torch, which is not installed: pip install 'pruneviz[measure]'"
    assert done.stderr == f"error: pruneviz {arguments[0]} {told}\n"
    assert done.returncode == 2
    assert {path.name for path in tmp_path.iterdir()} == {"start"}  # nothing was begun


def test_the_extra_installs_what_the_error_is_about_and_a_plain_install_does_not() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        extra: {re.match(r"[\w-]+(\[.*\])?", one)[0] for one in listed}  # type: ignore[index]
        for extra, listed in project["optional-dependencies"].items()
    }
    imported = {{"scikit-learn": "sklearn"}.get(name, name) for name in extras["measure"]}
    assert imported == MEASURE_PACKAGES
    assert not [one for one in project["dependencies"] if one.startswith(tuple(extras["measure"]))]
    for extra in ("lightning", "transformers", "networks", "oracles"):
        assert "pruneviz[measure]" in extras[extra]


def test_only_a_package_of_the_extra_is_told_so() -> None:
    with (
        pytest.raises(MissingExtraError, match=r"^a needs torch, .* 'pruneviz\[all\]'$"),
        names_extra("a", "all"),
    ):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    with pytest.raises(ModuleNotFoundError, match="numpy"), names_extra("a"):
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")
    assert issubclass(MissingExtraError, ImportError)
    assert pruneviz.measure
