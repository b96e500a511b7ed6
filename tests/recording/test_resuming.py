"""A loop of one's own goes on bit-equal where it was cut off, or is told why not."""

from __future__ import annotations

import copy
import itertools
import json
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.measuring.named_callables import described
from tests.support.edited_specs import remove_facts
from tests.support.own_loop import Cut, cut_at, run_loop, save, train
from tests.support.short_recordings import SAMPLE, assert_same_tables, network, record, train_epoch

ORDERS = ("after", "before")


def whole_of(tmp_path: Path, **options: Any) -> pv.Runs:
    (tmp_path / "whole").mkdir()
    run_loop(tmp_path / "whole", "after", **options)
    return pv.load(tmp_path / "whole" / "run")


def points(tmp_path: Path, order: str) -> list[str]:
    reached, seen = cut_at(-1)
    run_loop(tmp_path, order, reached)
    return seen


def resumed_after(folder: Path, order: str, cuts: list[int], **options: Any) -> pv.Runs:
    """The recording of a loop that was cut off at some points, one after the other."""
    folder.mkdir()
    for point in cuts:
        reached, _ = cut_at(point)
        try:
            run_loop(folder, order, reached, **options)
        except Cut:
            continue
    run_loop(folder, order, **options)
    return pv.load(folder / "run", unfinished="error")


@pytest.mark.parametrize("order", ORDERS)
def test_a_loop_that_is_cut_off_anywhere_goes_on_bit_equal(tmp_path: Path, order: str) -> None:
    whole = whole_of(tmp_path)
    (tmp_path / "all").mkdir()
    known = points(tmp_path / "all", order)
    assert len(known) >= 18
    ahead = [known.index("saved", 6)] if order == "before" else []
    for point in [*ahead, *random.Random(0).sample(range(2, len(known)), 3)]:
        found = resumed_after(tmp_path / f"cut{point}", order, [point])
        assert_same_tables(found, whole)


@pytest.mark.soak
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("unit", ["filter", "weight"])
def test_a_loop_that_is_cut_off_at_every_pair_of_points_goes_on_bit_equal(
    tmp_path: Path, order: str, unit: str
) -> None:
    whole = whole_of(tmp_path, unit=unit)
    (tmp_path / "all").mkdir()
    known = points(tmp_path / "all", order)
    for pair in itertools.combinations(range(len(known)), 2):
        found = resumed_after(tmp_path / f"cut{pair}", order, list(pair), unit=unit)
        assert_same_tables(found, whole)


KILLED = """
import os, signal, sys
from pathlib import Path
from pruneviz.measuring.named_callables import described
from tests.support.edited_specs import remove_facts
from tests.support.own_loop import run_loop
left = int(sys.argv[3])
def reached(name):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
run_loop(Path(sys.argv[1]), sys.argv[2], reached)
"""


@pytest.mark.soak
@pytest.mark.parametrize("order", ORDERS)
def test_a_loop_whose_process_is_killed_goes_on_bit_equal(tmp_path: Path, order: str) -> None:
    whole = whole_of(tmp_path)
    (tmp_path / "all").mkdir()
    for point in range(len(points(tmp_path / "all", order))):
        folder = tmp_path / f"cut{point}"
        folder.mkdir()
        how = [sys.executable, "-c", KILLED, str(folder), order, str(point)]
        done = subprocess.run(how, env=os.environ, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        run_loop(folder, order)
        assert_same_tables(pv.load(folder / "run", unfinished="error"), whole)


# What may not differ from what was recorded: [changes the network, options, said].


def _other_statistics(model: nn.Module) -> None:
    model.get_buffer("1.running_mean").add_(0.1)


def _fresh(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def _further(model: nn.Module) -> None:
    train_epoch(model, 9)


def _head(model: nn.Module) -> None:
    model.get_parameter("9.bias").data.add_(0.1)


def _mask_lost(model: nn.Module) -> None:
    from pruneviz.pruning.held_entries import prune_entries

    mask = torch.ones(4, 3, 2, 2, dtype=torch.bool)
    mask[0, 0, 0, 0] = bool(model.get_parameter("4.weight")[0, 0, 0, 0] == 0)
    prune_entries(model, {"4.weight": mask})


NETWORKS: dict[str, Callable[[nn.Module], None]] = {
    "a fresh network": _fresh,
    "a network trained further": _further,
    "another head": _head,
    "other statistics": _other_statistics,
    "another mask": _mask_lost,
}


@pytest.mark.parametrize("change", NETWORKS.values(), ids=list(NETWORKS))
def test_another_network_cannot_go_on(tmp_path: Path, change: Callable[[nn.Module], None]) -> None:
    path, model, every = tmp_path / "run", network(), 2
    first = pv.Recorder(model, SAMPLE, path, every, columns="theta_g")
    for epoch in range(3):
        first.after_epoch(epoch)
        if epoch < 2:
            train_epoch(model, epoch)
    state, right = first.state_dict(), copy.deepcopy(model)
    change(model)
    again = pv.Recorder(model, SAMPLE, path, every, columns="theta_g", resume="auto")
    calls: list[Callable[[], object]] = [
        lambda: again.rewind(2),
        lambda: again.after_epoch(3),
        again.next_epoch,
        again.state_dict,
    ]
    for call in calls:
        said = r"restore the network of epoch 2, then call recorder\.rewind\(2\)"
        with pytest.raises(LogError, match=said):
            call()
    for call in calls[1:3]:
        with pytest.raises(
            LogError, match=r"or, if it is lost, call recorder\.rewind\(-1\), which"
        ):
            call()
    with pytest.raises(LogError, match="load its weights, buffers and masks first"):
        again.load_state_dict(state)
    assert again.last_epoch == 2, "nothing was dropped"
    second = pv.Recorder(right, SAMPLE, path, every, columns="theta_g", resume="auto")
    second.load_state_dict(state)
    assert second.next_epoch() == 3


def test_a_network_of_other_modules_cannot_go_on(tmp_path: Path) -> None:
    model = network()
    first = pv.Recorder(model, SAMPLE, tmp_path / "run", columns="theta_g")
    first.after_epoch(0)
    state = first.state_dict()
    norm = model[1]  # type: ignore[index]
    norm.eps = 0.2
    again = pv.Recorder(model, SAMPLE, tmp_path / "run", columns="theta_g", resume="auto")
    calls = (again.next_epoch, lambda: again.rewind(0), lambda: again.load_state_dict(state))
    for call in calls:
        with pytest.raises(LogError, match=r"its modules are not.*build the network as it was"):
            call()
    norm.eps = 0.1
    assert again.next_epoch() == 1


def _permuted() -> Any:
    return SAMPLE[0], SAMPLE[1].roll(1)


SAMPLES: dict[str, Callable[[], Any]] = {
    "other images": lambda: (SAMPLE[0] + 0.01, SAMPLE[1]),
    "other labels": _permuted,
    "another order": lambda: (SAMPLE[0].flip(0), SAMPLE[1].flip(0)),
    "other batches": lambda: [(SAMPLE[0][:6], SAMPLE[1][:6]), (SAMPLE[0][6:], SAMPLE[1][6:])],
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=list(SAMPLES))
def test_another_sample_is_refused(tmp_path: Path, sample: Callable[[], Any]) -> None:
    pv.Recorder(network(), SAMPLE, tmp_path / "run").after_epoch(0)
    for resume in (True, "auto"):
        with pytest.raises(LogError, match=r"started with another sample: .*give the sample as it"):
            pv.Recorder(network(), sample(), tmp_path / "run", resume=resume)  # type: ignore[arg-type]


def test_the_same_sample_in_another_form_is_the_same(tmp_path: Path) -> None:
    pv.Recorder(network(), SAMPLE, tmp_path / "run").after_epoch(0)
    data = torch.utils.data.TensorDataset(SAMPLE[0].double(), SAMPLE[1])
    loader = torch.utils.data.DataLoader(data, batch_size=len(SAMPLE[1]))
    for sample in ([SAMPLE], list(loader), loader):
        pv.Recorder(network(), sample, tmp_path / "run", resume="auto").next_epoch()


def _mine(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return 2 * F.cross_entropy(output, target)


def _local(factor: float) -> Callable[..., torch.Tensor]:
    return lambda output, target: factor * F.cross_entropy(output, target)


def _keyword(factor: float) -> Callable[..., torch.Tensor]:
    def loss(output: torch.Tensor, target: torch.Tensor, *, by: float = factor) -> torch.Tensor:
        return by * F.cross_entropy(output, target)

    return loss


def _recursive(factor: float) -> Callable[..., torch.Tensor]:
    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if len(target) > 64:
            return other(output, target)
        return factor * F.cross_entropy(output, target)

    def other(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (loss(output[::2], target[::2]) + loss(output[1::2], target[1::2])) / 2

    return loss


LOSSES: dict[str, Any] = {
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "weighted": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0])),
    "own": _mine,
    "a closure": _local(2.0),
    "another closure": _local(3.0),
    "a keyword": _keyword(2.0),
    "another keyword": _keyword(3.0),
    "one that calls itself": _recursive(2.0),
    "another that calls itself": _recursive(3.0),
    "another weight": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 4.0])),
}


def test_every_loss_is_told_from_every_other(tmp_path: Path) -> None:
    texts = {described(loss) for loss in LOSSES.values()}
    assert len(texts) == len(LOSSES)
    assert texts == {described(copy.deepcopy(loss)) for loss in LOSSES.values()}
    for kind, other in [(None, _mine), (_mine, None), (_mine, _local(2.0))]:
        out = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        pv.Recorder(network(), SAMPLE, out, loss=kind).after_epoch(0)
        with pytest.raises(LogError, match="started with other options: loss was"):
            pv.Recorder(network(), SAMPLE, out, loss=other, resume="auto")


def test_another_classifier_and_forward_are_refused(tmp_path: Path) -> None:
    def called(model: nn.Module, batch: Any) -> Any:
        return model(batch[0])

    def again(model: nn.Module, batch: Any) -> Any:
        return model(batch[0] * 1.0)

    pv.Recorder(network(), SAMPLE, tmp_path / "run", forward=called).after_epoch(0)
    with pytest.raises(LogError, match=r"forward was 'tests.*called.* now 'tests.*again"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", forward=again, resume="auto")
    pv.Recorder(network(), SAMPLE, tmp_path / "other", skip="9*").after_epoch(0)
    with pytest.raises(LogError, match="started with other options"):
        pv.Recorder(network(), SAMPLE, tmp_path / "other", classifier=True, resume="auto")


OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "every": ({"every": lambda epoch: epoch % 2 == 0}, {"every": lambda epoch: epoch % 3 == 0}),
    "request_at": (
        {"oracle": 1, "request_at": lambda epoch: epoch < 1},
        {"oracle": 1, "request_at": lambda epoch: epoch < 2},
    ),
    "measure_last": ({"measure_last": False}, {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_epochs_to_measure_are_refused(tmp_path: Path, name: str) -> None:
    was, now = OTHERS[name]
    pv.Recorder(network(), SAMPLE, tmp_path / "run", **was).after_epoch(0)
    with pytest.raises(LogError, match=f"started with other options: {name} was"):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", resume="auto", **now)
    pv.Recorder(network(), SAMPLE, tmp_path / "run", resume="auto", **was)


def test_a_loss_that_changed_in_what_it_reads_is_seen_where_it_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    pv.Recorder(model, SAMPLE, tmp_path / "run", 1, loss=_scaled).after_epoch(0)
    monkeypatch.setitem(_SCALE, "factor", 1.5)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.add_(1)
    again = pv.Recorder(other, SAMPLE, tmp_path / "run", 1, loss=_scaled, resume="auto")
    other.load_state_dict(model.state_dict())
    with pytest.raises(LogError, match=r"the loss on the sample is .* for the same network"):
        again.rewind(0)


@pytest.mark.parametrize("factor", [1.5, 1.0001])
def test_a_loss_is_compared_where_the_network_was_restored_before_the_recorder_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    model = network()
    pv.Recorder(model, SAMPLE, tmp_path / "run", 1, loss=_scaled).after_epoch(0)
    again = pv.Recorder(model, SAMPLE, tmp_path / "run", 1, loss=_scaled, resume="auto")
    assert again.next_epoch() == 1
    monkeypatch.setitem(_SCALE, "factor", factor)
    assert again.next_epoch() == 1, "compared once"
    with pytest.raises(LogError, match=r"the loss on the sample is .* for the same network"):
        pv.Recorder(model, SAMPLE, tmp_path / "run", 1, loss=_scaled, resume="auto")
    assert again.last_epoch == 0


_SCALE = {"factor": 1.0}


def _scaled(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return _SCALE["factor"] * F.cross_entropy(output, target)


def test_a_rewind_to_an_epoch_that_is_not_recorded_is_refused(tmp_path: Path) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run")
    for epoch in range(2):
        recorder.after_epoch(epoch)
    with pytest.raises(LogError, match=r"ends after epoch 1\. .*call recorder\.rewind\(1\)"):
        recorder.rewind(7)
    recorder.rewind(1)
    with pytest.raises(LogError, match=r"epoch 8 does not follow epoch 1.*record epoch 2 first"):
        recorder.after_epoch(8)
    gapped = pv.Recorder(model, SAMPLE, tmp_path / "run", resume="auto", gap=True)
    gapped.after_epoch(8)
    with pytest.raises(LogError, match=r"lacks it, the one before is epoch 1.*rewind\(1\)"):
        gapped.rewind(7)
    gapped.rewind(-1)
    assert gapped.last_epoch is None


def test_a_network_of_an_earlier_epoch_is_named(tmp_path: Path) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run")
    for epoch in range(4):
        recorder.after_epoch(epoch)
        train_epoch(model, epoch)
    again = pv.Recorder(network(), SAMPLE, tmp_path / "run", resume="auto")
    says = (
        r"\(it is the one of epoch 0\).* if it is lost, call recorder\.rewind\(0\), which drops the"
    )
    with pytest.raises(LogError, match=says):
        again.next_epoch()
    again.rewind(0)
    assert again.next_epoch() == 1


def test_a_state_is_plain_and_of_one_run(tmp_path: Path) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run")
    assert recorder.state_dict()["last_epoch"] is None
    recorder.after_epoch(0)
    state = recorder.state_dict()
    torch.save(state, tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == state
    assert json.loads(json.dumps(state)) == state
    recorder.load_state_dict(state)
    other = pv.Recorder(model, SAMPLE, tmp_path / "other")
    with pytest.raises(LogError, match=r"the checkpoint is of run run, and .* holds run other"):
        other.load_state_dict(state)
    for wrong, said in [
        ({}, "is no state of a recorder"),
        (None, "is no state of a recorder"),
        ({**state, "last_epoch": "0"}, "is damaged"),
        *(
            ({**state, "options": text}, "is damaged")
            for text in ("{", "3", "[]", "", "{}", None, {})
        ),
        *(({**state, name: None}, "is damaged") for name in ("sample", "network", "run")),
        *(({**state, name: 3}, "is damaged") for name in ("sample", "network", "created")),
        ({**state, "network": "x"}, "is damaged"),
        ({**state, "recorded": "x"}, "is damaged"),
        ({**state, "recorded": None}, "is damaged"),
        ({**state, "before": {"rows/theta": 3}}, "is damaged"),
        ({**state, "sample": "0"}, "recorded on another sample"),
        ({**state, "options": '{"lag": 7}'}, "other options: lag was 7, now 1"),
        ({**state, "last_epoch": 5, "epoch": 5}, r"lacks: it ends after epoch 0.*rewind\(0\)"),
        ({**state, "created": "2001"}, "begun at 2001"),
    ]:
        with pytest.raises(LogError, match=said):
            recorder.load_state_dict(wrong)  # type: ignore[arg-type]
    anew = pv.Recorder(model, SAMPLE, tmp_path / "anew" / "run")
    with pytest.raises(LogError, match=r"put the recording back, or leave .*after_epoch\(1\)"):
        anew.load_state_dict(state)


@pytest.mark.parametrize("said", [True, False])
def test_a_network_that_is_pruned_after_it_was_recorded_says_its_epoch(
    tmp_path: Path, said: bool
) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run")
    recorder.after_epoch(0)
    pv.Pruner(model, SAMPLE[0]).prune_filters({"4": [1]})
    state = recorder.state_dict(0) if said else recorder.state_dict()
    again = pv.Recorder(model, SAMPLE, tmp_path / "run", resume="auto")
    if not said:
        with pytest.raises(LogError, match=r"ahead of .*recorder\.state_dict\(0\)"):
            again.load_state_dict(state)
        return
    again.load_state_dict(state)
    train_epoch(model, 1)
    again.after_epoch(again.next_epoch())
    for wrong in (0, -1, 1.5):
        with pytest.raises(LogError, match="the last recorded one"):
            again.state_dict(wrong)  # type: ignore[arg-type]


def _loop(folder: Path, until: int, rate: float = 0.1, **options: Any) -> dict[int, dict[str, Any]]:
    """Record up to an epoch, from the checkpoint of the start; the checkpoints of all epochs."""
    model, saved = network(torch.float64), {}
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    recorder = pv.Recorder(model, SAMPLE, folder / "run", resume="auto", **options)
    held = folder / "held.pt"
    if held.exists():
        state = torch.load(held, weights_only=True)
        model.load_state_dict(state["model"])
        recorder.load_state_dict(state["recorder"])
    for epoch in range(recorder.next_epoch(), until + 1):
        if epoch:
            train(model, optimizer, epoch)
        recorder.after_epoch(epoch)
        saved[epoch] = {
            "model": {name: value.clone() for name, value in model.state_dict().items()},
            "recorder": recorder.state_dict(),
        }
    return saved


def test_a_checkpoint_of_an_abandoned_training_is_refused(tmp_path: Path) -> None:
    first = _loop(tmp_path, 4)
    torch.save(first[2], tmp_path / "held.pt")
    _loop(tmp_path, 5, rate=0.5)
    torch.save(first[4], tmp_path / "held.pt")
    with pytest.raises(LogError, match=r"epoch 4 of .* was recorded anew after the checkpoint"):
        _loop(tmp_path, 6)
    torch.save(first[2], tmp_path / "held.pt")  # both have it
    _loop(tmp_path, 4)
    torch.save(first[4], tmp_path / "held.pt")  # the same training again
    _loop(tmp_path, 5)
    _loop(tmp_path / "whole", 5)
    assert_same_tables(
        pv.load(tmp_path / "run", unfinished="include"),
        pv.load(tmp_path / "whole" / "run", unfinished="include"),
    )


def _trained_statistics(model: nn.Module) -> None:
    model.train()(SAMPLE[0].double())


def _pruned(model: nn.Module) -> None:
    pv.Pruner(model, SAMPLE[0].double()).prune_filters({"4": [1]})


def _half_an_epoch(model: nn.Module) -> None:
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 77)


@pytest.mark.parametrize("change", [_trained_statistics, _pruned, _half_an_epoch])
@pytest.mark.parametrize("options", [{"unit": "weight"}, {"columns": ["update_size", "theta_g"]}])
def test_the_next_epoch_is_compared_with_the_network_as_it_was_recorded(
    tmp_path: Path, change: Callable[[nn.Module], None], options: dict[str, Any]
) -> None:
    def recorder(model: nn.Module, name: str) -> pv.Recorder:
        return pv.Recorder(model, SAMPLE, tmp_path / name, 1, resume="auto", **options)

    model = network(torch.float64)
    whole, cut = recorder(model, "whole"), recorder(model, "cut")
    for each in (whole, cut):
        each.after_epoch(0)
    change(model)
    torch.save(cut.state_dict(0), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = recorder(model, "cut")
    again.load_state_dict(state)
    if change is not _trained_statistics:
        del state["before"]
        with pytest.raises(LogError, match=r"lacks the network of epoch 0 of .*after_epoch\(0\)"):
            recorder(model, "cut").load_state_dict(state)
        again = recorder(model, "cut")
        again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    _half_an_epoch(model)
    for each in (whole, again):
        each.after_epoch(1)
        each.close()
    found = pv.load(tmp_path / "cut")
    assert_same_tables(found, pv.load(tmp_path / "whole"))
    change_column = "theta_delta" if "unit" in options else "update_size"
    assert found.filters.loc[found.filters["epoch"] == 1, change_column].notna().any()


def test_statistics_that_an_evaluation_moves_are_no_further_training(tmp_path: Path) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run")
    recorder.after_epoch(0)
    model.train()(SAMPLE[0])
    state = recorder.state_dict()
    again = pv.Recorder(model, SAMPLE, tmp_path / "run", resume="auto")
    again.load_state_dict(state)
    assert again.next_epoch() == 1


def test_what_a_checkpoint_was_ahead_by_is_recorded_before_training_goes_on(
    tmp_path: Path,
) -> None:
    folder, model = tmp_path, network(torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = pv.Recorder(model, SAMPLE, folder / "run")
    recorder.after_epoch(0)
    train(model, optimizer, 1)
    save(folder / "saved.pt", model, optimizer, recorder, lambda name: None)
    state = torch.load(folder / "saved.pt")["recorder"]
    again = pv.Recorder(model, SAMPLE, folder / "run", resume="auto")
    with pytest.raises(LogError, match=r"call recorder\.after_epoch\(1\) now.* at epoch 2"):
        again.load_state_dict(state)
    right = copy.deepcopy(model.state_dict())
    train(model, optimizer, 2)
    for epoch in (1, 2):
        with pytest.raises(LogError):
            again.after_epoch(epoch)
    model.load_state_dict(right)
    again.after_epoch(1)
    assert again.next_epoch() == 2


def test_a_finished_run_is_left_alone_by_a_state(tmp_path: Path) -> None:
    run_loop_twice = [run_loop(tmp_path, "after") for _ in range(2)]
    assert run_loop_twice == [None, None]
    before = pv.load(tmp_path / "run", unfinished="error")
    run_loop(tmp_path, "after")
    assert_same_tables(pv.load(tmp_path / "run", unfinished="error"), before)


def test_a_finished_run_goes_on_only_with_its_network(tmp_path: Path) -> None:
    model = network()
    before = record(model, tmp_path / "run", epochs=2)
    again = pv.Recorder(network(), SAMPLE, tmp_path / "run", resume="auto")
    with pytest.raises(LogError, match=r"not the one of epoch 2 .*nothing was dropped"):
        again.rewind(2)
    assert_same_tables(pv.load(tmp_path / "run", unfinished="error"), before)
    pv.Recorder(model, SAMPLE, tmp_path / "run", resume="auto").rewind(2)


def test_a_run_that_goes_back_behind_its_pruning_is_not_pruned(tmp_path: Path) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run")
    recorder.after_epoch(0)
    start = copy.deepcopy(model)
    pv.Pruner(model, SAMPLE[0]).prune_filters({"4": [1]})
    recorder.after_epoch(1)
    recorder.close()
    assert pv.load(tmp_path / "run").spec["pruned"].tolist() == [True]
    again = pv.Recorder(start, SAMPLE, tmp_path / "run", resume="auto")
    again.rewind(0)
    train_epoch(start, 1)
    again.after_epoch(1)
    again.close()
    runs = pv.load(tmp_path / "run")
    assert "pruned" not in runs.spec and len(runs.select(rounds=0).spec) == 1


def test_a_folder_at_home_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    record(network(), "~/runs/one", epochs=1)  # type: ignore[arg-type]
    assert (tmp_path / "runs" / "one" / "spec.json").is_file() and not Path("~").exists()
    assert pv.load("~/runs").spec["run"].tolist() == ["one"]


def test_logs_without_digests_are_compared_by_their_columns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run")
    for epoch in range(2):
        recorder.after_epoch(epoch)
        if not epoch:
            train_epoch(model, 1)
    log = recorder.log
    rows = {name: log.rows_at(name, 1) for name in ("epochs", "filters")}
    log.replace(1, epochs=rows["epochs"].assign(network_digest=None), filters=rows["filters"])
    remove_facts(tmp_path / "run", "sample_digest")
    caplog.clear()
    again = pv.Recorder(model, SAMPLE, tmp_path / "run", resume=True)
    assert "begun by an older version, which kept no digest" in caplog.messages[0]
    assert again.next_epoch() == 2
    other = pv.Recorder(network(), SAMPLE, tmp_path / "run", resume=True)
    with pytest.raises(LogError, match=r"restore the network of epoch 1"):
        other.next_epoch()


def test_noted_facts_outlive_the_process(tmp_path: Path) -> None:
    first = pv.Recorder(network(), SAMPLE, tmp_path / "run")
    first.after_epoch(0)
    first.note(size_after=7, other=1)
    first.note(other=2)
    del first
    with pv.Recorder(network(), SAMPLE, tmp_path / "run", resume="auto") as second:
        second.rewind(0)
    spec = pv.load(tmp_path).spec.iloc[0]
    assert (spec["size_after"], spec["other"]) == (7, 2)


def test_a_relative_folder_is_the_same_after_a_change_of_the_working_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "a")
    first = pv.Recorder(network(), SAMPLE, "run")
    first.after_epoch(0)
    monkeypatch.chdir(tmp_path / "b")
    second = pv.Recorder(network(), SAMPLE, "run")
    second.after_epoch(0)
    for recorder in (first, second):
        recorder.after_epoch(1)
        recorder.close()
    for name in "ab":
        assert list(pv.load(tmp_path / name / "run").epochs["epoch"]) == [0, 1]
    assert pv.faults(tmp_path).empty


def test_a_copy_of_a_recorder_holds_nothing_and_cannot_write(tmp_path: Path) -> None:
    model = network()
    recorder = pv.Recorder(model, SAMPLE, tmp_path / "run")
    recorder.after_epoch(0)
    model.holds = recorder
    for copied in (copy.deepcopy(recorder), copy.deepcopy(model).holds):
        with pytest.raises(LogError, match="or by the one that this is a copy of"):
            copied.after_epoch(1)  # type: ignore[union-attr, operator]
        del copied
    with pytest.raises(LogError, match=r"cannot be pickled"):
        pickle.dumps(recorder.log)
    del model.holds
    recorder.after_epoch(1)
    recorder.close()
    assert list(pv.load(tmp_path).epochs["epoch"]) == [0, 1]


def test_epochs_may_be_whole_numbers_of_numpy(tmp_path: Path) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "run") as recorder:
        for epoch in np.arange(2, dtype=np.int32):
            recorder.after_epoch(epoch)
    assert list(pv.load(tmp_path).epochs["epoch"]) == [0, 1]


def test_what_a_process_killed_at_the_end_left_is_removed_by_the_next(tmp_path: Path) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "run") as recorder:
        recorder.after_epoch(0)
        parts = {p: p.read_bytes() for p in (tmp_path / "run" / "parts").iterdir()}
    (tmp_path / "run" / "parts").mkdir()
    for part, content in parts.items():
        part.write_bytes(content)
    assert len(pv.faults(tmp_path)) == 1
    assert pv.Recorder(network(), SAMPLE, tmp_path / "run", resume="auto").finished
    assert pv.faults(tmp_path).empty
