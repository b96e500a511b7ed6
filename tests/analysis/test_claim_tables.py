"""The tables of claims: numbers rewritten in plain pandas from synthetic recordings, and the command that puts them into a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner, Result

import pruneviz as pv
from pruneviz import findings
from pruneviz.analysis.claim_tables import TABLES, filled_in, table_of
from pruneviz.analysis.claims import (
    agreement_over_seeds,
    derivative_facts,
    mask_distance_association,
    shown_epochs,
)
from pruneviz.analysis.robustness import robustness
from pruneviz.errors import AnalysisError
from pruneviz.log.run_directory import RunLog
from pruneviz.log.schema import RunSpec

EPOCHS, LAYERS, FILTERS = range(9), ("conv1", "conv2", "fc"), 6


def filters_at(rng: np.random.Generator, epoch: int) -> pd.DataFrame:
    layer, number = np.repeat(LAYERS, FILTERS), np.tile(np.arange(FILTERS), len(LAYERS))
    values = {
        name: rng.normal(size=len(layer))
        for name in ("theta_g", "theta_hg", "sigma", "sigma_delta")
    }
    values |= {
        name: rng.random(len(layer)) + 0.1
        for name in ("theta_norm2", "theta_l1", "abs_theta_g", "g_norm2", "theta_g_se")
    }
    values["theta_hg"] = values["theta_hg"] + 2 * values["theta_g"]
    table = pd.DataFrame({"layer": layer, "filter": number, "kept": True, "epoch": epoch, **values})
    return table if epoch else table.assign(sigma_delta=np.nan)


def make_run(folder: Path, seed: int, unit: str = "filter", bn: str = "eval") -> None:
    rng = np.random.default_rng([seed, unit == "weight", bn == "batch"])
    name = f"vgg13-digits-{'weights' if unit == 'weight' else 'unpruned'}-s{seed}"
    log = RunLog.create(
        folder / name,
        RunSpec(
            name, network="vgg13", dataset="digits", seed=seed, unit=unit, bn=bn, dtype="float32"
        ),
    )
    for epoch in EPOCHS:
        row = {
            "epoch": epoch,
            "train_acc": epoch / 10,
            "test_acc": epoch / 20,
            "g_norm2": rng.random() + 1,
            "ghg": rng.random() + 1,
        }
        row["lr"] = np.nan if epoch == 0 else 0.1 if epoch <= 5 else 0.01
        row["mask_distance"] = np.nan if epoch < 1 else 0.5 / epoch + 0.01 * rng.random()
        rows = [("theta_g", "theta_hg", m, 100, rng.random()) for m in ("pearson", "spearman")]
        single = pd.DataFrame(rows, columns=["x", "y", "method", "n", "r"]).assign(epoch=epoch)
        table = filters_at(rng, epoch)
        weights = table.assign(weight=0, theta=1.0) if unit == "weight" else table
        log.append(
            epoch,
            epochs=pd.DataFrame([row]),
            filters=weights,
            correlations=single if unit == "weight" else None,
        )
    log.seal()


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two seeds by filters and one run by weights in one folder, and the first seed with batch statistics in another."""
    one, other = tmp_path_factory.mktemp("eval"), tmp_path_factory.mktemp("batch")
    for seed in (0, 1):
        make_run(one, seed)
    make_run(one, 0, unit="weight")
    make_run(other, 0, bn="batch")
    return one, other


@pytest.fixture(scope="module")
def runs(sets: tuple[Path, Path]) -> pv.Runs:
    return pv.load(sets[0]).select(unit="filter")


def rows_of(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]


def test_the_epochs_shown_are_the_ends_the_first_a_quarter_and_a_half() -> None:
    assert shown_epochs(list(range(17))) == [0, 1, 4, 8, 16]
    assert shown_epochs(list(range(0, 161, 10))) == [0, 40, 80, 160]
    assert shown_epochs([3]) == [3]


def test_agreement_is_the_plain_mean_over_seeds_and_the_ends_of_all(runs: pv.Runs) -> None:
    found = agreement_over_seeds(runs, "theta_g", "theta_hg").set_index("epoch")
    each = robustness(runs.filters, "theta_g", "theta_hg")
    assert (found["seeds"] == 2).all()
    for epoch, rows in each.groupby("epoch"):
        for name in ("pearson", "spearman", "trimmed", "within_layers", "layer_mean"):
            assert found.loc[epoch, name] == pytest.approx(rows[name].mean())
        ends = (
            rows["pearson"].min(),
            rows["pearson"].max(),
            rows["loo_min"].min(),
            rows["loo_max"].max(),
        )
        assert tuple(
            found.loc[epoch, ["pearson_min", "pearson_max", "loo_min", "loo_max"]]
        ) == pytest.approx(ends)


@pytest.mark.parametrize(("span", "last"), [("all", 8), ("first rate", 5)])
def test_the_association_with_mask_distances_is_that_of_their_ranks_over_epochs(
    runs: pv.Runs, span: str, last: int
) -> None:
    found = mask_distance_association(runs)
    each = robustness(runs.filters, "sigma_change", "loss_preservation").merge(
        runs.epochs, on=["run", "epoch"]
    )
    assert found["run"].tolist() == [run for run in runs.spec["run"] for _ in range(2)]
    for row in found[found["span"] == span].to_dict("records"):
        own = each[(each["run"] == row["run"]) & each["epoch"].between(1, last)]
        assert row["epochs"] == last
        assert (row["first"], row["last"]) == pytest.approx(
            (own["pearson"].iloc[0], own["pearson"].iloc[-1])
        )
        for name in ("pearson", "spearman", "layer_mean"):
            assert row[name] == pytest.approx(
                stats.spearmanr(own["mask_distance"], own[name]).statistic
            )


def test_derivative_facts_are_those_of_plain_numpy(runs: pv.Runs) -> None:
    found = derivative_facts(runs).set_index("epoch")
    for epoch in (0, 8):
        expected = []
        for run in runs.spec["run"]:
            rows = runs.filters[
                (runs.filters["run"] == run) & (runs.filters["epoch"] == epoch)
            ].astype({"theta_g": "float64"})
            whole = runs.epochs[(runs.epochs["run"] == run) & (runs.epochs["epoch"] == epoch)].iloc[
                0
            ]
            x, y, g2 = (
                rows["theta_g"],
                rows["theta_hg"].astype("float64"),
                rows["g_norm2"].astype("float64"),
            )
            cosine = (x.abs() / np.sqrt(rows["theta_norm2"] * g2)).median()
            slope = np.polyfit(x, y, 1)[0]
            scale = np.linalg.lstsq(-g2.to_numpy()[:, None], y.to_numpy(), rcond=None)[0][0]
            expected.append(
                (
                    (x.abs() > 2 * rows["theta_g_se"]).mean(),
                    cosine,
                    scale,
                    slope * whole["g_norm2"] / whole["ghg"],
                )
            )
        assert found.loc[epoch, ["clear", "cosine", "scale", "eigen"]].tolist() == pytest.approx(
            np.mean(expected, axis=0).tolist(), rel=1e-5
        )


def test_the_two_cases_that_explain_a_correlation_are_recognised(runs: pv.Runs) -> None:
    filters = runs.filters
    invariant = pv.Runs(
        runs.spec, runs.epochs, filters.assign(theta_hg=-filters["g_norm2"]), runs.rounds
    )
    assert derivative_facts(invariant)["scale"].to_numpy() == pytest.approx(1)
    alike = runs.epochs.assign(ghg=3 * runs.epochs["g_norm2"])
    eigenvector = pv.Runs(
        runs.spec, alike, filters.assign(theta_hg=3 * filters["theta_g"]), runs.rounds
    )
    assert derivative_facts(eigenvector)["eigen"].to_numpy() == pytest.approx(1)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_made_of_these_recordings(sets: tuple[Path, Path], name: str) -> None:
    rows = rows_of(table_of(name, [pv.load(folder) for folder in sets]))
    assert len({len(row) for row in rows}) == 1, "a whole table"
    assert all(any(row) for row in rows)
    if name in ("figure-3", "signal"):
        assert {(row[0], row[1]) for row in rows[2:]} == {("vgg13", "eval"), ("vgg13", "batch")}
        assert [int(row[2]) for row in rows[2:7]] == [0, 1, 2, 4, 8]
    if name.endswith("curve"):
        assert [int(row[0]) for row in rows[2:]] == list(EPOCHS)[name == "figure-2-curve" :]
        assert any("batch" in cell for cell in rows[0])


def test_numbers_are_those_of_the_analysis_rounded(sets: tuple[Path, Path], runs: pv.Runs) -> None:
    rows = rows_of(table_of("figure-3", [pv.load(folder) for folder in sets]))
    found = agreement_over_seeds(runs, "theta_g", "theta_hg").iloc[-1]
    named = dict(zip(rows[0], rows[6], strict=True))
    assert named["Pearson"] == f"{found['pearson']:.2f}"
    assert named["over seeds"] == f"{found['pearson_min']:.2f} to {found['pearson_max']:.2f}"
    assert named["without a layer"] == f"{found['loo_min']:.2f} to {found['loo_max']:.2f}"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(findings.app, arguments)


def test_the_command_fills_in_the_tables_of_a_text_and_leaves_the_rest(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    file, end = tmp_path / "findings.md", "<!-- end of table -->"
    file.write_text(
        f"# Findings\n\n<!-- table: recordings -->\nold\n{end}\n\nprose\n\n<!-- table: signal -->\n{end}\nend\n"
    )
    assert invoke(*map(str, sets), "--into", str(file)).exit_code == 0
    filled = file.read_text()
    assert "old" not in filled
    loaded = [pv.load(folder) for folder in sets]
    assert filled.startswith(
        f"# Findings\n\n<!-- table: recordings -->\n\n{table_of('recordings', loaded)}\n<!-- end of table -->\n\nprose\n"
    )
    assert filled.endswith(f"{table_of('signal', loaded)}\n<!-- end of table -->\nend\n")
    assert filled_in(filled, loaded) == filled, "a second time changes nothing"


def test_without_a_file_it_prints_all_tables(sets: tuple[Path, Path]) -> None:
    printed = invoke(str(sets[0])).output
    assert all(f"{name}\n\n| " in printed for name in TABLES)
    assert "single-weights" not in invoke(str(sets[1])).output


def test_sets_without_runs_of_filters_add_nothing(sets: tuple[Path, Path]) -> None:
    both, weights = pv.load(sets[0]), pv.load(sets[0]).select(unit="weight")
    for name in set(TABLES) - {"recordings", "single-weights"}:
        assert table_of(name, [both, weights]) == table_of(name, [both])


def test_what_cannot_be_made_is_told(sets: tuple[Path, Path], tmp_path: Path) -> None:
    batch = [pv.load(sets[1])]
    with pytest.raises(
        AnalysisError,
        match=r"there is no table 'figure-9'; did you mean 'figure-3'\? Choose one of recordings",
    ):
        table_of("figure-9", batch)
    with pytest.raises(
        AnalysisError, match="table single-weights needs runs that these recordings lack; record"
    ):
        table_of("single-weights", batch)
    with pytest.raises(AnalysisError, match="the text has no place for a table; write <!-- table"):
        filled_in("nothing", batch)
    result = invoke(str(sets[1]), "--into", str(tmp_path / "absent.md"))
    assert result.exit_code == 2
    assert "absent.md" in result.output
