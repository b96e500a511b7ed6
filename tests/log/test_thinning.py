"""Thin copies: filters at measured epochs only, everything else as it was recorded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import pruneviz as pv
from pruneviz.errors import FigureError, LogError
from pruneviz.figures.draw import compose
from pruneviz.figures.options import DrawOptions
from pruneviz.log import thinning
from pruneviz.log.schema import FILTER_KEYS
from pruneviz.log.spec_file import SPEC_FILE, read_spec
from pruneviz.log.thinning import thin
from pruneviz.thin import app
from tests.support.synthetic_runs import SMALL, make_runs, save_runs

NETWORKS = {"vgg13": SMALL["vgg13"]}
MEASURED = [0, 4, 8, 12]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run of 12 epochs, measured every 4 epochs."""
    folder = tmp_path_factory.mktemp("full")
    save_runs(with_logged_distances(make_runs(NETWORKS, seeds=(0,), epochs=12, every=4)), folder)
    return folder


def with_logged_distances(runs: pv.Runs) -> pv.Runs:
    """The runs with the mask distances that a recorder would have logged."""
    distances = pv.mask_distance(runs.filters).set_index("epoch")["distance"]
    logged = runs.epochs["epoch"].map(distances).astype("float64")
    return replace(runs, epochs=runs.epochs.assign(mask_distance=logged))


@pytest.fixture(scope="module")
def run(full: Path) -> Path:
    return next(full.iterdir())


@pytest.fixture(scope="module")
def thinned(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thin")
    done = thin(run, folder)
    assert (done.path, done.epochs, done.all_epochs) == (folder / run.name, 4, 13)
    assert done.size < done.full_size
    return folder


def test_rows_at_measured_epochs_and_all_other_tables_are_unchanged(
    full: Path, thinned: Path
) -> None:
    before, after = pv.load(full), pv.load(thinned)
    kept = before.filters[before.filters["epoch"].isin(MEASURED)].reset_index(drop=True)
    pd.testing.assert_frame_equal(after.filters, kept)
    for table in ("epochs", "rounds"):
        pd.testing.assert_frame_equal(getattr(after, table), getattr(before, table))


def test_the_spec_says_what_was_left_out(run: Path, thinned: Path) -> None:
    before = read_spec(run).to_dict()
    after = read_spec(thinned / run.name).to_dict()
    left_out = after.pop("thinned")
    assert after == before
    rows = 9 * sum(NETWORKS["vgg13"])
    assert (left_out["epochs"], left_out["of_epochs"], left_out["rows_left_out"]) == (4, 13, rows)


def test_figure_2_of_a_thin_run_is_that_of_the_full_run(full: Path, thinned: Path) -> None:
    drawn = [
        compose("2", pv.load(folder), networks=["vgg13"]).numbers for folder in (full, thinned)
    ]
    assert drawn[0]["mask_distance"].notna().sum() > len(MEASURED)
    pd.testing.assert_frame_equal(drawn[1], drawn[0], check_dtype=False, rtol=1e-6)


def test_other_masks_of_a_thin_run_are_refused(thinned: Path) -> None:
    with pytest.raises(FigureError, match=r"vgg13.* holds only .* because it is a thin copy"):
        compose("2", pv.load(thinned), networks=["vgg13"], options=DrawOptions(mask_ratio=0.5))


def test_a_copy_is_not_thinned_again_and_nothing_is_overwritten(
    run: Path, thinned: Path, tmp_path: Path
) -> None:
    with pytest.raises(LogError, match="is thin already: it holds the filters at 4 of 13 epochs"):
        thin(thinned / run.name, tmp_path)
    with pytest.raises(LogError, match="already exists"):
        thin(run, thinned)
    with pytest.raises(LogError, match="already exists"):
        thin(run, run.parent)
    assert not list(tmp_path.iterdir())


def test_an_unfinished_run_and_one_without_derivatives_are_refused(tmp_path: Path) -> None:
    runs = make_runs(NETWORKS, seeds=(0,), epochs=4, every=4)
    name = runs.spec["run"][0]
    save_runs(runs, tmp_path / "unfinished", unfinished=[name])
    with pytest.raises(LogError, match="is unfinished; finish its recording first"):
        thin(tmp_path / "unfinished" / name, tmp_path / "out")
    cheap = [*FILTER_KEYS, "kept", "theta_norm2", "theta_l1", "sigma", "sigma_delta"]
    nothing = runs.filters[cheap].reindex(columns=runs.filters.columns)
    save_runs(replace(runs, filters=nothing), tmp_path / "cheap")
    with pytest.raises(LogError, match="measured no derivative at any epoch"):
        thin(tmp_path / "cheap" / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_copy_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(thinning, "write_sealed", full_disk)
    with pytest.raises(LogError, match=r"cannot write to .*No space left on device"):
        thin(run, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_thins_every_run_of_a_folder(full: Path, run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(full), "--out", str(tmp_path)])
    assert done.exit_code == 0
    assert f"{run.name}: filters at 4 of 13 epochs" in done.stdout.replace("\n", "")
    assert (tmp_path / run.name / SPEC_FILE).exists()


def test_runs_of_one_name_are_thinned_into_folders_of_their_own(run: Path, tmp_path: Path) -> None:
    for seed in ("a", "b"):
        shutil.copytree(run, tmp_path / "full" / seed / "run")
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [str(tmp_path / "full"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert sorted(spec.parent for spec in out.rglob(SPEC_FILE)) == [out / "a/run", out / "b/run"]


def test_changes_between_epochs_are_no_measurement(tmp_path: Path) -> None:
    runs = make_runs(NETWORKS, seeds=(0,), epochs=4, every=4)
    save_runs(replace(runs, filters=runs.filters.assign(update_size=1.0)), tmp_path / "full")
    done = thin(next((tmp_path / "full").iterdir()), tmp_path / "thin")
    assert (done.epochs, done.all_epochs) == (2, 5)


def test_chosen_epochs_and_columns_are_kept_alone(full: Path, run: Path, tmp_path: Path) -> None:
    done = thin(run, tmp_path / "once", [-1, 0], ["theta_g", "sigma"])
    assert (done.epochs, done.all_epochs) == (2, 13)
    before, after = pv.load(full), pv.load(tmp_path / "once")
    rows = before.filters[before.filters["epoch"].isin([0, 12])].reset_index(drop=True)
    names = [*FILTER_KEYS, "kept", "theta_g", "sigma"]
    found = after.filters.dropna(axis=1, how="all")
    pd.testing.assert_frame_equal(found[names], rows[names])
    assert set(found) == set(names)
    pd.testing.assert_frame_equal(after.epochs, before.epochs)

    left_out = json.loads((done.path / SPEC_FILE).read_text(encoding="utf-8"))["thinned"]
    assert left_out["rows_left_out"] == 11 * sum(NETWORKS["vgg13"])
    held = {str(name) for name in before.filters if before.filters[name].notna().any()}
    assert set(left_out["columns_left_out"]) == held - set(names)


def test_a_thin_copy_may_be_thinned_further(thinned: Path, run: Path, tmp_path: Path) -> None:
    done = thin(thinned / run.name, tmp_path / "further", epochs=[12])
    direct = thin(run, tmp_path / "direct", epochs=[12])
    assert (done.epochs, done.all_epochs) == (direct.epochs, direct.all_epochs) == (1, 13)
    specs = [
        json.loads((one.path / SPEC_FILE).read_text(encoding="utf-8")) for one in (done, direct)
    ]
    assert specs[0] == specs[1]
    twice = thin(done.path, tmp_path / "twice", columns=["theta_g"])
    more = json.loads((twice.path / SPEC_FILE).read_text(encoding="utf-8"))["thinned"]
    assert more["rows_left_out"] == specs[0]["thinned"]["rows_left_out"]
    assert "theta_hg" in more["columns_left_out"]
    with pytest.raises(LogError, match="to leave out more, name the epochs or columns to keep"):
        thin(twice.path, tmp_path / "again")


def test_the_spec_names_the_epochs_that_are_kept_and_that_were_measured(
    run: Path, thinned: Path, tmp_path: Path
) -> None:
    def said(path: Path) -> dict[str, object]:
        found: dict[str, object] = json.loads((path / SPEC_FILE).read_text(encoding="utf-8"))
        return dict(found["thinned"])  # type: ignore[call-overload]

    plain = said(thinned / run.name)
    assert plain["filters"] == "epochs without derivatives are left out"
    assert plain["kept_epochs"] == plain["measured_epochs"] == MEASURED
    fewer = said(thin(run, tmp_path / "a", epochs=[0, 8]).path)
    assert str(fewer["filters"]).endswith("left out, and so are measured epochs: 4, 12")
    assert (fewer["kept_epochs"], fewer["measured_epochs"]) == ([0, 8], MEASURED)


@pytest.mark.parametrize("column", ["theta_g_se", "theta_hg"])
def test_columns_without_a_value_are_refused(run: Path, tmp_path: Path, column: str) -> None:
    without = thin(run, tmp_path / "a", columns=["theta_g", "sigma"]).path
    asked = {"theta_g_se": run, "theta_hg": without}[column]
    said = {"theta_g_se": "", "theta_hg": ", which it left out"}[column]
    with pytest.raises(LogError, match=f"no values of {column}{said} at .*among .*theta_g"):
        thin(asked, tmp_path / "b", columns=[column])
    with pytest.raises(LogError, match=r"needs a column to keep; choose among .*sigma, theta_g"):
        thin(without, tmp_path / "b", columns=["layer"])
    assert not (tmp_path / "b").exists()


def test_a_copy_of_cheap_columns_may_be_thinned_further(run: Path, tmp_path: Path) -> None:
    cheap = thin(run, tmp_path / "a", columns=["sigma"]).path
    assert thin(cheap, tmp_path / "b", epochs=[-1]).epochs == 1
    assert pv.load(tmp_path / "b").filters["epoch"].unique().tolist() == [12]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"epochs": [3]}, r"did not measure epoch 3; choose among 0, 4, 8, 12 \(-1 is the last\)"),
        ({"epochs": [-5]}, "did not measure epoch -5; choose among 0, 4, 8, 12"),
        ({"epochs": []}, "needs an epoch to keep"),
        ({"columns": ["theta_gg"]}, "theta_gg.*theta_g"),
    ],
    ids=str,
)
def test_epochs_that_were_not_measured_and_unknown_columns_are_refused(
    run: Path, tmp_path: Path, asked: dict[str, list[int]], said: str
) -> None:
    with pytest.raises(LogError, match=said):
        thin(run, tmp_path, **asked)
    assert not list(tmp_path.iterdir())


def test_the_command_keeps_the_last_epoch(full: Path, run: Path, tmp_path: Path) -> None:
    for place, option in enumerate((["--epochs", "-1"], ["--epochs=-1"], ["--epochs", "8,-1"])):
        out = tmp_path / str(place)
        done = CliRunner().invoke(app, [str(full), "--out", str(out), *option])
        assert done.exit_code == 0, done.output
        held = pv.load(out).filters["epoch"].unique().tolist()
        assert held == [12] if place < 2 else held == [8, 12]


def test_a_copy_with_every_epoch_has_the_masks_of_the_full_run(tmp_path: Path) -> None:
    full = make_runs(NETWORKS, seeds=(0,), epochs=3, every=1)
    save_runs(full, tmp_path / "full")
    run = next((tmp_path / "full").iterdir())
    whole = thin(run, tmp_path / "whole")
    assert (whole.epochs, whole.all_epochs) == (4, 4)
    assert "thinned" not in json.loads((whole.path / SPEC_FILE).read_text(encoding="utf-8"))
    thin(run, tmp_path / "columns", columns=["sigma", "sigma_delta", "theta_g", "abs_theta_g"])
    drawn = [
        compose(
            "2", pv.load(tmp_path / name), networks=["vgg13"], options=DrawOptions(mask_ratio=0.5)
        )
        for name in ("full", "whole", "columns")
    ]
    for copy in drawn[1:]:
        pd.testing.assert_frame_equal(copy.numbers, drawn[0].numbers)
