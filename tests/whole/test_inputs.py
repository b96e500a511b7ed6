"""Samples of any shape, measured right: mappings, tuples, batches with `forward=`, own losses."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

import pruneviz as pv
from pruneviz.errors import DataError, MeasureError
from tests.support.plain_autograd import assert_as_plain

torch.manual_seed(0)
N, EXACT = 11, {"dtype": torch.float64, "temperatures": (1.0,)}
A, B = torch.randn(N, 4, dtype=torch.float64), torch.randn(N, 3, dtype=torch.float64)
Y = torch.arange(N) % 3


class TwoInputs(nn.Module):
    def __init__(self, answer: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b, self.fc = nn.Linear(4, 5), nn.Linear(3, 5), nn.Linear(5, 3)
        self.answer = answer

    def forward(self, a: Tensor, b: Tensor, scale: float = 1.0) -> Any:
        return self.answer(self.fc((self.a(a) * scale + self.b(b)).tanh()))


def plain(net: nn.Module) -> Tensor:
    return F.cross_entropy(net(A, B), Y)


def of_batch(model: nn.Module, batch: Any) -> Tensor:
    return model(batch["a"], b=batch["b"])


def of_three(model: nn.Module, batch: Any) -> Tensor:
    return model(batch[0], batch[1])


def of_labels(output: Tensor, batch: Any) -> Tensor:
    return F.cross_entropy(output, batch["y"] if isinstance(batch, dict) else batch[2])


ROWS = [{"a": a, "b": b} for a, b in zip(A, B, strict=True)]
PAIRED = list(zip(ROWS, Y, strict=True))
SAMPLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "keywords": (({"a": A, "b": B}, Y), {}),
    "positions": (((A, B), Y), {}),
    "a value that is no tensor": (({"a": A, "b": B, "scale": 1.0}, Y), {}),
    "loader of keywords": (DataLoader(PAIRED, batch_size=4), {}),
    "batches of positions": ([((A[:4], B[:4]), Y[:4]), ((A[4:], B[4:]), Y[4:])], {}),
    "forward on mappings": (({"a": A, "b": B, "y": Y}), {"forward": of_batch, "loss": of_labels}),
    "forward on triples": ([(A, B, Y)], {"forward": of_three, "loss": of_labels}),
    "forward on pairs": (
        (({"a": A, "b": B}), Y),
        {"forward": lambda model, batch: of_batch(model, batch[0])},
    ),
}


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_of_any_shape_are_measured_right(kind: str, chunk: int | None) -> None:
    sample, options = SAMPLES[kind]
    frame = pv.measure(TwoInputs(), sample, chunk=chunk, **options, **EXACT)
    assert list(dict.fromkeys(frame["layer"])) == ["a", "b"]
    assert_as_plain(frame, TwoInputs(), plain)
    assert frame["theta_g_se"].notna().all()


@pytest.mark.parametrize("kind", SAMPLES)
def test_columns_on_request_take_any_sample(kind: str) -> None:
    sample, options = SAMPLES[kind]
    columns = ["theta2_g2", "synflow"]
    frame = pv.measure(TwoInputs(), sample, columns=columns, **options, **EXACT)
    keywords = pv.measure(TwoInputs(), SAMPLES["keywords"][0], columns=columns, **EXACT)
    pd.testing.assert_frame_equal(frame, keywords, rtol=1e-9)


def test_squared_gradients_and_flow_are_those_of_plain_autograd() -> None:
    model = TwoInputs().double()
    total = torch.zeros_like(model.a.weight)
    for i in range(N):
        value = F.cross_entropy(model(A[i : i + 1], B[i : i + 1]), Y[i : i + 1])
        total += torch.autograd.grad(value, model.a.weight)[0].square() / N
    frame = pv.measure(
        TwoInputs(), ({"a": A, "b": B}, Y), columns=["theta2_g2", "synflow"], **EXACT
    )
    want = (model.a.weight.detach().square() * total).sum(1)
    np.testing.assert_allclose(frame["theta2_g2"][:5], want, rtol=1e-9)
    for parameter in model.parameters():
        parameter.data.abs_()
    flow = torch.autograd.grad(
        model(torch.ones(1, 4).double(), torch.ones(1, 3).double()).sum(), model.a.weight
    )[0]
    want = (model.a.weight.detach() * flow).sum(1)
    np.testing.assert_allclose(frame["synflow"][:5], want, rtol=1e-9)


@pytest.mark.parametrize("bn", ["calibrated", "batch"])
def test_any_sample_is_measured_in_every_norm_mode(bn: str) -> None:
    class Normed(TwoInputs):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(5)

        def forward(self, a: Tensor, b: Tensor, scale: float = 1.0) -> Any:
            return self.fc(self.norm(self.a(a) * scale + self.b(b)).tanh())

    given = [
        pv.measure(Normed(), SAMPLES[kind][0], bn=bn, **EXACT) for kind in ("keywords", "positions")
    ]
    pd.testing.assert_frame_equal(*given)
    assert given[0]["theta_hg"].abs().sum() > 0


class Answer(OrderedDict):  # type: ignore[type-arg]
    """An output with entries as attributes, as models of Hugging Face return it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda logits: (logits,),
    "mapping": lambda logits: {"out": logits},
    "logits among others": lambda logits: Answer(logits=logits, hidden=logits * 2),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_default_loss_finds_the_logits(kind: str) -> None:
    sample = SAMPLES["keywords"][0]
    given = {"columns": ["theta_g", "theta_hg_t200", "theta2_g2", "synflow"]}
    frame = pv.measure(TwoInputs(OUTPUTS[kind]), sample, **given)
    pd.testing.assert_frame_equal(frame, pv.measure(TwoInputs(), sample, **given), rtol=1e-6)


class Tagger(nn.Module):
    """A network that computes its loss when it is given labels, over the tokens that have one."""

    def __init__(self, *, shifted: bool) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.embed, self.hidden, self.fc = nn.Embedding(7, 5), nn.Linear(5, 6), nn.Linear(6, 7)
        self.shifted = shifted

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> Answer:
        logits = self.fc(self.hidden(self.embed(input_ids)).tanh())
        if labels is None:
            return Answer(logits=logits)
        if self.shifted:
            return Answer(loss=of_tokens(logits[:, :-1], labels[:, 1:]), logits=logits)
        return Answer(loss=of_tokens(logits, labels), logits=logits)


def of_tokens(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


LENGTHS = torch.tensor([6, 2, 4, 2, 3, 5, 6, 2])
IDS = torch.randint(7, (8, 6))
TAGS = IDS.roll(-1, 1).where(torch.arange(6) < LENGTHS[:, None], -100)


@pytest.mark.parametrize("chunk", [None, 1, 3])
@pytest.mark.parametrize("shifted", [False, True])
def test_the_loss_of_a_network_is_exact_in_chunks(shifted: bool, chunk: int | None) -> None:
    model = Tagger(shifted=shifted)
    whole = {"input_ids": IDS, "labels": TAGS}
    halves = [{name: t[at] for name, t in whole.items()} for at in (slice(3), slice(3, 8))]
    for sample in (whole, halves):
        frame = pv.measure(model, sample, chunk=chunk, **EXACT)
        assert_as_plain(frame, model, lambda net: net(IDS, TAGS)["loss"])


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_parts_without_any_label_count_nothing(chunk: int | None) -> None:
    tags, model = TAGS.clone(), Tagger(shifted=False)
    tags[:3] = -100
    whole = {"input_ids": IDS, "labels": tags}
    halves = [{name: t[at] for name, t in whole.items()} for at in (slice(3), slice(3, 8))]
    for sample in (whole, halves):
        frame = pv.measure(model, sample, chunk=chunk, **EXACT)
        assert_as_plain(frame, model, lambda net: net(IDS, tags)["loss"])
        assert frame["theta_hg"].notna().all()


def test_the_loss_of_a_network_has_no_temperature() -> None:
    with pytest.raises(MeasureError, match=r"no temperature divides; pass temperatures=1\.0$"):
        pv.measure(Tagger(shifted=True), {"input_ids": IDS, "labels": TAGS})


def test_a_loss_in_the_output_beside_a_target_is_not_guessed() -> None:
    class Quantised(TwoInputs):
        """An output with an auxiliary loss, which is not that of the target."""

        def forward(self, a: Tensor, b: Tensor, scale: float = 1.0) -> Any:
            logits = super().forward(a, b)
            return Answer(logits=logits, loss=logits.square().mean())

    with pytest.raises(
        MeasureError,
        match=r"a loss of its own, and the sample a target; pass .* and temperatures=1\.0$",
    ):
        pv.measure(Quantised(), ((A, B), Y))
    frame = pv.measure(
        Quantised(), ((A, B), Y), loss=lambda out, y: F.cross_entropy(out.logits, y), **EXACT
    )
    assert_as_plain(frame, TwoInputs(), plain)


def test_labels_of_any_name_are_passed_on() -> None:
    class Named(Tagger):
        def forward(self, input_ids: Tensor, targets: Tensor) -> Answer:  # type: ignore[override]
            return super().forward(input_ids, targets)

    model = Named(shifted=False)
    frame = pv.measure(model, {"input_ids": IDS, "targets": TAGS}, chunk=2, **EXACT)
    assert_as_plain(frame, model, lambda net: net(IDS, TAGS)["loss"])


def test_a_loader_is_walked_through_once(tmp_path: Any) -> None:
    """So a shuffled loader, or a generator, can be measured; a recorder needs a fixed sample."""
    loader = DataLoader(PAIRED, batch_size=4, shuffle=True)
    assert_as_plain(pv.measure(TwoInputs(), loader, **EXACT), TwoInputs(), plain)
    once = (batch for batch in [((A, B), Y)])
    assert_as_plain(pv.measure(TwoInputs(), once, **EXACT), TwoInputs(), plain)
    with pytest.raises(DataError, match="shuffled or augmented"):
        pv.Recorder(TwoInputs(), loader, tmp_path / "run")


def test_logits_without_a_target_ask_for_one() -> None:
    with pytest.raises(MeasureError, match="the target is a dict, and the model's output has no"):
        pv.measure(Tagger(shifted=False), {"input_ids": IDS})


def test_a_network_of_two_inputs_that_is_given_one_names_the_repair() -> None:
    with pytest.raises(MeasureError, match=r"forward\(a.* one input: .*'b'; give the inputs as a"):
        pv.measure(TwoInputs(), (A, Y))


def test_a_recorder_takes_any_sample(tmp_path: Any) -> None:
    for kind, (sample, options) in SAMPLES.items():
        with pv.Recorder(
            TwoInputs(), sample, tmp_path / kind.replace(" ", "-"), **options, **EXACT
        ) as recorder:
            recorder.after_epoch(0)
            assert recorder.spec.sample_size == N
        frame = pv.load(tmp_path / kind.replace(" ", "-")).filters  # in float32
        assert_as_plain(frame, TwoInputs(), plain, 1e-6)


VALUES: dict[str, tuple[Tensor, int, Any]] = {
    "a column of numbers": (A[:, :1].clone(), 1, F.mse_loss),
    "a column of yes and no": ((A[:, :1] > 0).double(), 1, F.binary_cross_entropy_with_logits),
    "several numbers": (A[:, :3].clone(), 3, F.mse_loss),
    "several labels": ((A[:, :3] > 0).double(), 3, F.binary_cross_entropy_with_logits),
}


@pytest.mark.parametrize("kind", VALUES)
def test_targets_of_other_losses_ask_for_them(kind: str) -> None:
    target, outputs, loss = VALUES[kind]
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs))
    with pytest.raises(
        MeasureError, match=r"loss=F\.mse_loss .*loss=F\.binary_cross_entropy_with_logits"
    ):
        pv.measure(model, (A, target))
    for chunk in (None, 4):
        frame = pv.measure(model, (A, target), loss=loss, chunk=chunk, **EXACT)
        assert_as_plain(frame, model, lambda net: loss(net(A), target))


def test_a_mask_of_one_channel_asks_for_its_loss() -> None:
    images, masks = torch.randn(5, 2, 6, 6), (torch.randn(5, 1, 4, 4) > 0).float()
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Conv2d(3, 1, 1))
    with pytest.raises(MeasureError, match=r"the network has one output \(shape \(2, 1, 4, 4\)\)"):
        pv.measure(model, (images, masks))
    loss = F.binary_cross_entropy_with_logits
    frame = pv.measure(model, (images, masks), loss=loss, **EXACT)
    assert_as_plain(frame, model, lambda net: loss(net(images.double()), masks.double()))


def test_a_language_model_is_exact_in_chunks_and_in_batches_of_one() -> None:
    torch.manual_seed(4)
    sizes = {"n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = transformers.GPT2Config(vocab_size=7, **sizes, **ends)
    model = transformers.GPT2LMHeadModel(config)
    mask = (torch.arange(6) < LENGTHS[:, None]).long()
    whole = {"input_ids": IDS, "attention_mask": mask, "labels": TAGS}
    ones = [{name: t[i : i + 1] for name, t in whole.items()} for i in range(len(IDS))]
    twin = copy.deepcopy(model).double().eval()
    names = [f"transformer.h.0.{name}.weight" for name in ("attn.c_attn", "mlp.c_fc")]
    theta = [twin.get_parameter(name) for name in names]
    with sdpa_kernel(SDPBackend.MATH):
        g = torch.autograd.grad(twin(**whole).loss, theta)
    encoded = transformers.BatchEncoding(whole)
    for sample, chunk in ((whole, None), (whole, 3), (encoded, 1), (ones, 1)):
        frame = pv.measure(model, sample, chunk=chunk, columns="theta_g", **EXACT)
        for name, p, g_p in zip(names, theta, g, strict=True):
            rows = frame[frame["layer"] == name.removesuffix(".weight")]
            want = (p.detach() * g_p).sum(0).numpy()
            # the twin casts its logits to float32
            np.testing.assert_allclose(rows["theta_g"], want, atol=1e-5 * np.linalg.norm(want))


class InPlace(nn.Module):
    """A network that writes into its inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x.mul_(2).add_(1)).tanh())


@pytest.mark.parametrize("bn", ["eval", "calibrated", "batch"])
def test_a_sample_is_not_written_to(bn: str) -> None:
    x = A.clone()
    frame = pv.measure(InPlace(), (x, Y), bn=bn, **EXACT)
    assert torch.equal(x, A)
    assert_as_plain(frame, InPlace(), lambda net: F.cross_entropy(net(A.clone()), Y))
    pv.measure(InPlace(), (x, Y), columns=["theta2_g2", "synflow"], **EXACT)
    assert torch.equal(x, A)


@pytest.mark.filterwarnings("ignore:Sparse .* support is in beta")
@pytest.mark.parametrize("made", [Tensor.to_sparse, Tensor.to_sparse_csr])
def test_sparse_inputs_that_cannot_be_cut_ask_for_dense_ones(made: Any) -> None:
    class Graph(TwoInputs):
        def forward(self, a: Tensor, b: Tensor, scale: float = 1.0) -> Any:
            return self.fc(torch.sparse.mm(b, self.a(a)).tanh())

    near = torch.eye(N, dtype=torch.float64) + torch.eye(N, dtype=torch.float64).roll(1, 0)
    with pytest.raises(DataError, match=r"layout torch\.sparse_\w+, .* adjacency\.to_dense"):
        pv.measure(Graph(), ((A, made(near)), Y), **EXACT)


def test_nested_inputs_ask_for_padded_ones() -> None:
    nested = torch.nested.nested_tensor([A[0], A[1, :2]], layout=torch.jagged)
    with pytest.raises(DataError, match=r"nested tensor.* give a padded one"):
        pv.measure(TwoInputs(), (nested, Y[:2]))
