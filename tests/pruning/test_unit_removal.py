"""Heads and neurons of transformers are pruned, trained, removed; outputs are as with masks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import transformers as t
from torch import Tensor, nn
from torchvision import models

import pruneviz as pv
from pruneviz.errors import MeasureError, PruningError
from pruneviz.pruning.held_entries import kept_entries

TOKENS = torch.tensor([[3, 7, 11, 4, 9, 2], [5, 2, 8, 8, 1, 6]])
IMAGES, LABELS = torch.linspace(-1, 1, 2 * 3 * 256).view(2, 3, 16, 16).sin(), torch.tensor([0, 2])
SMALL: Mapping[str, int] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 16,
    "max_position_embeddings": 16,
}


def vision() -> tuple[nn.Module, Any, Tensor]:
    return models.VisionTransformer(16, 8, 2, 4, 32, 48, num_classes=3), IMAGES, LABELS


def timm_vision() -> tuple[nn.Module, Any, Tensor]:
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
    return timm.models.VisionTransformer(num_classes=3, **sizes), IMAGES, LABELS


def bert() -> tuple[nn.Module, Any, Tensor]:
    network = t.BertForSequenceClassification(t.BertConfig(num_labels=3, **SMALL))
    return network, {"input_ids": TOKENS, "attention_mask": (TOKENS > 1).long()}, LABELS


def gpt2() -> tuple[nn.Module, Any, Tensor]:
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "vocab_size": 16}
    return t.GPT2LMHeadModel(t.GPT2Config(**sizes, **ends)), {"input_ids": TOKENS}, TOKENS


def llama() -> tuple[nn.Module, Any, Tensor]:
    """With grouped queries: two heads read each key-value head."""
    network = t.LlamaForCausalLM(t.LlamaConfig(num_key_value_heads=2, **SMALL))
    return network, {"input_ids": TOKENS}, TOKENS


def encoder() -> tuple[nn.Module, Any, Tensor]:
    layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x = torch.linspace(0, 9, 2 * 5 * 8).view(2, 5, 8).cos()
    return nn.Sequential(nn.Linear(8, 32), body, nn.Linear(32, 3)), x, LABELS


NETWORKS = {f.__name__: f for f in (vision, timm_vision, bert, gpt2, llama, encoder)}
Case = tuple[nn.Module, Any, Tensor]


def case(name: str, dtype: torch.dtype) -> Case:
    torch.manual_seed(0)
    network, example, target = NETWORKS[name]()
    if isinstance(example, Tensor):
        example = example.to(dtype)
    return network.to(dtype).eval(), example, target


def logits(network: nn.Module, example: Any) -> Tensor:
    output: Any = network(**example) if isinstance(example, dict) else network(example)
    found: Tensor = output if isinstance(output, Tensor) else output["logits"]
    return found


def loss(output: Any, target: Tensor) -> Tensor:
    values = output if isinstance(output, Tensor) else output["logits"]
    if values.ndim == 3 and target.ndim == 1:
        values = values.mean(1)
    return F.cross_entropy(values.flatten(0, -2), target.flatten())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("unit", ["head", "neuron"])
def test_half_of_the_units_are_pruned_trained_and_removed(name: str, unit: str) -> None:
    network, example, target = case(name, torch.float64)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    pruner = pv.Pruner(network, example, unit=unit)
    options = {"unit": unit, "loss": loss, "temperatures": (1.0,)}
    table = pv.measure(network, (example, target), columns=["theta_norm2"], **options)
    pruner.prune(table, "magnitude", pruner.groups // 2)
    for _ in range(3):
        optimizer.zero_grad()
        loss(logits(network, example), target).backward()
        optimizer.step()
    after = pv.measure(network, (example, target), columns=["theta_norm2"], **options)
    assert (~after["kept"]).sum() == pruner.gone == pruner.groups // 2
    assert pv.Pruner(network, example, unit=unit).gone == pruner.gone

    removed = pv.remove(network, example, unit=unit)
    assert (removed.removed, removed.masked) == (pruner.gone, 0)
    assert removed.after.parameters < removed.before.parameters
    assert removed.after.macs < removed.before.macs
    assert not kept_entries(removed.network)
    want, got = logits(network, example), logits(removed.network, example)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        low, exact = logits(copy.deepcopy(removed.network).float(), _float(example)), want
    torch.testing.assert_close(low.double(), exact, rtol=1e-5, atol=1e-5)
    assert pv.Pruner(removed.network, example, unit=unit).groups == pruner.groups - pruner.gone
    for model in (network, removed.network):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
    if not hasattr(network, "config"):
        torch.testing.assert_close(logits(removed.network, example), logits(network, example))


def _float(example: Any) -> Any:
    return example.float() if isinstance(example, Tensor) else example


def test_a_head_that_does_not_exist_is_refused() -> None:
    network, example, _ = case("vision", torch.float64)
    pruner = pv.Pruner(network, example, unit="head")
    with pytest.raises(PruningError, match="there is no head 9 of layer 'nowhere'"):
        pruner.prune_filters({"nowhere": [9]})


def test_heads_and_neurons_go_one_after_the_other() -> None:
    network, example, _ = case("vision", torch.float64)
    for unit, layer in (("head", "encoder.layers.encoder_layer_1"), ("neuron", "encoder.layers")):
        pruner = pv.Pruner(network, example, unit=unit)
        names = [own.name for own in pruner.coupling.layers if own.name.startswith(layer)]
        pruner.prune_filters({name: [0, 2] for name in names})
        network = pv.remove(network, example, unit=unit).network
    attention = network.encoder.layers.encoder_layer_1.self_attention
    assert (attention.num_heads, attention.head_dim) == (2, 8)
    assert attention.in_proj_weight.shape == (48, 32)
    assert network.encoder.layers.encoder_layer_0.mlp[0].out_features == 46
    assert logits(network, example).shape == (2, 3)


def test_all_units_of_a_layer_leave_one_of_zeros() -> None:
    network, example, _ = case("vision", torch.float64)
    pruner = pv.Pruner(network, example, unit="head")
    name = pruner.coupling.layers[0].name
    pruner.prune_filters({name: range(4)})
    removed = pv.remove(network, example, unit="head")
    assert removed.filters[name] == removed.masked_filters[name] == (0,)
    assert "left without a channel" in removed.reasons[name][0]
    torch.testing.assert_close(logits(removed.network, example), logits(network, example))


class Fixed(nn.Module):
    """Attention with its number of heads written into its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(len(x), -1, 3, 4, 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(len(x), -1, 16)).mean(1)


def test_heads_that_the_code_counts_itself_stay_masked_with_a_reason() -> None:
    network, x = nn.Sequential(nn.Linear(8, 16), Fixed()), torch.randn(2, 5, 8)
    pruner = pv.Pruner(network, x, unit="head")
    pruner.prune_filters({"1": [1]})
    removed = pv.remove(network, x, unit="head")
    assert removed.masked_filters == {"1": (1,)}
    assert "would compute something else (RuntimeError: shape" in removed.reasons["1"][0]
    torch.testing.assert_close(removed.network(x), network(x))
    late = pv.remove(network, x, unit="head", limit=0.0)
    assert late.masked_filters == {"1": (1,)}


def test_attention_that_would_be_left_without_heads_is_not_run() -> None:
    config = t.Phi3Config(
        vocab_size=20, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    model = t.Phi3ForCausalLM(config).eval()
    words = {"input_ids": torch.arange(8).view(2, 4)}
    pv.Pruner(model, words, unit="head").prune_filters({"model.layers.0.self_attn": [0]})
    removed = pv.remove(model, words, unit="head")
    assert removed.masked_filters == {"model.layers.0.self_attn": (0,)}
    assert "attention of empty tensors" in removed.reasons["model.layers.0.self_attn"][0]


def test_a_grouping_can_be_pruned_and_removed() -> None:
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    units = {
        "pairs": [
            [("0.weight", 0, pair), ("0.bias", 0, pair), ("2.weight", 1, pair)]
            for pair in ([0, 1], [2, 3], [4, 5])
        ]
    }
    x, y = torch.randn(4, 4), torch.tensor([0, 1, 2, 0])
    pruner = pv.Pruner(network, x, unit=units, keep_at_least=0)
    pruner.prune(pv.measure(network, (x, y), unit=units, columns=["theta_norm2"]), "magnitude", 1)
    removed = pv.remove(network, x, unit=units)
    assert (removed.removed, removed.network[0].out_features) == (1, 4)
    torch.testing.assert_close(removed.network(x), network(x))


def test_units_that_do_not_exist_and_tables_of_another_unit_are_refused() -> None:
    network, example, target = case("vision", torch.float32)
    with pytest.raises(PruningError, match="no unit 'heads'; did you mean 'head'"):
        pv.Pruner(network, example, unit="heads")
    with pytest.raises(MeasureError, match="no attention heads"):
        pv.Pruner(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), torch.ones(1, 4), unit="head")
    table = pv.measure(network, (example, target), columns=["theta_norm2"])
    with pytest.raises(PruningError, match="with the same unit"):
        pv.Pruner(network, example, unit="head").prune(table, "magnitude", 2)
