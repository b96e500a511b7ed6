"""Pruning rounds in exact fractions, and ranking compared with a plain rewrite."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example
from hypothesis.strategies import integers, lists, none, one_of, sampled_from, tuples

from pruneviz.errors import PruningError, ScoreError
from pruneviz.log.vocabulary import PruningSchedule
from pruneviz.pruning.rounds import (
    flowandprune_after,
    gone_after,
    group_scores,
    kept_minimum,
    lead_scores,
    lowest_groups,
    protected_by_position,
    protected_by_score,
    pruned_after,
    ranked_groups,
)
from tests.support.properties import for_all

TARGETS = (
    0.6,
    0.65,
    0.75,
    0.1,
    0.999,
    0.001,
    1 / 3,
    np.float64(0.6),
    np.float32(0.6),
    Fraction(2, 7),
)
ROUNDS = (1, 2, 3, 5, 25, 159)
EVERY_TARGET = pytest.mark.parametrize("target", TARGETS, ids=str)


# Fractions of few parts, of a hundred or of a million, as a person writes them.
SHARES = one_of(
    *(tuples(integers(1, n - 1), sampled_from([n])) for n in (3, 7, 20, 100, 10**6))
).map(lambda parts: Fraction(*parts))


def exact(target: float) -> Fraction:
    return Fraction(str(target)).limit_denominator(10**7)


def steps(gone: list[Fraction]) -> list[Fraction]:
    return [after - before for before, after in itertools.pairwise([Fraction(0), *gone])]


@EVERY_TARGET
def test_the_published_schedule_prunes_its_share_of_what_is_left(target: float) -> None:
    p = exact(target)
    for rounds in ROUNDS:
        left, found = Fraction(1), gone_after(target, rounds)
        for i, gone in enumerate(found, start=1):
            left -= left * p / (i * p + rounds * (1 - p))
            assert gone == 1 - left
        assert len(found) == rounds
        assert found[-1] == p


@EVERY_TARGET
def test_the_linear_schedule_prunes_the_same_number_in_every_round(target: float) -> None:
    for rounds in ROUNDS:
        found = gone_after(target, rounds, "linear")
        assert set(steps(found)) == {exact(target) / rounds}
        assert found[-1] == exact(target)


def test_published_rounds_prune_less_and_less() -> None:
    for rounds in ROUNDS:
        pairs = itertools.pairwise(steps(gone_after(0.75, rounds)))
        assert all(first > second for first, second in pairs), rounds


@pytest.mark.parametrize("schedule", ["published", "linear"])
def test_the_number_gone_is_within_half_a_group_of_the_schedule_and_never_falls(
    schedule: str,
) -> None:
    for target, rounds in itertools.product(TARGETS, ROUNDS):
        shares = gone_after(target, rounds, schedule)
        for total in (1, 7, 2128, 2944, 10944):
            found = pruned_after(total, target, rounds, schedule)
            for number, share in zip(found, shares, strict=True):
                assert isinstance(number, int)
                assert abs(number - total * share) <= Fraction(1, 2)
            assert found == sorted(found)


@for_all(
    few=60,
    many=5_000,
    total=integers(0, 10**6),
    target=SHARES,
    rounds=integers(1, 60),
    schedule=sampled_from(["published", "linear"]),
)
def test_rounds_prune_exact_numbers(
    total: int, target: Fraction, rounds: int, schedule: PruningSchedule
) -> None:
    left, expected = Fraction(1), []
    for i in range(1, rounds + 1):
        part = target / (i * target + rounds * (1 - target))
        left = left * (1 - part) if schedule == "published" else left - target / rounds
        expected.append(round(total * (1 - left)))
    found = pruned_after(total, float(target), rounds, schedule)
    assert found == expected == sorted(expected)
    assert found[-1] == round(total * target)
    assert all(0 <= number <= total for number in found)


@for_all(few=40, many=5_000, total=integers(1, 10**5), target=SHARES, rounds=integers(1, 60))
def test_the_published_rounding_is_exact_integer_arithmetic(
    total: int, target: Fraction, rounds: int
) -> None:
    p, q = target.numerator, target.denominator
    percent, gone, of_percent, of_filters = 100, 0, [], []
    for i in range(1, rounds + 1):
        # (i p + n (1 - p)) and what is left of it after the part p, in whole numbers
        whole, part = i * p + rounds * (q - p), p
        percent = percent * (whole - part) // whole
        of_percent.append(total - percent * total // 100)
        gone += part * (total - gone) // whole
        of_filters.append(gone)
    assert flowandprune_after(total, float(target), rounds, residual=True) == of_percent
    assert flowandprune_after(total, float(target), rounds, residual=False) == of_filters


@pytest.mark.parametrize(("target", "becomes"), [(0.6, 68), (0.65, 73), (0.75, 82)])
def test_the_published_rounding_prunes_too_much_of_residual_networks(
    target: float, becomes: int
) -> None:
    found = flowandprune_after(2128, target, 25, residual=True)
    assert found[-1] == 2128 - 2128 * (100 - becomes) // 100
    percent = 100
    for i in range(1, 26):  # the published loop, in floating point
        percent = int(percent * (1 - target / (i * target + 25 * (1 - target))))
    assert percent == 100 - becomes


@EVERY_TARGET
def test_without_residual_sums_the_published_rounding_stays_short_by_less_than_a_filter_a_round(
    target: float,
) -> None:
    for rounds in ROUNDS:
        found = flowandprune_after(2944, target, rounds, residual=False)
        wanted = pruned_after(2944, target, rounds)
        assert found == sorted(found)
        for i, (want, have) in enumerate(zip(wanted, found, strict=True), start=1):
            assert 0 <= want - have <= i


@pytest.mark.parametrize("target", [0, 1, 1.5, -0.1, float("nan"), float("inf"), 0.0, 1.0])
def test_a_target_that_is_not_a_fraction_is_refused(target: float) -> None:
    with pytest.raises(PruningError, match=re.escape(f"{target!r}") + ".*above 0 and below 1"):
        gone_after(target, 3)


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_rounds_are_refused(rounds: int) -> None:
    with pytest.raises(PruningError, match=f"^{rounds} rounds.*give 1 round or more"):
        pruned_after(100, 0.5, rounds)


def test_an_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PruningError, match=r"'exponential'.*published, linear"):
        gone_after(0.5, 3, "exponential")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("filters", "fraction", "kept"),
    [(64, 0.05, 4), (19, 0.05, 1), (20, 0.05, 2), (512, 0.05, 26), (3, 0.9, 3), (9, 0, 0)],
)
def test_the_minimum_is_the_fraction_and_one_more(filters: int, fraction: float, kept: int) -> None:
    assert kept_minimum(filters, fraction) == kept


@for_all(few=100, many=5_000, filters=integers(0, 5_000), fraction=SHARES)
@example(filters=100, fraction=Fraction(29, 100))
@example(filters=48, fraction=Fraction(1, 3))
def test_the_minimum_is_rounded_down_exactly(filters: int, fraction: Fraction) -> None:
    expected = filters * fraction.numerator // fraction.denominator + 1
    assert kept_minimum(filters, float(fraction)) == expected
    assert kept_minimum(filters, fraction) == expected


def grouped(**columns: object) -> pd.DataFrame:
    """Group 0 is filter 0 of layers a and b, groups 1 and 2 are filters 1 and 2 of layer a."""
    keys = {"layer": ["a", "a", "a", "b"], "filter": [0, 1, 2, 0], "group": [0, 1, 2, 0]}
    return pd.DataFrame({**keys, **columns})


def test_columns_that_are_sums_add_up_before_the_measure_is_taken() -> None:
    table = grouped(
        theta_norm2=[9.0, 4.0, 0.0, 16.0],
        theta_g=[1.0, -2.0, 0.5, -3.0],
        theta_hg=[-1.0, 2.0, 3.0, -4.0],
    )
    assert group_scores(table, "magnitude").tolist() == [5, 2, 0]
    assert group_scores(table, "loss_preservation_abs_of_sum").tolist() == [2, 2, 0.5]
    assert group_scores(table, "grasp").tolist() == [-5, 2, 3]
    assert group_scores(table, "gradient_norm_preservation").tolist() == [5, 2, 3]


def test_batch_norm_scales_are_averaged_over_the_members_that_have_one() -> None:
    table = grouped(sigma=[-1.0, 2.0, np.nan, 3.0], sigma_delta=[1.0, 1.0, 1.0, np.nan])
    assert group_scores(table, "bn_scale").tolist()[:2] == [2, 2]
    assert group_scores(table, "sigma_change").tolist()[:2] == [1, 2]
    assert group_scores(table, "bn_scale").isna().tolist() == [False, False, True]


def test_a_null_in_a_member_is_a_null_of_the_group() -> None:
    table = grouped(theta_hg=[1.0, 2.0, 3.0, np.nan])
    assert group_scores(table, "grasp").isna().tolist() == [True, False, False]


def test_a_random_score_of_a_group_is_as_evenly_spread_as_that_of_a_single_filter() -> None:
    keys = [(layer, p) for layer in ("a", "b", "c") for p in range(2000)]
    table = pd.DataFrame(keys, columns=["layer", "filter"]).assign(group=[p for _, p in keys])
    scores = group_scores(table, "random")
    assert np.histogram(scores, bins=4, range=(0, 1))[0] == pytest.approx([500] * 4, abs=80)
    assert scores.nunique() == 2000


def test_the_published_score_of_a_group_is_that_of_its_first_member() -> None:
    table = grouped(theta_norm2=[9.0, 4.0, 1.0, 16.0])
    assert lead_scores(table, "magnitude").tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    ("measure", "message"),
    [("magnitute", "no pruning measure 'magnitute'.*magnitude"), ("grasp", "needs theta_hg")],
)
def test_what_cannot_be_scored_is_refused(measure: str, message: str) -> None:
    with pytest.raises(ScoreError, match=message):
        group_scores(grouped(theta_norm2=[1.0] * 4), measure)


def drawn(seed: int, ties: bool) -> pd.DataFrame:
    """Layers of several sizes, groups of one to three filters, random scores with ties or nulls."""
    generator = np.random.default_rng(seed)
    sizes = {"a": 7, "b": 7, "c": 12, "d": 1}
    rows = [(layer, p) for layer, size in sizes.items() for p in range(size)]
    group_of = {"a": lambda p: p, "b": lambda p: p, "c": lambda p: 100 + p // 3, "d": lambda p: 200}
    groups = [group_of[layer](p) for layer, p in rows]
    value = generator.integers(0, 3, 300) / 2 if ties else generator.normal(size=300)
    value[generator.integers(0, 300, 30)] = np.nan
    table = pd.DataFrame(rows, columns=["layer", "filter"])
    return table.assign(group=groups, score=[value[group] for group in groups])


MINIMUM = {"a": 2, "b": 1, "c": 4, "d": 1}


@pytest.mark.parametrize("ties", [False, True])
def test_the_best_of_each_layer_are_protected_and_the_other_groups_ranked(ties: bool) -> None:
    for seed in range(20):
        table = drawn(seed, ties)
        protected = plainly_protected(table, MINIMUM)
        found = protected_by_score(table, MINIMUM)
        assert found.tolist() == protected, seed
        order = plainly_ranked(table, protected)
        ranked = table.assign(protected=found)
        assert ranked_groups(ranked) == order, seed
        for number in range(len(order) + 1):
            assert lowest_groups(ranked, number) == order[:number]
        message = rf"^{len(order) + 1} more groups .* only {len(order)} can be"
        with pytest.raises(PruningError, match=message):
            lowest_groups(ranked, len(order) + 1)


@for_all(
    few=30,
    many=3_000,
    rows=lists(
        tuples(sampled_from("abc"), integers(0, 8), one_of(integers(0, 3), none())), max_size=40
    ),
    minimum=tuples(*[integers(0, 5)] * 3),
)
def test_protection_and_ranking_are_those_of_plain_lists(
    rows: list[tuple[str, int, int | None]], minimum: tuple[int, ...]
) -> None:
    assume(rows)
    table = pd.DataFrame(rows, columns=["layer", "group", "score"]).astype({"score": "float64"})
    table["score"] = table.groupby("group")["score"].transform("first")  # one score per group
    least = dict(zip("abc", minimum, strict=True))
    protected = plainly_protected(table, least)
    found = protected_by_score(table, least)
    assert found.tolist() == protected
    assert ranked_groups(table.assign(protected=found)) == plainly_ranked(table, protected)


def plainly_protected(table: pd.DataFrame, minimum: Mapping[str, int]) -> list[bool]:
    """Row by row, the filters of the highest scores of each layer; the later of equal ones."""
    layers, scores = table["layer"].tolist(), table["score"].fillna(-np.inf).tolist()
    protected = [False] * len(table)
    for layer, number in minimum.items():
        rows = [row for row in range(len(table)) if layers[row] == layer]
        for row in sorted(rows, key=lambda row: (-scores[row], -row))[:number]:
            protected[row] = True
    return protected


def plainly_ranked(table: pd.DataFrame, protected: list[bool]) -> list[int]:
    """Groups without a protected or unscored filter, by score, then by first appearance."""
    groups, scores = table["group"].tolist(), table["score"].tolist()
    barred = {
        group
        for group, score, held in zip(groups, scores, protected, strict=True)
        if held or np.isnan(score)
    }
    free: dict[int, float] = {}
    for group, score in zip(groups, scores, strict=True):
        if group not in barred:
            free.setdefault(group, score)
    place = list(free)
    return sorted(free, key=lambda group: (free[group], place.index(group)))


def test_by_position_the_last_of_each_layer_are_protected_whatever_their_score() -> None:
    table = drawn(0, True)
    found = protected_by_position(table, MINIMUM)
    assert table[found].groupby("layer")["filter"].apply(list).to_dict() == {
        "a": [5, 6],
        "b": [6],
        "c": [8, 9, 10, 11],
        "d": [0],
    }


def test_out_of_reach_says_how_many_have_no_score() -> None:
    table = grouped(score=[np.nan, 1.0, 2.0, np.nan], protected=[False] * 4)
    message = (
        r"3 more groups .* only 2 can be: 2 filters have no score.*"
        "lower the target or keep_at_least"
    )
    with pytest.raises(PruningError, match=message):
        lowest_groups(table, 3)
