"""The chunk: bounded memory, halving when it runs out, and a size chosen from the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

import pruneviz as pv
from pruneviz.errors import MeasureError
from pruneviz.measuring import chunking
from pruneviz.measuring.building import build_objective
from pruneviz.measuring.chunking import _memory_budget, automatic_chunk
from pruneviz.measuring.options import Options
from pruneviz.measuring.snapshot import take_snapshot
from pruneviz.model.sample import as_batches
from tests.support.cases import BY_NAME, Net, as_pair, digit_batches, head

Frame = pd.DataFrame


def assert_same(frame: Frame, other: Frame, tolerance: float = 0.0) -> None:
    pd.testing.assert_frame_equal(frame, other, check_exact=not tolerance, rtol=tolerance, atol=0.0)


class Scarce(nn.Module):
    """A layer that runs out of memory above `room` examples."""

    def __init__(self, room: int, note: Callable[[int], None] = lambda size: None) -> None:
        super().__init__()
        self.room, self.note = room, note  # not a list, which measuring would put back

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():  # not where a whole batch is compared with its chunks
            self.note(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return x


def scarce(room: int, *note: Callable[[int], None]) -> nn.Module:
    return nn.Sequential(BY_NAME["conv_bn_relu"].model(), Scarce(room, *note))


@pytest.mark.parametrize(("given", "fits"), [(None, 3), (12, 3), (10, 2), (4, 4)])
def test_the_chunk_is_halved_until_it_fits(given: int | None, fits: int) -> None:
    tried: list[int] = []
    model, sample = scarce(4, tried.append), as_pair(digit_batches((12,)))
    frame = pv.measure(model, sample, chunk=given)
    assert_same(frame, pv.measure(scarce(4), sample, chunk=fits))
    refused = [size for size in tried if size > 4]
    assert refused == {None: [12, 6], 12: [12, 6], 10: [10, 5], 4: []}[given]


def test_the_chunk_of_columns_on_request_is_halved_too() -> None:
    sample = as_pair(digit_batches((40,)))
    frame = pv.measure(scarce(16), sample, columns=["theta2_g2", "theta_g"])
    assert_same(frame, pv.measure(scarce(40), sample, columns=["theta2_g2", "theta_g"]), 1e-12)


class Never(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and len(x) != 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x


def test_a_single_example_that_does_not_fit_raises() -> None:
    model = nn.Sequential(BY_NAME["conv_bn_relu"].model(), Never())
    with pytest.raises(
        MeasureError,
        match=r"memory ran out at chunk 1, one example at once, in layer 1 \(Never\) \(CUDA out of "
        r"memory, [\d.]+ [kMGT]B free\); columns without .* or measure where there is more memory",
    ):
        pv.measure(model, as_pair(digit_batches((9,))))
    assert not any(module._forward_hooks for module in model.modules())


def test_other_errors_are_not_taken_for_out_of_memory() -> None:
    def broken(net: Net, x: Tensor) -> Tensor:
        if len(x) > 2:
            raise RuntimeError("a device-side assertion")
        return net.fc(net.conv(x).mean((2, 3)))

    with pytest.raises(MeasureError, match=r"fails in the network .*device-side"):
        pv.measure(
            Net(broken, conv=nn.Conv2d(1, 3, 2), fc=nn.Linear(3, 3)).double(),
            as_pair(digit_batches((9,))),
        )


@pytest.fixture(autouse=True)
def _much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "free_memory", lambda: 64 * 1024**3)


def chunk_of(examples: int, width: int = 8, size: int = 32) -> int:
    model = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), *head(width)).eval()
    images = torch.zeros(1, 3, size, size).expand(examples, -1, -1, -1)  # takes no memory
    batch = images, torch.zeros(examples, dtype=torch.int64)
    batches = as_batches(batch, torch.device("cpu"), torch.float32)
    return automatic_chunk(build_objective(model, batches, Options()))


def test_the_automatic_chunk_follows_the_size_of_an_example_not_of_the_sample() -> None:
    assert [chunk_of(1), chunk_of(2), chunk_of(300)] == [1, 2, 300]
    most = chunk_of(100_000, 64, 96)
    assert 20 < most < 1000
    assert most // 2 - 2 <= chunk_of(100_000, 128, 96) <= most // 2 + 2


def test_the_chunks_of_a_sample_are_about_equally_large() -> None:
    most = chunk_of(100_000, 64, 96)
    for examples in (most - 1, most + 2, 3 * most, 3 * most + 3):
        chunk = chunk_of(examples, 64, 96)
        chunks, left = divmod(examples, chunk)
        assert chunk <= most + 1
        assert left == 0 or chunk - left < chunks + 1


def test_the_chunk_is_halved_with_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    most = chunk_of(100_000, 64, 96)
    for free, part in ((5200, 1), (5000, 2), (2000, 4), (700, 8)):
        monkeypatch.setattr(chunking, "free_memory", lambda free=free: free * 1024**2)
        assert most / part - 2 < chunk_of(100_000, 64, 96) <= most / part + 2
    monkeypatch.setattr(chunking, "free_memory", lambda: 0)
    assert chunk_of(100_000, 256, 96) == 1
    monkeypatch.setattr(chunking, "free_memory", lambda: None)  # as on other systems
    assert chunk_of(100_000, 64, 96) == most


@pytest.mark.parametrize(
    ("free", "kept", "fraction", "budget"),
    [(80, 0, 1.0, 35), (30, 50, 1.0, 35), (10, 10, 1.0, 10), (80, 0, 0.5, 15)],
)
def test_memory_that_torch_keeps_counts_as_free_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, free: int, kept: int, fraction: float, budget: int
) -> None:
    used, total = 10, 80
    device = torch.device("cuda")
    told = {
        "mem_get_info": (min(free, total - used - kept), total),
        "memory_allocated": used,
        "memory_reserved": used + kept,
        "get_per_process_memory_fraction": fraction,
    }
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert _memory_budget(device) == budget


class LiveMemory(TorchDispatchMode):
    """Peak memory of the tensors made inside the context, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.peak, self._held = 0, {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_flatten(result)[0]:
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._held[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._held = {
            key: (ref, size) for key, (ref, size) in self._held.items() if not ref.expired()
        }
        self.peak = max(self.peak, sum(size for _, size in self._held.values()))
        return result


def peak_of(examples: int, chunk: int) -> int:
    images, labels = as_pair(digit_batches((examples,), torch.float32))
    sample = F.interpolate(images, scale_factor=4), labels
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), *head(8)
    )
    options = Options.of(chunk=chunk, columns=["theta_hg", "theta_hg_t200"])
    with LiveMemory() as memory:  # without the comparison of whole batches with their chunks
        take_snapshot(model, sample, options)
    return memory.peak - sum(part.nbytes for part in sample)


def test_the_chunk_bounds_the_memory_and_the_sample_does_not() -> None:
    at_once, chunked, larger_sample = peak_of(64, 64), peak_of(64, 8), peak_of(256, 8)
    assert chunked < at_once / 6
    assert larger_sample < 1.02 * chunked


def test_a_batch_that_must_stay_whole_and_does_not_fit_names_the_repair() -> None:
    def spread(output: Tensor, target: Tensor) -> Tensor:
        return output.var(0).sum()

    with pytest.raises(
        MeasureError,
        match=r"cannot be split: the loss is no mean .* smaller batches, .* loss_weight=",
    ):
        pv.measure(scarce(4), as_pair(digit_batches((12,))), loss=spread)
