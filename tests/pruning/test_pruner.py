"""Pruning by rank: masks against a plain rewrite, and refused calls."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.analysis.scores import SCORES
from pruneviz.errors import DataError, PruningError, ScoreError
from pruneviz.experiment.networks.mobilenet_v1 import mobilenet_v1
from pruneviz.experiment.networks.resnet56 import resnet56
from pruneviz.pruning.held_entries import kept_of
from pruneviz.pruning.pruner import Pruner
from pruneviz.pruning.rounds import flowandprune_after, pruned_after
from tests.support.cases import BY_NAME, CLASSES, Net, digit_batches, head, norm2d, randomise
from tests.support.removed_twins import IMAGES, LABELS, TWINS, Twin

SMALL = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
COLUMNS = (
    "theta_norm2",
    "theta_l1",
    "theta_g",
    "abs_theta_g",
    "theta2_abs_g",
    "theta_hg",
    "theta_hg_t200",
    "sigma",
    "sigma_delta",
)
COLUMNS += ("theta2_g2", "synflow", "delta_loss", "bn_taylor", "wanda", "fpgm")
COLUMNS += ("theta_g_se_iid",)
COLUMNS += ("update_size", "distance_from_init", "sample_size", "fisher_block", "obd")
POSITIVE = ("theta_norm2", "theta_l1", "abs_theta_g", "theta2_abs_g", "theta2_g2", "synflow")
POSITIVE += ("bn_taylor", "wanda", "fpgm", "theta_g_se_iid", "update_size", "distance_from_init")
POSITIVE += ("sample_size",)
Key = tuple[str, int]
MEASURES = [name for name in SCORES if name not in ("theta_change", "lamp")]  # of single weights
MEASURED: Mapping[str, tuple[str, Callable[..., float]]] = {
    "magnitude": ("theta_norm2", lambda rows: sum(rows) ** 0.5),
    "loss_preservation": ("abs_theta_g", sum),
    "loss_preservation_abs_of_sum": ("theta_g", lambda rows: abs(sum(rows))),
    "proposed": ("theta2_abs_g", sum),
    "grasp_t200": ("theta_hg_t200", sum),
    "grasp": ("theta_hg", sum),
    "gradient_norm_preservation": ("theta_hg", lambda rows: abs(sum(rows))),
    "l1_norm": ("theta_l1", sum),
    "snip": ("abs_theta_g", sum),
    "fisher": ("theta2_g2", sum),
    "synflow": ("synflow", sum),
    "wanda": ("wanda", sum),
    "update_size": ("update_size", lambda rows: sum(row**2 for row in rows) ** 0.5),
    "distance_from_init": ("distance_from_init", lambda rows: sum(r**2 for r in rows) ** 0.5),
    "obd": ("obd", sum),
}


def filters_of(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Layers without the classifier, of a network that registers modules in execution order."""
    found = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    return found[:-1]


def groups_of(network: nn.Module) -> list[list[Key]]:
    """Each filter with the depthwise filters that follow it, in a network without branches."""
    groups: list[list[Key]] = []
    last: list[list[Key]] = []
    for name, module in filters_of(network):
        if getattr(module, "groups", 1) == 1:
            last = [[] for _ in range(len(module.weight))]
            groups += last
        for p, group in enumerate(last):
            group.append((name, p))
    return groups


def made_up(network: nn.Module, kind: str, seed: int) -> pd.DataFrame:
    """A filters table with a value in every column: random, with ties, with nulls, or all equal."""
    generator = np.random.default_rng(seed)
    keys = [(name, p) for name, module in filters_of(network) for p in range(len(module.weight))]
    table = pd.DataFrame(keys, columns=["layer", "filter"])
    for column in COLUMNS:
        values = generator.normal(size=len(keys))
        if kind == "ties":
            values = generator.integers(-2, 3, len(keys)).astype(float)
        elif kind == "equal":
            values = np.ones(len(keys))
        elif kind == "nulls":
            values[generator.integers(0, len(keys), len(keys) // 20)] = np.nan
        table[column] = np.abs(values) if column in POSITIVE else values
    layers = list(dict.fromkeys(table["layer"]))
    return table.assign(layer=pd.Categorical(table["layer"], categories=layers))


def plain_score(rows: list[dict[str, float]], measure: str) -> float:
    """Importance of the filters of one group; NaN if a value is missing."""
    if measure in MEASURED:
        column, formula = MEASURED[measure]
        return formula([row[column] for row in rows])
    if measure == "random":
        return rows[0]["draw"]
    of_row = {
        "bn_scale": lambda row: abs(row["sigma"]),
        "sigma_change": lambda row: abs(row["sigma"] * row["sigma_delta"]),
        "delta_loss": lambda row: row["delta_loss"],
        "bn_taylor": lambda row: row["bn_taylor"],
        "fpgm": lambda row: row["fpgm"],
        "gate_fisher": lambda row: (
            row["theta_g"] ** 2 + (row["sample_size"] - 1) * row["theta_g_se_iid"] ** 2
        ),
        "fisher_block": lambda row: row["fisher_block"],
    }
    values = list(map(of_row[measure], rows))
    there = [value for value in values if not np.isnan(value)]
    return sum(there) / len(there) if there else np.nan


def plainly_pruned(
    groups: list[list[Key]], scores: list[float], gone: set[Key], number: int, keep: float
) -> set[Key]:
    """Protect the best of every layer, then take the lowest groups until `number` are gone."""
    order = [key for group in groups for key in group]
    names = list(dict.fromkeys(layer for layer, _ in order))
    rank: dict[Key, float] = {}
    for group, score in zip(groups, scores, strict=True):
        rank |= dict.fromkeys(group, -np.inf if np.isnan(score) else score)
    protected: set[Key] = set()
    for name in names:
        of_layer = sorted(key for key in order if key[0] == name)
        there = [key for key in of_layer if key not in gone]
        there.sort(key=lambda key: rank[key])
        minimum = int(keep * len(of_layer)) + 1 if keep else 0
        protected |= set(there[max(0, len(there) - minimum) :])
    free = [
        group
        for group, score in zip(groups, scores, strict=True)
        if group[0] not in gone and not np.isnan(score) and not protected.intersection(group)
    ]
    position = {name: place for place, name in enumerate(names)}
    free.sort(key=lambda group: (rank[group[0]], position[group[0][0]], group[0][1]))
    before = sum(group[0] in gone for group in groups)
    return gone | {key for group in free[: number - before] for key in group}


def pruned_keys(network: nn.Module) -> set[Key]:
    """The filters whose weights are all zero."""
    found = set()
    for name, module in filters_of(network):
        zero = (module.weight.detach() == 0).flatten(1).all(1)
        found |= {(name, p) for p in zero.nonzero().flatten().tolist()}
    return found


@functools.cache
def mobile() -> nn.Module:
    torch.manual_seed(0)
    return mobilenet_v1(10, width=0.1)


@functools.cache
def residual_network() -> nn.Module:
    torch.manual_seed(0)
    return resnet56(10, width=0.25)


KINDS = ("random", "ties", "nulls", "equal")
# Every measure with one kind of values; every kind with a sum, a scale and a draw by name.
MEASURES_AND_KINDS = dict.fromkeys(
    [
        *zip(MEASURES, itertools.cycle(KINDS)),
        *itertools.product(("gradient_norm_preservation", "sigma_change", "random"), KINDS),
    ]
)


@pytest.mark.parametrize(("measure", "kind"), MEASURES_AND_KINDS)
def test_masks_are_those_of_a_plain_rewrite_of_global_ranking(measure: str, kind: str) -> None:
    network = copy.deepcopy(mobile())
    groups, pruner = groups_of(network), Pruner(network, SMALL, keep_at_least=0.1)
    gone: set[Key] = set()
    assert pruner.groups == len(groups)
    for round, number in enumerate(pruned_after(len(groups), 0.6, 3), start=1):
        table = made_up(network, kind, round)
        table["draw"] = pv.score(table, "random")
        rows = {(row["layer"], row["filter"]): row for row in table.to_dict("records")}
        scores = [plain_score([rows[key] for key in group], measure) for group in groups]
        pruner.prune(table, measure, number, round)
        gone = plainly_pruned(groups, scores, gone, number, 0.1)
        assert pruned_keys(network) == gone
        assert pruner.gone == number
        assert pruner.kept_fraction == pytest.approx(1 - number / len(groups))
    counts = pruner.counts().set_index("layer")
    assert (counts["kept"] > 0.1 * counts["filters"]).all()
    assert counts["kept"].to_dict() == {
        name: len(m.weight) - sum(key[0] == name for key in gone) for name, m in filters_of(network)
    }


@pytest.mark.parametrize("seed", range(2))
def test_masks_of_a_residual_network_are_those_of_the_plain_rewrite_too(seed: int) -> None:
    network = copy.deepcopy(residual_network())
    pruner, table = Pruner(network, SMALL), made_up(network, "random", seed)
    names = [layer.name for layer in pruner.coupling.layers]
    groups = [[(name, p)] for name in names for p in range(len(network.get_submodule(name).weight))]
    rows = {(row["layer"], row["filter"]): row for row in table.to_dict("records")}
    pruner.prune(table.sample(frac=1, random_state=seed), "grasp", 200)
    assert pruned_keys(network) == plainly_pruned(
        groups, [rows[group[0]]["theta_hg"] for group in groups], set(), 200, 0.05
    )
    assert pruner.residual
    assert pruner.counts()["coupled_to"].isna().all()


def test_the_published_way_counts_a_depthwise_filter_twice_and_protects_by_position() -> None:
    network, table = copy.deepcopy(mobile()), made_up(mobile(), "random", 1)
    pruner = Pruner(network, SMALL, flowandprune=True)
    groups = groups_of(network)
    filters = sum(map(len, groups))
    assert pruner.groups == filters
    assert not pruner.residual
    score = table.set_index(["layer", "filter"])["theta_l1"]
    group_of = {key: group for group in groups for key in group}
    gone: set[Key] = set()
    for round, number in enumerate(flowandprune_after(filters, 0.6, 3, residual=False), start=1):
        entries = []
        for name, module in filters_of(network):
            there = [(name, p) for p in range(len(module.weight)) if (name, p) not in gone]
            entries += there[: -(int(0.05 * len(module.weight)) + 1)]
        entries.sort(key=lambda key: score[group_of[key][0]])
        gone |= {member for key in entries[: number - len(gone)] for member in group_of[key]}
        pruner.prune(table, "l1_norm", number, round)
        assert pruned_keys(network) == gone
        assert number <= pruner.gone <= number + 1
    kept = pruner.counts()
    minimum = kept["filters"].map(lambda filters: int(0.05 * filters) + 1)
    assert (kept["kept"] >= minimum).all()


def test_the_published_way_may_be_a_filter_ahead_of_the_number_asked_for() -> None:
    pruner, table = (
        Pruner(copy.deepcopy(mobile()), SMALL, flowandprune=True),
        made_up(mobile(), "random", 1),
    )
    pruner.prune(table, "l1_norm", 9)
    assert pruner.gone == 10
    pruner.prune(table, "l1_norm", 9)
    assert pruner.gone == 10


def grouped_network(seed: int = 0) -> nn.Module:
    convs = [
        nn.Conv2d(1, 16, 1, bias=False),
        norm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 2, groups=8),
        norm2d(16),
        nn.ReLU(),
    ]
    return randomise(nn.Sequential(*convs, nn.Conv2d(16, 8, 1), *head(8)), seed)


@pytest.mark.parametrize("keep", [0.05, 0.3])
def test_filters_that_go_because_nothing_feeds_them_are_counted_and_no_minimum_is_broken(
    keep: float,
) -> None:
    for seed in range(12):
        network = grouped_network(seed)
        pruner = Pruner(network, digit_batches((2,))[0][0].float(), keep_at_least=keep)
        assert pruner.groups == 40
        for round, number in enumerate((3, 8, 15, 22), start=1):
            pruner.prune(made_up(network, "ties", seed), "grasp", number, round)
            assert pruner.gone == len(pruned_keys(network)) == number
        kept = pruner.counts().set_index("layer")
        assert (kept["kept"] > keep * kept["filters"]).all(), seed
        gone = pruned_keys(network)
        for p in range(16):  # filters 2i and 2i + 1 of the grouped layer read filters 2i and 2i + 1
            first = p // 2 * 2
            fed = ("0", first) not in gone or ("0", first + 1) not in gone
            assert fed or ("3", p) in gone, (seed, p)


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_the_rows_of_a_measured_network_are_those_that_are_ranked(twin: Twin) -> None:
    network = twin.whole()
    pruner = Pruner(network, IMAGES, keep_at_least=0.05)
    table = pv.measure(network, (IMAGES, LABELS), columns=["theta_norm2"])
    pruner.prune(table, "magnitude", 1)
    first = pruned_keys_by_rows(network, pruner)
    assert pruner.gone == 1
    assert len({pruner.coupling.leads[key] for key in first}) == 1
    pruner.prune(pv.measure(network, (IMAGES, LABELS), columns=["theta_norm2"]), "magnitude", 2, 2)
    assert pruner.gone == 2
    assert first < pruned_keys_by_rows(network, pruner)


def pruned_keys_by_rows(network: nn.Module, pruner: Pruner) -> set[Key]:
    found = set()
    for layer in pruner.coupling.layers:
        weight = network.get_submodule(layer.name).weight.detach()
        found |= {(layer.name, p) for p in range(len(weight)) if not weight[p].any()}
    return found


def test_a_second_pruner_sees_what_the_first_one_pruned() -> None:
    network = copy.deepcopy(mobile())
    first = Pruner(network, SMALL)
    first.prune(made_up(network, "random", 0), "l1_norm", 50)
    second = Pruner(network, SMALL)
    assert (second.gone, second.groups) == (50, first.groups)
    second.prune(made_up(network, "random", 0), "l1_norm", 60, 2)
    assert first.gone == 60


def test_a_network_in_a_wrapper_is_pruned_inside() -> None:
    network = BY_NAME["conv_bn_relu"].model()
    Pruner(nn.DataParallel(network), digit_batches((2,))[0][0]).prune_filters({"0": [2]})
    assert kept_of(network[0], "weight").flatten(1).all(1).tolist() == [True, True, False]


def refused(message: str, error: type[Exception] = PruningError) -> object:
    return pytest.raises(error, match=message)


def test_what_cannot_be_pruned_is_refused_names_the_round_and_prunes_nothing() -> None:
    network = copy.deepcopy(mobile())
    pruner, table = Pruner(network, SMALL), made_up(network, "random", 0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    groups = pruner.groups
    with refused(
        f"^round 3: {groups} more groups are to be pruned, but only .* can be: "
        "every layer keeps a minimum; lower the target"
    ):
        pruner.prune(table, "magnitude", groups, 3)
    last = len(filters_of(network)[-1][1].weight)  # which no depthwise filter follows
    scored = table["theta_l1"].where(table.index < len(table) - last)
    with refused(f"^round 2: .*: {last} filters have no score"):
        pruner.prune(table.assign(theta_l1=scored), "l1_norm", groups, 2)
    with refused("^round 2: there is no pruning measure 'size'; choose one of magnitude, "):
        pruner.prune(table, "size", 5, 2)
    with refused(
        "^round 4: measure magnitude needs theta_norm2; the table has no theta_norm2", ScoreError
    ):
        pruner.prune(table.drop(columns="theta_norm2"), "magnitude", 5, 4)
    with refused(
        f"^round 1: the table has {len(table) - 1} rows of filters .* which are {len(table)}; "
        "measure this network"
    ):
        pruner.prune(table.iloc[1:], "magnitude", 5)
    with refused("^round 1: the table has .* measure this network"):
        pruner.prune(pd.concat([table, table.iloc[:1]]), "magnitude", 5)
    with refused("^round 1: the table has .* measure this network"):
        pruner.prune(pd.concat([table.iloc[1:], table.iloc[1:2]]), "magnitude", 5)
    with refused("^round 1: the table has 0 rows of filters"):
        pruner.prune(made_up(grouped_network(), "random", 0), "magnitude", 5)
    assert set(network.state_dict()) == set(before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    pruner.prune(table, "magnitude", 5)
    with refused("^round 2: gone=4, but 5 groups are already pruned; pruned groups never"):
        pruner.prune(table, "magnitude", 4, 2)
    pruner.prune(table, "magnitude", 5, 2)
    assert pruner.gone == 5


def test_a_layer_that_would_vanish_is_named() -> None:
    network = BY_NAME["conv_bn_relu"].model()
    pruner = Pruner(network, digit_batches((2,))[0][0], keep_at_least=0)
    table = pd.DataFrame(
        {
            "layer": ["0"] * 3 + ["4"] * 4,
            "filter": [0, 1, 2, 0, 1, 2, 3],
            "theta_l1": [4.0, 5, 6, 1, 2, 3, 7],
        }
    )
    with refused(
        "^round 7: all 3 filters of layer 0 would be pruned; "
        "lower the target, keep a minimum of every layer"
    ):
        pruner.prune(table.assign(theta_l1=[1.0, 2, 3, 4, 5, 6, 7]), "l1_norm", 3, 7)
    pruner.prune(table, "l1_norm", 3, 7)
    assert pruner.counts()["kept"].tolist() == [3, 1]


def test_a_layer_of_a_block_that_would_vanish_is_named_unless_pruned_on_purpose() -> None:
    network = BY_NAME["residual"].model()
    pruner = Pruner(network, digit_batches((2,))[0][0], keep_at_least=0)
    keys = [(layer.name, p) for layer in pruner.coupling.layers for p in range(3)]
    table = pd.DataFrame(keys, columns=["layer", "filter"])
    table["theta_l1"] = table["filter"] + 10.0 * (table["layer"] != "conv3")
    with refused(
        "^round 2: all 3 filters of layer conv3 would be pruned; "
        "lower the target, keep a minimum of every layer"
    ):
        pruner.prune(table, "l1_norm", 3, 2)
    assert pruner.gone == 0
    pruner.prune_filters({"conv3": range(3)})
    pruner.prune(table, "l1_norm", 4)
    assert pruner.counts().set_index("layer")["kept"].to_dict() == {
        "conv1": 2,
        "conv2": 3,
        "shortcut": 3,
        "conv3": 0,
    }


@pytest.mark.parametrize(("layer", "filter_"), [("0", 3), ("9", 0), ("nowhere", 0), ("0", -1)])
def test_filters_that_do_not_exist_are_refused(layer: str, filter_: int) -> None:
    pruner = Pruner(BY_NAME["conv_bn_relu"].model(), digit_batches((2,))[0][0])
    with refused(f"there is no filter {filter_} of layer '{layer}' to prune; the layers are 0, 4"):
        pruner.prune_filters({"0": [0], layer: [filter_]})
    assert pruner.gone == 0


@pytest.mark.parametrize("keep", [-0.1, 1, 1.5, float("nan")])
def test_a_minimum_that_is_not_a_fraction_is_refused(keep: float) -> None:
    with refused(f"keep_at_least={keep!r}; give the fraction of every layer"):
        Pruner(BY_NAME["conv_bn_relu"].model(), digit_batches((2,))[0][0], keep_at_least=keep)


def test_nothing_reaches_the_output_of_a_network_whose_only_layer_is_gone() -> None:
    network = Net(
        lambda net, x: net.fc(net.a(x).mean((2, 3))), a=nn.Conv2d(1, 3, 1), fc=nn.Linear(3, CLASSES)
    )
    with refused("nothing would reach the output layer fc"):
        Pruner(network, torch.ones(2, 1, 4, 4)).prune_filters({"a": range(3)})


def test_an_example_that_is_none_is_named() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Conv2d(3, 2, 3))
    for example, got in (
        ((torch.zeros(2, 1, 8, 8), torch.zeros(2)), "tuple"),
        (None, "NoneType"),
        (torch.zeros(0, 1, 8, 8), r"\(0, 1, 8, 8\)"),
    ):
        for entrance in (pv.Pruner, pv.remove):
            with pytest.raises(
                DataError, match=rf"the example must .*such as images\[:2\], got .*{got}"
            ):
                entrance(network, example)


def test_a_fraction_of_groups_is_refused_with_a_number_to_give() -> None:
    network = TWINS[0].whole()
    pruner = Pruner(network, IMAGES)
    table = pv.measure(network, (IMAGES, LABELS), columns=["theta_norm2"])
    half = rf"gone=round\(0\.5 \* pruner\.groups\), which is {round(pruner.groups / 2)}"
    for gone, said in {0.5: half, 7.5: r"such as \d+ of the \d+", True: "gone=True"}.items():
        with pytest.raises(PruningError, match=said):
            pruner.prune(table, "magnitude", gone)
    assert pruner.gone == 0
