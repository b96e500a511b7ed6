"""Which operations between a convolution and a batch norm keep channels, and which mix them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pruneviz.model.filters import find_layers
from pruneviz.model.tracing import MIXED, ChannelTracer, channel_origins
from tests.support.cases import Net

IN_PLACE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.RReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Hardtanh,
)
OTHERS = (
    nn.GELU,
    nn.PReLU,
    nn.Sigmoid,
    nn.LogSigmoid,
    nn.Tanh,
    nn.Tanhshrink,
    nn.Softplus,
    nn.Softsign,
    nn.Softshrink,
    nn.Hardshrink,
)
ACTIVATIONS = [
    *(kind(inplace=inplace) for kind in IN_PLACE for inplace in (False, True)),
    *(kind() for kind in (*OTHERS, nn.Identity, nn.Dropout, nn.AlphaDropout)),
    *(nn.Threshold(0.1, 0.0), nn.Threshold(0.1, 0.0, inplace=True), nn.PReLU(4), nn.GELU("tanh")),
]
IN_SPACE = {
    1: [nn.MaxPool1d(2), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(2), nn.AdaptiveMaxPool1d(2)],
    2: [
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(2),
        nn.AdaptiveMaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.LPPool2d(2, 2),
    ],
    3: [
        nn.MaxPool3d(2),
        nn.AvgPool3d(2),
        nn.AdaptiveAvgPool3d(2),
        nn.AdaptiveMaxPool3d(2),
        nn.AdaptiveAvgPool3d(1),
    ],
}
IN_SPACE[1] += [
    nn.ZeroPad1d(1),
    nn.ReflectionPad1d(1),
    nn.ReplicationPad1d(1),
    nn.CircularPad1d(1),
    nn.Dropout1d(),
]
IN_SPACE[2] += [
    nn.ZeroPad2d(1),
    nn.ReflectionPad2d(1),
    nn.ReplicationPad2d(1),
    nn.CircularPad2d(1),
    nn.Dropout2d(),
]
IN_SPACE[2] += [
    nn.ZeroPad2d(-1),
    nn.ConstantPad2d(1, 3.0),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.FractionalMaxPool2d(2, output_size=2),
]
IN_SPACE[3] += [
    nn.ZeroPad3d(1),
    nn.ReflectionPad3d(1),
    nn.ReplicationPad3d(1),
    nn.CircularPad3d(1),
    nn.Dropout3d(),
]
for DIMS, MODES in {
    1: ["nearest", "linear"],
    2: ["nearest", "bilinear", "bicubic"],
    3: ["nearest", "trilinear"],
}.items():
    IN_SPACE[DIMS] += [nn.Upsample(scale_factor=2, mode=mode) for mode in MODES]
MIXING = [
    nn.GLU(1),
    nn.LayerNorm([4, 4, 4]),
    nn.LocalResponseNorm(2),
    nn.Conv2d(4, 4, 1),
    nn.ConvTranspose2d(4, 4, 1),
]
CONVS = {
    1: (nn.Conv1d, nn.BatchNorm1d),
    2: (nn.Conv2d, nn.BatchNorm2d),
    3: (nn.Conv3d, nn.BatchNorm3d),
}


def norm_of_the_convolution(
    between: nn.Module, dims: int, read: int = 4
) -> tuple[tuple[str, int] | None, ...]:
    conv, norm = CONVS[dims]
    model = nn.Sequential(
        conv(1, 4, 3, padding=1), between, norm(read), nn.Flatten(), nn.LazyLinear(3)
    )
    x = torch.linspace(-1, 1, 2 * 4**dims).view(2, 1, *[4] * dims)
    model(x)
    return find_layers(model, x)[0].norms


@pytest.mark.parametrize("between", ACTIVATIONS, ids=repr)
def test_an_activation_keeps_the_channels(between: nn.Module) -> None:
    assert norm_of_the_convolution(between, 2) == tuple(("2", p) for p in range(4))


@pytest.mark.parametrize(
    ("dims", "between"),
    [(dims, between) for dims, many in IN_SPACE.items() for between in many],
    ids=repr,
)
def test_what_acts_in_space_keeps_the_channels(dims: int, between: nn.Module) -> None:
    assert norm_of_the_convolution(between, dims) == tuple(("2", p) for p in range(4))


@pytest.mark.parametrize("between", MIXING, ids=repr)
def test_what_reads_several_channels_leaves_none(between: nn.Module) -> None:
    assert (
        norm_of_the_convolution(between, 2, 2 if isinstance(between, nn.GLU) else 4) == (None,) * 4
    )


def moved(x: Tensor) -> Tensor:
    return torch.cat(
        [
            x.flip(1),
            x.roll(1, 1),
            x.repeat(1, 2, 1)[:, ::2],
            x.transpose(1, 2).transpose(1, 2),
            x[:, [2]],
            x.permute(2, 1, 0).permute(2, 1, 0),
        ],
        1,
    )


def test_elements_are_followed_through_every_move() -> None:
    x = torch.arange(24.0).view(2, 4, 3)
    origins = torch.arange(4).view(1, 4, 1).expand(2, 4, 3)
    tracer = ChannelTracer()
    tracer.mark(x, origins)
    with tracer:
        y = moved(x)
    assert torch.equal(channel_origins(tracer.origins(y), 1), moved(origins)[0, :, 0].int())


def test_constants_have_no_origin_and_freed_memory_is_not_mistaken_for_an_activation() -> None:
    tracer = ChannelTracer()
    x = torch.zeros(2, 3)
    tracer.mark(x, torch.arange(3).expand(2, 3))
    with tracer:
        for _ in range(50):
            x + 1
            constant = torch.ones(2, 3)
            assert tracer.origins(constant) is None
            assert tracer.origins(constant + 1) is None
        assert tracer.origins(x * constant).tolist() == [[0, 1, 2]] * 2
        met = tracer.origins(x[:, :2] + x[:, 1:])
        assert [[tracer.filters(o) for o in row] for row in met.tolist()] == [[{0, 1}, {1, 2}]] * 2
        assert tracer.origins(torch.cat([constant, x], 1))[0].tolist() == [MIXED] * 3 + [0, 1, 2]
        assert tracer.origins(x.sum(0)).tolist() == [0, 1, 2]
        assert tracer.origins(x.sum()).item() == MIXED


def test_where_activations_meet_their_filters_unite_and_what_is_unknown_stays_unknown() -> None:
    tracer = ChannelTracer()
    x = torch.zeros(2, 4)
    tracer.mark(x, torch.tensor([0, 1, 2, MIXED]).expand(2, 4))
    with tracer:
        twice = x + x.flip(1)
        again = twice * x
        padded = nn.functional.batch_norm(twice, torch.zeros(4), torch.ones(4))
    sets = [
        [tracer.filters(o) for o in tracer.origins(y)[0].tolist()] for y in (twice, again, padded)
    ]
    assert sets[0] == [None, {1, 2}, {1, 2}, None]
    assert sets[1] == sets[2] == sets[0]


def test_an_operation_that_nobody_foresaw_mixes_rather_than_fails() -> None:
    model = Net(
        lambda net, x: net.fc(net.bn(torch.fft.ifft(torch.fft.fft(net.conv(x))).real).mean((2, 3)))
    )
    for name, module in {
        "conv": nn.Conv2d(1, 3, 2),
        "bn": nn.BatchNorm2d(3),
        "fc": nn.Linear(3, 3),
    }.items():
        model.add_module(name, module)
    assert find_layers(model, torch.ones(2, 1, 4, 4))[0].norms == (None,) * 3


def _nested(x: Tensor) -> Tensor:
    parts = torch.nested.nested_tensor([x[0], x[1]], layout=torch.jagged)
    return torch.stack(list((parts * 2).unbind()))


STRANGE = {
    "scatter_add": lambda x: torch.zeros_like(x).scatter_add(0, torch.ones_like(x).long(), x),
    "index_add": lambda x: x.index_add(0, torch.tensor([0, 1]), x),
    "index_put": lambda x: x.index_put((torch.tensor([0]),), x[1:]),
    "masked_scatter": lambda x: x.masked_scatter(x > 0, x),
    "sparse": lambda x: torch.sparse.mm(torch.eye(len(x)).to_sparse(), x.flatten(1)).view_as(x),
    "complex": lambda x: torch.fft.irfft(torch.fft.rfft(x), n=x.shape[-1]),
    "view_as_real": lambda x: torch.view_as_real(torch.complex(x, x))[..., 0],
    "jagged": _nested,
    "vmap": lambda x: torch.func.vmap(torch.sin)(x),
    "forward mode": lambda x: torch.func.jvp(torch.sin, (x,), (x,))[0],
    "sort": lambda x: x.sort(-1).values,
    "unique": lambda x: x + x.unique().sum(),
    "another dtype": lambda x: x.view(torch.int32).view(torch.float32),
    "no elements": lambda x: torch.cat([x, x[:0].clone()]),
    "quantised": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8).dequantize(),
}


@pytest.mark.filterwarnings("ignore:.*(Sparse|nested tensors|torch.jit.script|Quant|quant).*")
@pytest.mark.parametrize("name", STRANGE)
def test_no_operation_stops_tracing(name: str) -> None:
    torch.manual_seed(0)
    model = Net(
        lambda net, x: net.head(STRANGE[name](net.one(x)).flatten(1)),
        one=nn.Conv1d(3, 4, 1),
        head=nn.Linear(20, 2),
    )
    assert [layer.name for layer in find_layers(model, torch.randn(2, 3, 5))] == ["one"]


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d(1), nn.MaxPool2d(2), nn.Identity()])
def test_channels_last_keeps_the_origins(pool: nn.Module) -> None:
    network = nn.Sequential(nn.Sigmoid(), pool, nn.Flatten())
    origins = []
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.zeros(2, 3, 4, 4).to(memory_format=layout)
        tracer = ChannelTracer()
        tracer.mark(x, torch.arange(3).view(3, 1, 1))
        with tracer:
            y = network(x)
        found = tracer.origins(y)
        assert found is not None
        origins.append(found)
    assert torch.equal(*origins)
    assert set(origins[0].unique().tolist()) == {0, 1, 2}


def test_computed_positions_are_no_origins() -> None:
    x, table = torch.zeros(2, 3), torch.ones(3, 4)
    tracer = ChannelTracer()
    tracer.mark(x, torch.arange(3))
    with tracer:
        chosen = table[x.argmax(1)]
        kept = x[:, (x >= 0).all(0)]
    for result in (chosen, kept):
        found = tracer.origins(result)
        assert found is not None
        assert set(found.unique().tolist()) <= {MIXED, 0, 1, 2}
    assert tracer.origins(chosen).eq(MIXED).all()  # type: ignore[union-attr]
    assert tracer.origins(kept).eq(torch.arange(3)).all()  # type: ignore[union-attr]
