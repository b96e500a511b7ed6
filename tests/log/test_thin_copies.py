"""What thin copies hold and lack, from their facts and tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log.thin_copies import lacks_epochs, left_out, thin_copy, why_left_out
from pruneviz.log.thinning import thin
from tests.support.synthetic_runs import SMALL, make_runs, save_runs

NETWORKS = {"vgg13": SMALL["vgg13"]}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> pv.Runs:
    """Two runs of 8 epochs, measured every 2; a quarter of the filters is gone from epoch 5 on."""
    runs = make_runs(NETWORKS, seeds=(0, 1), epochs=8, every=2)
    gone = (runs.filters["epoch"] >= 5) & (runs.filters["filter"] % 4 == 0)
    share = 1 - gone[runs.filters["epoch"] == 8].mean()
    kept_fraction = np.where(runs.epochs["epoch"] >= 5, share, 1.0)
    folder = tmp_path_factory.mktemp("full")
    save_runs(
        replace(
            runs,
            spec=runs.spec.assign(pruned=True),
            filters=runs.filters.assign(kept=~gone),
            epochs=runs.epochs.assign(kept_fraction=kept_fraction),
        ),
        folder,
    )
    return pv.load(folder)


def thinned(full: pv.Runs, folder: Path, *runs: int, **asked: list[int] | list[str]) -> pv.Runs:
    """The recordings with some runs replaced by their thin copies."""
    paths = [file.parent for file in full.files("filters")]
    for place in runs:
        thin(paths[place], folder, **asked)  # type: ignore[arg-type]
    whole = [path for place, path in enumerate(paths) if place not in runs]
    return pv.load([folder, *whole])


def test_a_copy_tells_what_it_holds_and_the_full_run_had(full: pv.Runs, tmp_path: Path) -> None:
    assert not lacks_epochs(full.spec) and full.thin_copies() == []
    runs = thinned(full, tmp_path, 0, epochs=[0, 4], columns=["theta_g", "sigma"])
    (copy,) = runs.thin_copies()
    assert lacks_epochs(runs.spec) and copy.run == "vgg13-digits-s0"
    assert copy.recorded == tuple(range(9))
    assert (copy.measured, copy.held, copy.pruned) == ((0, 2, 4, 6, 8), (0, 4), (5, 6, 7, 8))
    assert "filters of 2 of 9 epochs (0, 4)" in copy.in_words
    assert left_out(runs.spec, ["theta_hg", "theta_g"]) == {"theta_hg": ["vgg13-digits-s0"]}
    told = "the thin copy vgg13-digits-s0 left out abs_theta_g, theta_hg"
    assert why_left_out(runs.spec, ["abs_theta_g", "sigma", "theta_hg"]) == told
    assert why_left_out(runs.spec, ["sigma"]) == why_left_out(full.spec, ["theta_hg"]) == ""


@pytest.mark.parametrize(
    ("every", "measured"), [("2", [0, 2, 3, 4]), ("log_spaced", [0, 1, 2, 3, 4]), (None, range(5))]
)
def test_copies_of_earlier_versions_may_have_been_measured_at_any_epoch_of_their_interval(
    every: str | None, measured: list[int]
) -> None:
    epochs = pd.DataFrame({"epoch": range(5), "kept_fraction": np.nan})
    facts = {"run": "a", "every": every, "thinned": {"epochs": 2}}
    assert thin_copy(facts, epochs, [0, 3]).measured == tuple(measured)
    assert thin_copy(facts, epochs, [0, 3]).pruned == ()
    assert thin_copy({**facts, "rounds": 2}, epochs, [0, 3]).pruned == tuple(range(5))


def test_the_last_epoch_of_a_thin_copy_is_that_of_the_full_run(
    full: pv.Runs, tmp_path: Path
) -> None:
    runs = thinned(full, tmp_path / "both", 0, 1, epochs=[0, 4])
    with pytest.raises(LogError, match=r"epoch 8, which thin copies left out; .* are 0, 4"):
        runs.filters_at(-1)
    with pytest.raises(LogError, match=r"epoch 11; the epochs are 0, 4"):
        runs.filters_at(11)
    assert set(runs.filters_at(-5)["epoch"]) == {4}
    one = thinned(full, tmp_path / "one", 0, epochs=[0, 4])
    pd.testing.assert_frame_equal(
        one.filters_at(-1).reset_index(drop=True).astype({"run": "str"}),
        full.named("vgg13-digits-s1").filters_at(-1).reset_index(drop=True).astype({"run": "str"}),
        check_categorical=False,
    )
