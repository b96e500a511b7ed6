"""Bad input raises an error with the repair, and leaves the network as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import pruneviz as pv
from pruneviz.errors import DataError, MeasureError
from pruneviz.measuring.options import Options
from pruneviz.measuring.repeatability import check_repeatable, fixed_batches
from pruneviz.model.sample import sample_size
from tests.support.cases import BY_NAME, CLASSES, Net, as_pair, digit_batches, head

X, Y = as_pair(digit_batches((6,), torch.float32))
SOFT = F.one_hot(Y, CLASSES).float() * 0.9 + 0.1 / CLASSES
MANY = [(X, Y), (X[:2], Y[:2])]


def network() -> nn.Module:
    return BY_NAME["conv_bn_relu"].model(dtype=torch.float32)


def state(model: nn.Module) -> dict[str, Any]:
    flags = {name: module.training for name, module in model.named_modules()}
    hooks = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )
    return {
        **flags,
        "hooks": hooks,
        "values": [value.tolist() for value in model.state_dict().values()],
    }


def refuses(
    error: type[Exception], match: str, model: nn.Module, sample: Any, **options: Any
) -> None:
    before = state(model)
    with pytest.raises(error, match=match):
        pv.measure(model, sample, **options)
    np.testing.assert_equal(state(model), before)  # here NaN equals NaN


SAMPLES: Mapping[str, tuple[Any, str]] = {
    "an empty pair": ((X[:0], Y[:0]), "the sample is empty; give at least one"),
    "an empty list": ([], "the sample is empty"),
    "empty batches": ([(X[:0], Y[:0])] * 2, "the sample is empty"),
    "nothing": (
        None,
        r"must be a pair of tensors \(inputs, targets\) or an iterable of such pairs, got NoneType",
    ),
    "a path": ("digits", "got str"),
    "a single tensor": (X, "got Tensor"),
    "arrays": ((X.numpy(), Y.numpy()), "got ndarray"),
    "batches of three": ([(X, Y, Y)], "got tuple"),
    "dictionaries without tensors": ([{"x": "a", "y": "b"}], "got dict"),
    "a data set": (TensorDataset(X, Y), "got TensorDataset, which gives single examples; wrap it"),
    "one bad batch after a good one": ([(X, Y), (X, None)], "got tuple"),
    "fewer labels than images": (
        (X, Y[:4]),
        r"shape \(6, 1, 4, 4\) and targets of shape \(4,\) differ in their number",
    ),
    "a single image": ((X[0, 0], Y[0]), "differ in their number"),
    "uint8 images": ((X.mul(100).byte(), Y), "uint8 images; normalise them first"),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_input_that_is_no_sample_raises(kind: str) -> None:
    sample, match = SAMPLES[kind]
    refuses(DataError, match, network(), sample)


LABELS: Mapping[str, tuple[Tensor, str]] = {
    "negative": (
        Y - 1,
        r"labels run from -1 to 1, but the network has 3 outputs; labels must lie in 0\.\.2",
    ),
    "too large": (Y + 1, "labels run from 1 to 3"),
    "int32": (
        Y.int(),
        r"int32 labels of shape \(2,\) do not fit outputs of shape \(2, 3\); give int64 labels",
    ),
    "truth values": (Y > 0, r"torch\.bool labels"),
    "one-hot": (
        F.one_hot(Y, 3),
        r"int64 labels of shape \(2, 3\) look one-hot; give labels.argmax",
    ),
    "one-hot truth values": (F.one_hot(Y, 3).bool(), r"look one-hot; give labels.argmax\(1\), or"),
    "a column": (Y[:, None], r"labels of shape \(2, 1\) do not fit"),
    "real numbers": (Y.float(), r"float32 labels of shape \(2,\) do not fit"),
    "probabilities of another number of classes": (
        SOFT[:, :2],
        r"labels of shape \(2, 2\) do not fit",
    ),
}


@pytest.mark.parametrize("bn", ["eval", "batch"])
@pytest.mark.parametrize("kind", LABELS)
def test_labels_without_outputs_raise(kind: str, bn: str) -> None:
    labels, match = LABELS[kind]
    if bn == "batch":  # a batch is checked as a whole
        match = match.replace("(2, ", "(6, ").replace("(2,", "(6,")
    refuses(MeasureError, match, network(), (X, labels), bn=bn)


def test_a_label_out_of_range_in_a_later_batch_is_refused() -> None:
    refuses(
        MeasureError,
        "labels of batch 2 of 2 run from 7 to 7",
        network(),
        [(X, Y), (X, Y.clamp(max=0) + 7)],
    )


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (F.one_hot(Y, CLASSES), r"batch 2 of 2 are torch.int64 of shape \(6, 3\)"),
        (Y.int(), "batch 2 of 2 are torch.int32"),
        (Y.float(), r"batch 2 of 2 are torch.float32 of shape \(6,\)"),
        (SOFT[:, :2], r"do not fit outputs of 3 classes; give int64 labels"),
        (2 * F.one_hot(Y, CLASSES).float(), "the lowest value of batch 2 of 2 is 0 and a row sums"),
        (Y.to(torch.uint16), "batch 2 of 2 are torch.uint16"),
        (Y * 1j, "batch 2 of 2 are torch.complex64"),
        (SOFT.to_sparse(), "do not fit outputs of 3 classes"),
    ],
    ids=["one-hot", "int32", "real", "classes", "no_probabilities", "uint16", "complex", "sparse"],
)
@pytest.mark.parametrize("first", [Y, F.one_hot(Y, CLASSES).float()], ids=["labels", "soft"])
def test_labels_of_another_form_in_a_later_batch_are_refused(
    labels: Tensor, match: str, first: Tensor
) -> None:
    refuses(MeasureError, match, network(), [(X, first), (X, labels)])


WEIGHTS = torch.ones(CLASSES)
LOSS_OPTIONS: Mapping[str, tuple[Tensor, Any, str]] = {
    "soft, ignored label": (SOFT, nn.CrossEntropyLoss(ignore_index=0), "no label to ignore; leave"),
    "soft, of labels": (SOFT, F.nll_loss, "nll_loss takes labels; use F.cross_entropy"),
    "soft, NaN": (SOFT * torch.nan, nn.CrossEntropyLoss(), "batch 2 of 2 are .* with NaN"),
    "bytes, both": (
        Y.byte(),
        nn.CrossEntropyLoss(WEIGHTS, label_smoothing=0.1),
        r"uint8, .* give labels\.long",
    ),
    "few weights": (Y, nn.CrossEntropyLoss(WEIGHTS[:2]), r"shape \(2,\), but the network has 3"),
    "much smoothing": (Y, nn.CrossEntropyLoss(label_smoothing=2.0), "a fraction between 0 and 1"),
    "a list": (Y, partial(F.cross_entropy, weight=[1.0, 1.0, 1.0]), "a list; give a tensor"),
}


@pytest.mark.parametrize("kind", LOSS_OPTIONS)
def test_options_of_a_loss_that_do_not_fit_its_targets_are_refused(kind: str) -> None:
    labels, loss, match = LOSS_OPTIONS[kind]
    refuses(MeasureError, match, network(), [(X, Y), (X, labels)], loss=loss)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(WEIGHTS), nn.CrossEntropyLoss()], ids=repr)
def test_bytes_beside_labels_and_weights_are_labels(loss: nn.Module) -> None:
    got = pv.measure(network(), [(X, Y), (X, Y.byte())], loss=loss)["theta_g"]
    want = pv.measure(network(), [(X, Y), (X, Y)], loss=loss)["theta_g"]
    np.testing.assert_array_equal(got, want)


def test_labels_of_another_length_than_their_outputs_are_refused() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Conv1d(2, 4, 1), nn.ReLU(), nn.Conv1d(4, CLASSES, 1))

    x, y = torch.randn(3, 2, 5), torch.zeros(3, 5, dtype=torch.int64)
    match = r"targets of shape \(3, 4\) do not fit outputs of shape \(3, 3, 5\); .* \(3, 5\)"
    refuses(MeasureError, match, net(), [(x, y), (x, y[:, :4])])
    refuses(MeasureError, "torch.uint8 labels of shape .* give int64", net(), (x, y.byte()))


def test_a_batch_without_labels_that_count_and_rounded_probabilities_are_taken() -> None:
    soft = torch.randn(len(X), CLASSES).softmax(1)
    want = pv.measure(network(), (X, soft.bfloat16().float()))["theta_g"]
    got = pv.measure(network(), [(X, Y * 0 - 100), (X, soft.bfloat16())])["theta_g"]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.linalg.norm(want))
    refuses(MeasureError, r"a row sums to 1\.005", network(), (X, 1.005 * soft))


@pytest.mark.parametrize(
    "labels",
    [Y.byte(), F.one_hot(Y, CLASSES).float(), F.one_hot(Y, CLASSES).double()],
    ids=lambda y: str(y.dtype),
)
def test_bytes_and_probabilities_are_labels(labels: Tensor) -> None:
    got, want = pv.measure(network(), (X, labels)), pv.measure(network(), (X, Y))
    for name in ("theta_g", "theta_hg", "theta_g_se"):
        np.testing.assert_allclose(
            got[name], want[name], rtol=0, atol=1e-5 * np.linalg.norm(want[name])
        )


OPTIONS: Mapping[str, tuple[dict[str, Any], str]] = {
    "norm mode": (
        {"bn": "train"},
        "bn='train' is not a batch-norm mode; choose one of eval, calibrated, batch",
    ),
    "column": (
        {"columns": ["theta_g", "theta"]},
        r"no filter column 'theta'; .*Choose one of theta_norm2, .*synflow",
    ),
    "column that only a recorder knows": (
        {"columns": ["sigma_delta"]},
        "no filter column 'sigma_delta'",
    ),
    "column of another temperature": (
        {"columns": ["theta_hg_t200"], "temperatures": (1.0,)},
        "no filter column 'theta_hg_t200'",
    ),
    "single column": ({"columns": "theta"}, "no filter column 'theta'"),
    "no temperature": (
        {"temperatures": ()},
        r"temperatures=\(\); give one or more positive numbers",
    ),
    "temperature zero": ({"temperatures": (1.0, 0.0)}, "give one or more positive numbers"),
    "negative temperature": ({"temperatures": (-1.0,)}, "give one or more positive numbers"),
    "no number for temperature": (
        {"temperatures": (float("nan"),)},
        "give one or more positive numbers",
    ),
    "infinite temperature": (
        {"temperatures": (1.0, float("inf"))},
        "give one or more positive numbers",
    ),
    "chunk zero": ({"chunk": 0}, "chunk=0; give the number of examples"),
    "negative chunk": ({"chunk": -4}, "chunk=-4"),
    "integers": ({"dtype": torch.int64}, r"dtype=torch\.int64 has no derivatives"),
    "no per-example gradient": (
        {"columns": ["theta2_g2"], "bn": "batch"},
        "theta2_g2 needs the gradient of every example, but bn='batch' normalises every batch",
    ),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_unknown_options_raise(kind: str) -> None:
    options, match = OPTIONS[kind]
    refuses(MeasureError, match, network(), (X, Y), **options)


def test_a_network_and_a_sample_in_the_wrong_order_are_told() -> None:
    with pytest.raises(MeasureError, match=r"the model is a tuple, not an nn\.Module; the model"):
        pv.measure((X, Y), network())  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"got a network; call pv\.measure\(model, sample\)"):
        pv.measure(network(), network())


def test_a_column_may_be_named_without_a_list() -> None:
    assert list(pv.measure(network(), (X, Y), columns="theta_g").columns) == [
        "layer",
        "filter",
        "kept",
        "theta_g",
    ]


def changed(name: str, value: float) -> nn.Module:
    model = network()
    model.get_parameter(name).data.flatten()[0] = value
    return model


def with_buffer(name: str, value: float) -> nn.Module:
    model = network()
    model.get_buffer(name).fill_(value)
    return model


def overflowing() -> nn.Module:
    model = network()
    model[4].weight.data.mul_(1e20)
    model[9].weight.data.mul_(1e30)
    return model


NOT_FINITE: Mapping[str, tuple[Callable[[], nn.Module], Tensor, str]] = {
    "NaN in the images": (
        network,
        X.log(),
        "is NaN or infinite, first in the output of layer 0; check the inputs",
    ),
    "infinite images": (network, X * torch.inf, "first in the output of layer 0"),
    "NaN in the last image": (
        network,
        torch.cat([X[:-1], X[-1:] * torch.nan]),
        "first in the output of layer 0",
    ),
    "NaN weight": (
        lambda: changed("4.weight", torch.nan),
        X,
        r"the parameter 4\.weight is not; the training diverged before",
    ),
    "infinite weight": (
        lambda: changed("1.weight", torch.inf),
        X,
        r"the parameter 1\.weight is not",
    ),
    "negative variance": (
        lambda: with_buffer("5.running_var", -1.0),
        X,
        "first in the output of layer 5",
    ),
    "overflow": (overflowing, X, "first in the output of layer 9; .* lower the learning rate"),
}


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("kind", NOT_FINITE)
def test_the_layer_that_is_not_finite_is_named(kind: str, chunk: int | None) -> None:
    build, images, match = NOT_FINITE[kind]
    refuses(MeasureError, match, build(), (images, Y), chunk=chunk)


def with_a_cusp(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus a term with first derivative 0 and an infinite second one."""
    return F.cross_entropy(output, target) + (output - output.detach()).abs().pow(1.5).sum()


def test_a_loss_or_second_derivative_alone_that_is_not_finite_is_named() -> None:
    refuses(
        MeasureError,
        "in the loss itself",
        network(),
        (X, Y),
        loss=lambda output, target: F.cross_entropy(output, target) + torch.inf,
    )
    refuses(
        MeasureError,
        "the Hessian-gradient product is NaN or infinite, in the derivative by",
        network(),
        (X, Y),
        loss=with_a_cusp,
    )


def test_a_network_that_overflows_in_float32_is_measured_in_float64() -> None:
    frame = pv.measure(overflowing(), (X, Y), dtype=torch.float64)
    assert np.isfinite(frame.drop(columns=["layer"]).astype(float)).all(axis=None)


def test_a_filter_that_became_nan_is_still_in_the_network() -> None:
    frame = pv.measure(changed("4.weight", torch.nan), (X, Y), columns=["theta_norm2"])
    assert frame["kept"].all()
    assert list(frame["theta_norm2"].isna()) == [False] * 3 + [True] + [False] * 3


def convs_then(answer: Callable[[Net, Tensor], Any]) -> nn.Module:
    return Net(
        lambda net, x: answer(net, net.fc(net.conv(x).mean((2, 3)))),
        conv=nn.Conv2d(1, 3, 2),
        fc=nn.Linear(3, CLASSES),
    )


def of_dictionary(output: dict[str, Tensor], target: Tensor) -> Tensor:
    return F.cross_entropy(output["out"], target)


def test_an_output_that_is_no_tensor_needs_a_loss_and_no_temperature() -> None:
    model = convs_then(lambda net, logits: {"out": logits, "aux": logits})
    refuses(
        MeasureError,
        r"the model returns dict, not a tensor of logits; pass loss=.* and temperatures=1\.0$",
        model,
        (X, Y),
    )
    refuses(
        MeasureError,
        r"the model returns dict, which no temperature divides; pass temperatures=1\.0$",
        model,
        (X, Y),
        loss=of_dictionary,
    )
    refuses(
        MeasureError,
        "the model returns tuple",
        convs_then(lambda net, logits: (logits, logits)),
        (X, Y),
    )
    plain = convs_then(lambda net, logits: logits)
    plain.load_state_dict(model.state_dict())
    frame = pv.measure(model, (X, Y), loss=of_dictionary, temperatures=(1.0,))
    assert frame.equals(pv.measure(plain, (X, Y), temperatures=(1.0,)))


LOSSES: Mapping[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "one number an example": (
        lambda output, target: F.cross_entropy(output, target, reduction="none"),
        r"the loss is a tensor of shape \(2,\)",
    ),
    "detached": (
        lambda output, target: F.cross_entropy(output.detach(), target),
        "one number with a gradient by the parameters",
    ),
    "a Python number": (
        lambda output, target: F.cross_entropy(output, target).item(),
        "the loss is a float; it must be the mean",
    ),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_that_is_no_mean_is_refused(kind: str) -> None:
    loss, match = LOSSES[kind]
    refuses(MeasureError, match, network(), (X, Y), loss=loss)


@pytest.mark.parametrize("bn", ["eval", "calibrated"])
def test_a_norm_without_running_statistics_asks_for_batch_statistics(bn: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3, track_running_stats=False), *head(3)
    )
    refuses(
        MeasureError,
        f"batch norm 1 keeps no running statistics, so bn='{bn}' has none to use; pass bn='batch'",
        model,
        (X, Y),
        bn=bn,
    )
    assert pv.measure(model, (X, Y), bn="batch")["theta_hg"].notna().all()


@pytest.mark.parametrize("bn", ["calibrated", "batch"])
def test_a_batch_of_one_value_has_no_statistics(bn: str) -> None:
    model = BY_NAME["mlp"].model(dtype=torch.float32)
    refuses(
        MeasureError,
        f"bn='{bn}' has a batch of one example and no statistics for it; give larger batches",
        model,
        [(X, Y), (X[:1], Y[:1])],
        bn=bn,
    )


def test_synflow_needs_floating_point_inputs() -> None:
    words = torch.randint(5, (4, 3))
    model = Net(
        lambda net, x: net.fc(net.hidden(net.embed(x)).mean(1)),
        embed=nn.Embedding(5, 4),
        hidden=nn.Linear(4, 4),
        fc=nn.Linear(4, 3),
    )
    refuses(
        MeasureError,
        r"synflow feeds the network with ones, but its inputs are torch\.int64",
        model,
        (words, Y[:4]),
        columns=["synflow"],
    )
    assert pv.measure(model, (words, Y[:4])).notna().drop(columns="sigma").all(axis=None)


def check(model: nn.Module, sample: Any, **options: Any) -> int:
    chosen = Options(**options)
    batches = fixed_batches(model, sample, chosen)
    check_repeatable(model, batches, chosen)
    return sample_size(batches)


@pytest.mark.parametrize("bn", ["eval", "calibrated", "batch"])
def test_a_repeatable_sample_is_counted(bn: str) -> None:
    model, before = network(), state(network())
    assert check(model, MANY, bn=bn) == 8
    assert state(model) == before


class Shuffled:
    """A loader that draws a new order every time."""

    def __iter__(self):
        order = torch.randperm(len(X))
        return iter([(X[order], Y[order])])


@pytest.mark.parametrize(
    "sample",
    [Shuffled(), [(X, Y)].__iter__(), (batch for batch in MANY)],
    ids=["shuffled", "iterator", "generator"],
)
def test_a_sample_that_differs_the_second_time_raises(sample: Any) -> None:
    with pytest.raises(
        DataError,
        match=r"differs when it is iterated over a second time; .* shuffled or augmented"
        r"|iterated over only once; give a pair",
    ):
        check(network(), sample)


NOISE: Mapping[str, Callable[[Net, Tensor], Tensor]] = {
    "functional dropout": lambda net, logits: F.dropout(logits, 0.5),
    "noise": lambda net, logits: logits + 0.1 * torch.randn_like(logits),
    "noise of NumPy": lambda net, logits: logits * float(np.random.rand()),  # noqa: NPY002
    "noise in the gradient alone": lambda net, logits: (
        logits + (logits - logits.detach()) * torch.rand(())
    ),
}


@pytest.mark.parametrize("kind", NOISE)
def test_a_network_that_answers_differently_the_second_time_raises(kind: str) -> None:
    what = "the gradient moved by" if kind.endswith("alone") else "the (loss was|gradient moved)"
    with pytest.raises(
        MeasureError, match=rf"gives different results when evaluated twice: {what} .*nn\.Dropout"
    ):
        check(convs_then(NOISE[kind]), (X, Y))


def test_dropout_modules_are_switched_off_and_accepted() -> None:
    assert check(network().train(), (X, Y)) == 6
    assert any(isinstance(module, nn.Dropout) and module.p > 0 for module in network().modules())


def test_nan_in_a_sample_is_not_taken_for_a_change() -> None:
    assert check(network(), (X * torch.nan, Y)) == 6
