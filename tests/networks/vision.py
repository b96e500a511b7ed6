"""Networks of torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision import models

from tests.networks.subjects import CLASSES, Subject, classified, labels, pictures


def _plain(name: str, size: int = 32, quick: bool = False, **options: Any) -> Subject:
    def build() -> nn.Module:
        return getattr(models, name)(weights=None, num_classes=CLASSES, **options)

    return _subject(name, build, size, quick)


def _subject(
    name: str, build: Callable[[], nn.Module], size: int = 32, quick: bool = False, **more: Any
) -> Subject:
    own = (name, "torchvision", build, pictures(size), labels(), classified)
    return Subject(*own, quick=quick, **more)


def _narrow(name: str, heads: dict[int, tuple[int, int]]) -> Callable[[], nn.Module]:
    """A published network whose wide linear layers are narrow ones."""

    def build() -> nn.Module:
        with torch.device("meta"):  # the wide layers are never allocated
            model = getattr(models, name)(weights=None, num_classes=CLASSES)
        model.features.to_empty(device="cpu")
        for module in model.features.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        for at, sizes in heads.items():
            model.classifier[at] = nn.Linear(*sizes)
        return model

    return build


def _vit() -> nn.Module:
    return models.VisionTransformer(32, 8, 2, 2, 24, 48, num_classes=CLASSES)


def _swin() -> nn.Module:
    return models.SwinTransformer([4, 4], 12, [2, 2], [2, 3], [4, 4], num_classes=CLASSES)


def _swin_v2() -> nn.Module:
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

    return models.SwinTransformer(
        [4, 4],
        12,
        [2, 2],
        [2, 3],
        [4, 4],
        num_classes=CLASSES,
        block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2,
    )


def _maxvit() -> nn.Module:
    return models.MaxVit((32, 32), 8, 4, [8, 16], [1, 1], 8, 0.1, num_classes=CLASSES)


def _convnext() -> nn.Module:
    blocks = [models.convnext.CNBlockConfig(16, 32, 2), models.convnext.CNBlockConfig(32, None, 2)]
    return models.ConvNeXt(blocks, num_classes=CLASSES)


def _bottlenecks(**options: Any) -> Callable[[], nn.Module]:
    block = models.resnet.Bottleneck
    return lambda: models.ResNet(block, [1, 1, 1, 1], num_classes=CLASSES, **options)


def _segmenting(name: str) -> Subject:
    def build() -> nn.Module:
        maker = getattr(models.segmentation, name)
        return maker(weights=None, weights_backbone=None, num_classes=CLASSES)

    def target() -> torch.Tensor:
        return pictures(64, 2)()[:, :1].mul(9).long().abs().squeeze(1) % CLASSES

    return Subject(name, "torchvision", build, pictures(64, 2), target, classified)


ALEXNET, VGG = (
    {1: (9216, 24), 4: (24, 24), 6: (24, CLASSES)},
    {0: (25088, 16), 3: (16, 16), 6: (16, CLASSES)},
)

SUBJECTS = (
    _subject("alexnet", _narrow("alexnet", ALEXNET), 64),
    _subject("vgg11_bn", _narrow("vgg11_bn", VGG)),
    _plain("resnet18"),
    # a ReLU so close to zero that changes of 1e-6 in the weights switch it, for plain autograd too
    _subject("resnet50 (one block each)", _bottlenecks(), single=2e-2),
    _subject("resnext50_32x4d (one block each)", _bottlenecks(groups=32, width_per_group=4)),
    _subject("densenet", lambda: models.DenseNet(8, (3, 4, 3), 16, num_classes=CLASSES)),
    _plain("googlenet", 64, init_weights=False, aux_logits=True),
    _plain("inception_v3", 96, init_weights=False, aux_logits=False),
    _plain("squeezenet1_1", 64),
    _plain("mobilenet_v2", width_mult=0.35),
    _plain("mobilenet_v3_small", quick=True),
    _plain("mobilenet_v3_large", reduced_tail=True),
    _plain("mnasnet0_5", 64),
    _plain("shufflenet_v2_x0_5"),
    _plain("efficientnet_b0"),
    _plain("efficientnet_v2_s", 32),
    _plain("regnet_x_400mf"),
    _plain("regnet_y_400mf"),
    _subject("convnext (four blocks)", _convnext),
    _subject("vit (two blocks)", _vit, quick=True),
    _subject("swin (four blocks)", _swin),
    _subject("swin_v2 (four blocks)", _swin_v2),
    _subject("maxvit (two blocks)", _maxvit),
    _segmenting("lraspp_mobilenet_v3_large"),
    _segmenting("deeplabv3_mobilenet_v3_large"),
)
