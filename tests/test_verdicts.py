"""`pruneviz claims`: verdicts as tables, Markdown and JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import pruneviz as pv
from pruneviz import verdicts
from pruneviz.analysis.claims import COLUMNS, RULES
from pruneviz.analysis.rules import VERDICTS
from tests.support.synthetic_runs import SMALL, make_runs, save_runs


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(verdicts.app, arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three seeds of one network."""
    path = tmp_path_factory.mktemp("data")
    save_runs(make_runs({"vgg13": SMALL["vgg13"]}, epochs=4), path)
    return path


def test_the_records_are_those_of_python(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "claims.json"
    done = invoke("--data", str(folder), "--json", str(file))
    assert done.exit_code == 0, done.output
    records = json.loads(file.read_text(encoding="utf-8"))
    found = pv.claims(pv.load(folder))
    assert [list(record) for record in records] == [list(COLUMNS)] * len(found)
    assert [record["verdict"] for record in records] == list(found["verdict"])
    assert {record["claim"] for record in records} == set(RULES)
    assert {record["verdict"] for record in records} <= set(VERDICTS)
    first = records[0]
    assert first["runs"] == [f"vgg13-digits-s{seed}" for seed in range(3)]
    assert first["seeds"] == 3 and first["low"] < first["value"] < first["high"]
    assert first["p"] is None
    assert list(tmp_path.iterdir()) == [file], "no temporary file is left"


def test_the_same_table_in_two_forms(folder: Path) -> None:
    plain, markdown = invoke(str(folder)).stdout, invoke(str(folder), "--markdown").stdout
    assert "| --- |" not in plain and "| --- |" in markdown
    for word in ("vgg13", "undecided", "not testable", "needs 5 seeds, has 3"):
        assert word in plain and word in markdown


def test_the_rules_need_no_recordings() -> None:
    done = invoke("--rules")
    assert done.exit_code == 0
    assert all(f"`{name}`" in done.stdout for name in RULES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the recordings"),
        (("nowhere",), "there is no folder nowhere"),
    ],
)
def test_wrong_use_says_what_to_do(arguments: tuple[str, ...], message: str) -> None:
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_file_in_a_missing_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    done = invoke(str(folder), "--json", str(tmp_path / "no" / "claims.json"))
    assert done.exit_code == 2
    assert "there is no folder" in done.stderr and not (tmp_path / "no").exists()


def test_verdicts_load_neither_torch_nor_matplotlib(folder: Path) -> None:
    code = (
        "import sys, pruneviz as pv\n"
        f"pv.claims(pv.load({str(folder)!r}))\n"
        "print({'torch', 'matplotlib'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
