"""Measuring leaves parameters, gradients, buffers, flags, hooks, generators and memory alone."""

from __future__ import annotations

import copy
import gc
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pruneviz as pv
from pruneviz.errors import PrunevizError
from tests.support.cases import BN_MODES, BY_NAME, CLASSES, as_pair, digit_batches, head

ON_REQUEST = ["synflow", "theta2_g2", "bn_taylor", "wanda", "fpgm", "sigma"]


def a_network() -> nn.Module:
    """A network with norms, dropout, mixed flags, a frozen layer, some gradients and user hooks."""
    torch.manual_seed(0)
    first = [
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.3),
    ]
    second = [nn.Conv2d(6, 8, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3)]
    model = nn.Sequential(*first, *second, *head(8)).train()
    model[1].eval()
    model[4].weight.requires_grad_(False)
    model[4].bias.grad = torch.randn(8)
    model[0].weight.grad = torch.randn(6, 1, 3, 3)
    model[2].register_forward_hook(lambda module, inputs, output: None)
    model[6].register_forward_pre_hook(lambda module, inputs: None)
    return model


def images_and_labels(count: int = 12) -> tuple[Tensor, Tensor]:
    return as_pair(digit_batches((count,), torch.float32))


def state_of(model: nn.Module) -> dict[str, Any]:
    """A copy of all that a training loop could notice of a model; tensors with their identity."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors |= {
        f"{name}.grad": value.grad
        for name, value in model.named_parameters()
        if value.grad is not None
    }
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "tensors": {
            name: (id(value), value.data_ptr(), value.detach().clone())
            for name, value in tensors.items()
        },
        "requires_grad": {name: value.requires_grad for name, value in tensors.items()},
        "training": {name: module.training for name, module in model.named_modules()},
        "momentum": {
            name: getattr(module, "momentum", None) for name, module in model.named_modules()
        },
        "hooks": {
            (name, kind): list(getattr(module, kind))
            for name, module in model.named_modules()
            for kind in hooks
        },
        "tensor hooks": {
            name: list(value._backward_hooks or ()) for name, value in model.named_parameters()
        },
    }


def global_state() -> dict[str, Any]:
    """Generators and settings of the process."""
    settings = (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )
    backends = (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
    )
    numpy = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (numpy[1].tolist(), *numpy[2:]),
        "torch": torch.get_rng_state(),
        "set": (settings, backends),
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(
            same(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def assert_unmoved(
    model: nn.Module, act: Callable[[], object], generator: torch.Generator | None = None
) -> None:
    def everything() -> dict[str, Any]:
        own = {} if generator is None else {"loader": generator.get_state()}
        return {**state_of(model), **global_state(), **own}

    before = everything()
    act()
    after = everything()
    moved = [name for name in before if not same(before[name], after[name])]
    assert not moved, f"measuring moved: {', '.join(moved)}"


@pytest.mark.parametrize("dtype", [None, torch.float64], ids=["own precision", "float64"])
@pytest.mark.parametrize("bn", BN_MODES)
def test_a_measurement_leaves_everything_as_it_was(bn: str, dtype: torch.dtype | None) -> None:
    model = a_network()
    model[4].register_full_backward_hook(lambda module, inputs, outputs: None)
    assert_unmoved(
        model, lambda: pv.measure(model, images_and_labels(), bn=bn, dtype=dtype, chunk=5)
    )


@pytest.mark.parametrize("bn", ["eval", "calibrated"])
def test_the_columns_on_request_leave_everything_as_it_was(bn: str) -> None:
    model = a_network()
    assert_unmoved(model, lambda: pv.measure(model, images_and_labels(), bn=bn, columns=ON_REQUEST))


def randomly_moved(batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A batch made by a loader that draws from all three global generators."""
    images = torch.stack([image for image, _ in batch])
    noise = random.random() + np.random.rand() + torch.rand(())  # noqa: NPY002
    return images + 0.01 * noise, torch.stack([label for _, label in batch])


@pytest.mark.parametrize("bn", BN_MODES)
@pytest.mark.parametrize("own", [True, False], ids=["own generator", "global generator"])
def test_a_shuffling_augmenting_loader_keeps_its_generators(own: bool, bn: str) -> None:
    model, generator = a_network(), torch.Generator().manual_seed(3) if own else None
    loader = DataLoader(
        TensorDataset(*images_and_labels()),
        4,
        shuffle=True,
        generator=generator,
        collate_fn=randomly_moved,
    )
    assert_unmoved(model, lambda: pv.measure(model, loader, bn=bn), generator)


@pytest.mark.parametrize("trouble", ["nan", "label", "column", "loss"])
@pytest.mark.parametrize("bn", BN_MODES)
def test_a_measurement_that_fails_leaves_everything_as_it_was_too(bn: str, trouble: str) -> None:
    model, (images, labels) = a_network(), images_and_labels()
    images = images.clone().fill_(torch.nan) if trouble == "nan" else images
    labels = labels + CLASSES if trouble == "label" else labels

    def broken_loss(output: Tensor, target: Tensor) -> Tensor:
        raise RuntimeError("broken")

    def act() -> None:
        options: dict[str, Any] = {}
        if trouble == "column":
            options = {"columns": ["theta_hg", "nonsense"]}
        elif trouble == "loss":
            options = {"loss": broken_loss}
        with pytest.raises(RuntimeError if trouble == "loss" else PrunevizError):
            pv.measure(model, (images, labels), bn=bn, **options)

    assert_unmoved(model, act)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("bn", BN_MODES)
def test_with_gradients_off_it_measures_the_same_and_leaves_them_off(
    bn: str, mode: Callable[[], AbstractContextManager[None]]
) -> None:
    model, sample, inside = a_network(), images_and_labels(), []
    outside = pv.measure(model, sample, bn=bn)
    with mode():
        assert_unmoved(model, lambda: inside.append(pv.measure(model, sample, bn=bn)))
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert outside.equals(inside[0])


@pytest.mark.parametrize("bn", BN_MODES)
def test_between_a_forward_and_its_backward_it_changes_no_gradient(bn: str) -> None:
    gradients = []
    for measuring in (False, True):
        model, (images, labels) = (
            BY_NAME["conv_bn_relu"].model(dtype=torch.float32),
            images_and_labels(),
        )
        torch.manual_seed(1)
        loss = F.cross_entropy(model(images), labels)
        if measuring:
            pv.measure(model, (images, labels), bn=bn)
        loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    assert same(*gradients)


def trained(record: Callable[[nn.Module], pv.Recorder] | None, own: bool) -> dict[str, Any]:
    """The state after three epochs of SGD with momentum, dropout, norms and a shuffling loader."""
    model = a_network()
    for module in model.modules():
        module.train()
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    generator = torch.Generator().manual_seed(2) if own else None
    loader = DataLoader(
        TensorDataset(*images_and_labels(40)),
        8,
        shuffle=True,
        generator=generator,
        collate_fn=randomly_moved,
    )
    optimizer = torch.optim.SGD(
        (value for value in model.parameters() if value.requires_grad),
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
    )
    recorder = record(model) if record else None
    for epoch in range(4):
        for images, labels in loader if epoch else ():
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        if recorder:
            recorder.after_epoch(epoch, train_acc=0.5)
    if recorder:
        recorder.close()
    momenta = {
        str(key): value["momentum_buffer"] for key, value in optimizer.state_dict()["state"].items()
    }
    return {"model": copy.deepcopy(model.state_dict()), "momenta": momenta, **global_state()}


SAMPLES: Mapping[str, Callable[[], object]] = {
    "pair": images_and_labels,
    "list": lambda: digit_batches((6, 6), torch.float32),
    "loader": lambda: DataLoader(TensorDataset(*images_and_labels()), batch_size=6),
}


@pytest.mark.parametrize(
    ("bn", "sample", "own"),
    [("eval", "pair", True), ("calibrated", "list", False), ("batch", "loader", False)],
)
def test_training_with_a_recorder_gives_bit_equal_weights(
    bn: str, sample: str, own: bool, tmp_path: Path
) -> None:
    def record(model: nn.Module) -> pv.Recorder:
        return pv.Recorder(
            model, SAMPLES[sample](), out=tmp_path / "run", every=1, spec={"seed": 0}, bn=bn
        )

    with_recorder = trained(record, own)
    assert same(trained(None, own), with_recorder)
    assert sorted(
        pv.load(tmp_path / "run").filters.dropna(subset=["theta_hg"])["epoch"].unique()
    ) == [0, 1, 2, 3]


def test_the_training_of_the_test_above_would_notice_a_single_draw() -> None:
    def draw(model: nn.Module) -> None:
        torch.rand(())

    assert not same(trained(draw, own=False)["model"], trained(None, own=False)["model"])


_FEW, _MANY = 5, 30  # snapshots


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def resident_bytes() -> int:
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("this system does not tell the resident memory of a process")
    return int(pages.read_text().split()[1]) * 4096


@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_many_snapshots_hold_no_more_memory_than_a_few(bn: str) -> None:
    torch.manual_seed(0)
    width = 512  # a copy of the parameters takes a megabyte, so that keeping one shows
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(16, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.Linear(width, 3),
    )
    sample, tensors, bytes_held = images_and_labels(), [], []
    for snapshot in range(_MANY):
        pv.measure(
            model,
            sample,
            bn=bn,
            columns=["sigma", "theta_g_se", "theta_hg_se_given_g"],
            temperatures=(1.0,),
        )
        if snapshot in (_FEW, _MANY - 1):
            tensors.append(live_tensors())
            bytes_held.append(resident_bytes())
    assert tensors[1] == tensors[0]
    copies = _MANY - 1 - _FEW  # of one megabyte, were one kept per snapshot
    assert bytes_held[1] - bytes_held[0] < copies / 2 * 2**20


def test_many_recorded_epochs_hold_no_more_tensors_than_a_few(tmp_path: Path) -> None:
    model = BY_NAME["conv_bn_relu"].model(dtype=torch.float32)
    counts = []
    with pv.Recorder(
        model, images_and_labels(), out=tmp_path / "run", every=1, bn="calibrated"
    ) as recorder:
        for epoch in range(12):
            recorder.after_epoch(epoch)
            if epoch in (3, 11):
                counts.append(live_tensors())
    assert counts[1] == counts[0]
