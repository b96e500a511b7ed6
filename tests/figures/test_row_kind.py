"""Figures of single weights: numbers over all weights come from the log, and words say weights; and Figure 2's kinds by their baselines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import find
from pruneviz.figures.draw import save_figure
from pruneviz.figures.kinds import correlation_curve, scatter
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.row_kind import FILTER, WEIGHT, row_kind_in
from pruneviz.log.runs import Runs
from pruneviz.log.schema import CORRELATIONS
from tests.support.baselines import assert_as_before
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_runs

DEFAULT = DrawOptions()
WEIGHTS = 861_620  # of ResNet-56, whose number is as long as any that a heading holds
PAIRS = (("theta_g", "theta_hg"), ("theta_change", "loss_preservation"))
METHODS = ("pearson", "spearman")


def weight_runs(seeds: Sequence[int] = (0, 1, 2), epochs: int = 16, every: int = 4) -> Runs:
    """Runs measured by single weights: nine rows a filter are stored; correlations and mask distances over all are made up."""
    runs = make_runs(SMALL, seeds, epochs, every, unit="weight", mask_score="magnitude")
    filters = pd.concat(
        [runs.filters.assign(weight=place) for place in range(9)], ignore_index=True
    )
    signs = np.random.default_rng(5).choice([-1.0, 1.0], len(filters))
    filters = filters.assign(
        theta_g=signs * filters["theta_g"],
        theta_hg=signs * filters["theta_hg"],
        sigma=np.nan,
        sigma_delta=np.nan,
    )
    parts = [_logged(run, seed, epochs, every) for seed, run in enumerate(runs.spec["run"])]
    correlations = pd.concat([part for part, _ in parts], ignore_index=True)[list(CORRELATIONS)]
    distances = np.concatenate([found for _, found in parts])
    return replace(
        runs,
        filters=filters,
        correlations=correlations,
        epochs=runs.epochs.assign(mask_distance=distances),
    )


def _logged(run: str, seed: int, epochs: int, every: int) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(seed)
    keys = [
        (epoch, *pair, method)
        for epoch in range(0, epochs + 1, every)
        for pair in PAIRS
        for method in METHODS
    ]
    table = pd.DataFrame(keys, columns=["epoch", "x", "y", "method"])
    r = 0.3 + 0.6 * table["epoch"] / epochs + random.uniform(-0.05, 0.05, len(table))
    changed = (table["x"] != "theta_change") | (
        table["epoch"] > 0
    )  # no weight has changed before the first epoch
    distances = 0.3 * np.exp(-4 * np.arange(epochs + 1) / epochs) + random.uniform(
        0, 0.01, epochs + 1
    )
    return table.assign(run=run, n=WEIGHTS, r=r.where(changed)), np.append(np.nan, distances[1:])


@pytest.fixture(scope="module")
def runs() -> Runs:
    return weight_runs()


def words_of(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


# The numbers


@pytest.mark.parametrize("method", METHODS)
def test_scatter_shows_a_sample_under_correlations_over_all_weights(
    runs: Runs, method: str
) -> None:
    table = scatter.table(runs, find("H1a"), DrawOptions(method=method, seed=1))  # type: ignore[arg-type]
    logged = runs.correlations[
        runs.correlations["run"].str.startswith("resnet56") & (runs.correlations["x"] == "theta_g")
    ]
    assert list(dict.fromkeys(table["epoch"])) == [0, 4, 16]
    for epoch, panel in table.groupby("epoch"):
        for name in METHODS:
            each = logged.loc[(logged["epoch"] == epoch) & (logged["method"] == name), "r"]
            assert panel[name].unique() == pytest.approx([each.mean()])
            assert panel[f"{name}_sd"].unique() == pytest.approx([each.std()])
        stored = runs.filters[
            (runs.filters["run"] == "resnet56-digits-weights-s1") & (runs.filters["epoch"] == epoch)
        ]
        stored = stored.assign(layer=stored["layer"].astype(str))
        keys = ["layer", "filter", "weight"]
        both = panel.merge(stored, on=keys, suffixes=("", "_stored"), validate="one_to_one")
        assert len(both) == len(panel) == len(stored) == 9 * sum(SMALL["resnet56"])
        assert (
            both["theta_g"].tolist() == both["theta_g_stored"].tolist()
            and both["theta_hg"].tolist() == both["theta_hg_stored"].tolist()
        )
        assert (
            set(panel["weights"]) == {WEIGHTS}
            and set(panel["seeds"]) == {3}
            and set(panel["seed"]) == {1}
        )


def test_curve_takes_correlations_and_mask_distances_from_the_log(runs: Runs) -> None:
    table = correlation_curve.table(runs, find("H1b"), DEFAULT).set_index(["network", "epoch"])
    logged = runs.correlations[(runs.correlations["x"] == "theta_change")].dropna(subset=["r"])
    for network in SMALL:
        mine = table.loc[network]
        rows = logged[logged["run"].str.startswith(network)]
        for method in METHODS:
            each = rows[rows["method"] == method].groupby("epoch")["r"]
            assert mine[method].dropna().to_dict() == pytest.approx(each.mean().to_dict())
            assert mine[f"{method}_sd"].dropna().to_dict() == pytest.approx(each.std().to_dict())
        assert mine["band_low"].dropna().to_dict() == pytest.approx(
            (mine["pearson"] - mine["pearson_sd"]).dropna().to_dict()
        )
        epochs = runs.epochs[runs.epochs["run"].astype(str).str.startswith(network)].groupby(
            "epoch"
        )["mask_distance"]
        assert mine["mask_distance"].dropna().to_dict() == pytest.approx(
            epochs.mean().dropna().to_dict()
        )
        assert mine["mask_distance_sd"].dropna().to_dict() == pytest.approx(
            epochs.std().dropna().to_dict()
        )
        assert (
            list(mine.index) == list(range(1, 17))
            and (mine["mask_ref_epoch"] == mine.index - 1).all()
        )
        assert mine["chance"].dropna().unique() == pytest.approx([0.32]) and set(
            mine["weights"].dropna()
        ) == {WEIGHTS}


def test_one_seed_has_the_interval_of_so_many_weights() -> None:
    runs = weight_runs(seeds=(0,))
    table = scatter.table(runs, find("H1a"), DEFAULT)
    for epoch in (0, 4, 16):
        facts = table[table["epoch"] == epoch].iloc[0]
        ends = np.tanh(
            np.arctanh(facts["pearson"]) + np.array([-1, 1]) * 1.959964 / np.sqrt(WEIGHTS - 3)
        )
        assert [facts["pearson_low"], facts["pearson_high"]] == pytest.approx(
            ends.tolist(), abs=1e-6
        )
    assert table["pearson_sd"].isna().all()


def test_both_forms_of_loss_preservation_are_one_measure_of_a_weight(runs: Runs) -> None:
    sums = correlation_curve.table(runs, find("H1b"), DEFAULT)
    terms = correlation_curve.table(runs, find("H1b"), DrawOptions(loss_preservation="abs_of_sum"))
    pd.testing.assert_frame_equal(sums, terms)


def test_filters_and_weights_of_one_folder_do_not_mix(runs: Runs) -> None:
    filters = make_runs(SMALL)
    tables = {
        name: [getattr(each, name) for each in (runs, filters)]
        for name in ("spec", "epochs", "filters")
    }
    tables["filters"] = [
        table.astype({"run": "str", "layer": "str"}) for table in tables["filters"]
    ]
    tables["epochs"] = [table.astype({"run": "str"}) for table in tables["epochs"]]
    both = Runs(
        **{name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()},
        rounds=runs.rounds,
        correlations=runs.correlations,
    )
    for figure, alone in (("H1a", runs), ("3", filters), ("H1b", runs), ("2", filters)):
        module = scatter if figure in ("H1a", "3") else correlation_curve
        together, single = (module.table(each, find(figure), DEFAULT) for each in (both, alone))
        pd.testing.assert_frame_equal(together, single, check_dtype=False, check_categorical=False)
        assert row_kind_in(together) is (WEIGHT if figure.startswith("H") else FILTER)


# What the log does not hold


@pytest.mark.parametrize(("figure", "module"), [("H1a", scatter), ("H1b", correlation_curve)])
def test_a_coefficient_that_was_not_recorded_is_refused(
    runs: Runs, figure: str, module: object
) -> None:
    with pytest.raises(
        FigureError,
        match=r"the kendall correlation of theta_\w+ and \w+ over all weights .*holds only pearson and spearman.*--method",
    ):
        module.table(runs, find(figure), DrawOptions(method="kendall"))  # type: ignore[attr-defined]
    with pytest.raises(FigureError, match=r"the pearson correlation .* holds only no correlation"):
        module.table(replace(runs, correlations=runs.correlations[:0]), find(figure), DEFAULT)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (DrawOptions(mask_ratio=0.5), "by magnitude at a ratio of 0.5"),
        (DrawOptions(mask_score="bn_scale"), "by bn_scale at a ratio of 0.2"),
        (DrawOptions(mask_score="l1_norm", mask_ratio=0.1), "by l1_norm at a ratio of 0.1"),
    ],
)
def test_masks_that_were_not_recorded_are_refused(
    runs: Runs, options: DrawOptions, asked: str
) -> None:
    with pytest.raises(
        FigureError,
        match=rf"masks of weights {asked} were asked for.*by magnitude at a ratio of 0\.2.*--mask-score and --mask-ratio",
    ):
        correlation_curve.table(runs, find("H1b"), options)


def test_masks_of_weights_are_by_magnitude_unless_named(runs: Runs) -> None:
    named = correlation_curve.table(runs, find("H1b"), DrawOptions(mask_score="magnitude"))
    pd.testing.assert_frame_equal(named, correlation_curve.table(runs, find("H1b"), DEFAULT))


def test_epochs_without_a_change_are_told(runs: Runs) -> None:
    with pytest.raises(FigureError, match="holds both theta_change and loss_preservation"):
        correlation_curve.table(
            replace(runs, correlations=runs.correlations.assign(r=np.nan)), find("H1b"), DEFAULT
        )
    with pytest.raises(FigureError, match=r"no two epochs .* have masks by magnitude"):
        correlation_curve.table(
            replace(runs, epochs=runs.epochs.assign(mask_distance=np.nan)), find("H1b"), DEFAULT
        )


# The pictures and the words


def test_words_say_weights(runs: Runs) -> None:
    for figure, module in (("H1a", scatter), ("H1b", correlation_curve)):
        table = module.table(runs, find(figure), DEFAULT)  # type: ignore[attr-defined]
        parts = [
            module.drawn(table, DEFAULT),
            *module.values(table, DEFAULT),
            module.finding(table, DEFAULT),
            words_of(module.draw(table, DEFAULT)),
        ]  # type: ignore[attr-defined]
        assert (
            not any("filter" in part for part in parts)
            and "weight" in parts[0]
            and f"{WEIGHTS:,} weights" in " ".join(parts)
        )
    curve = correlation_curve.table(runs, find("H1b"), DEFAULT)
    assert "|θ Δθ|" in words_of(
        correlation_curve.draw(curve, DEFAULT)
    ) and "theta_change" in correlation_curve.drawn(curve, DEFAULT)


def test_the_caption_says_how_many_weights_are_shown_and_what_is_in_force(
    runs: Runs, tmp_path: Path
) -> None:
    for figure in ("H1a", "H1b"):
        save_figure(figure, runs, tmp_path, formats=["png"])
    scattered, curve = (
        " ".join((tmp_path / f"figure{name}.txt").read_text(encoding="utf-8").split())
        for name in ("H1a", "H1b")
    )
    assert f"Shown are {9 * sum(SMALL['resnet56']):,} of its {WEIGHTS:,} weights" in scattered
    assert "measure of the masks: magnitude" in curve and "2p(1 - p) = 0.32" in curve


def test_a_log_of_all_weights_says_nothing_of_a_sample(runs: Runs) -> None:
    every = runs.correlations.assign(n=9 * sum(SMALL["resnet56"]))
    assert "Shown are" not in scatter.drawn(
        scatter.table(replace(runs, correlations=every), find("H1a"), DEFAULT), DEFAULT
    )


def figures(runs: Runs) -> Iterator[Figure]:
    yield scatter.draw(scatter.table(runs, find("H1a"), DEFAULT), DEFAULT)
    yield correlation_curve.draw(correlation_curve.table(runs, find("H1b"), DEFAULT), DEFAULT)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
@pytest.mark.parametrize("epochs", [4, 16, 160])
def test_pictures_of_weights_are_readable(seeds: Sequence[int], epochs: int) -> None:
    for figure in figures(weight_runs(seeds, epochs, max(1, epochs // 8))):
        assert_readable(figure)


@pytest.mark.parametrize(
    ("falls", "verdict"), [(True, "as the claim has it"), (False, "against the claim")]
)
def test_the_claim_is_judged_by_the_numbers(runs: Runs, falls: bool, verdict: str) -> None:
    epoch = runs.correlations["epoch"]
    rising = replace(runs, correlations=runs.correlations.assign(r=0.1 + epoch / 40))
    rising = replace(
        rising,
        epochs=runs.epochs.assign(
            mask_distance=0.2 + (-0.01 if falls else 0.01) * runs.epochs["epoch"]
        ),
    )
    assert (
        correlation_curve.finding(
            correlation_curve.table(rising, find("H1b"), DEFAULT), DEFAULT
        ).count(verdict)
        == 3
    )
    high = scatter.finding(
        scatter.table(
            replace(runs, correlations=runs.correlations.assign(r=0.9 if falls else 0.1)),
            find("H1a"),
            DEFAULT,
        ),
        DEFAULT,
    )
    assert (
        "high and positive in 3 of the 3 panels" if falls else "high in none of the 3 panels"
    ) in high


# How they look


def test_scatter_of_weights_is_as_its_baseline(runs: Runs, tmp_path: Path) -> None:
    assert_as_before(
        scatter.draw(scatter.table(runs, find("H1a"), DEFAULT), DEFAULT),
        "scatter_of_weights",
        tmp_path,
    )
