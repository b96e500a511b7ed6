"""Runs stand in place of their filters in every analysis, which reads only what it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import pruneviz as pv
from pruneviz.analysis.run_facts import table_of
from pruneviz.errors import AnalysisError, ScoreError
from pruneviz.log.runs import Runs
from pruneviz.log.scan import scan
from pruneviz.log.thinning import thin
from tests.support.synthetic_runs import make_runs, save_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    networks = {"vgg13": (4, 6, 5), "resnet56": (5, 4, 3)}
    save_runs(make_runs(networks, seeds=(0, 1), epochs=4, every=2), path)
    return path


Analysis = Callable[[Any], Any]
ANALYSES: dict[str, Analysis] = {
    "correlate": lambda it: pv.correlate(it, "theta_g", "theta_hg"),
    "correlate measures": lambda it: pv.correlate(
        it, "magnitude", lambda table: table["theta_g"] ** 2, by=["run", "epoch", "layer"]
    ),
    "correlate over all": lambda it: pv.correlate(it, "theta_g", "random", by=[]),
    "score": lambda it: pv.score(it, "loss_preservation"),
    "score at random": lambda it: pv.score(it, "random", seed=3),
    "mask_distance": lambda it: pv.mask_distance(it, score="bn_scale", ratio=0.3),
    "correlation_matrix": lambda it: pv.correlation_matrix(
        it, ["magnitude", "theta_g", "bn_scale"], by=["epoch"]
    ),
    "robustness": lambda it: pv.robustness(it, "theta_g", "theta_hg"),
    "leave_one_layer_out": lambda it: pv.leave_one_layer_out(it, "theta_g", "magnitude"),
}


@pytest.mark.parametrize("analysis", ANALYSES.values(), ids=list(ANALYSES))
def test_runs_give_what_their_filters_give(folder: Path, analysis: Analysis) -> None:
    unread, read = pv.load(folder), pv.load(folder)
    expected = analysis(read.filters)
    equal = (
        pd.testing.assert_series_equal
        if isinstance(expected, pd.Series)
        else pd.testing.assert_frame_equal
    )
    equal(analysis(unread), expected)  # type: ignore[operator]
    equal(analysis(read), expected)  # type: ignore[operator]


# a function that does not say what it reads gets the whole table
@pytest.mark.parametrize("name", [name for name in ANALYSES if name != "correlate measures"])
def test_no_more_is_read_than_it_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen: list[list[str]] = []
    read = Runs.read

    def noted(self: Runs, table: str, columns: Any = None, *args: Any) -> pd.DataFrame:
        seen.append(list(columns))
        return read(self, table, columns, *args)

    monkeypatch.setattr(Runs, "read", noted)
    runs = pv.load(folder)
    ANALYSES[name](runs)
    assert "filters" not in vars(runs)
    ((*columns,),) = seen
    assert (len(columns) <= 8 and "abs_theta_g" not in columns) or "score" in name


def test_facts_of_the_runs_are_columns_to_group_by(folder: Path) -> None:
    runs = pv.load(folder)
    by = ["network", "epoch"]
    expected = pv.correlate(runs.with_spec("filters", "network"), "theta_g", "theta_hg", by=by)
    assert len(expected) == 2 * 3
    pd.testing.assert_frame_equal(pv.correlate(runs, "theta_g", "theta_hg", by=by), expected)
    found = pv.correlation_matrix(pv.load(folder), ["magnitude", "theta_g"], by=by)
    assert set(found["network"]) == {"vgg13", "resnet56"}
    each = pv.correlate(runs, "theta_g", "theta_hg")
    pd.testing.assert_frame_equal(pv.over_seeds(each, runs), pv.over_seeds(each, runs.spec))


def test_recorded_measures_of_runs_are_those_of_their_filters_and_facts(folder: Path) -> None:
    runs = pv.load(folder)
    found = pv.recorded_measures(runs)
    assert "filters" not in vars(runs)
    of_table = pv.recorded_measures(runs.filters)
    with_fact = pv.recorded_measures(runs.with_spec("filters", "sample_size"))
    assert set(of_table) <= set(found) and found == with_fact
    assert found == pv.recorded_measures(runs), "from memory too"
    batches = make_runs({"vgg13": (4,)}, seeds=(0,), bn="batch")
    assert "gate_fisher" not in pv.recorded_measures(batches)


def test_convergence_takes_runs(folder: Path) -> None:
    runs = pv.load(folder)
    accuracies = runs.epochs.assign(test_acc=runs.epochs["epoch"] / 10)
    runs = Runs(runs.spec, accuracies, runs.filters, runs.rounds)
    pd.testing.assert_frame_equal(
        pv.convergence(runs, by=["network"]),
        pv.convergence(runs.epochs, runs.spec, by=["network"]),
    )
    with pytest.raises(AnalysisError, match="spec is missing; pass the runs alone"):
        pv.convergence(runs.epochs, by=["network"])


def test_errors_name_all_columns_there_are(folder: Path) -> None:
    runs = pv.load(folder)
    with pytest.raises(AnalysisError, match=r"no column or measure 'theta_gg'.*sigma_delta"):
        pv.correlate(runs, "theta_gg", "theta_hg")
    with pytest.raises(AnalysisError, match=r"by=\['depth'\]: there is no column 'depth'"):
        pv.correlate(runs, "theta_g", "theta_hg", by=["depth"])
    with pytest.raises(ScoreError, match="no pruning measure 'magnitud'"):
        pv.mask_distance(runs, "magnitud")
    with pytest.raises(AnalysisError, match="takes runs or a filters table, not list"):
        table_of([1], ["theta_g"])  # type: ignore[arg-type]
    with pytest.raises(AnalysisError, match="takes runs or a filters table, not Scan"):
        pv.robustness(pv.scan(folder), "theta_g", "theta_hg")  # type: ignore[arg-type]
    with pytest.raises(AnalysisError, match="keep_mask takes scores, not Runs; score the filters"):
        pv.keep_mask(runs, 0.2)  # type: ignore[arg-type]


def test_a_table_in_memory_keeps_its_index(folder: Path) -> None:
    loaded = pv.load(folder)
    some = loaded.filters[loaded.filters["epoch"] == 2]
    runs = Runs(loaded.spec, loaded.epochs, some, loaded.rounds)
    assert pv.score(runs, "magnitude").index.equals(some.index)


def test_lamp_of_runs_that_store_some_weights_is_refused(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 50), torch.nn.ReLU(), torch.nn.Linear(50, 3))
    sample = torch.linspace(-1, 1, 6)[:, None], torch.arange(6) % 3
    for rows in (20, 50):
        with pv.Recorder(model, sample, tmp_path / f"{rows}", unit="weight", rows=rows) as recorder:
            recorder.after_epoch(0)
    assert pv.score(pv.load(tmp_path / "50"), "lamp").notna().all()
    for analysis in (pv.score, lambda runs, name: pv.correlate(runs, name, "magnitude")):
        with pytest.raises(ScoreError, match="run 20 stores 20 of 50; record it with a larger"):
            analysis(pv.load(tmp_path / "20"), "lamp")


@pytest.mark.parametrize(
    ("analysis", "error", "lacks"),
    [
        (lambda it: pv.mask_distance(it, "bn_scale"), ScoreError, "out sigma;"),
        (lambda it: pv.correlate(it, "theta_g", "theta_hg"), AnalysisError, "out theta_hg;"),
        (lambda it: pv.correlate(it, "magnitude", "theta_g"), ScoreError, "out theta_norm2;"),
    ],
    ids=["mask_distance", "correlate columns", "correlate measures"],
)
def test_what_a_thin_copy_left_out_is_refused_also_beside_full_runs(
    folder: Path, tmp_path: Path, analysis: Analysis, error: type[Exception], lacks: str
) -> None:
    first, *others = sorted(folder.iterdir())
    paths = [thin(first, tmp_path, columns=["theta_g"]).path, *others]
    for source in (pv.load(paths), scan(paths)):
        with pytest.raises(error, match=rf"the thin copy {first.name} left .*{lacks} take the"):
            analysis(source)
    runs = pv.load(paths)
    analysis(runs.named([path.name for path in others]))
    with pytest.raises(ScoreError, match=r"loss_preservation needs abs_theta_g; the thin copy"):
        pv.score(runs, "loss_preservation")
    with pytest.raises(ScoreError, match=r"loss_preservation needs abs_theta_g; the thin copy"):
        pv.score(scan(paths), "loss_preservation", tmp_path / "scores.parquet")
    assert not (tmp_path / "scores.parquet").exists()
