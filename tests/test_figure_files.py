"""Figures as files, captions and a command: whole, reproducible, telling, and clear about what is missing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from synthetic_runs import SMALL, make_runs, save_runs
from typer.testing import CliRunner

from pruneviz.errors import FigureError
from pruneviz.figures import scatter
from pruneviz.figures.__main__ import app
from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.draw import draw_figure
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.words import mean_and_sd
from pruneviz.runlog import Runs

DEFAULT = DrawOptions()


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs({"resnet56": SMALL["resnet56"]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits"
    save_runs(make_runs(SMALL, seeds=(0,), epochs=4), path)
    return path


# The files


def test_files_are_whole_reproducible_and_tell_all(runs: Runs, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    paths = draw_figure(runs, "3", DEFAULT, tmp_path / "new" / "folder")
    first = {path.name: path.read_bytes() for path in paths}
    assert (
        list(first)
        == ["figure03.pdf", "figure03.png", "figure03.csv", "figure03.txt"]
        == [p.name for p in _by_ending(tmp_path / "new" / "folder")]
    )
    again = {path.name: path.read_bytes() for path in draw_figure(runs, "3", DEFAULT, tmp_path, formats=["pdf", "svg"])}
    assert all(again[name] == first[name] for name in ("figure03.pdf", "figure03.csv", "figure03.txt"))
    assert b"<dc:date>" not in again["figure03.svg"]
    assert (
        b"CreationDate" not in first["figure03.pdf"]
        and b"/CIDFontType2" in first["figure03.pdf"]
        and b"/Type3" not in first["figure03.pdf"]
    )
    written = pd.read_csv(tmp_path / "figure03.csv")
    pd.testing.assert_frame_equal(
        written, scatter.table(runs, FIGURES["3"], DEFAULT), check_dtype=False, check_categorical=False, rtol=1e-12
    )
    assert dict(matplotlib.rcParams) == before


def _by_ending(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: [".pdf", ".png", ".csv", ".txt"].index(path.suffix))


def test_caption_carries_numbers_claim_options_and_runs(runs: Runs, tmp_path: Path) -> None:
    draw_figure(runs, "3", DrawOptions(method="kendall", seed=1), tmp_path, formats=["png"])
    written = (tmp_path / "figure03.txt").read_text(encoding="utf-8")
    text = " ".join(written.split())
    table = scatter.table(runs, FIGURES["3"], DrawOptions(method="kendall"))
    for value in table.drop_duplicates("epoch")[["kendall", "spearman"]].to_numpy().ravel():
        assert mean_and_sd(value, np.nan, 3) in text
    thresholds = scatter.thresholds(table)
    assert f"x {thresholds['theta_g'].iloc[0]:.0e}" in text
    for part in (
        "highly correlated",
        "batch norm while measuring: eval",
        "1, 200",
        "lag of sigma_delta (epochs): 1",
        "kendall",
        "seed of the points: 1",
    ):
        assert part in text
    assert all(f"resnet56-digits-s{seed}" in text for seed in range(3))
    assert max(map(len, written.splitlines())) <= 120


def test_a_folder_that_cannot_be_written_is_named(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FigureError, match=r"cannot write .*figure03.pdf.*--out"):
        draw_figure(runs, "3", DEFAULT, tmp_path / "file")
    with pytest.raises(FigureError, match=r"format 'gif' is unknown.*pdf, png, svg"):
        draw_figure(runs, "3", DEFAULT, tmp_path, formats=["gif"])


# The command


def test_command_draws_what_is_asked_for(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["2", "13", "--data", str(folder), "--out", str(tmp_path), "--format", "png"])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"figure{n}.{end}" for n in ("02", "13") for end in ("csv", "png", "txt")]


def test_command_names_missing_recordings_and_draws_the_others(tmp_path: Path) -> None:
    two = make_runs({network: SMALL[network] for network in ("resnet56", "mobilenet_v1")}, seeds=(0, 1), epochs=4)
    save_runs(two, tmp_path / "data", unfinished=["resnet56-digits-s1"])
    arguments = ["2", "3", "13", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--format", "png"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1, done.output
    said = done.stderr.splitlines()
    command = f"python -m pruneviz.record --preset digits --network vgg13 --out {tmp_path / 'data'}"
    assert [line for line in said if line.startswith("figure 13 ")] == [line for line in said if line.endswith(command)][1:]
    assert any("resnet56-digits-s1 is unfinished" in line for line in said)
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"figure02.png", "figure03.png"}
    assert "Not recorded, so not drawn: VGG-13" in (tmp_path / "out" / "figure02.txt").read_text(encoding="utf-8").replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["99"], "no figure '99'"),
        (["3", "--mask-ratio", "2"], "mask_ratio is 2.0"),
        (["3", "--mask-score", "size"], "expected one of magnitude"),
        (["3", "--format", "gif"], "format 'gif'"),
        (["3", "--method", "cosine"], "cosine"),
    ],
)
def test_command_refuses_arguments_it_cannot_use(arguments: list[str], part: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*arguments, "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and part in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_command_says_what_would_fill_an_empty_folder(tmp_path: Path) -> None:
    for data in (tmp_path, tmp_path / "paper"):
        done = CliRunner().invoke(app, ["14", "--data", str(data)])
        preset = "paper" if data.name == "paper" else "digits"
        assert done.exit_code == 1 and f"python -m pruneviz.record --preset {preset} --network mobilenet_v1 --out {data}" in done.stderr


def test_command_lists_figures(folder: Path, tmp_path: Path) -> None:
    lines = CliRunner().invoke(app, ["--list", "--data", str(folder)]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(FIGURES) and all(line.endswith("[recorded]") for line in lines)
    assert "lacks vgg13" in CliRunner().invoke(app, ["13", "--list", "--data", str(tmp_path)]).stdout


@pytest.mark.parametrize("module", ["pruneviz.figures", "pruneviz.figures.__main__", "pruneviz.figures.draw"])
def test_drawing_loads_neither_torch_nor_pyplot(module: str) -> None:
    code = f"import sys, {module}; assert not {{'torch', 'matplotlib.pyplot'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_answers_without_loading_what_draws() -> None:
    code = "import sys, pruneviz.figures.__main__; assert not {'pandas', 'matplotlib', 'scipy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_caption_tells_how_many_points_stand_clear_of_their_standard_error(runs: Runs) -> None:
    filters = runs.filters.assign(theta_g_se=runs.filters["theta_g"].abs() / 3, theta_hg_se=runs.filters["theta_hg"].abs())
    table = scatter.table(replace(runs, filters=filters), FIGURES["3"], DrawOptions())
    dead = table[table["epoch"] == 0]["theta_g"].eq(0).mean()
    assert f"theta_g in {1 - dead:.0%} and theta_hg in 0%" in "\n".join(scatter.values(table, DrawOptions()))
    assert "noise of the sample" in scatter.finding(table, DrawOptions())
    unknown = scatter.table(runs, FIGURES["3"], DrawOptions())
    assert "standard error" not in "\n".join(scatter.values(unknown, DrawOptions())) + scatter.finding(unknown, DrawOptions())
