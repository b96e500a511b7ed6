"""`close()` measures the last epoch, unless the network is no longer that of this epoch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import pruneviz as pv
from pruneviz.errors import DataError
from pruneviz.log import schema
from pruneviz.measuring.bits import all_tensors, bit_sums
from pruneviz.pruning.held_entries import prune_entries
from pruneviz.recording.last_epoch import LastEpoch
from tests.support.short_recordings import SAMPLE, assert_same_tables, network, record, train_epoch


@pytest.mark.parametrize("unit", ["filter", "weight"])
def test_the_last_epoch_is_measured_as_if_every_had_named_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, unit: str
) -> None:
    found = record(network(), tmp_path / "found", every=3, unit=unit)
    caplog.clear()
    named = record(network(), tmp_path / "named", every=lambda e: e in (0, 3, 4), unit=unit)
    assert_same_tables(found, named)
    pd.testing.assert_frame_equal(
        found.correlations.drop(columns="run"), named.correlations.drop(columns="run")
    )
    assert not caplog.messages, "a function chooses every epoch itself"


def test_it_says_what_it_measured_and_leaves_it_when_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(network(), tmp_path / "run", every=3)
    assert caplog.messages == [
        f"measured epoch 4 of {tmp_path / 'run'}, the last one, which every=3 leaves out "
        "(pass measure_last=False to leave it out)"
    ]
    caplog.clear()
    assert _measured(record(network(), tmp_path / "told", every=3, measure_last=False)) == [0, 3]
    assert _measured(record(network(), tmp_path / "there", every=2)) == [0, 2, 4]
    assert not caplog.messages
    asked = record(network(), tmp_path / "asked", every=lambda e: e == 1, measure_last=True)
    assert _measured(asked) == [1, 4]


def _measured(runs: pv.Runs) -> list[int]:
    rows = runs.filters[runs.filters["theta_g"].notna()]
    return sorted(rows["epoch"].unique().tolist())


def _train(model: nn.Module) -> None:
    train_epoch(model, 9)


def _prune(model: nn.Module) -> None:
    mask = torch.ones(4, 3, 2, 2, dtype=torch.bool)
    mask[1] = False
    prune_entries(model, {"4.weight": mask})


def _best_weights_back(model: nn.Module) -> None:
    model.load_state_dict({name: value * 0.5 for name, value in model.state_dict().items()})


def _statistics(model: nn.Module) -> None:
    model.train()(SAMPLE[0])


@torch.no_grad()
def _flipped_kernels(model: nn.Module) -> None:
    weight = model.get_parameter("4.weight")
    weight.copy_(weight.flip(-1))


@torch.no_grad()
def _permuted_inputs(model: nn.Module) -> None:
    weight = model.get_parameter("4.weight")
    weight.copy_(weight.roll(1, 1))


def _eps(model: nn.Module) -> None:
    model.get_submodule("1").eps = 0.5


def _activation(model: nn.Module) -> None:
    setattr(model, "2", nn.Tanh())


def _one_bias(model: nn.Module) -> None:
    model.get_parameter("9.bias").data[1] += 1e-6


@pytest.mark.parametrize(
    "change",
    [
        *[_train, _prune, _best_weights_back, _statistics, _one_bias, nn.Module.double],
        *[_flipped_kernels, _permuted_inputs, _eps, _activation],
    ],
    ids=lambda change: change.__name__.strip("_"),
)
def test_a_network_that_has_changed_is_not_measured_and_the_run_is_sealed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[nn.Module], object]
) -> None:
    model = network()
    with pv.Recorder(model, SAMPLE, tmp_path / "run", every=3) as recorder:
        recorder.after_epoch(0)
        recorder.after_epoch(1)
        change(model)
    assert "did not measure epoch 1 of" in caplog.messages[-1]
    assert caplog.messages[-1].endswith(": the network has changed since it was recorded")
    runs = pv.load(tmp_path, unfinished="error")
    assert _measured(runs) == [0] and list(runs.epochs["epoch"]) == [0, 1]


def test_measuring_at_the_end_moves_nothing(tmp_path: Path) -> None:
    model = network().train()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run", every=3)
    recorder.after_epoch(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    recorder.close()
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert recorder.finished and _measured(pv.load(tmp_path)) == [1]


def test_a_loss_that_is_not_finite_at_the_end_is_told_and_the_run_sealed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = network()
    with pv.Recorder(model, SAMPLE, tmp_path / "run", every=3) as recorder:
        recorder.after_epoch(0)
        model.get_parameter("9.weight").data.fill_(3e38)
        recorder.after_epoch(1)
    assert "did not measure epoch 1 of" in caplog.messages[-1]
    assert "at epoch 1: " in caplog.messages[-1]
    assert _measured(pv.load(tmp_path, unfinished="error")) == [0]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried more"), "CUDA out of memory."),
        (RuntimeError("can't allocate memory"), "can't allocate memory"),
        (MemoryError(), "MemoryError"),
        (DataError("the sample is empty"), "the sample is empty"),
    ],
    ids=str,
)
def test_a_sample_or_memory_that_is_gone_at_the_end_leaves_the_run_sealed(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    said: str,
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    with pv.Recorder(network(), SAMPLE, tmp_path / "run", every=3) as recorder:
        recorder.after_epoch(0)
        recorder.after_epoch(1)
        monkeypatch.setattr("pruneviz.recording.subject.take_snapshot", fail)
    assert caplog.messages[-1].endswith(f"leaves out: at epoch 1: {said}") or caplog.messages[
        -1
    ].endswith(f"leaves out: {said}")
    assert _measured(pv.load(tmp_path, unfinished="error")) == [0]


class _Files(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Examples that are read from files, until these are gone."""

    gone: Exception | None = None

    def __len__(self) -> int:
        return len(SAMPLE[1])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.gone is not None:
            raise self.gone
        return SAMPLE[0][index], SAMPLE[1][index]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError("0.png"), "FileNotFoundError: 0.png"),
        (OSError("disk"), "OSError: disk"),
        (KeyError("image"), "KeyError: 'image'"),
        (RuntimeError("a worker exited\nwith 1"), "RuntimeError: a worker exited"),
        (AssertionError(), "AssertionError: "),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_sample_whose_files_are_gone_at_the_end_leaves_the_run_sealed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    files = _Files()
    loader = DataLoader(files, batch_size=8)
    with pv.Recorder(network(), loader, tmp_path / "run", every=3) as recorder:
        recorder.after_epoch(0)
        recorder.after_epoch(1)
        files.gone = error
    assert recorder.finished
    assert caplog.messages[-1].endswith(f"leaves out: the sample cannot be read: {said}")
    runs = pv.load(tmp_path, unfinished="error")
    assert _measured(runs) == [0] and list(runs.epochs["epoch"]) == [0, 1]


def test_a_fault_of_the_network_at_the_end_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("shapes differ")

    recorder = pv.Recorder(network(), SAMPLE, tmp_path / "run", every=3)
    recorder.after_epoch(1)
    monkeypatch.setattr("pruneviz.recording.subject.take_snapshot", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        recorder.close()
    assert not recorder.finished


def test_after_an_error_nothing_is_measured(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        pv.Recorder(network(), SAMPLE, tmp_path / "run", every=3) as recorder,
    ):
        recorder.after_epoch(0)
        recorder.after_epoch(1)
        raise KeyboardInterrupt
    runs = pv.load(tmp_path)
    assert runs.unfinished == ("run",) and _measured(runs) == [0]


@pytest.mark.parametrize("how", ["resumed", "rewound", "restored", "another"])
def test_after_a_resume_the_last_epoch_is_measured_if_its_network_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run", every=3)
    for epoch in (0, 1):
        recorder.after_epoch(epoch)
    right = {name: value.clone() for name, value in model.state_dict().items()}
    if how in ("restored", "another"):
        model.get_parameter("9.weight").data.normal_()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run", every=3, resume=True)
    if how == "rewound":
        recorder.rewind(1)
    if how == "restored":
        model.load_state_dict(right)
        assert recorder.next_epoch() == 2
    recorder.close()
    assert _measured(pv.load(tmp_path)) == ([0] if how == "another" else [0, 1])
    if how == "another":
        assert caplog.messages[-1].endswith(
            "no epoch was recorded since the run was resumed or rewound, so its network is not "
            "known"
        )


def test_an_end_that_was_killed_between_two_files_is_measured_again(
    tmp_path: Path,
) -> None:
    model = network()
    runs = record(model, tmp_path / "run", every=3)
    filters, epochs = runs.filters_at(4), runs.read("epochs", epochs=4)
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run", every=3, resume="auto")
    recorder.rewind(4)
    recorder.log.replace(4, filters=filters, epochs=epochs.assign(sample_loss=np.nan))
    recorder.close()
    assert_same_tables(pv.load(tmp_path), runs)


def test_an_epoch_that_was_measured_at_an_earlier_end_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = network()
    before = record(model, tmp_path / "run", every=3)
    with pv.Recorder(model, SAMPLE, tmp_path / "run", every=3, resume="auto") as recorder:
        recorder.rewind(4)
    caplog.clear()
    assert_same_tables(pv.load(tmp_path), before)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("request_at", "removed"), [(None, [0, 3, 4]), ([1, 4], [1, 4]), ([1], [1])], ids=str
)
def test_filters_are_removed_at_the_end_only_where_they_are_at_measured_epochs(
    tmp_path: Path, request_at: list[int] | None, removed: list[int]
) -> None:
    runs = record(network(), tmp_path / "run", every=3, oracle=2, request_at=request_at)
    assert _measured(runs) == [0, 3, 4]
    rows = runs.filters[runs.filters["delta_loss"].notna()]
    assert sorted(rows["epoch"].unique()) == removed


def test_sums_of_bits_tell_networks_apart_and_not_copies() -> None:
    def plain() -> nn.Module:
        model = nn.BatchNorm1d(3)
        model.register_buffer("flags", torch.tensor([True, False]), persistent=False)
        model.register_buffer("short", torch.tensor([1.0, 2.0]).half())
        model.register_buffer("phase", torch.tensor([1 + 2j]))
        model.register_buffer("nothing", torch.zeros(0, 2))
        model.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)
        return model

    model, twin, seen = plain(), plain(), LastEpoch()
    assert "no epoch was recorded" in str(seen.reason_against(model))
    seen.note(model)
    assert seen.reason_against(model) is None and seen.reason_against(twin) is None
    for name, buffer in list(twin.named_buffers()) + list(twin.named_parameters()):
        if not buffer.numel():
            continue
        kept = buffer.detach().clone()
        buffer.data.copy_(~kept if kept.dtype == torch.bool else kept + 1)
        assert seen.reason_against(twin) is not None, name
        buffer.data.copy_(kept)
        assert seen.reason_against(twin) is None, name
    assert all(sums.dtype == torch.int64 for sums in bit_sums(all_tensors(model)).values())
    seen.note(twin)
    twin.turned = twin.turned[[1, 0, 2]]
    assert seen.reason_against(twin) is not None, "rows that change places are a change"


def test_all_columns_of_the_log_are_there_at_the_last_epoch(tmp_path: Path) -> None:
    runs = record(network(), tmp_path / "run", epochs=2, every=5)
    last = runs.filters_at(2)
    assert last[list(schema.DERIVATIVE_COLUMNS)].notna().all(axis=None)
    facts = runs.epochs.set_index("epoch")[["sample_loss", "g_norm2", "ghg"]].notna()
    assert facts.all(axis=1).tolist() == [True, False, True]


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda: torch.eye(3).to_sparse_csr(), False),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), False),
        (lambda: torch.ones(2, dtype=torch.complex64).conj(), True),
        (lambda: torch.eye(3).to_sparse(), True),
        (lambda: torch.zeros(3, device="meta"), True),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), False),
    ],
    ids=["csr", "quantised", "conjugated", "sparse", "meta", "nested"],
)
def test_no_kind_of_buffer_stops_a_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[], torch.Tensor], seen: bool
) -> None:
    model = network()
    model.register_buffer("other", make())
    with pv.Recorder(model, SAMPLE, tmp_path / "run", every=3) as recorder:
        recorder.after_epoch(1)
    assert (_measured(pv.load(tmp_path)) == [1]) is seen
    assert ("cannot be seen whether the network has changed" in caplog.messages[-1]) is not seen
    assert "\n" not in caplog.messages[-1]


def test_places_in_sparse_buffers_and_plain_attributes_count() -> None:
    model, last = network(), LastEpoch()
    model.register_buffer("places", torch.tensor([[1.0, 0.0]]).to_sparse())
    model.scale = torch.ones(2)
    last.note(model)
    model.places = torch.tensor([[0.0, 1.0]]).to_sparse()
    assert last.reason_against(model) is not None
    last.note(model)
    assert last.reason_against(model) is None
    model.scale[0] = 2
    assert last.reason_against(model) is not None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (torch.eye(6), torch.eye(6)[[1, 0, 2, 3, 4, 5]]),
        (torch.tensor([[1.0, 1.0], [2.0, 0.0]]), torch.tensor([[2.0, 0.0], [1.0, 1.0]])),
        (torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3, 0, 2])),
        (torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0])),
        (torch.tensor([True, False]), torch.tensor([False, True])),
        (torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0])),
    ],
    ids=["rows of an eye", "weights", "an index", "a reversed index", "flags", "a sign"],
)
def test_values_that_change_places_have_another_sum(
    before: torch.Tensor, after: torch.Tensor
) -> None:
    sums = []
    for values in (before, after, before.clone()):
        model = nn.Linear(2, 2)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        model.register_buffer("own", values)
        (found,) = bit_sums(all_tensors(model)).values()
        sums.append(found.tolist())
    assert sums[0] != sums[1] and sums[0] == sums[2]


def test_no_two_orders_of_an_index_have_the_same_sum() -> None:
    found = set()
    for order in itertools.permutations(range(6)):
        model = nn.Linear(1, 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        model.register_buffer("index", torch.tensor(order, dtype=torch.uint8))
        found.add(tuple(next(iter(bit_sums(all_tensors(model)).values())).tolist()))
    assert len(found) == 720
