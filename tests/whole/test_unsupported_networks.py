"""What torch cannot differentiate or trace is refused by the name of its layer, with a repair."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import MeasureError, UnsupportedError
from tests.support.hostile_operations import Once
from tests.support.plain_autograd import assert_as_plain

FIRST_ORDER = ["theta_g", "abs_theta_g", "theta2_abs_g", "g_norm2"]


class Never(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sin()

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Tensor:
        raise NotImplementedError("this function has no backward pass")


class Applied(nn.Module):
    """A layer that applies a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def sampled(x: Tensor) -> Tensor:
    grid = F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3).to(x), [len(x), 1, 4, 4], False)
    maps = x.view(-1, 1, 4, 4)
    return F.grid_sample(maps, 0.9 * grid, align_corners=False).flatten(1)


def distances(x: Tensor) -> Tensor:
    return torch.cdist(x[:, None], x[:, None] + 1).flatten(1) * x


def model(function: Callable[[Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.Sequential(nn.Tanh(), Applied(function)), nn.Linear(16, 3)
    )


def classified(inputs: Tensor, targets: Tensor) -> Callable[[nn.Module], Tensor]:
    return lambda net: F.cross_entropy(net(inputs.double()), targets)


def sample() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(6, 6), torch.arange(6) % 3


@pytest.mark.parametrize("function", [sampled, distances, Once.apply])
def test_a_layer_without_second_derivative_is_named_and_first_order_columns_are_right(
    function: Callable[[Tensor], Tensor],
) -> None:
    network = model(function)
    with pytest.raises(UnsupportedError, match=r"layer 1\.1 \(Applied\).*theta_hg.*columns=") as e:
        pv.measure(network, sample())
    assert function == Once.apply or isinstance(e.value.__cause__, RuntimeError)
    frame = pv.measure(network, sample(), columns=FIRST_ORDER, dtype=torch.float64)
    assert set(frame["layer"]) == {"0"}
    assert_as_plain(frame, network, classified(*sample()), columns=["theta_g"])


def test_what_has_no_second_derivative_can_be_left_out() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(6, 16), Applied(sampled))
    head = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
    with pytest.raises(UnsupportedError, match="parameters="):
        pv.measure(nn.Sequential(body, head), sample())
    inputs, targets = sample()
    frame = pv.measure(
        nn.Sequential(body, head), (inputs, targets), parameters="1.*", dtype=torch.float64
    )
    features = copy.deepcopy(body).double()(inputs.double()).detach()
    assert list(frame["layer"].unique()) == ["1.0"]
    assert_as_plain(frame.assign(layer="0"), head, classified(features, targets))


def test_a_layer_without_derivative_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"layer 1\.1 \(Applied\).*no backward pass"):
        pv.measure(model(Never.apply), sample(), columns="theta_g")


def test_a_loss_without_second_derivative_is_named() -> None:
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    with pytest.raises(UnsupportedError, match=r"the loss cannot be differentiated twice"):
        pv.measure(network, sample(), loss=lambda out, y: F.cross_entropy(Once.apply(out), y))


def test_an_embedding_bag_is_named() -> None:
    network = nn.Sequential(nn.EmbeddingBag(9, 8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    given = torch.randint(0, 9, (6, 4)), torch.arange(6) % 3
    with pytest.raises(UnsupportedError, match=r"layer 0 \(EmbeddingBag\)"):
        pv.measure(network, given)
    assert pv.measure(network, given, columns="theta_g")["theta_g"].notna().all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Lazy modules.*:UserWarning")
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("lazy", r"0\.weight is not initialised.*one batch first"),
        ("meta", r"0\.weight is on the meta device.*load"),
        ("scripted", r"the network .* torch\.jit"),
        ("a scripted part", r"layer 0 .* torch\.jit"),
        ("exported", r"torch\.export"),
    ],
)
def test_networks_of_other_kinds_are_named(kind: str, names: str) -> None:
    network = other_kind(kind)
    with pytest.raises(UnsupportedError, match=names):
        pv.measure(network, sample())
    with pytest.raises(UnsupportedError, match=names):
        pv.Recorder(network, sample(), out="never")


def other_kind(kind: str) -> nn.Module:
    plain = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    if kind == "lazy":
        return nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.Linear(8, 3))
    if kind == "meta":
        return plain.to("meta")
    if kind == "scripted":
        return torch.jit.script(plain)
    if kind == "a scripted part":
        return nn.Sequential(torch.jit.script(plain[0]), nn.Tanh(), nn.Linear(8, 3))
    return torch.export.export(plain, sample()[:1]).module()


class Broken(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("odd"), KeyError("odd"), TypeError("odd")])
def test_a_failing_layer_is_named(error: Exception) -> None:
    network = nn.Sequential(nn.Linear(6, 8), nn.Sequential(Broken(error)), nn.Linear(8, 3))
    with pytest.raises(MeasureError, match=r"layer 1\.0 \(Broken\).*odd") as caught:
        pv.measure(network, sample())
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("odd"), KeyError("odd")])
def test_errors_of_the_persons_loss_pass_unchanged(error: Exception) -> None:
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    def loss(output: Tensor, target: Tensor) -> Tensor:
        raise error

    with pytest.raises(type(error)) as caught:
        pv.measure(network, sample(), loss=loss)
    assert caught.value is error


def test_inputs_of_a_wrong_shape_name_the_layer() -> None:
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    with pytest.raises(MeasureError, match=r"layer 0 \(Linear\)"):
        pv.measure(network, (torch.randn(4, 5), torch.arange(4) % 3))


class Recomputing(torch.autograd.Function):
    """Reentrant checkpointing of its own."""

    @staticmethod
    def forward(ctx: Any, layer: nn.Module, x: Tensor) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(x)
        with torch.no_grad():
            return layer(x)

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[None, Tensor | None]:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            torch.autograd.backward(ctx.layer(x), gy)
        return None, x.grad


def test_a_network_that_differentiates_itself_is_refused() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(Recomputing.apply(self.inner, self.first(x)))

    network = Network()
    network.inner.weight.grad = torch.ones(6, 6)
    with pytest.raises(UnsupportedError, match=r"inner\..*switch that off"):
        pv.measure(network, sample(), columns="theta_g")
    assert network.inner.weight.grad.eq(1).all()
    assert network.inner.bias.grad is None


SHARDED = """
    import torch, torch.distributed as dist
    from torch import nn
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.device_mesh import init_device_mesh
    import pruneviz as pv
    dist.init_process_group("gloo", init_method="file://{file}", rank=0, world_size=1)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    x = torch.randn(4, 6)
    for act, given in ((pv.measure, (x, torch.arange(4) % 3)), (pv.Pruner, x)):
        try:
            act(model, given)
        except pv.errors.UnsupportedError as error:
            print("refused:", error)
    dist.destroy_process_group()
"""


def test_sharded_networks_are_refused_by_name(tmp_path: Any) -> None:
    code = textwrap.dedent(SHARDED).format(file=tmp_path / "store")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.count("refused: the network") == 2, done.stderr
    assert done.stdout.count("sharded by FSDP") == 2
