"""`pruneviz figures`: draws what is recorded, and says what is missing and what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from pruneviz.figures import __main__ as command
from pruneviz.figures import draw
from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs, save_runs, together

VGG = {"vgg13": SMALL["vgg13"]}


def invoke(*arguments: object) -> Result:
    """Run the command, in this process alone unless told otherwise."""
    jobs = () if "--jobs" in arguments else ("--jobs", "1")
    return CliRunner().invoke(command.app, [*map(str, arguments), *jobs])


def as_one_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("\n", " ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits"
    unpruned = make_runs(SMALL, seeds=(0,), epochs=4)
    save_runs(together(unpruned, make_pruned_runs(VGG, seeds=(0, 1))), path)
    return path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str], DrawOptions]]:
    """The figures that would be drawn, in which formats and how."""
    found: list[tuple[str, list[str], DrawOptions]] = []

    def note(
        figure: str, runs: Runs, out: Path, *, options: DrawOptions, formats: Sequence[str]
    ) -> list[Path]:
        found.append((figure, list(formats), options))
        return [out / f"figure{figure:0>2}.{ending}" for ending in formats]

    monkeypatch.setattr(draw, "save_figure", note)
    return found


# What is drawn


def test_command_draws_what_is_asked_for(folder: Path, tmp_path: Path) -> None:
    done = invoke("2", "13", "5", "--data", folder, "--out", tmp_path, "--format", "png")
    assert done.exit_code == 0, done.output
    ends = {
        "02": (".csv", ".json", ".png", ".txt"),
        "05": (".csv", ".json", ".png", ".txt", "_convergence.csv", "_leads.csv"),
        "13": (".csv", ".json", ".png", ".txt"),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"figure{name}{end}" for name, found in ends.items() for end in found
    ]
    files = f"{tmp_path / 'figure05'}{{.png,.csv,_convergence.csv,_leads.csv,.txt,.json}}"
    assert done.stdout.splitlines()[1] == f"figure 5: {files}"
    text = (tmp_path / "figure05.json").read_text(encoding="utf-8")
    convergence = pd.read_csv(tmp_path / "figure05_convergence.csv")
    area = convergence.set_index(["measure", "quantity"]).loc[("proposed", "area"), "mean"]
    facts = (
        f"{100 * area.item():.1f}",
        "claims: magnitude-based pruning",
        "fraction of filters to prune: 0.6",
        "pruning rounds: 5",
        "training images augmented: no",
        "vgg13-digits-proposed-r5-s0",
    )
    assert [fact for fact in facts if fact not in text] == []


def test_several_processes_write_and_say_the_same_as_one(folder: Path, tmp_path: Path) -> None:
    common = ("2", "13", "5", "17", "--data", folder, "--format", "svg", "--out")
    one, two = invoke(*common, tmp_path / "one"), invoke(*common, tmp_path / "two", "--jobs", "2")
    assert two.exit_code == one.exit_code == 1
    assert two.output.replace(str(tmp_path / "two"), "") == one.output.replace(
        str(tmp_path / "one"), ""
    )
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}


NAMES = {
    "2 13": ["2", "13"],
    "13,2": ["2", "13"],
    "figure13 02": ["2", "13"],
    "fig2 Figure13": ["2", "13"],
    "2 2 02": ["2"],
}


@pytest.mark.parametrize("names", NAMES)
def test_figures_have_many_names(
    folder: Path, tmp_path: Path, drawn: list[tuple[str, list[str], DrawOptions]], names: str
) -> None:
    done = invoke(*names.split(), "--data", folder, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert [figure for figure, *_ in drawn] == NAMES[names]


def test_a_name_of_two_words_and_capitals_do_not_matter(
    folder: Path, tmp_path: Path, drawn: list[tuple[str, list[str], DrawOptions]]
) -> None:
    invoke("Figure 3", "--data", folder, "--out", tmp_path)
    lacking = invoke("H1A", "--data", folder, "--out", tmp_path)
    assert [figure for figure, *_ in drawn] == ["3"]
    assert "figure H1a lacks" in lacking.stderr


FORMATS = {
    "": ["pdf", "png"],
    "--format svg": ["svg"],
    "--format pdf,png,svg": ["pdf", "png", "svg"],
    "--format svg --format pdf": ["svg", "pdf"],
    "--format=svg,pdf": ["svg", "pdf"],
}


@pytest.mark.parametrize("formats", FORMATS)
def test_formats_are_joined_by_commas_or_named_one_by_one(
    folder: Path, tmp_path: Path, drawn: list[tuple[str, list[str], DrawOptions]], formats: str
) -> None:
    done = invoke(*formats.split(), "3", "--data", folder, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert [found for _, found, _ in drawn] == [FORMATS[formats]]


def test_options_say_how_figures_are_drawn(
    folder: Path, tmp_path: Path, drawn: list[tuple[str, list[str], DrawOptions]]
) -> None:
    options = (
        "--method spearman --loss-preservation abs_of_sum --mask-score magnitude "
        "--mask-ratio 0.5 --seed 0 --dataset digits --scale linear --inset"
    )
    done = invoke("3", *options.split(), "--data", folder, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    wanted = DrawOptions("spearman", "abs_of_sum", "magnitude", 0.5, 0, "digits", "linear", True)
    assert [how for *_, how in drawn] == [wanted]


def test_figure_i1_is_drawn_where_tiny_imagenet_is_recorded_and_else_only_missed_when_named(
    tmp_path: Path, drawn: list[tuple[str, list[str], DrawOptions]]
) -> None:
    tiny, digits = tmp_path / "tiny", tmp_path / "digits"
    save_runs(make_runs(SMALL, seeds=(0,), epochs=2, every=1, dataset="tiny-imagenet"), tiny)
    save_runs(make_runs(VGG, seeds=(0,), epochs=2, every=1), digits)
    for data in (tiny, digits):
        drawn.clear()
        done = invoke("--data", data, "--out", tmp_path)
        assert ("I1" in [figure for figure, *_ in drawn]) == (data == tiny)
        assert "figure I1 lacks" not in done.stderr and done.exit_code == 1
    done = invoke("i1", "--data", digits, "--out", tmp_path)
    assert done.exit_code == 1
    networks = "VGG-13, MobileNet-V1 and ResNet-56"
    assert f"figure I1 lacks {networks} on Tiny-ImageNet" in done.stderr
    assert f"pruneviz record --preset digits --figures I1 --out {digits}" in done.stderr


# Other networks


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a person's own loop: a network of their own, no data set, no preset."""
    path = tmp_path_factory.mktemp("data") / "mine"
    runs = make_runs({"mine": (4, 6)}, seeds=(0, 1), epochs=4, every=2)
    epochs = runs.epochs.assign(mine_loss=0.5)
    save_runs(replace(runs, spec=runs.spec.assign(preset=None, dataset=None), epochs=epochs), path)
    return path


def test_own_runs_are_drawn_without_a_word_about_the_paper(mine: Path, tmp_path: Path) -> None:
    done = invoke("--data", mine, "--out", tmp_path, "--format", "png")
    assert done.exit_code == 0, done.output
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == [
        "mine-correlation",
        "mine-layers",
        "mine-scatter",
    ]
    assert "mine-accuracy is left out: no accuracy is recorded" in done.stderr
    for word in ("record with", "pruneviz record", "ResNet", "lacks", "figure"):
        assert word not in done.stderr
    for kind in ("scatter", "correlation", "layers"):
        for end in ("csv", "json", "txt"):
            assert (tmp_path / f"mine-{kind}.{end}").exists()


def test_pictures_are_drawn_by_the_names_that_the_list_prints(mine: Path, tmp_path: Path) -> None:
    names = [line.split()[0] for line in invoke("--list", "--data", mine).stdout.splitlines()]
    assert "mine-scatter" in names and "mine-layers" in names
    done = invoke("mine-scatter", "--data", mine, "--out", tmp_path, "--format", "svg")
    assert done.exit_code == 0, done.output
    assert [path.name for path in tmp_path.glob("*.svg")] == ["mine-scatter.svg"]
    wrong = invoke("mien-scatter", "--data", mine, "--out", tmp_path / "no")
    assert (
        wrong.exit_code == 2 and "no picture 'mien-scatter'; did you mean 'mine-sc" in wrong.stderr
    )


def test_asked_figures_of_own_runs_say_what_is_there_and_how_to_draw_it(
    mine: Path, tmp_path: Path
) -> None:
    done = invoke("3", "16", "--data", mine, "--out", tmp_path)
    assert done.exit_code == 1 and not list(tmp_path.iterdir())
    first, draw, _, layers = done.stderr.splitlines()[1:]
    assert first == f"figure 3 lacks ResNet-56 (unpruned); {mine} holds mine (unpruned)"
    assert draw == f"  draw what is there with: pruneviz figures --kind scatter --data {mine}"
    assert layers.endswith(f"pruneviz figures --kind layers --data {mine}")
    listed = invoke("--list", "--data", mine).output
    assert "mine-scatter  mine: theta_hg against theta_g.  [2 runs]" in listed
    assert "ResNet" not in listed and "record" not in listed


def test_a_run_of_the_paper_beside_own_ones_is_drawn_and_none_is_asked_for(tmp_path: Path) -> None:
    data = tmp_path / "data"
    runs = make_runs({**VGG, "mine": (4, 6)}, seeds=(0,), epochs=2, every=1)
    presets = ["digits", None]
    save_runs(replace(runs, spec=runs.spec.assign(preset=presets)), data)
    done = invoke("--data", data, "--out", tmp_path / "out", "--format", "png")
    drawn = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert {"figure02", "figure13", "mine-scatter", "mine-layers"} <= drawn
    assert "figure 2 lacks MobileNet-V1 and ResNet-56" in done.stderr
    assert "record with" not in done.stderr and "figure 3 " not in done.output


def test_runs_that_differ_in_more_than_their_seed_are_told_apart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    runs = make_runs(VGG, seeds=(0, 1), epochs=2, every=1)
    save_runs(replace(runs, spec=runs.spec.assign(bn=["eval", "batch"])), data)
    done = invoke("--data", data, "--out", tmp_path / "out", "--format", "svg")
    assert "figure 13 is not drawn" not in done.stderr
    svg = (tmp_path / "out" / "figure13.svg").read_text(encoding="utf-8")
    assert "bn batch" in svg and "bn eval" in svg


def test_one_kind_is_drawn_by_name(mine: Path, tmp_path: Path) -> None:
    options = "--kind scatter --x sigma --y theta_hg --epochs 0,4 --method spearman --scale linear"
    done = invoke(*options.split(), "--data", mine, "--out", tmp_path, "--format", "png")
    assert done.exit_code == 0, done.output
    numbers = pd.read_csv(tmp_path / "mine-scatter-theta_hg-sigma.csv")
    assert set(numbers["epoch"]) == {0, 4} and {"sigma", "theta_hg", "spearman"} <= set(numbers)
    missing = invoke("--kind", "accuracy", "--data", mine, "--out", tmp_path)
    assert missing.exit_code == 1 and "mine-accuracy is not drawn: no accuracy" in missing.stderr


# Every option of every kind, and a column that its table must have with some values.
WITH_OPTIONS: dict[str, dict[str, set[object]]] = {
    "scatter --x sigma --y theta_hg --hue layer --epochs 0,4 --unit filter --method spearman "
    "--seed 1 --scale linear --inset --network mine": {"epoch": {0, 4}, "seed": {1}},
    "scatter --hue network --runs mine-digits-s0": {"seeds": {1}},
    "correlation --x theta_g --y theta_hg --by run --epochs=2,-1 --unit filter --method kendall "
    "--mask-score magnitude --mask-ratio 0.5": {"epoch": {2, 4}, "mask_score": {"magnitude"}},
    "correlation --mask-ratio 0.5": {"x": {"sigma_change"}, "chance": {0.5}},
    "layers --y theta_g --by seed --aggregate max --epochs 2 --unit filter --scale symlog": {
        "epoch": {2},
        "seed": {0, 1},
    },
    "accuracy --y mine_loss --by seed --epochs 1,2": {"epoch": {1, 2}, "seed": {0, 1}},
    "heatmap --measures magnitude,theta_g --over layer --epochs 0 --unit filter --by run "
    "--method pearson": {"method": {"pearson"}, "epoch": {0}},
    "heatmap --measures magnitude --against theta_g --over epoch": {"y": {"magnitude"}},
    "trajectory --y theta_g --filters features.0.conv:0,features.1.conv:5 --epochs 0,2 "
    "--unit filter --by network --scale symlog": {"filter": {0, 5}, "epoch": {0, 2}},
    "trajectory --y theta_g --layers features.1.conv": {"layer": {"features.1.conv"}},
    "masks --mask-score magnitude --mask-ratio 0.5 --layers features.1.conv --epochs 0,4 "
    "--unit filter --by run --order filter": {
        "score": {"magnitude"},
        "ratio": {0.5},
        "layer": {"features.1.conv"},
    },
}


@pytest.mark.parametrize("options", WITH_OPTIONS)
def test_every_option_of_a_kind_does_something(options: str, mine: Path, tmp_path: Path) -> None:
    done = invoke("--kind", *options.split(), "--data", mine, "--out", tmp_path, "--format", "svg")
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.glob("*.csv")
    table = pd.read_csv(path)
    for column, values in WITH_OPTIONS[options].items():
        assert set(table[column].dropna()) == values, column


WRONG_KINDS = {
    "--kind correlation --mask-ratio 3": "ratio=3.0; give the fraction",
    "--kind correlation --x theta_g,sigma --mask-ratio 0.5": "masks only with --mask-score",
    "--kind scatter --x thata_g": "--x: there is no column, fact or measure 'thata_g'; did you",
    "--kind heatmap --against nothing": "--against: there is no column, fact or measure 'nothing'",
    "--kind scatter --seed 7": "--seed 7 is not recorded; recorded are 0, 1",
    "--kind trajectory --y theta_g --filters 0,1": "--filters 0 is no filter; expected LAYER:N",
    "--kind layers --y theta_g --aggregate avg": "no aggregate 'avg'",
    "--kind heatmap --over epochs": "did you mean 'epoch'?",
    "--kind masks --order keep": "did you mean 'kept'?",
    "--kind scater": "did you mean 'scatter'?",
    "--kind accuracy --hue depth": "accuracy does not take --hue; it takes --y, --by, --epochs",
    "--kind scatter --mask-ratio 0.5": "does not take --mask-ratio; it takes --x, --y, --hue",
    "--kind scatter 3": "figure 3 is one of the paper",
    "--x theta_g": "--x need a --kind, one of scatter, correlation",
    "--kind scatter --loss-preservation abs_of_sum": "name the measure with --x or --y",
    "--kind scatter --network mien": "no network 'mien'; did you mean 'mine'?",
}


@pytest.mark.parametrize("arguments", WRONG_KINDS)
def test_options_that_do_not_go_together_are_refused(
    arguments: str, mine: Path, tmp_path: Path
) -> None:
    done = invoke(*arguments.split(), "--data", mine, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert WRONG_KINDS[arguments] in done.stderr
    assert not (tmp_path / "out").exists()


# What is missing


def test_a_figure_recorded_in_part_is_drawn_in_part_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    save_runs(make_pruned_runs(VGG, measures=("magnitude", "loss_preservation"), seeds=(0,)), data)
    done = invoke("5", "6", "--data", data, "--out", tmp_path, "--format", "png")
    assert done.exit_code == 1, done.output
    _, five, record_5, six, record_6 = done.stderr.splitlines()
    assert five.startswith("figure 5 lacks VGG-13 pruned by Proposed in 5 rounds on digits")
    assert six.startswith(
        "figure 6 lacks VGG-13 pruned by Magnitude, Proposed and Loss-pres. in 25 rounds"
    )
    for line, figure in ((record_5, 5), (record_6, 6)):
        record = f"pruneviz record --preset digits --figures {figure} --out {data}"
        assert line == f"  record with: {record}"
    assert [path.name for path in tmp_path.glob("*.png")] == ["figure05.png"]
    text = as_one_line(tmp_path / "figure05.txt")
    assert "Not recorded, so not drawn: VGG-13 pruned by Proposed in 5 rounds" in text
    untested = "not testable (needs 3 seeds, has 1; proposed is not recorded)"
    assert f"Verdict on the claim: {untested}" in text


def test_a_corrupt_recording_stops_only_the_figures_that_need_it(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    pruned = make_pruned_runs(VGG, seeds=(0,))
    save_runs(together(make_runs(SMALL, seeds=(0,), epochs=4), pruned), data)
    torn = data / "resnet56-digits-s0" / "filters.parquet"
    torn.write_bytes(b"torn")
    done = invoke("2", "3", "5", "13", "--data", data, "--out", out, "--format", "png")
    assert done.exit_code == 1
    assert sorted(path.name for path in out.glob("*.png")) == ["figure05.png", "figure13.png"]
    for figure in (2, 3):
        assert f"figure {figure} is not drawn: {torn} is corrupt" in done.stderr


def test_command_names_missing_recordings_and_draws_the_others(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    two = {network: SMALL[network] for network in ("resnet56", "mobilenet_v1")}
    save_runs(make_runs(two, seeds=(0, 1), epochs=4), data, unfinished=["resnet56-digits-s1"])
    done = invoke("2", "3", "13", "--data", data, "--out", out, "--format", "png")
    assert done.exit_code == 1, done.output
    said = done.stderr.splitlines()
    record = f"  record with: pruneviz record --preset digits --figures %s --out {data}"
    lacks_2 = said.index("figure 2 lacks VGG-13 on digits (unpruned)")
    lacks_13 = said.index("figure 13 lacks VGG-13 (unpruned)")
    assert said[lacks_2 + 1] == record % "2 --network vgg13"
    assert said[lacks_13 + 1] == record % "13"
    assert any("resnet56-digits-s1 is unfinished" in line for line in said)
    assert sorted(path.name for path in out.glob("*.png")) == ["figure02.png", "figure03.png"]
    assert "Not recorded, so not drawn: VGG-13" in as_one_line(out / "figure02.txt")


def test_a_figure_is_drawn_from_another_folder_if_that_has_its_runs(tmp_path: Path) -> None:
    here, there = tmp_path / "mine", tmp_path / "my pruned"
    save_runs(make_runs(VGG, seeds=(0,), epochs=4), here)
    save_runs(make_pruned_runs(VGG, seeds=(0,)), there)
    said = invoke("5", "3", "--data", here, "--out", tmp_path / "out").stderr.splitlines()
    advice = [line for line in said if "or draw it from" in line]
    assert advice == [f"  or draw it from '{there}': pruneviz figures 5 --data '{there}'"]
    drawn = invoke("5", "--data", there, "--out", tmp_path / "out", "--format", "png")
    assert drawn.exit_code == 0, drawn.output


def test_command_says_what_would_fill_an_empty_folder_and_what_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "alone" / "empty"
    empty.mkdir(parents=True)
    for preset, data in (("digits", empty), ("paper", tmp_path / "alone" / "paper")):
        done = invoke("14", "--data", data)
        assert done.exit_code == 2
        there = f"{data} holds no recordings" if data == empty else f"there is no folder {data}"
        assert done.stderr.startswith(f"error: {there}\n")
        fetched = "" if preset == "digits" else "--download "
        record = f"pruneviz record --preset {preset} --figures 14 {fetched}--out {data}\n"
        assert record in done.stderr
        assert "cifar-mini" not in done.stderr
    (tmp_path / "data" / "cifar-mini").mkdir(parents=True)
    beginner = invoke().stderr
    assert beginner.splitlines() == [
        "error: there is no folder data/digits",
        "Record what is needed with: pruneviz record --preset digits --out data/digits",
        "Or draw from recordings that ship: pruneviz figures 3 13 --data data/cifar-mini",
    ]


def test_recordings_are_named_as_they_were_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_runs(make_runs(VGG, seeds=(0,), epochs=4), tmp_path / "mine")
    done = invoke("13", "--out", "mine", "--format", "png")
    assert done.exit_code == 0, done.output
    assert "mine holds recordings, and is read; --data names them too" in done.stderr
    assert (tmp_path / "figures" / "mine" / "figure13.png").is_file()
    assert not list((tmp_path / "mine").glob("*.png"))


def test_command_lists_figures(folder: Path, tmp_path: Path) -> None:
    lines = invoke("--list", "--data", folder).stdout.splitlines()
    states = {line.split()[0]: line[line.index("[") :] for line in lines}
    assert list(states) == list(FIGURES)
    recorded = {states[name] for name in ("2", "3", "13", "14", "15")}
    assert recorded == {"[recorded on digits, 1 seed]"}
    assert states["5"] == "[recorded on digits, 2 seeds]"
    assert states["17"].startswith("[not recorded: MobileNet-V1 pruned by Magnitude, ")
    nothing = invoke("13", "--list", "--data", tmp_path)
    assert nothing.exit_code == 0
    assert "[not recorded: VGG-13 (unpruned)]" in nothing.stdout


# What is wrong


WRONG = {
    "99": "no figure '99'",
    "H1c": "no figure 'H1c'; did you mean 'H1",
    "3 --mask-ratio 2": "mask_ratio is 2.0",
    "3 --mask-score size": "magnitude",
    "3 --format gif": "format 'gif'",
    "3 --format pdf png": "'png' is no figure; join formats by a comma: --format pdf,png",
    "3 --method cosine": "'cosine'",
    "3 --metod pearson": "there is no option --metod; did you mean --method?",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_command_refuses_arguments_it_cannot_use(arguments: str, tmp_path: Path) -> None:
    done = invoke(*arguments.split(), "--data", tmp_path, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ") and WRONG[arguments] in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_data_set_that_could_not_be_recorded_is_refused(
    tmp_path: Path, drawn: list[tuple[str, list[str], DrawOptions]]
) -> None:
    data = tmp_path / "data"
    save_runs(make_runs(VGG, seeds=(0,), epochs=2, every=1, dataset="mine"), data)
    common = ("13", "--data", data, "--out", tmp_path, "--dataset")
    unknown = invoke(*common, "mien")
    assert unknown.exit_code == 2
    assert "no data set 'mien'; did you mean 'mine'?" in unknown.stderr
    assert "digits" in unknown.stderr and "record with" not in unknown.stderr
    assert invoke(*common, "mine").exit_code == 0
    missing = invoke(*common, "cifar10")
    assert missing.exit_code == 1
    assert "--figures 13 --dataset cifar10" in missing.stderr


def test_help_answers_without_loading_what_draws() -> None:
    code = (
        "import sys, pruneviz.figures.__main__;"
        "print(sorted({'pandas', 'matplotlib', 'scipy', 'torch'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


# Damaged runs


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Two networks, and a third run of the first one whose spec cannot be read."""
    data = tmp_path / "data"
    save_runs(make_runs({"one": (3, 4), "two": (3, 4)}, seeds=(0, 1), epochs=2, every=1), data)
    (data / "one-digits-s1" / "spec.json").write_text("{")
    return data


def test_a_corrupt_spec_stops_no_other_picture(damaged: Path, tmp_path: Path) -> None:
    names = ("one-layers", "two-layers")
    done = invoke(*names, "--data", damaged, "--out", tmp_path / "out", "--format", "svg")
    assert done.exit_code == 1
    assert {path.stem for path in (tmp_path / "out").glob("*.svg")} == {"one-layers", "two-layers"}
    assert done.stderr.splitlines()[-1].startswith(
        f"left out: {damaged / 'one-digits-s1' / 'spec.json'} is corrupt ("
    )


def test_a_corrupt_table_stops_the_pictures_that_need_it(damaged: Path, tmp_path: Path) -> None:
    table = damaged / "two-digits-s0" / "filters.parquet"
    table.write_bytes(table.read_bytes()[:-9])
    given = ("--kind", "layers", "--y", "magnitude", "--data", damaged, "--out", tmp_path / "out")
    done = invoke(*given, "--format", "svg")
    assert done.exit_code == 1
    assert [path.stem for path in (tmp_path / "out").glob("*.svg")] == ["one-layers-magnitude"]
    assert f"two-layers-magnitude is not drawn: {table} is corrupt (" in done.stderr


def test_the_list_names_what_cannot_be_read(damaged: Path) -> None:
    table = damaged / "two-digits-s0" / "filters.parquet"
    table.write_bytes(table.read_bytes()[:-9])
    listed = invoke("--list", "--data", damaged)
    assert listed.exit_code == 1
    assert "one-scatter" in listed.stdout and "two-scatter" in listed.stdout
    told = listed.stderr.splitlines()
    assert len(told) == 2 and all(" is corrupt (" in line for line in told)
    for spec in damaged.glob("*/spec.json"):
        spec.write_text("{")
    nothing = invoke("--list", "--data", damaged)
    assert nothing.exit_code == 1 and not nothing.stdout
    assert nothing.stderr.count(" is corrupt (") == 4
