"""The long form of a caption holds all values, options in force and runs."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from pruneviz.figures.caption import WIDTH
from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.draw import compose
from pruneviz.figures.kinds import scatter
from pruneviz.figures.long_caption import PRUNING_FACTS
from pruneviz.figures.options import DrawOptions
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.log.runs import Runs
from pruneviz.plot.words import mean_and_sd
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs({"resnet56": SMALL["resnet56"]})


def test_the_long_form_carries_numbers_claim_options_and_runs(runs: Runs) -> None:
    written = compose("3", runs, options=DrawOptions(method="kendall", seed=1)).long_caption
    text = " ".join(written.split())
    table = scatter.table(runs, FIGURES["3"], DrawOptions(method="kendall"))
    for value in table.drop_duplicates("epoch")[["kendall", "spearman"]].to_numpy().ravel():
        assert mean_and_sd(value, np.nan, 3) in text
    assert f"x {scatter.thresholds(table)['theta_g'].iloc[0]:.0e}" in text
    for part in (
        "highly correlated",
        "batch norm while measuring: eval",
        "1, 200",
        "lag of the changes sigma_delta and theta_delta (epochs): 1",
        "correlation coefficient: kendall",
        "seed of the points: 1",
        *(f"resnet56-digits-s{seed}" for seed in range(3)),
    ):
        assert part in text
    assert max(map(len, written.splitlines())) <= WIDTH + 20  # lines of values are not wrapped


def test_the_long_form_tells_how_the_runs_were_pruned() -> None:
    runs = make_pruned_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), carry_momentum=True)
    text = compose("5", runs).long_caption
    for option in fields(PruningOptions):
        label = option.metadata["caption"]
        assert not label or f"  {label}: " in text
    assert f"{PRUNING_FACTS['target']}: 0.6\n" in text
    assert f"{PRUNING_FACTS['carry_momentum']}: yes\n" in text
    assert f"{PRUNING_FACTS['augment']}: no\n" in text
    assert "\n  : " not in text


def test_a_fact_in_which_unpruned_runs_differ_is_never_empty(runs: Runs) -> None:
    threads = np.arange(len(runs.spec)) % 2 + 1
    differing = Runs(runs.spec.assign(threads=threads), runs.epochs, runs.filters, runs.rounds)
    (line,) = (
        line for line in compose("3", differing).long_caption.splitlines() if "CPU threads" in line
    )
    assert line.endswith(": 1 or 2")
