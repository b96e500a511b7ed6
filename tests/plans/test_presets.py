"""Presets: the table of docs/presets.md holds their scales, and their runs are as long as said."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruneviz.log.vocabulary import Kind
from pruneviz.plans.needs import NETWORK_NAMES
from pruneviz.plans.presets import PRESETS, RunScale

PAGE = (Path(__file__).parents[2] / "docs" / "presets.md").read_text(encoding="utf-8")
CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100}
FRACTIONS = {1.0: "1", 0.5: "1/2", 0.25: "1/4", 0.125: "1/8"}
MOST_HOURS = 2.5  # of a run on one quiet core


def rows(kind: Kind) -> dict[str, list[str]]:
    """Cells of the row of each preset, without its name."""
    head = "| preset | data |" if kind == "unpruned" else "| preset | images trained on |"
    lines = PAGE.split(head)[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def numbers(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def images(name: str, scale: RunScale) -> str:
    """Images measured, of each data set, and of ResNet-56 if it has others."""

    def of(network: str) -> str:
        each = [
            scale.sample_per_class_on.get(data, scale.sample_per_class[network]) * CLASSES[data]
            for data in PRESETS[name].datasets
        ]
        return ", ".join(f"{count:,}" for count in each)

    own = of("resnet56")
    return of("vgg13") if own == of("vgg13") else f"{of('vgg13')}; ResNet-56 {own}"


def width(scale: RunScale) -> str:
    most, own = FRACTIONS[scale.width["vgg13"]], FRACTIONS[scale.width["resnet56"]]
    return most if own == most else f"{most}; ResNet-56 {own}"


@pytest.mark.parametrize("name", PRESETS)
def test_the_table_of_unpruned_runs_is_that_of_the_presets(name: str) -> None:
    scale = PRESETS[name].scales["unpruned"]
    data, *cells = rows("unpruned")[name]
    assert cells == [
        width(scale),
        str(scale.epochs),
        numbers(scale.lr_drops),
        images(name, scale),
        str(scale.every),
        numbers(scale.seeds),
    ]
    if scale.train_per_class is not None:
        trained = scale.train_per_class * CLASSES[PRESETS[name].datasets[0]]
        assert data.startswith(f"{trained:,} of ")


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "paper-init"])
def test_the_table_of_pruned_runs_is_that_of_the_presets(name: str) -> None:
    scale, alone = PRESETS[name].scales["pruned"], PRESETS[name].scales["prune_phase"]
    each, classes = scale.train_per_class, CLASSES[PRESETS[name].datasets[0]]
    seeds = numbers(scale.seeds)
    assert rows("pruned")[name] == [
        "all" if each is None else f"{each * classes:,}",
        str(scale.epochs),
        numbers(scale.lr_drops),
        images(name, scale),
        seeds if alone.seeds == scale.seeds else f"{seeds}; pruning rounds alone {alone.seeds[0]}",
    ]
    assert scale.epochs > 25, "25 rounds, and training after them"


def test_a_run_of_cifar_half_ends_in_the_time_that_it_may_take() -> None:
    for scale in PRESETS["cifar-half"].scales.values():
        for seconds in scale.seconds_per_epoch.values():
            assert (scale.epochs + 1) * seconds <= MOST_HOURS * 3600
    assert set(PRESETS["cifar-half"].scales["unpruned"].seconds_per_epoch) == set(NETWORK_NAMES)
