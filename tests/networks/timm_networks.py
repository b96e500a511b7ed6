"""Networks of timm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import timm
from timm.layers import GatedMlp
from timm.models.mlp_mixer import MlpMixer, ResBlock, SpatialGatingBlock
from torch import nn

from tests.networks.subjects import CLASSES, Subject, classified, labels, pictures


def _model(name: str, size: int = 64, quick: bool = False, **options: Any) -> Subject:
    def build() -> nn.Module:
        return timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)

    return Subject(name, "timm", build, pictures(size), labels(), classified, quick=quick)


def _tokens(name: str, quick: bool = False, **options: Any) -> Subject:
    """A transformer on patches of 8 x 8 of images of 32 x 32."""
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return _model(name, 32, quick, **{**small, **options})


def _mixer(name: str, **blocks: Any) -> Subject:
    """A network of timm's MLP-Mixer family."""

    def build() -> nn.Module:
        return MlpMixer(
            num_classes=CLASSES, img_size=32, patch_size=8, num_blocks=2, embed_dim=24, **blocks
        )

    return Subject(name, "timm", build, pictures(32), labels(), classified)


def _convmixer() -> nn.Module:
    return timm.models.ConvMixer(24, 2, patch_size=4, num_classes=CLASSES)


SUBJECTS = (
    _mixer("mixer"),
    _mixer("resmlp", block_layer=ResBlock, mlp_ratio=2),
    _mixer("gmlp", block_layer=SpatialGatingBlock, mlp_layer=GatedMlp, mlp_ratio=4),
    Subject("convmixer", "timm", _convmixer, pictures(32), labels(), classified),
    _model("poolformer_s12"),
    _tokens("vit_tiny_patch16_224"),
    _tokens("deit_tiny_distilled_patch16_224", quick=True),
    _tokens("deit3_small_patch16_224"),
    _tokens("beit_base_patch16_224"),
    _tokens("cait_xxs24_224"),
    _tokens("xcit_nano_12_p16_224"),
    _tokens("eva02_tiny_patch14_224"),
    _model(
        "swin_tiny_patch4_window7_224",
        32,
        img_size=32,
        window_size=4,
        embed_dim=12,
        depths=(2, 2),
        num_heads=(2, 3),
    ),
    _model("convnextv2_atto", 64, depths=(1, 1, 1, 1)),
    _model("pvt_v2_b0", 64),
    _model("coat_lite_tiny", 64, img_size=64, serial_depths=(1, 1, 1, 1)),
    _model("levit_128s", 64, img_size=64),
    _model("mobilevit_xxs"),
    _model("mobilevitv2_050"),
    _model("edgenext_xx_small"),
    _model("efficientvit_b0"),
    _model("fastvit_t8"),
    _model("ghostnet_050"),
    _model("mobilenetv4_conv_small"),
    # ReLUs so close to zero that rounding of the weights switches them, for plain autograd too
    replace(_model("ecaresnet26t"), single=2e-2),
    _model("resnetblur18"),
    _model("seresnext26ts"),
    replace(_model("res2net50_14w_8s"), single=2e-2),
    _model("nf_regnet_b0"),
    _model("repvgg_a0"),
    _model("dla34"),
    _model("hrnet_w18_small"),
    _model("lcnet_050"),
    _model("tinynet_e"),
)
