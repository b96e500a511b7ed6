"""The recordings that ship with pruneviz: small, complete, and the source of the findings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import pruneviz as pv
from pruneviz.analysis.claim_tables import TABLES, filled_in
from pruneviz.experiment.pruned_costs import costs_of
from pruneviz.plans.planning import plan_runs

ROOT = Path(__file__).parents[2]
SETS = [ROOT / "data" / f"cifar-mini{kind}" for kind in ("", "-batch", "-pruned", "-baseline")]
FINAL = "final-accuracy"
HALF, PAPER = (ROOT / "data" / name for name in ("cifar-half", "paper"))
STARTS = [ROOT / "data" / f"paper-init{kind}" for kind in ("", "-calibrated", "-batch")]
SHIPPED = (
    *(path.name for path in STARTS),
    "cifar-half",
    "cifar-mini",
    "cifar-mini-batch",
    "cifar-mini-baseline",
    "cifar-mini-pruned",
    "cifar-mini-errors",
    "cifar-mini-oracle",
    "paper",
    "short",
)
PICTURES = ROOT / "figures" / "cifar-mini"


@pytest.fixture(scope="module")
def sets() -> list[pv.Runs]:
    return [pv.load(path) for path in SETS]


def test_they_are_small_and_hold_neither_weights_of_networks_nor_images() -> None:
    found = [file for path in SETS for file in path.rglob("*") if file.is_file()]
    files = [file for file in found if file.parent.name != "weights"]  # kept locally only
    assert {file.suffix for file in files} == {".json", ".parquet"}
    assert sum(file.stat().st_size for file in files) < 20e6


def test_all_recordings_together_are_small() -> None:
    folders = [ROOT / "data" / name for name in SHIPPED]
    sizes = [file.stat().st_size for path in folders for file in path.glob("*/*.*")]
    assert 20e6 < sum(sizes) < 40e6


def test_they_are_what_the_catalogue_plans_for_five_seeds(sets: list[pv.Runs]) -> None:
    planned = {
        plan.run
        for plan in plan_runs("cifar-mini", seeds=range(5), figures=("2", "3", "13", "14", "15"))
    }
    weights = {
        plan.run for plan in plan_runs("cifar-mini", networks=("resnet56",), figures=("H1a",))
    }
    assert set(sets[0].spec["run"]) == planned | weights
    assert list(sets[0].spec["epochs"].unique()) == [16]
    assert (sets[0].epochs.groupby("run", observed=True)["epoch"].nunique() == 17).all()


def test_pruned_ones_are_what_the_catalogue_plans(sets: list[pv.Runs]) -> None:
    one_seed = dict.fromkeys(map(str, range(4, 13)), (0,))
    seeds = {"1": (0, 1, 2), "16": (0, 1), "17": (0, 1), **one_seed}
    planned = {
        plan.run
        for figure, chosen in seeds.items()
        for plan in plan_runs("cifar-mini", seeds=chosen, figures=(figure,))
    }
    spec = sets[2].spec.set_index("run")
    assert set(spec.index) == planned
    lengths = sets[2].epochs.groupby("run", observed=True)["epoch"].nunique() - 1
    assert (lengths == spec["epochs"].reindex(lengths.index)).all()


def test_initialisations_are_those_of_the_papers_networks_measured_in_every_mode() -> None:
    eval_runs, calibrated, batch = map(pv.load, STARTS)
    assert set(eval_runs.spec["run"]) == {
        plan.run for plan in plan_runs("paper-init", figures=("3", "13", "14"))
    }
    assert list(calibrated.spec.groupby("network").size()) == [3, 3, 3]
    for runs, bn in ((eval_runs, "eval"), (calibrated, "calibrated"), (batch, "batch")):
        assert set(runs.spec["bn"]) == {bn} and set(runs.spec["sample_size"]) == {2500}
        assert set(runs.spec["width"]) == {1} and set(runs.spec["epochs"]) == {0}
        assert set(runs.epochs["epoch"]) == {0}
    assert set(batch.spec["dtype"]) == {"float64"}
    assert set(batch.spec["network"]) == {"mobilenet_v1", "resnet56", "vgg13"}


def test_by_batches_a_filter_before_training_obeys_scale_invariance() -> None:
    # The loss does not depend on the scale of a filter that batch norm follows, but for eps.
    filters = pv.load(STARTS[2]).filters
    allowed = np.sqrt(filters["theta_norm2"] * filters["g_norm2"])
    assert (filters["theta_g"].abs() < 1e-3 * allowed).all()
    off = (filters["theta_hg"] / -filters["g_norm2"] - 1).abs()
    assert (off.groupby(filters["run"], observed=True).median() < 0.02).all()


def test_half_width_is_what_the_catalogue_plans_and_has_learnt() -> None:
    runs = pv.load(HALF)
    planned = plan_runs("cifar-half", figures=("3", "13", "14"))
    assert set(runs.spec["run"]) == {plan.run for plan in planned} and len(planned) == 3
    assert set(runs.spec["width"]) == {0.5} and set(runs.spec["train_images"]) == {50_000}
    assert set(runs.spec["sample_size"]) == {2500} and set(runs.spec["bn"]) == {"eval"}
    measured = runs.filters.dropna(subset="theta_hg").groupby("run", observed=True)["epoch"]
    assert all(set(epochs) == set(range(0, 31, 3)) for _, epochs in measured)
    assert (runs.epochs.groupby("run", observed=True)["epoch"].nunique() == 31).all()
    last = runs.epochs[runs.epochs["epoch"] == 30]
    assert (last["test_acc"] > 0.4).all()


def test_their_specs_say_how_they_were_made(sets: list[pv.Runs]) -> None:
    for runs in [*sets, pv.load(HALF)]:
        assert set(runs.spec["precision"]) == {"fp32"}
        assert set(runs.spec["device"]) == {"cpu"}
        assert set(runs.spec["threads"]) <= {1, 2}
        assert runs.spec["command"].str.match(r"(python -m pruneviz\.|pruneviz )re").all()
        assert runs.spec["versions"].map(lambda versions: "torch" in versions).all()


def test_all_columns_are_compressed_without_loss(sets: list[pv.Runs]) -> None:
    for file in (file for path in SETS for file in path.rglob("filters.parquet")):
        group = pq.read_metadata(file).row_group(0)
        columns = [group.column(i) for i in range(group.num_columns)]
        assert {column.compression for column in columns} == {"ZSTD"}
        assert all(
            "BYTE_STREAM_SPLIT" in c.encodings for c in columns if c.path_in_schema == "theta_g"
        )
    assert np.isfinite(sets[0].filters["theta_hg"]).all()


def test_the_tables_of_the_findings_are_made_of_them() -> None:
    text = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    *whole, pruned, baseline = SETS
    others = [name for name in TABLES if f"<!-- table: {name} -->" in text and name != FINAL]
    assert filled_in(text, pv.load([*whole, pruned, HALF, PAPER, *STARTS]), only=others) == text
    assert filled_in(text, pv.load([pruned, baseline]), costs_of, [FINAL]) == text


@pytest.mark.parametrize("figure", ["01", "02", "03", "13", "14", "15", "16", "17", "H1a", "H1b"])
def test_their_figures_are_there(figure: str) -> None:
    assert {file.suffix for file in PICTURES.glob(f"figure{figure}.*")} >= {".png", ".txt"}


@pytest.mark.parametrize("figure", ["02", "03", "13", "14", "15"])
def test_figures_at_half_width_are_there(figure: str) -> None:
    folder = ROOT / "figures" / "cifar-half"
    assert {file.suffix for file in folder.glob(f"figure{figure}.*")} >= {".png", ".txt"}


def test_the_oracle_set_holds_one_draw_for_all_epochs_and_every_measure_beside_it() -> None:
    folder = ROOT / "data" / "cifar-mini-oracle"
    runs = pv.load(folder)
    assert sum(file.stat().st_size for file in folder.rglob("*.*")) < 2.5e6
    drawn = runs.filters.dropna(subset="delta_loss")
    assert set(drawn["epoch"]) == {0, 1, 2, 4, 8, 16}
    for _, rows in drawn.groupby("run", observed=True):
        at = [
            set(zip(own["layer"], own["filter"], strict=True)) for _, own in rows.groupby("epoch")
        ]
        assert all(len(own) == 200 and own == at[0] for own in at)
    of_filters = set(pv.SCORES) - {"theta_change", "lamp"}
    assert all(pv.score(runs, name).notna().any() for name in of_filters)


def test_the_gate_after_a_batch_norm_predicts_the_oracle_best() -> None:
    rows = pv.load(ROOT / "data" / "cifar-mini-oracle").filters.dropna(subset="delta_loss")
    rows = rows[rows["epoch"] > 0].assign(size=lambda table: table["delta_loss"].abs())
    found = {
        name: pv.correlate(rows, name, "size", by=["run", "epoch"], method="spearman")["r"].mean()
        for name in ("bn_taylor", "loss_preservation", "magnitude", "bn_scale", "random")
    }
    assert found["bn_taylor"] > 0.8 > found["loss_preservation"] > 0.6
    assert found["loss_preservation"] - 0.2 > found["magnitude"] > found["bn_scale"]
    assert abs(found["random"]) < 0.1


def test_commands_name_no_folder_of_a_machine() -> None:
    specs = (ROOT / "data").glob("*/*/spec.json")
    facts = [json.loads(path.read_text(encoding="utf-8"))["command"] for path in specs]
    figures = (ROOT / "figures").glob("*/*.json")
    text = [*filter(None, facts), *(path.read_text(encoding="utf-8") for path in figures)]
    assert len(text) > 60
    assert [found for found in map(re.compile(r" /\w+/[^ ]*").search, text) if found] == []


@pytest.mark.parametrize("name", ["cifar-mini", "cifar-half", "paper"])
def test_committed_pictures_name_the_recordings_that_ship(name: str) -> None:
    """Drawing them again, as the README says first, leaves a clone as it was."""
    folders = [ROOT / "data" / f"{name}{more}" for more in ("", "-pruned")]
    spec = pv.load([folder for folder in folders if folder.exists()]).spec.set_index("run")
    for path in (ROOT / "figures" / name).glob("figure*.json"):
        for run in json.loads(path.read_text(encoding="utf-8"))["runs"]:
            facts = spec.loc[run["run"]]
            for fact in ("created", "schema_version", "command"):
                assert run.get(fact, facts[fact]) == facts[fact], (path.name, run["run"], fact)
            assert set(run.get("columns", facts["columns"])) == set(facts["columns"])


def test_standard_errors_of_the_shipped_sample_are_no_larger_than_the_values() -> None:
    """A value is truth and noise: its mean square over filters exceeds that of its noise."""
    rows = pv.load(ROOT / "data" / "cifar-mini-errors").filters.dropna(subset="theta_g")
    numbers = ["theta_g", "theta_g_se", "theta_g_se_iid", "theta_hg_se", "theta_hg_se_given_g"]
    squares = rows[numbers].astype("float64") ** 2
    means = squares.groupby([rows["run"], rows["epoch"]], observed=True).mean()
    assert len(means) == 3 * 5
    assert (means["theta_g_se"] < means["theta_g"]).all()
    first = means.xs(0, level="epoch")
    assert (first["theta_g_se_iid"] > first["theta_g"]).any()  # what was recorded before
    assert (means["theta_hg_se"] > means["theta_hg_se_given_g"]).all()
