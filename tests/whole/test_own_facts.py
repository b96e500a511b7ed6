"""Facts of one's own that are called like columns of the tables that plots make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pruneviz as pv
from pruneviz import plot
from pruneviz.log.run_spec import SPEC_FACTS
from pruneviz.log.runs import Runs
from pruneviz.log.thinning import thin
from pruneviz.plot.groups import facts_apart, name_in
from tests.support.synthetic_runs import make_pruned_runs, make_runs, save_runs

TINY = {"vgg13": (3, 4)}
SPARE = "spare"  # a fact that no column is called like
RESERVED = ("kept", "epoch")  # the recorder writes the first, `by` refuses the second


def with_fact(runs: Runs, name: str) -> Runs:
    """Two settings that only a fact tells apart, of two seeds each."""
    spec = runs.spec.assign(seed=[0, 1, 0, 1], **{name: [0.25, 0.25, 0.5, 0.5]})
    return replace(runs, spec=spec)


@pytest.fixture(scope="module")
def measured() -> Runs:
    runs = make_runs(TINY, seeds=(0, 1, 2, 3), epochs=1, every=1)
    return replace(runs, epochs=runs.epochs.assign(test_acc=0.5))


@pytest.fixture(scope="module")
def pruned() -> Runs:
    return make_pruned_runs(TINY, ("magnitude",), seeds=(0, 1, 2, 3), rounds=(1,), epochs=2)


def correlated(runs: Runs, **asked: Any) -> pd.DataFrame:
    return plot.correlation.table(runs, "theta_g", "theta_hg", mask_score="magnitude", **asked)


TABLES: dict[str, Callable[[Runs, str], pd.DataFrame]] = {
    "accuracy": lambda runs, _: plot.accuracy.table(runs),
    "accuracy by": lambda runs, fact: plot.accuracy.table(runs, by=fact),
    "layer values": lambda runs, _: plot.layer_ratios.table(runs, "theta_g"),
    "correlation": lambda runs, _: correlated(runs),
    "correlation by": lambda runs, fact: correlated(runs, by=fact),
    "scatter": lambda runs, _: plot.scatter.table(runs, "theta_g", "theta_hg", epochs=-1),
    "heatmap": lambda runs, _: plot.heatmap.table(runs, ["magnitude", "theta_g"]),
    "trajectory": lambda runs, _: plot.trajectory.table(runs, "theta_g", epochs=-1),
    "masks": lambda runs, _: plot.masks.table(runs, epochs=-1),
}


def own_names(table: pd.DataFrame) -> list[str]:
    """Columns of a table that a fact of one's own can be called like."""
    names = (*map(str, table), "line", "setting")
    return [name for name in names if name not in {*SPEC_FACTS, *RESERVED, SPARE}]


@pytest.mark.parametrize("kind", TABLES)
def test_a_fact_may_be_called_like_any_column_of_the_table(measured: Runs, kind: str) -> None:
    plain = TABLES[kind](with_fact(measured, SPARE), SPARE)
    held = [name for name in plain if name not in (SPARE, "group")]
    for name in own_names(plain):
        table = TABLES[kind](with_fact(measured, name), name)
        pd.testing.assert_frame_equal(table[held], plain[held], obj=f"{kind}, {name}")


def test_shares_may_be_told_apart_by_a_fact_called_like_a_column(pruned: Runs) -> None:
    plain = plot.layer_ratios.table(with_fact(pruned, SPARE))
    held = [name for name in plain if name != SPARE]
    for name in own_names(plain):
        table = plot.layer_ratios.table(with_fact(pruned, name))
        pd.testing.assert_frame_equal(table[held], plain[held], obj=name)


def test_pictures_tell_lines_apart_by_a_fact_called_like_a_column(measured: Runs) -> None:
    lines = plot.correlation(
        with_fact(measured, "group"), "theta_g", "theta_hg", by="group", mask_score=None
    )
    named = {text.get_text() for text in lines.legends[0].get_texts()}
    assert {"group 0.25", "group 0.5"} <= named
    points = plot.scatter(
        with_fact(measured, "seeds"), "theta_g", "theta_hg", hue="seeds", epochs=-1
    )
    assert {"seeds 0.25", "seeds 0.5"} <= {t.get_text() for t in points.legends[0].get_texts()}


def test_runs_that_a_loop_of_ones_own_pruned_have_a_curve_of_their_own(measured: Runs) -> None:
    accuracy = measured.epochs["run"].astype(str).str.endswith(("s2", "s3")).map({True: 0.4})
    runs = replace(measured, epochs=measured.epochs.assign(test_acc=accuracy.fillna(0.2)))
    spec = runs.spec.assign(seed=[0, 1, 0, 1], pruned=[None, None, True, True])
    runs = replace(runs, spec=spec)
    for table in (plot.accuracy.table(runs), plot.accuracy.table(runs, by="pruned")):
        assert table.groupby("epoch")["test_acc"].apply(sorted).tolist() == [[0.2, 0.4]] * 2
        assert table["pruned (fact)"].notna().tolist() == (table["test_acc"] == 0.4).tolist()
        assert not table["pruned"].any()
    picture = plot.accuracy(runs)
    named = {text.get_text().strip() for text in picture.legends[0].get_texts()}
    assert {"no pruned", "pruned"} <= named


def test_the_default_colour_is_depth_whatever_a_fact_is_called(measured: Runs) -> None:
    table = plot.scatter.table(with_fact(measured, "depth"), "theta_g", "theta_hg", epochs=-1)
    assert set(table["depth"]) == {1, 2}


def test_a_fact_of_every_recording_may_tell_lines_apart() -> None:
    measured = make_runs(TINY, seeds=(0, 1, 2, 3), epochs=2, every=1)  # scales are equal at first
    scores = ["bn_scale"] * 2 + ["magnitude"] * 2
    runs = replace(measured, spec=measured.spec.assign(mask_score=scores))
    table = plot.correlation.table(runs, "theta_g", "theta_hg", by="mask_score")
    assert set(table["mask_score (fact)"]) == {"bn_scale", "magnitude"}
    masks = table.dropna(subset=["mask_score"])
    assert len(masks)
    assert (masks["mask_score"] == masks["mask_score (fact)"]).all()


def test_columns_beside_a_value_are_taken_too() -> None:
    spec = pd.DataFrame({"run": ["a"], "note_sd": [1], "note": [2], "loss_run1": [3], "x": [4]})
    apart = facts_apart(spec, ["note", "loss", "run"], by="run")
    assert list(apart) == [
        *("run", "note_sd (fact)", "note (fact)", "loss_run1 (fact)", "x", "run (fact)")
    ]
    assert [name_in(apart, name) for name in ("note", "x")] == ["note (fact)", "x"]


@pytest.mark.parametrize("kind", [kind for kind in TABLES if not kind.endswith("by")])
def test_runs_of_two_versions_are_one_setting(measured: Runs, kind: str, tmp_path: Path) -> None:
    """Older recordings lack facts of the recorder that are called like columns, and columns."""
    save_runs(measured, tmp_path / "full")
    columns = ["sigma", "sigma_delta", "theta_g", "theta_hg", "abs_theta_g", "theta_norm2"]
    for run in sorted((tmp_path / "full").iterdir()):
        newer = run.name.endswith(("s2", "s3"))
        thin(run, tmp_path / "mixed", columns=[*columns, "theta2_abs_g"] if newer else columns)
    full, mixed = pv.load(tmp_path / "full"), pv.load(tmp_path / "mixed")
    versions = mixed.spec["seed"].isin([2, 3])
    facts = {name: versions.map({True: "new", False: None}) for name in ("kept", "rows")}
    mixed = replace(mixed, spec=mixed.spec.assign(**facts))
    pd.testing.assert_frame_equal(TABLES[kind](mixed, SPARE), TABLES[kind](full, SPARE))


def test_a_column_that_one_setting_lacks_is_null_in_its_points(
    measured: Runs, tmp_path: Path
) -> None:
    filters = measured.filters.assign(theta_g_se=0.1)
    save_runs(replace(measured, filters=filters), tmp_path / "full")
    for run in sorted((tmp_path / "full").iterdir()):
        error = ["theta_g_se"] if run.name.endswith(("s2", "s3")) else []
        thin(run, tmp_path / "mixed", columns=["theta_g", "theta_hg", *error])
    mixed = with_fact(pv.load(tmp_path / "mixed"), SPARE)
    table = plot.scatter.table(mixed, "theta_g", "theta_hg", epochs=-1)
    known = table["theta_g_se"].notna()
    assert set(table["run"].astype(str).str[-1].where(known).dropna()) <= {"2", "3"}
    assert known.any() and (~known).any()
