"""Keep masks and mask distances against plain Python, masks by hand and random masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import example
from hypothesis.strategies import integers, just, lists, none, one_of, sampled_from, tuples

from pruneviz.analysis.masks import distance_between, keep_mask, mask_distance, mask_scores
from pruneviz.analysis.scores import score
from pruneviz.errors import AnalysisError, ScoreError
from tests.support.plain_statistics import random_masks_apart
from tests.support.properties import for_all

# Scores with many ties, with nulls, zeros of both signs and the extremes of a float.
SCORES = lists(
    one_of(
        integers(-3, 3).map(float),
        sampled_from([np.nan, -0.0, np.inf, -np.inf, 5e-324, -1e308, 1e308]),
    ),
    max_size=60,
)
# Fractions as a person writes them: in per cent, in a thousandth, or one of few parts.
RATIOS = one_of(
    *(tuples(integers(0, parts), just(parts)) for parts in (100, 1000)),
    integers(1, 12).flatmap(lambda parts: tuples(integers(0, parts), just(parts))),
).map(lambda parts: Fraction(*parts))


def plain_keep(scores: list[float], ratio: float | Fraction) -> list[bool | None]:
    """Sort the positions by score and drop the first round(ratio * n)."""
    known = [i for i, value in enumerate(scores) if not np.isnan(value)]
    pruned = set(sorted(known, key=lambda i: (scores[i], i))[: round(ratio * len(known))])
    return [None if np.isnan(value) else i not in pruned for i, value in enumerate(scores)]


def log(sigmas: Mapping[int, Sequence[float]], run: str = "r0") -> pd.DataFrame:
    """Filters table of one run from {epoch: one sigma per filter}; half the filters per layer."""
    parts = []
    for epoch, sigma in sigmas.items():
        half = len(sigma) // 2
        rest = len(sigma) - half
        layer, channel = ["a"] * half + ["b"] * rest, [*range(half), *range(rest)]
        columns = {"run": run, "epoch": epoch, "layer": layer, "filter": channel, "sigma": sigma}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def random_log(epochs: int = 6, filters: int = 40, seed: int = 0, run: str = "r0") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return log({epoch: rng.normal(size=filters).tolist() for epoch in range(epochs)}, run)


def plain_distances(filters: pd.DataFrame, ratio: float, lag: int = 1) -> list[float]:
    """Compare masks, {filter: kept}, key by key; for one run without nulls."""
    masks = []
    for _, rows in filters.groupby("epoch"):
        keep = plain_keep(rows["sigma"].abs().tolist(), ratio)
        names = zip(rows["layer"], rows["filter"], strict=True)
        masks.append(dict(zip(names, keep, strict=True)))
    return [
        sum(now[name] != before[name] for name in now) / len(now)
        for before, now in zip(masks, masks[lag:], strict=False)
    ]


# Keep masks


@pytest.mark.parametrize("ratio", [0, 0.05, 0.2, 0.5, 0.999, 1])
def test_keep_mask_equals_plain_python(ratio: float) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        values = rng.integers(-5, 5, size=rng.integers(1, 60)).astype(float)  # many ties
        values[rng.random(len(values)) < 0.2] = np.nan
        found = keep_mask(pd.Series(values), ratio)
        assert found.dtype == "boolean"
        kept = [None if pd.isna(keep) else bool(keep) for keep in found]
        assert kept == plain_keep(values.tolist(), ratio)


@for_all(few=100, many=5_000, scores=SCORES, ratio=RATIOS)
@example(scores=[1.0] * 150, ratio=Fraction(29, 100))  # 43.5 rows, as floats a little less
@example(scores=[1.0] * 50, ratio=Fraction(7, 100))  # 3.5 rows, as floats a little more
def test_keep_masks_prune_the_exact_number_of_rows(scores: list[float], ratio: Fraction) -> None:
    found = keep_mask(pd.Series(scores, dtype="float64"), float(ratio))
    kept = [None if pd.isna(keep) else bool(keep) for keep in found]
    assert kept == plain_keep(scores, ratio)
    assert kept.count(False) == round(ratio * (len(scores) - kept.count(None)))


@for_all(
    few=40, many=5_000, rows=lists(tuples(*[one_of(integers(0, 4), none())] * 2)), ratio=RATIOS
)
@example(rows=[(i, (i + 1) % 250) for i in range(250)], ratio=Fraction(29, 100))
def test_the_distance_is_that_of_two_plain_masks(
    rows: list[tuple[int | None, int | None]], ratio: Fraction
) -> None:
    before, now = (pd.Series([row[at] for row in rows], dtype="float64") for at in (0, 1))
    found = distance_between(before, now, float(ratio))
    common = [[row[at] for row in rows if None not in row] for at in (0, 1)]
    masks = [plain_keep(scores, ratio) for scores in common]
    if min(len(set(scores)) for scores in common) < 2:
        assert np.isnan(found)
    else:
        assert found == np.mean(np.array(masks[0]) != np.array(masks[1]))
        assert (
            found == distance_between(now, before, float(ratio)) <= 2 * np.mean(~np.array(masks[0]))
        )


@pytest.mark.parametrize("seed", range(4))
def test_properties_of_keep_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = pd.Series(rng.normal(size=97), index=rng.permutation(97))
    ratios = (0.1, 0.35, 0.8)
    masks = [keep_mask(scores, ratio) for ratio in ratios]
    assert [int((~mask).sum()) for mask in masks] == [round(ratio * 97) for ratio in ratios]
    for mask, stricter in pairwise(masks):
        assert (mask | ~stricter).all()  # what a higher ratio keeps, a lower one keeps
    assert all(scores[~mask].max() < scores[mask].min() for mask in masks)
    pd.testing.assert_series_equal(keep_mask(scores**3, 0.35), masks[1])  # only ranks count
    pd.testing.assert_index_equal(masks[0].index, scores.index)


def test_ties_are_pruned_in_row_order() -> None:
    found = keep_mask(pd.Series([1.0, 0.0, 1.0, 1.0, -0.0]), 0.6)
    assert found.tolist() == [False, False, True, True, False]


def test_null_scores_are_neither_kept_nor_pruned() -> None:
    found = keep_mask(pd.Series([3.0, None, 1.0, None, 2.0], dtype="Float32"), 1 / 3)
    assert found.isna().tolist() == [False, True, False, True, False]
    assert found.dropna().tolist() == [True, False, True]
    assert keep_mask(pd.Series([np.nan, np.nan]), 0.5).isna().all()
    assert keep_mask(pd.Series([], dtype="float64"), 0.5).empty


@pytest.mark.parametrize("ratio", [-0.1, 1.5, 20, float("nan")])
def test_a_ratio_outside_0_to_1_is_refused(ratio: float) -> None:
    scores = pd.Series([1.0, 2.0])
    for call in (
        lambda: keep_mask(scores, ratio),
        lambda: distance_between(scores, scores, ratio),
        lambda: mask_distance(random_log(), ratio=ratio),
    ):
        with pytest.raises(AnalysisError, match=r"0\.2 for 20 %"):
            call()


# Distances between two masks


def test_distance_by_hand() -> None:
    before = pd.Series([1.0, 2.0, 3.0, 4.0, 5.0])  # prunes positions 0 and 1
    now = pd.Series([1.0, 6.0, 3.0, 2.0, 5.0])  # prunes positions 0 and 3
    assert distance_between(before, now, 0.4) == 2 / 5
    assert distance_between(before, -before, 0.4) == 4 / 5


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5, 0.8])
def test_random_masks_differ_in_2p_1_minus_p(ratio: float) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(30):
        before, now = (pd.Series(rng.random(2000)) for _ in range(2))
        found.append(distance_between(before, now, ratio))
    assert np.mean(found) == pytest.approx(2 * ratio * (1 - ratio), abs=0.005)


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5])
def test_the_largest_possible_distance_is_2p(ratio: float) -> None:
    scores = pd.Series(np.arange(200.0))
    assert distance_between(scores, -scores, ratio) == pytest.approx(2 * ratio)


@pytest.mark.parametrize("seed", range(4))
def test_a_distance_is_a_metric_between_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, c = (pd.Series(rng.random(50)) for _ in range(3))
    assert distance_between(a, a, 0.3) == 0
    assert distance_between(a, b, 0.3) == distance_between(b, a, 0.3) <= 0.6
    assert distance_between(a, c, 0.3) <= distance_between(a, b, 0.3) + distance_between(b, c, 0.3)


def test_scores_are_matched_by_index() -> None:
    before = pd.Series([1.0, 2.0, 3.0, 4.0], index=["a", "b", "c", "d"])
    assert distance_between(before, before[["d", "b", "a", "c"]], 0.25) == 0


def test_scores_of_other_filters_are_refused() -> None:
    scores = pd.Series([1.0, 2.0, 3.0])
    for other in (scores[:2], scores.set_axis([0, 1, 7]), scores.set_axis([0, 1, 1])):
        with pytest.raises(AnalysisError, match="do not name the same filters"):
            distance_between(scores, other, 0.5)


def test_a_distance_needs_scores_and_a_ranking() -> None:
    scores = pd.Series([1.0, 2.0, 3.0, np.nan])
    ones, nulls = scores * 0 + 1, scores * np.nan
    assert np.isnan([distance_between(scores, other, 0.4) for other in (ones, nulls)]).all()
    assert np.isnan(distance_between(ones, scores, 0.4))


def test_pruned_filters_are_always_masked_out() -> None:
    gone = -np.inf
    before = pd.Series([gone, gone, gone, 4.0, 5.0])
    now = pd.Series([gone, gone, gone, 5.0, 4.0])
    assert distance_between(before, now, 0.2) == 0  # three are gone already, more than the ratio
    assert distance_between(before, now, 0.8) == 2 / 5


# Mask distances of a log


@pytest.mark.parametrize("lag", [1, 2, 5])
@pytest.mark.parametrize("ratio", [0.2, 0.33])
def test_mask_distance_equals_plain_python(ratio: float, lag: int) -> None:
    filters = random_log()
    found = mask_distance(filters, ratio=ratio, lag=lag)
    assert found.columns.tolist() == ["run", "epoch", "ref_epoch", "distance", "chance"]
    assert found["epoch"].tolist() == list(range(lag, 6))
    assert (found["epoch"] - found["ref_epoch"] == lag).all()
    assert found["distance"].tolist() == plain_distances(filters, ratio, lag)
    q = round(ratio * 40) / 40
    np.testing.assert_allclose(found["chance"], 2 * q * (1 - q))


def test_mask_distance_by_hand() -> None:
    found = mask_distance(log({0: [1, 2, 3, 4, 5], 10: [-1, 6, 3, 2, 5]}), ratio=0.4)
    chance = pytest.approx(2 * 0.4 * 0.6)
    expected = {"run": "r0", "epoch": 10, "ref_epoch": 0, "distance": 0.4, "chance": chance}
    assert found.to_dict("records") == [expected]


def test_random_scores_differ_by_chance() -> None:
    found = mask_distance(random_log(epochs=20, filters=2000), score="random")
    assert found["distance"].mean() == pytest.approx(0.32, abs=0.005)
    np.testing.assert_allclose(found["chance"], 0.32)


@pytest.mark.parametrize("names", [{"a": "conv9", "b": "conv10"}, {"a": "conv1", "b": "conv2"}])
def test_the_distance_of_single_epochs_equals_that_of_the_log(names: dict[str, str]) -> None:
    # Many ties, and layers whose names do not sort in network order.
    filters = random_log().assign(
        layer=lambda rows: rows["layer"].map(names).astype("category"),
        sigma=lambda rows: rows["sigma"].round(),
    )
    groups = filters.groupby("epoch")
    epochs = [score(rows.reset_index(drop=True), "bn_scale") for _, rows in groups]
    live = [distance_between(before, now, 0.2) for before, now in pairwise(epochs)]
    assert mask_distance(filters)["distance"].tolist() == live


def test_filters_are_matched_by_name_and_not_by_row() -> None:
    filters = pd.concat([random_log(), random_log(seed=1, run="r1")], ignore_index=True)
    shuffled = filters.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(mask_distance(shuffled), mask_distance(filters))
    still = log({0: [1, 2, 3, 4]})
    reversed_ = pd.concat([still, still.iloc[::-1].assign(epoch=1)])
    assert mask_distance(reversed_, ratio=0.5)["distance"].tolist() == [0]


def weights_log(epochs: int = 4, seed: int = 0) -> pd.DataFrame:
    """A log of single weights: two layers of two filters with five weights each."""
    rng = np.random.default_rng(seed)
    keys = pd.MultiIndex.from_product(
        [range(epochs), ["b", "a"], [0, 1], range(5)], names=["epoch", "layer", "filter", "weight"]
    )
    norm2 = rng.integers(0, 9, len(keys)).astype(float)
    return keys.to_frame(index=False).assign(run="w", theta_norm2=norm2)


def test_single_weights_are_positions_matched_by_name() -> None:
    filters = weights_log()
    groups = filters.groupby("epoch")
    masks = [plain_keep(np.sqrt(rows["theta_norm2"]).tolist(), 0.3) for _, rows in groups]
    expected = [np.mean(np.array(before) != np.array(now)) for before, now in pairwise(masks)]
    assert mask_distance(filters, "magnitude", 0.3)["distance"].tolist() == expected
    first = filters[filters["epoch"] == 0]
    rest = filters[filters["epoch"] > 0].sample(frac=1, random_state=0)
    shuffled = pd.concat([first, rest])
    assert mask_distance(shuffled, "magnitude", 0.3)["distance"].tolist() == expected
    with pytest.raises(AnalysisError, match="has a filter twice"):
        mask_distance(filters.drop(columns="weight"), "magnitude")


def test_a_log_of_filters_and_one_of_weights_have_the_distances_of_each_alone() -> None:
    weights = weights_log()
    filters = random_log().assign(theta_norm2=lambda rows: rows["sigma"].abs())
    both = mask_distance(pd.concat([filters, weights], ignore_index=True), "magnitude")
    assert both["distance"].tolist() == [
        *mask_distance(filters, "magnitude")["distance"],
        *mask_distance(weights, "magnitude")["distance"],
    ]


def test_ties_are_broken_alike_at_every_epoch() -> None:
    tied = log({0: [1, 1, 1, 1, 2, 2]})
    reversed_ = pd.concat([tied, tied.iloc[::-1].assign(epoch=1)])
    assert mask_distance(reversed_, ratio=0.5)["distance"].tolist() == [0]


def test_runs_do_not_mix_and_keep_their_dtype() -> None:
    runs = {name: random_log(seed=seed, run=name) for seed, name in enumerate(["b", "a"])}
    filters = pd.concat(runs.values(), ignore_index=True).astype({"epoch": "int32"})
    filters["run"] = pd.Categorical(filters["run"], categories=["b", "a", "unused"])
    filters["layer"] = filters["layer"].astype("category")
    found = mask_distance(filters)
    assert found["run"].tolist() == ["b"] * 5 + ["a"] * 5
    dtypes = [filters["run"].dtype, "int32", "int32"]
    assert found.dtypes[["run", "epoch", "ref_epoch"]].tolist() == dtypes
    for name, alone in runs.items():
        mine = found.loc[found["run"] == name, "distance"]
        assert mine.tolist() == mask_distance(alone)["distance"].tolist()


def test_the_reference_is_the_last_epoch_that_has_the_score() -> None:
    filters = random_log(epochs=7)
    filters["theta_hg"] = filters["sigma"].where(filters["epoch"] % 3 == 0)
    found = mask_distance(filters, score="gradient_norm_preservation")
    assert found[["epoch", "ref_epoch"]].to_numpy().tolist() == [[3, 0], [6, 3]]
    assert found["distance"].tolist() == plain_distances(filters[filters["epoch"] % 3 == 0], 0.2)


def test_epochs_without_a_ranking_have_no_distance() -> None:
    found = mask_distance(log({0: [1.0] * 5, 1: [1, 2, 3, 4, 5], 2: [1, 2, 3, 5, 4]}), ratio=0.4)
    assert found["distance"].isna().tolist() == [True, False]
    assert found["chance"].notna().all()


def test_filters_without_batch_norm_are_no_positions() -> None:
    sigmas = {0: [1, 2, 3, 4, 5], 1: [1, 6, 3, 2, 5]}
    with_linear = log({epoch: [*sigma, np.nan, np.nan] for epoch, sigma in sigmas.items()})
    found, expected = mask_distance(with_linear, ratio=0.4), mask_distance(log(sigmas), ratio=0.4)
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("sigma_of_pruned", [0.0, 9.0, np.nan])
def test_pruned_filters_of_a_log_stay_masked_out(sigma_of_pruned: float) -> None:
    # Filter 0 is pruned at epoch 1. So is filter 5, which has no batch norm: it is no position.
    gone, absent = sigma_of_pruned, np.nan
    first = [1, 2, 3, 4, 5, absent]
    filters = log({0: first, 1: [gone, 2, 3, 5, 4, absent], 2: [gone, 3, 2, 5, 4, absent]})
    filters["kept"] = [True] * 6 + [False, True, True, True, True, False] * 2
    found = mask_distance(filters, ratio=0.4)
    assert found["distance"].tolist() == [0, 2 / 5]
    # Of five filters two are masked out, one of which is pruned: at epoch 1 by chance 0.4 of them
    # and then 1 of 4, at epoch 2 in both masks: 2 (0.4 - 0.2) (1 - 0.4) / (1 - 0.2).
    np.testing.assert_allclose(found["chance"], [0.2 * 0.6 + 0.8 * (0.4 * 0.75 + 0.25 * 0.6), 0.3])


def test_a_filter_counts_as_pruned_only_once_it_has_had_a_score() -> None:
    # Filter 0 is pruned from the start and has its first score at epoch 2. Until then it is no
    # position; filter 5 never is.
    absent = np.nan
    first, second = [absent, 2, 3, 4, 5, absent], [absent, 2, 3, 5, 4, absent]
    filters = log({0: first, 1: second, 2: [9, 3, 2, 5, 4, absent], 3: first})
    filters["kept"] = [False, True, True, True, True, False] * 4
    found = mask_distance(filters, ratio=0.4)
    assert found["distance"].tolist() == [0, 0, 2 / 5]
    np.testing.assert_allclose(found["chance"], [0.5, 0.5, 2 * 0.2 * 0.6 / 0.8])


def test_row_order_does_not_matter() -> None:
    filters = random_log()
    shuffled = filters.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(mask_distance(shuffled), mask_distance(filters))


def test_pruned_filters_do_not_add_epochs_without_scores() -> None:
    filters = log({epoch: [1, 2, 3, 4] for epoch in range(4)})
    filters["kept"] = [False, True, True, True] * 4
    filters["theta_hg"] = filters["sigma"].where(filters["epoch"] % 2 == 0)
    assert mask_distance(filters, score="grasp", ratio=0.5)["epoch"].tolist() == [2]


def test_chance_of_masks_of_two_sizes() -> None:
    filters = log({0: [1, 2, 3, 4], 1: [1, 2, 3, 4]})
    filters["kept"] = [True] * 4 + [False, False, False, True]
    found = mask_distance(filters, ratio=0.25)
    assert found["distance"].isna().all()  # a single filter has no ranking
    np.testing.assert_allclose(found["chance"], 0.25 * 0.25 + 0.75 * 0.75)


@pytest.mark.parametrize(
    ("ratio", "gone"),
    [(0.2, (0, 0)), (0.2, (0.15, 0.15)), (0.3, (0.1, 0.25)), (0.2, (0.1, 0.6)), (0.5, (0.4, 0.45))],
)
def test_chance_is_the_mean_distance_of_random_masks(
    ratio: float, gone: tuple[float, float]
) -> None:
    rng, count = np.random.default_rng(0), 200
    filters = log({epoch: rng.random(count) for epoch in range(2)})
    first, second = (np.arange(count) >= round(share * count) for share in gone)
    filters["kept"] = np.concatenate([first, second])
    chance = mask_distance(filters, ratio=ratio)["chance"].item()
    drawn = [random_masks_apart(ratio, ~first, ~second, rng) for _ in range(400)]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert chance == pytest.approx(np.mean(drawn), abs=4 * error + 1e-12)
    share = gone[0]
    if gone[0] == gone[1]:
        assert chance == pytest.approx(2 * (ratio - share) * (1 - ratio) / (1 - share))


def test_mask_scores_put_pruned_filters_lowest_and_leave_nulls() -> None:
    sigma, kept = [-3.0, 2.0, np.nan, np.nan], [True, False, False, True]
    filters = pd.DataFrame({"sigma": sigma, "kept": kept})
    np.testing.assert_array_equal(mask_scores(filters, "bn_scale"), [3, -np.inf, np.nan, np.nan])
    all_kept = mask_scores(filters.drop(columns="kept"), "bn_scale")
    np.testing.assert_array_equal(all_kept, [3, 2, np.nan, np.nan])


def test_a_log_without_a_pair_of_epochs_has_no_distance() -> None:
    for filters in (random_log(epochs=1), random_log().assign(sigma=np.nan), random_log().iloc[:0]):
        found = mask_distance(filters)
        assert found.empty
        assert found.columns.tolist() == ["run", "epoch", "ref_epoch", "distance", "chance"]
    assert mask_distance(random_log(epochs=3), lag=3).empty


def test_bad_input_is_told_with_its_repair() -> None:
    filters = random_log()
    with pytest.raises(
        AnalysisError, match=r"no column run; it has .*mask_distance needs the filters table"
    ):
        mask_distance(filters.drop(columns="run"))
    with pytest.raises(AnalysisError, match="run r0 has a filter twice at one epoch"):
        mask_distance(pd.concat([filters, filters]))
    for lag in (0, -1, 1.5):
        with pytest.raises(AnalysisError, match="whole number from 1"):
            mask_distance(filters, lag=lag)  # type: ignore[arg-type]
    with pytest.raises(ScoreError, match="choose one of magnitude"):
        mask_distance(filters, score="nonsense")
    with pytest.raises(ScoreError, match="has no theta_norm2"):
        mask_distance(filters, score="magnitude")
