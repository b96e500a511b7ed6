"""The caption of a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.draw import save_figure
from pruneviz.figures.kinds import scatter
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.words import mean_and_sd
from pruneviz.log.runs import Runs
from tests.support.synthetic_runs import SMALL, make_runs

DEFAULT = DrawOptions()


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs({"resnet56": SMALL["resnet56"]})


def test_caption_carries_numbers_claim_options_and_runs(runs: Runs, tmp_path: Path) -> None:
    save_figure("3", runs, tmp_path, options=DrawOptions(method="kendall", seed=1), formats=["png"])
    written = (tmp_path / "figure03.txt").read_text(encoding="utf-8")
    text = " ".join(written.split())
    table = scatter.table(runs, FIGURES["3"], DrawOptions(method="kendall"))
    for value in table.drop_duplicates("epoch")[["kendall", "spearman"]].to_numpy().ravel():
        assert mean_and_sd(value, np.nan, 3) in text
    thresholds = scatter.thresholds(table)
    assert f"x {thresholds['theta_g'].iloc[0]:.0e}" in text
    for part in (
        "highly correlated",
        "batch norm while measuring: eval",
        "1, 200",
        "lag of the changes sigma_delta and theta_delta (epochs): 1",
        "kendall",
        "seed of the points: 1",
    ):
        assert part in text
    assert all(f"resnet56-digits-s{seed}" in text for seed in range(3))
    assert max(map(len, written.splitlines())) <= 120
