"""Real networks with half of their filters pruned give the outputs of an ablation.

The ablation is independent of how the package follows channels.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from pruneviz.experiment.networks.mobilenet_v1 import mobilenet_v1
from pruneviz.pruning.pruner import Pruner


class Encoder(nn.Module):
    """Two transformer blocks on the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Linear(96, 32), nn.Linear(32, 10)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 2, 48, batch_first=True) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.permute(0, 2, 1, 3).flatten(2))
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean(1))


def narrow_vgg() -> nn.Module:
    """VGG with batch norm, flattened at 2 x 2 places."""
    widths = [16, "M", 32, "M", 64, 64, "M", 64, "M"]
    features = models.vgg.make_layers(widths, batch_norm=True)
    hidden = nn.Linear(256, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 32), nn.ReLU()
    return nn.Sequential(
        features, nn.AdaptiveAvgPool2d(2), nn.Flatten(), *hidden, nn.Linear(32, 10)
    )


def small_convnext() -> nn.Module:
    blocks = [models.convnext.CNBlockConfig(24, 48, 2), models.convnext.CNBlockConfig(48, None, 2)]
    return models.ConvNeXt(blocks, num_classes=10)


REAL: Mapping[str, Callable[[], nn.Module]] = {
    "mobilenet_v1": functools.partial(mobilenet_v1, 10, width=0.5),
    "mobilenet_v2": functools.partial(models.mobilenet_v2, width_mult=0.5),
    "shufflenet_v2": models.shufflenet_v2_x0_5,
    "efficientnet_b0": models.efficientnet_b0,
    "resnet": functools.partial(models.ResNet, models.resnet.BasicBlock, [2, 1, 1, 1]),
    "resnext": functools.partial(
        models.ResNet, models.resnet.Bottleneck, [2, 1, 1, 1], groups=32, width_per_group=4
    ),
    "regnet_y": models.regnet_y_400mf,
    "densenet": functools.partial(models.DenseNet, 8, (3, 4, 3), 16),
    "vgg_bn": narrow_vgg,
    "googlenet": functools.partial(models.googlenet, init_weights=False, aux_logits=True),
    "convnext": small_convnext,
    "encoder": Encoder,
}


def real(name: str) -> nn.Module:
    """Network in float64 and evaluation mode, in which every channel matters."""
    torch.manual_seed(0)
    network = REAL[name]().double().eval()
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.2, 0.2),
            ):
                value.data.uniform_(low, high, generator=generator)
    return network


def ablated(network: nn.Module, gone: Mapping[str, list[int]], x: Tensor) -> Tensor:
    """Output of an unpruned network without the effect of filters.

    The outputs of the filters are replaced by zeros, and so is what norms make of zeros. The
    activations must map 0 to 0. Channels of a norm that hold nothing else are found in a copy all
    of whose norms give about 1, so that no activation makes a zero of its own.
    """
    lively = copy.deepcopy(network)
    for module in lively.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 1e-3)
            nn.init.constant_(module.bias, 1.0)
    empty: dict[str, Tensor] = {}
    hooked(lively, gone, empty, x)
    return hooked(network, gone, empty, x)


def hooked(
    network: nn.Module, gone: Mapping[str, list[int]], empty: dict[str, Tensor], x: Tensor
) -> Tensor:
    """Output with filters blanked, and with the `empty` channels of norms, noted at first call."""

    def blank(name: str, channel: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
        return lambda module, given, output: output.index_fill(
            channel, torch.tensor(gone[name]), 0.0
        )

    def nothing_of_nothing(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def hook(module: nn.Module, given: tuple[Tensor], output: Tensor) -> Tensor:
            nothing = empty.setdefault(name, (given[0] == 0).transpose(0, 1).flatten(1).all(1))
            return output * ~nothing.view(1, -1, 1, 1)

        return hook

    for name, module in network.named_modules():
        if name in gone and isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(blank(name, 1 if isinstance(module, nn.Conv2d) else -1))
        elif isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(nothing_of_nothing(name))
    with torch.no_grad():
        return network(x)


@pytest.mark.parametrize("name", REAL)
def test_half_of_a_real_network_pruned_is_that_network_without_these_filters(name: str) -> None:
    network, whole = real(name), real(name)
    generator = torch.Generator().manual_seed(2)
    size = 32 if name in ("encoder", "mobilenet_v1", "convnext") else 64
    x = torch.randn(2, 3, size, size, generator=generator).double()
    pruner = Pruner(network, x)
    layers = [(layer.name, p) for layer in pruner.coupling.layers for p in range(layer.filters)]
    table = pd.DataFrame(layers, columns=["layer", "filter"]).assign(
        theta_l1=np.random.default_rng(0).random(len(layers))
    )
    number = pruner.groups // 2
    pruner.prune(table, "l1_norm", number)

    rows = {
        layer.name: network.get_submodule(layer.name).weight.detach().flatten(1)
        for layer in pruner.coupling.layers
    }
    gone = {
        layer: (weight == 0).all(1).nonzero().flatten().tolist() for layer, weight in rows.items()
    }
    counts = pruner.counts().set_index("layer")
    assert (counts["filters"] - counts["kept"]).to_dict() == {
        layer: len(filters) for layer, filters in gone.items()
    }
    assert (counts["kept"] > 0.05 * counts["filters"]).all()
    leads = {pruner.coupling.leads[layer, p] for layer, filters in gone.items() for p in filters}
    assert len(leads) == pruner.gone == number
    assert pruner.kept_fraction == pytest.approx(1 - number / pruner.groups)

    output = network(x)
    assert output.isfinite().all()
    assert not torch.allclose(output, whole(x), rtol=1e-3, atol=1e-3)
    for key, value in network.named_parameters():
        assert torch.equal(value[value != 0], whole.get_parameter(key)[value != 0])
    assert torch.allclose(output, ablated(whole, gone, x), rtol=1e-9, atol=1e-9)
