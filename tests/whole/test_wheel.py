"""The wheel: what it holds, and the README's first picture from it, without torch."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from pruneviz.log.examples import EXAMPLES
from tests.support.without_torch import ROOT, run

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"

# Python 3.11 brings an older one into a new environment; the extra `test` replaces it.
pytestmark = pytest.mark.skipif(
    int(version("setuptools").split(".")[0]) < 77, reason="the build needs setuptools 77"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pruneviz", source / "pruneviz", ignore=ignored)
    built = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-c", BUILD, str(built)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (file,) = built.glob("*.whl")
    assert file.stat().st_size < 3e6
    unpacked = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(unpacked)
    return unpacked


def test_it_holds_every_file_of_the_package(wheel: Path) -> None:
    def files(folder: Path) -> set[str]:
        inside = (folder / "pruneviz").rglob("*")
        return {
            path.relative_to(folder).as_posix()
            for path in inside
            if path.is_file() and path.suffix != ".pyc"
        }

    held = files(wheel)
    assert held == files(ROOT)
    assert "pruneviz/py.typed" in held
    for name in EXAMPLES:
        assert [
            file for file in held if re.search(rf"example_runs/{name}/.*/filters\.parquet", file)
        ]


def test_it_needs_torch_only_for_the_extra(wheel: Path) -> None:
    (facts,) = wheel.glob("*.dist-info/METADATA")
    needs = re.findall(r"^Requires-Dist: (.+)$", facts.read_text(encoding="utf-8"), re.MULTILINE)
    plain = {re.match(r"[\w-]+", one)[0] for one in needs if "extra ==" not in one}  # type: ignore[index]
    assert {"matplotlib", "pandas"} <= plain
    assert not plain & {"torch", "torchvision", "safetensors", "scikit-learn"}
    assert any(one.startswith("torch>=") and one.endswith('extra == "measure"') for one in needs)


def test_the_first_picture_of_the_readme_is_drawn_without_torch(
    wheel: Path, tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.+?)```", readme, re.DOTALL)[0]
    assert "load_example" in code
    (picture,) = re.findall(r'savefig\("(.+?)"\)', code)
    run("-c", code, folder=tmp_path, package=wheel)
    assert (tmp_path / picture).read_bytes()[:4] == b"\x89PNG"
