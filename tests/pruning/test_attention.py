"""An attention with fewer heads gives what torch's gives if the other heads are masked."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pruneviz.pruning.attention import FewerHeads, with_fewer_heads

LEFT = [0, 2, 3]  # of four heads


def cut(whole: nn.MultiheadAttention, heads: list[int]) -> nn.MultiheadAttention:
    smaller = copy.deepcopy(whole)
    rows = torch.cat([torch.arange(h * 4, h * 4 + 4) for h in heads])
    all_rows = torch.cat([rows + 16 * part for part in range(3)])
    smaller.in_proj_weight.data = smaller.in_proj_weight.data[all_rows]
    if smaller.in_proj_bias is not None:
        smaller.in_proj_bias.data = smaller.in_proj_bias.data[all_rows]
    smaller.out_proj.weight.data = smaller.out_proj.weight.data[:, rows]
    with_fewer_heads(smaller, heads)
    return smaller


def pair(**options: bool) -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    torch.manual_seed(0)
    masked = nn.MultiheadAttention(16, 4, **options).double()
    for p in masked.parameters():
        nn.init.normal_(p)
    masked.out_proj.weight.data[:, 4:8] = 0
    return masked, cut(masked, LEFT)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_outputs_are_those_of_the_masked_attention(batch_first: bool, bias: bool) -> None:
    masked, smaller = pair(batch_first=batch_first, bias=bias)
    q, k = torch.randn(2, 5, 16).double(), torch.randn(2, 3, 16).double()
    if not batch_first:
        q, k = q.transpose(0, 1), k.transpose(0, 1)
    causal = torch.ones(5, 3).triu(1).bool()
    per_head = torch.randn(8, 5, 3).double()
    padding = torch.tensor([[False, False, True], [False, False, False]])
    for masks in (
        {},
        {"attn_mask": causal},
        {"attn_mask": per_head, "key_padding_mask": padding.double() * -9},
        {"key_padding_mask": padding},
    ):
        for need in (False, True):
            want, _ = masked(q, k, k, need_weights=need, **masks)
            got, _ = smaller(q, k, k, need_weights=need, **masks)
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    _, each = masked(q, k, k, average_attn_weights=False)
    _, left = smaller(q, k, k, average_attn_weights=False)
    torch.testing.assert_close(left, each[:, LEFT])
    torch.testing.assert_close(smaller(q, k, k)[1], each[:, LEFT].mean(1))


def test_a_single_sequence_and_a_second_cut_work_and_the_cut_one_trains() -> None:
    masked, smaller = pair(batch_first=True)
    x = torch.randn(5, 16).double()
    torch.testing.assert_close(smaller(x, x, x)[0], masked(x, x, x)[0])
    mask = torch.randn(4, 5, 5).double()  # for all heads of the whole attention
    masked.out_proj.weight.data[:, 12:] = 0
    again = copy.deepcopy(smaller)
    rows = torch.cat([torch.arange(8) + 12 * part for part in range(3)])
    again.in_proj_weight.data = again.in_proj_weight.data[rows]
    again.in_proj_bias.data = again.in_proj_bias.data[rows]
    again.out_proj.weight.data = again.out_proj.weight.data[:, :8]
    with_fewer_heads(again, [0, 1])
    assert isinstance(again, FewerHeads) and again.heads == (0, 2)
    y: Tensor = again(x[None], x[None], x[None], attn_mask=mask)[0]
    torch.testing.assert_close(y, masked(x[None], x[None], x[None], attn_mask=mask)[0])
    y.square().sum().backward()
    assert again.in_proj_weight.grad.isfinite().all()


def test_separate_projections_are_refused() -> None:
    with pytest.raises(ValueError, match="separate or added keys"):
        with_fewer_heads(nn.MultiheadAttention(8, 2, kdim=4), [0])
