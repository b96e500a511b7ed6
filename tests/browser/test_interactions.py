"""The page in a browser: each interaction shows the numbers that pruneviz computes in Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from selenium.webdriver.common.keys import Keys

import pruneviz as pv
from pruneviz.log.runs import Runs
from tests.support import page_twins as twin
from tests.support.browser import Shown, as_numbers

EVAL, BATCH = "resnet56-cifar100-unpruned-s0", "resnet56-cifar100-unpruned-bnbatch-s0"
PICTURES = ("scatter", "layers", "over-epochs", "trajectories", "side-a", "side-b", "overlap")


@pytest.fixture(scope="module")
def run(shipped: Runs) -> Runs:
    """The first run of the page."""
    return shipped.named(EVAL)


@pytest.fixture
def page(shown: Shown, shipped_page: Path) -> Shown:
    """The page of two shipped recordings, as it opens."""
    shown.open(shipped_page)
    return shown


def number_after(text: str, words: str) -> float:
    """The number that follows some words."""
    number = r"(−?[0-9]+(?:\.[0-9]+)?(?:e−?[0-9]+)?|undefined)"
    found = re.search(rf"{re.escape(words)}\s*{number}", text)
    assert found, f"{words!r} is not in {text!r}"
    return float(found[1].replace("−", "-").replace("undefined", "nan"))


# Scatter


@pytest.mark.parametrize(
    ("x", "y", "epoch", "scale"),
    [
        ("theta_g", "theta_hg", 16, "log"),
        ("theta_g", "theta_hg", 4, "log"),
        ("sigma", "theta_norm2", 5, "linear"),
        ("theta_norm2", "magnitude", 3, "log"),
    ],
)
def test_points_lie_where_their_values_are(
    page: Shown, run: Runs, x: str, y: str, epoch: int, scale: str
) -> None:
    page.view(x=x, y=y, epoch=epoch, scale=scale)
    scored = run.filters.assign(magnitude=pv.score(run.filters, "magnitude"))
    with_score = Runs(run.spec, run.epochs, scored, run.rounds)
    rows = twin.points(with_score, x, y, epoch, page.plot("scatter"), scale == "log")
    for _, row in twin.isolated(rows, 4).iterrows():
        told = page.hover("scatter", row["left"], row["top"]).splitlines()
        assert told[0] == f"{row['layer']}, filter {row['filter']}"
        for line, name in zip(told[1:], (y, x), strict=True):
            assert number_after(line, "=") == pytest.approx(row[name], rel=5e-3), line


@pytest.mark.parametrize("ratio", [2, 1.25])
def test_points_are_found_on_screens_of_finer_pixels(page: Shown, run: Runs, ratio: float) -> None:
    page.resize(1100, 800, ratio)
    page.settle()
    rows = twin.points(run, "theta_g", "theta_hg", 16, page.plot("scatter"))
    for _, row in twin.isolated(rows, 3).iterrows():
        told = page.hover("scatter", row["left"], row["top"]).splitlines()
        assert told[0] == f"{row['layer']}, filter {row['filter']}"


def test_hover_tells_standard_errors_with_what_they_hold_fixed(page: Shown, run: Runs) -> None:
    rows = twin.points(run, "theta_g", "theta_hg", 16, page.plot("scatter"))
    for _, row in twin.isolated(rows, 3).iterrows():
        name, y, x = page.hover("scatter", row["left"], row["top"]).splitlines()
        assert name == f"{row['layer']}, filter {row['filter']}"
        assert y.startswith("θᵀHg = ") and "(standard error, g held fixed) nats²/weight²" in y
        assert x.startswith("θᵀg = ") and x.endswith("(standard error) nats")
        assert number_after(y, "±") == pytest.approx(row["theta_hg_se_given_g_iid"], rel=0.06)
        assert number_after(x, "±") == pytest.approx(row["theta_g_se_iid"], rel=0.06)


def colours_shown(page: Shown, rows: pd.DataFrame) -> np.ndarray:
    return np.array(page.colours("scatter", rows[["left", "top"]].to_numpy()))[:, :3]


def filled_points(page: Shown, run: Runs) -> pd.DataFrame:
    """Points of the last epoch that are clear of noise and lie apart."""
    points = twin.points(run, "theta_g", "theta_hg", 16, page.plot("scatter"))
    alone = twin.isolated(points, 60, 5.0)
    return alone[pv.clear_of_noise(run, "theta_g")[_places(run, alone)].to_numpy(bool)]


def _places(run: Runs, rows: pd.DataFrame) -> pd.Index:
    """Places of rows of the last epoch in the filters table."""
    last = run.filters.index[run.filters["epoch"] == 16]
    return last[rows.index]


def test_points_within_noise_are_hollow(page: Shown, run: Runs) -> None:
    points = twin.points(run, "theta_g", "theta_hg", 16, page.plot("scatter"))
    alone = twin.isolated(points, 40, 6.0)
    clear = pv.clear_of_noise(run, "theta_g")
    noise = ~clear[_places(run, alone)].to_numpy(bool)
    inside = np.array(page.colours("scatter", alone[["left", "top"]].to_numpy()))[:, 3]
    assert 5 < noise.sum() < 35
    assert np.array_equal(inside == round(0.85 * 255), ~noise)  # as opaque as a filled point
    share = 1 - clear[run.filters["epoch"] == 16].mean()
    assert f"; {100 * share:.1f} % are within the noise of the sample" in page.caption("scatter")
    page.choose("#x", "sigma")
    assert "noise" not in page.caption("scatter")  # no error of sigma is known


def test_the_range_of_the_axes_is_that_of_an_epoch_or_of_all(page: Shown, run: Runs) -> None:
    for span, rows in (("epoch", run.filters["epoch"] == 0), ("all", run.filters["epoch"] >= 0)):
        page.view(epoch=0, span=span)
        names = ("theta_g", "theta_hg")
        axes = [twin.AxisTwin([twin.values_of(run.filters[rows], name)]) for name in names]
        found = twin.points_on(run, *names, 0, page.plot("scatter"), axes)
        lone = twin.isolated(found, 1, 0.1).iloc[0]
        told = page.hover("scatter", lone["left"], lone["top"]).splitlines()
        assert told[0] == f"{lone['layer']}, filter {lone['filter']}"


def test_colour_tells_the_depth_of_the_layer(page: Shown, run: Runs) -> None:
    rows = filled_points(page, run)
    ramp = page.legend_ramp("scatter")[:, :3]
    layers = twin.layers_of(run)
    for row, colour in zip(rows["layer"], colours_shown(page, rows), strict=True):
        place = layers.index(row) / (len(layers) - 1)
        near = ramp[round(place * (len(ramp) - 1))]
        assert np.abs(near - colour).max() <= 16, row
    assert page.text("#scatter .legend") == "first layer\nlast layer"


def test_colour_tells_a_third_quantity(page: Shown, run: Runs) -> None:
    page.choose("#colour", "theta_norm2")
    rows = filled_points(page, run)
    axis = twin.AxisTwin([twin.values_of(run.filters, "theta_norm2")])
    ramp = page.legend_ramp("scatter")[:, :3]
    shares = axis.share(twin.values_of(rows, "theta_norm2"))
    for share, colour in zip(shares, colours_shown(page, rows), strict=True):
        assert np.abs(ramp[round(share * (len(ramp) - 1))] - colour).max() <= 16
    assert np.ptp(shares) > 0.2
    row = rows.iloc[0]
    told = page.hover("scatter", row["left"], row["top"]).splitlines()
    assert number_after(told[3], "=") == pytest.approx(row["theta_norm2"], rel=5e-3)
    assert "Σθ²" in page.text("#scatter .legend") or "‖" in page.text("#scatter .legend")


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_the_caption_has_the_correlation_of_what_is_shown(
    page: Shown, run: Runs, method: str
) -> None:
    for epoch in (16, 0):
        page.view(epoch=epoch, method=method)
        found = twin.correlation(run, "theta_g", "theta_hg", epoch, method)
        symbol = "Pearson r" if method == "pearson" else "Spearman ρ"
        assert number_after(page.caption("scatter"), f"{symbol} =") == round(found, 2)
        assert f"of 1,064 filters at epoch {epoch}" in page.caption("scatter")


def test_lists_choose_any_two_quantities_and_axes(page: Shown, run: Runs) -> None:
    page.choose("#x", "sigma")
    page.choose("#y", "abs_theta_g")
    page.choose("#scale", "linear")
    table = page.table("scatter")
    last = run.filters[run.filters["epoch"] == 16]
    np.testing.assert_allclose(as_numbers(table["sigma"]), last["sigma"], rtol=1e-4)
    np.testing.assert_allclose(as_numbers(table["abs_theta_g"]), last["abs_theta_g"], rtol=1e-4)
    assert list(table["layer"]) == list(last["layer"].astype(str))
    assert page.caption("scatter").startswith("Σ|θg| against σ of 1,064 filters at epoch 16")


# Epochs


def test_the_slider_steps_through_the_epochs(page: Shown, run: Runs) -> None:
    page.slide("#epoch", 4)
    assert page.text("#epoch-shown") == "4 of 16"
    assert "at epoch 4," in page.caption("scatter") and "at epoch 4" in page.caption("layers")
    assert set(page.table("scatter")["epoch"]) == {"4"}
    assert page.element("#epoch").get_attribute("aria-valuetext") == "epoch 4"


def test_play_goes_through_the_epochs_and_stops_at_the_last(page: Shown) -> None:
    page.view(epoch=14)
    button = page.element("#play")
    button.click()
    assert button.get_attribute("aria-pressed") == "true" and button.text == "Stop"
    page.wait(lambda: page.text("#epoch-shown") == "16 of 16")
    page.wait(lambda: button.text == "Play")
    assert button.get_attribute("aria-pressed") == "false"
    page.redraws(button.click)  # from the last epoch it begins again
    page.wait(lambda: page.text("#epoch-shown").startswith(("0 of", "1 of")))
    button.click()
    assert button.text == "Play"


# Layers


def layer_means(run: Runs, column: str, epoch: int) -> np.ndarray:
    rows = twin.kept_rows(run, epoch)
    means = rows[column].astype("float64").groupby(rows["layer"].astype(str)).mean()
    return means.reindex(twin.layers_of(run)).to_numpy()


def layer_correlations(run: Runs, epoch: int, method: str) -> np.ndarray:
    rows = twin.kept_rows(run, epoch)
    rows = rows.assign(layer=rows["layer"].astype(str))
    found = pv.correlate(
        rows, "theta_g", "theta_hg", by=["layer"], method=method, interval=None
    ).set_index("layer")["r"]
    return found.reindex(twin.layers_of(run)).to_numpy(dtype="float64", na_value=np.nan)


def layer_shares(run: Runs, measure: str, epoch: int, ratio: float) -> np.ndarray:
    mask = twin.pruned(run, measure, epoch, ratio)
    found = mask.astype("Float64").groupby(level=0).mean()
    return found.reindex(twin.layers_of(run)).to_numpy(dtype="float64", na_value=np.nan)


Bars = Callable[[Runs], np.ndarray]


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ({"bars": "share"}, lambda run: layer_shares(run, "magnitude", 16, 0.2)),
        (
            {"bars": "share", "measure": "grasp", "ratio": 55, "epoch": 3},
            lambda run: layer_shares(run, "grasp", 3, 0.55),
        ),
        (
            {"bars": "share", "measure": "sigma_change", "ratio": 10},
            lambda run: layer_shares(run, "sigma_change", 16, 0.1),
        ),
        ({"bars": "correlation"}, lambda run: layer_correlations(run, 16, "pearson")),
        (
            {"bars": "correlation", "method": "spearman", "epoch": 2},
            lambda run: layer_correlations(run, 2, "spearman"),
        ),
        (
            {"bars": "mean", "quantity": "theta_hg", "epoch": 1},
            lambda run: layer_means(run, "theta_hg", 1),
        ),
    ],
)
def test_bars_are_those_of_pandas(
    page: Shown, run: Runs, view: dict[str, str], expected: Bars
) -> None:
    page.view(**view)
    table = page.table("layers")
    assert list(table["layer"]) == twin.layers_of(run)
    found = as_numbers(table.iloc[:, 3])
    np.testing.assert_allclose(found, expected(run), rtol=2e-4, atol=1e-7)
    counts = run.filters[run.filters["epoch"] == 0].groupby("layer", observed=True).size()
    assert as_numbers(table["rows"]).tolist() == counts.reindex(twin.layers_of(run)).tolist()


def test_bars_are_as_high_as_their_values(page: Shown, run: Runs) -> None:
    box = page.plot("layers")
    values = layer_shares(run, "magnitude", 16, 0.2)
    count = len(values)
    for at in (int(values.argmax()), 33, 56):
        left = (at + 0.6) / (count + 0.2) * box.width
        drawn = page.column("layers", left)[:, 3] > 200
        bottom = len(drawn) - 1 - int(drawn[::-1].argmax())
        top = bottom - int((~drawn[bottom::-1]).argmax()) + 1
        assert top == pytest.approx((1 - values[at] / 1.02) * box.height, abs=2.5), at


def test_a_click_on_a_bar_shows_its_layer_alone(page: Shown, run: Runs) -> None:
    box = page.plot("layers")
    layer = twin.layers_of(run)[20]
    place = (20.6 / 57.2 * box.width, box.height / 2)
    assert page.hover("layers", *place).splitlines()[0] == layer
    page.click("layers", *place)
    rows = twin.kept_rows(run, 16)
    rows = rows[rows["layer"] == layer]
    assert f"of {len(rows)} filters of layer {layer}" in page.caption("scatter")
    assert set(page.table("scatter")["layer"]) == {layer}
    assert page.text("#layer option:checked") == layer
    r = pv.correlate(rows, "theta_g", "theta_hg", by=[], interval=None)["r"].iloc[0]
    assert number_after(page.caption("scatter"), "Pearson r =") == round(float(r), 2)
    page.click("layers", *place)  # again: all layers
    assert "of 1,064 filters at epoch" in page.caption("scatter")


def test_the_list_of_layers_does_the_same(page: Shown, run: Runs) -> None:
    layer = twin.layers_of(run)[5]
    page.choose("#layer", "5")
    assert set(page.table("scatter")["layer"]) == {layer}
    assert f"The scatter shows {layer} alone." in page.caption("layers")


# Choosing rows


def brushed(page: Shown, run: Runs) -> pd.DataFrame:
    """Rows in a box that is drawn around the upper right part of the scatter."""
    box = page.plot("scatter")
    rows = twin.points(run, "theta_g", "theta_hg", 16, box)
    start, end = (0.72 * box.width, 0.1 * box.height), (0.97 * box.width, 0.35 * box.height)
    page.drag("scatter", start, end)
    edge = 1.5  # pixels within which a point may count or not
    inside = rows["left"].between(start[0] + edge, end[0] - edge)
    inside &= rows["top"].between(start[1] + edge, end[1] - edge)
    outside = ~rows["left"].between(start[0] - edge, end[0] + edge)
    outside |= ~rows["top"].between(start[1] - edge, end[1] + edge)
    return rows.assign(inside=np.where(inside, True, np.where(outside, False, None)))


def test_a_box_chooses_rows_and_layers_show_where_they_sit(page: Shown, run: Runs) -> None:
    rows = brushed(page, run)
    sure, maybe = int((rows["inside"] == True).sum()), int(rows["inside"].isna().sum())  # noqa: E712
    chosen = int(re.search(r"; ([0-9,]+) chosen, ringed", page.caption("scatter"))[1])  # type: ignore[index]
    assert 20 < sure <= chosen <= sure + maybe
    table = page.table("layers").set_index("layer")
    found = as_numbers(table["chosen"])
    assert found.sum() == chosen
    least = rows[rows["inside"] == True].groupby("layer").size()  # noqa: E712
    least = least.reindex(twin.layers_of(run), fill_value=0).to_numpy()
    assert (found >= least).all() and (found - least).sum() <= maybe
    assert "share of the layer's rows that are chosen" in page.text("#layers .legend")
    most = int(found.argmax())
    told = page.hover("layers", (most + 0.6) / 57.2 * page.plot("layers").width, 30)
    count = int(as_numbers(table["rows"])[most])
    assert told.splitlines()[-1] == f"{int(found[most])} of {count} rows chosen"
    narrow = page.column("layers", (most + 0.6) / 57.2 * page.plot("layers").width)
    pink = (narrow[:, 0] > 180) & (narrow[:, 1] < 60)
    height = page.plot("layers").height
    assert pink.sum() == pytest.approx(found[most] / count * height, abs=3)


def test_chosen_rows_are_followed_over_epochs(page: Shown, run: Runs) -> None:
    rows = twin.points(run, "theta_g", "theta_hg", 16, page.plot("scatter"))
    picked = twin.isolated(rows, 3)
    for _, row in picked.iterrows():
        page.click("scatter", row["left"], row["top"])
    names = {f"{row['layer']}, filter {row['filter']}" for _, row in picked.iterrows()}
    table = page.table("trajectories")
    assert set(table["curve"]) == names
    for name, mine in table.groupby("curve", sort=False):
        layer, number = str(name).split(", filter ")
        of = (run.filters["layer"] == layer) & (run.filters["filter"] == int(number))
        expected = run.filters[of].sort_values("epoch")
        assert as_numbers(mine["epoch"]).tolist() == list(range(17))
        np.testing.assert_allclose(as_numbers(mine.iloc[:, 2]), expected["theta_hg"], rtol=1e-4)
    row = picked.iloc[0]
    page.click("scatter", row["left"], row["top"])  # a second click lets it go
    assert "; 2 chosen, ringed" in page.caption("scatter")
    page.click("scatter", 3, 3)  # one beside all points lets all go
    assert "chosen" not in page.caption("scatter")
    assert page.caption("trajectories").startswith("Choose filters in the scatter")


def test_nine_curves_look_different(page: Shown) -> None:
    looks = page.run(
        "return [...Array(9).keys()].map((i) => lineOf('', [0], [0], i))"
        ".map((line) => `${line.dash} ${line.colour}`)"
    )
    assert len(set(looks)) == 9


@pytest.mark.parametrize(("how", "column"), [("x lowest", "theta_g"), ("y highest", "theta_hg")])
def test_the_ten_most_extreme_rows_are_chosen_from_a_list(
    page: Shown, run: Runs, how: str, column: str
) -> None:
    page.choose("#choose", how)
    rows = run.filters[run.filters["epoch"] == 16]
    lowest = how.endswith("lowest")
    extreme = rows.nsmallest(10, column) if lowest else rows.nlargest(10, column)
    expected = {f"{r['layer']}, filter {r['filter']}" for _, r in extreme.iterrows()}
    assert set(page.table("trajectories")["curve"]) == expected


# Over epochs


def test_correlation_over_epochs(page: Shown, run: Runs) -> None:
    for method in ("pearson", "spearman"):
        page.view(curve="correlation", method=method)
        table = page.table("over-epochs")
        expected = [twin.correlation(run, "theta_g", "theta_hg", e, method) for e in range(17)]
        np.testing.assert_allclose(as_numbers(table.iloc[:, 2]), expected, rtol=2e-4)


@pytest.mark.parametrize(("measure", "ratio"), [("magnitude", 20), ("loss_preservation", 70)])
def test_mask_distance_over_epochs(page: Shown, run: Runs, measure: str, ratio: int) -> None:
    page.choose("#curve", "masks")
    page.view(curve="masks", measure=measure, ratio=ratio)
    table = page.table("over-epochs")
    expected = pv.mask_distance(run, score=measure, ratio=ratio / 100)["distance"]
    found = as_numbers(table.iloc[:, 2])
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], expected, rtol=2e-4)


def test_accuracy_and_any_fact_over_epochs(page: Shown, run: Runs) -> None:
    epochs = run.epochs.sort_values("epoch")
    page.choose("#curve", "accuracy")
    table = page.table("over-epochs")
    for name in ("test_acc", "train_acc"):
        found = as_numbers(table.loc[table["curve"] == name].iloc[:, 2])
        np.testing.assert_allclose(found, epochs[name].to_numpy(dtype=float), rtol=1e-4)
    page.choose("#curve", next(v for v in values_in(page, "#curve") if v.endswith("test_loss")))
    found = as_numbers(page.table("over-epochs").iloc[:, 2])
    np.testing.assert_allclose(found, epochs["test_loss"].to_numpy(dtype=float), rtol=1e-4)


def values_in(page: Shown, css: str) -> list[str]:
    """Values of a list."""
    script = "return [...document.querySelector(arguments[0]).options].map((o) => o.value)"
    return list(page.run(script, css))


def test_a_click_on_a_curve_sets_the_epoch(page: Shown) -> None:
    box = page.plot("over-epochs")
    room = 0.5
    left = (7 + room) / (16 + 2 * room) * box.width
    page.click("over-epochs", left, 40)
    assert page.text("#epoch-shown") == "7 of 16"
    line = page.column("over-epochs", (7 + room) / (16 + 2 * room) * box.width)
    assert (line[:, 3] > 100).mean() > 0.4  # dashes mark it
    page.click("overlap", (2 + room) / 17 * page.plot("overlap").width, 40)
    assert page.text("#epoch-shown") == "2 of 16"


# Compare


def at_end(run: Runs) -> pd.DataFrame:
    return run.filters[run.filters["epoch"] == 16]


def test_two_runs_share_their_axes(page: Shown, shipped: Runs) -> None:
    assert page.element("#run-a").get_property("value") == EVAL
    assert page.element("#run-b").get_property("value") == BATCH
    for side, name in (("side-a", EVAL), ("side-b", BATCH)):
        box = page.plot(side)
        run = shipped.named(name)
        both = [
            twin.AxisTwin([twin.values_of(at_end(shipped.named(n)), c) for n in (EVAL, BATCH)])
            for c in ("theta_g", "theta_hg")
        ]
        assert page.caption(side).startswith(f"{name}: θᵀHg against θᵀg of 1,064 filters")
        rows = twin.points_on(run, "theta_g", "theta_hg", 16, box, both)
        for _, row in twin.isolated(rows, 3).iterrows():
            told = page.hover(side, row["left"], row["top"]).splitlines()
            assert told[0] == f"{row['layer']}, filter {row['filter']}", side
            assert number_after(told[1], "=") == pytest.approx(row["theta_hg"], rel=5e-3)


def test_both_sides_stand_at_one_height(page: Shown) -> None:
    one, other = page.plot("side-a"), page.plot("side-b")
    assert (one.top, one.width, one.height) == (other.top, other.width, other.height)


def test_sides_may_show_other_quantities_and_the_same_run(page: Shown, run: Runs) -> None:
    page.choose("#run-b", EVAL)
    page.choose("#x-b", "sigma")
    page.choose("#y-b", "abs_theta_g")
    table = page.table("side-b")
    last = run.filters[run.filters["epoch"] == 16]
    np.testing.assert_allclose(as_numbers(table["sigma"]), last["sigma"], rtol=1e-4)
    assert page.caption("side-b").startswith(f"{EVAL}: Σ|θg| against σ of 1,064 filters")
    assert page.caption("side-a").startswith(f"{EVAL}: θᵀHg against θᵀg of 1,064 filters")


@pytest.mark.parametrize("ratio", [1, 20, 73])
def test_the_overlap_of_two_masks_is_that_of_keep_mask(
    page: Shown, shipped: Runs, ratio: int
) -> None:
    page.view(ratio=ratio, measureA="magnitude", measureB="grasp")
    runs = [shipped.named(EVAL), shipped.named(BATCH)]
    table = page.table("overlap")
    both, chance = (as_numbers(mine.iloc[:, 2]) for _, mine in table.groupby("curve", sort=False))
    epochs = (0, 4, 8, 12, 16)  # those at which the second run measured derivatives
    assert as_numbers(table["epoch"]).tolist() == [*epochs, *epochs]
    for place, epoch in enumerate(epochs):
        one = twin.pruned(runs[0], "magnitude", epoch, ratio / 100)
        other = twin.pruned(runs[1], "grasp", epoch, ratio / 100).reindex(one.index)
        assert both[place] == pytest.approx((one & other).sum() / one.sum(), rel=2e-4)
        assert chance[place] == pytest.approx(other.mean(), rel=2e-4)
    assert f"would prune {one.sum()} of 1,064 kept filters" in page.caption("overlap")
    assert f"; {(one & other).sum()} (" in page.caption("overlap")


def test_the_slider_of_the_overlap_sets_the_ratio(page: Shown, run: Runs) -> None:
    page.view(b=EVAL, ratio=20)
    page.slide("#ratio-overlap", 24)
    one = twin.pruned(run, "magnitude", 16, 0.24)
    other = twin.pruned(run, "loss_preservation", 16, 0.24)
    assert f"would prune {one.sum()} of 1,064 kept filters" in page.caption("overlap")
    assert f"; {(one & other).sum()} (" in page.caption("overlap")
    assert page.element("#ratio").get_property("value") == "24"
    assert "at 24 %" in page.caption("layers")


# Tables and files


def test_saved_numbers_are_the_recorded_ones_bit_for_bit(page: Shown, run: Runs) -> None:
    page.view(epoch=9)
    saved = page.csv_table("scatter")
    rows = run.filters[run.filters["epoch"] == 9].reset_index(drop=True)
    assert saved["layer"].tolist() == rows["layer"].astype(str).tolist()
    assert saved["filter"].tolist() == rows["filter"].tolist()
    for name in ("theta_g", "theta_hg"):
        assert (saved[name].astype("float32") == rows[name].astype("float32")).all(), name
    for name in ("theta_g_se_iid", "theta_hg_se_given_g_iid"):
        np.testing.assert_allclose(saved[name], rows[name].astype(float), rtol=2.0**-16)


@pytest.mark.parametrize("picture", PICTURES)
def test_tables_hold_what_is_saved(page: Shown, picture: str) -> None:
    page.choose("#choose", "x highest")
    shown, saved = page.table(picture), page.csv_table(picture, keep_default_na=False, dtype=str)
    assert list(shown.columns) == list(saved.columns) and len(shown) == len(saved) > 0
    for name in shown:
        if shown[name].str.fullmatch(r"(none|−?∞|−?[0-9.]+(e−?[0-9]+)?)").all():
            numbers = pd.to_numeric(saved[name].replace({"": "nan"}))
            np.testing.assert_allclose(as_numbers(shown[name]), numbers, rtol=1e-4, err_msg=name)
        else:
            assert shown[name].tolist() == saved[name].tolist(), name


@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_says_in_words_what_is_to_be_seen(page: Shown, picture: str) -> None:
    plot = page.element(f"#{picture}-plot")
    title = page.text(f"#{picture}-title")
    caption = page.caption(picture)
    assert plot.get_attribute("aria-label") == f"{title}: {caption}"
    assert len(caption) > 40 and caption.endswith(".")
    assert plot.get_attribute("tabindex") == "0"
    keys = page.element(f"#{picture}-keys")
    assert plot.get_attribute("aria-describedby") == f"{picture}-keys"
    assert "rrow keys" in keys.get_attribute("textContent")


# The view in the address


def test_an_address_shows_the_same_view_in_another_tab(page: Shown) -> None:
    page.choose("#x", "sigma")
    page.choose("#colour", "theta_norm2")
    page.choose("#bars", "mean")
    page.choose("#curve", "masks")
    page.choose("#choose", "y lowest")
    page.slide("#epoch", 11)
    page.wait(lambda: "epoch=11" in page.driver.current_url)
    address = page.driver.current_url
    before = [page.caption(picture) for picture in PICTURES]
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.driver.get(address)
    page.wait(lambda: page.drawn() > 0)
    found = [page.caption(picture) for picture in PICTURES]
    lists = [page.element(css).get_property("value") for css in ("#x", "#colour", "#bars")]
    page.driver.close()
    page.driver.switch_to.window(first)
    assert found == before and lists == ["sigma", "theta_norm2", "mean"]


def test_back_and_forward_go_through_the_views(page: Shown) -> None:
    page.choose("#x", "sigma")
    page.choose("#scale", "linear")
    page.redraws(page.driver.back)
    assert page.element("#scale").get_property("value") == "log"
    assert page.element("#x").get_property("value") == "sigma"
    page.redraws(page.driver.back)
    assert page.element("#x").get_property("value") == "theta_g"
    page.redraws(page.driver.forward)
    assert page.element("#x").get_property("value") == "sigma"


def test_an_address_that_names_nothing_of_this_page_is_no_harm(page: Shown) -> None:
    page.view(x="no such", epoch="x", run="no", chosen="9-1,a,5-99999999,-3", ratio="-5", b="")
    assert page.caption("scatter").startswith("θᵀHg against θᵀg of 1,064 filters at epoch 16")


# The whole page


def test_another_run_is_shown_with_its_facts(page: Shown, shipped: Runs) -> None:
    assert "eval" in page.text("#facts")
    page.choose("#run", BATCH)
    run = shipped.named(BATCH)
    r = twin.correlation(run, "theta_g", "theta_hg", 16)
    assert number_after(page.caption("scatter"), "Pearson r =") == round(r, 2)
    assert BATCH in page.text("#facts") and "batch" in page.text("#facts")
    accuracy = run.epochs.sort_values("epoch")["test_acc"].iloc[-1]
    assert f"{100 * accuracy:.1f} % (test, epoch 16)" in page.text("#facts")
    page.choose("#run", EVAL)
    assert page.element("#run-a").get_property("value") == EVAL


def test_all_runs_are_listed_with_their_facts(page: Shown) -> None:
    assert page.text("#all-runs summary") == "All 2 runs"
    page.element("#all-runs summary").click()
    rows = [row.text for row in page.driver.find_elements("css selector", "#all-runs tbody tr")]
    page.element("#all-runs summary").click()
    assert [row.split()[0] for row in rows] == [EVAL, BATCH]
    assert " eval " in rows[0] and " batch " in rows[1]


def test_the_noise_warning_and_the_correlation_stand_in_the_head(page: Shown, run: Runs) -> None:
    told = page.text("#sentences")
    first = run.filters[run.filters["epoch"] == 0]
    ratio = (first["theta_g"] / first["theta_g_se_iid"]).abs()
    share = 100 * float((ratio < 2).mean())
    assert abs(number_after(told, "Noise:") - share) <= 1
    for epoch in (0, 16):
        assert f"{twin.correlation(run, 'theta_g', 'theta_hg', epoch):.2f}" in told


def test_dark_and_light_follow_the_system_or_the_choice(page: Shown) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(ground)
    axis_colour = "return themed('text')"
    words = page.run(axis_colour)
    page.redraws(lambda: page.prefer("dark"))
    assert page.run(ground) != light and page.run(axis_colour) != words
    page.choose("#theme", "light")
    assert page.run(ground) == light
    page.choose("#theme", "")
    assert page.run(ground) != light
    page.redraws(lambda: page.prefer("light"))
    assert page.run(ground) == light


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(page: Shown, width: int) -> None:
    page.resize(width, 900)
    page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.settle()
    widest = page.run("return document.documentElement.scrollWidth")
    page.run("document.querySelectorAll('details').forEach((each) => { each.open = false; })")
    assert widest <= width
    for picture in PICTURES:
        assert page.plot(picture).width >= 200
    out = page.run(
        "return [...document.querySelectorAll('select, button, input, summary')].filter((each) => {"
        "const box = each.getBoundingClientRect();"
        "return box.width && (box.left < 0 || box.right > innerWidth); }).map((each) => each.id)"
    )
    assert out == []


def test_keys_point_at_rows(page: Shown, run: Runs) -> None:
    page.hover("layers", 40, 40)  # the pointer rests on a picture that is scrolled away
    page.run("document.getElementById('scatter-plot').focus()")
    page.press(Keys.HOME)
    page.run("scrollBy({top: 40, behavior: 'instant'})")
    page.settle()
    rows = run.filters[run.filters["epoch"] == 16]
    lowest = rows.loc[rows["theta_g"].idxmin()]
    assert page.tooltip().splitlines()[0] == f"{lowest['layer']}, filter {lowest['filter']}"
    page.press(Keys.ARROW_RIGHT)
    second = rows.nsmallest(2, "theta_g").iloc[1]
    assert page.tooltip().splitlines()[0] == f"{second['layer']}, filter {second['filter']}"
    assert page.text("#live").startswith(f"{second['layer']}, filter {second['filter']}; θᵀHg")
    page.redraws(lambda: page.press(Keys.ENTER))
    assert "; 1 chosen, ringed" in page.caption("scatter")
    page.redraws(lambda: page.press(Keys.ESCAPE))
    assert "chosen" not in page.caption("scatter") and page.tooltip() == ""
