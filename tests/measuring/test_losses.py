"""Losses that are no plain mean over examples, against plain float64 autograd on the whole sample.

Every loss is measured with several chunks. The number of a sample must not depend on the chunk: it
is that of the loss on the whole sample at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import MeasureError
from tests.support.plain_autograd import assert_as_plain

N, CLASSES = 13, 3
torch.manual_seed(0)
X = torch.randn(N, 5, dtype=torch.float64)
Y = torch.tensor([0, 0, 0, 0, 0, 1, 2, 2, 1, 0, 1, 0, 2])
IGNORED = Y.where(torch.arange(N) % 4 != 1, -100)
CLASS_WEIGHTS = torch.tensor([0.2, 3.0, 1.0])
EXACT: dict[str, Any] = {"dtype": torch.float64, "temperatures": (1.0,)}


def network(outputs: int = CLASSES, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, outputs)
    )


def dice(output: Tensor, target: Tensor) -> Tensor:
    p, y = output.softmax(1), F.one_hot(target, CLASSES)
    return 1 - (2 * (p * y).sum(0) / (p + y).sum(0)).mean()


def contrastive(output: Tensor, target: Tensor) -> Tensor:
    z = F.normalize(output, dim=1)
    near = (z @ z.T / 0.5) - 9 * torch.eye(len(z), dtype=z.dtype)
    same = (target[:, None] == target).to(z.dtype)
    return -(F.log_softmax(near, 1) * same).sum() / same.sum()


def weighted(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, weight=CLASS_WEIGHTS.to(output))


def summed(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, reduction="sum")


def smoothed(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, label_smoothing=0.1)


LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = {
    "weighted module": (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS), Y),
    "weighted partial": (partial(F.cross_entropy, weight=CLASS_WEIGHTS), Y),
    "weighted and smoothed": (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, label_smoothing=0.2), Y),
    "weighted function": (weighted, Y),
    "ignored labels": (nn.CrossEntropyLoss(), IGNORED),
    "ignored class": (nn.CrossEntropyLoss(ignore_index=0), Y),
    "ignored class by partial": (partial(F.cross_entropy, ignore_index=0), Y),
    "sum module": (nn.CrossEntropyLoss(reduction="sum"), Y),
    "weighted sum": (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, reduction="sum"), Y),
    "sum function": (summed, Y),
    "smoothed function": (smoothed, Y),
    "likelihood": (nn.NLLLoss(weight=CLASS_WEIGHTS), Y),
    "dice": (dice, Y),
    "contrastive": (contrastive, Y),
    "squares": (nn.MSELoss(), X[:, :CLASSES].contiguous()),
    "probabilities": (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS), X[:, :CLASSES].softmax(1)),
    "several labels": (
        nn.BCEWithLogitsLoss(pos_weight=CLASS_WEIGHTS.double()),
        F.one_hot(Y, CLASSES).double(),
    ),
}


def in_double(loss: Any) -> Any:
    """The same loss for float64 outputs."""
    if isinstance(loss, nn.Module):
        return type(loss)(**{k: v.double() if isinstance(v, Tensor) else v for k, v in _kept(loss)})
    if isinstance(loss, partial) and "weight" in loss.keywords:
        return partial(loss.func, weight=CLASS_WEIGHTS.double())
    return loss


def _kept(loss: nn.Module) -> list[tuple[str, Any]]:
    names = ("weight", "pos_weight", "ignore_index", "reduction", "label_smoothing")
    return [(name, getattr(loss, name)) for name in names if hasattr(loss, name)]


@pytest.mark.parametrize("chunk", [None, 1, 4])
@pytest.mark.parametrize("kind", LOSSES)
def test_any_loss_is_that_of_the_whole_sample(kind: str, chunk: int | None) -> None:
    loss, target = LOSSES[kind]
    model, whole = network(), in_double(loss)
    frame = pv.measure(model, (X, target), loss=loss, chunk=chunk, **EXACT)
    assert_as_plain(frame, model, lambda net: whole(net(X), target))


def test_ignored_labels_of_the_default_loss_count_nowhere() -> None:
    model = network()
    frame = pv.measure(model, (X, IGNORED), chunk=1, **EXACT)
    assert_as_plain(frame, model, lambda net: F.cross_entropy(net(X), IGNORED))


def test_weights_count_over_all_batches() -> None:
    """The denominator is the weight of the whole sample, whatever its batches."""
    batches = [(X[:5], Y[:5]), (X[5:6], Y[5:6]), (X[6:], Y[6:])]
    loss = nn.CrossEntropyLoss(weight=CLASS_WEIGHTS)
    for bn in ("eval", "batch"):
        frame = pv.measure(network(), batches, loss=loss, bn=bn, **EXACT)
        assert_as_plain(frame, network(), lambda net: in_double(loss)(net(X), Y))


def test_rare_weights_are_noticed_among_many_examples() -> None:
    """One example of a weighted class among 300 of another one."""
    x, y = torch.randn(301, 5, dtype=torch.float64), torch.zeros(301, dtype=torch.int64)
    y[250] = 1
    frame = pv.measure(network(), (x, y), loss=weighted, chunk=10, **EXACT)
    assert_as_plain(frame, network(), lambda net: weighted(net(x), y))


def test_batches_of_a_loss_that_is_no_mean_stay_whole() -> None:
    """L is then the mean of the batches' losses, by their number of examples."""
    batches = [(X[:6], Y[:6]), (X[6:], Y[6:])]
    frame = pv.measure(network(), batches, loss=dice, chunk=2, **EXACT)
    assert_as_plain(
        frame,
        network(),
        lambda net: sum(dice(net(x), y) * len(y) for x, y in batches) / N,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("kind", ["dice", "contrastive"])
def test_standard_errors_of_losses_that_are_no_mean_are_unknown(kind: str) -> None:
    loss, target = LOSSES[kind]
    frame = pv.measure(network(), (X, target), loss=loss, **EXACT)
    assert frame[["theta_g_se", "theta_hg_se_given_g"]].isna().all(axis=None)


def test_standard_errors_of_a_sum_are_those_of_the_mean_times_the_examples() -> None:
    of_module = nn.CrossEntropyLoss(reduction="sum", weight=torch.ones(CLASSES))
    of_sum, again = (
        pv.measure(network(), (X, Y), loss=loss, columns=["theta_g_se"], **EXACT)
        for loss in (summed, of_module)
    )
    np.testing.assert_allclose(of_sum["theta_g_se"], again["theta_g_se"], rtol=1e-9)
    of_mean = pv.measure(network(), (X, Y), columns=["theta_g_se"], **EXACT)
    np.testing.assert_allclose(of_sum["theta_g_se"], N * of_mean["theta_g_se"], rtol=1e-9)


def squared_gradients(loss: Callable[[Tensor, Tensor], Tensor], shares: Tensor) -> np.ndarray:
    """theta^2 E[g^2] of the first layer, example by example."""
    model = network().double()
    weight = model.get_parameter("0.weight")
    total = torch.zeros_like(weight)
    for i in torch.arange(N)[shares > 0]:
        value = loss(model(X[i : i + 1]), Y[i : i + 1])
        total += shares[i] * torch.autograd.grad(value, weight)[0].square()
    return (weight.detach().square() * total).sum(1).numpy()


@pytest.mark.parametrize("chunk", [None, 3])
def test_squared_gradients_count_by_the_weights_of_the_loss(chunk: int | None) -> None:
    shares = CLASS_WEIGHTS.double()[Y]
    given: Any = {"columns": ["theta2_g2"], "chunk": chunk, **EXACT}
    loss = nn.CrossEntropyLoss(weight=CLASS_WEIGHTS)
    frame = pv.measure(network(), (X, Y), loss=loss, **given)
    want = squared_gradients(F.cross_entropy, shares / shares.sum())
    np.testing.assert_allclose(frame["theta2_g2"][:4], want, rtol=1e-9)
    kept = (Y != 0).double()
    frame = pv.measure(network(), (X, Y), loss=nn.CrossEntropyLoss(ignore_index=0), **given)
    want = squared_gradients(F.cross_entropy, kept / kept.sum())
    np.testing.assert_allclose(frame["theta2_g2"][:4], want, rtol=1e-9)
    with pytest.raises(MeasureError, match=r"theta2_g2 .* the loss is no mean over examples"):
        pv.measure(network(), (X, Y), loss=dice, **given)


LENGTHS = torch.tensor([6, 1, 4, 2, 3, 5, 6, 1])
T, WORDS = 6, 7


def tokens() -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    words = torch.randint(WORDS, (len(LENGTHS), T))
    return words, words.roll(-1, 1).where(torch.arange(T) < LENGTHS[:, None], -100)


def of_tokens(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


def language_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Embedding(WORDS, 5), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, WORDS))


@pytest.mark.parametrize("chunk", [None, 1, 3])
@pytest.mark.parametrize(
    "loss_weight",
    [None, lambda y: y != -100, lambda y: (y != -100).sum(), lambda y: int((y != -100).sum())],
    ids=["found", "by token", "a tensor", "a number"],
)
def test_a_mean_over_tokens_counts_tokens(loss_weight: Any, chunk: int | None) -> None:
    words, labels = tokens()
    frame = pv.measure(
        language_model(),
        (words, labels),
        loss=of_tokens,
        loss_weight=loss_weight,
        chunk=chunk,
        **EXACT,
    )
    assert_as_plain(frame, language_model(), lambda net: of_tokens(net(words), labels))
    # without weights it is measured in one piece
    assert frame["theta_g_se"].isna().all() == (loss_weight is None)


class Second(nn.Module):
    """Logits of tokens with their classes second, as cross-entropy expects them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = language_model()

    def forward(self, words: Tensor) -> Tensor:
        return self.inner(words).transpose(1, 2)


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("kind", ["soft", "soft and hard", "soft, weighted", "soft, ignored"])
def test_probabilities_at_positions_count_by_position(kind: str, chunk: int | None) -> None:
    """Two batches of sequences of other lengths are as all their tokens at once."""
    words = [tokens()[0], tokens()[0][:3, :2]]
    soft = [torch.randn(*one.shape, WORDS).softmax(2).transpose(1, 2).double() for one in words]
    targets: list[Tensor] = list(soft)
    options: dict[str, Any] = {}
    if kind == "soft and hard":
        targets[1] = soft[1].argmax(1)
        soft[1] = F.one_hot(targets[1], WORDS).transpose(1, 2).double()
    elif kind == "soft, ignored":
        targets[1] = torch.full_like(words[1], -100)
        words_counted, soft = words[:1], soft[:1]
    elif kind == "soft, weighted":
        options["weight"] = torch.linspace(0.5, 2, WORDS, dtype=torch.float64)
    counted = words_counted if kind == "soft, ignored" else words

    def whole(net: nn.Module) -> Tensor:
        outputs = [net(one).transpose(1, 2).flatten(0, 1) for one in counted]
        flat = torch.cat([one.transpose(1, 2).flatten(0, 1) for one in soft])
        return F.cross_entropy(torch.cat(outputs), flat, **options)

    pairs = list(zip(words, targets, strict=True))
    for batches in (pairs, pairs[::-1]):
        frame = pv.measure(
            Second(), batches, loss=nn.CrossEntropyLoss(**options), chunk=chunk, **EXACT
        )
        assert_as_plain(frame, Second(), whole)


def test_weights_that_do_not_fit_the_loss_are_refused() -> None:
    words, labels = tokens()
    with pytest.raises(MeasureError, match="loss_weight the losses of parts do not add up"):
        pv.measure(
            language_model(), (words, labels), loss=of_tokens, loss_weight=lambda y: y[:, 0] + 101
        )
    with pytest.raises(MeasureError, match=r"weights of the examples run from 0\.0 to 0\.0"):
        pv.measure(network(), (X, Y), loss=weighted, loss_weight=lambda y: 0 * y, **EXACT)


def clipped_in_place(output: Tensor, target: Tensor) -> Tensor:
    """A loss that writes into both of its arguments."""
    target[target == 2] = -100
    return F.cross_entropy(output.mul_(2), target)


@pytest.mark.parametrize("chunk", [None, 4])
def test_a_loss_may_write_into_its_arguments(chunk: int | None) -> None:
    given, labels = network(), Y.clone()
    frame = pv.measure(given, (X, labels), loss=clipped_in_place, chunk=chunk, dtype=torch.float64)
    assert torch.equal(labels, Y)
    assert_as_plain(frame, given, lambda net: clipped_in_place(net(X) * 1, Y.clone()))
    at_200 = pv.measure(
        given, (X, labels), loss=clipped_in_place, dtype=torch.float64, temperatures=(200.0,)
    )
    np.testing.assert_allclose(frame["theta_hg_t200"], at_200["theta_hg"], rtol=1e-9)


class Centred(nn.Module):
    """A loss with weights, and with state that every call moves."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 0.5]))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return F.cross_entropy(output @ torch.diag(self.scale), target)


def test_the_state_of_a_loss_stays() -> None:
    loss = Centred()
    frame = pv.measure(network(), (X, Y), loss=loss, chunk=5, **EXACT)
    assert loss.calls == 0 and loss.scale.dtype == torch.float32
    assert_as_plain(frame, network(), lambda net: Centred().double()(net(X), Y))


def test_a_penalty_on_the_parameters_themselves_is_refused_or_measured_by_forward() -> None:
    model = network()

    def penalised(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target) + model[0].weight.square().sum()

    with pytest.raises(MeasureError, match=r"loss reads the parameter 0\.weight .* forward=lambda"):
        pv.measure(model, (X, Y), loss=penalised)
    frame = pv.measure(
        model,
        (X, Y),
        forward=lambda net, batch: (net(batch[0]), net[0].weight.square().sum()),
        loss=lambda output, target: F.cross_entropy(output[0], target) + output[1],
        **EXACT,
    )
    assert_as_plain(
        frame, model, lambda net: F.cross_entropy(net(X), Y) + net[0].weight.square().sum()
    )


def test_classes_in_the_last_dimension_name_the_loss() -> None:
    words, labels = tokens()
    with pytest.raises(MeasureError, match=r"classes last, .* loss_weight=lambda y: y != -100"):
        pv.measure(language_model(), (words, labels))


def test_logits_in_an_entry_of_the_output_are_named_in_the_loss() -> None:
    class Entry(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = language_model()

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.net(x)}

    words, labels = tokens()
    with pytest.raises(MeasureError, match=r"cross_entropy\(o\['logits'\]\.flatten"):
        pv.measure(Entry(), (words, labels))


def test_a_loss_with_weights_of_all_examples_is_measured_in_one_piece() -> None:
    weights = torch.rand(N, 1, dtype=torch.float64) + 0.1
    target = (X[:, :1] > 0).double()
    weighted = nn.BCEWithLogitsLoss(weight=weights)
    held = network()

    def of_held_labels(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, Y)

    for chunk in (None, 4):
        model = network(1)
        frame = pv.measure(model, (X, target), loss=weighted, chunk=chunk, **EXACT)
        assert_as_plain(frame, model, lambda net: weighted(net(X), target))
        frame = pv.measure(held, (X, Y), loss=of_held_labels, chunk=chunk, **EXACT)
        assert_as_plain(frame, held, lambda net: F.cross_entropy(net(X), Y))


def test_a_loss_that_moves_with_every_call_is_named() -> None:
    class Moving(Centred):
        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            return super().forward(output, target) * self.calls

    with pytest.raises(MeasureError, match=r"the loss gives different results .* keeps state"):
        pv.measure(network(), (X, Y), loss=Moving())


def test_layers_of_another_dtype_beside_the_network_name_the_repair() -> None:
    teacher = nn.Linear(5, CLASSES)

    def distilled(net: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return net(batch[0]), teacher(batch[0])

    def distance(output: Any, target: Any) -> Tensor:
        return F.mse_loss(*output)

    options: dict[str, Any] = {"forward": distilled, "loss": distance, **EXACT}
    with pytest.raises(
        MeasureError, match=r"measured in torch\.float64, but forward=.* teacher\.double"
    ):
        pv.measure(network(), (X, Y), **options)
    vector = torch.ones(CLASSES)
    with pytest.raises(MeasureError, match=r"measured in torch\.float64, but .* the loss"):
        pv.measure(network(), (X, Y), loss=lambda o, y: (o.square() @ vector).mean(), **EXACT)
    teacher.double()
    frame = pv.measure(network().double(), (X, Y), **options)
    assert_as_plain(frame, network(), lambda net: F.mse_loss(net(X), teacher(X)))
