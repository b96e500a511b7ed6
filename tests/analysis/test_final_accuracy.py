"""Final accuracies beside unpruned runs of the same scale, and never beside others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pruneviz as pv
from pruneviz.analysis.claim_tables import table_of
from pruneviz.analysis.final_accuracy import final_accuracy_table, recorded_costs, scale_of
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs, renamed, together

VGG = {"vgg13": SMALL["vgg13"]}
SAME = {"epochs": 16, "train_images": 5000, "lr_drops": (8, 12), "lr": 0.1, "width": 0.25}


def unpruned(**facts: object) -> pv.Runs:
    runs = make_runs(VGG, seeds=(0, 1, 2), **{**SAME, "augment": False, **facts})  # type: ignore[arg-type]
    accuracy = 0.9 + 0.01 * runs.epochs["run"].astype(str).str[-1].astype(int)
    return replace(runs, epochs=runs.epochs.assign(test_acc=accuracy * runs.epochs["epoch"] / 16))


@pytest.fixture(scope="module")
def pruned() -> pv.Runs:
    runs = make_pruned_runs(VGG, rounds=(5,), **SAME)  # type: ignore[arg-type]
    count = np.arange(len(runs.spec))
    costs = {"parameters_before": 1000, "macs_before": 8000}
    after = {"parameters_after": 300 + count, "macs_after": 2000 + 10 * count}
    return replace(runs, spec=runs.spec.assign(**costs, **after))


def final(runs: pv.Runs, run: str) -> float:
    rows = runs.epochs[runs.epochs["run"] == run]
    return float(rows.loc[rows["epoch"].idxmax(), "test_acc"])


def test_differences_are_paired_by_seed(pruned: pv.Runs) -> None:
    runs = together(pruned, unpruned())
    found = final_accuracy_table(runs)
    table = found.table.set_index("measure")
    assert found.notes == ()
    for measure in ("magnitude", "proposed", "loss_preservation"):
        mine = [
            final(runs, f"vgg13-digits-{measure.replace('_', '')}-r5-s{seed}") for seed in range(3)
        ]
        apart = [100 * (one - 0.9 - 0.01 * seed) for seed, one in enumerate(mine)]
        low, high = stats.t.interval(0.95, 2, np.mean(apart), stats.sem(apart))
        row = table.loc[measure]
        assert row["test_acc"] == f"{100 * np.mean(mine):.1f} %"
        assert row["over seeds"] == f"{100 * min(mine):.1f} to {100 * max(mine):.1f} %"
        assert row["unpruned"] == "91.0 %"
        assert row["difference"] == f"{np.mean(apart):.2f}"
        assert row["95 %"] == f"{low:.2f} to {high:.2f}"


def test_parameters_and_macs_are_means_over_seeds(pruned: pv.Runs) -> None:
    table = final_accuracy_table(pruned).table.set_index("measure")
    spec = pruned.spec[pruned.spec["measure"] == "proposed"]
    row = table.loc["proposed"]
    assert row["parameters"] == f"{spec['parameters_after'].mean():,.0f}"
    assert row["parameters left"] == f"{spec['parameters_after'].mean() / 10:.1f} %"
    assert row["MACs left"] == f"{spec['macs_after'].mean() / 80:.1f} %"


@pytest.mark.parametrize(
    "facts",
    [
        {"epochs": 8},
        {"train_images": 10000},
        {"width": 0.5},
        {"lr_drops": (8,)},
        {"lr": 0.3},
        {"augment": True},
        {"precision": "tf32"},
        {"optimizer": "adam"},
    ],
)
def test_runs_of_another_scale_are_never_compared(
    pruned: pv.Runs, facts: dict[str, object]
) -> None:
    found = final_accuracy_table(together(pruned, unpruned(**facts)))
    assert set(found.table["unpruned"]) == set(found.table["difference"]) == {""}
    assert set(found.table["95 %"]) == {""}
    (name,) = facts
    (note,) = found.notes
    assert name in note and note.endswith("differ in scale, so none are compared")
    others = set(scale_of(pruned.spec)) - {name, "lr"}
    assert {"momentum", "weight_decay", "width"} - {name} <= others
    assert not any(other in note for other in others)


def test_partners_count_in_any_order_and_repeats_once(pruned: pv.Runs) -> None:
    whole = unpruned()
    apart = [whole.select(seed=seed) for seed in range(3)]
    expected = final_accuracy_table(together(pruned, whole)).table
    for others in (apart, apart[::-1]):
        found = final_accuracy_table(together(pruned, *others))
        pd.testing.assert_frame_equal(found.table, expected)
    later = renamed(unpruned(), "-later")
    later = replace(later, epochs=later.epochs.assign(test_acc=later.epochs["test_acc"] - 0.02))
    for repeated in (together(pruned, whole, later), together(later, whole, pruned)):
        assert set(final_accuracy_table(repeated).table["unpruned"]) == {"91.0 %"}


def test_each_run_is_compared_with_its_own_partner(pruned: pv.Runs) -> None:
    """A number that is a setting of unpruned runs, and goes with the seed in pruned ones."""
    drops = [0.1, 0.2, 0.3]
    of_seed = replace(
        pruned, spec=pruned.spec.assign(drop=pruned.spec["seed"].map(dict(enumerate(drops))))
    )
    whole = []
    for drop in drops:
        one = unpruned(drop=drop)
        lower = one.epochs["test_acc"] - drop * one.epochs["epoch"] / 16
        whole.append(renamed(replace(one, epochs=one.epochs.assign(test_acc=lower)), f"-{drop}"))
    expected = np.mean([0.9 + 0.01 * seed - drop for seed, drop in enumerate(drops)])
    for parts in ([of_seed, *whole], [*whole[::-1], of_seed]):
        table = final_accuracy_table(together(*parts)).table
        assert set(table["unpruned"]) == {f"{100 * expected:.1f} %"}
        assert set(table["pairs"]) == {"3"}


def test_further_seeds_are_no_part_of_the_scale(pruned: pv.Runs) -> None:
    expected = final_accuracy_table(together(pruned, unpruned())).table
    seeded = [
        replace(runs, spec=runs.spec.assign(data_seed=runs.spec["seed"] + 5))
        for runs in (pruned, unpruned())
    ]
    pd.testing.assert_frame_equal(final_accuracy_table(together(*seeded)).table, expected)


def test_a_run_measured_again_at_early_epochs_has_no_final_accuracy(pruned: pv.Runs) -> None:
    expected = final_accuracy_table(together(pruned, unpruned()))
    early = renamed(unpruned(), "-calibrated")
    early = replace(early, epochs=early.epochs[early.epochs["epoch"] <= 4])
    found = final_accuracy_table(together(pruned, early, unpruned()))
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert found.notes == ()
    found = final_accuracy_table(together(pruned, early))
    assert set(found.table["unpruned"]) == {""}
    assert any("No final test accuracy is recorded of vgg13" in note for note in found.notes)


def test_an_accuracy_before_the_last_epoch_is_not_the_final_one(pruned: pv.Runs) -> None:
    last = pruned.epochs["run"].astype(str).str.contains("magnitude") & (pruned.epochs["epoch"] > 9)
    known = pruned.epochs["test_acc"].mask(last)
    found = final_accuracy_table(replace(pruned, epochs=pruned.epochs.assign(test_acc=known)))
    table = found.table.set_index("measure")
    assert table.loc["magnitude", "test_acc"] == "" != table.loc["proposed", "test_acc"]
    assert any("No final test accuracy" in note and "magnitude" in note for note in found.notes)


def test_unpruned_runs_of_another_scale_do_not_matter(pruned: pv.Runs) -> None:
    expected = final_accuracy_table(together(pruned, unpruned()))
    near = renamed(unpruned(train_images=10000), "-near")
    found = final_accuracy_table(together(pruned, near, unpruned()))
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert found.notes == ()
    assert "91.0 %" in table_of("final-accuracy", together(pruned, near, unpruned()))
    assert "91.0 %" not in table_of("final-accuracy", together(pruned, near))
    assert "train_images 10000" in table_of("final-accuracy", together(pruned, near))


def test_without_unpruned_runs_the_cells_are_empty(pruned: pv.Runs) -> None:
    found = final_accuracy_table(pruned)
    assert set(found.table["unpruned"]) == {""}
    reason = "no unpruned run is recorded, so none is beside the pruned ones"
    assert found.notes == (f"vgg13 on digits: {reason}",)
    other = unpruned()
    later = replace(other, spec=other.spec.assign(seed=other.spec["seed"] + 7))
    found = final_accuracy_table(together(pruned, later))
    assert set(found.table["unpruned"]) == {"91.0 %"} and set(found.table["95 %"]) == {""}
    assert found.notes == ("vgg13 on digits, 5 rounds: no unpruned run has one of its seeds",)


def test_only_seeds_that_both_have_are_compared(pruned: pv.Runs) -> None:
    row = final_accuracy_table(together(pruned, unpruned().select(seed=2))).table.iloc[0]
    mine = final(pruned, "vgg13-digits-magnitude-r5-s2")
    assert (row["unpruned"], row["pairs"], row["95 %"]) == ("92.0 %", "1", "")
    assert row["difference"] == f"{100 * (mine - 0.92):.2f}"
    assert row["seeds"] == 3


def test_runs_without_accuracies_are_told(pruned: pv.Runs) -> None:
    whole = unpruned()
    blind = replace(whole, epochs=whole.epochs.assign(test_acc=np.nan))
    found = final_accuracy_table(together(pruned, blind))
    assert set(found.table["unpruned"]) == {""} and set(found.table["test_acc"]) != {""}
    told = ", ".join(f"vgg13-digits-s{seed}" for seed in range(3))
    assert found.notes == (f"No final test accuracy is recorded of {told}",)
    blind = replace(pruned, epochs=pruned.epochs.assign(test_acc=np.nan))
    row = final_accuracy_table(together(blind, whole)).table.iloc[0]
    assert (row["test_acc"], row["difference"], row["unpruned"]) == ("", "", "91.0 %")
    assert row["parameters"]


def test_the_most_alike_of_other_scales_is_named(pruned: pv.Runs) -> None:
    far, near = unpruned(epochs=8, lr=0.3, width=1.0), unpruned(lr=0.3)
    names = {run: f"{run}-near" for run in near.spec["run"]}
    near = replace(
        near,
        **{
            table: getattr(near, table).assign(
                run=getattr(near, table)["run"].astype(str).map(names)
            )
            for table in ("spec", "epochs", "filters")
        },
    )
    (note,) = final_accuracy_table(together(pruned, far, near)).notes
    assert note.startswith(
        "vgg13 on digits: pruned runs (lr 0.1) and unpruned ones (lr 0.3) differ"
    )


def test_one_seed_has_a_difference_and_no_interval(pruned: pv.Runs) -> None:
    runs = together(pruned.select(seed=1), unpruned())
    row = final_accuracy_table(runs).table.iloc[0]
    assert row["difference"] and not row["95 %"] and not row["over seeds"]


def test_costs_that_are_not_recorded_are_told(pruned: pv.Runs) -> None:
    run = pruned.spec.loc[0, "run"]
    spec = pruned.spec.assign(not_removed=None)
    spec.loc[0, ["parameters_after", "macs_after"]] = np.nan
    known = recorded_costs(replace(pruned, spec=spec)).set_index("run")["lacks"]
    assert known[run] == "not recorded" and set(known.drop(run)) == {""}
    spec.loc[0, "not_removed"] = "cannot be traced"
    found = final_accuracy_table(replace(pruned, spec=spec).named([run]))
    assert found.table.loc[0, "parameters"] == found.table.loc[0, "MACs left"] == ""
    assert f"Parameters and MACs of {run}: cannot be traced" in found.notes
    bare = pruned.spec.drop(columns=["macs_after", "macs_before"])
    assert set(recorded_costs(replace(pruned, spec=bare))["lacks"]) == {"not recorded"}


def test_runs_of_rounds_alone_have_no_final_accuracy(pruned: pv.Runs) -> None:
    alone = make_pruned_runs(VGG, rounds=(5,), prune_phase_only=True)
    assert final_accuracy_table(alone).table.empty
    pd.testing.assert_frame_equal(
        final_accuracy_table(together(pruned, alone)).table, final_accuracy_table(pruned).table
    )
