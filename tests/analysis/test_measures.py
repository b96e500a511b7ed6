"""Measures of one's own: registered, as functions, as text; and what they return."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.analysis.measures import names, resolve
from pruneviz.errors import AnalysisError, ScoreError
from pruneviz.log.scan import scan

RUN = Path(__file__).parents[2] / "data" / "short"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    for name in set(names()) - set(pv.SCORES):
        pv.measures.unregister(name)


def table(rows: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows, 2)).astype("float32")
    keys = {"run": "r", "epoch": 0, "layer": ["a", "b"] * (rows // 2), "filter": range(rows)}
    return pd.DataFrame({**keys, "theta_g": values[:, 0], "theta_norm2": values[:, 1] ** 2})


def relative(filters: pd.DataFrame) -> pd.Series:
    return filters["theta_g"].abs() / filters["theta_norm2"]


def without_needs(filters: pd.DataFrame) -> pd.Series:
    return filters["theta_g"] ** 3


def plain() -> np.ndarray:
    values = table().astype({"theta_g": "float64", "theta_norm2": "float64"})
    return (values["theta_g"].abs() / values["theta_norm2"]).to_numpy()


def test_a_registered_measure_is_a_measure_by_name_and_as_a_function() -> None:
    own = pv.measures.register("relative to size", needs=["theta_g", "theta_norm2"])(relative)
    assert own is relative and names()[-1] == "relative to size"
    for given in ("relative to size", relative):
        found = pv.score(table().set_index(np.arange(5, 11)), given)
        assert found.name == "relative to size" and found.dtype == "float64"
        assert found.index.tolist() == list(range(5, 11))
        np.testing.assert_array_equal(found, plain())
    assert "relative to size" in pv.recorded_measures(table())
    pv.measures.unregister("relative to size")
    with pytest.raises(ScoreError, match="no pruning measure 'relative to size'"):
        pv.score(table(), "relative to size")


def test_a_function_says_its_needs_by_an_attribute_or_gets_the_whole_table() -> None:
    assert resolve(without_needs).needs is None
    np.testing.assert_array_equal(pv.score(table(), without_needs), table()["theta_g"] ** 3)

    def of_needs(filters: pd.DataFrame) -> Any:
        assert list(filters) == ["theta_g"] and filters["theta_g"].dtype == "float64"
        return filters.pop("theta_g").to_numpy()

    of_needs.needs = "theta_g"  # type: ignore[attr-defined]
    given = table()
    np.testing.assert_array_equal(pv.score(given, of_needs), given["theta_g"])


def test_a_function_sees_one_run_at_one_epoch() -> None:
    def ranks(filters: pd.DataFrame) -> pd.Series:
        return filters["theta_g"].rank()

    runs = [table().assign(run=run, epoch=epoch) for run in "ab" for epoch in (0, 3)]
    runs = [part.assign(theta_g=part["theta_g"] * (1 + i)) for i, part in enumerate(runs)]
    mixed = pd.concat(runs, ignore_index=True).sample(frac=1, random_state=0)
    by_hand = mixed.groupby(["run", "epoch"])["theta_g"].rank()
    for found in (pv.score(mixed, ranks), pv.score(mixed.astype({"run": "category"}), ranks)):
        pd.testing.assert_series_equal(found, by_hand, check_names=False)


def test_a_built_in_function_keeps_its_name() -> None:
    assert resolve(pv.SCORES["magnitude"]) == resolve("magnitude")


def test_functions_go_wherever_names_go() -> None:
    runs = pv.load(RUN)
    filters = runs.filters

    @pv.measures.register("twice", needs="sigma")
    def twice(rows: pd.DataFrame) -> pd.Series:
        return 2 * rows["sigma"].abs()

    pd.testing.assert_frame_equal(
        pv.mask_distance(filters, score=twice), pv.mask_distance(filters, score="bn_scale")
    )
    expected = pv.correlate(filters, "bn_scale", "theta_g")
    pd.testing.assert_frame_equal(pv.correlate(filters, twice, "theta_g"), expected)
    pd.testing.assert_frame_equal(pv.correlate(scan(RUN), "twice", "theta_g"), expected)
    one = filters[filters["epoch"] == filters["epoch"].max()]
    matrix = pv.correlation_matrix(one, [twice, "bn_scale", without_needs])
    assert set(matrix["x"]) == {"twice", "bn_scale", "without_needs"}
    pair = matrix[(matrix["x"] == "twice") & (matrix["y"] == "bn_scale")]
    np.testing.assert_allclose(pair["r"], 1)
    pd.testing.assert_frame_equal(
        pv.robustness(one, twice, "theta_g"), pv.robustness(one, "bn_scale", "theta_g")
    )


def test_a_scan_needs_to_know_the_columns(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match=r"without_needs does not say which columns .*\.needs = "):
        pv.score(scan(RUN), without_needs, tmp_path / "scores.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "mine"}, r"'mine' has needs=None; name the columns"),
        ({"name": "mine", "needs": []}, r"'mine' has needs=\[\]"),
        ({"name": "mine", "needs": [3]}, r"'mine' has needs=\[3\]"),
        ({"name": "magnitude", "needs": "theta_g"}, "magnitude is a measure of pruneviz"),
        ({"name": "random_s3", "needs": "theta_g"}, "random_s3 is a measure of pruneviz"),
        ({"name": "theta_hg", "needs": "theta_g"}, "theta_hg is a column of filters tables"),
        ({"name": "theta_hg_t5", "needs": "theta_g"}, "theta_hg_t5 is a column"),
        ({"name": "a:b", "needs": "theta_g"}, "a name without ':'"),
        ({"name": "", "needs": "theta_g"}, "name=''"),
    ],
)
def test_what_cannot_be_registered_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ScoreError, match=said):
        pv.measures.register(**arguments)
    assert names() == list(pv.SCORES)


def test_a_name_that_exists_is_refused_unless_it_is_to_be_replaced() -> None:
    pv.measures.register("mine", needs="theta_g")(without_needs)
    with pytest.raises(ScoreError, match=r"'mine' is registered already.*replace=True"):
        pv.measures.register("mine", needs="theta_g")
    pv.measures.register("mine", needs=["theta_g", "theta_norm2"], replace=True)(relative)
    np.testing.assert_array_equal(pv.score(table(), "mine"), plain())
    with pytest.raises(ScoreError, match="'yours' is registered; there are \\[mine\\]"):
        pv.measures.unregister("yours")
    with pytest.raises(ScoreError, match="cannot be removed"):
        pv.measures.unregister("random")
    with pytest.raises(ScoreError, match="give a function"):
        pv.measures.register("text", needs="theta_g")("theta_g")  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        (lambda f: f["theta_g"].head(2), r"shape \(2,\).*each of the 6 rows"),
        (lambda f: f["theta_g"].sort_values(), "another index or order"),
        (lambda f: f["theta_g"].reset_index(drop=True), "another index or order"),
        (lambda f: f[["theta_g"]], "returned DataFrame"),
        (lambda f: f["theta_g"].sum(), "returned float"),
        (lambda f: None, "returned NoneType"),
        (lambda f: f["theta_g"] > 0, "dtype bool"),
        (lambda f: f["theta_g"].astype(str), "dtype str"),
        (lambda f: f["theta_g"].to_numpy()[:, None], r"shape \(6, 1\)"),
        (lambda f: f["theta_g"].to_numpy() * 1j, "dtype complex"),
    ],
)
def test_what_is_not_one_number_per_row_is_refused(formula: Any, said: str) -> None:
    filters = table().set_index(np.arange(5, 11))
    pv.measures.register("mine", needs="theta_g")(formula)
    with pytest.raises(ScoreError, match=f"measure mine {'.*'}{said}"):
        pv.score(filters, "mine")


def test_nulls_and_arrays_are_taken() -> None:
    def some(filters: pd.DataFrame) -> Any:
        return filters["theta_g"].astype("Float64").where(filters["filter"] > 1)

    assert pv.score(table(), some).isna().tolist() == [True, True, False, False, False, False]
    assert pv.score(table(), lambda f: list(range(len(f)))).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_column_that_is_not_there_is_named() -> None:
    pv.measures.register("mine", needs="theta_g")(relative)
    with pytest.raises(ScoreError, match=r"reads theta_norm2, which its needs \[theta_g\] do not"):
        pv.score(table(), "mine")
    pv.measures.register("other", needs="theta_g")(lambda f: f.theta_norm2)
    with pytest.raises(ScoreError, match="reads theta_norm2, which its needs"):
        pv.score(table(), "other")
    with pytest.raises(ScoreError, match=r"without_needs reads theta_g.* it has \[layer\]"):
        pv.score(pd.DataFrame({"layer": ["a"]}), without_needs)
    pv.measures.register("absent", needs=["theta_gg"])(without_needs)
    with pytest.raises(ScoreError, match=r"no theta_gg.*did you mean theta_g\?"):
        pv.score(table(), "absent")


def test_faults_of_a_function_itself_stay_what_they_are() -> None:
    for formula, error in (
        (lambda f: {"a": 1.0}["b"], KeyError),
        (lambda f: f["theta_g"].nothing, AttributeError),
    ):
        with pytest.raises(error) as found:
            pv.score(table(), formula)
        assert not isinstance(found.value, ScoreError)


def test_a_function_may_not_take_the_name_of_a_measure_or_column() -> None:
    def magnitude(filters: pd.DataFrame) -> pd.Series:
        return filters["theta_g"]

    with pytest.raises(ScoreError, match="magnitude is a measure of pruneviz"):
        pv.score(table(), magnitude)
    with pytest.raises(AnalysisError, match="two measures are called <lambda>"):
        pv.correlation_matrix(table(), [lambda f: f["theta_g"], lambda f: f["theta_norm2"]])


def test_text_names_a_function_of_a_module_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_text_measures.py").write_text(
        "def cubed(filters):\n    return filters['theta_g'] ** 3\n"
        "cubed.needs = ['theta_g']\nvalue = 3\n"
    )
    found = pv.score(table(), "own_text_measures:cubed")
    assert found.name == "own_text_measures:cubed"
    np.testing.assert_array_equal(found, table()["theta_g"].astype("float64") ** 3)
    assert resolve("own_text_measures:cubed").needs == ("theta_g",)
    for name in ("square", "value"):
        with pytest.raises(ScoreError, match=rf"no function '{name}'; it has \[cubed\]"):
            pv.score(table(), f"own_text_measures:{name}")
    with pytest.raises(ScoreError, match="'absent_module' cannot be imported"):
        pv.score(table(), "absent_module:cubed")


def test_random_has_a_draw_for_every_seed() -> None:
    filters = pd.concat([table(600).assign(epoch=epoch) for epoch in range(2)])
    draws = {seed: pv.score(filters, "random", seed=seed) for seed in range(3)}
    np.testing.assert_array_equal(draws[0], pv.score(filters, "random"))
    np.testing.assert_array_equal(draws[1], pv.score(filters, "random_s1"))
    assert draws[1].name == "random_s1"
    for a, b in ((0, 1), (1, 2)):
        assert abs(np.corrcoef(draws[a], draws[b])[0, 1]) < 0.1
        assert 0.45 < draws[b].mean() < 0.55
    shuffled = filters.sample(frac=1, random_state=0).reset_index(drop=True)
    by = ["epoch", "layer", "filter"]
    again = shuffled.assign(draw=pv.score(shuffled, "random_s2")).sort_values(by)["draw"]
    before = filters.assign(draw=draws[2]).sort_values(by)["draw"]
    np.testing.assert_array_equal(again, before)
    with pytest.raises(ScoreError, match="seed=1 is for the measure random"):
        pv.score(filters, "magnitude", seed=1)
    with pytest.raises(ScoreError, match="seed=-1; give a whole number"):
        pv.score(filters, "random", seed=-1)


def test_a_name_is_free_when_the_function_is_given_too() -> None:
    first, second = (pv.measures.register("mine", needs="theta_g") for _ in range(2))
    first(lambda filters: filters["theta_g"])
    try:
        with pytest.raises(ScoreError, match="'mine' is registered already"):
            second(lambda filters: -filters["theta_g"])
    finally:
        pv.measures.unregister("mine")


def test_a_method_keeps_its_registered_name() -> None:
    class Own:
        def slope(self, filters: pd.DataFrame) -> Any:
            return filters["theta_g"]

    own = Own()
    pv.measures.register("mine", needs="theta_g")(own.slope)
    try:
        assert resolve(own.slope).name == "mine"
    finally:
        pv.measures.unregister("mine")


@pytest.mark.parametrize("text", [":cubed", ".x:cubed", "stops:cubed", "breaks:cubed"])
def test_a_module_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "stops.py").write_text("raise SystemExit(3)")
    (tmp_path / "breaks.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScoreError, match=rf"measure '{text}': module .* cannot be imported"):
        resolve(text)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pv.measures.register("mine", needs=3), "needs=3; name the columns"),  # type: ignore[arg-type]
        (lambda: pv.score(table(), "random", seed=2**64), "random_s18446744073709551616: give a"),
        (lambda: pv.score(table(), "random_s99999999999999999999999"), "seed from 0 to 2"),
        (
            lambda: pv.score(table(), lambda filters: [[1], [1, 2]] + [1] * (len(filters) - 2)),
            "returned lists of several lengths",
        ),
    ],
)
def test_wrong_use_is_told(call: Any, message: str) -> None:
    with pytest.raises(ScoreError, match=message):
        call()
