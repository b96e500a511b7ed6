"""Five unchanged networks of torchvision, measured on real images."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision import models

import pruneviz as pv
from pruneviz.model.filters import Layer, find_layers

CLASSES, IMAGES, SIZE = 10, 3, 32
DERIVED = ["theta_g", "abs_theta_g", "theta2_abs_g", "theta_hg", "theta_hg_t200", "g_norm2"]
DERIVED += ["theta_g_se", "theta_hg_se_given_g"]


def narrow_vgg11_bn(num_classes: int) -> nn.Module:
    """The published network with narrow hidden linear layers instead of 120 million weights."""
    with torch.device("meta"):  # the wide layers are never allocated
        model = models.vgg11_bn(num_classes=1)
    model.features.to_empty(device="cpu")
    for module in model.features:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model.classifier[0] = nn.Linear(25088, 32)
    model.classifier[3] = nn.Linear(32, 16)
    model.classifier[6] = nn.Linear(16, num_classes)
    return model


NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "resnet18": models.resnet18,
    "mobilenet_v2": models.mobilenet_v2,
    "densenet121": models.densenet121,
    "vgg11_bn": narrow_vgg11_bn,
    "convnext_tiny": models.convnext_tiny,
}
EVERY_NETWORK = pytest.mark.parametrize("name", NETWORKS)


def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    images = torch.from_numpy(data.images[:IMAGES]).float()[:, None] / 8 - 1
    larger = F.interpolate(images, size=SIZE, mode="bilinear").expand(-1, 3, -1, -1)
    return larger, torch.from_numpy(data.target[:IMAGES]).long()


@functools.cache
def network(name: str) -> nn.Module:
    """The initialised network in training mode, with different scales in all norm channels."""
    torch.manual_seed(0)
    model = NETWORKS[name](num_classes=CLASSES)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
    return model


@functools.cache
def measured(name: str) -> pd.DataFrame:
    model = network(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    frame = pv.measure(model, digits())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(value.grad is None for value in model.parameters())
    return frame


@functools.cache
def layers_of(name: str) -> dict[str, Layer]:
    return {layer.name: layer for layer in find_layers(network(name), digits()[0])}


@EVERY_NETWORK
def test_every_filter_but_those_of_the_classifier_has_one_row_with_finite_columns(
    name: str,
) -> None:
    frame = measured(name)
    weighted = {
        key: len(module.weight)
        for key, module in network(name).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    classifier = list(weighted)[-1]
    assert dict(frame.groupby("layer", observed=True).size()) == {
        key: size for key, size in weighted.items() if key != classifier
    }
    assert all(
        list(rows["filter"]) == list(range(len(rows)))
        for _, rows in frame.groupby("layer", observed=True)
    )
    assert np.isfinite(frame[["theta_norm2", "theta_l1", *DERIVED]]).all(axis=None)
    assert (
        frame[["abs_theta_g", "theta2_abs_g", "g_norm2", "theta_g_se", "theta_hg_se_given_g"]] >= 0
    ).all(axis=None)
    assert (frame["theta_g"].abs() <= frame["abs_theta_g"] * (1 + 1e-6)).all()
    assert frame["kept"].all()


@EVERY_NETWORK
def test_sums_over_a_layer_are_those_of_its_own_weight(name: str) -> None:
    sums = measured(name).groupby("layer", observed=True)[["theta_norm2", "theta_l1"]].sum()
    for layer, row in sums.iterrows():
        weight = network(name).get_submodule(layer).weight.detach().double()
        assert row.tolist() == pytest.approx(
            [float(weight.square().sum()), float(weight.abs().sum())], rel=1e-12
        )


NORMS: Mapping[str, Mapping[str, tuple[str | None, int]]] = {
    "resnet18": {
        "conv1": ("bn1", 0),
        "layer1.0.conv1": ("layer1.0.bn1", 0),
        "layer1.0.conv2": ("layer1.0.bn2", 0),
        "layer2.0.downsample.0": ("layer2.0.downsample.1", 0),
        "layer4.1.conv2": ("layer4.1.bn2", 0),
    },
    "mobilenet_v2": {
        "features.0.0": ("features.0.1", 0),
        "features.1.conv.0.0": ("features.1.conv.0.1", 0),
        "features.1.conv.1": ("features.1.conv.2", 0),
        "features.18.0": ("features.18.1", 0),
    },
    "densenet121": {
        "features.conv0": ("features.norm0", 0),
        "features.denseblock1.denselayer1.conv1": ("features.denseblock1.denselayer1.norm2", 0),
        "features.denseblock1.denselayer1.conv2": ("features.denseblock1.denselayer2.norm1", 64),
        "features.denseblock1.denselayer6.conv2": ("features.transition1.norm", 224),
        "features.transition1.conv": ("features.denseblock2.denselayer1.norm1", 0),
        "features.denseblock4.denselayer16.conv2": ("features.norm5", 992),
    },
    "vgg11_bn": {
        "features.0": ("features.1", 0),
        "features.25": ("features.26", 0),
        "classifier.0": (None, 0),
        "classifier.3": (None, 0),
    },
    "convnext_tiny": {
        "features.0.0": (None, 0),
        "features.1.0.block.0": (None, 0),
        "features.7.2.block.5": (None, 0),
    },
}


@EVERY_NETWORK
def test_norms_are_those_that_the_source_of_the_network_names(name: str) -> None:
    layers = layers_of(name)
    for layer, (norm, offset) in NORMS[name].items():
        assert layers[layer].norms == tuple(
            (norm, offset + p) if norm else None for p in range(layers[layer].filters)
        ), layer


@EVERY_NETWORK
def test_every_norm_belongs_to_filters_and_its_scales_are_their_sigmas(name: str) -> None:
    model, frame = network(name), measured(name)
    norms = {
        key: module for key, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)
    }
    own = {channel for layer in layers_of(name).values() for channel in layer.norms if channel}
    expected = sum(len(norm.weight) for norm in norms.values())
    if name == "densenet121":  # in a dense block only the first norm that reads a channel counts
        expected = frame["sigma"].notna().sum()
    assert len(own) == expected
    for layer, rows in frame.groupby("layer", observed=True):
        found = layers_of(name)[layer]
        want = [norms[n[0]].weight[n[1]].item() if n else np.nan for n in found.norms]
        np.testing.assert_array_equal(rows["sigma"], want)
    assert frame["sigma"].isna().all() == (not norms)


def test_every_convolution_of_a_dense_network_has_norms_though_none_stands_beside_it() -> None:
    assert measured("densenet121")["sigma"].notna().all()


@functools.cache
def plain_derivatives(name: str, second: bool) -> dict[str, Tensor]:
    """theta * g, or theta * Hg, of every parameter, by autograd on a private copy."""
    model, (images, labels) = copy.deepcopy(network(name)).eval(), digits()
    parameters = dict(model.named_parameters())
    g = torch.autograd.grad(
        F.cross_entropy(model(images), labels), list(parameters.values()), create_graph=second
    )
    if second:
        g = torch.autograd.grad(
            sum((part * part.detach()).sum() for part in g), list(parameters.values())
        )
    return {
        key: value.detach().double() * part.double()
        for (key, value), part in zip(parameters.items(), g, strict=True)
    }


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("resnet18", "theta_hg"),
        ("mobilenet_v2", "theta_hg"),
        ("densenet121", "theta_g"),
        ("vgg11_bn", "theta_g"),
        ("convnext_tiny", "theta_g"),
    ],
)
def test_a_column_agrees_with_plain_autograd(name: str, column: str) -> None:
    products = plain_derivatives(name, column == "theta_hg")
    want = torch.cat(
        [products[layer.weight].flatten(1).sum(1) for layer in layers_of(name).values()]
    ).numpy()
    assert np.abs(measured(name)[column].to_numpy() - want).max() <= 1e-4 * np.linalg.norm(want)
