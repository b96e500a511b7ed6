"""Heads of language models: sums over rows and columns that are written out for each layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

import pruneviz as pv
from tests.support.entries import entry_columns

WIDTH, HEADS, SIZE = 16, 4, 4
IDS = torch.randint(1, 20, (3, 6), generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([1, 0, 2])
SHARED = {"vocab_size": 20, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "intermediate_size": 24,
}
Parts = list[tuple[str, int, list[int]]]


def span(start: int, size: int = SIZE) -> list[int]:
    return list(range(start, start + size))


def gpt2(layer: int, head: int) -> Parts:
    """Weights [inputs, outputs]; query, key and value one after the other."""
    at, own = f"transformer.h.{layer}.attn", span(SIZE * head)
    rows = [i + third * WIDTH for third in range(3) for i in own]
    return [
        (f"{at}.c_attn.weight", 1, rows),
        (f"{at}.c_attn.bias", 0, rows),
        (f"{at}.c_proj.weight", 0, own),
    ]


def gpt_neox(layer: int, head: int) -> Parts:
    """Query, key and value of one head after those of another."""
    at, rows = f"gpt_neox.layers.{layer}.attention", span(3 * SIZE * head, 3 * SIZE)
    return [
        (f"{at}.query_key_value.weight", 0, rows),
        (f"{at}.query_key_value.bias", 0, rows),
        (f"{at}.dense.weight", 1, span(SIZE * head)),
    ]


def llama(layer: int, group: int) -> Parts:
    """A key-value head with the two query heads that read it."""
    at, queries = f"model.layers.{layer}.self_attn", span(2 * SIZE * group, 2 * SIZE)
    keys = span(SIZE * group)
    return [
        (f"{at}.q_proj.weight", 0, queries),
        (f"{at}.k_proj.weight", 0, keys),
        (f"{at}.v_proj.weight", 0, keys),
        (f"{at}.o_proj.weight", 1, queries),
    ]


MODELS: dict[str, tuple[Any, Any, dict[str, Any], int, Any]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 4}, 4, gpt2),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", SIZES, 4, gpt_neox),
    "llama": (
        "LlamaForCausalLM", "LlamaConfig", {**SIZES, "num_key_value_heads": 2}, 2, llama,
    ),
}  # fmt: skip


def loss(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(model(inputs).logits[:, -1], target)


@pytest.mark.parametrize("name", MODELS)
def test_heads_are_sums_over_their_own_rows_and_columns(name: str) -> None:
    network, config, sizes, count, parts = MODELS[name]
    torch.manual_seed(0)
    settings = getattr(transformers, config)(**sizes, **SHARED)
    model = getattr(transformers, network)(settings).eval()
    table = pv.measure(
        model,
        [(IDS, TARGET)],
        unit="head",
        dtype=torch.float64,
        temperatures=1.0,
        columns=["theta_g", "theta_hg"],
        forward=lambda model, batch: model(batch[0]),
        loss=lambda output, target: F.cross_entropy(output.logits[:, -1], target),
    )
    twin = entry_columns(model, IDS, TARGET, loss)
    for column in ("theta_g", "theta_hg"):
        want = [
            sum(
                float(twin[column][n].index_select(dim, torch.tensor(index)).sum())
                for n, dim, index in parts(layer, head)
            )
            for layer in range(2)
            for head in range(count)
        ]
        # rotary angles are computed in float32 inside the networks
        np.testing.assert_allclose(table[column], want, rtol=1e-5, atol=1e-6 * np.abs(want).max())
