"""The page's own computations, run in the browser, against their twins in Python."""

from __future__ import annotations

import base64
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pruneviz as pv
from pruneviz.analysis.masks import mask_scores
from pruneviz.analysis.symmetric_log import linear_threshold
from pruneviz.log.runs import Runs
from pruneviz.report.blocks import ROUNDING, block_of
from pruneviz.report.contents import run_contents
from tests.support.browser import Shown
from tests.support.odd_runs import pruned_run
from tests.support.page_twins import AxisTwin


@pytest.fixture
def page(shown: Shown, shipped_page: Path) -> Shown:
    """A page, for its scripts."""
    shown.open(shipped_page)
    return shown


def sent(values: np.ndarray) -> str:
    """Numbers as text that holds every bit of them."""
    return base64.b64encode(np.asarray(values, "<f8").tobytes()).decode("ascii")


def computed(page: Shown, expression: str, *given: object) -> np.ndarray:
    """Numbers of an expression; arrays come as f(a[0]), f(a[1]) ..."""
    told = page.run_async(
        "((f) => Promise.resolve(" + expression + ").then((found) => "
        "(ArrayBuffer.isView(found) || Array.isArray(found) ? Array.from(found, String) : "
        "[String(found)])))((text) => new Float64Array(bytesOf(text).buffer))",
        *given,
    )
    return np.array([float(text) for text in told])


PAIRS = {
    "many decades": lambda random: (
        random.standard_normal(200) * 10.0 ** random.integers(-9, 9, 200)
    ),
    "ties": lambda random: random.integers(0, 4, 60).astype(float),
    "far from zero": lambda random: 1e8 + random.standard_normal(50),
    "tiny": lambda random: 1e-40 * random.standard_normal(20),
    "three": lambda random: random.standard_normal(3),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_correlations(page: Shown, kind: str) -> None:
    random = np.random.default_rng(1)
    xs, ys = PAIRS[kind](random), PAIRS[kind](random)
    ys = ys + 0.5 * xs
    pearson = computed(page, "pearson(f(a[0]), f(a[1]))", sent(xs), sent(ys))
    scale = 1e40 if kind == "tiny" else 1.0
    expected = stats.pearsonr(xs * scale, ys * scale).statistic
    assert pearson == pytest.approx([expected], rel=1e-7 if kind == "far from zero" else 1e-10)
    spearman = computed(
        page, 'correlation([...f(a[0])], [...f(a[1])], "spearman").r', sent(xs), sent(ys)
    )
    assert spearman == pytest.approx([stats.spearmanr(xs, ys).statistic], rel=1e-10)


@pytest.mark.parametrize("xs", [[], [1.0], [1.0, 2.0], [3.0, 3.0, 3.0, 3.0]])
def test_correlations_that_are_undefined(page: Shown, xs: list[float]) -> None:
    ys = np.arange(len(xs), dtype=float)
    for method in ("pearson", "spearman"):
        found = computed(
            page,
            "correlation([...f(a[0])], [...f(a[1])], a[2]).r",
            sent(np.array(xs)),
            sent(ys),
            method,
        )
        assert np.isnan(found).all()


@pytest.mark.parametrize(
    "values",
    [
        [],
        [0.0, 0.0],
        [np.nan, np.inf, 3.0],
        [1e-300, 1.0],
        [5e-324],
        [1e308, -1e308],
        [1e-290, -1e-300],
        [-1.0, 0.01, 1e7, 1e-9],
        [1e12, 1.0, 2.0, 3.0],
        list(10.0 ** np.linspace(-30, 5, 97)),
    ],
)
def test_the_linear_part_of_axes(page: Shown, values: list[float]) -> None:
    held = np.array(values, dtype=float)
    found = computed(page, "linearThreshold(f(a[0]))", sent(held))
    assert found == pytest.approx([linear_threshold(held)], rel=1e-12)


@pytest.mark.parametrize("log", [True, False])
def test_places_on_axes_and_back(page: Shown, log: bool) -> None:
    random = np.random.default_rng(2)
    values = random.standard_normal(300) * 10.0 ** random.integers(-6, 4, 300)
    axis = AxisTwin([values], log)
    call = (
        "((axis) => [...f(a[0])].map((v) => (placed(axis, v) - axis.low) / (axis.high - axis.low)))"
    )
    found = computed(page, f"{call}(axisFor([f(a[0])], a[1]))", sent(values), log)
    np.testing.assert_allclose(found, axis.share(values), rtol=1e-9, atol=1e-12)
    back = computed(
        page,
        "((axis) => [...f(a[0])].map((v) => valueAt(axis, placed(axis, v))))"
        "(axisFor([f(a[0])], a[1]))",
        sent(values),
        log,
    )
    np.testing.assert_allclose(back, values, rtol=1e-9, atol=axis.threshold * 1e-12 if log else 0)


@pytest.mark.parametrize("values", [[0.0], [1.0, 1.0], [-2e-30, -2e-30]])
@pytest.mark.parametrize("log", [True, False])
def test_an_axis_of_one_value_has_it_in_the_middle(
    page: Shown, values: list[float], log: bool
) -> None:
    middle = computed(
        page,
        "((axis) => [(placed(axis, f(a[0])[0]) - axis.low) / (axis.high - axis.low),"
        " axis.high - axis.low])(axisFor([f(a[0])], a[1]))",
        sent(np.array(values)),
        log,
    )
    assert middle[0] == pytest.approx(0.5, rel=1e-6) and middle[1] > 0


def test_half_of_the_way_rounds_to_the_even_number(page: Shown) -> None:
    ratios = np.arange(101) / 100
    values = np.concatenate(
        [ratios * n for n in (0, 1, 2, 25, 50, 1064, 10_944)] + [[0.5, 1.5, 2.5]]
    )
    found = computed(page, "[...f(a[0])].map(rounded)", sent(values))
    assert found.tolist() == [round(float(value)) for value in values]


def test_a_share_is_that_of_the_ratio_as_written(page: Shown) -> None:
    counts = np.array([50, 100, 150, 1_064, 10_950])
    found = computed(
        page,
        "[...Array(99).keys()].flatMap((i) => [...f(a[0])].map((n) => shareOf((i + 1) / 100, n)))",
        sent(counts.astype("float64")),
    )
    ratios = [Fraction(percent, 100) for percent in range(1, 100)]
    assert found.tolist() == [round(ratio * int(n)) for ratio in ratios for n in counts]


@pytest.mark.parametrize("size", [0, 1, 2, 300])
def test_positions_in_the_address(page: Shown, size: int) -> None:
    places = np.sort(np.random.default_rng(size).choice(400, size, replace=False))
    text = page.run("return asRanges(arguments[0])", [int(place) for place in places[::-1]])
    parts = [part.split("-") for part in text.split(",") if part]
    held = [at for ends in parts for at in range(int(ends[0]), int(ends[-1]) + 1)]
    assert held == places.tolist()
    assert page.run("return fromRanges(arguments[0], 400)", text) == places.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("5-3", []),
        ("3,3,2-4", [3, 2, 4]),
        ("8-99999999999", [8, 9]),
        ("-1,1.5,x,0x3,1e3, 4", []),
        ("99999999999999999999", []),
    ],
)
def test_positions_that_are_none_are_left_out(page: Shown, text: str, expected: list[int]) -> None:
    assert page.run("return fromRanges(arguments[0], 10)", text) == expected


ODD = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1.5, -3.4e38, 1e-45])


@pytest.mark.parametrize(
    "values",
    [
        ODD.astype("float32"),
        ODD,
        np.array([0, 1, 255], "uint8"),
        np.array([0, 1, 256, 0xFFFF], "uint16"),
        np.array([0, 70_000, 0xFFFFFFFF], "uint32"),
        np.zeros(0, "float32"),
        np.zeros(0, "uint8"),
        np.random.default_rng(0).standard_normal((3, 77)).astype("float32"),
    ],
    ids=lambda values: f"{values.dtype}-{values.size}",
)
def test_blocks_are_unpacked_bit_for_bit(page: Shown, values: np.ndarray) -> None:
    block = block_of(values)
    facts = {"kind": block.kind, "length": block.length}
    found = computed(page, "numbersOf(a[0], a[1])", block.text, facts)
    flat = values.reshape(-1).astype(float)
    np.testing.assert_array_equal(found, flat)
    # text does not tell the sign of zero
    signs = computed(
        page, "numbersOf(a[0], a[1]).then((n) => Array.from(n, (v) => 1 / v))", block.text, facts
    )
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(signs, 1 / flat)


@pytest.mark.parametrize(("dtype", "kind"), [("float32", "b3"), ("float64", "d4")])
def test_rounded_blocks_keep_their_upper_bits(page: Shown, dtype: str, kind: str) -> None:
    random = np.random.default_rng(3)
    values = (random.standard_normal(500) * 10.0 ** random.integers(-30, 30, 500)).astype(dtype)
    values[:5] = np.nan, np.inf, -np.inf, 0.0, np.finfo(dtype).max
    block = block_of(values, rounded=True)
    assert block.kind == kind
    facts = {"kind": block.kind, "length": block.length}
    found = computed(page, "numbersOf(a[0], a[1])", block.text, facts)
    np.testing.assert_array_equal(found[:4], values[:4])
    np.testing.assert_allclose(found[5:], values[5:], rtol=ROUNDING)


def test_a_damaged_block_is_told(page: Shown) -> None:
    block = block_of(np.arange(9, dtype="float32"))
    with pytest.raises(AssertionError, match="a column of this page is damaged"):
        computed(page, "numbersOf(a[0], a[1])", block.text, {"kind": "f4", "length": 8})


# Masks, on a run with ties, nulls, and rows that it prunes


@pytest.fixture(scope="module")
def run() -> Runs:
    """A run that prunes."""
    return pruned_run()


def recording(page: Shown, run: Runs, measure: str, expression: str, *given: object) -> np.ndarray:
    """Numbers of an expression of the run, `run`, with the ranks of a measure unpacked."""
    contents = run_contents(run)
    texts = [block.text for block in contents.blocks]
    return computed(
        page,
        "((run) => run.need([`ranks:${a[2]}`]).then(() => " + expression + "))"
        "(new Recording(a[0], (block) => a[1][block]))",
        contents.facts,
        texts,
        measure,
        *given,
    )


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.125, 0.2, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("measure", ["magnitude", "loss_preservation", "grasp"])
def test_masks_are_those_of_keep_mask(page: Shown, run: Runs, measure: str, ratio: float) -> None:
    found = recording(
        page,
        run,
        measure,
        "run.epochs.flatMap((_, step) => [...prunedBy(run, a[2], step, a[3])])",
        ratio,
    )
    expected = []
    for _, rows in run.filters.groupby("epoch"):
        scores = mask_scores(rows, measure)
        standing = scores[scores > -np.inf]  # of what is pruned already nothing more is pruned
        kept = pv.keep_mask(standing, ratio).reindex(rows.index)
        expected += (~kept).astype("Int64").fillna(2).tolist()
    assert found.astype(int).tolist() == expected


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("measure", ["magnitude", "loss_preservation", "grasp"])
@pytest.mark.parametrize("seed", [0, 1])
def test_distances_of_masks_are_those_of_mask_distance(
    page: Shown, measure: str, ratio: float, seed: int
) -> None:
    run = pruned_run(seed)
    found = recording(
        page,
        run,
        measure,
        "maskCurve(run, {measure: a[2], ratio: a[3]}).lines[0].values",
        round(100 * ratio),
    )
    expected = pv.mask_distance(run, score=measure, ratio=ratio).set_index("epoch")["distance"]
    np.testing.assert_allclose(found[1:], expected.reindex(range(1, 5)), rtol=1e-12)
    assert np.isnan(found[0]) and expected.notna().sum() == 4


OVERLAP = """(() => {
  const run = (ranks) => ({
    count: ranks.length, measure: () => ({ absent: 99, flat: [] }), values: () => ranks,
    key: () => new Uint8Array(ranks.length).fill(1),
  });
  const found = overlapOf(run(a[0]), "one", 0, run(a[1]), "other", 0, a[2]);
  return [found.one, found.rankedOne, found.other, found.rankedOther, found.both, found.chance];
})()"""


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("unranked", [0, 5, 14])
def test_the_overlap_counts_what_each_measure_ranks(
    page: Shown, unranked: int, ratio: float
) -> None:
    random = np.random.default_rng(unranked)
    scores = random.normal(size=(2, 20))
    scores[1, random.permutation(20)[:unranked]] = np.nan
    ranks = [[99 if np.isnan(v) else int((own < v).sum()) for v in own] for own in scores]
    kept = [pv.keep_mask(pd.Series(own), ratio) for own in scores]
    gone = [(~mine).fillna(False).to_numpy(bool) for mine in kept]
    ranked = ~np.isnan(scores[1])
    chance = (gone[0] & ranked).sum() * gone[1].sum() / ranked.sum()
    counts = [gone[0].sum(), 20, gone[1].sum(), ranked.sum(), (gone[0] & gone[1]).sum()]
    assert computed(page, OVERLAP, *ranks, ratio) == pytest.approx([*counts, chance])
