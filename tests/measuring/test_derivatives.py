"""Derivatives of unusual networks, and settings of torch that must not reach the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

import pruneviz as pv
from tests.support.cases import BY_NAME, CLASSES, Net, as_pair, digit_batches, head, randomise
from tests.support.reference import reference_columns

Frame = pd.DataFrame
SUMS, ERRORS = ["theta_g", "theta_hg", "theta_hg_t200"], ["theta_g_se", "theta_hg_se_given_g"]


def assert_same(frame: Frame, other: Frame, tolerance: float = 0.0) -> None:
    pd.testing.assert_frame_equal(frame, other, check_exact=not tolerance, rtol=tolerance, atol=0.0)


def awkward(forward: Callable[[Net, Tensor], Tensor], **modules: nn.Module) -> nn.Module:
    return randomise(Net(forward, **modules)).double()


def with_patches_in_the_batch(net: Net, x: Tensor) -> Tensor:
    patches = x.unfold(2, 2, 2).unfold(3, 2, 2).reshape(-1, 1, 2, 2)
    return net.fc(torch.tanh(net.conv(patches)).view(len(x), -1))


def with_time_first(net: Net, x: Tensor) -> Tensor:
    return net.fc(torch.tanh(net.hidden(x.squeeze(1).transpose(0, 1))).mean(0))


def with_the_weight_used_twice(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    return net.fc((torch.tanh(y) + F.conv2d(x, net.conv.weight) ** 2).mean((2, 3)))


def with_the_weight_flipped_elsewhere(net: Net, x: Tensor) -> Tensor:
    return net.fc(
        (torch.tanh(net.conv(x)) + F.conv2d(x, net.conv.weight.flip(2)) ** 2).mean((2, 3))
    )


def with_a_second_batch(net: Net, x: Tensor) -> Tensor:
    first, second = torch.tanh(net.conv(torch.cat([x, x.flip(2)]))).chunk(2)
    return net.fc((torch.tanh(net.conv(x)) + first * second).mean((2, 3)))


class Standardised(nn.Conv2d):
    """A convolution whose output is not linear in its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight / self.weight.norm(), self.bias)


class SamePadded(nn.Conv2d):
    """A convolution that does more than torch's."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias)


def doubling(model: nn.Module) -> nn.Module:
    model[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return model


def plain(conv: nn.Module) -> nn.Module:
    return randomise(nn.Sequential(conv, nn.Tanh(), *head(3))).double()


CONV, FC = {"conv": nn.Conv2d(1, 3, 2)}, {"fc": nn.Linear(3, CLASSES)}
WITHOUT_ERRORS = {
    "patches in the batch": (
        awkward(with_patches_in_the_batch, **CONV, fc=nn.Linear(12, CLASSES)),
        "conv",
    ),
    "time first": (awkward(with_time_first, hidden=nn.Linear(4, 3), **FC), "hidden"),
    "weight flipped elsewhere": (awkward(with_the_weight_flipped_elsewhere, **CONV, **FC), "conv"),
    "a second batch": (awkward(with_a_second_batch, **CONV, **FC), "conv"),
    "standardised weight": (plain(Standardised(1, 3, 2)), "0"),
}


def assert_like_twin(model: nn.Module, frame: Frame, columns: list[str], examples: int) -> None:
    twins = reference_columns(
        model, digit_batches((examples,)), dict.fromkeys(frame["layer"].unique(), (None, 0))
    )
    for name in columns:
        want = np.concatenate([twins[layer][name].numpy() for layer in twins])
        assert np.abs(frame[name].to_numpy() - want).max() <= 1e-9 * np.linalg.norm(want), name


@pytest.mark.parametrize("chunk", [None, 4, 1])
@pytest.mark.parametrize("kind", WITHOUT_ERRORS)
def test_a_layer_that_hides_its_examples_has_no_standard_error_rather_than_a_wrong_one(
    kind: str, chunk: int | None
) -> None:
    model, layer = WITHOUT_ERRORS[kind]
    frame = pv.measure(model, as_pair(digit_batches((6,))), chunk=chunk)
    assert list(frame["layer"].unique()) == [layer]
    assert_like_twin(model, frame, SUMS, 6)
    assert frame[ERRORS].isna().all(axis=None)


@pytest.mark.parametrize("examples", [4, 8])
def test_as_many_time_steps_as_examples_are_not_taken_for_examples(examples: int) -> None:
    model = WITHOUT_ERRORS["time first"][0]
    assert (
        pv.measure(model, as_pair(digit_batches((examples,))), chunk=4)[ERRORS]
        .isna()
        .all(axis=None)
    )


def shared_gradient(net: Net, x: Tensor) -> Tensor:
    y = torch.tanh(net.stem(x))
    y = y + net.conv(y)
    return net.fc((torch.tanh(y + net.last(y)) ** 2).mean((2, 3)))


def with_checkpoint(net: Net, x: Tensor) -> Tensor:
    inner = checkpoint(
        lambda y: torch.tanh(net.conv(torch.tanh(net.stem(y)))), x, use_reentrant=False
    )
    return net.fc(inner.mean((2, 3)))


def test_a_checkpointed_batch_norm_is_measured_as_it_ran() -> None:
    def forward(net: Net, x: Tensor, run: Callable[..., Tensor]) -> Tensor:
        return net.fc(run(lambda y: torch.tanh(net.norm(net.conv(y))), x).mean((2, 3)))

    def checkpointed(net: Net, x: Tensor) -> Tensor:
        return forward(net, x, partial(checkpoint, use_reentrant=False))

    def plain(net: Net, x: Tensor) -> Tensor:
        return forward(net, x, lambda function, given: function(given))

    norm, sample = nn.BatchNorm2d(3), as_pair(digit_batches((4,)))
    frames = [
        pv.measure(awkward(f, norm=norm, **CONV, **FC), sample, dtype=torch.float64)
        for f in (checkpointed, plain)
    ]
    pd.testing.assert_frame_equal(*frames)


def with_relu_on_views(net: Net, x: Tensor) -> Tensor:
    y = net.conv(net.stem(input=x))
    y[:, :2].mul_(2)
    return net.fc(F.silu(y.flatten(2), inplace=True).mean(2))


def with_views(net: Net, x: Tensor) -> Tensor:
    return net.fc(torch.tanh(net.conv(x)).view(len(x), -1))


STEM = {"stem": nn.Conv2d(1, 3, 2), "conv": nn.Conv2d(3, 3, 1)}
WITH_ERRORS = {
    "branches that share a gradient": awkward(
        shared_gradient, **STEM, last=nn.Conv2d(3, 3, 1, bias=False), **FC
    ),
    "recomputed activations": awkward(with_checkpoint, **STEM, **FC),
    "weight used by two calls": awkward(with_the_weight_used_twice, **CONV, **FC),
    "padding of its own": plain(SamePadded(1, 3, 2)),
    "output doubled by a hook": doubling(plain(nn.Conv2d(1, 3, 2))),
    "activations viewed as vectors": awkward(with_views, **CONV, fc=nn.Linear(27, CLASSES)),
    "in place on views, by keyword": awkward(with_relu_on_views, **STEM, **FC),
}


@pytest.mark.parametrize("kind", WITH_ERRORS)
def test_awkward_networks_have_exact_standard_errors(kind: str) -> None:
    frame = pv.measure(WITH_ERRORS[kind], as_pair(digit_batches((6,))), chunk=4)
    assert_like_twin(WITH_ERRORS[kind], frame, [*SUMS, *ERRORS], 6)


def attention(batch_first: bool) -> nn.Module:
    encoder = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.5, batch_first=batch_first)
    dim = 1 if batch_first else 0
    rows = {True: lambda x: x.squeeze(1), False: lambda x: x.squeeze(1).transpose(0, 1)}[
        batch_first
    ]
    return awkward(
        lambda net, x: net.fc(net.encoder(net.embed(rows(x))).mean(dim)),
        embed=nn.Linear(4, 4),
        encoder=encoder,
        fc=nn.Linear(4, 3),
    )


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_is_differentiated_twice(batch_first: bool) -> None:
    model = attention(batch_first)
    layers = ["embed", "encoder.linear1", "encoder.linear2"]
    columns = [*SUMS, *ERRORS, "theta2_g2"]
    frame = pv.measure(model, as_pair(digit_batches((6,))), columns=columns, layers=layers)
    with sdpa_kernel(SDPBackend.MATH):
        assert_like_twin(model, frame, [*SUMS, "theta2_g2"] + (ERRORS if batch_first else []), 6)
    assert frame[ERRORS].isna().all(axis=None) == (not batch_first)


def precision() -> list[str]:
    backends = torch.backends
    units = [
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    ]
    return [unit.fp32_precision for unit in units]


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    yield
    assert (
        torch.get_float32_matmul_precision() == name
    )  # which torch refuses to say where two ways of setting it were mixed
    torch.set_float32_matmul_precision(before)


@contextmanager
def tf32_of_the_new_kind() -> Iterator[None]:
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield
    torch.backends.cuda.matmul.fp32_precision = before


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "medium precision": lambda: matmul_precision("medium"),
    "high precision": lambda: matmul_precision("high"),
    "tf32": tf32_of_the_new_kind,
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", ["mlp", "conv_bn_relu"])
def test_settings_of_torch_do_not_reach_the_numbers_and_are_put_back(
    name: str, setting: str
) -> None:
    model, sample = (
        BY_NAME[name].model(dtype=torch.float32),
        as_pair(digit_batches((6,), torch.float32)),
    )
    want, seen = pv.measure(model, sample), []
    model.register_forward_hook(lambda *_: seen.append(precision()))
    with SETTINGS[setting]():
        before = (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            precision(),
        )
        frame = pv.measure(model, sample, hooks=True)
        assert (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            precision(),
        ) == before
    assert_same(frame, want)
    assert all(now == ["ieee"] * 5 for now in seen)
    assert seen


def test_a_sample_made_in_inference_mode_is_a_sample() -> None:
    model, sample = BY_NAME["mlp"].model(), as_pair(digit_batches((6,)))
    with torch.inference_mode():
        made = tuple(part.clone() for part in sample)
    assert_same(pv.measure(model, made), pv.measure(model, sample))


WRAPPERS = {
    "data parallel": nn.DataParallel,
    "compiled": lambda model: torch.compile(model, backend="aot_eager"),
    "both": lambda model: torch.compile(nn.DataParallel(model), backend="aot_eager"),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_network_has_the_rows_and_numbers_of_the_network_itself(wrapper: str) -> None:
    case, sample = BY_NAME["conv_bn_relu"], as_pair(digit_batches((6,)))
    assert_same(
        pv.measure(WRAPPERS[wrapper](case.model()), sample), pv.measure(case.model(), sample)
    )


def test_a_part_that_is_compiled_runs_as_it_is_written() -> None:
    case, sample = BY_NAME["conv_bn_relu"], as_pair(digit_batches((6,)))
    model = case.model()
    model[4].compile(backend="aot_eager")
    assert_same(pv.measure(model, sample), pv.measure(case.model(), sample))
