"""Tables of claims: numbers recomputed in plain pandas, and the command that prints them."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner, Result

import pruneviz as pv
from pruneviz import findings
from pruneviz.analysis.agreement import (
    agreement_over_seeds,
    derivative_facts,
    own_association,
)
from pruneviz.analysis.chosen_epochs import shown_epochs
from pruneviz.analysis.claim_tables import (
    CLAIM_TABLES,
    PRUNED_TABLES,
    TABLES,
    all_tables,
    filled_in,
    table_of,
)
from pruneviz.analysis.initialisation import initial_agreement
from pruneviz.analysis.robustness import robustness
from pruneviz.errors import AnalysisError
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from pruneviz.plans.needs import CURVE_MEASURES
from tests.support.edited_specs import edit_spec
from tests.support.synthetic_runs import SMALL, make_pruned_runs, renamed, save_runs, together

EPOCHS, LAYERS, FILTERS = range(9), ("conv1", "conv2", "fc"), 6
SAMPLE = 6


def filters_at(rng: np.random.Generator, epoch: int) -> pd.DataFrame:
    layer, number = np.repeat(LAYERS, FILTERS), np.tile(np.arange(FILTERS), len(LAYERS))
    signed = ("theta_g", "theta_hg", "sigma", "sigma_delta")
    positive = ("theta_norm2", "theta_l1", "abs_theta_g", "g_norm2", "theta_g_se")
    positive += ("theta_hg_se_given_g",)
    values = {name: rng.normal(size=len(layer)) for name in signed}
    values |= {name: rng.random(len(layer)) + 0.1 for name in positive}
    values["theta_hg"] = values["theta_hg"] + 2 * values["theta_g"]
    table = pd.DataFrame({"layer": layer, "filter": number, "kept": True, "epoch": epoch, **values})
    return table if epoch else table.assign(sigma_delta=np.nan)


def make_run(folder: Path, seed: int, unit: str = "filter", bn: str = "eval") -> None:
    rng = np.random.default_rng([seed, unit == "weight", bn == "batch"])
    name = f"vgg13-digits-{'weights' if unit == 'weight' else 'unpruned'}-s{seed}"
    facts = {"network": "vgg13", "dataset": "digits", "seed": seed, "dtype": "float32"}
    facts["sample_size"] = SAMPLE
    log = RunLog.create(folder / name, RunSpec(name, unit=unit, bn=bn, **facts))
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
        recorded = {"epochs": pd.DataFrame([row]), "filters": weights}
        log.append(epoch, **recorded, correlations=single if unit == "weight" else None)
    log.seal()


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders: two seeds by filters and one run by weights; one seed by batch statistics."""
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


def tables_in(printed: str) -> set[str]:
    """Names of the tables that are printed, and not only told to lack their runs."""
    return {name for name in TABLES if re.search(rf"(^|\n){name}\n\n(\w+:\n\n)?\| ", printed)}


def test_the_epochs_shown_are_the_ends_the_first_a_quarter_and_a_half() -> None:
    assert shown_epochs(list(range(17))) == [0, 1, 4, 8, 16]
    assert shown_epochs(list(range(0, 161, 10))) == [0, 40, 80, 160]
    assert shown_epochs(list(range(0, 31, 3))) == [0, 6, 15, 30]
    assert shown_epochs(list(range(30, 0, -3))) == [3, 6, 15, 30]
    assert shown_epochs([3]) == [3]


def test_agreement_is_the_plain_mean_over_seeds_and_the_ends_of_all(runs: pv.Runs) -> None:
    found = agreement_over_seeds(runs, "theta_g", "theta_hg").set_index("epoch")
    each = robustness(runs.filters, "theta_g", "theta_hg")
    assert (found["seeds"] == 2).all()
    for epoch, rows in each.groupby("epoch"):
        for name in ("pearson", "spearman", "trimmed", "within_layers", "layer_mean"):
            assert found.loc[epoch, name] == pytest.approx(rows[name].mean())
        extremes = {
            "pearson_min": rows["pearson"].min(),
            "pearson_max": rows["pearson"].max(),
            "loo_min": rows["loo_min"].min(),
            "loo_max": rows["loo_max"].max(),
        }
        assert found.loc[epoch, list(extremes)].to_dict() == pytest.approx(extremes)
        z = np.arctanh(rows["pearson"])
        half = stats.t.ppf(0.975, 1) * z.std() / np.sqrt(2)
        ends = np.tanh([z.mean() - half, z.mean() + half])
        assert found.loc[epoch, ["low", "high"]].tolist() == pytest.approx(ends.tolist())
    effective = pv.correlate(runs, "theta_g", "theta_hg").groupby("epoch")["n_eff"].min()
    assert found["n_eff"].to_dict() == pytest.approx(effective.to_dict())


def test_the_own_association_is_that_of_ranks_over_the_common_epochs(runs: pv.Runs) -> None:
    found = own_association(runs).set_index("coefficient")
    each = robustness(runs.filters, "sigma_change", "loss_preservation")
    each = each.merge(runs.epochs, on=["run", "epoch"])
    names = list(runs.spec["run"])
    assert list(found.index) == ["pearson", "spearman", "layer_mean"]
    assert set(found["epochs"]) == {8} and set(found["seeds"]) == {2}
    for name in found.index:
        rho = [
            [
                stats.spearmanr(
                    each.loc[each["run"] == one, name],
                    each.loc[each["run"] == two, "mask_distance"],
                ).statistic
                for two in names
            ]
            for one in names
        ]
        row = found.loc[name]
        assert row["own"] == pytest.approx((rho[0][0] + rho[1][1]) / 2)
        assert row["other"] == pytest.approx((rho[0][1] + rho[1][0]) / 2)
        assert row["d"] == pytest.approx(row["own"] - row["other"])
        assert row["p"] in (0.5, 1.0)


def test_derivative_facts_are_those_of_plain_numpy(runs: pv.Runs) -> None:
    found = derivative_facts(runs).set_index("epoch")
    names = ["clear", "cosine", "scale", "eigen", "share"]
    assert set(found["df"]) == {SAMPLE - 1}
    for epoch in (0, 8):
        expected = np.mean([plain_facts(runs, run, epoch) for run in runs.spec["run"]], axis=0)
        assert found.loc[epoch, names].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def plain_facts(runs: pv.Runs, run: str, epoch: int) -> tuple[float, ...]:
    filters, epochs = (
        table[(table["run"] == run) & (table["epoch"] == epoch)]
        for table in (runs.filters, runs.epochs)
    )
    names = ["theta_g", "theta_hg", "g_norm2", "theta_norm2", "theta_g_se"]
    x, y, g2, norm2, se = (filters[name].to_numpy(dtype="float64") for name in names)
    clear = (np.abs(x) > stats.t.ppf(0.975, SAMPLE - 1) * se).mean()
    cosine = np.median(np.abs(x) / np.sqrt(norm2 * g2))
    scale = np.linalg.lstsq(-g2[:, None], y, rcond=None)[0][0]
    whole = epochs.iloc[0]
    eigen = np.polyfit(x, y, 1)[0] * whole["g_norm2"] / whole["ghg"]
    explained = whole["ghg"] / whole["g_norm2"] * x
    return clear, cosine, scale, eigen, 1 - np.var(y - explained) / np.var(y)


def test_the_initialisation_is_that_of_plain_statistics_at_epoch_0(runs: pv.Runs) -> None:
    (found,) = initial_agreement(runs).to_dict("records")
    start = runs.filters[runs.filters["epoch"] == 0].astype({"run": "str"})
    plain = [plain_start(rows) for _, rows in start.groupby("run")]
    assert found["seeds"] == 2 and found["network"] == "vgg13" and pd.isna(found["width"])
    for name in ("pearson", "spearman", "symlog", "clear", "clear_hg_given_g"):
        assert found[name] == pytest.approx(np.mean([each[name] for each in plain])), name
    assert found["n_eff"] == pytest.approx(min(each["n_eff"] for each in plain))
    assert pd.isna(found["clear_hg"]), "no errors with all that varies"
    z = np.arctanh([each["pearson"] for each in plain])
    half = stats.t.ppf(0.975, 1) * z.std(ddof=1) / np.sqrt(2)
    ends = np.tanh([z.mean() - half, z.mean() + half])
    assert [found["low"], found["high"]] == pytest.approx(ends.tolist())


def plain_start(rows: pd.DataFrame) -> dict[str, float]:
    names = ["theta_g", "theta_hg", "theta_g_se", "theta_hg_se_given_g"]
    x, y, x_se, y_se = (rows[name].to_numpy(dtype="float64") for name in names)
    w = (x - x.mean()) * (y - y.mean())
    logs = [
        np.sign(v) * np.log1p(np.abs(v) / 10 ** np.floor(np.log10(np.quantile(np.abs(v), 0.1))))
        for v in (x, y)
    ]
    bound = stats.t.ppf(0.975, SAMPLE - 1)
    return {
        "pearson": stats.pearsonr(x, y).statistic,
        "spearman": stats.spearmanr(x, y).statistic,
        "symlog": stats.pearsonr(*logs).statistic,
        "n_eff": w.sum() ** 2 / (w**2).sum(),
        "clear": (np.abs(x) > bound * x_se).mean(),
        "clear_hg_given_g": (np.abs(y) > bound * y_se).mean(),
    }


def test_runs_that_were_never_trained_stand_in_their_own_table_alone(
    sets: tuple[Path, Path],
) -> None:
    trained, other = (pv.load(folder) for folder in sets)
    start = replace(other, spec=other.spec.assign(epochs=0, width=0.5, se_df=5))
    start = replace(
        start,
        filters=start.filters[start.filters["epoch"] == 0],
        epochs=start.epochs[start.epochs["epoch"] == 0].assign(train_acc=np.nan),
    )
    both = together(trained, renamed(start, "-start"))
    for name in ("figure-3", "figure-3-curve", "signal", "figure-2-curve"):
        assert table_of(name, both) == table_of(name, trained)
        with pytest.raises(AnalysisError, match="needs runs that these recordings lack"):
            table_of(name, start)
    rows = rows_of(table_of("initialisation", both))
    named = [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
    assert [(row["bn"], row["width"], row["seeds"]) for row in named] == [
        ("eval", "", "2"),
        ("batch", "0.5", "1"),
    ]
    (found,) = initial_agreement(start).to_dict("records")
    assert named[1]["Pearson"] == f"{found['pearson']:.2f}" and named[1]["95 %"] == ""
    assert named[1]["θᵀg clear"] == f"{100 * found['clear']:.0f} %"
    assert named[1]["θᵀHg clear, g held fixed"] == f"{100 * found['clear_hg_given_g']:.0f} %"
    printed = all_tables(start, only=["initialisation", "figure-3", "recordings"])
    assert "initialisation\n\n| " in printed and "table figure-3 needs runs that these" in printed
    assert "nan" not in printed


def test_the_two_cases_that_explain_a_correlation_are_recognised(runs: pv.Runs) -> None:
    filters = runs.filters
    invariant = replace(runs, filters=filters.assign(theta_hg=-filters["g_norm2"]))
    assert derivative_facts(invariant)["scale"].to_numpy() == pytest.approx(1)
    eigenvector = replace(
        runs,
        filters=filters.assign(theta_hg=3 * filters["theta_g"]),
        epochs=runs.epochs.assign(ghg=3 * runs.epochs["g_norm2"]),
    )
    assert derivative_facts(eigenvector)["eigen"].to_numpy() == pytest.approx(1)
    assert derivative_facts(eigenvector)["share"].to_numpy() == pytest.approx(1)


@pytest.mark.parametrize("name", CLAIM_TABLES)
def test_every_table_has_the_rows_of_these_recordings(sets: tuple[Path, Path], name: str) -> None:
    text = table_of(name, pv.load(sets))
    rows = rows_of(text.removeprefix("vgg13:\n\n"))
    assert text.startswith("vgg13:") == name.endswith("curve")
    assert len({len(row) for row in rows}) == 1, "rows of unequal length"
    assert all(any(row) for row in rows)
    if name in ("figure-3", "signal"):
        assert {(row[0], row[1]) for row in rows[2:]} == {("vgg13", "eval"), ("vgg13", "batch")}
        assert [int(row[2]) for row in rows[2:7]] == [0, 1, 2, 4, 8]
    if name.endswith("curve"):
        assert [int(row[0]) for row in rows[2:]] == list(EPOCHS)[name == "figure-2-curve" :]
        assert any("batch" in cell for cell in rows[0])


def test_numbers_are_rounded_ones_of_the_analysis(sets: tuple[Path, Path], runs: pv.Runs) -> None:
    rows = rows_of(table_of("figure-3", pv.load(sets)))
    found = agreement_over_seeds(runs, "theta_g", "theta_hg").iloc[-1]
    named = dict(zip(rows[0], rows[6], strict=True))
    assert named["Pearson"] == f"{found['pearson']:.2f}"
    assert named["95 %"] == f"{found['low']:.2f} to {found['high']:.2f}"
    assert named["n_eff"] == f"{found['n_eff']:.0f}"
    assert named["over seeds"] == f"{found['pearson_min']:.2f} to {found['pearson_max']:.2f}"
    assert named["without a layer"] == f"{found['loo_min']:.2f} to {found['loo_max']:.2f}"


def test_runs_of_an_unknown_data_set_count_too(sets: tuple[Path, Path]) -> None:
    runs = pv.load(sets[0])
    unnamed = replace(runs, spec=runs.spec.assign(dataset=None))
    for name in ("figure-3", "figure-3-curve", "signal", "figure-2-association", "figure-2-curve"):
        assert table_of(name, unnamed) == table_of(name, runs)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(findings.app, arguments)


def test_the_command_replaces_the_tables_of_a_text_and_leaves_the_rest(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    file, end = tmp_path / "findings.md", "<!-- end of table -->"
    blocks = [f"<!-- table: recordings -->\nold\n{end}\n", f"<!-- table: signal -->\n{end}\n"]
    file.write_text(f"# Findings\n\n{blocks[0]}\nprose\n\n{blocks[1]}end\n")
    assert invoke(*map(str, sets), "--into", str(file)).exit_code == 0
    filled = file.read_text()
    assert "old" not in filled
    loaded = pv.load(sets)
    first, second = (table_of(name, loaded) for name in ("recordings", "signal"))
    head = f"# Findings\n\n<!-- table: recordings -->\n\n{first}\n{end}\n\nprose\n"
    assert filled.startswith(head)
    assert filled.endswith(f"{second}\n{end}\nend\n")
    assert filled_in(filled, loaded) == filled, "filling in twice changes the text"


def test_without_a_file_it_prints_all_tables(sets: tuple[Path, Path]) -> None:
    printed = invoke(str(sets[0])).output
    assert tables_in(printed) == {*CLAIM_TABLES}
    assert all(f"{name}\n\ntable {name} needs runs that" in printed for name in PRUNED_TABLES)
    assert "\nsingle-weights\n\ntable single-weights needs" in invoke(str(sets[1])).output


@pytest.fixture(scope="module")
def mixed(sets: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first folder with pruned runs of other lengths and rounds alone beside."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(sets[0], folder, dirs_exist_ok=True)
    vgg = {"vgg13": SMALL["vgg13"]}
    save_runs(make_pruned_runs(vgg, CURVE_MEASURES[:2], seeds=(0, 1), epochs=9), folder)
    save_runs(make_pruned_runs(vgg, ("grasp",), seeds=(0,), prune_phase_only=True), folder)
    return folder


def test_pruned_runs_beside_them_do_not_change_the_tables_of_unpruned_ones(
    sets: tuple[Path, Path], mixed: Path
) -> None:
    alone, beside = pv.load(sets[0]), pv.load(mixed)
    for name in set(CLAIM_TABLES) - {"claims"}:
        assert table_of(name, beside) == table_of(name, alone)
    before, after = (rows_of(table_of("claims", runs)) for runs in (alone, beside))
    places = [after[0].index(name) for name in before[0]]
    same = [[row[place] for place in places] for row in after[2 : len(before)]]
    assert same == before[2:]


def test_all_tables_of_a_mixed_folder_are_made_or_told(mixed: Path) -> None:
    printed = invoke(str(mixed)).stdout
    assert tables_in(printed) == {*CLAIM_TABLES, "figure-4-12", "figure-16-17", "final-accuracy"}
    assert "\nfigure-1\n\ntable figure-1 needs runs that these recordings lack" in printed
    assert "`pruneviz record --figures\n1`" in printed
    assert "differ in scale, so none are compared." in " ".join(printed.split())


def test_a_folder_of_pruned_runs_alone_has_their_tables(mixed: Path) -> None:
    runs = pv.load(mixed)
    pruned = runs.named(runs.spec.loc[runs.spec["rounds"] > 0, "run"])
    printed = all_tables(pruned)
    assert "figure-4-12\n\n| network" in printed
    assert "recordings\n\ntable recordings needs runs" in printed


def test_one_table_alone_is_printed_or_replaced(mixed: Path, tmp_path: Path) -> None:
    printed = invoke(str(mixed), "--table", "figure-4-12", "--table", "signal").stdout
    assert printed.startswith("figure-4-12\n\n| network") and "\nsignal\n\n| network" in printed
    assert "figure-3" not in printed
    file, end = tmp_path / "findings.md", "<!-- end of table -->"
    text = f"<!-- table: recordings -->\nold\n{end}\n<!-- table: figure-4-12 -->\nold\n{end}\n"
    file.write_text(text)
    assert invoke(str(mixed), "--table", "figure-4-12", "--into", str(file)).exit_code == 0
    kept, new = file.read_text().split("<!-- table: figure-4-12 -->")
    assert kept == f"<!-- table: recordings -->\nold\n{end}\n"
    assert table_of("figure-4-12", pv.load(mixed)) in new and "old" not in new
    for name, message in (("signal", "has no place for table signal"), ("x", "no table 'x'")):
        result = invoke(str(mixed), "--table", name, "--into", str(file))
        assert (result.exit_code, result.stdout) == (2, "") and message in result.stderr


def test_the_help_names_all_tables() -> None:
    text = re.sub(r"-\s+", "-", invoke("--help").stdout)  # names are broken at their hyphens
    assert [name for name in TABLES if not re.search(rf"\b{name}[\s,]", text)] == []


def test_parameters_come_from_whoever_counts_them(mixed: Path) -> None:
    def costs(runs: pv.Runs) -> pd.DataFrame:
        numbers = {"parameters_before": 10, "parameters_after": 4}
        return runs.spec[["run"]].assign(**numbers, macs_before=8, macs_after=1, lacks="")

    rows = rows_of(table_of("final-accuracy", pv.load(mixed), costs))
    assert rows[2][-4:] == ["4", "40.0 %", "1", "12.5 %"]
    assert rows_of(table_of("final-accuracy", pv.load(mixed)))[2][-4:] == [""] * 4


def test_runs_of_weights_add_nothing_to_tables_of_filters(sets: tuple[Path, Path]) -> None:
    both = pv.load(sets[0])
    for name in set(CLAIM_TABLES) - {"recordings", "claims", "single-weights"}:
        assert table_of(name, both) == table_of(name, both.select(unit="filter"))


def other_setting(runs: pv.Runs, end: str, **facts: object) -> pv.Runs:
    """The same runs with other names, facts and derivatives."""
    filters = runs.filters.assign(theta_hg=runs.filters["theta_hg"].to_numpy()[::-1])
    changed = replace(runs, spec=runs.spec.assign(**facts), filters=filters)
    return renamed(changed, end)


TOLD = ("figure-3", "signal", "figure-2", "figure-2-association", "initialisation")


@pytest.mark.parametrize("name", TOLD)
def test_two_settings_are_two_rows_and_not_seeds_of_one(runs: pv.Runs, name: str) -> None:
    first = replace(runs, spec=runs.spec.assign(sample_size=500))
    second = other_setting(runs, "-b", sample_size=2500)
    rows = rows_of(table_of(name, together(first, second)))
    alone = [rows_of(table_of(name, one)) for one in (first, second)]
    place = rows[0].index("setting") if "setting" in rows[0] else None
    words = [row.pop(place) for row in rows] if place is not None else []
    assert rows[0] == alone[0][0] and len(rows) == len(alone[0]) + len(alone[1]) - 2
    assert sorted(rows[2:]) == sorted(alone[0][2:] + alone[1][2:])
    if name != "initialisation":  # has a column of its own for it
        assert set(words[2:]) == {"sample_size 500", "sample_size 2500"}


@pytest.mark.parametrize("name", ["figure-3-curve", "figure-2-curve"])
def test_curves_of_two_settings_stand_beside_each_other(runs: pv.Runs, name: str) -> None:
    first = replace(runs, spec=runs.spec.assign(lr=0.1))
    second = other_setting(runs, "-b", lr=0.2)
    rows = rows_of(table_of(name, together(first, second)).removeprefix("vgg13:\n\n"))
    assert "lr 0.1, eval: r" in rows[0] and "lr 0.2, eval: r" in rows[0]
    for one, lr in ((first, 0.1), (second, 0.2)):
        alone = rows_of(table_of(name, one).removeprefix("vgg13:\n\n"))
        place = rows[0].index(f"lr {lr}, eval: r")
        assert [row[place] for row in rows[2:]] == [row[1] for row in alone[2:]]


@pytest.mark.parametrize("name", ["figure-3-curve", "figure-2-curve"])
def test_each_network_has_a_table_with_its_own_settings(runs: pv.Runs, name: str) -> None:
    sets = {
        ("vgg13", 0.2): replace(runs, spec=runs.spec.assign(lr=0.2)),
        ("abc", 0.1): other_setting(runs, "-b", network="abc", lr=0.1),
        ("vgg13", 0.1): other_setting(runs, "-c", lr=0.1),
    }
    text = table_of(name, together(*sets.values()))
    assert text.index("abc:") < text.index("vgg13:")
    for (network, lr), one in sets.items():
        rows = rows_of(text.split(f"{network}:\n\n")[1].split("\n\n")[0])
        alone = rows_of(table_of(name, one).split(":\n\n")[1])
        heads = ["lr 0.1, eval: r", "lr 0.2, eval: r"] if network == "vgg13" else ["eval: r"]
        assert [head for head in rows[0] if head.endswith(": r")] == heads
        place = rows[0].index(heads[lr == 0.2])
        assert [row[place] for row in rows[2:]] == [row[1] for row in alone[2:]]


def test_curves_average_what_the_same_seeds_have_and_say_how_many(runs: pv.Runs) -> None:
    """Where one of two seeds is measured, its mask distance stands alone beside its r."""
    measured = (runs.spec["run"].iloc[0], 2)
    gone = (runs.filters["run"] == runs.spec["run"].iloc[1]) & (runs.filters["epoch"] == 2)
    sparse = replace(runs, filters=runs.filters[~gone])
    rows = rows_of(table_of("figure-2-curve", sparse).removeprefix("vgg13:\n\n"))
    (row,) = [row for row in rows[2:] if row[0] == "2"]
    alone = agreement_over_seeds(
        sparse.named([measured[0]]), "sigma_change", "loss_preservation"
    ).set_index("epoch")
    epochs = runs.epochs.set_index(["run", "epoch"])
    assert row[1] == f"{alone.loc[2, 'pearson']:.2f} (1 of 2 seeds)"
    assert row[3] == f"{epochs.loc[measured, 'mask_distance']:.3f}"
    assert not any("seeds" in cell for one in rows[2:] if one[0] != "2" for cell in one)
    for name in ("figure-3", "figure-2"):
        with pytest.raises(AnalysisError, match=r"\(it shows .*\); record .* --figures [23]"):
            table_of(name, replace(runs, filters=runs.filters[runs.filters["epoch"] == 99]))


def test_networks_without_a_name_and_names_with_bars_have_curves(runs: pv.Runs) -> None:
    for name in (None, ""):
        unnamed = other_setting(runs, "-b", network=name)
        text = table_of("figure-3-curve", together(runs, unnamed))
        assert text.count("| epoch |") == 2 and "network without a name:" in text
    barred = other_setting(runs, "-b", dataset="a|b")
    rows = table_of("figure-3-curve", together(runs, barred)).splitlines()[2:]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_a_repeated_seed_counts_once_and_seeds_of_two_folders_are_one_set(runs: pv.Runs) -> None:
    runs = replace(runs, spec=runs.spec.assign(created="2020"))
    parts = [runs.select(seed=seed) for seed in (0, 1)]
    repeat = other_setting(parts[1], "-b", created="2021")
    for name in ("figure-3", "figure-2-association", "claims", "initialisation"):
        assert table_of(name, together(parts[1], parts[0], repeat)) == table_of(name, runs)


ALIKE = {
    "none and a word": (None, "unknown"),
    "a number and a list": (5, [5]),
    "a number and a word": (1, "1"),
    "truth and a word": (True, "True"),
    "a fact called setting": ("fast", "slow"),
}


@pytest.mark.parametrize("case", ALIKE)
@pytest.mark.parametrize("name", ["figure-3", "initialisation"])
def test_settings_whose_values_look_alike_stay_apart(runs: pv.Runs, case: str, name: str) -> None:
    fact = "setting" if "called" in case else "opt"
    one, other = ([value] * len(runs) for value in ALIKE[case])
    both = together(
        replace(runs, spec=runs.spec.assign(**{fact: one})),
        other_setting(runs, "-b", **{fact: other}),
    )
    rows = rows_of(table_of(name, both))
    assert {row[rows[0].index("seeds")] for row in rows[2:]} == {"2"}
    assert len(set(map(tuple, rows[2:]))) == len(rows) - 2
    assert len({row[rows[0].index("setting")] for row in rows[2:]}) == 2


def test_settings_whose_words_join_to_the_same_line_stay_apart(runs: pv.Runs) -> None:
    facts = ({"a": "1, b 2", "b": "x"}, {"a": "1", "b": "2, b x"}, {"a": "1", "b": "x"})
    parts = [other_setting(runs, f"-{place}", **each) for place, each in enumerate(facts)]
    rows = rows_of(table_of("figure-3", together(*parts)))
    assert {row[rows[0].index("seeds")] for row in rows[2:]} == {"2"}
    assert len({row[rows[0].index("setting")] for row in rows[2:]}) == 3


def test_numbers_that_may_be_settings_are_told_where_they_are_pooled(runs: pv.Runs) -> None:
    pooled = replace(runs, spec=runs.spec.assign(dropout=[0.1, 0.5]))
    for name in ("figure-3", "figure-2-association", "initialisation"):
        told = " ".join(table_of(name, pooled).split())
        assert "its runs differ in dropout, taken for a result, not a setting." in told
        assert "its runs differ" not in table_of(name, runs)
    assert "differ in dropout" not in table_of("recordings", pooled)


def test_a_repeat_that_lacks_the_data_does_not_count(runs: pv.Runs) -> None:
    runs = replace(runs, spec=runs.spec.assign(created="2021"))
    earlier = replace(runs, spec=runs.spec.assign(created="2020"))
    blind = renamed(replace(earlier, filters=runs.filters.assign(theta_hg=np.nan)), "-blind")
    late = renamed(replace(earlier, filters=runs.filters[runs.filters["epoch"] > 0]), "-late")
    assert table_of("figure-3", together(blind, runs)) == table_of("figure-3", runs)
    for lacking in (blind, late):
        both = together(lacking, runs)
        assert table_of("initialisation", both) == table_of("initialisation", runs)


def test_cells_stay_in_their_table(runs: pv.Runs) -> None:
    both = together(
        replace(runs, spec=runs.spec.assign(note="a|b\nc")), other_setting(runs, "-b", note="d")
    )
    rows = rows_of(table_of("figure-3", both).replace(r"\|", "/"))
    assert len({len(row) for row in rows}) == 1 and r"note a/b\\nc" in {row[1] for row in rows}


def test_findings_of_unfinished_runs_alone_say_so(sets: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(sets[1], tmp_path / "open")
    (spec,) = (tmp_path / "open").glob("*/spec.json")
    edit_spec(spec.parent, sealed=False)
    result = invoke(str(tmp_path / "open"))
    assert result.exit_code == 2 and "no run is finished yet: vgg13" in result.stderr


def test_runs_that_differ_in_their_training_are_one_initialisation(runs: pv.Runs) -> None:
    first = replace(runs, spec=runs.spec.assign(lr=0.1, init="xavier", created="2020"))
    slower = other_setting(runs, "-b", lr=0.2, init="xavier", created="2021")
    other = other_setting(runs, "-c", lr=0.1, init="zeros")
    assert table_of("initialisation", together(first, slower)) == table_of("initialisation", first)
    rows = rows_of(table_of("initialisation", together(first, other)))
    assert [row[rows[0].index("setting")] for row in rows[2:]] == ["init xavier", "init zeros"]


def test_what_cannot_be_made_is_told(sets: tuple[Path, Path], tmp_path: Path) -> None:
    batch = pv.load(sets[1])
    with pytest.raises(
        AnalysisError,
        match=r"there is no table 'figure-33'; did you mean 'figure-3'\? Choose one of recording",
    ):
        table_of("figure-33", batch)
    with pytest.raises(
        AnalysisError, match="table single-weights needs runs that these recordings lack; record"
    ):
        table_of("single-weights", batch)
    with pytest.raises(AnalysisError, match="the text has no place for a table; write <!-- table"):
        filled_in("nothing", batch)
    result = invoke(str(sets[1]), "--into", str(tmp_path / "absent.md"))
    assert result.exit_code == 2
    assert "absent.md" in result.output
