"""Sinks get every recorded epoch once, and can neither stop nor change a training."""

from __future__ import annotations

import asyncio
import copy
import logging
import random
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

import pruneviz as pv
from pruneviz.errors import LogError
from tests.support.short_recordings import SAMPLE, assert_same_tables, network, record, train_epoch

Values = dict[str, float]


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.epochs: list[tuple[str, int, Values]] = []
        self.figures: list[tuple[str, int, Any]] = []
        self.closed = 0

    def epoch(self, run: str, epoch: int, aggregates: Values) -> None:
        self.epochs.append((run, epoch, aggregates))

    def figure(self, run: str, epoch: int, figure: Any) -> None:
        self.figures.append((run, epoch, figure))

    def close(self) -> None:
        self.closed += 1

    @property
    def got(self) -> list[int]:
        return [epoch for _, epoch, _ in self.epochs]


class Raising:
    """A sink that fails in every call, and whose errors cannot be printed."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def epoch(self, run: str, epoch: int, aggregates: Values) -> None:
        raise self._error

    def figure(self, run: str, epoch: int, figure: Any) -> None:
        raise self._error

    def close(self) -> None:
        raise self._error


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Nameless(Kept):
    def __repr__(self) -> str:
        raise RuntimeError("no name")

    def epoch(self, run: str, epoch: int, aggregates: Values) -> None:
        raise ValueError("line one\nline two")


def moving(run: str, epoch: int, values: Values) -> None:
    """Moves whatever it can reach, and the table that it is given."""
    values.clear()
    values["theta_g"] = float("nan")
    torch.manual_seed(epoch)
    random.seed(epoch)
    np.random.seed(epoch)  # noqa: NPY002
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    np.seterr(all="raise")
    warnings.simplefilter("error")
    matplotlib.rcParams["lines.linewidth"] = 17.0


def spoiling() -> Any:
    """A sink that empties the figure that it gets."""
    sink = Kept()
    sink.figure = lambda run, epoch, figure: figure.clear()  # type: ignore[method-assign]
    return sink


def rubbish(run: str, epoch: int, values: Values) -> object:
    return {"run": object()}


def slow(run: str, epoch: int, values: Values) -> None:
    time.sleep(0.05)


def warning(run: str, epoch: int, values: Values) -> None:
    warnings.warn("a warning of a sink", stacklevel=1)  # an error in tests


def cancelled(run: str, epoch: int, values: Values) -> None:
    """A sink whose client of the network gave up."""

    async def ask() -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
        await task

    asyncio.run(ask())


def stopping(run: str, epoch: int, values: Values) -> None:
    raise StopIteration


class Shifting(Kept):
    """A sink whose methods are gone when they are looked up again."""

    looked_up = 0

    @property
    def figure(self) -> Any:  # type: ignore[override]
        self.looked_up += 1
        if self.looked_up > 1:
            raise LookupError("gone")
        return print

    @property
    def close(self) -> Any:  # type: ignore[override]
        raise LookupError("gone")


async def awaited(run: str, epoch: int, values: Values) -> None:
    """Nobody would wait for it."""


class Empty(Kept):
    """A sink that counts as false."""

    def __len__(self) -> int:
        return 0


HOSTILE: Mapping[str, Callable[[], Any]] = {
    "raises": lambda: Raising(OSError("no network")),
    "cannot be printed": lambda: Raising(UnprintableError()),
    "has no name": Nameless,
    "moves all": lambda: moving,
    "spoils figures": spoiling,
    "returns rubbish": lambda: rubbish,
    "is slow": lambda: slow,
    "warns": lambda: warning,
    "takes no arguments": lambda: lambda: None,
    "was cancelled": lambda: cancelled,
    "stops an iteration": lambda: stopping,
    "shifts": Shifting,
    "counts as false": Empty,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_training_and_the_log_are_the_same_with_any_sink(tmp_path: Path, name: str) -> None:
    alone, beside = network(), network()
    torch.manual_seed(3)
    expected = record(alone, tmp_path / "alone", every=2)
    drawn = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(3)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    kept = Kept()
    sinks = [HOSTILE[name](), kept]
    drawn_at = [0, 2, 4] if name == "spoils figures" else [2]
    found = record(beside, tmp_path / "beside", every=2, sinks=sinks, figures_at=drawn_at)
    assert state[0] == random.getstate()
    assert (state[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert torch.equal(drawn[0], torch.rand(3))
    assert_same_tables(found, expected)
    for one, other in zip(alone.state_dict().values(), beside.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert kept.got == [0, 1, 2, 3, 4], "the next sink gets everything"
    assert kept.epochs[2][2]["pearson/theta_g/theta_hg"] == pytest.approx(
        pv.correlate(expected, "theta_g", "theta_hg").set_index("epoch")["r"][2]
    )
    assert [(run, epoch) for run, epoch, _ in kept.figures] == [
        ("beside", epoch) for epoch in drawn_at
    ]
    assert all(len(figure.axes) > 0 for _, _, figure in kept.figures)
    assert kept.closed == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("raises", "sink Raising of run failed at epoch 0: OSError: no network; training goes on"),
        ("cannot be printed", "sink Raising of run failed at epoch 0: UnprintableError; tra"),
        ("has no name", "sink Nameless of run failed at epoch 0: ValueError: line one; training"),
        ("was cancelled", "sink cancelled of run failed at epoch 0: CancelledError; training"),
        ("stops an iteration", "sink stopping of run failed at epoch 0: StopIteration; training"),
        ("shifts", "sink Shifting of run failed when it was closed: LookupError: gone; training"),
        ("takes no arguments", "sink <lambda>.<locals>.<lambda> of run failed at epoch 0: TypeErr"),
    ],
)
def test_a_sink_that_fails_is_named_in_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, told: str
) -> None:
    record(network(), tmp_path / "run", every=1, sinks=HOSTILE[name](), figures_at=None)
    (line,) = [line for line in caplog.messages if "failed" in line]
    assert line.startswith(told)


def test_two_sinks_that_fail_have_a_warning_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sinks = [Raising(OSError("one")), Raising(OSError("other"))]
    record(network(), tmp_path / "run", epochs=1, sinks=sinks, figures_at=[1])
    told = [line for line in caplog.messages if "failed" in line]
    assert ["one" in line for line in told] == [True, False]


def test_a_sink_that_fails_thrice_in_a_row_gets_nothing_more(tmp_path: Path) -> None:
    calls: list[int] = []

    def failing(run: str, epoch: int, values: Values) -> None:
        calls.append(epoch)
        if epoch not in (2,):
            raise TimeoutError("after a minute")

    kept = Kept()
    record(network(), tmp_path / "run", epochs=8, every=100, sinks=[failing, kept])
    assert calls == [0, 1, 2, 3, 4, 5]
    assert kept.got[:9] == list(range(9))


def test_a_log_handler_that_fails_does_not_stop_training_either(tmp_path: Path) -> None:
    class Failing(logging.Handler):
        def emit(self, entry: logging.LogRecord) -> None:
            raise OSError("the log is full")

    logger, handler = logging.getLogger("pruneviz"), Failing(logging.WARNING)
    model = network()
    options: dict[str, Any] = {"every": 1, "sinks": [Raising(OSError("no network"))]}
    with pv.Recorder(model, SAMPLE, tmp_path / "run", **options) as recorder:
        logger.addHandler(handler)
        try:
            recorder.after_epoch(0)
            recorder.rewind(-1)
            recorder.after_epoch(0)
        finally:
            logger.removeHandler(handler)
    assert pv.load(tmp_path / "run").epochs["epoch"].tolist() == [0]


def test_a_thread_that_writes_leaves_the_training_its_recorder(tmp_path: Path) -> None:
    """The one thread is inside of a sink while the other asks the recorder."""
    inside, done = threading.Event(), threading.Event()

    def waiting(run: str, epoch: int, values: Values) -> None:
        inside.set()
        assert done.wait(30)

    with pv.Recorder(network(), SAMPLE, tmp_path / "run", every=5, sinks=[waiting]) as recorder:
        write = recorder.observe(0)
        thread = threading.Thread(target=write)
        thread.start()
        assert inside.wait(30)
        assert len(recorder.table(0)) > 0
        done.set()
        thread.join()
    assert pv.load(tmp_path / "run").epochs["epoch"].tolist() == [0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_inside_a_sink_ends_the_training_and_the_epoch_is_on_disk(
    tmp_path: Path, error: type[BaseException]
) -> None:
    kept = Kept()

    def interrupted(run: str, epoch: int, values: Values) -> None:
        torch.set_grad_enabled(False)
        if epoch == 1:
            raise error

    with pytest.raises(error):
        record(network(), tmp_path / "run", sinks=[interrupted, kept])
    assert torch.is_grad_enabled()
    assert pv.load(tmp_path / "run").epochs["epoch"].tolist() == [0, 1]
    assert kept.closed == 1, "sinks are closed when training ends by an error"


def test_the_last_epoch_measured_at_the_end_is_sent_with_what_is_new(tmp_path: Path) -> None:
    kept = Kept()
    record(network(), tmp_path / "run", epochs=3, every=2, sinks=[kept], figures_at=[2, 3])
    assert kept.got == [0, 1, 2, 3, 3]
    first, second = (set(values) for _, _, values in kept.epochs[-2:])
    assert "epoch/kept_fraction" in first
    assert "pearson/theta_g/theta_hg" in second
    assert not first & second
    assert [epoch for _, epoch, _ in kept.figures] == [2, 3, 3]


def test_a_resumed_run_sends_no_epoch_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, model, kept = tmp_path / "run", network(), Kept()
    first = pv.Recorder(model, SAMPLE, out, every=1, sinks=[kept])
    for epoch in range(3):
        first.after_epoch(epoch)
    second = pv.Recorder(model, SAMPLE, out, every=1, resume=True, sinks=[kept], gap=True)
    second.rewind(0)  # as from an earlier checkpoint
    for epoch in range(1, 5):
        train_epoch(model, epoch)
        second.after_epoch(epoch)
        if epoch == 2:
            saved = copy.deepcopy(model.state_dict())
    assert kept.got == [0, 1, 2, 3, 4]
    again = [line for line in caplog.messages if "again" in line]
    assert again == [
        "run records epoch 1 again; sinks keep what they were sent before, and get the epochs "
        "after 2"
    ]
    second.close()
    second.close()
    assert kept.closed == 1
    model.load_state_dict(saved)
    second.rewind(2)  # opens the finished run again
    second.after_epoch(3)
    second.after_epoch(7)
    assert kept.got == [0, 1, 2, 3, 4, 7]


def test_a_finished_run_sends_nothing(tmp_path: Path) -> None:
    model, kept = network(), Kept()
    record(model, tmp_path / "run", epochs=1)
    with pv.Recorder(model, SAMPLE, tmp_path / "run", resume="auto", sinks=[kept]) as recorder:
        assert recorder.finished
    assert kept.got == []


def test_a_sink_cannot_call_its_recorder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder: list[pv.Recorder] = []
    sink = lambda run, epoch, values: recorder[0].close()  # noqa: E731
    with pv.Recorder(network(), SAMPLE, tmp_path / "run", sinks=sink) as one:
        recorder.append(one)
        one.after_epoch(0)
        assert not one.finished
        one.after_epoch(1)
    assert "a sink called its recorder; call it from the training loop" in caplog.text


def test_epochs_of_figures_may_be_chosen_by_a_function_that_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept()

    def chosen(epoch: int) -> bool:
        if epoch == 0:
            raise ValueError("not this one")
        return epoch == 1

    record(network(), tmp_path / "run", epochs=2, every=1, sinks=[kept], figures_at=chosen)
    assert [epoch for _, epoch, _ in kept.figures] == [1]
    assert "figures_at of run failed at epoch 0: ValueError: not this one" in caplog.text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sinks": ["tensorboard"]}, r"sinks holds 'tensorboard'; give functions of \(run, epoch"),
        ({"sinks": None}, "sinks holds None; give functions"),
        ({"sinks": [awaited]}, "sinks holds <function awaited at .*; not async ones"),
        ({"sinks": [Kept]}, "sinks holds the class Kept; give functions"),
        ({"sinks": [moving], "figures_at": 2}, "figures_at=2 says when sinks get a figure, and no"),
        ({"figures_at": [1]}, r"figures_at=\[1\] says when sinks get a figure, and no sink takes"),
        ({"sinks": [Kept()], "figures_at": 0}, "figures_at=0; give epochs, whole numbers from 0"),
        ({"sinks": [Kept()], "figures_at": "all"}, "figures_at='all'; give epochs"),
    ],
)
def test_what_is_no_sink_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(LogError, match=told):
        pv.Recorder(network(), SAMPLE, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_only_the_rank_that_records_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruneviz.recording.ranks.rank", lambda: 1)
    kept = Kept()
    with pv.Recorder(network(), SAMPLE, tmp_path / "run", sinks=[kept], ranks="first") as recorder:
        recorder.after_epoch(0)
        assert recorder.show() is None
    assert kept.got == []
    assert kept.closed == 0


def test_epochs_rewound_by_a_process_that_ended_are_not_sent_again(tmp_path: Path) -> None:
    out, kept = tmp_path / "run", Kept()
    first = pv.Recorder(network(), SAMPLE, out, every=1, sinks=[kept])
    for epoch in range(4):
        first.after_epoch(epoch)
    pv.Recorder(network(), SAMPLE, out, every=1, resume=True, sinks=[kept]).rewind(1)
    pv.Recorder(network(), SAMPLE, out, every=1, resume=True).rewind(0)  # twice, and lower
    third = pv.Recorder(network(), SAMPLE, out, every=1, resume=True, sinks=[kept])
    for epoch in range(1, 6):
        third.after_epoch(epoch)
    third.close()
    assert kept.got == [0, 1, 2, 3, 4, 5]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["spec.json", *(f"{table}.parquet" for table in ("epochs", "filters", "rounds")), *EXTRA]
    )


EXTRA = ["correlations.parquet"]


@pytest.mark.parametrize("failing", ["epoch", "figure"])
def test_epochs_and_figures_fail_each_for_themselves(tmp_path: Path, failing: str) -> None:
    asked: dict[str, list[int]] = {"epoch": [], "figure": []}

    class Half:
        def epoch(self, run: str, epoch: int, aggregates: dict[str, float]) -> None:
            self.called("epoch", epoch)

        def figure(self, run: str, epoch: int, figure: object) -> None:
            self.called("figure", epoch)

        def called(self, method: str, epoch: int) -> None:
            asked[method].append(epoch)
            if method == failing:
                raise ConnectionError("no network")

    record(network(), tmp_path / "run", epochs=4, every=1, sinks=[Half()], figures_at=1)
    other = "figure" if failing == "epoch" else "epoch"
    assert asked[failing] == [0, 1, 2] and asked[other] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("raised", [GeneratorExit, type("Panic", (BaseException,), {})])
def test_what_is_no_exception_does_not_end_a_training(
    tmp_path: Path, raised: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def panics(run: str, epoch: int, aggregates: dict[str, float]) -> None:
        raise raised

    kept = Kept()
    record(network(), tmp_path / "run", epochs=2, every=1, sinks=[panics, kept])
    assert kept.got == [0, 1, 2]
    [line] = [line for line in caplog.messages if "failed" in line]
    assert f"failed at epoch 0: {raised.__name__}; training goes on" in line
