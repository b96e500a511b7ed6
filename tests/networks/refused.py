"""What pruneviz may refuse: {network: columns of the table}. All else must give a right number."""

from __future__ import annotations

from collections.abc import Mapping

_UNPRUNED = ("pruner", "removal")  # no filter of a convolution or linear layer before the output

ALLOWED: Mapping[str, tuple[str, ...]] = {
    "plain torch: LSTM": _UNPRUNED,
    "plain torch: GRU": _UNPRUNED,
    "plain torch: DCGAN generator": _UNPRUNED,
    "torchvision: regnet_x_400mf": ("training",),  # two steps of training make its loss NaN
    "transformers: GPT2LMHeadModel": _UNPRUNED,
}
