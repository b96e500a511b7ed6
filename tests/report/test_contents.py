from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.analysis.masks import mask_scores
from pruneviz.errors import ReportError
from pruneviz.report.contents import RunContents, contents_of, run_contents
from tests.report.test_blocks import unpacked

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "data" / "cifar-mini-errors" / "vgg13-cifar100-unpruned-s0"
PRUNED = ROOT / "data" / "cifar-mini-pruned" / "resnet56-cifar100-proposed-r5-s0"
KEYS = ["epoch", "layer", "filter"]


@pytest.fixture(scope="module")
def runs() -> pv.Runs:
    return pv.load(RUN)


@pytest.fixture(scope="module")
def contents(runs: pv.Runs) -> RunContents:
    return run_contents(runs)


def held(contents: RunContents, place: int) -> np.ndarray:
    return unpacked(contents.blocks[place]).reshape(-1, contents.facts["count"])


def table_of(contents: RunContents, **columns: int) -> pd.DataFrame:
    """Arrays of a page as a filters table."""
    facts = contents.facts
    layers = np.asarray(facts["layers"])[unpacked(contents.blocks[facts["layerOf"]])]
    filters = unpacked(contents.blocks[facts["filter"]])
    steps = len(facts["epochs"])
    return pd.DataFrame(
        {
            "epoch": np.repeat(facts["epochs"], facts["count"]),
            "layer": np.tile(layers, steps),
            "filter": np.tile(filters, steps),
            **{name: held(contents, place).reshape(-1) for name, place in columns.items()},
        }
    )


def ranks_of(contents: RunContents, measure: dict) -> np.ndarray:
    """Ranks [epoch, position] as the page finds them; -1 without a score."""
    if measure["ranks"] is not None:
        ranks = held(contents, measure["ranks"]).astype("int64")
        return np.where(ranks == measure["absent"], -1, ranks)
    name, form = measure["like"]
    column = next(each for each in contents.facts["columns"] if each["name"] == name)
    values = held(contents, column["block"]).astype("float64")
    kept = held(contents, contents.facts["kept"])
    scores = {"size": np.abs, "root": np.sqrt}.get(form, np.array)(values)
    scores = np.where((kept == 0) & ~np.isnan(scores), -np.inf, scores)
    ranks = np.full(scores.shape, -1)
    for own, row in zip(ranks, scores, strict=True):
        order = sorted(np.flatnonzero(~np.isnan(row)), key=lambda at: (row[at], at))
        own[order] = range(len(order))
    return ranks


def test_columns_are_those_of_the_recording_in_its_precision(
    runs: pv.Runs, contents: RunContents
) -> None:
    exact = {
        each["name"]: each["block"] for each in contents.facts["columns"] if not each["rounded"]
    }
    assert {"theta_g", "theta_hg", "sigma", "theta_norm2"} <= set(exact)
    found = table_of(contents, **exact).set_index(KEYS).sort_index()
    expected = runs.filters.astype({"layer": str}).set_index(KEYS).sort_index()[list(exact)]
    for name in exact:
        assert np.array_equal(found[name].to_numpy(), expected[name].to_numpy(), equal_nan=True)


def test_errors_are_rounded_to_16_bits(runs: pv.Runs, contents: RunContents) -> None:
    rounded = {each["name"]: each["block"] for each in contents.facts["columns"] if each["rounded"]}
    assert {"theta_g_se", "theta_hg_se"} <= set(rounded)
    found = table_of(contents, **rounded).set_index(KEYS).sort_index()
    expected = runs.filters.astype({"layer": str}).set_index(KEYS).sort_index()[list(rounded)]
    assert np.allclose(found, expected, rtol=2**-16, atol=0)


@pytest.mark.parametrize("ratio", [0.01, 0.2, 0.5, 0.875, 0.99])
def test_ranks_give_every_mask_exactly(runs: pv.Runs, contents: RunContents, ratio: float) -> None:
    measures = contents.facts["measures"]
    scores = {name: pv.score(runs, name) for name in pv.recorded_measures(runs)}
    assert {each["name"] for each in measures} == set(scores)
    for measure in measures:
        ranks = ranks_of(contents, measure)
        for step, epoch in enumerate(contents.facts["epochs"]):
            rows = runs.filters[runs.filters["epoch"] == epoch]
            keep = pv.keep_mask(scores[measure["name"]][rows.index], ratio)
            scored = ranks[step] >= 0
            pruned = scored & (ranks[step] < round(ratio * scored.sum()))
            assert np.array_equal(scored, keep.notna())
            assert np.array_equal(pruned[scored], ~keep.dropna().to_numpy(dtype=bool))


def test_filters_that_are_pruned_rank_first() -> None:
    runs = pv.load(PRUNED)
    contents = run_contents(runs)
    kept = held(contents, contents.facts["kept"])
    last = runs.filters[runs.filters["epoch"] == contents.facts["epochs"][-1]]
    assert np.array_equal(kept[-1] == 1, last["kept"].to_numpy(dtype=bool))
    assert 0 < (kept == 0).sum() < kept.size
    for measure in contents.facts["measures"]:
        ranks = ranks_of(contents, measure)[-1]
        scores = mask_scores(last, measure["name"]).to_numpy()
        gone = scores == -np.inf
        assert set(ranks[gone]) == set(range(gone.sum()))


def test_values_of_measures_are_those_of_pv_score(runs: pv.Runs, contents: RunContents) -> None:
    forms = set()
    for measure in contents.facts["measures"]:
        scores = pv.score(runs, measure["name"]).to_numpy()
        if measure["like"]:
            name, form = measure["like"]
            column = next(each for each in contents.facts["columns"] if each["name"] == name)
            values = held(contents, column["block"]).astype("float64").reshape(-1)
            found = {"size": np.abs, "root": np.sqrt}.get(form, np.array)(values)
            assert np.array_equal(found, scores, equal_nan=True)
            forms.add(form)
        else:
            ordered = held(contents, measure["ordered"]).astype("float64")
            found = np.take_along_axis(ordered, ranks_of(contents, measure), axis=1).reshape(-1)
            assert np.allclose(found, scores, rtol=2**-20, atol=0, equal_nan=True)
            forms.add(None)
    assert forms == {"value", "size", "root", None}


def test_scores_below_float32_keep_their_ranks_and_values(runs: pv.Runs) -> None:
    tiny = runs.filters.assign(sigma=runs.filters["sigma"].astype("float64") * 1e-30)
    tiny["sigma_delta"] = tiny["sigma_delta"].astype("float64") * 1e-30
    contents = run_contents(pv.Runs(runs.spec, runs.epochs, tiny, runs.rounds))
    measure = next(each for each in contents.facts["measures"] if each["name"] == "sigma_change")
    assert measure["flat"] == [0]
    scores = pv.score(tiny, "sigma_change").to_numpy().reshape(5, -1)
    ranks = ranks_of(contents, measure)
    assert np.array_equal(np.argsort(ranks[1]), np.argsort(scores[1], kind="stable"))
    assert 0 < scores[1].min() < 1e-60
    ordered = held(contents, measure["ordered"])[1]
    assert np.allclose(ordered, np.sort(scores[1]), rtol=2**-20, atol=0)


def test_a_column_of_text_is_refused(runs: pv.Runs) -> None:
    table = runs.filters.assign(theta_g="much")
    with pytest.raises(ReportError, match="column theta_g holds no numbers"):
        run_contents(pv.Runs(runs.spec, runs.epochs, table, runs.rounds))


def test_epochs_without_a_ranking_are_named(contents: RunContents) -> None:
    flat = {each["name"]: each["flat"] for each in contents.facts["measures"]}
    assert flat["bn_scale"] == [0]  # all scales are 1 before training
    assert flat["magnitude"] == []


def test_curves_are_the_epochs_table(runs: pv.Runs, contents: RunContents) -> None:
    curves = contents.facts["curves"]
    for name in ("test_acc", "mask_distance", "lr"):
        expected = runs.epochs[name].astype("float64")
        found = pd.Series(curves[name]["values"], dtype="float64")
        assert np.array_equal(found, expected, equal_nan=True)


def test_only_measured_epochs_are_shown() -> None:
    runs = pv.load(ROOT / "data" / "cifar-mini" / "vgg13-cifar100-unpruned-s3")
    whole = run_contents(runs).facts
    measured = runs.filters.dropna(subset="theta_g")["epoch"].unique()
    assert whole["epochs"] == sorted(measured)
    assert len(whole["curves"]["epoch"]["values"]) == runs.epochs["epoch"].nunique()


def test_runs_without_derivatives_show_all_their_epochs(runs: pv.Runs) -> None:
    cheap = runs.filters[["run", "epoch", "layer", "filter", "kept", "sigma"]]
    found = run_contents(pv.Runs(runs.spec, runs.epochs, cheap, runs.rounds)).facts
    assert found["epochs"] == sorted(runs.filters["epoch"].unique())
    assert [each["name"] for each in found["columns"]] == ["sigma"]


def test_a_row_that_an_epoch_lacks_is_null_there(runs: pv.Runs) -> None:
    table = runs.filters
    gone = (
        (table["epoch"] == table["epoch"].unique()[3])
        & (table["layer"] == table["layer"].iloc[0])
        & (table["filter"] == 2)
    )
    fewer = pv.Runs(runs.spec, runs.epochs, table[~gone].reset_index(drop=True), runs.rounds)
    contents = run_contents(fewer)
    column = next(each for each in contents.facts["columns"] if each["name"] == "theta_g")
    values = held(contents, column["block"])
    assert np.isnan(values[3]).sum() == 1 and not np.isnan(values[4]).any()
    assert (held(contents, contents.facts["kept"])[3] == 2).sum() == 1
    for measure in contents.facts["measures"]:
        assert (ranks_of(contents, measure)[3] < 0).sum() == 1


def test_rows_in_any_order_are_matched_by_name(runs: pv.Runs, contents: RunContents) -> None:
    mixed = runs.filters.sample(frac=1, random_state=0).reset_index(drop=True)
    other = run_contents(pv.Runs(runs.spec, runs.epochs, mixed, runs.rounds))
    names = {each["name"]: each["block"] for each in contents.facts["columns"]}
    one = table_of(contents, **names).set_index(KEYS).sort_index()
    found = table_of(other, **names).set_index(KEYS).sort_index()
    pd.testing.assert_frame_equal(found, one)


def test_a_column_that_is_not_recorded_is_refused(runs: pv.Runs) -> None:
    with pytest.raises(ReportError, match="no recorded column 'thetag'; did you mean 'theta_g'"):
        contents_of(runs, ["thetag"])


def test_no_runs_are_refused(runs: pv.Runs) -> None:
    with pytest.raises(ReportError, match="no runs"):
        contents_of(runs.named([]))


def test_too_many_rows_are_refused(runs: pv.Runs) -> None:
    many = pd.DataFrame(
        {"run": runs.spec["run"].iloc[0], "epoch": 0, "layer": "a", "filter": np.arange(200_001)}
    ).assign(theta_g=1.0)
    with pytest.raises(ReportError, match=r"200,001 rows an epoch.*rows=100000"):
        run_contents(pv.Runs(runs.spec, runs.epochs, many, runs.rounds))


def test_a_run_without_filters_is_refused(runs: pv.Runs) -> None:
    none = pv.Runs(runs.spec, runs.epochs, runs.filters.iloc[:0], runs.rounds)
    with pytest.raises(ReportError, match="has no filters yet"):
        run_contents(none)
