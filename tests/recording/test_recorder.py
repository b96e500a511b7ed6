"""The recorder writes what `measure` finds, at the epochs asked for, and refuses wrong calls."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import DataError, LogError, MeasureError
from pruneviz.log import schema
from pruneviz.pruning.held_entries import hold_pruned, prune_entries
from tests.support.cases import BY_NAME, Batches, Net, digit_batches
from tests.support.short_recordings import (
    CASE,
    SAMPLE,
    assert_same_tables,
    at,
    network,
    record,
    train_epoch,
)


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("every", "epochs"),
    [
        (1, [0, 1, 2, 3, 4]),
        (3, [0, 3, 4]),
        (np.int64(2), [0, 2, 4]),
        (lambda e: e in (1, 4), [1, 4]),
    ],
)
def test_derivatives_are_measured_when_every_says_and_are_null_elsewhere(
    tmp_path: Path, every: object, epochs: list[int]
) -> None:
    runs = record(network(), tmp_path / "run", every=every)
    measured = runs.filters.set_index("epoch").notna()
    for column in schema.DERIVATIVE_COLUMNS:
        assert measured[column].groupby("epoch").agg(["any", "all"]).loc[epochs].all(axis=None)
        assert not measured.loc[~measured.index.isin(epochs), column].any()
    assert measured[["theta_norm2", "theta_l1", "sigma", "kept"]].all(axis=None)
    assert list(runs.epochs["epoch"]) == [0, 1, 2, 3, 4]
    for fact in ("sample_loss", "g_norm2", "ghg"):
        assert list(runs.epochs.loc[runs.epochs[fact].notna(), "epoch"]) == epochs


@pytest.mark.parametrize("bn", CASE.modes)
def test_an_epoch_holds_exactly_what_measure_finds_then(tmp_path: Path, bn: str) -> None:
    columns = ("theta_g", "theta_hg_t50", "synflow")
    how = {"bn": bn, "temperatures": (2.0, 50.0)}
    model, expected = network(), dict[int, pd.DataFrame]()
    with pv.Recorder(model, SAMPLE, tmp_path / "run", 1, columns=columns, **how) as recorder:
        for epoch in range(2):
            recorder.after_epoch(epoch)
            expected[epoch] = pv.measure(
                model, SAMPLE, columns=(*columns, *schema.CHEAP_COLUMNS), **how
            )
            train_epoch(model, epoch)
    runs = pv.load(tmp_path / "run")
    for epoch, table in expected.items():
        for column in table.columns:
            logged = at(runs, epoch)[column]
            dtype = "str" if column == "layer" else logged.dtype
            assert list(logged) == list(table[column].astype(dtype)), column
    assert runs.filters["theta_hg"].isna().all(), "a column that was not asked for is null"


def test_one_column_and_one_temperature_need_no_list(tmp_path: Path) -> None:
    how = {"columns": "theta_g", "temperatures": 2.0}
    runs = record(network(), tmp_path / "one", epochs=1, every=1, **how)
    listed = {"columns": ["theta_g"], "temperatures": [2.0]}
    assert_same_tables(runs, record(network(), tmp_path / "listed", epochs=1, every=1, **listed))
    spec = json.loads((tmp_path / "one" / "spec.json").read_text())
    assert (spec["columns"], spec["temperatures"]) == (["theta_g"], [2.0])
    assert runs.filters["theta_g"].notna().all()
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "table")
    table = recorder.table(0, "theta_g", temperatures=2.0)
    assert np.array_equal(table["theta_g"].astype("float32"), at(runs, 0)["theta_g"])


@pytest.mark.parametrize("lag", [1, 3])
def test_sigma_delta_is_plain_subtraction_of_the_scales_lag_epochs_apart(
    tmp_path: Path, lag: int
) -> None:
    runs = record(network(), tmp_path / "run", epochs=5, lag=lag)
    sigma = np.stack([at(runs, epoch)["sigma"] for epoch in range(6)])
    delta = np.stack([at(runs, epoch)["sigma_delta"] for epoch in range(6)])
    assert np.array_equal(delta[lag:], sigma[lag:] - sigma[:-lag])
    assert np.abs(delta[lag:]).min() > 0
    assert runs.filters.loc[runs.filters["epoch"] < lag, "sigma_delta"].isna().all()


def test_sigma_delta_is_null_where_the_epoch_before_was_not_recorded(tmp_path: Path) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "run", lag=2, gap=True) as recorder:
        for epoch in (0, 1, 3, 4, 5):
            recorder.after_epoch(epoch)
    deltas = pv.load(tmp_path / "run").filters.groupby("epoch")["sigma_delta"].count()
    assert list(deltas.index[deltas > 0]) == [3, 5]


@pytest.mark.parametrize(
    ("score", "ratio", "dtype"),
    [
        ("bn_scale", 0.2, torch.float32),
        ("magnitude", 0.5, torch.float64),
        ("l1_norm", 0.4, torch.float32),
    ],
    ids=str,
)
def test_the_live_mask_distance_is_that_of_the_log(
    tmp_path: Path, score: str, ratio: float, dtype: torch.dtype
) -> None:
    runs = record(network(dtype), tmp_path / "run", epochs=5, mask_score=score, mask_ratio=ratio)
    derived = pv.mask_distance(runs.filters, score=score, ratio=ratio)
    derived = derived.set_index("epoch")["distance"]
    live = runs.epochs.set_index("epoch")["mask_distance"]
    assert np.isnan(live[0])
    assert live.loc[1:].tolist() == derived.loc[1:].tolist()
    assert live.loc[1:].notna().all()


def test_without_batch_norm_sigma_and_mask_distance_are_null(tmp_path: Path) -> None:
    runs = record(BY_NAME["plain"].model(dtype=torch.float32), tmp_path / "run", epochs=2)
    assert runs.filters[["sigma", "sigma_delta"]].isna().all(axis=None)
    assert runs.epochs["mask_distance"].isna().all()


@pytest.mark.parametrize(
    ("kept", "gone"), [("masks", [("4", 3)]), ("nonzero", [("4", 0), ("4", 3)])]
)
def test_kept_is_what_no_mask_prunes_or_on_request_what_is_not_zero(
    tmp_path: Path, kept: str, gone: list[tuple[str, int]]
) -> None:
    model = network()
    with pv.Recorder(model, SAMPLE, tmp_path / "run", kept=kept) as recorder:
        recorder.after_epoch(0)
        model[4].weight.data[0] = 0.0  # type: ignore[union-attr, operator, index]
        mask = torch.ones_like(model[4].weight, dtype=torch.bool)  # type: ignore[arg-type]
        mask[3] = False
        prune_entries(model, {"4.weight": mask})
        recorder.after_epoch(1)
    runs = pv.load(tmp_path / "run")
    assert runs.epochs["kept_fraction"].tolist() == [1.0, (7 - len(gone)) / 7]
    found = at(runs, 1).query("not kept")
    assert list(zip(found["layer"], found["filter"], strict=True)) == gone


def test_facts_are_stored_as_given_and_the_rest_is_null(tmp_path: Path) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "run") as recorder:
        recorder.after_epoch(0, test_acc=0.1)
        facts = {
            "lr": 0.1,
            "train_loss": torch.tensor(2.5),
            "train_acc": np.float32(0.5),
            "test_loss": 3,
            "test_acc": 0.25,
            "seconds": 1.5,
        }
        recorder.after_epoch(1, phase="finetune", **facts)  # type: ignore[arg-type]
    epochs = pv.load(tmp_path / "run").epochs
    assert epochs["phase"].tolist() == ["init", "finetune"]
    stored = {name: epochs[name][1] for name in facts}
    assert stored == {name: float(value) for name, value in facts.items()}
    assert epochs.loc[0, list(set(facts) - {"test_acc"})].isna().all()


class Walks:
    """A sample that changes at every pass, like a loader that shuffles or augments."""

    def __init__(self, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        self._change = change

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._change(*SAMPLE)


def _shuffled(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(y))
    return x[order], y[order]


def _loader(**options: object) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*SAMPLE), batch_size=4, **options
    )  # type: ignore[arg-type]


UNFIT_SAMPLES: dict[str, tuple[Callable[[], object], str]] = {
    "shuffled": (
        lambda: Walks(_shuffled),
        "differs when it is iterated over a second time; .*shuffled or augmented. "
        "Give a fixed pair of tensors",
    ),
    "shuffling loader": (lambda: _loader(shuffle=True), "shuffled or augmented"),
    "seeded loader": (
        lambda: _loader(shuffle=True, generator=torch.Generator().manual_seed(0)),
        "shuffled or augmented",
    ),
    "augmented": (
        lambda: Walks(lambda x, y: (x + 0.01 * torch.randn_like(x), y)),
        "shuffled or augmented",
    ),
    "exhausted": (
        lambda: iter([SAMPLE]),
        "iterated over only once; give a pair of tensors, or a list of batches",
    ),
    "empty": (lambda: [], "the sample is empty"),
    "labels out of range": (lambda: (SAMPLE[0], SAMPLE[1] + 9), "label"),
}


@pytest.mark.parametrize(("sample", "said"), UNFIT_SAMPLES.values(), ids=list(UNFIT_SAMPLES))
def test_a_sample_that_cannot_be_measured_twice_is_refused_and_nothing_written(
    tmp_path: Path, sample: Callable[[], object], said: str
) -> None:
    with pytest.raises((DataError, MeasureError), match=said):
        pv.Recorder(network(), sample(), tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.fc(F.dropout(net.conv(x).flatten(1), 0.2)),
        lambda net, x: net.fc(net.conv(x + 0.01 * torch.randn_like(x)).flatten(1)),
    ],
    ids=["functional dropout", "noise"],
)
def test_a_model_that_answers_differently_twice_is_refused_and_nothing_written(
    tmp_path: Path, forward: Callable[[Net, Tensor], Tensor]
) -> None:
    model = Net(forward, conv=nn.Conv2d(1, 2, 2), fc=nn.Linear(18, 3))
    with pytest.raises(
        MeasureError,
        match=r"different results when evaluated twice.*Use nn\.Dropout rather than functional",
    ):
        pv.Recorder(model, SAMPLE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "sample",
    [SAMPLE, digit_batches(dtype=torch.float32), _loader()],
    ids=["pair", "batches", "loader"],
)
def test_a_fixed_sample_is_taken_in_any_form(
    tmp_path: Path, sample: tuple[Tensor, Tensor] | Batches
) -> None:
    assert pv.Recorder(network(), sample, tmp_path / "run").spec.sample_size == 12


BAD_VALUES: dict[str, tuple[object, ...]] = {
    "every": (0, -1, True, 2.5, "10", None),
    "lag": (0, 1.5, "1"),
    "mask_ratio": (0, 1, 1.5),
    "bn": ("train",),
    "temperatures": ((), 0.0),
    "columns": (("theta",), "theta"),
    "mask_score": ("loss_preservation", "sigma_change", "nothing"),
}
BAD_OPTIONS = [(option, value) for option, values in BAD_VALUES.items() for value in values]


@pytest.mark.parametrize(("option", "value"), BAD_OPTIONS, ids=str)
def test_an_option_that_cannot_be_is_refused_by_name_and_nothing_written(
    tmp_path: Path, option: str, value: object
) -> None:
    named_with_repair = rf"{option.removesuffix('s')}.*([Cc]hoose|give|expected)"
    with pytest.raises((LogError, MeasureError), match=named_with_repair):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", **{option: value})
    assert not (tmp_path / "run").exists()


def test_a_model_without_filters_and_a_folder_in_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="has no filters"):
        pv.Recorder(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), SAMPLE, tmp_path / "run")
    record(network(), tmp_path / "run", epochs=1)
    before = files(tmp_path)
    with pytest.raises(LogError, match="already holds the finished run run; choose another folder"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run")
    assert files(tmp_path) == before


WRONG_CALLS = [
    (1, {}, "epoch 1 comes after epoch 1"),
    (0, {}, "epoch 0 comes after epoch 1"),
    (-1, {}, "count up from 0"),
    (2.0, {}, "whole number"),
    (2, {"test_acc": "good"}, "test_acc='good' is text, and column test_acc holds numbers"),
    (2, {"ghg": 1.0}, "no fact ghg"),
    (2, {"test_acc": 71}, "test_acc=71 is no fraction; divide it by 100, such as 0.71 for 71 %"),
    (
        2,
        {"train_acc": np.float32(-1)},
        "train_acc=-1 is no fraction; give a number between 0 and 1",
    ),
    (2, {"lr": "fast"}, "lr='fast' is text, and column lr holds numbers"),
    (2, {"phase": 1}, "phase=1.0 is a number, and column phase holds text"),
]


@pytest.mark.parametrize(("epoch", "facts", "said"), WRONG_CALLS, ids=str)
def test_a_wrong_call_is_refused_and_changes_nothing(
    tmp_path: Path, epoch: int, facts: dict[str, float], said: str
) -> None:
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run")
    recorder.after_epoch(0)
    recorder.after_epoch(1)
    before = files(tmp_path)
    with pytest.raises(LogError, match=said):
        recorder.after_epoch(epoch, **facts)
    assert files(tmp_path) == before
    recorder.after_epoch(2)
    assert recorder.last_epoch == 2


def test_wrong_late_facts_can_be_given_again(tmp_path: Path) -> None:
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run")
    write = recorder.observe(0, lr=0.1)
    with pytest.raises(LogError, match="is no fraction"):
        write(test_acc=71)
    write(test_acc=0.71)
    recorder.close()
    row = pv.load(tmp_path / "run").epochs.iloc[0]
    assert (row["lr"], row["test_acc"]) == (0.1, 0.71)


def test_a_resumed_recorder_says_where_it_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pv.Recorder(network(), SAMPLE, tmp_path / "run").after_epoch(0)
    with caplog.at_level("INFO", logger="pruneviz"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", resume=True)
    assert caplog.messages == [f"continuing {tmp_path / 'run'} after epoch 0"]


def test_a_closed_recorder_takes_nothing_and_closes_twice(tmp_path: Path) -> None:
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run")
    recorder.after_epoch(0)
    recorder.close()
    recorder.close()
    with pytest.raises(LogError, match="is closed; make a new one"):
        recorder.after_epoch(1)


@pytest.mark.parametrize(
    ("parameter", "every", "value"),
    [
        ("4.weight", 1, float("nan")),
        ("4.weight", 10, float("inf")),
        ("1.weight", 10, float("nan")),
        ("9.bias", 1, float("inf")),
        ("9.bias", 10, float("nan")),
    ],
)
def test_weights_that_are_not_finite_stop_the_recording_and_leave_it_loadable(
    tmp_path: Path, parameter: str, every: int, value: float
) -> None:
    model = network()
    with (
        pytest.raises(MeasureError, match=rf"at epoch 2: .*{parameter}"),
        pv.Recorder(model, SAMPLE, tmp_path / "run", every) as recorder,
    ):
        recorder.after_epoch(0)
        recorder.after_epoch(1)
        model.get_parameter(parameter).data.flatten()[1] = value
        recorder.after_epoch(2)
    assert list(pv.load(tmp_path / "run", unfinished="include").epochs["epoch"]) == [0, 1]


def test_a_loss_that_overflows_names_the_epoch_and_the_layer(tmp_path: Path) -> None:
    model = BY_NAME["plain"].model(dtype=torch.float32)
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run", gap=True)
    recorder.after_epoch(0)
    model.get_parameter("2.weight").data.fill_(3e38)
    with pytest.raises(MeasureError, match=r"at epoch 10: .*layer (2|3|5)"):
        recorder.after_epoch(10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_after_an_error_the_run_goes_on_and_equals_one_that_was_never_cut_off(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    whole = record(network(dtype), tmp_path / "whole", lag=2, every=2)
    model = network(dtype)
    with (
        pytest.raises(KeyboardInterrupt),
        pv.Recorder(model, SAMPLE, tmp_path / "cut", every=2, lag=2) as recorder,
    ):
        for epoch in range(3):
            recorder.after_epoch(epoch)
            saved = copy.deepcopy(model.state_dict())
            train_epoch(model, epoch + 1)
        raise KeyboardInterrupt
    model.load_state_dict(saved)
    with pytest.raises(LogError, match="cut is unfinished"):
        pv.load(tmp_path / "cut", unfinished="error")
    with pytest.raises(LogError, match="lag was 2, now 1"):
        pv.Recorder(model, SAMPLE, tmp_path / "cut", every=2, resume=True)
    with pv.Recorder(model, SAMPLE, tmp_path / "cut", every=2, lag=2, resume=True) as recorder:
        assert recorder.last_epoch == 2
        train_epoch(model, 3)
        recorder.after_epoch(3)
        train_epoch(model, 4)
        recorder.after_epoch(4)
    assert_same_tables(pv.load(tmp_path / "cut"), whole)


def test_epochs_after_a_checkpoint_are_recorded_anew(tmp_path: Path) -> None:
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run")
    for epoch in range(4):
        recorder.after_epoch(epoch)
    recorder.rewind(1)
    assert recorder.last_epoch == 1
    recorder.after_epoch(2, test_acc=0.5)
    recorder.close()
    assert pv.load(tmp_path / "run").epochs["test_acc"].tolist()[2:] == [0.5]


ROUND = {
    "round": 1,
    "layer": ["0", "4"],
    "layer_index": [0, 1],
    "filters": [3, 4],
    "kept": [3, 2],
    "coupled_to": [None, "0"],
}


def test_rounds_and_their_kept_fraction_are_stored_with_their_epoch(tmp_path: Path) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "run") as recorder:
        recorder.after_epoch(0)
        recorder.after_epoch(1, rounds=pd.DataFrame(ROUND), phase="prune", kept_fraction=0.7)
        with pytest.raises(LogError, match="table rounds has no column gone"):
            recorder.after_epoch(2, rounds=pd.DataFrame(ROUND).assign(gone=2))
    runs = pv.load(tmp_path / "run")
    assert runs.rounds[list(ROUND)].astype(object).to_dict("list") == {
        **ROUND,
        "round": [1, 1],
        "coupled_to": [np.nan, "0"],
    }
    assert runs.rounds["epoch"].tolist() == [1, 1]
    assert runs.epochs["kept_fraction"].tolist() == [1.0, 0.7]


@pytest.mark.parametrize(("unit", "lag"), [("filter", 2), ("weight", 1), ("weight", 2)])
def test_the_table_of_the_network_now_is_what_the_log_then_holds(
    tmp_path: Path, unit: str, lag: int
) -> None:
    asked = ("theta_g", "abs_theta_g", "theta_hg_t200", "sigma")
    model = network()
    with pv.Recorder(
        model,
        SAMPLE,
        tmp_path / "run",
        1,
        lag=lag,
        unit=unit,
        temperatures=(1.0, 200.0),
        columns=asked[:3],
    ) as recorder:
        for epoch in range(4):
            before = files(tmp_path)
            early = recorder.table(epoch, asked)
            assert files(tmp_path) == before
            recorder.after_epoch(epoch)
            again = recorder.table(epoch, asked)  # once the epoch is recorded
            pd.testing.assert_frame_equal(again, early)
            logged = at(pv.load(tmp_path / "run", unfinished="include"), epoch)
            for column in early.columns:
                assert early[column].astype(logged[column].dtype).equals(logged[column]), column
            train_epoch(model, epoch)
    keys, changes = {"run", "epoch", "layer", "filter", "kept"}, {"sigma_delta"}
    extra = {"weight", "theta_delta"} if unit == "weight" else set()
    assert set(early.columns) == {*keys, *changes, *extra, *schema.CHEAP_OF_UNIT[unit], *asked}


def test_a_table_without_derivatives_computes_none_and_takes_its_own_temperatures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run")
    recorder.after_epoch(0)
    # a builtin method, because measuring would put back a list or iterator in the closure
    call, forward = itertools.count().__next__, model.forward
    monkeypatch.setattr(model, "forward", lambda x: (call(), forward(x))[1])
    cheap = recorder.table(1)
    assert call() == 0
    keys = {"run", "epoch", "layer", "filter", "kept"}
    assert set(cheap.columns) == {*keys, *schema.CHEAP_COLUMNS, "sigma_delta"}
    assert cheap["sigma_delta"].eq(0).all()
    assert recorder.table(5)["sigma_delta"].isna().all()
    table = recorder.table(1, ["theta_g", "theta_hg_t3"], temperatures=(5.0, 3.0))
    assert call() > 1
    expected = pv.measure(
        model, SAMPLE, columns=["theta_g", "theta_hg_t3"], temperatures=(5.0, 3.0)
    )
    pd.testing.assert_frame_equal(
        table[["layer", "filter", "theta_g", "theta_hg_t3"]], expected.drop(columns="kept")
    )
    with pytest.raises(MeasureError, match="no filter column 'theta_hg_t200'"):
        recorder.table(1, ["theta_hg_t200"], temperatures=(5.0,))


def test_notes_become_part_of_the_spec(tmp_path: Path) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "run", spec={"seed": 1}) as recorder:
        recorder.after_epoch(0)
        recorder.note(size_after=98, preset="mine")
        with pytest.raises(LogError, match="already holds seed; note the fact under another name"):
            recorder.note(seed=2)
    spec = pv.load(tmp_path / "run").spec.iloc[0]
    assert (spec["size_after"], spec["preset"], spec["seed"]) == (98, "mine", 1)
    with pytest.raises(LogError, match="is closed"):
        recorder.note(macs=1)


def test_pruned_filters_have_no_derivatives_and_are_masked_out_for_good(tmp_path: Path) -> None:
    model = network()
    with pv.Recorder(model, SAMPLE, tmp_path / "run", 1, mask_ratio=0.4) as recorder:
        for epoch in range(4):
            if epoch == 2:
                keep = torch.tensor([True, False, True, True])
                weight = keep[:, None, None, None].expand(4, 3, 2, 2).clone()
                prune_entries(model, {"4.weight": weight, "5.weight": keep, "5.bias": keep})
            recorder.after_epoch(epoch)
            train_epoch(model, epoch)
            hold_pruned(model)
    runs = pv.load(tmp_path / "run")
    gone = runs.filters.query("layer == '4' and filter == 1 and epoch >= 2")
    assert not gone["kept"].any() and runs.filters.drop(gone.index)["kept"].all()
    assert (gone[list(schema.CHEAP_COLUMNS)] == 0).all(axis=None)
    derived, others = list(schema.DERIVATIVE_COLUMNS), runs.filters.drop(gone.index)
    assert gone[derived].isna().all(axis=None)
    assert others[derived].notna().all(axis=None)
    masks = []
    for epoch in range(4):
        table = at(runs, epoch)
        importance = table["sigma"].abs().where(table["kept"], -1)
        pruned = importance.sort_values(kind="stable").index[:3]  # 40 % of 7 filters
        masks.append(~importance.index.isin(pruned))
        assert epoch < 2 or not masks[epoch][4]
    expected = [np.mean(masks[e] != masks[e - 1]) for e in (1, 2, 3)]
    assert runs.epochs["mask_distance"].tolist()[1:] == expected
    assert runs.epochs["kept_fraction"].tolist() == [1, 1, 6 / 7, 6 / 7]


def test_what_was_observed_is_written_as_it_was_when_the_network_has_trained_on(
    tmp_path: Path,
) -> None:
    at_once, later = network(torch.float64), network(torch.float64)
    with (
        pv.Recorder(at_once, SAMPLE, tmp_path / "now", every=2) as first,
        pv.Recorder(later, SAMPLE, tmp_path / "later", every=2) as second,
    ):
        for epoch in range(4):
            first.after_epoch(epoch, test_acc=0.5)
            write = second.observe(epoch, test_acc=0.5)
            for model in (at_once, later):
                train_epoch(model, epoch)
            write()
    assert_same_tables(pv.load(tmp_path / "later"), pv.load(tmp_path / "now"))


def test_nothing_is_asked_of_a_recorder_that_has_not_written_what_it_observed(
    tmp_path: Path,
) -> None:
    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run")
    write = recorder.observe(0)
    asked: list[Callable[[], object]] = [
        lambda: recorder.after_epoch(1),
        lambda: recorder.observe(1),
        lambda: recorder.table(0),
        lambda: recorder.rewind(0),
        recorder.close,
    ]
    for ask in asked:
        with pytest.raises(LogError, match=r"not written yet; .*that Recorder\.observe returned"):
            ask()
    assert recorder.last_epoch is None
    write()
    assert recorder.last_epoch == 0
    recorder.close()
    assert list(pv.load(tmp_path / "run").epochs["epoch"]) == [0]


def test_weights_whose_square_is_beyond_float32_are_no_divergence_where_no_filter_is_measured(
    tmp_path: Path,
) -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("9.bias").fill_(1e30)
    with pv.Recorder(model, SAMPLE, tmp_path / "run", every=lambda epoch: False) as recorder:
        recorder.after_epoch(0)
    assert pv.load(tmp_path / "run").filters["theta_norm2"].notna().all()
