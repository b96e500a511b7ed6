"""The example for tracing: any tree of tensors with a batch dimension."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruneviz.errors import DataError
from pruneviz.pruning.example import check_example


def test_batches_of_any_form_pass_and_single_images_do_not() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3))
    images = torch.zeros(2, 1, 4, 4)
    for example in (images, (images,), {"input": images}, images.double()):
        check_example(network, example)
    with pytest.raises(DataError, match=r"single input of shape \(1, 4, 4\).*image\[None\]"):
        check_example(network, images[0])
    with pytest.raises(DataError, match=r"got tuple of shapes .* on which Sequential cannot run"):
        check_example(network, (images, images))
