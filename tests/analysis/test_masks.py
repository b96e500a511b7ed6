"""Keep masks and mask distances against plain rewrites, hand-computed masks and the distances of random masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from pruneviz.analysis.masks import distance_between, keep_mask, mask_distance, mask_scores
from pruneviz.analysis.scores import score
from pruneviz.errors import AnalysisError, ScoreError


def plain_keep(scores: list[float], ratio: float) -> list[bool | None]:
    """A few lines of Python: sort the positions by score, drop the first round(ratio * n)."""
    known = [i for i, value in enumerate(scores) if not np.isnan(value)]
    pruned = set(sorted(known, key=lambda i: (scores[i], i))[: round(ratio * len(known))])
    return [None if np.isnan(value) else i not in pruned for i, value in enumerate(scores)]


def log(sigmas: Mapping[int, Sequence[float]], run: str = "r0") -> pd.DataFrame:
    """A filters table of one run: epoch -> one sigma per filter, the first half in layer a and the rest in layer b."""
    parts = []
    for epoch, sigma in sigmas.items():
        half = len(sigma) // 2
        layer, channel = (
            ["a"] * half + ["b"] * (len(sigma) - half),
            [*range(half), *range(len(sigma) - half)],
        )
        parts.append(
            pd.DataFrame(
                {"run": run, "epoch": epoch, "layer": layer, "filter": channel, "sigma": sigma}
            )
        )
    return pd.concat(parts, ignore_index=True)


def random_log(epochs: int = 6, filters: int = 40, seed: int = 0, run: str = "r0") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return log({epoch: rng.normal(size=filters).tolist() for epoch in range(epochs)}, run)


def plain_distances(filters: pd.DataFrame, ratio: float, lag: int = 1) -> list[float]:
    """For one run without nulls: masks as dictionaries from filter to kept, compared key by key."""
    masks = []
    for _, rows in filters.groupby("epoch"):
        keep = plain_keep(rows["sigma"].abs().tolist(), ratio)
        masks.append(dict(zip(zip(rows["layer"], rows["filter"], strict=True), keep, strict=True)))
    return [
        sum(now[k] != before[k] for k in now) / len(now)
        for before, now in zip(masks, masks[lag:], strict=False)
    ]


# Keep masks


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [0, 0.05, 0.2, 0.5, 0.999, 1])
def test_keep_mask_equals_a_plain_rewrite(seed: int, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-5, 5, size=rng.integers(1, 60)).astype(float)  # many ties
    values[rng.random(len(values)) < 0.2] = np.nan
    found = keep_mask(pd.Series(values), ratio)
    assert found.dtype == "boolean"
    assert [None if pd.isna(keep) else bool(keep) for keep in found] == plain_keep(
        values.tolist(), ratio
    )


@pytest.mark.parametrize("seed", range(4))
def test_properties_of_keep_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = pd.Series(rng.normal(size=97), index=rng.permutation(97))
    masks = [keep_mask(scores, ratio) for ratio in (0.1, 0.35, 0.8)]
    assert [int((~mask).sum()) for mask in masks] == [
        round(ratio * 97) for ratio in (0.1, 0.35, 0.8)
    ]
    for mask, stricter in pairwise(masks):
        assert (mask | ~stricter).all()  # what a higher ratio keeps, a lower one keeps
    assert all(scores[~mask].max() < scores[mask].min() for mask in masks)
    pd.testing.assert_series_equal(keep_mask(scores**3, 0.35), masks[1])  # only ranks count
    pd.testing.assert_index_equal(masks[0].index, scores.index)


def test_equal_scores_are_pruned_in_the_order_of_the_rows() -> None:
    assert keep_mask(pd.Series([1.0, 0.0, 1.0, 1.0, -0.0]), 0.6).tolist() == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_null_scores_are_neither_kept_nor_pruned() -> None:
    found = keep_mask(pd.Series([3.0, None, 1.0, None, 2.0], dtype="Float32"), 1 / 3)
    assert found.isna().tolist() == [False, True, False, True, False]
    assert found.dropna().tolist() == [True, False, True]
    assert keep_mask(pd.Series([np.nan, np.nan]), 0.5).isna().all()
    assert keep_mask(pd.Series([], dtype="float64"), 0.5).empty


@pytest.mark.parametrize("ratio", [-0.1, 1.5, 20, float("nan")])
def test_a_ratio_that_is_no_fraction_is_refused(ratio: float) -> None:
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
    found = [
        distance_between(pd.Series(rng.random(2000)), pd.Series(rng.random(2000)), ratio)
        for _ in range(30)
    ]
    assert np.mean(found) == pytest.approx(2 * ratio * (1 - ratio), abs=0.005)


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5])
def test_the_most_possible_is_2p(ratio: float) -> None:
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


def test_there_is_no_distance_without_a_ranking_or_without_scores() -> None:
    scores = pd.Series([1.0, 2.0, 3.0, np.nan])
    ones, nulls = scores * 0 + 1, scores * np.nan
    assert np.isnan([distance_between(scores, other, 0.4) for other in (ones, nulls)]).all()
    assert np.isnan(distance_between(ones, scores, 0.4))


def test_pruned_filters_are_masked_out_always() -> None:
    gone = -np.inf
    before = pd.Series([gone, gone, gone, 4.0, 5.0])
    now = pd.Series([gone, gone, gone, 5.0, 4.0])
    assert (
        distance_between(before, now, 0.2) == 0
    )  # three are gone, so the ratio prunes no further one
    assert distance_between(before, now, 0.8) == 2 / 5


# Mask distances of a log


@pytest.mark.parametrize("lag", [1, 2, 5])
@pytest.mark.parametrize("ratio", [0.2, 0.33])
def test_mask_distance_equals_a_plain_rewrite(ratio: float, lag: int) -> None:
    filters = random_log()
    found = mask_distance(filters, ratio=ratio, lag=lag)
    assert found.columns.tolist() == ["run", "epoch", "ref_epoch", "distance", "chance"]
    assert (
        found["epoch"].tolist() == list(range(lag, 6))
        and (found["epoch"] - found["ref_epoch"] == lag).all()
    )
    assert found["distance"].tolist() == plain_distances(filters, ratio, lag)
    q = round(ratio * 40) / 40
    np.testing.assert_allclose(found["chance"], 2 * q * (1 - q))


def test_mask_distance_by_hand() -> None:
    found = mask_distance(log({0: [1, 2, 3, 4, 5], 10: [-1, 6, 3, 2, 5]}), ratio=0.4)
    assert found.to_dict("records") == [
        {
            "run": "r0",
            "epoch": 10,
            "ref_epoch": 0,
            "distance": 0.4,
            "chance": pytest.approx(2 * 0.4 * 0.6),
        }
    ]


def test_random_scores_differ_by_chance() -> None:
    found = mask_distance(random_log(epochs=20, filters=2000), score="random")
    assert found["distance"].mean() == pytest.approx(0.32, abs=0.005)
    np.testing.assert_allclose(found["chance"], 0.32)


@pytest.mark.parametrize("names", [{"a": "conv9", "b": "conv10"}, {"a": "conv1", "b": "conv2"}])
def test_the_live_distance_is_the_derived_one(names: dict[str, str]) -> None:
    # Many ties, and layers whose names do not sort in the order in which the network applies them.
    filters = random_log().assign(
        layer=lambda rows: rows["layer"].map(names).astype("category"),
        sigma=lambda rows: rows["sigma"].round(),
    )
    epochs = [
        score(rows.reset_index(drop=True), "bn_scale") for _, rows in filters.groupby("epoch")
    ]
    live = [distance_between(before, now, 0.2) for before, now in pairwise(epochs)]
    assert mask_distance(filters)["distance"].tolist() == live


def test_filters_are_matched_by_name_and_not_by_row() -> None:
    filters = pd.concat([random_log(), random_log(seed=1, run="r1")], ignore_index=True)
    pd.testing.assert_frame_equal(
        mask_distance(filters.sample(frac=1, random_state=0)), mask_distance(filters)
    )
    still = log({0: [1, 2, 3, 4]})
    assert mask_distance(pd.concat([still, still.iloc[::-1].assign(epoch=1)]), ratio=0.5)[
        "distance"
    ].tolist() == [0]


def weights_log(epochs: int = 4, seed: int = 0) -> pd.DataFrame:
    """A log of single weights: two layers of two filters with five weights each."""
    rng = np.random.default_rng(seed)
    keys = pd.MultiIndex.from_product(
        [range(epochs), ["b", "a"], [0, 1], range(5)], names=["epoch", "layer", "filter", "weight"]
    )
    return keys.to_frame(index=False).assign(
        run="w", theta_norm2=rng.integers(0, 9, len(keys)).astype(float)
    )


def test_weights_are_positions_of_their_own_matched_by_name() -> None:
    filters = weights_log()
    masks = [
        plain_keep(np.sqrt(rows["theta_norm2"]).tolist(), 0.3)
        for _, rows in filters.groupby("epoch")
    ]
    expected = [
        np.mean([a != b for a, b in zip(before, now, strict=True)])
        for before, now in pairwise(masks)
    ]
    assert mask_distance(filters, "magnitude", 0.3)["distance"].tolist() == expected
    first, rest = (
        filters[filters["epoch"] == 0],
        filters[filters["epoch"] > 0].sample(frac=1, random_state=0),
    )
    assert (
        mask_distance(pd.concat([first, rest]), "magnitude", 0.3)["distance"].tolist() == expected
    )
    with pytest.raises(AnalysisError, match="has a filter twice"):
        mask_distance(filters.drop(columns="weight"), "magnitude")


def test_a_log_of_filters_and_one_of_weights_have_the_distances_of_each_alone() -> None:
    weights, filters = (
        weights_log(),
        random_log().assign(theta_norm2=lambda rows: rows["sigma"].abs()),
    )
    both = mask_distance(pd.concat([filters, weights], ignore_index=True), "magnitude")
    assert both["distance"].tolist() == [
        *mask_distance(filters, "magnitude")["distance"],
        *mask_distance(weights, "magnitude")["distance"],
    ]


def test_ties_are_broken_alike_at_every_epoch() -> None:
    tied = log({0: [1, 1, 1, 1, 2, 2]})
    assert mask_distance(pd.concat([tied, tied.iloc[::-1].assign(epoch=1)]), ratio=0.5)[
        "distance"
    ].tolist() == [0]


def test_runs_do_not_mix_and_keep_their_dtype() -> None:
    runs = {name: random_log(seed=seed, run=name) for seed, name in enumerate(["b", "a"])}
    filters = pd.concat(runs.values(), ignore_index=True).astype({"epoch": "int32"})
    filters["run"] = pd.Categorical(filters["run"], categories=["b", "a", "unused"])
    filters["layer"] = filters["layer"].astype("category")
    found = mask_distance(filters)
    assert found["run"].tolist() == ["b"] * 5 + ["a"] * 5
    assert found.dtypes[["run", "epoch", "ref_epoch"]].tolist() == [
        filters["run"].dtype,
        "int32",
        "int32",
    ]
    for name, alone in runs.items():
        assert (
            found.loc[found["run"] == name, "distance"].tolist()
            == mask_distance(alone)["distance"].tolist()
        )


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
    # Filter 0 is pruned at epoch 1; filter 5 has no batch norm, and is pruned too, but is no position of the mask.
    filters = log(
        {
            0: [1, 2, 3, 4, 5, np.nan],
            1: [sigma_of_pruned, 2, 3, 5, 4, np.nan],
            2: [sigma_of_pruned, 3, 2, 5, 4, np.nan],
        }
    )
    filters["kept"] = [True] * 6 + [False, True, True, True, True, False] * 2
    found = mask_distance(filters, ratio=0.4)
    assert found["distance"].tolist() == [0, 2 / 5]
    np.testing.assert_allclose(found["chance"], 2 * 0.4 * 0.6)


def test_a_filter_counts_as_pruned_only_once_it_has_had_a_score() -> None:
    # Filter 0 is pruned from the start, and has its first score at epoch 2: until then it is no position, as filter 5 never is.
    absent = np.nan
    first, second = [absent, 2, 3, 4, 5, absent], [absent, 2, 3, 5, 4, absent]
    filters = log({0: first, 1: second, 2: [9, 3, 2, 5, 4, absent], 3: first})
    filters["kept"] = [False, True, True, True, True, False] * 4
    found = mask_distance(filters, ratio=0.4)
    assert found["distance"].tolist() == [0, 0, 2 / 5]
    np.testing.assert_allclose(found["chance"], [2 * 0.5 * 0.5, 2 * 0.5 * 0.5, 2 * 0.4 * 0.6])


def test_a_table_that_is_not_sorted_has_the_distances_of_the_sorted_one() -> None:
    filters = random_log()
    pd.testing.assert_frame_equal(
        mask_distance(filters.sample(frac=1, random_state=0)), mask_distance(filters)
    )


def test_a_derivative_epoch_is_not_made_up_for_pruned_filters() -> None:
    filters = log({epoch: [1, 2, 3, 4] for epoch in range(4)}).assign(
        kept=[False, True, True, True] * 4
    )
    filters["theta_hg"] = filters["sigma"].where(filters["epoch"] % 2 == 0)
    assert mask_distance(filters, score="grasp", ratio=0.5)["epoch"].tolist() == [2]


def test_chance_of_masks_of_two_sizes() -> None:
    filters = log({0: [1, 2, 3, 4], 1: [1, 2, 3, 4]}).assign(
        kept=[True] * 4 + [False, False, False, True]
    )
    found = mask_distance(filters, ratio=0.25)
    assert found["distance"].isna().all()  # a single filter has no ranking
    np.testing.assert_allclose(found["chance"], 0.25 * 0.25 + 0.75 * 0.75)


def test_mask_scores_put_pruned_filters_lowest_and_leave_nulls() -> None:
    filters = pd.DataFrame(
        {"sigma": [-3.0, 2.0, np.nan, np.nan], "kept": [True, False, False, True]}
    )
    np.testing.assert_array_equal(mask_scores(filters, "bn_scale"), [3, -np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(
        mask_scores(filters.drop(columns="kept"), "bn_scale"), [3, 2, np.nan, np.nan]
    )


def test_a_log_without_a_pair_of_epochs_has_no_distance() -> None:
    for filters in (random_log(epochs=1), random_log().assign(sigma=np.nan), random_log().iloc[:0]):
        found = mask_distance(filters)
        assert found.empty and found.columns.tolist() == [
            "run",
            "epoch",
            "ref_epoch",
            "distance",
            "chance",
        ]
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
