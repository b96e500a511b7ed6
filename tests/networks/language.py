"""Networks of transformers: from small configurations, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from tests.networks.subjects import (
    CLASSES,
    Subject,
    classified,
    every_token,
    labels,
    next_tokens,
    pictures,
    text,
    token_ids,
)

VOCABULARY = 50
HIDDEN: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _network(config: str, model: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        built = getattr(transformers, config)(**options)
        return getattr(transformers, model)(built)

    return build


def _generating(family: str, quick: bool = False, without: str = "", **options: Any) -> Subject:
    """A causal language model; the loss is each sequence's mean over its tokens."""
    common = {key: value for key, value in HIDDEN.items() if key not in without.split()}
    name = f"{family}ForCausalLM" if family != "GPT2" else "GPT2LMHeadModel"
    build = _network(f"{family}Config", name, use_cache=False, **common, **options)
    return Subject(name, "transformers", build, text, next_tokens, every_token, quick=quick)


def _classifying(family: str, quick: bool = False, **options: Any) -> Subject:
    """A text classifier."""
    name = f"{family}ForSequenceClassification"
    build = _network(f"{family}Config", name, num_labels=CLASSES, **{**HIDDEN, **options})
    return Subject(name, "transformers", build, text, labels(), classified, quick=quick)


def _seeing(family: str, quick: bool = False, **options: Any) -> Subject:
    """An image classifier."""
    name = f"{family}ForImageClassification"
    build = _network(f"{family}Config", name, num_labels=CLASSES, image_size=32, **options)

    def inputs() -> dict[str, Tensor]:
        return {"pixel_values": pictures(32)()}

    return Subject(name, "transformers", build, inputs, labels(), classified, quick=quick)


def _translating(name: str, config: str, **options: Any) -> Subject:
    """An encoder-decoder on text."""
    build = _network(
        config, name, vocab_size=VOCABULARY, use_cache=False, pad_token_id=0, **options
    )

    def inputs() -> dict[str, Tensor]:
        return {**text(), "decoder_input_ids": token_ids().flip(1)}

    return Subject(name, "transformers", build, inputs, next_tokens, every_token)


def _whisper() -> Subject:
    build = _network(
        "WhisperConfig",
        "WhisperForConditionalGeneration",
        vocab_size=VOCABULARY,
        num_mel_bins=8,
        d_model=24,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=10,
        max_target_positions=12,
        use_cache=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )

    def inputs() -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(2)
        mel = torch.randn(3, 8, 20, generator=generator)
        return {"input_features": mel, "decoder_input_ids": token_ids()}

    return Subject(
        "WhisperForConditionalGeneration", "transformers", build, inputs, next_tokens, every_token
    )


def _wav2vec() -> Subject:
    build = _network(
        "Wav2Vec2Config",
        "Wav2Vec2ForSequenceClassification",
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=32,
        conv_dim=(8, 8),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        num_labels=CLASSES,
        classifier_proj_size=16,
        mask_time_prob=0.0,
        vocab_size=VOCABULARY,
        num_feat_extract_layers=2,
    )

    def inputs() -> Tensor:
        return torch.randn(3, 400, generator=torch.Generator().manual_seed(2))

    return Subject(
        "Wav2Vec2ForSequenceClassification", "transformers", build, inputs, labels(), classified
    )


def _clip() -> Subject:
    small = {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    build = _network(
        "CLIPConfig",
        "CLIPModel",
        projection_dim=16,
        text_config={
            **small,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 16,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "bos_token_id": 1,
        },
        vision_config={**small, "image_size": 32, "patch_size": 8},
    )

    def inputs() -> dict[str, Tensor]:
        return {**text(), "pixel_values": pictures(32)()}

    def loss(output: Any, target: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(output.logits_per_image, target)

    return Subject("CLIPModel", "transformers", build, inputs, labels(), loss, {"bn": "batch"})


FEW_HEADS = {"num_key_value_heads": 2}
SUBJECTS = (
    _classifying("Bert", quick=True),
    _classifying("Roberta", max_position_embeddings=20),
    _classifying("Albert", embedding_size=16),
    _classifying("Electra", embedding_size=16),
    _classifying("DistilBert", dim=24, n_layers=2, n_heads=4, hidden_dim=40),
    _classifying("Deberta"),
    _generating(
        "GPT2",
        quick=True,
        without="hidden_size num_hidden_layers num_attention_heads intermediate_size",
        n_embd=24,
        n_layer=2,
        n_head=4,
        n_positions=16,
    ),
    _generating("GPTNeoX"),
    _generating("OPT", without="intermediate_size", ffn_dim=40, word_embed_proj_dim=24),
    _generating("Bloom", without="num_hidden_layers num_attention_heads", n_layer=2, n_head=4),
    _generating("Llama", quick=True, **FEW_HEADS),
    _generating("Mistral", **FEW_HEADS),
    _generating("Qwen2", **FEW_HEADS),
    _generating("Gemma", head_dim=6, **FEW_HEADS),
    _generating("Phi", without="hidden_size", hidden_size=32),
    _generating(
        "Mixtral",
        quick=True,
        experts_implementation="eager",
        num_local_experts=4,
        num_experts_per_tok=2,
        **FEW_HEADS,
    ),
    _generating(
        "Mamba",
        without="max_position_embeddings num_attention_heads intermediate_size",
        state_size=4,
    ),
    _translating(
        "T5ForConditionalGeneration",
        "T5Config",
        d_model=24,
        d_kv=6,
        d_ff=32,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    ),
    _translating(
        "BartForConditionalGeneration",
        "BartConfig",
        d_model=24,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=16,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    ),
    _whisper(),
    _wav2vec(),
    _clip(),
    _seeing(
        "ViT",
        patch_size=8,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
    ),
    _seeing(
        "DeiT",
        patch_size=8,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
    ),
    _seeing("Swin", patch_size=4, embed_dim=12, depths=[2, 1], num_heads=[2, 4], window_size=4),
    _seeing("ConvNext", patch_size=4, hidden_sizes=[12, 16], depths=[1, 1], num_stages=2),
    _seeing(
        "Segformer",
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 24],
        num_attention_heads=[1, 2, 2, 4],
    ),
    _seeing("ResNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
)
