"""An `nn.MultiheadAttention` with fewer heads than its width is made for.

torch's own needs as many rows of query, key and value as the input has features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FewerHeads(nn.MultiheadAttention):
    """Multi-head attention of some heads, called and named as torch's.

    Not constructed, but made of another with `with_fewer_heads`.

    Attributes:
        heads: Numbers of its heads in the attention it was made of.
        all_heads: Number of heads there.
    """

    heads: tuple[int, ...]
    all_heads: int

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as `nn.MultiheadAttention.forward` does."""
        single = query.ndim == 2
        given = [x.unsqueeze(0) if single else x for x in (query, key, value)]
        if not self.batch_first and not single:
            given = [x.transpose(0, 1) for x in given]
        q, k, v = self._projected(*given)
        mask = self._mask(q, k, attn_mask, key_padding_mask)
        drop = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) / self.head_dim**0.5
            weights = (scores if mask is None else scores + mask).softmax(-1)
            weights = F.dropout(weights, drop) if drop else weights
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, drop)
        output = F.linear(
            mixed.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias
        )
        if single:
            return output[0], None if weights is None else weights[0]
        return output if self.batch_first else output.transpose(0, 1), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Query, key and value of every head: [examples, heads, places, head_dim]."""
        weights = self.in_proj_weight.chunk(3)
        biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        made = [
            F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)
        ]
        return [x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for x in made]

    def _mask(
        self, q: Tensor, k: Tensor, attn_mask: Tensor | None, padding: Tensor | None
    ) -> Tensor | None:
        """What is added to the scores of every head; None for nothing."""
        total = None
        if attn_mask is not None:
            total = _added(attn_mask, q)
            if total.ndim == 3:  # examples x heads of the whole attention
                total = total.unflatten(0, (len(q), self.all_heads))[:, list(self.heads)]
        if padding is not None:
            padded = _added(padding, q).reshape(len(q), 1, 1, k.shape[-2])
            total = padded if total is None else total + padded
        return total


def with_fewer_heads(module: nn.MultiheadAttention, heads: list[int]) -> None:
    """Let an attention, whose parameters are cut already, have these of its heads.

    Raises:
        ValueError: If it has separate projections, or keys and values of its own.
    """
    if module.in_proj_weight is None or module.bias_k is not None or module.add_zero_attn:
        raise ValueError("heads of an attention with separate or added keys cannot be taken out")
    before = module.heads if isinstance(module, FewerHeads) else tuple(range(module.num_heads))
    all_heads = module.all_heads if isinstance(module, FewerHeads) else module.num_heads
    module.__class__ = FewerHeads  # with all its attributes, parameters and hooks
    module.heads = tuple(before[head] for head in heads)  # type: ignore[assignment]
    module.all_heads = all_heads  # type: ignore[assignment]
    module.num_heads = len(heads)
    module._qkv_same_embed_dim = False  # no fast path of torch's encoder


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A boolean mask, True where nothing is read, as numbers to add."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))
