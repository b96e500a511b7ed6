"""The command `pruneviz figures`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from pruneviz.figures.__main__ import app
from pruneviz.figures.__main__ import app as figures_app
from pruneviz.figures.catalogue import FIGURES
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs, save_runs, together


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits"
    save_runs(
        together(
            make_runs(SMALL, seeds=(0,), epochs=4),
            make_pruned_runs({"vgg13": SMALL["vgg13"]}, seeds=(0, 1)),
        ),
        path,
    )
    return path


def test_command_draws_what_is_asked_for(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["2", "13", "5", "--data", str(folder), "--out", str(tmp_path), "--format", "png"]
    )
    assert done.exit_code == 0, done.output
    ends = {
        "02": (".csv", ".png", ".txt"),
        "05": (".csv", ".png", ".txt", "_convergence.csv", "_leads.csv"),
        "13": (".csv", ".png", ".txt"),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"figure{name}{end}" for name, found in ends.items() for end in found
    ]
    assert (
        done.stdout.splitlines()[1]
        == f"figure 5: {tmp_path / 'figure05'}{{.png,.csv,_convergence.csv,_leads.csv,.txt}}"
    )
    text = (tmp_path / "figure05.txt").read_text(encoding="utf-8")
    convergence = pd.read_csv(tmp_path / "figure05_convergence.csv").set_index(
        ["measure", "quantity"]
    )
    assert (
        f"{100 * convergence.loc[('proposed', 'area'), 'mean'].item():.1f}" in text
        and "claims: magnitude-based pruning" in text
    )
    facts = (
        "fraction of filters to prune: 0.6",
        "pruning rounds: 5",
        "training images augmented: no",
        "vgg13-digits-proposed-r5-s0",
    )
    assert all(fact in text for fact in facts)


def test_a_figure_recorded_in_part_is_drawn_in_part_and_says_so(tmp_path: Path) -> None:
    runs = make_pruned_runs(
        {"vgg13": SMALL["vgg13"]}, measures=("magnitude", "loss_preservation"), seeds=(0,)
    )
    save_runs(runs, tmp_path / "data")
    done = CliRunner().invoke(
        app, ["5", "6", "--data", str(tmp_path / "data"), "--out", str(tmp_path), "--format", "png"]
    )
    assert done.exit_code == 1, done.output
    five, six = (line for line in done.stderr.splitlines() if line.startswith("figure"))
    record = f"record with: python -m pruneviz.record --preset digits --figures %s --out {tmp_path / 'data'}"
    assert five.startswith(
        "figure 5 lacks VGG-13 pruned by Proposed in 5 rounds on digits"
    ) and five.endswith(record % 5)
    assert six.startswith(
        "figure 6 lacks VGG-13 pruned by Magnitude, Proposed and Loss-pres. in 25 rounds"
    ) and six.endswith(record % 6)
    assert [path.name for path in tmp_path.glob("*.png")] == ["figure05.png"]
    text = (tmp_path / "figure05.txt").read_text(encoding="utf-8").replace("\n", " ")
    assert "Not recorded, so not drawn: VGG-13 pruned by Proposed in 5 rounds" in text
    assert (
        "Magnitude before Loss-pres.: by the area as the claim has it (one seed, so a hint at most)"
        in text
    )


def test_figure_i1_is_drawn_where_tiny_imagenet_is_recorded_and_else_only_missed_when_named(
    tmp_path: Path,
) -> None:
    tiny = make_runs(SMALL, seeds=(0,), epochs=2, every=1, dataset="tiny-imagenet")
    save_runs(tiny, tmp_path / "tiny")
    save_runs(
        make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), epochs=2, every=1), tmp_path / "digits"
    )
    for name, drawn in (("tiny", True), ("digits", False)):
        done = CliRunner().invoke(
            app,
            [
                "--data",
                str(tmp_path / name),
                "--out",
                str(tmp_path / f"{name}-out"),
                "--format",
                "png",
            ],
        )
        assert (tmp_path / f"{name}-out" / "figureI1.png").exists() == drawn
        assert "figure I1 lacks" not in done.stderr and done.exit_code == 1
    done = CliRunner().invoke(
        app, ["i1", "--data", str(tmp_path / "digits"), "--out", str(tmp_path / "none")]
    )
    assert (
        done.exit_code == 1
        and "figure I1 lacks VGG-13, MobileNet-V1 and ResNet-56 on Tiny-ImageNet" in done.stderr
    )
    assert (
        f"python -m pruneviz.record --preset digits --figures I1 --out {tmp_path / 'digits'}"
        in done.stderr
    )


def test_a_corrupt_recording_stops_only_the_figures_that_need_it(tmp_path: Path) -> None:
    save_runs(
        together(
            make_runs(SMALL, seeds=(0,), epochs=4),
            make_pruned_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,)),
        ),
        tmp_path / "data",
    )
    (tmp_path / "data" / "resnet56-digits-s0" / "filters.parquet").write_bytes(b"torn")
    done = CliRunner().invoke(
        app,
        [
            "2",
            "3",
            "5",
            "13",
            "--data",
            str(tmp_path / "data"),
            "--out",
            str(tmp_path / "out"),
            "--format",
            "png",
        ],
    )
    assert done.exit_code == 1
    assert [path.name for path in sorted((tmp_path / "out").glob("*.png"))] == [
        "figure05.png",
        "figure13.png",
    ]
    for figure in (2, 3):
        assert (
            f"figure {figure} is not drawn: {tmp_path / 'data' / 'resnet56-digits-s0' / 'filters.parquet'} is corrupt"
            in done.stderr
        )


def test_command_names_missing_recordings_and_draws_the_others(tmp_path: Path) -> None:
    two = make_runs(
        {network: SMALL[network] for network in ("resnet56", "mobilenet_v1")},
        seeds=(0, 1),
        epochs=4,
    )
    save_runs(two, tmp_path / "data", unfinished=["resnet56-digits-s1"])
    arguments = [
        "2",
        "3",
        "13",
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--format",
        "png",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1, done.output
    said = done.stderr.splitlines()
    record = f"record with: python -m pruneviz.record --preset digits --figures %s --out {tmp_path / 'data'}"
    (two,) = (
        line for line in said if line.startswith("figure 2 lacks VGG-13 on digits (unpruned) in ")
    )
    (thirteen,) = (
        line for line in said if line.startswith("figure 13 lacks VGG-13 (unpruned) in ")
    )
    assert two.endswith(record % "2 --network vgg13") and thirteen.endswith(record % "13")
    assert any("resnet56-digits-s1 is unfinished" in line for line in said)
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        "figure02.png",
        "figure03.png",
    }
    assert "Not recorded, so not drawn: VGG-13" in (tmp_path / "out" / "figure02.txt").read_text(
        encoding="utf-8"
    ).replace("\n", " ")


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
def test_command_refuses_arguments_it_cannot_use(
    arguments: list[str], part: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        app, [*arguments, "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 2 and part in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_command_says_what_would_fill_an_empty_folder(tmp_path: Path) -> None:
    for data in (tmp_path, tmp_path / "paper"):
        done = CliRunner().invoke(app, ["14", "--data", str(data)])
        preset = "paper" if data.name == "paper" else "digits"
        assert (
            done.exit_code == 1
            and f"python -m pruneviz.record --preset {preset} --figures 14 --out {data}"
            in done.stderr
        )


def test_command_lists_figures(folder: Path, tmp_path: Path) -> None:
    lines = CliRunner().invoke(app, ["--list", "--data", str(folder)]).stdout.splitlines()
    states = {line.split()[0]: line[line.index("[") :] for line in lines}
    assert list(states) == list(FIGURES)
    assert {states[name] for name in ("2", "3", "13", "14", "15")} == {
        "[recorded on digits, 1 seed]"
    }
    assert states["5"] == "[recorded on digits, 2 seeds]" and states["17"].startswith(
        "[not recorded: MobileNet-V1 pruned by Magnitude, "
    )
    nothing = CliRunner().invoke(app, ["13", "--list", "--data", str(tmp_path)])
    assert nothing.exit_code == 0 and "[not recorded: VGG-13 (unpruned)]" in nothing.stdout


def test_help_answers_without_loading_what_draws() -> None:
    code = "import sys, pruneviz.figures.__main__; assert not {'pandas', 'matplotlib', 'scipy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_data_set_that_could_not_be_recorded_is_refused(tmp_path: Path) -> None:
    save_runs(
        make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), epochs=2, every=1, dataset="mine"),
        tmp_path / "data",
    )
    common = [
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--format",
        "png",
        "--dataset",
    ]
    unknown = CliRunner().invoke(figures_app, ["13", *common, "mien"])
    assert (
        unknown.exit_code == 2
        and "no data set 'mien'; choose among digits" in unknown.stderr
        and "mine" in unknown.stderr
    )
    assert "record with" not in unknown.stderr
    assert CliRunner().invoke(figures_app, ["13", *common, "mine"]).exit_code == 0
    missing = CliRunner().invoke(figures_app, ["13", *common, "cifar10"])
    assert missing.exit_code == 1 and "--figures 13 --dataset cifar10" in missing.stderr
