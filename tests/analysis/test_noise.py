"""Values clear of noise: Student's quantile of the best standard error that there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pruneviz as pv
from pruneviz.analysis.noise import (
    clear_of_noise,
    degrees_of_freedom,
    error_columns,
    errors_of,
    noise_quantile,
    stated_degrees,
    with_degrees,
)
from pruneviz.errors import AnalysisError
from pruneviz.log import schema
from pruneviz.log.request_columns import DRAWS
from pruneviz.log.thinning import thin
from tests.support.synthetic_runs import SMALL, make_runs, save_runs

DATA = Path(__file__).parents[2] / "data"


def test_every_error_column_is_one_that_a_log_can_have() -> None:
    for quantity in ("theta_g", "theta_hg", "abs_theta_g"):
        assert error_columns(quantity)
        assert all(schema.is_filter_column(name) for name in error_columns(quantity))
    assert error_columns("sigma") == ()


def test_the_quantile_is_that_of_student() -> None:
    degrees = [1, 2, 4, 37.5, 2400, 1e7]
    np.testing.assert_allclose(
        noise_quantile(pd.Series(degrees)), stats.t.ppf(0.975, degrees), rtol=1e-9
    )
    np.testing.assert_allclose(noise_quantile(np.inf), stats.norm.ppf(0.975), rtol=1e-6)
    assert np.isnan(noise_quantile(np.nan)) and np.isnan(noise_quantile(0))


def test_by_noise_alone_one_in_twenty_is_clear_whatever_the_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    for terms in (3, 5, 40):
        values = rng.normal(size=(40_000, terms))
        error = values.std(1, ddof=1) / np.sqrt(terms)
        table = pd.DataFrame({"theta_g": values.mean(1), "theta_g_se": error})
        # 3 binomial standard deviations around 5 %
        assert abs(clear_of_noise(table, "theta_g", terms - 1).mean() - 0.05) < 0.0033


def test_each_row_takes_the_best_error_it_has() -> None:
    nan = np.nan
    table = pd.DataFrame(
        {
            "theta_hg": [1.0, 1.0, 1.0, 1.0, nan],
            "theta_hg_se": [0.1, nan, nan, nan, 0.1],
            "theta_hg_se_given_g": [9.0, 9.0, nan, nan, 0.1],
            "theta_hg_se_given_g_iid": [nan, nan, 0.2, nan, 0.1],
        }
    )
    found = clear_of_noise(table, "theta_hg", 100)
    assert found.tolist() == [True, pd.NA, pd.NA, pd.NA, pd.NA]
    assert found.name == "theta_hg_clear"
    asked = clear_of_noise(table, "theta_hg", 100, given_g=True)
    assert asked.tolist() == [False, False, True, pd.NA, pd.NA]
    assert asked.name == "theta_hg_clear (g held fixed)"
    assert [each.name for each in errors_of(table, "theta_hg")] == ["theta_hg_se"]
    assert all("g held fixed" in e.meaning for e in errors_of(table, "theta_hg", given_g=True))
    with pytest.raises(AnalysisError, match="theta_g with g held fixed; there are those of theta_"):
        clear_of_noise(table.assign(theta_g=1.0), "theta_g", 100, given_g=True)
    assert errors_of(table.iloc[[3]], "theta_hg") == []
    assert clear_of_noise(table, "theta_hg", np.nan).isna().all()


def test_errors_of_eight_half_samples_have_eight_degrees_of_freedom() -> None:
    between = [(stats.t.ppf(0.975, 8) + stats.norm.ppf(0.975)) / 2] * 2
    table = pd.DataFrame({"theta_hg": between, "theta_hg_se": 1.0})
    assert not clear_of_noise(table.assign(se_df=5000), "theta_hg").any()
    # what is given is taken as it is
    assert clear_of_noise(table, "theta_hg", 5000).all()
    assert not clear_of_noise(table, "theta_hg", 8).any()
    absolute = pd.DataFrame({"abs_theta_g": between, "abs_theta_g_se": 1.0})
    assert not clear_of_noise(absolute.assign(se_df=5000), "abs_theta_g").any()
    least = stats.t.ppf(0.975, 1 / (1 / 3 + 2 / 5 / 8))
    absolute = pd.DataFrame({"abs_theta_g": [0.99 * least, 1.01 * least], "abs_theta_g_se": 1.0})
    assert clear_of_noise(absolute.assign(se_df=3), "abs_theta_g").tolist() == [False, True]


def test_what_has_no_error_and_unknown_degrees_are_said() -> None:
    table = pd.DataFrame({"theta_g": [1.0], "theta_g_se": [0.1], "sigma": [1.0]})
    with pytest.raises(AnalysisError, match=r"no column holds standard errors of sigma; .*theta_g"):
        clear_of_noise(table, "sigma", 9)
    with pytest.raises(AnalysisError, match="does not say how many degrees of freedom"):
        clear_of_noise(table, "theta_g")
    table.attrs["se_df"] = 4
    assert clear_of_noise(table, "theta_g").all()


def test_degrees_of_freedom_are_stored_or_follow_from_the_sample_of_older_runs() -> None:
    runs = pv.load([DATA / "short", DATA / "cifar-mini-batch"])
    found = degrees_of_freedom(runs.spec)
    by_run = runs.spec.set_index("run")
    assert (found[by_run["bn"] == "batch"] == 4).all()  # 500 images, 100 at a time
    eval_ = by_run[by_run["bn"] == "eval"]
    assert (found[eval_.index] == eval_["sample_size"] - 1).all()
    told = runs.spec.assign(se_df=[7.0, *[np.nan] * (len(runs) - 1)])
    assert degrees_of_freedom(told).iloc[0] == 7
    assert degrees_of_freedom(told).iloc[1:].equals(found.iloc[1:])
    unknown = runs.spec.drop(columns="sample_batch_size")
    assert degrees_of_freedom(unknown)[by_run["bn"] == "batch"].isna().all()


def test_rows_of_runs_get_the_degrees_of_their_run() -> None:
    runs = pv.load(DATA / "cifar-mini-batch")
    table = with_degrees(runs.filters, runs.spec)
    assert set(table["se_df"]) == {4.0}
    error, value = table["theta_g_se_iid"].astype(float), table["theta_g"].astype(float)
    expected = value.abs() > stats.t.ppf(0.975, 4) * error
    known = error.notna() & value.notna()
    found = clear_of_noise(table, "theta_g")
    assert (found[known] == expected[known]).all() and found[~known].isna().all()
    pd.testing.assert_series_equal(clear_of_noise(runs, "theta_g"), found)
    with pytest.raises(AnalysisError, match=r"the runs themselves instead of runs\.filters"):
        clear_of_noise(runs.filters, "theta_g")


def test_errors_of_half_samples_have_their_own_degrees_of_freedom() -> None:
    assert stated_degrees(4, ["theta_g_se"], "filter") == {"se_df": 4}
    full = ["theta_g_se", "theta_hg_se"]
    drawn = 1 / (1 / 8 + 7 / 80)
    assert stated_degrees(8, full, "filter") == pytest.approx({"se_df": 8, "se_df_drawn": drawn})
    assert stated_degrees(8, full, "weight") == pytest.approx(
        {"se_df": drawn, "se_df_drawn": drawn}
    )
    assert stated_degrees(1, full, "weight")["se_df_drawn"] == 1.0
    table = pd.DataFrame({"theta_hg": [2.2, 2.2], "theta_hg_se": [1.0, np.nan]})
    table["theta_hg_se_given_g"] = 1.0
    table.attrs = stated_degrees(10_000, full, "filter")
    assert clear_of_noise(table, "theta_hg").tolist() == [False, pd.NA]
    assert clear_of_noise(table, "theta_hg", given_g=True).all()
    spec = pd.DataFrame({"run": ["a"], **{name: [n] for name, n in table.attrs.items()}})
    of_runs = with_degrees(table.assign(run="a"), spec.assign(sample_size=10_100))
    of_runs.attrs = {}
    assert clear_of_noise(of_runs, "theta_hg").tolist() == [False, pd.NA]


@pytest.mark.parametrize("terms", [2, 4, 5, 40])
def test_by_noise_alone_one_in_twenty_is_clear_of_an_error_from_half_samples(terms: int) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(20_000, terms))
    squares = 0.0
    for _ in range(DRAWS):
        order = rng.permuted(np.tile(np.arange(terms), (20_000, 1)), axis=1)
        shuffled = np.take_along_axis(values, order, axis=1)
        one, other = shuffled[:, : terms // 2], shuffled[:, terms // 2 :]
        shrink = 4 * one.shape[1] * other.shape[1] / terms**2
        squares += (one.mean(1) - other.mean(1)) ** 2 / 4 * shrink / DRAWS
    table = pd.DataFrame({"abs_theta_g": values.mean(1), "abs_theta_g_se": np.sqrt(squares)})
    table.attrs = stated_degrees(terms - 1, ["abs_theta_g_se"], "filter")
    assert abs(clear_of_noise(table, "abs_theta_g").mean() - 0.05) < 0.007


def test_errors_that_a_thin_copy_left_out_are_missed_only_if_nothing_better_is_there(
    tmp_path: Path,
) -> None:
    runs = make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), epochs=2, every=1)
    size = runs.filters["theta_g"].abs()
    errors = {"theta_g_se": size / 3, "theta_g_se_iid": size / 2}
    spec = runs.spec.assign(se_df=99.0)
    save_runs(replace(runs, spec=spec, filters=runs.filters.assign(**errors)), tmp_path / "full")
    (path,) = (tmp_path / "full").iterdir()
    whole = clear_of_noise(pv.load(path), "theta_g")
    assert whole.notna().all() and whole.any()
    best = pv.load(thin(path, tmp_path / "best", columns=["theta_g", "theta_g_se"]).path)
    pd.testing.assert_series_equal(clear_of_noise(best, "theta_g"), whole)
    for kept in (["theta_g"], ["theta_g", "theta_g_se_iid"], ["theta_g_se"]):
        copy = pv.load(thin(path, tmp_path / "-".join(kept), columns=kept).path)
        with pytest.raises(AnalysisError, match=r"the thin copy vgg13-digits-s0 left out theta_g"):
            clear_of_noise(copy, "theta_g")
