"""Masks of a plot are those of the log where none are named, and never silently left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pruneviz import plot
from pruneviz.analysis.masks import mask_distance
from pruneviz.errors import AnalysisError, FigureError
from pruneviz.log.runs import Runs
from pruneviz.plot.mean_masks import AUTO, mask_ratio_of, mask_scores_of, mean_mask_distances
from tests.support.synthetic_runs import make_runs

SMALL = {"vgg13": (4, 6)}
X, Y = "theta_g", "theta_hg"


@pytest.fixture(scope="module")
def runs() -> Runs:
    found = make_runs(SMALL, seeds=(0,), epochs=4, every=2)
    return replace(found, spec=found.spec.assign(mask_score="magnitude", mask_ratio=0.5))


@pytest.fixture(scope="module")
def weights() -> Runs:
    found = make_runs(SMALL, seeds=(0,), epochs=4, every=2, unit="weight", mask_score="magnitude")
    distances = found.epochs.assign(mask_distance=0.25)
    return replace(found, spec=found.spec.assign(mask_ratio=0.5), epochs=distances)


def test_masks_are_those_of_the_log(runs: Runs) -> None:
    assert mask_scores_of(runs.spec) == ["magnitude", "bn_scale"]
    assert mask_ratio_of(runs.spec) == 0.5
    expected = mask_distance(runs.filters, "magnitude", 0.5).set_index("epoch")["distance"].dropna()
    curve = plot.correlation.table(runs, X, Y).dropna(subset=["mask_distance"])
    assert curve.set_index("epoch")["mask_distance"].to_dict() == pytest.approx(dict(expected))
    kept = plot.masks.table(runs)
    assert set(kept["score"]) == {"magnitude"} and set(kept["ratio"]) == {0.5}
    unknown = replace(runs, spec=runs.spec.assign(mask_score="no_such_module:measure"))
    assert set(plot.correlation.table(unknown, X, Y)["mask_score"].dropna()) == {"bn_scale"}


def test_without_a_log_of_masks_they_are_the_usual_ones() -> None:
    spec = make_runs(SMALL, seeds=(0,)).spec.drop(columns=["mask_score", "mask_ratio"])
    assert mask_scores_of(spec) == ["bn_scale", "magnitude"] and mask_ratio_of(spec) == 0.2
    assert mask_ratio_of(make_runs(SMALL).spec.assign(mask_ratio=[0.1, 0.3, 0.5])) == 0.2


def test_weights_have_the_logged_masks_and_no_others(weights: Runs) -> None:
    curve = plot.correlation.table(weights, X, Y)
    assert curve["mask_distance"].notna().any() and curve["chance"].max() == 0.5
    for options in ({"mask_ratio": 0.3}, {"mask_score": "l1_norm"}):
        with pytest.raises(FigureError, match=r"holds only mask distances by magnitude.* 0\.5"):
            plot.correlation.table(weights, X, Y, **options)  # type: ignore[arg-type]


def test_runs_with_several_logs_of_masks_have_none_in_common() -> None:
    several = make_runs(SMALL, seeds=(0, 1), unit="weight", mask_score="magnitude")
    spec = several.spec.assign(mask_ratio=[0.2, 0.5])
    assert mean_mask_distances(several, spec, AUTO, None) is None
    with pytest.raises(FigureError, match="holds only mask distances by"):
        mean_mask_distances(several, spec, AUTO, 0.2)


def test_several_logged_ratios_are_refused_by_name() -> None:
    found = make_runs(SMALL, seeds=(0, 1), epochs=4, every=2)
    mixed = replace(found, spec=found.spec.assign(mask_score="magnitude", mask_ratio=[0.5, 0.25]))
    with pytest.raises(FigureError, match=r"several ratios, 0\.25 and 0\.5, .*mask_ratio"):
        mean_mask_distances(mixed, mixed.spec, AUTO, None)
    assert mean_mask_distances(mixed, mixed.spec, AUTO, 0.25) is not None


@pytest.mark.parametrize("x", [X, [X, "magnitude"]])
@pytest.mark.parametrize("ratio", [2, -0.1, "0.2", float("nan")])
def test_a_ratio_is_a_fraction(runs: Runs, x: str | list[str], ratio: float) -> None:
    with pytest.raises(AnalysisError, match=r"ratio=.*from 0 to 1"):
        plot.correlation.table(runs, x, Y, mask_ratio=ratio)


def test_what_fails_for_another_reason_is_not_left_out(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise AnalysisError("broken")

    monkeypatch.setattr("pruneviz.plot.mean_masks._by", broken)
    with pytest.raises(AnalysisError, match="broken"):
        mean_mask_distances(runs, runs.spec, AUTO, None)


def test_pruned_weights_have_no_chance_level_that_only_filters_have(weights: Runs) -> None:
    kept = weights.epochs["epoch"].lt(3).map({True: 1.0, False: 0.5})
    pruned = replace(weights, epochs=weights.epochs.assign(kept_fraction=kept))
    found = mean_mask_distances(pruned, pruned.spec, "magnitude", 0.5)
    assert found is not None
    assert found.set_index("epoch")["chance"].isna().to_dict() == {
        epoch: epoch >= 3 for epoch in found["epoch"]
    }
