"""Training with and without a Recorder gives bit-equal networks that keep state of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

import pruneviz as pv
from pruneviz.errors import MeasureError

COUNT, CLASSES = 12, 3


def sample(words: bool) -> tuple[Tensor, Tensor]:
    torch.manual_seed(5)
    inputs = torch.randint(0, 9, (COUNT, 4)) if words else torch.randn(COUNT, 6)
    return inputs, torch.arange(COUNT) % CLASSES


def body(*first: nn.Module) -> nn.Sequential:
    return nn.Sequential(*first, nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES))


def bounded_embedding() -> nn.Module:
    return body(nn.Embedding(9, 6, max_norm=0.5), Mean())


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def hooked() -> nn.Module:
    """Running statistics of inputs and gradients, as K-FAC keeps them; they scale the output."""
    model = body(nn.Linear(6, 6))
    model.statistics = {"a": torch.zeros(6), "g": torch.zeros(5), "calls": 0}

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        model.statistics["a"].mul_(0.9).add_(inputs[0].detach().mean(0))
        model.statistics["calls"] += 1
        with torch.no_grad():
            model[1].weight.add_(1e-3 * model.statistics["a"])

    def after(module: nn.Module, inputs: Any, outputs: tuple[Tensor, ...]) -> None:
        model.statistics["g"] += outputs[0].mean(0)
        with torch.no_grad():
            model[3].weight.sub_(1e-2 * model.statistics["g"])

    model[1].register_forward_pre_hook(before)
    model[1].register_full_backward_hook(after)
    return model


def remembering() -> nn.Module:
    """A hook that changes the output by what it keeps in a closure and in an object."""
    model, history, meter, calls = body(), [0.0], Meter(), 0

    def after(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        history.append(float(output.detach().mean()))
        meter.update(output.detach())
        return output + 0.1 * sum(history) + meter.mean + 0.01 * calls

    model[0].register_forward_hook(after)
    return model


def hooked_output() -> nn.Module:
    """A hook that registers a hook on the output, which writes into a buffer."""
    model = body()
    model[0].register_buffer("calls", torch.zeros(()))

    def count(gradient: Tensor) -> None:
        model[0].calls.add_(1)

    def after(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        if output.requires_grad:
            output.register_hook(count)
        return output / (1 + 0.1 * module.calls)

    model[0].register_forward_hook(after)
    return model


class Changing(nn.Module):
    """Shrinks a weight in every pass, and freezes another."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.calls = body(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        with torch.no_grad():
            self.layers[0].weight.mul_(0.99)
        self.layers[2].weight.requires_grad_(self.calls < 3)
        return self.layers(x)


class Counting(nn.Module):
    """The scale of the output depends on the number of calls, counted in several ways."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = body()
        self.calls, self.log, self.plain = 0, [0.0], torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.log.append(float(self.calls))
        self.plain += 1
        return self.layers(x) * (1 + 0.01 * (self.calls + len(self.log)) + 0.01 * self.plain)


class Clamped(nn.Module):
    """Bounds its weights in place, in three ways."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = body()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.layers[0].weight.clamp_(-0.2, 0.2)
            self.layers[2].weight.renorm_(2, 0, 0.5)
        self.layers[0].bias.data.clamp_(-0.05, 0.05)
        return self.layers(x)


class Collecting(nn.Module):
    """Keeps the statistics of its activations in an object of its own module."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = body()
        self.meter = Meter()

    def forward(self, x: Tensor) -> Tensor:
        self.meter.update(x)
        return self.layers(x + self.meter.mean)


class Meter:
    def __init__(self) -> None:
        self.mean: float = 0.0

    def update(self, x: Tensor) -> None:
        self.mean = 0.9 * self.mean + 0.1 * float(x.mean())


def computed(normalise: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A network with a weight that is computed in every forward pass."""
    layer = normalise(nn.ConvTranspose1d(6, 6, 1))
    return body(nn.Unflatten(1, (6, 1)), layer, nn.Flatten())


CASES: Mapping[str, Callable[[], nn.Module]] = {
    "embedding with max_norm": bounded_embedding,
    "hooks with statistics": hooked,
    "hooks with memory": remembering,
    "hooks of outputs": hooked_output,
    "weights changed and frozen in forward": Changing,
    "counter in forward": Counting,
    "weights clamped in forward": Clamped,
    "statistics in an object": Collecting,
    "spectral_norm": lambda: computed(parametrizations.spectral_norm),
    "weight_norm": lambda: computed(parametrizations.weight_norm),
    "old spectral_norm": lambda: computed(spectral_norm),
    "old weight_norm": lambda: computed(weight_norm),
}


def trained(name: str, out: Path | None) -> nn.Module:
    """A network after four steps, measured before each if there is a directory."""
    torch.manual_seed(0)
    model = CASES[name]().train()
    inputs, targets = sample(name.startswith("embedding"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    recorder = out and pv.Recorder(model, (inputs, targets), out=out, every=1)
    for epoch in range(4):
        if recorder:
            recorder.after_epoch(epoch)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    if recorder:
        recorder.close()
    return model


def attributes(model: nn.Module) -> dict[str, Any]:
    """Plain attributes of all modules, without hooks and members."""
    return {
        f"{name}.{key}": copy.deepcopy(vars(value) if isinstance(value, Meter) else value)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if not key.startswith("_") and not (isinstance(value, Tensor) and value.requires_grad)
    }


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", CASES)
def test_training_with_a_recorder_gives_bit_equal_networks(name: str, tmp_path: Path) -> None:
    alone, recorded = trained(name, None), trained(name, tmp_path / "run")
    for key, value in alone.state_dict().items():
        assert torch.equal(value, recorded.state_dict()[key]), key
    assert repr(attributes(alone)) == repr(attributes(recorded))


def test_hooks_are_not_called_unless_asked() -> None:
    model, calls = body(), []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    model[2].register_full_backward_hook(lambda *_: calls.append(1))
    pv.measure(model, sample(words=False))
    assert not calls
    pv.measure(model, sample(words=False), hooks=True)
    assert calls


def test_hooks_on_weights_registered_in_forward_do_not_run() -> None:
    calls: list[int] = []

    class Hooking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = body()

        def forward(self, x: Tensor) -> Tensor:
            weight = self.layers[0].weight
            handle = weight.register_hook(lambda g: note(g))
            output = self.layers(x)
            if not weight.requires_grad:
                handle.remove()
            return output

    def note(gradient: Tensor) -> Tensor:
        calls.append(1)
        return 0 * gradient

    torch.manual_seed(0)
    model, given = Hooking(), sample(words=False)
    table = pv.measure(model, given)
    assert not calls
    plain = pv.measure(model.layers, given)
    assert table["theta_hg"].tolist() == plain["theta_hg"].tolist()
    F.cross_entropy(model(given[0]), given[1]).backward()
    assert calls


def test_weights_written_through_an_alias_are_reported() -> None:
    model = body()
    moved = [model[0].weight]
    with pytest.raises(MeasureError, match=r"moved the parameter 0\.weight"):
        pv.measure(model, sample(words=False), loss=lambda o, y: _moving(moved[0], o, y))


def _moving(weight: Tensor, output: Tensor, target: Tensor) -> Tensor:
    with torch.no_grad():
        weight.mul_(0.5)
    return F.cross_entropy(output, target)
